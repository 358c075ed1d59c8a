"""A client that has logged in and means no good: other sessions' objects, bombs of specifications, numbers of everything, odd HTTP.

One `hyperglot up` over a simulated fleet, which is asked after every test whether it still
serves an honest client.
"""

import concurrent.futures
import socket
import subprocess
from xml.sax.saxutils import escape

import pytest

import clients
import runner
import soap
from soap import envelope

VIEWS, INDEX, EVENTS, SESSIONS = (
    (kind, kind) for kind in ("ViewManager", "SearchIndex", "EventManager", "SessionManager"))
COLLECTOR = ("PropertyCollector", "propertyCollector")
ROOT = ("Folder", "group-d1")
MACHINES = 50


@pytest.fixture(scope="module")
def own(work):
    fronts = [runner.Front("fleet", runner.free_port())]
    with runner.Hyperglot(work / "sessions", [runner.sim_target(vms=MACHINES, hosts=2)], fronts) as instance:
        yield instance


@pytest.fixture
def log_in(own):
    """Opens sessions, and ends them after the test."""
    opened = []

    def opener() -> soap.Client:
        client = soap.Client(own.front("fleet"))
        opened.append(client)
        assert client.login().status == 200
        return client

    yield opener
    for client in opened:
        client.logout()
        client.close()


@pytest.fixture(autouse=True)
def still_serving(own, log_in):
    yield
    assert own.alive(), own.tail()
    found = log_in().call("RetrievePropertiesEx", COLLECTOR, every_machine("<pathSet>name</pathSet>") + "<options/>")
    assert len(found.values("objects")) == MACHINES
    assert "panicked" not in own.tail(1_000_000)


def spec(properties="<pathSet>name</pathSet>", kind="VirtualMachine", begin=("VirtualMachine", "vm-1"), steps=""):
    start = f'<objectSet><obj type="{begin[0]}">{escape(begin[1])}</obj>{steps}</objectSet>'
    return f"<specSet><propSet><type>{kind}</type>{properties}</propSet>{start}</specSet>"


def step(name, kind, path, inner=""):
    return f'<selectSet xsi:type="TraversalSpec"><name>{name}</name><type>{kind}</type><path>{path}</path>{inner}</selectSet>'


def again(*names):
    return "".join(f"<selectSet><name>{name}</name></selectSet>" for name in names)


FOLDERS = step("f", "Folder", "childEntity", again("f", "d")) + step("d", "Datacenter", "vmFolder", again("f"))


def every_machine(properties="<all>true</all>"):
    return spec(properties, begin=ROOT, steps=FOLDERS)


def filter_of(text):
    return text.replace("specSet>", "spec>") + "<partialUpdates>false</partialUpdates>"


def read(client, text, options="<options/>"):
    return client.call("RetrievePropertiesEx", COLLECTOR, text + options)


# -- what belongs to another session --------------------------------------------------------

def test_another_session_s_objects_are_not_there(log_in):
    mine, theirs = log_in(), log_in()
    made = {
        "ContainerView": mine.call("CreateContainerView", VIEWS, f'<container type="{ROOT[0]}">{ROOT[1]}</container><recursive>true</recursive>').value(),
        "PropertyFilter": mine.call("CreateFilter", COLLECTOR, filter_of(spec())).value(),
        "PropertyCollector": mine.call("CreatePropertyCollector", COLLECTOR).value(),
        "EventHistoryCollector": mine.call("CreateCollectorForEvents", EVENTS, "<filter/>").value(),
    }
    calls = [
        ("DestroyView", "ContainerView", ""), ("DestroyPropertyFilter", "PropertyFilter", ""),
        ("WaitForUpdatesEx", "PropertyCollector", "<options><maxWaitSeconds>0</maxWaitSeconds></options>"),
        ("CreateFilter", "PropertyCollector", filter_of(spec())), ("DestroyPropertyCollector", "PropertyCollector", ""),
        ("ReadNextEvents", "EventHistoryCollector", "<maxCount>5</maxCount>"), ("DestroyCollector", "EventHistoryCollector", ""),
    ]
    for method, kind, arguments in calls:
        assert theirs.call(method, (kind, made[kind]), arguments).fault == "ManagedObjectNotFound", method
    begun = spec(begin=("ContainerView", made["ContainerView"]), steps=step("v", "ContainerView", "view"))
    assert read(theirs, begun).fault == "ManagedObjectNotFound"
    assert len(read(mine, begun).values("objects")) == MACHINES


