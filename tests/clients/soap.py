"""SOAP by hand, for what no vendor client can be made to send."""

from __future__ import annotations

import http.client
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from runner import PASSWORD, USER, Front, insecure_tls

VIM = "{urn:vim25}"
XSI_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
SOAP = "{http://schemas.xmlsoap.org/soap/envelope/}"


def envelope(body: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
        'xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        f"<soapenv:Body>{body}</soapenv:Body></soapenv:Envelope>"
    ).encode()


def call(method: str, this: tuple[str, str], arguments: str = "") -> str:
    return f'<{method} xmlns="urn:vim25"><_this type="{this[0]}">{escape(this[1])}</_this>{arguments}</{method}>'


@dataclass
class Reply:
    """What came back. Header names are in lower case; `fault` is the wire name of the fault, without its Fault suffix."""

    status: int
    headers: dict[str, str]
    text: str
    tree: ElementTree.Element | None = field(default=None, repr=False)

    @property
    def fault(self) -> str | None:
        found = None if self.tree is None else self.tree.find(f".//{SOAP}Fault")
        if found is None:
            return None
        detail = found.find("detail")
        if detail is None or not len(detail):
            return found.findtext("faultcode")
        named = detail[0].get(XSI_TYPE) or detail[0].tag.removeprefix(VIM).removesuffix("Fault")
        return named.rpartition(":")[2]

    @property
    def fault_string(self) -> str:
        found = None if self.tree is None else self.tree.find(f".//{SOAP}Fault")
        return "" if found is None else found.findtext("faultstring") or ""

    def value(self, path: str = "returnval") -> str | None:
        """The text of the first element of this name anywhere in the answer."""
        found = None if self.tree is None else self.tree.find(f".//{VIM}{path}")
        return None if found is None else found.text

    def values(self, path: str = "returnval") -> list[ElementTree.Element]:
        return [] if self.tree is None else self.tree.findall(f".//{VIM}{path}")


class Client:
    """One keep-alive connection with a cookie jar of one."""

    def __init__(self, front: Front, path: str = "/sdk", version: str | None = "urn:vim25/8.0.3.0", timeout: float = 60.0):
        self.front = front
        self.path = path
        self.version = version
        self.cookie: str | None = None
        self.connection = http.client.HTTPSConnection("127.0.0.1", front.port, context=insecure_tls(), timeout=timeout)
        esx = front.view == "host"
        self.session_manager = ("SessionManager", "ha-sessionmgr" if esx else "SessionManager")
        self.collector = ("PropertyCollector", "ha-property-collector" if esx else "propertyCollector")

    def post(self, body: bytes, headers: dict[str, str] | None = None) -> Reply:
        sent = {"Content-Type": "text/xml; charset=utf-8", **({"SOAPAction": self.version} if self.version else {}), **(headers or {})}
        if self.cookie:
            sent.setdefault("Cookie", self.cookie)
        try:
            self.connection.request("POST", self.path, body=body, headers=sent)
            answer = self.connection.getresponse()
            text = answer.read().decode("utf-8")
        except (http.client.HTTPException, OSError):
            self.connection.close()
            raise
        given = answer.getheader("Set-Cookie")
        if given:
            self.cookie = given.split(";")[0]
        try:
            tree = ElementTree.fromstring(text)
        except ElementTree.ParseError:
            tree = None
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, text, tree)

    def call(self, method: str, this: tuple[str, str], arguments: str = "") -> Reply:
        return self.post(envelope(call(method, this, arguments)))

    def login(self, user: str = USER, password: str = PASSWORD) -> Reply:
        return self.call("Login", self.session_manager, f"<userName>{escape(user)}</userName><password>{escape(password)}</password>")

    def logout(self) -> Reply:
        return self.call("Logout", self.session_manager)

    def close(self) -> None:
        self.connection.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()
