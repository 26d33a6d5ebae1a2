"""sched_switch: the state machine. One thread leaves the CPU, another comes.

For every thread the record holds when its present state began; each event adds the time since to
that state's total. So running + runnable + blocked equals elapsed time by construction.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Optional

from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.types import ProgramSpec
from systemscope.bpfasm.values import All, Any_, Condition, Not, Pointer, Value
from systemscope.model.states import State
from systemscope.model.timeline import EventKind
from systemscope.programs.common import Ground
from systemscope.programs.config import Hook, ProgramConfig, Ring, Walk
from systemscope.programs.hooks import SwitchArguments, attach_type, program_type
from systemscope.programs.maps import ProfilerMaps
from systemscope.programs.records import (
    CLASS_BOUNDS,
    CLASS_SHIFT,
    ELSEWHERE,
    CountFlag,
    Pending,
    ThreadFlag,
)
from systemscope.programs.short_waits import add_short
from systemscope.programs.stacks import StackWalker, tracing_frames
from systemscope.programs.states import classify
from systemscope.programs.switch_chain import walk_leaver
from systemscope.programs.threads import since_of
from systemscope.programs.timeline import clear_marks, emit

WALK_INTERVAL_LOW_NS = 250_000  # switch-out walks of one thread come no closer on average
WALK_INTERVAL_HIGH_NS = 1_000_000
STRIDE_MAX = 4096


def sched_switch(config: ProgramConfig, maps: ProfilerMaps) -> ProgramSpec:
    """The program on sched_switch."""
    g = Ground("sched_switch", program_type(config.hook), config, maps)
    b = g.b
    g.clear_stack()
    now, start = g.now_in_window()
    clear_marks(g)
    arguments = SwitchArguments(g)
    chained = config.chained and config.walk is Walk.SWITCH_OUT
    leaver = b.let(0, spill=True) if chained else None
    with b.block():
        _leave(g, arguments, now, start, leaver)
    g.meet()
    with b.block():
        _come(g, arguments, now, start)
    if leaver is not None:
        g.meet()
        with b.if_(leaver != 0):
            walk_leaver(g, leaver, now)
    b.exit(0)
    return b.build("sched_switch", attach_type(config.hook))


def _leave(
    g: Ground, arguments: SwitchArguments, now: Value, start: Value, leaver: Optional[Value]
) -> None:
    b = g.b
    record = g.thread_of(arguments.prev_tid)
    with b.if_(b.not_null(record)), b.if_((record.flags & int(ThreadFlag.TRACKED)) != 0):
        with b.if_(record.tgid == 0):
            record.tgid = arguments.prev_tgid()
        began = b.let(0, spill=True) if g.config.ring is not Ring.NONE else None
        with b.block():
            delta = g.elapsed(now, since_of(g, record, start))
            with b.if_(All(record.state > int(State.RUNNING), record.last_ns != 0)):
                # Its coming was missed: nothing says how the stretch was spent. (Before the first
                # event the state is the seed's, which may be older than the window.)
                b.add(record.time[int(State.UNKNOWN)], delta)
                g.count("missed_switches")
            with b.else_():
                _add_running(g, record, delta, began, now)
        if not g.config.wakeups:
            with b.block():
                record.run_delay = arguments.prev_run_delay()
        record.last_ns = now
        record.flags = record.flags & ~int(ThreadFlag.NEW) & 0xFFFFFFFF
        record.blocked_ns = 0
        record.switches = record.switches + 1
        state = classify(g, arguments, record)
        record.state = state
        if began is not None:
            with b.if_(began != 0):
                emit(g, EventKind.RUN, record.tid, now, began, state=state)
        with b.if_(state == int(State.DEAD)):
            g.retire(record, now)
        if g.config.walk is Walk.SWITCH_OUT:
            with b.if_(state != int(State.DEAD)):
                _walk_now_and_then(g, record, now, leaver)


def _add_running(
    g: Ground, record: Pointer, delta: Value, began: Optional[Value], now: Value
) -> None:
    """Count the run that ends; ``began`` becomes its beginning, for the timeline."""
    b = g.b

    def add() -> None:
        b.add(record.time[int(State.RUNNING)], delta)
        if began is not None:
            b.set(began, now - delta)

    if not g.config.cpu_ranges:
        add()
        return
    with b.if_(_cpu_is_chosen(g)):
        add()
    with b.else_():
        b.add(record.time[ELSEWHERE], delta)


def _walk_now_and_then(g: Ground, record: Pointer, now: Value, leaver: Optional[Value]) -> None:
    """Walk one wait in ``stride`` (a power of two) and steer the stride to a bounded number of
    walks a second.

    Each wait is chosen by a throw of its own. Its weight, the inverse of its chance, is fixed
    before the throw: so the expected charge of every single wait is its length, however the stride
    follows what came before. (Counted gaps between walks would not do: once the stride depends on
    the pattern of the waits, so does the chance of the wait right after a walk.)

    A chain that unwinds ends the program: then ``leaver`` becomes the thread, whose user stack is
    taken once everything else is done.
    """
    b = g.b
    record.weight = 0
    with b.if_(record.stride == 0):
        record.stride = 1
    chosen = b.let(0)
    with b.if_(record.stride > 1):
        b.set(chosen, b.call(Helper.get_prandom_u32) & (record.stride - 1))
    with b.if_(chosen == 0):
        record.weight = record.stride
        with b.block():
            pause = b.let(now - record.walked_ns)
            with b.if_(All(pause < WALK_INTERVAL_LOW_NS, record.stride < STRIDE_MAX)):
                record.stride = record.stride * 2
            with b.if_(All(pause > WALK_INTERVAL_HIGH_NS, record.stride > 1)):
                record.stride = record.stride >> 1
            record.walked_ns = now
        walker = StackWalker(g, g.maps.walker_stack, tracing_frames(g.config.hook))
        with b.block():
            record.kernel_stack = walker.kernel(b.context)
        if leaver is not None:
            record.user_stack = 0
            b.set(leaver, record.tid)
        else:
            with b.block():
                record.user_stack = walker.user(b.context)
        record.walk_ns = b.call(Helper.ktime_get_ns) - now
        g.count("walks")


def _come(g: Ground, arguments: SwitchArguments, now: Value, start: Value) -> None:
    b = g.b
    record = g.thread_of(arguments.next_tid)
    with b.if_(b.not_null(record)), b.if_((record.flags & int(ThreadFlag.TRACKED)) != 0):
        if g.config.hook is not Hook.TRACEPOINT:
            with b.if_(record.tgid == 0):
                record.tgid = arguments.next_tgid()
        if not g.config.wakeups:
            _split_by_scheduler(g, arguments, record, now, start)
        thread_comes(g, record, now, start)


def _split_by_scheduler(
    g: Ground, arguments: SwitchArguments, record: Pointer, now: Value, start: Value
) -> None:
    """Where wake-ups are not followed: the blocked part of the wait ends where the scheduler's own
    sum of the time queued says that the thread became runnable. One program less runs at every
    switch, and all that is left is the wait for the CPU."""
    b = g.b
    with b.if_(record.state > int(State.RUNNABLE)):
        since = b.let(since_of(g, record, start), spill=True)
        queued = b.let(arguments.next_waiting(), spill=True)
        with b.if_(record.last_ns != 0):
            # What it waited on other queues before it was moved is in the sum.
            b.set(queued, queued + arguments.next_run_delay() - record.run_delay)
        blocked = b.let(g.elapsed(now, since))
        with b.if_(queued > blocked):
            b.set(queued, blocked)
        b.set(blocked, blocked - queued)
        state = b.let(record.state)
        b.add(record.time[state], blocked)
        b.add(record.waits[state], 1)
        record.blocked_ns = blocked
        record.blocked_state = state
        record.state = int(State.RUNNABLE)
        record.last_ns = since + blocked


def thread_comes(g: Ground, record: Pointer, now: Value, start: Value) -> None:
    """The thread of ``record`` runs from ``now`` on: end its wait and charge it."""
    runnable = _end_wait(g, record, now, start)
    record.last_ns = now
    record.state = int(State.RUNNING)
    _charge_wait(g, record, now, runnable)


def _end_wait(g: Ground, record: Pointer, now: Value, start: Value) -> Value:
    """Add the last stretch of the wait to its state; the result is its runnable part."""
    b = g.b
    delta = g.elapsed(now, since_of(g, record, start))
    state, runnable = b.let(record.state, spill=g.forgetful), b.let(0, spill=g.forgetful)
    with b.if_(Any_(state == int(State.UNKNOWN), record.last_ns == 0)):
        # No wake-up was seen: it has waited for a CPU since the window began.
        b.set(state, int(State.RUNNABLE))
    with b.if_(state == int(State.RUNNABLE)):
        b.set(runnable, delta)
    with b.else_():
        with b.if_(state == int(State.RUNNING)):
            # Its leaving was missed: nothing says how the stretch was spent.
            b.set(state, int(State.UNKNOWN))
            record.blocked_ns = 0
            g.count("missed_switches")
        with b.else_():
            # Its wake-up was missed: all of the stretch counts as blocked.
            record.blocked_ns = record.blocked_ns + delta
            record.blocked_state = state
    b.add(record.time[state], delta)
    b.add(record.waits[state], 1)
    if g.config.ring is not Ring.NONE:
        with b.if_(state != int(State.UNKNOWN)):
            _tell_wait(g, record, now, runnable)
    return runnable


def _tell_wait(g: Ground, record: Pointer, now: Value, runnable: Value) -> None:
    b = g.b
    middle = b.let(now - runnable, spill=True)
    begin = middle - record.blocked_ns
    stacks = None
    if g.config.walk is Walk.SWITCH_OUT:
        kernel, user = b.let(0, spill=True), b.let(0, spill=True)
        with b.if_(record.weight != 0):
            b.set(kernel, record.kernel_stack)
            b.set(user, record.user_stack)
        stacks = (kernel, user)
    with b.if_(_cpu_is_chosen(g)) if g.config.cpu_ranges else nullcontext():
        emit(g, EventKind.WAIT, record.tid, now, begin, middle, record.blocked_state, stacks)


def _charge_wait(g: Ground, record: Pointer, now: Value, runnable: Value) -> None:
    b, config = g.b, g.config
    if config.cpu_ranges:
        with b.if_(Not(_cpu_is_chosen(g))):
            _move_elsewhere(g, record, runnable)
        with b.else_():
            _charge_chosen(g, record, now, runnable)
    else:
        _charge_chosen(g, record, now, runnable)


def _charge_chosen(g: Ground, record: Pointer, now: Value, runnable: Value) -> None:
    b, config = g.b, g.config
    if not config.offcpu or config.walk is Walk.NONE:
        return
    with b.if_(All((record.flags & int(ThreadFlag.NEW)) != 0, record.blocked_ns == 0)):
        record.flags = record.flags & ~int(ThreadFlag.NEW) & 0xFFFFFFFF
        with b.block():
            key = g.count_key(record.tid, record.generation, int(State.RUNNABLE))
            key.flags = int(CountFlag.NEW_THREAD)
            g.charge(key, runnable)
    with b.else_():
        if config.walk is Walk.SWITCH_OUT:
            _charge_walked(g, record, runnable)
        else:
            _request_walk(g, record, now, runnable)


def _cpu_is_chosen(g: Ground) -> Condition:
    """Whether this CPU is one of those asked for."""
    cpu = g.b.call(Helper.get_smp_processor_id) & 0xFFFFFFFF
    ranges = []
    for low, high in g.config.cpu_ranges:
        ranges.append(All(cpu >= low, cpu <= high) if low else cpu <= high)
    return Any_(*ranges)


def _move_elsewhere(g: Ground, record: Pointer, runnable: Value) -> None:
    """A wait that ends on another CPU: its time is not of this profile."""
    b = g.b
    record.flags = record.flags & ~int(ThreadFlag.NEW) & 0xFFFFFFFF
    record.weight = 0
    state = b.let(record.blocked_state)
    b.add(record.time[state], 0 - record.blocked_ns)
    b.add(record.time[int(State.RUNNABLE)], 0 - runnable)
    b.add(record.time[ELSEWHERE], record.blocked_ns + runnable)


def _charge_walked(g: Ground, record: Pointer, runnable: Value) -> None:
    """The stack was taken at switch-out (or was not: user space then spreads the walked ones)."""
    b = g.b
    weight = b.let(record.weight, spill=True)
    with b.if_(record.switches == 0):
        b.set(weight, 1)  # it waits since before the window: for itself alone, without a stack
    walk = b.let(0, spill=True)
    with b.if_(weight > 1):
        b.set(walk, record.walk_ns)
    for state, waited in (
        (record.blocked_state, record.blocked_ns),
        (int(State.RUNNABLE), runnable),
    ):
        with b.if_(waited != 0):
            amount = b.let(waited, spill=True)
            key = g.count_key(record.tid, record.generation, state)
            with b.if_(weight == 1):
                _with_stacks(key, record)
                g.charge(key, amount)
            with b.else_():
                _charge_class(g, key, record, amount, weight, walk)
    record.weight = 0


def _with_stacks(key: Pointer, record: Pointer) -> None:
    key.kernel = record.kernel_stack
    key.user = record.user_stack


def _charge_class(
    g: Ground, key: Pointer, record: Pointer, amount: Value, weight: Value, walk: Value
) -> None:
    """A wait chosen among many stands for those of its class of lengths.

    What a class that is not the shortest waited without a walk is added up: user space gives just
    that to the class's walked waits. So a long wait that happened to be walked never stands for
    short ones, nor is one that was not walked put on their stacks. The walk itself, which only the
    chosen waits are longer by, is taken off: it would make all waits look alike.
    """
    b = g.b
    typical = b.let(amount, spill=True)
    with b.if_(walk < typical):
        b.set(typical, typical - walk)
        b.set(walk, 0)
    flags = b.let(int(CountFlag.ESTIMATED), spill=True)
    for bound in CLASS_BOUNDS:
        with b.if_(typical >= bound):
            b.set(flags, flags + (1 << CLASS_SHIFT))
    with b.if_(weight == 0):
        _charge_not_walked(g, key, amount, flags)
    with b.else_():
        _with_stacks(key, record)
        others = b.let(weight, spill=True)
        with b.if_(flags >= 1 << CLASS_SHIFT):
            g.charge(key, amount)
            b.set(others, others - 1)
        key.flags = flags
        g.charge(key, typical * others, others)


def _charge_not_walked(g: Ground, key: Pointer, amount: Value, flags: Value) -> None:
    b = g.b
    with b.if_(flags >= 1 << CLASS_SHIFT):
        key.flags = flags | int(CountFlag.NOT_WALKED)
        g.charge(key, amount)


def _request_walk(g: Ground, record: Pointer, now: Value, runnable: Value) -> None:
    """Decide what this wait is charged with; the walker on this CPU takes the stack."""
    b, config = g.b, g.config
    blocked = b.let(record.blocked_ns)
    blocked_charge = b.let(0, spill=True)
    runnable_charge = b.let(0, spill=True)
    with b.if_(blocked + runnable >= config.min_block_ns):
        b.set(blocked_charge, blocked)
        b.set(runnable_charge, runnable)
    with b.else_():
        with b.if_(runnable != 0):
            add_short(g, record, runnable, State.RUNNABLE, runnable_charge)
        with b.if_(blocked != 0):
            for state in (State.SLEEPING, State.DISK, State.IDLE):
                with b.if_(record.blocked_state == int(state)):
                    add_short(g, record, blocked, state, blocked_charge)
    with b.if_(Any_(blocked_charge != 0, runnable_charge != 0)):
        pending = b.lookup_index(g.maps.pending, 0, Pending)
        with b.if_(b.not_null(pending)):
            with b.if_(pending.active != 0):
                g.count("walks_failed")
            if config.ring is not Ring.NONE:
                pending.end_ns = now
            pending.tid = record.tid
            pending.generation = record.generation
            pending.blocked_state = record.blocked_state
            pending.blocked_ns = blocked_charge
            pending.runnable_ns = runnable_charge
            pending.active = 1