def test_another_session_s_pages_are_not_there(log_in):
    mine, theirs = log_in(), log_in()
    token = read(mine, every_machine("<pathSet>name</pathSet>"), "<options><maxObjects>7</maxObjects></options>").value("token")
    argument = f"<token>{token}</token>"
    for method in ("ContinueRetrievePropertiesEx", "CancelRetrievePropertiesEx"):
        assert theirs.call(method, COLLECTOR, argument).fault == "InvalidArgument"
    following = mine.call("ContinueRetrievePropertiesEx", COLLECTOR, argument)
    assert len(following.values("objects")) == 7 and following.value("token") not in (None, token)
    assert mine.call("ContinueRetrievePropertiesEx", COLLECTOR, argument).fault == "InvalidArgument", "once used"


def test_a_login_takes_no_cookie_from_the_client(own):
    with soap.Client(own.front("fleet")) as client:
        client.cookie = 'vmware_soap_session="of-my-own-choice"'
        assert client.login().status == 200
        assert "of-my-own-choice" not in client.cookie
        client.logout()


def test_what_is_listed_of_sessions_logs_nobody_in(own, log_in):
    mine = log_in()
    listed = read(mine, spec("<pathSet>sessionList</pathSet>", "SessionManager", SESSIONS))
    keys = [element.text for element in listed.tree.iter() if element.tag == f"{soap.VIM}key"]
    assert keys and mine.cookie.split('"')[1] not in listed.text
    with soap.Client(own.front("fleet")) as thief:
        for key in keys:
            thief.cookie = f'vmware_soap_session="{key}"'
            assert thief.call("CurrentTime", ("ServiceInstance", "ServiceInstance")).fault == "NotAuthenticated"


def test_a_clone_ticket_is_good_once(own, log_in):
    ticket = f"<cloneTicket>{log_in().call('AcquireCloneTicket', SESSIONS).value()}</cloneTicket>"
    with soap.Client(own.front("fleet")) as first, soap.Client(own.front("fleet")) as second:
        assert first.call("CloneSession", SESSIONS, ticket).status == 200
        assert second.call("CloneSession", SESSIONS, ticket).fault == "InvalidLogin"
        first.logout()


# -- bombs ----------------------------------------------------------------------------------

def every_step_to_every(count):
    return "".join(step(f"f{n}", "Folder", "childEntity", again(*(f"f{m}" for m in range(40)))) for n in range(count))


def nested(levels):
    return step(f"n{levels}", "Folder", "childEntity", nested(levels - 1)) if levels else ""


BOMBS = {
    "the same path without end": (spec('<pathSet>config.extraConfig["x"]</pathSet>' * 30_000), "InvalidArgument"),
    "many property sets": (spec("</propSet><propSet><type>VirtualMachine</type>".join(["<all>true</all>"] * 2_000)), "InvalidArgument"),
    "many objects": (spec("<all>true</all>", steps='</objectSet><objectSet><obj type="VirtualMachine">vm-1</obj>' * 20_000), "InvalidArgument"),
    "many specifications": (spec() * 1_001, "InvalidArgument"),
    "too many elements": (spec("<pathSet>name</pathSet>" * 100_001), "InvalidRequest"),
    "too deep a traversal": (spec(begin=ROOT, steps=nested(70)), "InvalidRequest"),
    "a traversal that is not there": (spec(begin=ROOT, steps=again("nothing")), "InvalidArgument"),
    "every step to every step": (spec(begin=ROOT, steps=every_step_to_every(200)), None),
    "up and down": (spec(kind="ManagedEntity", begin=ROOT, steps=FOLDERS + step("p", "ManagedEntity", "parent", again("f", "d", "p"))), None),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_specification_bomb(own, log_in, name):
    text, fault = BOMBS[name]
    reply = read(log_in(), text)
    assert reply.fault == fault, reply.text[:600]
    assert own.rss_kib() < 400_000


def test_the_same_thing_a_thousand_times_comes_in_pages(own, log_in):
    """What one small request may ask for in gigabytes is answered piece by piece, or refused where there are no pieces."""
    client = log_in()
    reply = read(client, every_machine() * 1_000)
    assert reply.value("token") and len(reply.text) < 48 << 20
    assert client.call("RetrieveProperties", COLLECTOR, every_machine() * 1_000).fault == "InvalidRequest"
    assert own.rss_kib() < 1_500_000


# Keys that no item has.
KEYS = [
    "config.hardware.device[-1]", "config.hardware.device[99999999999999999999]", 'config.extraConfig["a"b"]', 'config.extraConfig["]"]',
    'config.extraConfig["a\\"]',
]
PATHS = [
    "", ".", "..", "name.", ".name", "config..name", "config.hardware.device[", "config.hardware.device[]", "config.hardware.device[4000",
    "config.hardware.device[4000]]", "name[0]", "n\u00e4me", "\u202ename", "*", "config.*", "[4000]", "NAME",
    "config." * 5_000 + "x", "config.hardware.device[" * 500,
]


@pytest.mark.parametrize("path", KEYS)
def test_a_key_that_no_item_has(log_in, path):
    """The path is unset; other properties of the object are there."""
    reply = read(log_in(), spec(f"<pathSet>{escape(path)}</pathSet><pathSet>name</pathSet>"))
    assert reply.fault is None and reply.status == 200
    assert [element.findtext(f"{soap.VIM}name") for element in reply.values("propSet")] == ["name"]
    assert reply.values("missingSet") == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: repr(path[:30]))
