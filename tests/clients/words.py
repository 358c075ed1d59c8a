"""What crosses the bus, by hand: protobuf's wire format without a schema, and the signature of a member of the domain. For messages that no
honest agent sends. The fields' numbers are those of `proto/union/v1/{link,envelope}.proto`."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path

import nats
import nkeys

SEPARATOR = b"\x1f"


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def message(fields: dict) -> bytes:
    """Numbers to values: int, str, bytes, a nested message as a dict, or a list of these."""
    out = b""
    for number, value in fields.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, int):
                out += varint(number << 3) + varint(one)
                continue
            body = message(one) if isinstance(one, dict) else one.encode() if isinstance(one, str) else one
            out += varint(number << 3 | 2) + varint(len(body)) + body
    return out


def read(body: bytes) -> dict[int, list]:
    """A message's fields: numbers to the values in order, nested ones as bytes."""
    fields: dict[int, list] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = body[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(body):
        key = number()
        match key & 7:
            case 0:
                value = number()
            case 2:
                size = number()
                value = body[at:at + size]
                at += size
            case other:
                raise ValueError(f"wire type {other}")
        fields.setdefault(key >> 3, []).append(value)
    return fields


def changed(body: bytes, **fields) -> bytes:
    """The message with fields set anew: `f3=...`; None takes one away."""
    known = read(body)
    for name, value in fields.items():
        known.pop(int(name[1:]), None)
        if value is not None:
            known[int(name[1:])] = [value]
    return message(dict(sorted(known.items())))


class Member:
    """Somebody with a signing key."""

    def __init__(self, name: str, seed: str, domain: str = "default"):
        self.name, self.seed, self.domain = name, seed, domain
        self.keys = nkeys.from_seed(bytearray(seed.encode()))

    @classmethod
    def stolen(cls, name: str, path: Path) -> "Member":
        return cls(name, path.read_text().split()[0])

    def signed(self, subject: str, body: bytes, off_ms: int = 0, signer: str | None = None) -> bytes:
        at, nonce = int(time.time() * 1000) + off_ms, os.urandom(16)
        signer = signer or self.name
        parts = [self.domain.encode(), subject.encode(), signer.encode(), at.to_bytes(8, "big") + nonce + body]
        return message({1: body, 2: signer, 3: at, 4: nonce, 5: self.keys.sign(SEPARATOR.join(parts))})

    def grant(self, content: bytes) -> bytes:
        """A grant as the engine would sign it."""
        signature = self.keys.sign(SEPARATOR.join([b"hyperglot grant", self.domain.encode(), content]))
        return message({1: content, 2: signature})

    async def connect(self, url: str, errors: list, inbox: str | None = None) -> nats.NATS:
        """On the bus as this agent."""
        async def told(error):
            errors.append(str(error))
        return await nats.connect(url, nkeys_seed_str=self.seed, inbox_prefix=(inbox or f"_INBOX_{self.name}").encode(), error_cb=told,
                                  allow_reconnect=False, connect_timeout=30)


class Refused(Exception):
    """The cause of a refusal: its code and message."""

    def __init__(self, cause: bytes):
        fields = read(cause)
        self.code = fields.get(1, [0])[0]
        super().__init__(fields.get(2, [b""])[0].decode())


PERMISSION, INVALID_ARGUMENT = 6, 5


def opened(reply: bytes) -> dict[int, list]:
    """The body of a `Reply`; a refusal is raised."""
    fields = read(reply)
    if 2 in fields:
        raise Refused(read(fields[2][0])[1][0])
    return read(fields[1][0])


def outcome(reply: bytes) -> dict[int, list]:
    """The outcome in a `Reply`; a refused or failed command is raised like a refused request."""
    fields = opened(reply)
    for number in (2, 3):
        if number in fields:
            raise Refused(fields[number][0])
    return fields


def token(text: str) -> dict:
    """What a token to join says."""
    packed = text.strip().removeprefix("hyperglot1.")
    return json.loads(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
