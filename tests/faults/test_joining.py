"""Agents that join over TLS, what a token is good for, and what an agent takes and says of itself."""

import json
import shutil
import time

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
            try:
                plain.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
                answer = plain.recv(4096)
            except ConnectionError:
                # Closed with what was sent still unread.
                answer = b""
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
    clients.eventually(lambda: "authorization violation" in first.tail().lower(), "an agent that was sent away is not let in")
    first.stop()
    assert broker.ctl("agent", "remove", "joined-b").returncode != 0


def test_the_name_of_the_brokers_own_agent_is_taken(broker):
    own = broker.status()["agent"]
    refused = broker.ctl("agent", "token", own)
    assert refused.returncode != 0 and f"{own} is the broker's own agent" in refused.stderr, refused.stderr
    assert broker.ctl("agent", "token", f"{own}-hosts").returncode == 0


def test_a_token_is_good_for_its_time(work, sims, broker):
    done = broker.ctl("agent", "token", "joined-late", "--valid-s", "1")
    assert done.returncode == 0, done.stderr
    time.sleep(1.1)
    late = agent(work, sims, "join-late")
    with pytest.raises(LabError, match="the token has expired"):
        late.start(token=done.stdout.strip())
    late.stop()
    assert "joined-late" not in broker.ctl("agent", "list").stdout
    for wrong in ("0", "604801"):
        refused = broker.ctl("agent", "token", "joined-late", "--valid-s", wrong)
        assert refused.returncode != 0 and "valid for 1 to 604800 seconds" in refused.stderr, refused.stderr


def test_an_agent_says_how_it_stands_and_takes_no_other_ids(work, sims, broker):
    joined = agent(work, sims, "join-d")
    data = joined.directory / "data"
    try:
        joined.start(token=broker.token("joined-d"))
        for asked in (("--config", str(joined.config)), ("--data-dir", str(data))):
            said = joined.command("status", "--json", *asked)
            assert said.returncode == 0, said.stderr
            status = json.loads(said.stdout)
            assert (status["agent"], status["bus"]["link"], status["stores"]) == ("joined-d", "connected", {"agent": ""})
            assert [target["connected"] for target in status["targets"]] == [True]
            refused = joined.command("ctl", *asked, "agent", "list")
            assert refused.returncode != 0 and "is the agent joined-d's" in refused.stderr, refused.stderr
        listed = joined.command("ctl", "--data-dir", str(broker.directory / "data"), "agent", "list")
        assert listed.returncode == 0 and "joined-d" in listed.stdout, listed.stderr

        # Mappings by which ids that clients hold would mean nothing are refused by all, whatever else they bring.
        mappings = work / "join-mappings"
        for protocol in ("vsphere", "libvirt", "sim"):
            shutil.copytree(clients.REPO / "mappings" / protocol, mappings / protocol)
        forms = mappings / "vsphere" / "protocol.toml"
        text = forms.read_text()
        assert 'fleet = "vm-{n}"' in text
        forms.write_text(text.replace('fleet = "vm-{n}"', 'fleet = "guest-{n}"'))
        before = broker.ctl("mapping", "list").stdout
        pushed = broker.ctl("mapping", "push", str(mappings))
        assert pushed.returncode != 0 and "[id.VirtualMachine] fleet" in pushed.stderr, pushed.stdout + pushed.stderr
        assert broker.ctl("mapping", "list").stdout == before

        broker.stop()
        clients.eventually(lambda: json.loads(joined.command("status", "--json", "--data-dir", str(data)).stdout)["bus"]["link"] == "disconnected",
                           "it says so itself that the bus is away")
    finally:
        joined.stop()
    gone = joined.command("status", "--data-dir", str(data))
    assert gone.returncode != 0 and "does not answer" in gone.stderr, gone.stderr
