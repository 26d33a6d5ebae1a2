"""sched_wakeup: a blocked thread becomes runnable."""

from __future__ import annotations

from systemscope.bpfasm.types import ProgramSpec
from systemscope.bpfasm.values import Any_
from systemscope.model.states import State
from systemscope.programs.common import Ground
from systemscope.programs.config import Hook, ProgramConfig
from systemscope.programs.hooks import EventTask, attach_type, program_type
from systemscope.programs.maps import ProfilerMaps
from systemscope.programs.records import ThreadFlag
from systemscope.programs.threads import since_of


def sched_wakeup(config: ProgramConfig, maps: ProfilerMaps) -> ProgramSpec:
    """The program on sched_wakeup.

    The event also comes for threads that had not left their CPU yet: those stay running.
    """
    g = Ground("sched_wakeup", program_type(config.hook), config, maps)
    b = g.b
    now, start = g.now_in_window()
    task = EventTask(g, config.fields.wakeup_pid)
    record = g.thread_of(task.tid)
    with b.if_(b.not_null(record)), b.if_((record.flags & int(ThreadFlag.TRACKED)) != 0):
        if config.hook is not Hook.TRACEPOINT:
            with b.if_(record.tgid == 0):
                record.tgid = task.tgid()
        state = b.let(record.state)
        with b.if_(state == int(State.RUNNING)):
            _leave_if_running(g, always=True)
            # Its leaving was missed: nothing says how the stretch was spent.
            b.add(record.time[int(State.UNKNOWN)], g.elapsed(now, since_of(g, record, start)))
            g.count("missed_switches")
            record.state = int(State.RUNNABLE)
            record.last_ns = now
            b.exit(0)
        with b.if_(Any_(state == int(State.UNKNOWN), state > int(State.RUNNABLE))):
            with b.if_(state == int(State.UNKNOWN)):
                _leave_if_running(g)
                # Blocked since before the window: user space knows how from the seed.
                b.set(state, int(State.BLOCKED))
            delta = g.elapsed(now, since_of(g, record, start))
            b.add(record.time[state], delta)
            b.add(record.waits[state], 1)
            record.blocked_ns = record.blocked_ns + delta
            record.blocked_state = state
            record.state = int(State.RUNNABLE)
            record.last_ns = now
    b.exit(0)
    return b.build("sched_wakeup", attach_type(config.hook))


def _leave_if_running(g: Ground, always: bool = False) -> None:
    """A wake-up of a thread that is on a CPU changes nothing. The task itself tells, to typed
    programs; the others leave if ``always``."""
    b, layout = g.b, g.config.layout
    if g.config.hook is not Hook.TP_BTF or layout.task_on_cpu < 0:
        if always:
            b.exit(0)
        return
    with b.block():
        task = b.load(b.context, 0, 8)
        with b.if_(b.load(task, layout.task_on_cpu, layout.task_on_cpu_size) != 0):
            b.exit(0)
