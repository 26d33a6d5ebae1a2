"""What prev_state of the sched_switch tracepoint means on this kernel.

Its encoding changed four times (4.9, 4.14, 4.14-stable, 4.19). A sleep of our own shows which one
this is: the bit for interruptible sleep is 1, or 2 where everything is one bit to the left.
"""

from __future__ import annotations

import os
import time

from systemscope.bpf.link import Link
from systemscope.bpf.map import Map
from systemscope.bpf.program import Program
from systemscope.bpfasm.builder import Builder
from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.records import Record, u64
from systemscope.bpfasm.types import MapSpec, MapType, ProgramSpec, ProgramType
from systemscope.errors import SystemScopeError
from systemscope.programs.config import StateBits

#: 4.9 marks a preempted task with TASK_STATE_MAX (0x1000), 4.19 and later with 0x100.
_PREEMPTED = 0x1100
_DEAD = 0x10 | 0x20 | 0x40 | 0x80  # counts only for a thread that has begun to exit


class Observed(Record):
    """The largest prev_state of our own switches."""

    state: u64


def tracepoint_state_bits(tracepoint_id: int, state_offset: int) -> StateBits:
    """Sleep once and look. Where that cannot be done the current encoding is assumed."""
    try:
        state = _observe(tracepoint_id, state_offset)
    except SystemScopeError:
        state = 1
    if state == 2:
        return StateBits(shift=1, preempted=_PREEMPTED >> 1, dead=_DEAD)
    return StateBits(preempted=_PREEMPTED, dead=_DEAD)


def _observe(tracepoint_id: int, state_offset: int) -> int:
    seen = MapSpec("observed", MapType.ARRAY, 4, Observed.size, 1)
    with Map.create(seen) as states:
        program = _observer(seen, state_offset)
        with Program.load(program, {seen: states}) as loaded:
            with Link.tracepoint(loaded, tracepoint_id):
                for _attempt in range(3):
                    time.sleep(0.001)
            value = states.lookup(bytes(4)) or bytes(8)
    return int.from_bytes(value, "little") & 0xFF


def _observer(seen: MapSpec, state_offset: int) -> ProgramSpec:
    b = Builder("calibrate", ProgramType.TRACEPOINT, isa=1, direct_values=False)
    ids = b.call(Helper.get_current_pid_tgid)
    with b.if_((ids >> 32) != os.getpid()):
        b.exit(0)
    state = b.load(b.context, state_offset, 8)
    with b.if_((state & 0xFF) == 0):
        b.exit(0)
    value = b.value_of(seen, Observed)
    value.state = state
    b.exit(0)
    return b.build("sched_switch")
