"""A monitoring tool on the bus, with nothing but the credentials that `hyperglot status` prints."""

import asyncio
import json
import subprocess

import nats
import pytest

import lab
import runner
from clients import Session


@pytest.fixture
def credentials(hyperglot):
    status = hyperglot.status()
    assert set(status["monitor"]) >= {"url", "user", "password"}
    return status["monitor"]


async def connected(credentials, errors: list):
    async def failed(error):
        errors.append(error)

    return await nats.connect(
        credentials["url"], user=credentials["user"], password=credentials["password"],
        allow_reconnect=False, connect_timeout=10, error_cb=failed,
    )


def test_status_says_what_is_connected(hyperglot):
    status = hyperglot.status()
    assert [(target["protocol"], target["connected"]) for target in status["targets"]] == [("libvirt", True)]
    assert sorted(front["view"] for front in status["fronts"]) == ["fleet", "host"]
    assert status["bus"]["link"] == "connected"
    for_people = hyperglot.command("status", "--config", str(hyperglot.config))
    assert for_people.returncode == 0
    assert "monitor" in for_people.stdout


def test_the_power_event_is_seen(hyperglot, credentials, db01):
    uuid = lab.guest_uuid("lab01", "db01")

    async def listen():
        errors, seen = [], asyncio.Queue()
        client = await connected(credentials, errors)
        await client.subscribe("event.>", cb=seen.put)
        await client.flush()

        def power_on():
            with Session(hyperglot.front("fleet")) as session:
                session.perform(session.vm("db01").PowerOnVM_Task())

        await asyncio.to_thread(power_on)
        try:
            while True:
                message = await asyncio.wait_for(seen.get(), 30)
                if message.subject.endswith("powered_on"):
                    return message, errors
        finally:
            await client.close()

    message, errors = asyncio.run(listen())
    assert errors == []
    parts = message.subject.split(".")
    assert parts[0] == "event" and parts[2] == "vm", message.subject
    # CloudEvents, binary mode: attributes in headers, the fact as JSON.
    headers = {key.lower(): value for key, value in message.headers.items()}
    assert headers["ce-specversion"] == "1.0"
    for attribute in ("ce-id", "ce-source", "ce-type", "ce-time"):
        assert headers[attribute], attribute
    fact = json.loads(message.data)
    assert uuid in json.dumps(fact) or "db01" in json.dumps(fact), fact


def test_a_login_is_told(hyperglot, credentials):
    async def listen():
        errors, seen = [], asyncio.Queue()
        client = await connected(credentials, errors)
        await client.subscribe("event.*.session.>", cb=seen.put)
        await client.flush()

        def log_in():
            with Session(hyperglot.front("fleet")):
                pass

        await asyncio.to_thread(log_in)
        try:
            return await asyncio.wait_for(seen.get(), 30), errors
        finally:
            await client.close()

    message, errors = asyncio.run(listen())
    assert errors == []
    fact = json.loads(message.data)
    assert fact["what"] == "session.logged_in", fact
    assert fact["principal"] == runner.USER, fact


def test_tasks_are_told_too(hyperglot, credentials, db01):
    async def listen():
        errors, seen = [], asyncio.Queue()
        client = await connected(credentials, errors)
        await client.subscribe("task.>", cb=seen.put)
        await client.flush()

        def power_on():
            with Session(hyperglot.front("fleet")) as session:
                session.perform(session.vm("db01").PowerOnVM_Task())

        await asyncio.to_thread(power_on)
        first = await asyncio.wait_for(seen.get(), 30)
        await client.close()
        return json.loads(first.data), errors

    fact, errors = asyncio.run(listen())
    assert fact and errors == []


@pytest.mark.parametrize("subject", ["event.default.vm.x.powered_on", "cmd.default.vm.power_on", "agent.default.local.perform", "inventory.default.local.facts.delta"])
def test_a_publish_is_denied(credentials, subject):
    async def publish():
        errors = []
        client = await connected(credentials, errors)
        await client.publish(subject, b"{}")
        await client.flush()
        await asyncio.sleep(0.2)
        await client.close()
        return errors

    errors = asyncio.run(publish())
    assert any("permissions violation" in str(error).lower() for error in errors), errors


@pytest.mark.parametrize("subject", ["cmd.>", "agent.>", "inventory.>", "audit.>"])
def test_what_is_not_for_monitors_is_not_heard(credentials, subject):
    async def subscribe():
        errors = []
        client = await connected(credentials, errors)
        await client.subscribe(subject)
        await client.flush()
        await asyncio.sleep(0.2)
        await client.close()
        return errors

    errors = asyncio.run(subscribe())
    assert any("permissions violation" in str(error).lower() for error in errors), errors


def test_nobody_gets_in_without_credentials(credentials):
    async def connect():
        client = await nats.connect(credentials["url"], allow_reconnect=False, connect_timeout=30)
        await client.close()

    with pytest.raises(Exception, match="(?i)authorization"):
        asyncio.run(connect())


def test_watch_prints_what_happens(hyperglot, fleet, db01):

    watcher = subprocess.Popen(
        [str(runner.BINARY), "watch", "--config", str(hyperglot.config), "--count", "1", "event.*.vm.>"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=hyperglot.environment(),
    )
    try:
        # The watcher says nothing until something happens, so things happen until it does.
        while watcher.poll() is None:
            fleet.perform(fleet.vm(db01).PowerOnVM_Task())
            fleet.perform(fleet.vm(db01).PowerOffVM_Task())
        output, errors = watcher.communicate(timeout=60)
    finally:
        watcher.kill()
    assert watcher.returncode == 0, errors
    assert "vm" in output
