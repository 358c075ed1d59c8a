"""pyVmomi reads everything: paths.toml, absent_paths.toml, and every property of every served object.

At the newest version both sides speak and at 6.5 and 7.0: a field that is younger than the
negotiated version must not be there, or pyVmomi cannot read the answer.
"""

import re
import tomllib
from pathlib import Path

import pytest
from pyVmomi import vim, vmodl
from pyVmomi.VmomiSupport import IsChildVersion

import clients
import lab
from clients import Session

HERE = Path(__file__).parent
PATHS = tomllib.loads((HERE / "paths.toml").read_text())["type"]
ABSENCES = tomllib.loads((HERE / "absent_paths.toml").read_text())
ABSENT = ABSENCES["absent"]
VERSIONS = {"newest": None, "7.0": "vim.version.v7_0", "6.5": "vim.version.version11"}
KINDS = {name: getattr(vim, name, None) or getattr(vim.host, name.removeprefix("Host"), None) for name in PATHS}
KINDS |= {"TaskManager": vim.TaskManager, "EventManager": vim.event.EventManager, "HostAutoStartManager": vim.host.AutoStartManager}

Collector = vmodl.query.PropertyCollector


@pytest.fixture(scope="module", params=[(view, version) for view in ("fleet", "host") for version in VERSIONS],
                ids=lambda param: f"{param[0]}-{param[1]}")
def session(request, host, hyperglot):
    """A session on each front at each version, with a task done and web01 running."""
    view, version = request.param
    clients.settle(host, hyperglot, "web01", "running", booted=True)
    with Session(hyperglot.front(view), version=VERSIONS[version]) as session:
        session.view = view
        vm = session.vm("web01")
        # libvirt does not tell when a guest that runs was started: only a start that was seen has a time.
        session.perform(vm.PowerOffVM_Task())
        session.perform(vm.PowerOnVM_Task())
        clients.eventually(lambda: vm.guest.ipAddress, "web01 has an address", timeout=60)
        session.disk = next(device.key for device in vm.config.hardware.device if isinstance(device, vim.vm.device.VirtualDisk))
        yield session


def subject(session: Session, kind: str):
    where = PATHS[kind]["object"]
    if where == "instance":
        return session.instance
    if where.startswith("content."):
        return getattr(session.content, where.removeprefix("content."))
    if where == "autostart":
        return session.named(vim.HostSystem, "lab01").configManager.autoStartManager
    if where == "the last":
        return session.vm("web01").recentTask[-1]
    if where == "the first":
        return session.objects(vim.Datacenter)[0]
    return session.named(KINDS[kind], where)


def read(session: Session, found, paths: list[str] | None) -> tuple[dict, dict]:
    """Values and missing faults of one RetrievePropertiesEx; all properties when `paths` is None."""
    spec = Collector.FilterSpec(
        objectSet=[Collector.ObjectSpec(obj=found)],
        propSet=[Collector.PropertySpec(type=type(found), pathSet=paths or [], all=paths is None)],
    )
    result = session.content.propertyCollector.RetrievePropertiesEx([spec], Collector.RetrieveOptions())
    (answer,) = result.objects
    return ({item.name: item.val for item in answer.propSet},
            {item.path: clients.fault_name(item.fault) for item in answer.missingSet or []})


def empty(value) -> bool:
    return value is None or (isinstance(value, (str, list)) and not value)


def mismatch(value, wanted, uuid: str) -> str | None:
    """Why `value` is not what paths.toml wants, or None."""
    if wanted == "present":
        return "nothing is there" if value is None else None
    if empty(value):
        return "it is empty"
    if wanted == "set":
        return None
    (rule, given), = wanted.items()
    if isinstance(given, str):
        given = given.replace("{uuid}", uuid)
    items = value if isinstance(value, list) else [value]
    met = {
        "is": lambda: value == given,
        "least": lambda: value >= given,
        "matches": lambda: re.fullmatch(given, str(value)) is not None,
        "named": lambda: given in [item.name for item in items],
        "each": lambda: all(not empty(getattr(item, given)) for item in items),
    }[rule]
    return None if met() else f"it is {value!r}, not {rule} {given!r}"