def test_a_path_that_is_garbage(log_in, path):
    reply = read(log_in(), spec(f"<pathSet>{escape(path)}</pathSet><pathSet>name</pathSet>"))
    assert reply.fault == "InvalidProperty", reply.text[:600]


@pytest.mark.parametrize("number", ["-1", "0", "x", "", "99999999999999999999", "-9223372036854775809"])
def test_numbers_that_are_none(log_in, number):
    client = log_in()
    assert read(client, spec(), f"<options><maxObjects>{number}</maxObjects></options>").fault == "InvalidArgument"
    waiting = f"<options><maxWaitSeconds>0</maxWaitSeconds><maxObjectUpdates>{number}</maxObjectUpdates></options>"
    assert client.call("WaitForUpdatesEx", COLLECTOR, waiting).fault == "InvalidArgument"
    collector = ("EventHistoryCollector", client.call("CreateCollectorForEvents", EVENTS, "<filter/>").value())
    for method in ("ReadNextEvents", "ReadPreviousEvents", "SetCollectorPageSize"):
        assert client.call(method, collector, f"<maxCount>{number}</maxCount>").fault == "InvalidArgument", method


@pytest.mark.parametrize("time", ["x", "", "99999-99-99T99:99:99Z", "2026-02-30T00:00:00Z", "1"])
def test_times_that_are_none(log_in, time):
    """A time that cannot be read does not widen what is found."""
    client = log_in()
    for name in ("beginTime", "endTime"):
        span = f"<filter><time><{name}>{time}</{name}></time></filter>"
        assert client.call("QueryEvents", EVENTS, span).fault == "InvalidArgument"
        assert client.call("CreateCollectorForEvents", EVENTS, span).fault == "InvalidArgument"


@pytest.mark.parametrize("version", ["x", "-1", "0", "999999", "1,2", "\u202e", "9" * 50])
def test_versions_that_nobody_gave(log_in, version):
    client = log_in()
    reply = client.call("WaitForUpdatesEx", COLLECTOR, f"<version>{version}</version><options><maxWaitSeconds>0</maxWaitSeconds></options>")
    assert reply.fault == "InvalidCollectorVersion"


def test_a_list_view_of_itself(log_in):
    client = log_in()
    view = client.call("CreateListView", VIEWS, '<obj type="VirtualMachine">vm-1</obj>').value()
    client.call("ModifyListView", ("ListView", view), f'<add type="ListView">{view}</add>')
    reply = read(client, spec("<all>true</all>", "ManagedObject", ("ListView", view), step("l", "ListView", "view", again("l"))))
    assert reply.status == 200 and len(reply.text) < 100_000


# -- numbers of everything --------------------------------------------------------------------

