"""Threads begin, change their image, and end: sched_process_fork, _exec and _exit."""

from __future__ import annotations

from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.types import ProgramSpec
from systemscope.bpfasm.values import All, Expr, Pointer, Value
from systemscope.model.states import State
from systemscope.model.timeline import EventKind
from systemscope.programs.common import GENERATION_SHIFT, Ground
from systemscope.programs.config import Hook, ProgramConfig, Storage
from systemscope.programs.hooks import EventTask, attach_type, program_type
from systemscope.programs.maps import ProfilerMaps
from systemscope.programs.records import (
    CommWords,
    Control,
    ThreadFlag,
    ThreadRecord,
    ThreadWords,
)
from systemscope.programs.threads import since_of
from systemscope.programs.timeline import emit
from systemscope.programs.unwinder import forget_space, inherit_space


def sched_process_fork(config: ProgramConfig, maps: ProfilerMaps) -> ProgramSpec:
    """A new thread inherits whether it is tracked from the one that made it.

    Works before the window opens too, so that no child is missed between the listing of the
    targets' threads and the start.
    """
    g = Ground("sched_fork", program_type(config.hook), config, maps)
    b = g.b
    control = b.value_of(maps.control, Control)
    now = b.call(Helper.ktime_get_ns)
    parent = EventTask(g, config.fields.fork_parent_pid, 0)
    flags = b.let(int(ThreadFlag.TRACKED) if config.every_thread else 0)
    with b.block():
        record = g.thread(parent.tid())
        with b.if_(b.not_null(record)), b.if_(record.flags != 0):
            b.set(flags, record.flags & int(ThreadFlag.TRACKED | ThreadFlag.EXCLUDED))
    with b.if_(flags != 0):
        b.set(flags, flags | int(ThreadFlag.NEW))
        child = EventTask(g, config.fields.fork_child_pid, 1)
        tid, tgid = b.let(child.tid()), b.let(child.tgid())
        born = b.let(now)
        with b.if_(now - control.start >= control.span):
            b.set(born, 0)
        _begin(g, tid, tgid, flags, born)
        if config.unwind is not None and config.hook is not Hook.TRACEPOINT:
            with b.if_(tid == tgid):
                inherit_space(g, tid)
    b.exit(0)
    return b.build("sched_process_fork", attach_type(config.hook))


def _begin(g: Ground, tid: Value, tgid: Expr, flags: Value, born: Value) -> None:
    b = g.b

    def fill(record: Pointer) -> None:
        record.tid = tid
        record.tgid = tgid
        record.flags = flags
        record.last_ns = born
        record.born_ns = born
        record.generation = born >> GENERATION_SHIFT
        with b.if_(born != 0):
            record.state = int(State.RUNNABLE)

    if g.config.storage is Storage.ARRAY:
        record = g.thread(tid)
        with b.if_(b.not_null(record)):
            with b.if_(All(record.tid != 0, record.last_ns != 0)):
                # The end of the tid's last owner was missed.
                g.retire(record, born)
            with b.if_(record.tid != 0):
                g.clear(record)
            fill(record)
    else:
        with b.block():
            g.drop_left_behind(tid, born)
        blank = b.stack(ThreadRecord)
        fill(blank)
        g.insert_thread(tid, blank)


def sched_process_exit(config: ProgramConfig, maps: ProfilerMaps) -> ProgramSpec:
    """The current thread begins to exit: keep its name, expect its last switch."""
    g = Ground("sched_exit", program_type(config.hook), config, maps)
    b = g.b
    tid = b.call(Helper.get_current_pid_tgid)
    record = g.thread(tid & 0xFFFFFFFF)
    with b.if_(b.not_null(record)), b.if_((record.flags & int(ThreadFlag.TRACKED)) != 0):
        record.flags = record.flags | int(ThreadFlag.EXITING)
        with b.if_(record.tgid == 0):
            record.tgid = tid >> 32
        _keep_comm(g, record)
    b.exit(0)
    return b.build("sched_process_exit", attach_type(config.hook))


def _keep_comm(g: Ground, record: Pointer) -> None:
    b = g.b
    if g.config.value_arguments:
        b.do(Helper.get_current_comm, b.address(record, "comm"), 16)
        return
    words = b.stack(CommWords)
    b.do(Helper.get_current_comm, b.address(words), 16)
    view, at = b.cast(b.address(record), ThreadWords), ThreadRecord.fields["comm"].offset // 8
    view.words[at] = words.low
    view.words[at + 1] = words.high


def sched_process_exec(config: ProgramConfig, maps: ProfilerMaps) -> ProgramSpec:
    """From here on the current thread's user addresses mean the new image's.

    A thread other than the leader that calls exec takes over the leader's tid: its old record
    ends, the leader's (whose owner has exited) begins anew.
    """
    g = Ground("sched_exec", program_type(config.hook), config, maps)
    b = g.b
    if config.unwind is not None:
        forget_space(g)
    now, start = g.now_in_window()
    current = b.call(Helper.get_current_pid_tgid)
    tid = b.let(current & 0xFFFFFFFF)
    if config.hook is Hook.TRACEPOINT:
        old = b.load(b.context, config.fields.exec_old_pid, 4)
    else:
        old = b.let(b.load(b.context, 8, 8) & 0xFFFFFFFF)
    with b.if_(old != tid):
        _take_over(g, old, tid, current >> 32, now, start)
    record = g.thread(tid)
    with b.if_(b.not_null(record)), b.if_((record.flags & int(ThreadFlag.TRACKED)) != 0):
        record.generation = now >> GENERATION_SHIFT
    b.exit(0)
    return b.build("sched_process_exec", attach_type(config.hook))


def _take_over(g: Ground, old: Value, tid: Value, tgid: Expr, now: Value, start: Value) -> None:
    b = g.b
    record = g.thread(old)
    with b.if_(b.not_null(record)), b.if_((record.flags & int(ThreadFlag.TRACKED)) != 0):
        with b.block():
            since = since_of(g, record, start)
            if g.config.every_thread:
                _move_early(g, record, tid, since)
            ran = b.let(g.elapsed(now, since))
            b.add(record.time[int(State.RUNNING)], ran)
            emit(g, EventKind.RUN, record.tid, now, now - ran, state=int(State.DEAD))
        record.last_ns = now
        _keep_comm(g, record)
        flags = b.let(int(ThreadFlag.TRACKED), spill=True)
        group = b.let(tgid, spill=True)
        g.retire(record, now)
        _begin(g, tid, group, flags, now)
        fresh = g.thread(tid)
        with b.if_(b.not_null(fresh)):
            fresh.state = int(State.RUNNING)


def _move_early(g: Ground, record: Pointer, tid: Value, since: Value) -> None:
    """Before the event the thread switches under its new tid already: what it waited then lies in a
    record made for that, which holds the window's start for its beginning. Its waits move to the
    thread's own record, the rest goes."""
    b = g.b
    early = g.thread(tid)
    with b.if_(b.not_null(early)), b.if_((early.flags & int(ThreadFlag.EXITING)) == 0):
        waited = b.let(0)
        for state in range(int(State.RUNNABLE), int(State.DEAD)):
            b.add(record.time[state], early.time[state])
            b.set(waited, waited + early.time[state])
        b.set(since, since + waited)
        g.discard(early, tid)
