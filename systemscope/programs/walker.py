"""The deferred walk: the thread just switched in, whose wait is known by now, shows its stack.

``sched_exit_tp`` fires at the end of ``__schedule()`` with current the thread that came. Elsewhere
a kprobe on ``finish_task_switch`` runs in the same place (new threads pass it too).
"""

from __future__ import annotations

from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.types import ProgramSpec, ProgramType
from systemscope.bpfasm.values import All, Pointer, Value
from systemscope.model.states import State
from systemscope.model.timeline import EventKind
from systemscope.programs.common import Ground
from systemscope.programs.config import ProgramConfig, Ring, Walk
from systemscope.programs.hooks import attach_type, program_type
from systemscope.programs.maps import ProfilerMaps
from systemscope.programs.records import Pending
from systemscope.programs.stacks import StackWalker, tracing_frames
from systemscope.programs.switch import thread_comes
from systemscope.programs.timeline import emit
from systemscope.programs.unwind_chain import Chain, ChainStart, Like


def wait_walker(config: ProgramConfig, maps: ProfilerMaps) -> ProgramSpec:
    """The program on sched_exit_tp or finish_task_switch."""
    by_kprobe = config.walk is Walk.KPROBE
    like = _like(config)
    g = Ground("wait_walker", like.type, config, maps)
    b = g.b
    g.clear_stack()
    if not by_kprobe:
        with b.if_((b.load(b.context, 0, 8) & 0xFF) == 0):  # is_switch
            b.exit(0)
    ids = b.call(Helper.get_current_pid_tgid)
    with b.block():
        _repair_missed_coming(g, ids)
    g.meet()
    pending = b.lookup_index(maps.pending, 0, Pending)
    with b.if_(b.is_null(pending)):
        b.exit(0)
    with b.if_(pending.active == 0):
        b.exit(0)
    pending.active = 0
    with b.if_((ids & 0xFFFFFFFF) != pending.tid):
        g.count("walks_failed")
        b.exit(0)
    skip = 0 if by_kprobe else tracing_frames(config.hook)
    walker = StackWalker(g, maps.walker_stack, skip)
    key = g.count_key(pending.tid, pending.generation, int(State.RUNNABLE))
    with b.block():
        key.kernel = walker.kernel(b.context)
    if config.chained:
        with b.block():
            _user_by_chain(g, key, walker)
    else:
        with b.block():
            key.user = walker.user(b.context)
    _finish(g, key, pending)
    b.exit(0)
    return b.build(like.attach_to, like.attach_type)


def wait_chain(config: ProgramConfig, maps: ProfilerMaps) -> tuple[ProgramSpec, ...]:
    """The programs that unwind for the walker, where it cannot itself. What waits for the stack
    is still pending: no thread leaves this CPU meanwhile."""

    def finish(g: Ground, state: Pointer, user: Value) -> None:
        b = g.b
        pending = b.lookup_index(maps.pending, 0, Pending)
        with b.if_(b.not_null(pending)):
            key = g.count_key(pending.tid, pending.generation, int(State.RUNNABLE))
            key.kernel = state.kernel
            key.user = user
            _finish(g, key, pending)

    return Chain("wait", config, maps, maps.walker_chain, _like(config)).programs(finish)


def _like(config: ProgramConfig) -> Like:
    if config.walk is Walk.KPROBE:
        return Like(ProgramType.KPROBE)
    return Like(program_type(config.hook), "sched_exit_tp", attach_type(config.hook))


def _user_by_chain(g: Ground, key: Pointer, walker: StackWalker) -> None:
    def remember(state: Pointer) -> None:
        state.kernel = key.kernel

    start = ChainStart(g, g.maps.walker_chain)
    start.start(remember)
    key.user = start.instead(lambda: walker.user(g.b.context))


def _finish(g: Ground, key: Pointer, pending: Pointer) -> None:
    """Charge what waited for the stacks in ``key``."""
    b = g.b
    g.count("walks")
    with b.if_(All(key.kernel == 0, key.user == 0)):
        g.count("walks_failed")
    if g.config.ring is not Ring.NONE:
        stacks = (key.kernel, key.user)
        emit(g, EventKind.STACK, pending.tid, pending.end_ns, stacks=stacks)
    with b.if_(pending.runnable_ns != 0):
        g.charge(key, pending.runnable_ns)
    with b.if_(pending.blocked_ns != 0):
        key.state = pending.blocked_state
        g.charge(key, pending.blocked_ns)


def _repair_missed_coming(g: Ground, ids: Value) -> None:
    """Whoever is here runs: a record that says otherwise missed its sched_switch (the kernel drops
    programs that recur, and some keep them from running on behalf of protected processes)."""
    b = g.b
    record = g.thread(ids & 0xFFFFFFFF)
    with b.if_(b.not_null(record)), b.if_(record.state > int(State.RUNNING)):
        now, start = g.now_in_window()
        thread_comes(g, record, now, start)
        g.count("missed_switches")
