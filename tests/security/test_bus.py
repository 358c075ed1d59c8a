"""Whoever holds an agent's key, or a monitor's password, and talks on the bus: what is refused, what is logged, what the audit says."""

import asyncio
import json
import uuid

import nats
import pytest

import clients
import words
from clients import Session, vim
from acts import change
from words import INVALID_ARGUMENT, PERMISSION, Refused, changed, message, opened, outcome, read

COMMAND = "cmd.default.vm.Reconfigure"
ORDER = "agent.default.lab02.perform"


def annotation(field, host):
    with Session(field.domain.host(host)) as session:
        return {vm.name: vm.config.annotation or "" for vm in session.objects(vim.VirtualMachine)}


def submitted(field) -> tuple[bytes, bytes]:
    """The honest submission's envelope and grant."""
    fields = read(read(field.submission[1])[1][0])
    return fields[1][0], fields[2][0]


def again(envelope: bytes, **fields) -> bytes:
    """The envelope as a new command."""
    return changed(envelope, **{"f1": str(uuid.uuid4()), **fields})


def refused(code, words_, call):
    with pytest.raises(Refused) as raised:
        call()
    assert raised.value.code == code, raised.value
    assert words_ in str(raised.value)


def submit(field, who, envelope, grant):
    body = message({1: envelope, **({2: grant} if grant else {})})
    return outcome(field.ask(who, COMMAND, who.signed(COMMAND, body)))


def performed(field) -> tuple[bytes, dict]:
    """The honest order's body and fields."""
    body = read(field.order[1])[1][0]
    return body, read(body)


def order(field, body: bytes, signer=None, subject=ORDER):
    return outcome(field.order_to(subject, (signer or field.engine()).signed(subject, body)))


async def denied(field, connection, errors, subjects):
    for subject in subjects:
        errors.clear()
        await connection.publish(subject, b"x")
        await connection.flush()
        for _ in range(600):
            if errors:
                break
            await asyncio.sleep(0.05)
        assert any("ermissions" in error for error in errors), (subject, errors)


def test_an_agent_speaks_and_hears_for_itself_only(field):
    async def attack():
        errors, heard = [], []
        bus = await field.thief().connect(field.url, errors)
        await denied(field, bus, errors, [ORDER, "agent.default.lab01.perform", "inventory.default.lab02.facts.delta", "audit.default.admin"])

        async def take(message):
            heard.append(message.subject)
        for subject in ("agent.default.lab02.>", "agent.>", "cmd.>", "service.>", "_INBOX_lab02.>", "audit.>", ">"):
            errors.clear()
            await bus.subscribe(subject, cb=take)
            for _ in range(600):
                if errors:
                    break
                await bus.flush()
                await asyncio.sleep(0.05)
            assert any("ermissions" in error for error in errors), subject
        await asyncio.to_thread(change, field.domain.fleet, "lab02", "not for lab01's ears")
        await bus.flush()
        assert heard == []
        await bus.close()
    asyncio.run(attack())


def test_a_stolen_monitor_commands_nothing_and_hears_no_commands(field):
    secret = json.loads((field.data("broker") / "bus" / "credentials.json").read_text())["monitor"]

    async def attack():
        errors, heard = [], []

        async def told(error):
            errors.append(str(error))

        async def take(message):
            heard.append(message.subject)
        bus = await nats.connect(field.url, user="monitor", password=secret, error_cb=told, allow_reconnect=False)
        await denied(field, bus, errors, [COMMAND, ORDER, "service.engine-default.hello", "event.default.vm.x.y", "task.default.x"])
        for subject in ("cmd.>", "agent.>", "audit.>", "service.>", "inventory.>", "console.>"):
            await bus.subscribe(subject, cb=take)
        events = []

        async def seen(message):
            events.append(message.subject)
        await bus.subscribe("task.>", cb=seen)
        await bus.flush()
        await asyncio.to_thread(change, field.domain.host("lab01"), "lab01", "seen by monitors as a task only")
        # Once the task was told, everything before it has been, too.
        async with asyncio.timeout(60):
            while not events:
                await asyncio.sleep(0.05)
        await bus.flush()
        assert heard == []
        await bus.close()
    asyncio.run(attack())


