"""Is there one order of all operations that explains what everybody saw? A search in the way of Wing and Gong, one VM at a time.

An operation takes effect at one moment between its call and its answer. `explain` looks for an order of these moments in which every answer
is right for the state that the operations before it left; it returns that order, or raises `NotLinear` with the furthest it came.

A read at a front may lag behind other sessions, never behind its own: such a read may take effect since the last operation of its session
that was not answered with a fault.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby

ON, OFF, SUSPENDED = "poweredOn", "poweredOff", "suspended"
# What virsh does to a VM's power directly on the host, and the host by itself.
POWER = ("start", "destroy", "managedsave", "crash")
# Answers after which an effect may or may not be there.
AMBIGUOUS = ("RequestCanceled", "InvalidState", "GenericVmConfigFault", "interrupted")


@dataclass(frozen=True)
class State:
    power: str
    annotation: str = ""
    memory: int = 0
    name: str = ""


@dataclass(frozen=True)
class Op:
    """One operation. `fault`: the native fault it was answered with; `seen`: what a read saw; `existing`: the state that a fault names."""

    client: str
    vm: str
    what: str
    argument: str | int | None
    invoked: float
    returned: float
    fault: str | None = None
    existing: str | None = None
    seen: State | None = None
    # Done directly on the host, past hyperglot.
    direct: bool = False
    # Somebody changed the VM meanwhile who does not queue in its lane.
    met: bool = False

    @property
    def reads(self) -> bool:
        return self.what in ("read", "domstate")

    @property
    def idle(self) -> bool:
        """Whether it changes nothing, whatever it meets."""
        return self.reads or self.what == "reset" or self.fault not in (None, *AMBIGUOUS)

    def __str__(self) -> str:
        said = self.fault or self.seen or "done"
        more = "" if self.existing is None else f"({self.existing})"
        return f"{self.invoked:9.3f}..{self.returned:9.3f} {self.client:8} {self.vm} {self.what}({self.argument or ''}) -> {said}{more}"


class NotLinear(AssertionError):
    """No order explains the history."""


def effect(state: State, op: Op) -> State | None:
    """The state after the operation, or None where it cannot be done."""
    allowed = {"on": (OFF, SUSPENDED), "off": (ON, SUSPENDED), "suspend": (ON,), "reset": (ON,),
               "start": (OFF, SUSPENDED), "destroy": (ON,), "managedsave": (ON,), "desc": (ON,), "crash": (ON,)}
    if op.what in allowed and state.power not in allowed[op.what]:
        return None
    match op.what:
        case "on" | "start":
            return replace(state, power=ON)
        case "off" | "destroy" | "crash":
            return replace(state, power=OFF)
        case "suspend" | "managedsave":
            return replace(state, power=SUSPENDED)
        case "reset":
            return state
        case "annotate" | "desc":
            return replace(state, annotation=op.argument)
        case "rename":
            return replace(state, name=op.argument)
        case "memory":
            fits = state.power == OFF or state.power == ON and op.argument == state.memory
            return replace(state, memory=op.argument) if fits else None
    raise ValueError(op.what)


def after(state: State, op: Op) -> list[State]:
    """The states that the operation may leave behind when it finds this one and is answered as it was; none: it cannot be."""
    if op.what == "read":
        return [state] if op.seen == state else []
    if op.what == "domstate":
        return [state] if op.seen.power == (ON if state.power == ON else OFF) else []
    done = effect(state, op)
    match op.fault:
        case None if done is None and op.met and state.power == {"on": ON, "off": OFF}.get(op.what):
            # Its call found done what it came for, by somebody who does not queue in the lane.
            return [state]
        case None:
            return [] if done is None else [done]
        case "HostNotConnected":
            # Those who had to be asked did not answer: nothing was done.
            return [state]
        case "InvalidPowerState" | "MemoryHotPlugNotSupported" | "not running" | "already active":
            right = op.existing is None or op.existing == state.power
            return [state] if done is None and right else []
        case fault if fault in AMBIGUOUS:
            # Overtaken by another, or met by the host's administrator in the middle: it may have come to its effect before.
            return [state] if done in (None, state) else [state, done]
    return []


def losers(history: list[Op], fault: str = "TaskInProgress") -> list[Op]:
    """Those that were told that another command holds the VM. Each must have met one that was not told so, or one that was under way to
    that and lost in the end: a chain of them ends at one that held it."""
    lost = [op for op in history if op.fault == fault]
    met = [op for op in history if not op.reads and op.fault != fault]
    left = lost
    while left:
        explained = [op for op in left if any(overlap(op, other) for other in met)]
        if not explained:
            raise NotLinear(f"nobody held the VM when this was refused: {left[0]}")
        met, left = explained, [op for op in left if op not in explained]
    return lost


def overlap(op: Op, other: Op) -> bool:
    return op is not other and op.vm == other.vm and other.invoked <= op.returned and op.invoked <= other.returned


def with_others(history: list[Op]) -> list[Op]:
    """The operations with what others did meanwhile. A command that was overtaken is over for its client, but what it had begun may come to
    its effect until the one that overtook it ends; so it ends here with that one."""
    changed = []
    for op in history:
        ends = [o.returned for o in history if o.what == "off" and o.fault != "TaskInProgress" and overlap(op, o)]
        met = any((op.direct or o.direct and o.what in POWER) and not o.reads and overlap(op, o) for o in history)
        if op.fault == "RequestCanceled":
            if not ends:
                raise NotLinear(f"nobody overtook this: {op}")
            op = replace(op, returned=max(op.returned, *ends))
        elif op.fault in AMBIGUOUS and not met:
            raise NotLinear(f"nobody came between: {op}")
        changed.append(replace(op, met=met))
    return changed


def explain(history: list[Op], initial: State, lagging: frozenset[str] = frozenset()) -> list[tuple[Op, State]]:
    """An order of the operations on one VM that explains all answers, with the state that each leaves. `lagging`: clients whose reads may be late."""
    history = with_others(history)
    lost = set(map(id, losers(history)))
    begun: dict[str, tuple[float, Op]] = {}
    found = []
    for op in sorted(history, key=lambda op: op.invoked):
        earliest, before = begun.get(op.client, (float("-inf"), None))
        begins = earliest if op.reads and op.client in lagging else op.invoked
        if id(op) not in lost:
            found.append((begins, op, before))
            # Nobody is promised to see at once what a command did, or met, that was answered with a fault: there is no revision to wait for.
            if op.fault is None:
                begun[op.client] = (begins, op)
    found.sort(key=lambda entry: entry[0])
    place = {id(op): n for n, (_, op, _) in enumerate(found)}
    begins = [entry[0] for entry in found]
    ops = [entry[1] for entry in found]
    needs = [None if before is None else place[id(before)] for _, _, before in found]

    def candidates(base: int, mask: int) -> list[int]:
        bound, some = float("inf"), []
        for n in range(base, len(ops)):
            if mask >> (n - base) & 1:
                continue
            if begins[n] > bound:
                break
            bound = min(bound, ops[n].returned)
            some.append(n)
        done = lambda n: n is None or n < base or mask >> (n - base) & 1  # noqa: E731
        return [n for n in some if begins[n] <= bound and done(needs[n])]

    def without(base: int, mask: int, n: int) -> tuple[int, int]:
        mask |= 1 << (n - base)
        while mask & 1:
            base, mask = base + 1, mask >> 1
        return base, mask

    start = (0, 0, initial)
    stack, seen, came_from, furthest = [start], {start}, {}, start
    while stack:
        here = stack.pop()
        base, mask, state = here
        if base == len(ops):
            order = []
            while here != start:
                left = here[2]
                here, n = came_from[here]
                order.append((ops[n], left))
            return order[::-1]
        if base + mask.bit_count() > furthest[0] + furthest[1].bit_count():
            furthest = here
        steps = [(n, following) for n in candidates(base, mask) for following in after(state, ops[n])]
        # What never changes anything may be put first: no other choice is lost by it.
        idle = [(n, following) for n, following in steps if ops[n].idle]
        for n, following in idle[:1] or steps:
            there = (*without(base, mask, n), following)
            if there not in seen:
                seen.add(there)
                came_from[there] = (here, n)
                stack.append(there)
    base, mask, state = furthest
    stuck = "\n  ".join(str(ops[n]) for n in candidates(base, mask))
    around = "\n  ".join(str(op) for op in ops[max(0, base - 12):base + 12])
    raise NotLinear(f"after {base} operations in the state {state} none of these can be next:\n  {stuck}\nall around:\n  {around}")


def judge(history: list[Op], initial: dict[str, State], lagging: frozenset[str] = frozenset()) -> dict[str, list[tuple[Op, State]]]:
    """`explain`, VM by VM."""
    ordered = sorted(history, key=lambda op: (op.vm, op.invoked))
    parts = {vm: list(ops) for vm, ops in groupby(ordered, key=lambda op: op.vm)}
    return {vm: explain(ops, initial[vm], lagging) for vm, ops in parts.items()}