MAKERS = {
    "filters": ("CreateFilter", COLLECTOR, filter_of(spec())),
    "collectors": ("CreatePropertyCollector", COLLECTOR, ""),
    "views": ("CreateContainerView", VIEWS, f'<container type="{ROOT[0]}">{ROOT[1]}</container><recursive>true</recursive>'),
    "event collectors": ("CreateCollectorForEvents", EVENTS, "<filter/>"),
}


@pytest.mark.parametrize("what", MAKERS)
def test_a_session_may_not_make_without_end(log_in, what):
    client = log_in()
    method, this, arguments = MAKERS[what]
    for made in range(1_100):
        reply = client.call(method, this, arguments)
        if reply.fault:
            break
    assert reply.fault == "LimitExceeded" and 900 <= made <= 1_000
    assert client.call("PowerOffVM_Task", ("VirtualMachine", "vm-1")).fault is None
    assert log_in().call(method, this, arguments).fault is None, "another session has its own"


def test_a_session_may_not_wait_without_end(own, log_in):
    client = log_in()
    client.call("CreateFilter", COLLECTOR, filter_of(spec("<pathSet>config.name</pathSet>")))
    version = client.call("WaitForUpdatesEx", COLLECTOR, "<options><maxWaitSeconds>0</maxWaitSeconds></options>").value("version")
    arguments = f"<version>{version}</version><options><maxWaitSeconds>2147483647</maxWaitSeconds></options>"

    def wait(_):
        with soap.Client(own.front("fleet"), timeout=120) as waiter:
            waiter.cookie = client.cookie
            return waiter.call("WaitForUpdatesEx", COLLECTOR, arguments).fault

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        waits = [pool.submit(wait, n) for n in range(50)]
        clients.eventually(lambda: sum(one.done() for one in waits) >= 18, "no more than 32 wait")
        refused = [one.result() for one in waits if one.done()]
        # What still waits is released with its session.
        client.logout()
        ends = [one.result() for one in waits]
    assert set(refused) == {"LimitExceeded"} and len(refused) < 50
    assert set(ends) <= {"LimitExceeded", "RequestCanceled", "NotAuthenticated"} and "RequestCanceled" in ends, ends


def test_a_flood_of_commands_to_one_machine(own):
    """What cannot be taken is refused with the native busy fault; nothing is lost in silence."""
    def flood(_):
        with soap.Client(own.front("fleet")) as client:
            client.login()
            replies = [client.call("ResetVM_Task", ("VirtualMachine", "vm-2")) for _ in range(100)]
            client.logout()
        return [reply.fault for reply in replies]

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        ends = sum(pool.map(flood, range(4)), [])
    assert set(ends) <= {None, "TaskInProgress"} and None in ends


def test_logins_keep_no_memory(own):
    """A password's hash works in megabytes; a hundred logins from four sides use them again and again."""
    def log_in_and_out(_):
        with soap.Client(own.front("fleet")) as client:
            assert client.login().status == 200
            client.logout()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(log_in_and_out, range(20)))
        before = own.rss_kib()
        list(pool.map(log_in_and_out, range(100)))
    assert own.rss_kib() - before < 30_000


# -- HTTP -------------------------------------------------------------------------------------

