"""Folders by govc and pyVmomi: the broker's own facts, which survive a restart."""

import http.client

import pytest
from pyVmomi import vim, vmodl

import clients
from changing import OFF, ON, bench  # noqa: F401


@pytest.fixture
def session(bench):
    with bench.session() as session:
        yield session


@pytest.fixture
def folder(bench):
    """A folder of this test's own."""
    bench.govc("folder.create", "/Datacenter/vm/team")
    yield "/Datacenter/vm/team"
    for vm in bench.govc("find", "/Datacenter/vm", "-type", "m").split():
        if vm.rsplit("/", 1)[0] != "/Datacenter/vm":
            bench.govc("object.mv", vm, "/Datacenter/vm")
    for name in ("team", "crew"):
        if f"/Datacenter/vm/{name}" in bench.govc("ls", "/Datacenter/vm").split():
            bench.govc("object.destroy", f"/Datacenter/vm/{name}")


def test_made_renamed_and_destroyed(bench, session, folder):
    made = session.content.searchIndex.FindByInventoryPath("Datacenter/vm/team")
    assert isinstance(made, vim.Folder) and "VirtualMachine" in made.childType
    assert made.parent.name == "vm"
    assert "team" in bench.govc("folder.info", folder)
    bench.govc("object.rename", folder, "crew")
    assert made.name == "crew" and session.content.searchIndex.FindByInventoryPath("Datacenter/vm/team") is None
    bench.govc("object.destroy", "/Datacenter/vm/crew")
    assert "/Datacenter/vm/crew" not in bench.govc("ls", "/Datacenter/vm").split()
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        made.name


def test_machines_move(bench, session, folder):
    vm = session.vm(OFF)
    moid = vm._moId
    bench.govc("object.mv", f"/Datacenter/vm/{OFF}", folder)
    assert vm.parent.name == "team"
    assert bench.govc("ls", folder).split() == [f"{folder}/{OFF}"]
    assert f"/Datacenter/vm/{OFF}" not in bench.govc("ls", "/Datacenter/vm").split()
    assert session.content.searchIndex.FindByInventoryPath(f"Datacenter/vm/team/{OFF}")._moId == moid
    with clients.Session(bench.instance.front("host")) as esxi:
        assert esxi.vm(OFF).parent.name == "vm", "a host has no folders"


def test_folders_in_folders(bench, session, folder):
    bench.govc("folder.create", f"{folder}/a")
    bench.govc("folder.create", f"{folder}/a/b")
    inner = session.content.searchIndex.FindByInventoryPath("Datacenter/vm/team/a/b")
    outer = session.content.searchIndex.FindByInventoryPath("Datacenter/vm/team/a")
    with pytest.raises((vim.fault.InvalidFolder, vim.fault.VimFault, vmodl.RuntimeFault)):
        session.perform(inner.MoveIntoFolder_Task([outer]))
    assert inner.parent._moId == outer._moId
    bench.govc("object.mv", f"{folder}/a/b", folder)
    assert inner.parent.name == "team"


def test_what_a_folder_does_not_take(bench, session, folder):
    at = session.content.searchIndex.FindByInventoryPath
    vm, team, hosts, root = session.vm(OFF), at("Datacenter/vm/team"), at("Datacenter/host"), session.content.rootFolder
    for into, what in ((hosts, vm), (root, vm), (hosts, team), (root, team), (team, root), (team, hosts)):
        with pytest.raises(vmodl.fault.NotSupported):
            session.perform(into.MoveIntoFolder_Task([what]))
    assert (vm.parent.name, team.parent.name) == ("vm", "vm")
    # Named twice it is moved once.
    session.perform(team.MoveIntoFolder_Task([vm, vm]))
    assert vm.parent == team


def test_names_are_taken_once(bench, session, folder):
    root = session.content.searchIndex.FindByInventoryPath("Datacenter/vm")
    with pytest.raises(vim.fault.DuplicateName):
        root.CreateFolder("team")
    with pytest.raises(vim.fault.InvalidName):
        root.CreateFolder("")
    # The same name in another folder is another folder.
    session.content.searchIndex.FindByInventoryPath("Datacenter/vm/team").CreateFolder("team")


def test_the_fixed_folders_stay(bench, session):
    for path in ("Datacenter/vm", "Datacenter/host"):
        fixed = session.content.searchIndex.FindByInventoryPath(path)
        name = fixed.name
        with pytest.raises(Exception) as refused:
            session.perform(fixed.Destroy_Task())
        assert clients.fault_name(refused.value) != "SystemError"
        assert session.content.searchIndex.FindByInventoryPath(path).name == name


def test_a_folder_with_a_running_machine_is_not_destroyed(bench, session, folder):
    bench.govc("object.mv", f"/Datacenter/vm/{ON}", folder)
    team = session.content.searchIndex.FindByInventoryPath("Datacenter/vm/team")
    with pytest.raises((vim.fault.VimFault, vmodl.RuntimeFault)):
        session.perform(team.Destroy_Task())
    assert bench.host.state(ON) == "running"
    assert session.vm(ON).parent.name == "team"


def there(session):
    """Whether the session's own connection answers; one that was closed is opened anew by the next call."""
    try:
        return session.content.sessionManager.currentSession
    except (OSError, http.client.HTTPException):
        return None


def test_everything_is_as_it_was_after_a_restart(bench, folder):
    """Ids, folders, tasks and the session itself: a client that was away finds what it left."""
    bench.govc("object.mv", f"/Datacenter/vm/{OFF}", folder)
    with bench.session() as session:
        vm, team = session.vm(OFF), session.content.searchIndex.FindByInventoryPath("Datacenter/vm/team")
        info = session.perform(vm.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=[vim.option.OptionValue(key="a.b", value="c")])))
        task, key = info.task, session.content.sessionManager.currentSession.key
        bench.instance.stop()
        bench.instance.start()
        clients.eventually(lambda: there(session), "an answer after the restart, to the same cookie")
        assert session.content.sessionManager.currentSession.key == key
        assert (vm.name, vm.parent._moId, team.name) == (OFF, team._moId, "team")
        assert (task.info.state, task.info.name.info.wsdlName) == ("success", "ReconfigVM_Task")
        assert ("a.b", "c") in [(option.key, option.value) for option in vm.config.extraConfig]
