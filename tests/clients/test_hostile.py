"""Bad input: the native fault or a closed connection, never a crash, never memory that stays.

Everything here is sent to one `hyperglot up` over a simulated fleet, which is asked at the
end whether it still serves an honest client.
"""

import concurrent.futures
import http.client
import random
import socket
import ssl
import time

import pytest
from pyVmomi import vim

import clients
import runner
import soap
from soap import envelope

ENVELOPE_HEAD = (
    '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>'
)
ENVELOPE_TAIL = "</soapenv:Body></soapenv:Envelope>"
ABOUT = envelope(soap.call("RetrieveServiceContent", ("ServiceInstance", "ServiceInstance")))


@pytest.fixture(scope="module")
def own(work):
    fronts = [runner.Front("fleet", runner.free_port())]
    with runner.Hyperglot(work / "hostile", [runner.sim_target(vms=20, hosts=2)], fronts) as instance:
        yield instance


@pytest.fixture(autouse=True)
def still_serving(own):
    """After every test: the process is alive and an honest client logs in and reads."""
    yield
    assert own.alive(), own.tail()
    with clients.Session(own.front("fleet")) as session:
        assert len(session.objects(vim.VirtualMachine)) == 20
    assert "panicked" not in own.tail(1_000_000)


def post(own, body: bytes, headers: dict[str, str] | None = None, timeout: float = 30.0) -> soap.Reply | None:
    """The reply, or None when the connection was closed instead."""
    with soap.Client(own.front("fleet"), timeout=timeout) as client:
        try:
            return client.post(body, headers)
        except (http.client.HTTPException, OSError):
            return None


def refused(reply: soap.Reply | None) -> bool:
    return reply is None or 400 <= reply.status < 600


def deep(levels: int) -> bytes:
    return (ENVELOPE_HEAD + "<a>" * levels + "</a>" * levels + ENVELOPE_TAIL).encode()


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{("&" + chr(97 + n) + ";") * 10}">' for n in range(9))
    + "]>" + ENVELOPE_HEAD + "<x>&j;</x>" + ENVELOPE_TAIL
).encode()
EXTERNAL = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    + ENVELOPE_HEAD + '<RetrieveServiceContent xmlns="urn:vim25"><_this type="ServiceInstance">&e;</_this></RetrieveServiceContent>' + ENVELOPE_TAIL
).encode()

