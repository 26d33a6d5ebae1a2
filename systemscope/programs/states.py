"""What the kernel's task state bits mean for a thread that leaves its CPU."""

from __future__ import annotations

from systemscope.bpfasm.values import All, Pointer, Value
from systemscope.model.states import State
from systemscope.programs.common import Ground
from systemscope.programs.config import Hook
from systemscope.programs.hooks import SwitchArguments
from systemscope.programs.records import ThreadFlag

_TASK_BITS = 0xFF  # 6.1 added TASK_FREEZABLE 0x2000: never compare prev_state for equality
_NOLOAD = 0x400  # TASK_NOLOAD: with TASK_UNINTERRUPTIBLE it is TASK_IDLE
_FROZEN = 0x8000  # TASK_FROZEN (6.1)


def classify(g: Ground, arguments: SwitchArguments, record: Pointer) -> Value:
    """The model's state for what the kernel says the leaving thread does next."""
    b = g.b
    state = b.let(int(State.RUNNABLE), spill=g.forgetful)
    with b.block():
        _classify(g, arguments, record, state)
    g.meet()
    return state


def _classify(g: Ground, arguments: SwitchArguments, record: Pointer, state: Value) -> None:
    b, bits = g.b, g.config.state_bits
    raw = arguments.state()
    if bits.shift:
        b.set(raw, raw >> bits.shift)
    if arguments.hook is Hook.TRACEPOINT:
        preempted = (raw & bits.preempted) != 0
    else:
        preempted = arguments.preempted() != 0
    with b.if_(preempted):
        record.preemptions = record.preemptions + 1
        b.set(raw, 0)
    with b.if_((raw & 1) != 0):
        b.set(state, int(State.SLEEPING))
    with b.else_(), b.if_(raw != 0):
        _classify_rare(g, raw, state, record)


def _classify_rare(g: Ground, raw: Value, state: Value, record: Pointer) -> None:
    b, dead = g.b, g.config.state_bits.dead
    b.set(state, int(State.BLOCKED))
    exiting = (record.flags & int(ThreadFlag.EXITING)) != 0
    with b.if_((raw & _FROZEN) != 0):
        b.set(state, int(State.STOPPED))
    for bit, meaning in ((0x40, State.PARKED), (8, State.TRACED), (4, State.STOPPED)):
        with b.if_((raw & bit) != 0):
            b.set(state, int(meaning))
    with b.if_((raw & 2) != 0):
        b.set(state, int(State.DISK))
        if g.config.hook is not Hook.TRACEPOINT:
            with b.if_((raw & _NOLOAD) != 0):
                b.set(state, int(State.IDLE))
    with b.else_(), b.if_(All((raw & dead) != 0, exiting)):
        b.set(state, int(State.DEAD))
    with b.if_(All((raw & _TASK_BITS) == 0, (raw & 0x1000) != 0)):  # TASK_RTLOCK_WAIT
        b.set(state, int(State.DISK))