@pytest.mark.parametrize("kind", PATHS)
def test_every_path_that_clients_read_gives_what_it_should(session, kind):
    found = subject(session, kind)
    wanted = {path.replace("{disk}", str(session.disk)): rule for path, rule in PATHS[kind]["paths"].items()}
    values, missing = read(session, found, list(wanted))
    assert missing == {}
    uuid = lab.guest_uuid("lab01", PATHS[kind]["object"])
    wrong = {path: why for path, rule in wanted.items() if (why := mismatch(values.get(path), rule, uuid))}
    assert wrong == {}, f"{kind}: {len(wrong)} of {len(wanted)} paths"


@pytest.mark.parametrize("kind", sorted({entry["type"] for entry in ABSENT}))
def test_what_is_listed_as_absent_is_valid_and_absent(session, kind):
    entries = [entry for entry in ABSENT if entry["type"] == kind and session.view in entry.get("views", ["fleet", "host"])]
    assert all(entry["reason"] for entry in entries)
    values, missing = read(session, subject(session, kind), [entry["path"] for entry in entries])
    assert missing == {}, "an absent path is a valid path"
    assert {path: value for path, value in values.items() if not empty(value)} == {}, "move what appears to paths.toml"


def test_types_listed_as_absent_have_no_object(session):
    for entry in ABSENCES["absent_type"]:
        assert entry["reason"]
        assert session.objects(getattr(vim, entry["type"])) == [], entry["type"]


def everything(session: Session) -> list:
    """Every managed object that is served: the tree, the singletons, what they refer to."""
    known = {}

    def add(found) -> None:
        if isinstance(found, list):
            for item in found:
                add(item)
        elif isinstance(found, vim.ManagedObject):
            known.setdefault((type(found).__name__, found._moId), found)

    add(session.instance)
    add(session.objects(vim.ManagedEntity))
    for info in session.content._GetPropertyList():
        add(getattr(session.content, info.name, None))
    manager = session.named(vim.HostSystem, "lab01").configManager
    for info in manager._GetPropertyList():
        add(getattr(manager, info.name, None))
    add(session.vm("web01").recentTask)
    add([store.browser for store in session.objects(vim.Datastore)])
    return list(known.values())


def properties(found) -> list[str]:
    """Those of the version that was agreed on; pyVmomi itself refuses younger ones."""
    return [info.name for info in found._GetPropertyList() if IsChildVersion(found._stub.version, info.version)]


def test_every_property_of_every_object_can_be_read(session):
    """One Fetch each, as pyVmomi's attributes do: a value or nothing, but never a fault and never an unreadable answer."""
    faults = {}
    count = 0
    for found in everything(session):
        for name in properties(found):
            count += 1
            try:
                getattr(found, name)
            except Exception as error:
                faults[f"{type(found)._wsdlName}.{name}"] = f"{clients.fault_name(error)}: {getattr(error, 'msg', error)}"
    assert faults == {}, f"{len(faults)} of {count} reads"


def test_everything_of_every_object_at_once(session):
    """all=true, as object.collect, terraform and WaitForTask ask."""
    for found in everything(session):
        values, missing = read(session, found, None)
        assert missing == {}, found
        allowed = set(properties(found))
        assert set(values) <= allowed, f"{found}: {set(values) - allowed} are not of this version"


def test_what_is_invalid_is_said_to_be(session):
    vm = session.vm("web01")
    for path in ("nonsense", "config.nonsense", "config.hardware.device.key", "config.hardware.device[", "name.length"):
        with pytest.raises(vmodl.query.InvalidProperty) as refused:
            read(session, vm, [path, "name"])
        assert refused.value.name == path


def test_a_path_that_is_asked_for_twice_comes_once(session):
    spec = Collector.FilterSpec(
        objectSet=[Collector.ObjectSpec(obj=session.vm("web01"))],
        propSet=[Collector.PropertySpec(type=vim.VirtualMachine, pathSet=["name", "name"])],
    )
    (answer,) = session.content.propertyCollector.RetrievePropertiesEx([spec], Collector.RetrieveOptions()).objects
    assert [item.name for item in answer.propSet] == ["name"]