BODIES = {
    "nothing": b"",
    "not XML": b"hello",
    "JSON": b'{"a": 1}',
    "binary": bytes(range(256)) * 16,
    "truncated XML": ABOUT[:-40],
    "cut in a tag": ABOUT[:150],
    "bad UTF-8": ABOUT.replace(b"ServiceInstance</_this>", b"\xff\xfe\xc3\x28</_this>"),
    "UTF-16": ABOUT.decode().encode("utf-16"),
    "NUL in text": ABOUT.replace(b"ServiceInstance</_this>", b"a\x00b</_this>"),
    "entity bomb": BOMB,
    "external entity": EXTERNAL,
    "deep XML": deep(10_000),
    "deep but closed never": (ENVELOPE_HEAD + "<a>" * 50_000).encode(),
    "mismatched tags": (ENVELOPE_HEAD + "<a></b>" + ENVELOPE_TAIL).encode(),
    "many attributes": (ENVELOPE_HEAD + "<a " + " ".join(f'a{n}="1"' for n in range(5_000)) + "/>" + ENVELOPE_TAIL).encode(),
    "an attribute twice": (ENVELOPE_HEAD + '<a b="1" b="2"/>' + ENVELOPE_TAIL).encode(),
    "a long name": (ENVELOPE_HEAD + "<" + "n" * 100_000 + "/>" + ENVELOPE_TAIL).encode(),
    "no body": b'<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"/>',
    "two roots": ABOUT + b"<again/>",
    "another envelope": b"<Envelope xmlns='urn:other'><Body/></Envelope>",
    "processing instruction": b'<?xml version="1.0"?><?php echo 1 ?>' + deep(1),
    "unknown method": envelope(soap.call("DeleteEverything", ("ServiceInstance", "ServiceInstance"))),
    "unknown type": envelope(soap.call("Login", ("Sessionizer", "SessionManager"))),
    "unknown object": envelope(soap.call("PowerOnVM_Task", ("VirtualMachine", "vm-" + "9" * 400))),
    "no object": envelope('<Login xmlns="urn:vim25"><userName>x</userName></Login>'),
    "another namespace": envelope('<Login xmlns="urn:vim26"><_this type="SessionManager">SessionManager</_this></Login>'),
    "a thousand nested specs": envelope(
        '<RetrievePropertiesEx xmlns="urn:vim25"><_this type="PropertyCollector">propertyCollector</_this><specSet>'
        + '<selectSet xsi:type="TraversalSpec">' * 1_000 + "</selectSet>" * 1_000 + "</specSet></RetrievePropertiesEx>"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_is_refused(own, name):
    reply = post(own, BODIES[name])
    assert refused(reply), f"{name}: {reply}"
    if reply is not None:
        assert "root:" not in reply.text, "a file was read"
        assert len(reply.text) < 10_000


def test_an_oversize_body_is_refused_before_it_is_read(own):
    """Content-Length alone is enough; nothing of a gigabyte is waited for."""
    before = own.rss_kib()
    with socket.create_connection(("127.0.0.1", own.front("fleet").port), timeout=20) as plain:
        with runner.insecure_tls().wrap_socket(plain) as tls:
            tls.sendall(b"POST /sdk HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\nContent-Length: 1073741824\r\n\r\n<a>")
            answer = tls.recv(4096)
    assert answer == b"" or answer.split()[1].startswith((b"4", b"5")), answer
    assert own.rss_kib() - before < 20_000


@pytest.mark.parametrize("login", [False, True], ids=["before login", "after login"])
def test_an_endless_body_is_cut(own, login):
    """A chunked body that never says its size is read up to the cap and no further."""
    with soap.Client(own.front("fleet")) as client:
        if login:
            assert client.login().status == 200

        def chunks():
            yield ENVELOPE_HEAD.encode() + b"<a>"
            for _ in range(4_096):
                yield b"x" * 65_536

        headers = {"Content-Type": "text/xml", "Transfer-Encoding": "chunked", "Cookie": client.cookie or ""}
        try:
            client.connection.request("POST", "/sdk", body=chunks(), headers=headers, encode_chunked=True)
            status = client.connection.getresponse().status
            assert 400 <= status < 600
        except (http.client.HTTPException, OSError):
            # Closed while we still sent: that is the other right answer.
            pass


@pytest.mark.parametrize("version", ["urn:vim25/99.0.0.0", "urn:vim25/0.1", "urn:vim25/", "urn:vim26/8.0", '"urn:vim25/6.5"', "x" * 4_000, "urn:vim25/8.0\tx"])
def test_any_version_string_is_answered(own, version):
    """Newer than known is the newest, absent the oldest; nonsense does not disturb."""
    reply = post(own, ABOUT, {"SOAPAction": version})
    assert reply is None or reply.status in (200, 400, 431, 500)


@pytest.mark.parametrize("path", [
    "/", "/nothing", "/sdk/../../etc/passwd", "/folder/../../../../etc/passwd?dcPath=x&dsName=y",
    "/folder/%2e%2e%2f%2e%2e%2fetc%2fpasswd?dcPath=ha-datacenter&dsName=default", "/folder/%00?dsName=%ff", "/folder", "/sdk/%",
    "/" + "a" * 20_000,
])
def test_unknown_paths(own, path):
    with soap.Client(own.front("fleet")) as client:
        client.login()
        try:
            client.connection.request("GET", path, headers={"Cookie": client.cookie})
            answer = client.connection.getresponse()
            text = answer.read()
        except (http.client.HTTPException, OSError):
            return
        assert 400 <= answer.status < 500, (path, answer.status)
        assert b"root:" not in text


@pytest.mark.parametrize("method", ["DELETE", "PUT", "OPTIONS", "TRACE", "CONNECT", "BREW"])
def test_unknown_http_methods(own, method):
    with soap.Client(own.front("fleet")) as client:
        try:
            client.connection.request(method, "/sdk", body=b"x")
            assert 400 <= client.connection.getresponse().status < 600
        except (http.client.HTTPException, OSError):
            pass


@pytest.mark.parametrize("cookie", [
    "vmware_soap_session=52000000-0000-0000-0000-000000000000", "vmware_soap_session=", "vmware_soap_session=" + "a" * 6_000,
    "vmware_soap_session=\"", "other=1; ; =; vmware_soap_session", "vmware_soap_session=../../x",
])
def test_a_session_that_is_none(own, cookie):
    reply = post(own, envelope(soap.call("CurrentTime", ("ServiceInstance", "ServiceInstance"))), {"Cookie": cookie})
    assert reply is None or reply.fault == "NotAuthenticated" or reply.status in (400, 431), reply


def test_a_session_that_ended(own):
    with soap.Client(own.front("fleet")) as client:
        client.login()
        cookie = client.cookie
        client.logout()
    reply = post(own, envelope(soap.call("PowerOnVM_Task", ("VirtualMachine", "vm-1"))), {"Cookie": cookie})
    assert reply.fault == "NotAuthenticated"


def raw(own) -> socket.socket:
    return socket.create_connection(("127.0.0.1", own.front("fleet").port), timeout=30)


def test_truncated_and_broken_tls(own):
    context = runner.insecure_tls()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = outgoing.read()
    for size in (1, 5, len(hello) // 2, len(hello) - 1, len(hello)):
        with raw(own) as connection:
            connection.sendall(hello[:size])
    for noise in (b"\x16\x03\x01\xff\xff" + b"\x00" * 100, b"GET / HTTP/1.1\r\n\r\n", bytes(1_000), random.Random(1).randbytes(4_096)):
        with raw(own) as connection:
            try:
                connection.sendall(noise)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4_096):
                    pass
            except OSError:
                # A reset is as good an answer as an alert.
                pass


def test_slow_loris(own):
    """Clients that send a header a byte at a time keep nobody else out, and are not kept for ever."""
    slow = []
    for _ in range(200):
        tls = runner.insecure_tls().wrap_socket(raw(own))
        tls.sendall(b"POST /sdk HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        slow.append(tls)
    try:
        with clients.Session(own.front("fleet")) as session:
            assert session.content.about.apiType == "VirtualCenter"
        deadline = time.monotonic() + 90
        open_ones = list(slow)
        while open_ones and time.monotonic() < deadline:
            still = []
            for tls in open_ones:
                try:
                    tls.sendall(b"x")
                    tls.settimeout(0.001)
                    if tls.recv(1_024) == b"":
                        continue
                except TimeoutError:
                    pass
                except OSError:
                    continue
                still.append(tls)
            # What was answered (408, say) shows as data first and as the end next time.
            open_ones = still
            time.sleep(1)
        assert open_ones == [], f"{len(open_ones)} of {len(slow)} are still held open"
    finally:
        for tls in slow:
            tls.close()


KINDS = [body for name, body in BODIES.items() if len(body) < 200_000]
EXTRA_HEADERS = [{}, {"SOAPAction": "urn:vim25/99"}, {"Cookie": "vmware_soap_session=no-such-session"}, {"Content-Type": "application/json"}]


def hostile(own, seed: int, count: int) -> int:
    """Sends `count` bad requests over few connections; returns how many were not refused."""
    dice = random.Random(seed)
    served = 0
    client = soap.Client(own.front("fleet"))
    for _ in range(count):
        body = dice.choice(KINDS)
        if dice.random() < 0.3 and len(body) > 10:
            # The same, with a few bytes wrong.
            broken = bytearray(body)
            for _ in range(dice.randrange(1, 8)):
                broken[dice.randrange(len(broken))] = dice.randrange(256)
            body = bytes(broken)
        try:
            reply = client.post(body, dice.choice(EXTRA_HEADERS))
            # Bytes that were changed may leave a request that is fine.
            served += reply.status == 200
        except (http.client.HTTPException, OSError, UnicodeError):
            client.close()
            client = soap.Client(own.front("fleet"))
    client.close()
    return served


def test_memory_after_ten_thousand_hostile_requests(own):
    """RSS after 10,000 is within 10 % of RSS after 1,000."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: hostile(own, seed, 250), range(4)))
        after_1000 = own.rss_kib()
        served = sum(pool.map(lambda seed: hostile(own, seed, 250), range(4, 40)))
    after_10000 = own.rss_kib()
    assert served < 500, "most of what is sent is refused"
    assert after_10000 <= after_1000 * 1.10, f"{after_1000} KiB after 1,000 requests, {after_10000} KiB after 10,000"
