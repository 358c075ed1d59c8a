"""Who gets in, who does not, and what a session that ended can still do."""

import pytest
from pyVmomi import vim

import clients
import soap
from runner import PASSWORD, USER


@pytest.mark.parametrize("view, api_type, product", [("fleet", "VirtualCenter", "vpx"), ("host", "HostAgent", "embeddedEsx")])
def test_login_and_about(hyperglot, view, api_type, product):
    with clients.Session(hyperglot.front(view)) as session:
        about = session.content.about
        assert (about.apiType, about.productLineId) == (api_type, product)
        assert bool(about.instanceUuid) == (view == "fleet"), "only a vCenter has an instanceUuid"
        current = session.content.sessionManager.currentSession
        assert current.userName == USER
        assert current.key and current.loginTime and current.lastActiveTime


@pytest.mark.parametrize("user, password", [(USER, "wrong"), ("nobody-we-know", PASSWORD), (USER, "")])
def test_wrong_credentials_are_invalid_login(hyperglot, user, password):
    with pytest.raises(vim.fault.InvalidLogin):
        clients.Session(hyperglot.front("fleet"), user=user, password=password).__enter__()


def test_a_wrong_password_opens_no_session(hyperglot):
    with soap.Client(hyperglot.front("fleet")) as client:
        refused = client.login(password="wrong")
        assert (refused.status, refused.fault) == (500, "InvalidLogin")
        assert client.call("CurrentTime", ("ServiceInstance", "ServiceInstance")).fault == "NotAuthenticated"


def test_login_sets_the_cookie_that_clients_look_for(hyperglot):
    with soap.Client(hyperglot.front("fleet")) as client:
        welcome = client.login()
        assert welcome.status == 200, welcome.text
        assert welcome.headers.get("set-cookie", "").startswith("vmware_soap_session=")
        for field in ("key", "userName", "fullName", "loginTime", "lastActiveTime", "locale", "messageLocale"):
            assert welcome.value(field), f"UserSession.{field} is what libvirt insists on"


def test_cookie_in_quotes_and_with_its_attributes_is_accepted(hyperglot):
    with soap.Client(hyperglot.front("fleet")) as client:
        client.login()
        value = client.cookie.partition("=")[2].strip('"')
        for cookie in (f'vmware_soap_session="{value}"', f"vmware_soap_session={value}; Path=/; HttpOnly; Secure"):
            client.cookie = cookie
            assert client.call("CurrentTime", ("ServiceInstance", "ServiceInstance")).status == 200, cookie


def test_logout_ends_the_session(hyperglot):
    with soap.Client(hyperglot.front("fleet")) as client:
        client.login()
        assert client.logout().status == 200
        assert client.call("CurrentTime", ("ServiceInstance", "ServiceInstance")).fault == "NotAuthenticated"


def test_login_on_a_session_that_is_logged_in_is_invalid_login(hyperglot):
    with soap.Client(hyperglot.front("fleet")) as client:
        client.login()
        assert client.login().fault == "InvalidLogin"


def test_without_a_session_only_the_service_content_is_given(hyperglot):
    with soap.Client(hyperglot.front("fleet")) as client:
        content = client.call("RetrieveServiceContent", ("ServiceInstance", "ServiceInstance"))
        assert content.status == 200
        assert content.value("rootFolder")
        view = client.call("CreateContainerView", ("ViewManager", "ViewManager"),
                           "<container type=\"Folder\">group-d1</container><recursive>true</recursive>")
        assert view.fault == "NotAuthenticated"


def test_a_session_of_one_front_is_one_of_the_other(hyperglot):
    """Sessions are the engine's: whichever front they began at, every front of the fleet accepts them, and none after the logout."""
    clock = ("ServiceInstance", "ServiceInstance")
    with soap.Client(hyperglot.front("fleet")) as fleet, soap.Client(hyperglot.front("host")) as host:
        fleet.login()
        host.cookie = fleet.cookie
        assert host.call("CurrentTime", clock).status == 200
        assert fleet.call("Logout", fleet.session_manager).status == 200
        assert host.call("CurrentTime", clock).fault == "NotAuthenticated"


def test_clone_session(hyperglot):
    with soap.Client(hyperglot.front("fleet")) as first, soap.Client(hyperglot.front("fleet")) as second:
        first.login()
        ticket = first.call("AcquireCloneTicket", first.session_manager).value()
        assert ticket
        arguments = f"<cloneTicket>{ticket}</cloneTicket>"
        assert second.call("CloneSession", second.session_manager, arguments).status == 200
        assert second.call("CurrentTime", ("ServiceInstance", "ServiceInstance")).status == 200
    with soap.Client(hyperglot.front("fleet")) as third:
        assert third.call("CloneSession", third.session_manager, arguments).fault == "InvalidLogin", "a ticket is for one use"


def test_terminate_session(hyperglot):
    with soap.Client(hyperglot.front("fleet")) as first, soap.Client(hyperglot.front("fleet")) as second:
        first.login()
        key = second.login().value("key")
        assert first.call("TerminateSession", first.session_manager, f"<sessionId>{key}</sessionId>").status == 200
        assert second.call("CurrentTime", ("ServiceInstance", "ServiceInstance")).fault == "NotAuthenticated"


def test_guessing_is_slowed_down(sim):
    """After a few wrong passwords even the right one is refused for a while, and then it is taken again."""
    front = sim.front("fleet")
    with soap.Client(front) as client:
        faults = [client.login(password=f"guess-{number}").fault for number in range(7)]
        assert set(faults) == {"InvalidLogin"}, faults
        assert client.login().fault == "InvalidLogin", "a guesser does not learn that a guess was right"
        clients.eventually(lambda: client.login().status == 200, "the right password is taken again", timeout=120, pause=1)
    assert "guess-" not in sim.tail(200_000), "a password is in the log"


def test_the_password_is_in_no_log(hyperglot):
    with clients.Session(hyperglot.front("fleet")):
        pass
    assert PASSWORD not in hyperglot.tail(1_000_000)
    assert PASSWORD not in hyperglot.config.read_text()
