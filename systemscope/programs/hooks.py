"""The same scheduler events, however a program hangs on them.

tp_btf programs get typed kernel pointers and load from them; raw tracepoints get the same
pointers untyped and must copy; tracepoint programs get a record whose offsets tracefs tells.
Arguments: ``include/trace/events/sched.h``. sched_switch's prev_state argument is the fourth since
5.18 (fa2c3254d7cf, moved last by 9c2136be0878).
"""

from __future__ import annotations

from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.records import Record, u32
from systemscope.bpfasm.types import AttachType, ProgramType
from systemscope.bpfasm.values import Const, Expr, Value
from systemscope.programs.common import Ground
from systemscope.programs.config import Hook


class IdPair(Record):
    """pid and tgid of a task, as they lie in task_struct."""

    pid: u32
    tgid: u32


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

    def ids(self, task: Expr) -> tuple[Expr, Expr]:
        """(tid, tgid)."""
        layout = self.g.config.layout
        if self.g.config.hook is Hook.TP_BTF:
            tid = self.b.load(task, layout.task_pid, 4)
            return tid, self.b.load(task, layout.task_tgid, 4)
        pair = self.b.stack(IdPair)
        self.read(self.b.address(pair), 8, task, layout.task_pid)
        return self.b.let(pair.pid), self.b.let(pair.tgid)

    def word(self, task: Expr, offset: int, size: int) -> Value:
        """``size`` bytes (4 or 8) at ``offset``."""
        if self.g.config.hook is Hook.TP_BTF:
            return self.b.load(task, offset, size)
        pair = self.b.stack(IdPair)
        self.read(self.b.address(pair), size, task, offset)
        return self.b.let(pair.pid) if size == 4 else self.b.load(self.b.address(pair), 0, 8)

    def read(self, to: Expr, size: int, base: Expr, offset: int) -> None:
        """Copy kernel memory to the stack."""
        modern = self.g.config.probe_read_kernel
        helper = Helper.probe_read_kernel if modern else Helper.probe_read
        self.b.do(helper, to, size, base + offset)


class SwitchArguments:
    """Arguments of sched_switch. ``current`` is the thread that leaves."""

    def __init__(self, ground: Ground) -> None:
        self.g, self.b = ground, ground.b
        self._tasks = TaskReader(ground)
        b, context = self.b, ground.b.context
        self.hook = ground.config.hook
        if self.hook is Hook.TRACEPOINT:
            self.prev_tid: Expr = b.load(context, ground.config.fields.switch_prev_pid, 4)
            self._next: Value | None = None
        else:
            self._prev = b.load(context, 8, 8)
            if self.hook is Hook.TP_BTF:
                self.prev_tid = b.load(self._prev, ground.config.layout.task_pid, 4)
            else:
                self.prev_tid = b.let(b.call(Helper.get_current_pid_tgid) & 0xFFFFFFFF)

    def prev_tgid(self) -> Expr:
        """Thread group of the leaving thread."""
        return self.b.call(Helper.get_current_pid_tgid) >> 32

    def next_ids(self) -> tuple[Expr, Expr]:
        """(tid, tgid) of the coming thread; the tracepoint does not tell the tgid: 0."""
        if self.hook is Hook.TRACEPOINT:
            offset = self.g.config.fields.switch_next_pid
            return self.b.load(self.b.context, offset, 4), Const(0)
        return self._tasks.ids(self.b.load(self.b.context, 16, 8))

    def preempted(self) -> Expr:
        """Non-zero when the leaving thread was preempted (raw hooks only)."""
        return self.b.load(self.b.context, 0, 8) & 0xFF

    def state(self) -> Value:
        """The leaving thread's task state bits as this kernel encodes them for this hook."""
        config = self.g.config
        if self.hook is Hook.TRACEPOINT:
            return self.b.load(self.b.context, config.fields.switch_prev_state, 8)
        if config.state_argument:
            return self.b.let(self.b.load(self.b.context, 24, 8) & 0xFFFFFFFF)
        layout = config.layout
        return self._tasks.word(self._prev, layout.task_state, layout.task_state_size)


class EventTask:
    """The one task that sched_wakeup and the like are about."""

    def __init__(self, ground: Ground, tracepoint_pid: int, argument: int = 0) -> None:
        b = ground.b
        self.tgid: Expr = Const(0)
        if ground.config.hook is Hook.TRACEPOINT:
            self.tid: Expr = b.load(b.context, tracepoint_pid, 4)
        else:
            task = b.load(b.context, 8 * argument, 8)
            self.tid, self.tgid = TaskReader(ground).ids(task)