def test_nobody_is_believed_without_a_signature(field):
    envelope, grant = submitted(field)
    thief, body = field.thief(), message({1: again(envelope), 2: grant})
    refused(PERMISSION, "not signed", lambda: opened(field.ask(thief, COMMAND, b"\xff\xff\xff")))
    refused(PERMISSION, "not signed", lambda: opened(field.ask(thief, COMMAND, body)))
    refused(PERMISSION, "does not match", lambda: opened(field.ask(thief, COMMAND, thief.signed(COMMAND, body, signer="lab02"))))
    refused(PERMISSION, "does not match", lambda: opened(field.ask(thief, COMMAND, thief.signed("cmd.default.vm.PowerOff", body))))
    refused(PERMISSION, "no agent of this domain", lambda: opened(field.ask(thief, COMMAND, thief.signed(COMMAND, body, signer="engine"))))
    refused(PERMISSION, "ms off", lambda: opened(field.ask(thief, COMMAND, thief.signed(COMMAND, body, off_ms=-300_000))))
    for said in ("not signed", "no agent of this domain", "does not match", "ms off"):
        field.logged("broker", "a request was refused", said)


def test_a_message_counts_once(field):
    subject, payload = field.submission
    refused(PERMISSION, "second time", lambda: opened(field.ask(field.thief(), subject, payload)))
    field.logged("broker", "a request was refused", "second time")
    subject, payload = field.order
    refused(PERMISSION, "second time", lambda: opened(field.order_to(subject, payload)))
    field.logged("lab02", "not the engine's", "second time")


def test_a_command_id_is_one_command(field):
    envelope, grant = submitted(field)
    before = annotation(field, "lab01")
    # Said again, it is the same command with the same end: it is not done anew.
    change(field.domain.host("lab01"), "lab01", "later")
    assert 1 in submit(field, field.thief(), envelope, grant)
    assert "later" in annotation(field, "lab01").values()
    changes = changed(envelope, f3=changed(read(envelope)[3][0], f3="smuggled"))
    refused(INVALID_ARGUMENT, "another content", lambda: submit(field, field.thief(), changes, grant))
    assert "smuggled" not in annotation(field, "lab01").values(), before


def test_a_rooted_agent_asserts_nobody_else(field):
    envelope, grant = submitted(field)
    thief = field.thief()
    field.domain.ctl("user", "add", "mallory", stdin="Nothing-at-all-7\n")
    content = read(grant)[1][0]
    asserted = again(envelope, f5="mallory")
    with pytest.raises(Refused) as raised:
        submit(field, thief, asserted, grant)
    assert raised.value.code == PERMISSION
    cases = {
        "no grant": None,
        "signed by the agent itself": thief.grant(content),
        "its content changed": changed(grant, f1=changed(content, f2="root")),
        "another agent's": read(read(field.order[1])[1][0])[3][0],
    }
    for what, forged in cases.items():
        with pytest.raises(Refused) as raised:
            submit(field, thief, again(envelope), forged)
        assert raised.value.code == PERMISSION, (what, raised.value)
    with pytest.raises(Refused) as raised:
        submit(field, thief, again(envelope, f6="no-such-session"), grant)
    assert raised.value.code == PERMISSION
    lines = field.domain.audit("--user", "mallory")
    assert not [line for line in lines if "Reconfigure" in line and "allowed" in line], lines
    # What was refused is in the audit, as the agent's doing where nobody else's word is there.
    assert [line for line in field.domain.audit() if "Reconfigure" in line and "refused" in line.lower()]


def test_a_rooted_agent_hands_in_nothing_in_others_names(field):
    thief, subject = field.thief(), "service.engine-default.outbox"
    command = str(uuid.uuid4())
    envelope, _ = submitted(field)
    ended = message({1: command, 2: {1: {1: {1: 1, 2: 1}}}, 3: 1_700_000_000_000, 4: "DestroyVm", 5: read(envelope)[4][0],
                     6: "admin", 7: read(envelope)[6][0]})
    handed = message({1: [{1: 1, 2: 1, 3: ended}], 2: "rogue"})
    assert opened(field.ask(thief, subject, thief.signed(subject, handed)))[1] == [1]
    field.logged("broker", "a record of a principal that it has no grant for", "lab01")
    lines = [line for line in field.domain.audit("--limit", "1000") if "DestroyVm" in line]
    assert len(lines) == 1 and "agent:lab01" in lines[0] and "not believed" in lines[0], lines
    assert not [line for line in field.domain.audit("--user", "admin", "--limit", "1000") if "DestroyVm" in line]
    assert "whole" in field.domain.ctl("audit", "verify")


