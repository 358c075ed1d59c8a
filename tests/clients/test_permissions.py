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
        def ended():
            try:
                return session.content.sessionManager.currentSession is None
            except vim.fault.NotAuthenticated:
                return True
        clients.eventually(ended, "the session has ended")


def test_a_user_that_is_removed_has_no_session(bench, ctl, people):
    ctl("user", "add", "passing", "--role", "read-only", stdin=f"{SECRET}\n")
    with log_in(bench, "passing") as session:
        ctl("user", "remove", "passing")
        def ended():
            try:
                return session.content.sessionManager.currentSession is None
            except vim.fault.NotAuthenticated:
                return True
        clients.eventually(ended, "the sessions of a removed user end")
    with pytest.raises(vim.fault.InvalidLogin):
        log_in(bench, "passing").__enter__()


def test_the_audit_knows(bench, ctl, people):
    with bench.session() as session:
        session.perform(session.vm(OFF).ReconfigVM_Task(vim.vm.ConfigSpec(annotation="audited")))
    found = ctl("audit", "search", "--user", "admin")
    assert "Reconfigure" in found
    assert SECRET not in ctl("audit", "search") and runner.PASSWORD not in ctl("audit", "search")
    ctl("audit", "verify")
