"""The commands that the fault tests die in, as a client sends them. What is true afterwards is a witness's word: `done` is given the scene
and a call's name and says how often that was done to the object."""

from __future__ import annotations

from typing import Callable

from kills import VM, Deed, Scene, ended, fault_of, ref

MIB = 1 << 20


def call(method: str, arguments: str = "") -> Callable[[Scene], object]:
    return lambda scene: scene.client.call(method, scene.vm, arguments)


def power_cycle(scene: Scene) -> None:
    """The VM is off and on again, or on and off."""
    if scene.state() == "poweredOff":
        scene.perform("PowerOnVM_Task", scene.vm)
        assert scene.state() == "poweredOn"
    scene.perform("PowerOffVM_Task", scene.vm)
    assert scene.state() == "poweredOff"


def reconfigured(scene: Scene) -> None:
    scene.perform("ReconfigVM_Task", scene.vm, "<spec><annotation>afterwards</annotation></spec>")
    assert scene.client.text(scene.vm, "config.annotation") == "afterwards"


def shows(path: str, value: str) -> Callable[[Scene], bool]:
    return lambda scene: scene.client.text(scene.vm, path) == value


def local(done: Callable[[Scene, str], int]) -> list[Deed]:
    """Commands that an agent performs by itself."""
    def deed(name: str, verb: str, method: str, power: str, shown: str | None = None, **more) -> Deed:
        return Deed(name, verb, call(method), lambda scene: done(scene, verb), power=power, after=power_cycle,
                    shown=shows("runtime.powerState", shown) if shown else None, **more)
    return [
        deed("power-on", "PowerOn", "PowerOnVM_Task", "poweredOff", "poweredOn"),
        deed("power-off", "PowerOff", "PowerOffVM_Task", "poweredOn", "poweredOff"),
        deed("suspend", "Suspend", "SuspendVM_Task", "poweredOn", "suspended"),
        deed("reset", "Reset", "ResetVM_Task", "poweredOn", blind=True),
    ]


def changing(done: Callable[[Scene, str], int]) -> list[Deed]:
    """Commands that the engine plans."""
    def kept(scene: Scene) -> int:
        reply = scene.client.get(scene.vm, "config.extraConfig")
        return int("guestinfo.kept" in reply.text)

    def template(scene: Scene) -> int:
        return int(scene.client.text(scene.vm, "config.template") == "true")

    def destroyed(scene: Scene) -> int:
        return done(scene, "DestroyVm")

    def gone(scene: Scene) -> bool:
        return scene.name not in scene.client.machines()

    def still_works(scene: Scene) -> None:
        if not gone(scene):
            scene.perform("Destroy_Task", scene.vm)
            assert gone(scene)

    def machine_again(scene: Scene) -> None:
        if template(scene):
            scene.perform("MarkAsVirtualMachine", scene.vm, ref("pool", scene.more["pool"]))
        power_cycle(scene)

    return [
        Deed("reconfigure", "Reconfigure", call("ReconfigVM_Task", "<spec><memoryMB>3072</memoryMB></spec>"),
             lambda scene: done(scene, "Reconfigure"), power="poweredOff", shown=shows("config.hardware.memoryMB", "3072"),
             after=reconfigured),
        Deed("settings", "Reconfigure",
             call("ReconfigVM_Task", "<spec><annotation>with settings</annotation><extraConfig><key>guestinfo.kept</key>"
                  '<value xsi:type="xsd:string">yes</value></extraConfig></spec>'),
             kept, power="poweredOff", shown=shows("config.annotation", "with settings"), after=reconfigured),
        Deed("rename", "RenameVm", lambda scene: scene.client.call("Rename_Task", scene.vm, f"<newName>new-{scene.name}</newName>"),
             lambda scene: done(scene, "RenameVm"), power="poweredOff",
             shown=lambda scene: scene.client.text(scene.vm, "name") == f"new-{scene.name}", after=reconfigured),
        Deed("destroy", "DestroyVm", call("Destroy_Task"), destroyed, power="poweredOff", shown=gone, after=still_works),
        Deed("template", "MarkAsTemplate", call("MarkAsTemplate"), template, task=False, power="poweredOff", after=machine_again),
    ]