def test_paging(session):
    """maxObjects pages through the machines; a token is for one use."""
    view = session.content.viewManager.CreateContainerView(session.content.rootFolder, [vim.VirtualMachine], True)
    collector = session.content.propertyCollector
    spec = Collector.FilterSpec(
        objectSet=[Collector.ObjectSpec(obj=view, skip=True, selectSet=[Collector.TraversalSpec(name="v", type=vim.view.ContainerView, path="view")])],
        propSet=[Collector.PropertySpec(type=vim.VirtualMachine, pathSet=["name"])],
    )
    first = collector.RetrievePropertiesEx([spec], Collector.RetrieveOptions(maxObjects=1))
    assert len(first.objects) == 1 and first.token
    second = collector.ContinueRetrievePropertiesEx(first.token)
    assert len(second.objects) == 1 and not second.token
    assert {answer.propSet[0].val for answer in (*first.objects, *second.objects)} == {"web01", "db01"}
    with pytest.raises(vmodl.MethodFault):
        collector.ContinueRetrievePropertiesEx(first.token)


def test_the_recursive_traversal_of_nova(session):
    """Named specs that refer to each other, with cycles, from the root folder: every machine once."""
    def named(*names):
        return [Collector.SelectionSpec(name=name) for name in names]

    def hop(name, kind, path, *then):
        return Collector.TraversalSpec(name=name, type=kind, path=path, skip=False, selectSet=named(*then))

    every = ["visitFolders", "dcToHf", "dcToVmf", "dcToNetf", "crToH", "crToRp", "crToDs", "hToVm", "rpToRp", "rpToVm"]
    specs = [
        hop("visitFolders", vim.Folder, "childEntity", *every),
        hop("dcToHf", vim.Datacenter, "hostFolder", "visitFolders"),
        hop("dcToVmf", vim.Datacenter, "vmFolder", "visitFolders"),
        hop("dcToNetf", vim.Datacenter, "networkFolder", "visitFolders"),
        hop("crToH", vim.ComputeResource, "host", "hToVm"),
        hop("crToRp", vim.ComputeResource, "resourcePool", "rpToRp", "rpToVm"),
        hop("crToDs", vim.ComputeResource, "datastore"),
        hop("hToVm", vim.HostSystem, "vm"),
        hop("rpToRp", vim.ResourcePool, "resourcePool", "rpToRp", "rpToVm"),
        hop("rpToVm", vim.ResourcePool, "vm"),
    ]
    spec = Collector.FilterSpec(
        objectSet=[Collector.ObjectSpec(obj=session.content.rootFolder, skip=False, selectSet=specs)],
        propSet=[Collector.PropertySpec(type=vim.ManagedEntity, pathSet=["name"])],
    )
    objects = session.content.propertyCollector.RetrievePropertiesEx([spec], Collector.RetrieveOptions()).objects
    ids = [str(answer.obj) for answer in objects]
    assert len(set(ids)) == len(ids), "every object comes once"
    names = {answer.propSet[0].val for answer in objects}
    assert {"web01", "db01", "lab01", "default"} <= names


def test_search_index(session, web01):
    index = session.content.searchIndex
    vm = session.vm("web01")
    uuid = lab.guest_uuid("lab01", "web01")
    assert index.FindByUuid(None, uuid, True, False) == vm
    assert index.FindByUuid(None, vm.config.instanceUuid, True, True) == vm
    assert index.FindByUuid(None, "00000000-0000-0000-0000-000000000000", True, False) is None
    datacenter = session.objects(vim.Datacenter)[0]
    path = f"{datacenter.name}/vm/web01"
    assert index.FindByInventoryPath(path) == vm
    assert index.FindByInventoryPath(f"/{path}/") == vm
    assert index.FindByInventoryPath(f"{path}/nothing") is None
    assert index.FindChild(datacenter.vmFolder, "web01") == vm
    assert index.FindByDatastorePath(datacenter, vm.config.files.vmPathName) == vm


def test_list_view(session, web01):
    manager = session.content.viewManager
    web, db = session.vm("web01"), session.vm("db01")
    view = manager.CreateListView([web])
    assert list(view.view) == [web]
    assert view.ModifyListView(add=[db], remove=[web]) == []
    assert list(view.view) == [db]
    view.ResetListView([web, db])
    assert set(view.view) == {web, db}
    view.DestroyView()
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        view.view


def test_the_lists_are_complete():
    """Nothing is both expected and absent, and every list entry is of a type that is swept."""
    for entry in ABSENT:
        assert entry["type"] in PATHS, entry
        assert entry["path"] not in PATHS[entry["type"]]["paths"] or "views" in entry, entry
    assert set(PATHS) <= set(KINDS)
