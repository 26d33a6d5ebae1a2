"""The on-CPU sampler: one more sample for the stack each tick of a perf event finds.

On bare metal the cycles event interrupts anything, in NMI context, our own programs in the middle
of an update too. What that allows:

- lookups: they walk RCU lists and never wait;
- updates of preallocated hash maps: their free lists are tried, not waited for (86f44fcec22c), and
  a bucket this CPU holds is refused since 5.11 (20b6cc34ea74), which is counted. Before that only
  programs that the kernel keeps apart by itself may share a map with an NMI: ``plan`` takes the
  cpu-clock timer else;
- additions to counters and charges, which are atomic;
- no scratch but the sampler's own: another program's walk may be half done;
- no word of a thread's record is written: sched_switch may have it half written.

The cpu-clock timer is an ordinary interrupt: sched_switch runs with interrupts off, so a record is
whole here, and the thread on the CPU is known to run.
"""

from __future__ import annotations

from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.types import ProgramSpec, ProgramType
from systemscope.bpfasm.values import All, Expr, Pointer, Value
from systemscope.model.states import State
from systemscope.model.timeline import EventKind
from systemscope.programs.common import Ground
from systemscope.programs.config import ProgramConfig, Ring
from systemscope.programs.maps import ProfilerMaps
from systemscope.programs.records import Control, Stats, ThreadFlag
from systemscope.programs.stacks import StackWalker
from systemscope.programs.timeline import emit
from systemscope.programs.unwind_chain import Chain, ChainStart, Like


def oncpu_sampler(config: ProgramConfig, maps: ProfilerMaps) -> ProgramSpec:
    """The program on the sampling event, one event a CPU."""
    g = Ground("oncpu_sampler", ProgramType.PERF_EVENT, config, maps)
    b = g.b
    control = b.value_of(maps.control, Control)
    with b.if_(control.span == 0):
        b.exit(0)
    now = b.call(Helper.ktime_get_ns)
    with b.if_(now - control.start >= control.span):
        b.exit(0)
    ids = b.call(Helper.get_current_pid_tgid)
    with b.if_(ids == 0):
        g.count("idle_samples")
        b.exit(0)
    generation = b.let(0, spill=True)
    with b.block():
        _check_target(g, ids, generation, now)
    with b.block():
        stats = b.lookup_index(maps.stats, 0, Stats)
        with b.if_(b.not_null(stats)):
            b.atomic_add(stats.samples, 1)
            with b.if_(stats.first_event_ns == 0):
                stats.first_event_ns = now
    key = g.count_key(ids & 0xFFFFFFFF, generation, int(State.RUNNING))
    walker = StackWalker(g, maps.sampler_stack)
    with b.block():
        key.kernel = walker.kernel(b.context)
    if config.chained:
        with b.block():
            _user_by_chain(g, key, walker)
    else:
        with b.block():
            key.user = walker.user(b.context)
    _finish(g, key)
    b.exit(0)
    return b.build()


def sampler_chain(config: ProgramConfig, maps: ProfilerMaps) -> tuple[ProgramSpec, ...]:
    """The programs that unwind for the sampler, where it cannot itself."""

    def finish(g: Ground, state: Pointer, user: Value) -> None:
        key = g.count_key(state.tid, state.generation, int(State.RUNNING))
        key.kernel = state.kernel
        key.user = user
        _finish(g, key)

    like = Like(ProgramType.PERF_EVENT)
    return Chain("oncpu", config, maps, maps.sampler_chain, like).programs(finish)


def _user_by_chain(g: Ground, key: Pointer, walker: StackWalker) -> None:
    def remember(state: Pointer) -> None:
        state.tid = key.tid
        state.generation = key.generation
        state.kernel = key.kernel

    start = ChainStart(g, g.maps.sampler_chain)
    start.start(remember)
    key.user = start.instead(lambda: walker.user(g.b.context))


def _finish(g: Ground, key: Pointer) -> None:
    g.charge(key, 0)
    if g.config.ring is not Ring.NONE:
        stacks = (key.kernel, key.user)
        end = g.b.call(Helper.ktime_get_ns)
        emit(g, EventKind.SAMPLE, key.tid, end, stacks=stacks)


def _check_target(g: Ground, ids: Expr, generation: Value, now: Value) -> None:
    """Leave the program unless the thread is to be sampled; find its generation."""
    b = g.b
    record = g.thread(ids & 0xFFFFFFFF)
    with b.if_(b.is_null(record)):
        if not g.config.every_thread:
            b.exit(0)
    with b.else_():
        wanted = int(ThreadFlag.TRACKED)
        if g.config.every_thread:
            with b.if_((record.flags & int(ThreadFlag.EXCLUDED)) != 0):
                b.exit(0)
        else:
            with b.if_((record.flags & wanted) == 0):
                b.exit(0)
        b.set(generation, record.generation)
        if not g.config.nmi_sampler:
            _repair_missed_coming(g, record, now)


def _repair_missed_coming(g: Ground, record: Pointer, now: Value) -> None:
    """This thread runs. A record that says otherwise missed its coming: the time since is of no
    known state, from here on it runs. (Tracepoint programs do not run while a map is read on their
    CPU; the walker behind sched_switch repairs this too, but is not everywhere.)"""
    b = g.b
    wrong = All(record.state > int(State.RUNNING), record.last_ns != 0)
    tracked = (record.flags & int(ThreadFlag.TRACKED)) != 0
    with b.if_(tracked), b.if_(wrong):
        b.add(record.time[int(State.UNKNOWN)], g.elapsed(now, record.last_ns))
        record.flags = record.flags & ~int(ThreadFlag.NEW) & 0xFFFFFFFF
        record.state = int(State.RUNNING)
        record.last_ns = now
        g.count("missed_switches")