def test_an_owner_takes_orders_from_the_engine_of_today_only(field):
    body, fields = performed(field)
    envelope, grant, epoch, target = fields[1][0], fields[3][0], fields[4][0], fields[5][0]
    assert epoch > 1 and target > 0
    fresh = again(envelope)
    cases = [
        # What the engine never signed.
        ("only the engine", lambda: order(field, changed(body, f1=fresh), field.thief())),
        ("does not match", lambda: opened(field.order_to(ORDER, field.thief().signed(ORDER, changed(body, f1=fresh), signer="engine")))),
        ("not signed", lambda: opened(field.order_to(ORDER, b"\xff\xff"))),
        # Grants.
        ("without a grant", lambda: order(field, changed(body, f1=fresh, f3=None))),
        ("not signed by this domain's engine", lambda: order(field, changed(body, f1=fresh, f3=field.thief().grant(read(grant)[1][0])))),
        ("not for lab02", lambda: order(field, changed(body, f1=fresh, f3=submitted(field)[1]))),
        ("the grant", lambda: order(field, changed(body, f1=again(envelope, f5="mallory")))),
        # Engines and leases that are over.
        ("epoch 1 of the engine is over", lambda: order(field, changed(body, f1=fresh, f4=1))),
        ("without its epoch", lambda: order(field, changed(body, f1=fresh, f4=None))),
    ]
    before = annotation(field, "lab02")
    for said, attack in cases:
        with pytest.raises(Refused) as raised:
            attack()
        assert said in str(raised.value), (said, raised.value)
        field.logged("lab02", "refused", said)
    # A later lease of the target was seen: the one before is over.
    assert annotation(field, "lab02") == before
    newer = changed(body, f1=again(envelope), f5=target + 1)
    try:
        order(field, newer)
    except Refused as cause:
        assert "epoch" not in str(cause), cause
    before = annotation(field, "lab02")
    refused(PERMISSION, f"epoch {target} of lab02 is over", lambda: order(field, changed(body, f1=again(envelope))))
    field.logged("lab02", "a stale epoch was refused")
    assert annotation(field, "lab02") == before


def test_a_token_lets_one_in_and_a_removed_agent_is_out(field):
    text = field.domain.broker.token("guest")
    token = words.token(text)
    field.secrets += [text, token["secret"], token["password"]]
    seed = words.nkeys.encode_seed(b"\x07" * 32, words.nkeys.PREFIX_BYTE_USER).decode()
    guest = words.Member("guest", seed)
    key = guest.keys.public_key.decode()
    ask = message({1: token["secret"], 2: key, 3: "X" + key[1:], 4: "0"})

    async def join(body, patience=30):
        bus = await nats.connect(token["url"], user="join", password=token["password"], inbox_prefix=b"_INBOX_join", allow_reconnect=False)
        try:
            return opened((await bus.request("service.join-default.ask", body, timeout=patience)).data)
        finally:
            await bus.close()
    refused(PERMISSION, "", lambda: asyncio.run(join(message({1: "0" * 48, 2: key, 3: key, 4: "0"}))))
    assert asyncio.run(join(ask))[1] == [b"guest"]

    def again():
        # The bus takes on the new agent's account: it closes what connects in that moment, and loses what is asked.
        try:
            return asyncio.run(join(ask, 2))
        except Refused as cause:
            return cause
        except (OSError, nats.errors.Error):
            return None
    said = clients.eventually(again, "the token is answered a second time", 30)
    assert isinstance(said, Refused) and said.code == PERMISSION, said
    field.logged("broker", "an agent was not let in")

    # It is a member now: its word counts, and its hello is answered.
    beat, subject = message({1: 1, 2: 1}), "service.engine-default.beat"

    def spoke():
        try:
            return opened(field.ask(guest, subject, guest.signed(subject, beat)))
        except nats.errors.Error:
            return None
    clients.eventually(spoke, "the guest is heard")
    field.domain.ctl("agent", "remove", "guest")

    def shut_out():
        try:
            opened(field.ask(guest, subject, guest.signed(subject, beat)))
        except Refused as cause:
            return cause.code == PERMISSION
        except Exception as error:
            return "uthorization" in str(error)
        return False
    clients.eventually(shut_out, "the bus lets the removed agent in no more")
    # And on any other connection its signature is worth nothing.
    refused(PERMISSION, "no agent of this domain", lambda: opened(field.order_to(COMMAND, guest.signed(COMMAND, b""))))
    field.logged("broker", "a request was refused", "`guest` is no agent")
