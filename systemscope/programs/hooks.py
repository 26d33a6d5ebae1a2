"""The same scheduler events, however a program hangs on them.

tp_btf programs get typed kernel pointers and load from them; raw tracepoints get the same
pointers untyped and must copy; tracepoint programs get a record whose offsets tracefs tells.
Arguments: ``include/trace/events/sched.h``. sched_switch's prev_state argument is the fourth since
5.18 (fa2c3254d7cf, moved last by 9c2136be0878).
"""

from __future__ import annotations

from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.records import Record, u32, u64
from systemscope.bpfasm.types import AttachType, ProgramType
from systemscope.bpfasm.values import Const, Expr, Value
from systemscope.programs.common import Ground
from systemscope.programs.config import Hook


class Words(Record):
    """Room for four or eight bytes read from the kernel."""

    low: u32
    high: u32


def program_type(hook: Hook) -> ProgramType:
    """The program type for ``hook``."""
    return {
        Hook.TP_BTF: ProgramType.TRACING,
        Hook.RAW_TRACEPOINT: ProgramType.RAW_TRACEPOINT,
        Hook.TRACEPOINT: ProgramType.TRACEPOINT,
    }[hook]


def attach_type(hook: Hook) -> AttachType:
    """The attach type for ``hook``."""
    return AttachType.TRACE_RAW_TP if hook is Hook.TP_BTF else AttachType.NONE


class TaskReader:
    """Reads a task_struct through a pointer of either kind."""

    def __init__(self, ground: Ground) -> None:
        self.g, self.b = ground, ground.b

    def tid(self, task: Expr) -> Expr:
        """Its number."""
        return self.word(task, self.g.config.layout.task_pid, 4)

    def tgid(self, task: Expr) -> Expr:
        """Its thread group."""
        return self.word(task, self.g.config.layout.task_tgid, 4)

    def word(self, task: Expr, offset: int, size: int) -> Value:
        """``size`` bytes (4 or 8) at ``offset``."""
        if self.g.config.hook is Hook.TP_BTF:
            return self.b.load(task, offset, size)
        pair = self.b.stack(Words)
        self.read(self.b.address(pair), size, task, offset)
        return self.b.let(pair.low) if size == 4 else self.b.load(self.b.address(pair), 0, 8)

    def read(self, to: Expr, size: int, base: Expr, offset: int) -> None:
        """Copy kernel memory to the stack."""
        modern = self.g.config.probe_read_kernel
        helper = Helper.probe_read_kernel if modern else Helper.probe_read
        self.b.do(helper, to, size, base + offset)


class SwitchContext(Record):
    """Arguments of the raw sched_switch event."""

    preempt: u64
    prev: u64
    next: u64
    state: u64


class SwitchArguments:
    """Arguments of sched_switch. ``current`` is the thread that leaves.

    Each method emits its reads where it is called, so that nothing holds a register for long.
    """

    def __init__(self, ground: Ground) -> None:
        self.g, self.b = ground, ground.b
        self.hook = ground.config.hook
        self._tasks = TaskReader(ground)
        self._raw = ground.b.cast(ground.b.context, SwitchContext)

    def prev_tid(self) -> Expr:
        """The leaving thread."""
        config = self.g.config
        if self.hook is Hook.TRACEPOINT:
            return self.b.load(self.b.context, config.fields.switch_prev_pid, 4)
        if self.hook is Hook.TP_BTF:
            return self.b.load(self.b.let(self._raw.prev), config.layout.task_pid, 4)
        return self.b.call(Helper.get_current_pid_tgid) & 0xFFFFFFFF

    def prev_run_delay(self) -> Expr:
        """What the leaving thread has waited for CPUs in its life, in ns."""
        prev = self.b.let(self._raw.prev)
        return self.b.load(prev, self.g.config.layout.run_delay, 8)

    def next_run_delay(self) -> Expr:
        """The same of the coming thread, without the wait that ends now."""
        task = self.b.let(self._raw.next)
        return self.b.load(task, self.g.config.layout.run_delay, 8)

    def next_waiting(self) -> Expr:
        """The wait that ends now, as far as this queue knows it."""
        return waiting_of(self.g, self.b.let(self._raw.next))

    def prev_tgid(self) -> Expr:
        """Thread group of the leaving thread."""
        return self.b.call(Helper.get_current_pid_tgid) >> 32

    def next_tid(self) -> Expr:
        """The coming thread."""
        if self.hook is Hook.TRACEPOINT:
            return self.b.load(self.b.context, self.g.config.fields.switch_next_pid, 4)
        return self._tasks.tid(self.b.let(self._raw.next))

    def next_tgid(self) -> Expr:
        """Its thread group; the tracepoint does not tell it: 0."""
        if self.hook is Hook.TRACEPOINT:
            return Const(0)
        return self._tasks.tgid(self.b.let(self._raw.next))

    def preempted(self) -> Expr:
        """Non-zero when the leaving thread was preempted (raw hooks only)."""
        preempt: Expr = self._raw.preempt
        return preempt & 0xFF

    def state(self) -> Value:
        """The leaving thread's task state bits as this kernel encodes them for this hook."""
        config = self.g.config
        if self.hook is Hook.TRACEPOINT:
            return self.b.load(self.b.context, config.fields.switch_prev_state, 8)
        if config.state_argument:
            return self.b.let(self._raw.state & 0xFFFFFFFF)
        layout = config.layout
        prev = self.b.let(self._raw.prev)
        return self._tasks.word(prev, layout.task_state, layout.task_state_size)


def waiting_of(g: Ground, task: Value) -> Expr:
    """How long a task has been queued, in ns; 0 when it is not.

    sched_info.last_queued is the run queue's clock when the task was queued; it is cleared, and
    the wait added to sched_info.run_delay, as the task gets the CPU, right after sched_switch, and
    when it moves to another queue (kernel/sched/stats.h).
    """
    b, layout = g.b, g.config.layout
    waiting = b.let(0)
    with b.block():
        queued = b.load(task, layout.last_queued, 8)
        with b.if_(queued != 0):
            queue = b.load(b.load(task, layout.task_cfs_rq, 8), layout.cfs_rq_rq, 8)
            clock = b.load(queue, layout.rq_clock, 8)
            with b.if_(clock > queued):
                b.set(waiting, clock - queued)
    return waiting


class EventTask:
    """The one task that sched_wakeup and the like are about; ``argument`` of the raw event."""

    def __init__(self, ground: Ground, tracepoint_pid: int, argument: int = 0) -> None:
        self.b, self._offset, self._argument = ground.b, tracepoint_pid, argument
        self._traced = ground.config.hook is Hook.TRACEPOINT
        self._tasks = TaskReader(ground)

    def tid(self) -> Expr:
        """Its number; reads where it is called."""
        if self._traced:
            return self.b.load(self.b.context, self._offset, 4)
        return self._tasks.tid(self._task())

    def tgid(self) -> Expr:
        """Its thread group; tracepoints do not tell it: 0."""
        return Const(0) if self._traced else self._tasks.tgid(self._task())

    def _task(self) -> Value:
        return self.b.load(self.b.context, 8 * self._argument, 8)
