"""Users, roles and scopes given with `hyperglot ctl`, as the product's clients meet them."""

import subprocess

import pytest
from pyVmomi import vim

import clients
import runner
from changing import OFF, ON, bench  # noqa: F401

SECRET = "Second-light-2"


@pytest.fixture(scope="module")
def ctl(bench):
    """`hyperglot ctl`, on the running installation."""
    def run(*arguments, stdin="", fails=False):
        done = subprocess.run(
            [str(runner.BINARY), "ctl", "--config", str(bench.instance.config), *arguments],
            input=stdin, capture_output=True, text=True, timeout=60, env=bench.instance.environment())
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr
    return run


@pytest.fixture(scope="module")
def people(bench, ctl):
    """`viewer` reads everything, `operator` powers and reads one machine only, `nobody` may nothing."""
    one = f"vm:{bench.host.virsh('domuuid', OFF)}"
    ctl("role", "add", "operates", "read", "power")
    for name, role in (("viewer", "read-only"), ("operator", None), ("nobody", None)):
        ctl("user", "add", name, *(["--role", role] if role else []), stdin=f"{SECRET}\n")
    ctl("scope", "add", "user:operator", "operates", "--root", one)
    return one


def log_in(bench, user):
    return bench.session(user=user, password=SECRET)


def has_ended(session) -> bool:
    try:
        return session.content.sessionManager.currentSession is None
    except vim.fault.NotAuthenticated:
        return True


def test_who_reads_may_not_change(bench, people):
    with log_in(bench, "viewer") as session:
        vm = session.vm(OFF)
        for call, privilege in (
            (lambda: vm.PowerOnVM_Task(), "VirtualMachine.Interact.PowerOn"),
            (lambda: vm.ReconfigVM_Task(vim.vm.ConfigSpec(memoryMB=64)), "VirtualMachine.Config.Memory"),
            (lambda: vm.Rename_Task("x"), "VirtualMachine.Config.Rename"),
            (lambda: vm.Destroy_Task(), "VirtualMachine.Inventory.Delete"),
            (lambda: vm.parent.CreateFolder("x"), "Folder.Create"),
        ):
            with pytest.raises(vim.fault.NoPermission) as refused:
                session.perform(call())
            assert refused.value.privilegeId == privilege
            assert refused.value.object._moId in (vm._moId, vm.parent._moId)
    assert bench.host.state(OFF) == "shut off" and OFF in bench.domains()
    refused = clients.Govc(bench.front, "viewer", SECRET).run("vm.power", "-on", OFF)
    assert refused.returncode != 0 and "Permission" in refused.stderr


def test_a_scope_is_what_is_seen(bench, people):
    with log_in(bench, "operator") as session:
        assert [vm.name for vm in session.objects(vim.VirtualMachine)] == [OFF]
        assert session.content.searchIndex.FindByInventoryPath(f"Datacenter/vm/{ON}") is None
        session.perform(session.vm(OFF).PowerOnVM_Task())
        assert bench.host.state(OFF) == "running"
        session.perform(session.vm(OFF).PowerOffVM_Task())
        with pytest.raises(vim.fault.NoPermission):
            session.perform(session.vm(OFF).Destroy_Task())
        has = session.content.authorizationManager.HasPrivilegeOnEntities(
            [session.vm(OFF)], session.content.sessionManager.currentSession.key,
            ["VirtualMachine.Interact.PowerOn", "VirtualMachine.Inventory.Delete"])
        assert [available.isGranted for available in has[0].privAvailability] == [True, False]
    with bench.session() as admin:
        hidden = admin.vm(ON)._moId
    with log_in(bench, "operator") as session:
        with pytest.raises(vim.fault.NoPermission):
            vim.VirtualMachine(hidden, session.instance._stub).name


def test_who_has_no_role_sees_nothing(bench, people):
    refused = clients.Govc(bench.front, "nobody", SECRET).run("ls")
    assert refused.returncode != 0


def test_permissions_change_under_a_session(bench, ctl, people):
    """A scope that is given or taken counts in sessions that are open, at once or soon."""
    with log_in(bench, "viewer") as session:
        vm = session.vm(OFF)
        ctl("scope", "add", "user:viewer", "operates", "--root", people)
        def powers():
            try:
                session.perform(vm.PowerOnVM_Task())
                return True
            except vim.fault.NoPermission:
                return False
        clients.eventually(powers, "the new scope counts")
        session.perform(vm.PowerOffVM_Task())


def test_a_revoked_session_ends(bench, ctl, people):
    with log_in(bench, "viewer") as session:
        key = session.content.sessionManager.currentSession.key
        assert key in ctl("session", "list")
        ctl("session", "revoke", key)
        clients.eventually(lambda: has_ended(session), "the session has ended")


