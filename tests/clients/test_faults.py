"""Every wrong command of faults.toml is answered with the fault that it names."""

import time
import tomllib
from pathlib import Path

import pytest
from pyVmomi import vim

import clients
import soap
from clients import Session

CASES = tomllib.loads(Path(__file__).with_name("faults.toml").read_text())["case"]


@pytest.fixture(scope="module")
def ids(host, hyperglot):
    """What the braces in faults.toml stand for, by view."""
    clients.settle(host, hyperglot, "web01", "running", booted=True)
    clients.settle(host, hyperglot, "db01", "shut off")
    known = {}
    for view in ("fleet", "host"):
        with Session(hyperglot.front(view)) as session:
            task = session.vm("db01").PowerOnVM_Task()
            session.perform(task)
            session.perform(session.vm("db01").PowerOffVM_Task())
            known[view] = {
                "web01": session.vm("web01")._moId, "db01": session.vm("db01")._moId,
                "root": session.content.rootFolder._moId, "pc": session.content.propertyCollector._moId,
                "sm": session.content.sessionManager._moId, "done": task._moId,
                "dc": session.objects(vim.Datacenter)[0]._moId,
            }
    return known


def filled(text: str, known: dict[str, str]) -> str:
    for name, value in known.items():
        text = text.replace("{" + name + "}", value)
    return text


def fault_of_task(client: soap.Client, task: str) -> str | None:
    """The fault in a task's info.error, once the task has ended."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        info = client.call("Fetch", ("Task", task), "<prop>info</prop>")
        state = info.value("state")
        if state == "error":
            return info.values("error")[0].find(f"{soap.VIM}fault").get(soap.XSI_TYPE)
        if state == "success":
            return None
        time.sleep(0.1)
    return "the task did not end"


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_the_fault_is_the_native_one(hyperglot, ids, case):
    assert case["source"], "each expectation says where it is known from"
    known = ids[case["view"]]
    with soap.Client(hyperglot.front(case["view"])) as client:
        if case.get("login", True):
            assert client.login().status == 200
        reply = client.call(case["method"], (case["on"][0], filled(case["on"][1], known)), filled(case.get("args", ""), known))
        if reply.status == 200 and case["method"].endswith("_Task"):
            assert fault_of_task(client, reply.value()) == case["fault"]
        else:
            assert (reply.status, reply.fault) == (500, case["fault"]), reply.text
            assert reply.fault_string, "a fault says something to people"
            assert "types." not in reply.fault_string and "Error(" not in reply.fault_string


def test_every_case_is_named_once():
    names = [case["name"] for case in CASES]
    assert len(set(names)) == len(names)
