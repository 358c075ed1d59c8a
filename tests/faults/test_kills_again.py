"""Deaths that need more than a command on its usual way: a second death, a step that fails, facts that are out of date, two that die at once."""

from __future__ import annotations

import re

import pytest

import clients
import kills
import runner
from kills import Deed, Place, Scene, Trial, mapping_copy
from test_kills_sim import Case, Stage

TWO_STEPS = """[[effect.Reconfigure.step]]
when = "has(cmd.description) && cmd.description != self.description"
call = "Reconfigure"
args = { vm = "cmd.vm_id", description = "cmd.description" }
undo = { call = "Reconfigure", args = { vm = "cmd.vm_id", description = "self.description" } }
[[effect.Reconfigure.step]]
when = "has(cmd.name)"
call = "RenameVm"
args = { vm = "cmd.vm_id", name = "cmd.name" }
"""
SPEC = "<spec><name>renamed-{name}</name><annotation>two steps</annotation></spec>"


def two_steps(mappings) -> None:
    """A change in two calls, of which the first can be taken back."""
    path = mappings / "sim" / "protocol.toml"
    text, count = re.subn(
        r'(\[effect\.Reconfigure\]\nleft = \{)(.*?\})\n.*?(?=\[effect\.Reconfigure\.own\])',
        r'\1 cpu_count = "t", cores_per_socket = "t", memory_bytes = "t", memory_hot_add = "t", cpu_hot_add = "t", firmware = "t", boot = "t", '
        r'devices = "t",\2\n' + TWO_STEPS.replace("\\", "\\\\"), path.read_text(), flags=re.S)
    assert count == 1
    path.write_text(text)


def both(stage: Stage) -> Deed:
    """Two steps that are there together or not at all."""
    def effect(scene: Scene) -> int:
        renamed = stage.done(scene, "RenameVm")
        described = stage.done(scene, "Reconfigure")
        # What was there before, there, and back again; that may be asked twice.
        assert renamed <= 1 and described <= 4, (renamed, described)
        shown = (scene.client.text(scene.vm, "name"), scene.client.text(scene.vm, "config.annotation"))
        if shown == (f"renamed-{scene.name}", "two steps"):
            return 1
        clients.eventually(lambda: scene.client.text(scene.vm, "config.annotation") == "before", "half of it is taken back")
        return 0

    def ask(scene: Scene):
        return scene.client.call("ReconfigVM_Task", scene.vm, SPEC.format(name=scene.name))

    def prepare(scene: Scene) -> None:
        scene.perform("ReconfigVM_Task", scene.vm, "<spec><annotation>before</annotation></spec>")
    return Deed("both", "Reconfigure", ask, effect, power="poweredOff", prepare=prepare, mark=lambda scene: f"renamed-{scene.name}")


def dies(stage: Stage, deed: Deed, again: str | None = None, **who: str) -> Scene:
    scene = stage.scene(deed)
    try:
        assert Trial(deed, who).run(scene, again), f"{deed.name} has come to its end without {who}"
    except BaseException as error:
        error.add_note(stage.place.tails())
        raise
    return scene


@pytest.fixture(scope="module")
def plain(work):
    with Stage(work / "again", "up") as stage:
        yield stage


@pytest.mark.parametrize("deed", ["power-on", "power-off", "reconfigure", "create", "destroy", "reset"])
def test_it_dies_again_when_it_has_found_out(plain, deed):
    plain.die(Case("up", deed, "up", "lane.call-answered"), again="lane.settled")


@pytest.fixture(scope="module")
def stepwise(work):
    with Stage(work / "steps", "up", mapping_copy(work / "steps-mappings", two_steps)) as stage:
        yield stage


@pytest.mark.parametrize("point", ["lane.call-sent", "lane.step-durable", "lane.effect-seen"])
def test_a_change_in_two_steps_is_whole_or_nothing(stepwise, point):
    dies(stepwise, both(stepwise), up=point)


def test_a_death_while_half_of_it_is_taken_back_after_a_death(stepwise):
    dies(stepwise, both(stepwise), up="lane.step-durable", again="lane.undo-sent")


@pytest.fixture(scope="module")
def failing(work):
    behaviour = work / "failing.toml"
    behaviour.write_text("[calls.RenameVm]\nfail = 1.0\n")
    with Stage(work / "fails", "up", mapping_copy(work / "fails-mappings", two_steps), behaviour) as stage:
        yield stage


@pytest.mark.parametrize("point", ["lane.undo-begun", "lane.undo-sent", "lane.undo-answered"])
def test_a_step_that_fails_takes_back_the_one_before(failing, point):
    scene = dies(failing, both(failing), up=point)
    assert failing.done(scene, "RenameVm") == 0


@pytest.fixture(scope="module")
def split(work):
    with Stage(work / "lost", "split") as stage:
        yield stage


@pytest.mark.parametrize("deed", ["reconfigure", "create", "destroy", "power-on"])
def test_an_answer_is_lost_and_then_the_one_who_waited(split, deed):
    """The agent dies in its work, and the broker when the agent's next life shows that the answer will not come."""
    scene = split.scene(split.deeds[deed])
    assert Trial(split.deeds[deed], {"agent": "lane.call-answered"}).run(scene, then={"broker": "engine.lost"})


def test_a_plan_of_facts_that_have_changed(work):
    """Somebody else changed what the plan was made from, and nobody heard of it: it is planned again, and dies there."""
    behaviour = work / "silent.toml"
    behaviour.write_text("lose_event = 1.0\n")
    mappings = mapping_copy(work / "silent-mappings", two_steps)
    with Stage(work / "silent", "up", mappings, behaviour) as stage, \
            Place(work / "other", runner.sim_process_target(stage.sim.uri, "sim"), mappings=mappings) as other:
        deed = both(stage)
        scene = stage.scene(deed)
        there = Scene(other, vm=(kills.VM, other.client.machines()[scene.name][0]))
        there.perform("ReconfigVM_Task", there.vm, "<spec><annotation>by somebody else</annotation></spec>")
        assert scene.client.text(scene.vm, "config.annotation") != "by somebody else"

        def effect(scene: Scene) -> int:
            return stage.done(scene, "RenameVm")
        deed.effect, deed.prepare = effect, None
        assert Trial(deed, {"up": "engine.replanned"}).run(scene)
