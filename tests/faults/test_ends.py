"""Why a process ends: whatever makes it, the log says so; and a reader who goes away ends nothing."""

import os
import signal
import subprocess

import pytest

import clients
import runner


def instance(work, name):
    return runner.Hyperglot(work / name, [runner.sim_target(vms=4, hosts=1)], [runner.Front("fleet", runner.free_port())])


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_named(work, how):
    up = instance(work, f"ends-{how.name}").start()
    try:
        up.process.send_signal(how)
        assert up.process.wait(30) == 0
        log = up.log.read_text(errors="replace")
        assert how.name in log and "told to stop" in log, log[-2000:]
        assert any(line.endswith(" stopped") for line in log.splitlines()), log[-2000:]
    finally:
        up.stop()


def test_who_reads_its_output_may_go(work):
    """Standard output and error are pipes whose reader is gone: it serves on, and ends when told."""
    up = instance(work, "ends-unread")
    up.write_config()
    reading, writing = os.pipe()
    environment = {**up.environment(), "HYPERGLOT_LOG": "debug"}
    up.process = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", str(runner.BINARY), "up", "--config", str(up.config)],
                                  stdin=subprocess.DEVNULL, stdout=writing, stderr=writing, env=environment)
    os.close(writing)
    os.close(reading)
    try:
        up.wait_fronts()
        govc = clients.Govc(up.front("fleet"))
        name = sorted(govc("find", "/", "-type", "m").splitlines())[0]
        govc("vm.change", "-vm", name, "-annotation", "unread")
        assert govc("object.collect", "-s", name, "config.annotation").strip() == "unread"
        assert up.alive()
    finally:
        code = up.stop()
    assert code == 0