ABOUT = envelope(soap.call("RetrieveServiceContent", ("ServiceInstance", "ServiceInstance")))
LENGTH = b"Content-Length: %d\r\n" % len(ABOUT)
HEAD = b"Host: x\r\nContent-Type: text/xml\r\nConnection: close\r\n"
CHUNKED = b"POST /sdk HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
REQUESTS = {
    "HTTP/1.0": (b"POST /sdk HTTP/1.0\r\n" + HEAD + LENGTH + b"\r\n" + ABOUT, b"200"),
    "HTTP/0.9": (b"GET /sdk\r\n\r\n", b"400"),
    "HTTP/9.9": (b"GET /sdk HTTP/9.9\r\n\r\n", b"400"),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None),
    "an absolute address": (b"POST https://elsewhere/sdk HTTP/1.1\r\n" + HEAD + LENGTH + b"\r\n" + ABOUT, b"200"),
    "HEAD": (b"HEAD /sdk HTTP/1.1\r\n" + HEAD + b"\r\n", b"405"),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\n" + HEAD + b"\r\n", b"404"),
    "CONNECT": (b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\n\r\n", b"404"),
    "a negative length": (b"POST /sdk HTTP/1.1\r\n" + HEAD + b"Content-Length: -1\r\n\r\n", b"400"),
    "a length too large for a number": (b"POST /sdk HTTP/1.1\r\n" + HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n", b"400"),
    "two lengths": (b"POST /sdk HTTP/1.1\r\n" + HEAD + LENGTH + b"Content-Length: 5\r\n\r\n" + ABOUT, b"400"),
    "a chunk too large for a number": (CHUNKED + b"FFFFFFFFFFFFFFFFF\r\nx\r\n", b"400"),
    "a chunk of garbage": (CHUNKED + b"zz\r\nx\r\n", b"400"),
    "a chunk's endless extension": (CHUNKED + b"1;" + b"e" * 200_000 + b"\r\nx\r\n", b"400"),
    "chunks of one byte": (CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in ABOUT) + b"0\r\n\r\n", b"200"),
    "five thousand trailers": (CHUNKED + b"%x\r\n" % len(ABOUT) + ABOUT + b"\r\n0\r\n" + b"X: y\r\n" * 5_000 + b"\r\n", b"400"),
    "another encoding": (b"POST /sdk HTTP/1.1\r\n" + HEAD + b"Content-Encoding: gzip\r\n" + LENGTH + b"\r\n" + ABOUT, b"415"),
    "a header of two megabytes": (b"GET /sdk HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 2_000_000 + b"\r\n\r\n", b"431"),
    "three thousand headers": (b"GET /sdk HTTP/1.1\r\n" + b"".join(b"X%d: a\r\n" % n for n in range(3_000)) + b"\r\n", b"431"),
    "a folded header": (b"GET /sdk HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n", b"400"),
    "NUL in a header": (b"GET /sdk HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", b"400"),
    "NUL in the path": (b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
    "a path of seventy kilobytes": (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"431"),
    "two SOAPActions": (b"POST /sdk HTTP/1.1\r\n" + HEAD + b"SOAPAction: urn:vim25/6.5\r\nSOAPAction: x\r\n" + LENGTH + b"\r\n" + ABOUT, b"200"),
    "a SOAPAction that is no ASCII": (b"POST /sdk HTTP/1.1\r\n" + HEAD + "SOAPAction: urn:vim25/\u00e9\r\n".encode() + LENGTH + b"\r\n" + ABOUT, b"200"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_odd_http(own, name):
    request, status = REQUESTS[name]
    with socket.create_connection(("127.0.0.1", own.front("fleet").port), timeout=20) as plain:
        with runner.insecure_tls().wrap_socket(plain) as tls:
            answer = b""
            try:
                tls.sendall(request)
                while part := tls.recv(65_536):
                    answer += part
            except OSError:
                # It closed while we still sent.
                pass
    if answer or status == b"200":
        assert answer.split(b" ", 2)[1] == status, answer[:300]


def test_a_thousand_pipelined_requests(own):
    """Each is answered, in order, on one connection."""
    with socket.create_connection(("127.0.0.1", own.front("fleet").port), timeout=20) as plain:
        with runner.insecure_tls().wrap_socket(plain) as tls:
            tls.sendall(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n" * 999 + b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b""
            while part := tls.recv(65_536):
                answer += part
    assert answer.count(b"HTTP/1.1 404 ") == 1_000


def test_a_greedy_client_keeps_nobody_waiting(own, log_in, tmp_path):
    """While four clients ask for all they can, small requests are answered."""
    body = tmp_path / "greedy.xml"
    body.write_bytes(envelope(soap.call("RetrievePropertiesEx", COLLECTOR, every_machine() * 300 + "<options/>")))
    address = f"https://{own.front('fleet').address}/sdk"
    greedy = [subprocess.Popen(["curl", "-sk", "-o", "/dev/null", "-H", f"Cookie: {log_in().cookie}", "--data-binary", f"@{body}", address]) for _ in range(4)]
    answered = 0
    while any(client.poll() is None for client in greedy):
        with soap.Client(own.front("fleet")) as client:
            assert client.post(ABOUT).status == 200
            answered += 1
    assert answered >= 3, "small requests were answered meanwhile"
    assert [client.returncode for client in greedy] == [0] * 4