def test_a_user_that_is_removed_has_no_session(bench, ctl, people):
    ctl("user", "add", "passing", "--role", "read-only", stdin=f"{SECRET}\n")
    with log_in(bench, "passing") as session:
        ctl("user", "remove", "passing")
        clients.eventually(lambda: has_ended(session), "the sessions of a removed user end")
    with pytest.raises(vim.fault.InvalidLogin):
        log_in(bench, "passing").__enter__()


def test_the_audit_knows(bench, ctl, people):
    with bench.session() as session:
        session.perform(session.vm(OFF).ReconfigVM_Task(vim.vm.ConfigSpec(annotation="audited")))
    found = ctl("audit", "search", "--user", "admin")
    assert "Reconfigure" in found
    assert SECRET not in ctl("audit", "search") and runner.PASSWORD not in ctl("audit", "search")
    ctl("audit", "verify")


def roles_of(session):
    return {role.name: role for role in session.content.authorizationManager.roleList}


def test_roles_and_permissions_are_the_installation_s(bench, ctl, people):
    """What `ctl` gave, as the product's clients list it; a user without rights over others sees what is their own."""
    listed = bench.govc("role.ls").splitlines()
    names = {line.split()[0] for line in listed}
    assert {"Admin", "ReadOnly", "operator", "operates"} <= names
    assert set(bench.govc("role.ls", "operates").split()) == {
        "System.Anonymous", "System.Read", "System.View", "VirtualMachine.Interact.Pause", "VirtualMachine.Interact.PowerOff",
        "VirtualMachine.Interact.PowerOn", "VirtualMachine.Interact.Reset", "VirtualMachine.Interact.Suspend"}
    at_the_root = bench.govc("permissions.ls", "/")
    assert f"{runner.USER} " in at_the_root and "Admin" in at_the_root and "viewer" in at_the_root and "operator" not in at_the_root
    on_one = bench.govc("permissions.ls", "-a=false", f"/Datacenter/vm/{OFF}").splitlines()[1:]
    assert ["operates", f"/Datacenter/vm/{OFF}", "operator", "Yes"] in [line.split() for line in on_one]
    assert runner.USER not in str(on_one)
    with bench.session() as session:
        manager = session.content.authorizationManager
        vm, roles = session.vm(OFF), roles_of(session)
        assert {(p.principal, p.roleId, p.entity) for p in manager.RetrieveEntityPermissions(vm, True)} >= {
            (runner.USER, -1, session.content.rootFolder), ("viewer", -2, session.content.rootFolder),
            ("operator", roles["operates"].roleId, vm)}
        assert "operator" in [p.principal for p in manager.RetrieveRolePermissions(roles["operates"].roleId)]
        with pytest.raises(vim.fault.NotFound):
            manager.RetrieveRolePermissions(4711)
        granted = {result.entity: set(result.privileges) for result in manager.FetchUserPrivilegeOnEntities([vm, session.vm(ON)], "operator")}
        assert "VirtualMachine.Interact.PowerOn" in granted[vm] and "VirtualMachine.Inventory.Delete" not in granted[vm]
        assert granted[session.vm(ON)] == set()
        assert {p.privId for p in manager.privilegeList} > {"VirtualMachine.Config.Memory", "Folder.Create", "System.Read"}
        # A change is seen at once, and numbers stay.
        ctl("role", "add", "operates", "read", "power", "folders")
        assert "Folder.Create" in roles_of(session)["operates"].privilege
        assert roles_of(session)["operates"].roleId == roles["operates"].roleId
        ctl("role", "add", "operates", "read", "power")
    with log_in(bench, "operator") as session:
        manager = session.content.authorizationManager
        assert [(p.principal, p.entity.name) for p in manager.RetrieveAllPermissions()] == [("operator", OFF)]
        assert "System.Read" in manager.FetchUserPrivilegeOnEntities([session.vm(OFF)], "operator")[0].privileges
        with pytest.raises(vim.fault.NoPermission):
            manager.FetchUserPrivilegeOnEntities([session.vm(OFF)], runner.USER)


def test_sessions_of_all_fronts_are_listed_and_ended(bench, people):
    """The fleet shows who is logged in anywhere; a host who is at it."""
    with clients.Session(bench.instance.front("host"), user="viewer", password=SECRET) as elsewhere, bench.session() as session:
        key = elsewhere.content.sessionManager.currentSession.key
        assert [s.key for s in elsewhere.content.sessionManager.sessionList] == [key]
        listed = {s.key: s for s in session.content.sessionManager.sessionList}
        assert (listed[key].userName, listed[key].ipAddress) == ("viewer", "127.0.0.1")
        assert key in bench.govc("session.ls")
        with log_in(bench, "operator") as other:
            assert {s.userName for s in other.content.sessionManager.sessionList} == {"operator"}
        session.content.sessionManager.TerminateSession([key])
        clients.eventually(lambda: has_ended(elsewhere), "it has ended at the other front")
        with pytest.raises(vim.fault.NotFound):
            session.content.sessionManager.TerminateSession([key])
