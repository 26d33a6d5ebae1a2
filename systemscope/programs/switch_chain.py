"""The user stack of the thread that leaves the CPU, by a chain of programs behind sched_switch.

The thread is still on its CPU and stays there until the chain has ended: nobody else writes to its
record meanwhile what is written here.
"""

from __future__ import annotations

from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.types import ProgramSpec
from systemscope.bpfasm.values import Expr, Pointer, Value
from systemscope.programs.common import Ground
from systemscope.programs.config import ProgramConfig
from systemscope.programs.hooks import attach_type, program_type
from systemscope.programs.maps import ProfilerMaps
from systemscope.programs.stacks import StackWalker
from systemscope.programs.unwind_chain import Chain, ChainStart, Like


def walk_leaver(g: Ground, leaver: Value, now: Value) -> None:
    """Take the user stack of the thread ``leaver`` that leaves at ``now``; the last of all."""

    def remember(state: Pointer) -> None:
        state.tid = leaver
        state.began = now

    start = ChainStart(g, g.maps.walker_chain)
    start.start(remember)
    walker = StackWalker(g, g.maps.walker_stack)
    user = start.instead(lambda: walker.user(g.b.context))
    _keep(g, leaver, user, now)


def switch_chain(config: ProgramConfig, maps: ProfilerMaps) -> tuple[ProgramSpec, ...]:
    """The programs that unwind behind sched_switch."""

    def finish(g: Ground, state: Pointer, user: Value) -> None:
        _keep(g, state.tid, user, state.began)

    like = Like(program_type(config.hook), "sched_switch", attach_type(config.hook))
    return Chain("switch", config, maps, maps.walker_chain, like).programs(finish)


def _keep(g: Ground, tid: Expr, user: Expr, began: Expr) -> None:
    b = g.b
    record = g.thread(tid)
    with b.if_(b.not_null(record)):
        record.user_stack = user
        record.walk_ns = b.call(Helper.ktime_get_ns) - began