def create(scene: Scene):
    wanted = (f"<config><name>{scene.name}</name><guestId>otherGuest</guestId><files><vmPathName>[{scene.more['store']}]</vmPathName></files>"
              "<numCPUs>1</numCPUs><memoryMB>64</memoryMB></config>")
    return scene.client.call("CreateVM_Task", scene.more["folder"], wanted + ref("pool", scene.more["pool"]))


def created(done: Callable[[Scene, str], int]) -> Deed:
    def there(scene: Scene) -> bool:
        return scene.name in scene.client.machines()

    def again(scene: Scene) -> None:
        if not there(scene):
            scene.vm = None
            reply = create(scene)
            scene_task = ("Task", reply.value())
            assert ended(scene.client, scene_task) == "success", fault_of(scene.client, scene_task)
        moref = scene.client.machines()[scene.name][0]
        scene.perform("Destroy_Task", (VM, moref))
        assert not there(scene)

    return Deed("create", "CreateVm", create, lambda scene: done(scene, "CreateVm"), shown=there, after=again,
                mark=lambda scene: f'"name":"{scene.name}"')


def folders() -> list[Deed]:
    """What the broker itself keeps: the inventory is the witness, read from what survived."""
    def children(scene: Scene, folder: tuple[str, str]) -> list[tuple[str, str]]:
        return scene.client.refs(folder, "childEntity")

    def named(scene: Scene, name: str) -> list[tuple[str, str]]:
        return [child for child in children(scene, scene.more["folder"])
                if child[0] == "Folder" and scene.client.text(child, "name") == name]

    def make(scene: Scene) -> None:
        made = scene.perform("CreateFolder", scene.more["folder"], f"<name>f-{scene.name}</name>")
        scene.more["own"] = ("Folder", made)
        kept = scene.place.client.text(scene.more["own"], "name")
        assert kept == f"f-{scene.name}"

    def union_id(scene: Scene) -> str:
        """Of the folder, from the record of its making."""
        made = f'"name":"f-{scene.name}"'
        line = next(line for line in scene.place.ctl("audit", "search", "--limit", "60").splitlines() if "  CreateFolder  " in line and made in line)
        return line.split('"folder_id":"', 1)[1].split('"', 1)[0]

    def moved(scene: Scene) -> int:
        return [child for child in children(scene, scene.more["own"])].count(scene.vm)

    def remove(scene: Scene, *names: str) -> None:
        for name in names:
            for folder in named(scene, name):
                scene.perform("Destroy_Task", folder)
            assert not named(scene, name)

    return [
        Deed("folder-create", "CreateFolder",
             lambda scene: scene.client.call("CreateFolder", scene.more["folder"], f"<name>f-{scene.name}</name>"),
             lambda scene: len(named(scene, f"f-{scene.name}")), task=False, after=lambda scene: remove(scene, f"f-{scene.name}"),
             mark=lambda scene: f'"name":"f-{scene.name}"'),
        Deed("folder-rename", "RenameFolder",
             lambda scene: scene.client.call("Rename_Task", scene.more["own"], f"<newName>g-{scene.name}</newName>"),
             lambda scene: len(named(scene, f"g-{scene.name}")), prepare=make,
             after=lambda scene: remove(scene, f"f-{scene.name}", f"g-{scene.name}"), mark=lambda scene: f'"name":"g-{scene.name}"'),
        Deed("folder-move", "MoveIntoFolder",
             lambda scene: scene.client.call("MoveIntoFolder_Task", scene.more["own"], ref("list", scene.vm)),
             moved, prepare=make, power="poweredOff", after=power_cycle),
        Deed("folder-destroy", "DestroyFolder", lambda scene: scene.client.call("Destroy_Task", scene.more["own"]),
             lambda scene: int(not named(scene, f"f-{scene.name}")), prepare=make, after=lambda scene: remove(scene, f"f-{scene.name}"),
             mark=union_id),
    ]
