"""The timeline: each stretch of a thread's time and each wake-up, streamed as they end.

The programs that keep the accounts emit the very stretches they add up, so the two always agree.
What is added here is who woke whom. sched_waking runs where the waker does, but an interrupt may
have stopped some innocent thread there: the tracepoints around timers' functions, soft and device
interrupts tell, and such a wake-up has no thread for its waker.
"""

from __future__ import annotations

from typing import Optional

from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.types import ProgramSpec
from systemscope.bpfasm.values import ExprLike, as_expr
from systemscope.model.timeline import STATE_SHIFT, EventKind
from systemscope.programs.common import Ground
from systemscope.programs.config import ProgramConfig, Ring
from systemscope.programs.hooks import EventTask, attach_type, program_type
from systemscope.programs.maps import ProfilerMaps
from systemscope.programs.records import InterruptBit, Interrupts, ThreadFlag, TimelineRecord

_NO_WAKEUP = 1  # BPF_RB_NO_WAKEUP: the reader looks by itself
_CURRENT_CPU = 0xFFFFFFFF  # BPF_F_CURRENT_CPU

#: (category, event) -> the bit that it sets, or clears.
INTERRUPT_EVENTS = {
    "hrtimer_expire_entry": ("timer", InterruptBit.TIMER, True),
    "hrtimer_expire_exit": ("timer", InterruptBit.TIMER, False),
    "softirq_entry": ("irq", InterruptBit.SOFT, True),
    "softirq_exit": ("irq", InterruptBit.SOFT, False),
    "irq_handler_entry": ("irq", InterruptBit.DEVICE, True),
    "irq_handler_exit": ("irq", InterruptBit.DEVICE, False),
}


def emit(
    g: Ground,
    kind: EventKind,
    tid: ExprLike,
    end: ExprLike,
    begin: Optional[ExprLike] = None,
    middle: Optional[ExprLike] = None,
    state: ExprLike = 0,
    stacks: Optional[tuple[ExprLike, ExprLike]] = None,
    other: Optional[ExprLike] = None,
) -> None:
    """Send one event; nothing where no timeline is recorded. A full ring is counted."""
    if g.config.ring is Ring.NONE:
        return
    b, maps = g.b, g.maps
    with b.block():
        record = b.stack(TimelineRecord)
        record.tid = tid
        record.end = end
        if begin is not None:
            record.begin = begin
        if middle is not None:
            record.middle = middle
        if stacks is not None:
            record.kernel, record.user = stacks
        if other is not None:
            record.other = other
        record.kind = (as_expr(state) << STATE_SHIFT) | int(kind)
        record.cpu = b.call(Helper.get_smp_processor_id)
        data, size = b.address(record), TimelineRecord.size
        if g.config.ring is Ring.BPF:
            sent = b.call(Helper.ringbuf_output, maps.timeline, data, size, _NO_WAKEUP)
        else:
            sent = b.call(
                Helper.perf_event_output, b.context, maps.timeline, _CURRENT_CPU, data, size
            )
        with b.if_(sent != 0):
            g.count("timeline_lost")


def sched_waking(config: ProgramConfig, maps: ProfilerMaps) -> ProgramSpec:
    """The program on sched_waking: current makes a thread runnable."""
    g = Ground("sched_waking", program_type(config.hook), config, maps)
    b = g.b
    now, _ = g.now_in_window()
    task = EventTask(g, config.fields.waking_pid)
    tid = b.let(task.tid())
    record = g.thread(tid)
    with b.if_(b.not_null(record)), b.if_((record.flags & int(ThreadFlag.TRACKED)) != 0):
        waker = b.let(b.call(Helper.get_current_pid_tgid) & 0xFFFFFFFF)
        interrupted = b.let(0, spill=True)
        with b.block():
            marks = b.lookup_index(maps.interrupts, 0, Interrupts)
            with b.if_(b.not_null(marks)), b.if_(marks.bits != 0):
                b.set(interrupted, marks.bits)
                b.set(waker, 0)
        emit(g, EventKind.WAKE, tid, now, middle=interrupted, other=waker)
    b.exit(0)
    return b.build("sched_waking", attach_type(config.hook))


def interrupt_marks(config: ProgramConfig, maps: ProfilerMaps) -> list[ProgramSpec]:
    """The programs that mark a CPU while an interrupt of a kind is being served."""
    return [_mark(name, config, maps) for name in INTERRUPT_EVENTS]


def _mark(event: str, config: ProgramConfig, maps: ProfilerMaps) -> ProgramSpec:
    _, bit, begins = INTERRUPT_EVENTS[event]
    g = Ground(event, program_type(config.hook), config, maps)
    b = g.b
    marks = b.lookup_index(maps.interrupts, 0, Interrupts)
    with b.if_(b.not_null(marks)):
        if begins:
            marks.bits = marks.bits | int(bit)
        else:
            marks.bits = marks.bits & ~int(bit) & 0xFFFFFFFF
    b.exit(0)
    return b.build(event, attach_type(config.hook))


def clear_marks(g: Ground) -> None:
    """A CPU that switches threads serves no interrupt: what a lost exit left behind goes."""
    if g.config.ring is Ring.NONE:
        return
    b = g.b
    with b.block():
        marks = b.lookup_index(g.maps.interrupts, 0, Interrupts)
        with b.if_(b.not_null(marks)):
            marks.bits = 0
