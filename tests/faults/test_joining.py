"""Agents that join over TLS, and what a token is good for."""

import json

import pytest

import clients
import runner
from lab import LabError


@pytest.fixture
def sims(work):
    with runner.Sim(work / "join-sim", 3, 1, "--name", "joined") as sim:
        yield sim


@pytest.fixture
def broker(work, sims):
    """A broker whose bus listens beyond loopback."""
    broker = runner.Broker(work / "join-broker", [runner.Front("fleet", runner.free_port())])
    broker.bus = f'port = {runner.free_port()}\nlisten = "0.0.0.0"\nadvertise = "localhost"\n'
    try:
        yield broker.start()
    finally:
        broker.stop()


def agent(work, sims, name):
    front = runner.Front("host", runner.free_port())
    return runner.Agent(work / name, [runner.sim_process_target(sims.uri, "joined")], [front])


def test_an_agent_joins_over_tls_and_comes_back_by_itself(work, sims, broker):
    joined = agent(work, sims, "join-a")
    try:
        joined.start(token=broker.token("joined-a"))
        identity = json.loads((joined.directory / "data" / "agent.json").read_text())
        assert identity["url"].startswith("tls://localhost:") and identity["ca"] is True
        broker.wait_fronts()
        govc = clients.Govc(broker.front("fleet"))
        assert len(govc("find", "/", "-type", "m").splitlines()) == 3
        govc("vm.change", "-vm", "vm-00000", "-annotation", "over TLS")
        joined.kill()
        joined.start()
        clients.eventually(lambda: "connected" in govc("object.collect", "-s", "/Datacenter/vm/vm-00000", "runtime.connectionState"), "it is connected again")
        # Who speaks without TLS is not heard.
        port = identity["url"].rsplit(":", 1)[1]
        import socket
        with socket.create_connection(("127.0.0.1", int(port))) as plain:
            plain.settimeout(10)
            info = plain.recv(4096)
            assert b'"tls_required":true' in info
            plain.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
            answer = plain.recv(4096)
            assert b"PONG" not in answer
    finally:
        joined.stop()


def test_a_token_is_good_once_and_for_nobody_else(work, sims, broker):
    token = broker.token("joined-b")
    first = agent(work, sims, "join-b")
    try:
        first.start(token=token)
    finally:
        first.stop()
    second = agent(work, sims, "join-c")
    with pytest.raises(LabError, match="did not let this agent in"):
        second.start(token=token)
    second.stop()
    with pytest.raises(LabError, match="not a token"):
        second.start(token="hyperglot1.nonsense")
    second.stop()
    assert broker.ctl("agent", "remove", "joined-b").returncode == 0
    first.launch()
    clients.eventually(lambda: "authorization violation" in first.tail().lower(), "an agent that was sent away is not let in", 30)
    first.stop()
    assert broker.ctl("agent", "remove", "joined-b").returncode != 0
