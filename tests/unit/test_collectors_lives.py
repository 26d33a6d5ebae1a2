"""Records become threads: each life bounded, its states summing to its length."""

from __future__ import annotations

import struct
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemscope.collectors.lives import Lives, add_silent, build_lives
from systemscope.collectors.readout import CountTotals, ThreadRow, thread_rows
from systemscope.collectors.seed import PF_KTHREAD, ThreadSnapshot, from_iterator, state_of_bits
from systemscope.model import State
from systemscope.programs.common import GENERATION_SHIFT
from systemscope.programs.records import (
    CountKey,
    CountValue,
    TaskSnapshot,
    ThreadFlag,
    ThreadRecord,
)

START, END = 100_000_000_000, 101_000_000_000
TID = 42


def thread_row(**changes: Any) -> ThreadRow:
    """A record without an event, but for ``changes``; ``time`` and ``waits`` by state."""
    values: dict[str, Any] = {
        name: 0 for name in ThreadRow.__dataclass_fields__ if name not in ("comm", "time", "waits")
    }
    values.update(tid=TID, tgid=40, flags=1, comm="", short=(0, 0, 0, 0))
    for name in ("time", "waits"):
        given_ = changes.pop(name, {})
        values[name] = tuple(given_.get(i, 0) for i in range(16))
    return ThreadRow(**{**values, **changes})


def snapshot(state: State, **changes: Any) -> ThreadSnapshot:
    values: dict[str, Any] = {
        "tid": TID,
        "tgid": 40,
        "comm": "it",
        "state": state,
        "kernel_thread": False,
        "start_ns": 0,
    }
    return ThreadSnapshot(**{**values, **changes})


def lives_of(
    *rows: ThreadRow,
    seed: Optional[ThreadSnapshot] = None,
    last: Optional[ThreadSnapshot] = None,
    sampled: bool = False,
) -> Lives:
    seeds = {TID: seed} if seed else {}
    lasts = {TID: last} if last else {}
    return build_lives(START, END, rows, seeds, lasts, {TID} if sampled else set())


def only(lives: Lives) -> Any:
    (life,) = lives.all
    assert sum(life.thread.time.values()) == life.thread.elapsed
    return life


@pytest.mark.parametrize(
    ("seed", "last", "sampled", "expected"),
    [
        (State.SLEEPING, State.SLEEPING, False, State.SLEEPING),
        (State.DISK, State.DISK, False, State.DISK),
        (State.SLEEPING, State.STOPPED, False, State.STOPPED),
        (State.RUNNABLE, State.RUNNABLE, True, State.RUNNING),
        (State.RUNNABLE, State.RUNNABLE, False, State.RUNNABLE),
    ],
)
@pytest.mark.parametrize("seeded", [False, True])
def test_a_thread_without_an_event_held_one_state(
    seed: State, last: State, sampled: bool, expected: State, seeded: bool
) -> None:
    """The last look counts: a seed may be older than the window."""
    row = thread_row(state=int(seed) if seeded and seed is not State.RUNNABLE else 0)
    life = only(lives_of(row, seed=snapshot(seed), last=snapshot(last), sampled=sampled))
    assert life.thread.time == {expected: END - START}
    assert life.thread.ran is (expected is State.RUNNING)
    if expected not in (State.RUNNING, State.RUNNABLE):
        assert (life.open.state, life.open.blocked_ns) == (expected, END - START)


def test_a_thread_on_a_cpu_throughout_needs_no_sample() -> None:
    last = snapshot(State.RUNNABLE, on_cpu=True)
    assert only(lives_of(thread_row(), last=last)).thread.time == {State.RUNNING: END - START}


@pytest.mark.parametrize(("later", "state"), [(900, State.RUNNING), (500, State.RUNNABLE)])
def test_a_thread_that_got_on_ran(later: int, state: State) -> None:
    seed, last = snapshot(State.RUNNABLE, run_ns=500), snapshot(State.RUNNABLE, run_ns=later)
    assert only(lives_of(thread_row(), seed=seed, last=last)).thread.time == {state: END - START}


def test_a_thread_on_a_cpu_not_asked_for_is_elsewhere() -> None:
    row, last = thread_row(), {TID: snapshot(State.RUNNABLE, on_cpu=True)}
    for sampled, inside in (({TID}, END - START), (set(), 0)):
        (life,) = build_lives(START, END, [row], {}, last, sampled, some_cpus=True).all
        assert life.thread.time[State.RUNNING] == inside
        assert life.thread.elsewhere == END - START - inside


def test_a_seeded_thread_that_began_to_run_before_the_window_ran() -> None:
    row = thread_row(state=int(State.SLEEPING))
    last = snapshot(State.RUNNABLE, on_cpu=True)
    life = only(lives_of(row, seed=snapshot(State.SLEEPING), last=last))
    assert life.thread.time == {State.RUNNING: END - START}


@pytest.mark.parametrize("last", [None, snapshot(State.DEAD)])
def test_a_target_gone_before_the_window_is_no_thread(last: Optional[ThreadSnapshot]) -> None:
    assert lives_of(thread_row(), seed=snapshot(State.SLEEPING), last=last).all == []


def test_the_stretch_under_way_is_added() -> None:
    row = thread_row(
        state=int(State.SLEEPING),
        last_ns=END - 300,
        switches=5,
        time={1: END - START - 300},
        waits={3: 2},
    )
    life = only(lives_of(row, last=snapshot(State.SLEEPING, switches=5, kernel=9)))
    assert life.thread.time == {State.RUNNING: END - START - 300, State.SLEEPING: 300}
    assert life.thread.waits == {State.SLEEPING: 3}
    assert life.open.snapshot.kernel == 9


def test_a_stack_of_an_earlier_wait_is_not_this_ones() -> None:
    row = thread_row(
        state=int(State.SLEEPING), last_ns=END - 300, switches=6, time={1: END - START - 300}
    )
    last = snapshot(State.SLEEPING, switches=5, kernel=9)
    assert only(lives_of(row, last=last)).open.snapshot is None


def test_a_wait_whose_wake_up_came_has_two_parts() -> None:
    row = thread_row(
        state=int(State.RUNNABLE),
        last_ns=END - 100,
        blocked_ns=700,
        blocked_state=int(State.DISK),
        time={1: END - START - 800, 4: 700},
    )
    wait = only(lives_of(row, last=snapshot(State.RUNNABLE))).open
    assert (wait.state, wait.blocked_ns, wait.runnable_ns) == (State.DISK, 700, 100)


def test_a_wait_from_before_the_window_has_the_seeds_kind() -> None:
    row = thread_row(
        state=int(State.RUNNABLE),
        last_ns=END - 100,
        blocked_ns=END - START - 100,
        blocked_state=int(State.BLOCKED),
        time={9: END - START - 100},
        waits={9: 1},
    )
    life = only(lives_of(row, seed=snapshot(State.DISK)))
    assert life.thread.time == {State.DISK: END - START - 100, State.RUNNABLE: 100}
    assert life.thread.waits == {State.DISK: 1, State.RUNNABLE: 1}
    assert life.open.state is State.DISK


def test_a_thread_seen_to_sleep_that_was_not_seen_to_leave_is_unknown() -> None:
    row = thread_row(state=int(State.RUNNING), last_ns=START + 10, time={1: 10})
    life = only(lives_of(row, last=snapshot(State.SLEEPING)))
    assert life.thread.time[State.UNKNOWN] == END - START - 10
    assert life.thread.accounted == 10


def test_born_and_died_within() -> None:
    row = thread_row(
        born_ns=START + 50,
        ended_ns=START + 90,
        last_ns=START + 90,
        state=int(State.DEAD),
        comm="short",
        time={1: 30, 2: 10},
    )
    other = snapshot(State.SLEEPING, comm="another", kernel_thread=True)
    life = only(lives_of(row, seed=other, last=other))
    thread = life.thread
    assert (thread.begin, thread.end, thread.born, thread.died) == (
        START + 50,
        START + 90,
        True,
        True,
    )
    assert thread.comm == "short" and life.open is None


def test_a_missed_last_switch_is_unknown_time() -> None:
    row = thread_row(ended_ns=START + 90, last_ns=START + 60, time={1: 60})
    assert only(lives_of(row)).thread.time == {State.RUNNING: 60, State.UNKNOWN: 30}


def test_lives_of_one_tid_are_told_apart_by_generation() -> None:
    tick = 1 << GENERATION_SHIFT
    later, last = START + 100 * tick, START + 300 * tick
    rows = [
        thread_row(ended_ns=later - 5, last_ns=later - 5, time={1: later - 5 - START}),
        thread_row(born_ns=later, ended_ns=last - 5, last_ns=last - 5, time={1: last - 5 - later}),
        thread_row(born_ns=last, last_ns=last, state=1),
    ]
    lives = lives_of(*rows, last=snapshot(State.RUNNABLE))
    assert lives.of(TID, 0) == 0
    for number, moment in ((1, later), (1, later + 150 * tick), (2, last), (2, END)):
        assert lives.of(TID, moment >> GENERATION_SHIFT & 0xFFFFFFFF) == number
    assert lives.of(TID + 1, 0) is None


@given(st.integers(0, 1 << 50), st.integers(0, 1 << 40))
def test_the_moment_of_a_generation_is_no_earlier_and_a_tick_late_at_most(
    start: int, after: int
) -> None:
    event = start + after
    lives = Lives(start, event + 10_000_000)
    generation = event >> GENERATION_SHIFT & 0xFFFFFFFF
    if generation:
        assert event <= lives.moment(generation) < event + (1 << GENERATION_SHIFT)
    else:
        assert lives.moment(0) == start


def test_silent_threads_are_added() -> None:
    lives = lives_of()
    seeds = {
        1: snapshot(State.SLEEPING, tid=1),
        2: snapshot(State.DEAD, tid=2),
        3: snapshot(State.IDLE, tid=3, kernel_thread=True),
        4: snapshot(State.RUNNABLE, tid=4),
        5: snapshot(State.SLEEPING, tid=5),
        6: snapshot(State.SLEEPING, tid=6),
    }
    last = {tid: seed for tid, seed in seeds.items() if tid != 5}
    add_silent(lives, seeds, last, {4}, {6})
    found = {life.thread.tid: life.thread.time for life in lives.all}
    whole = END - START
    assert found == {1: {State.SLEEPING: whole}, 3: {State.IDLE: whole}, 4: {State.RUNNING: whole}}
    assert all(sum(time.values()) == whole for time in found.values())


_STATES = st.integers(0, 10)
_NS = st.integers(0, 1_000_000)


@given(
    st.dictionaries(st.sampled_from(range(1, 10)), _NS),
    _NS,
    _STATES,
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, *State]),
    st.sampled_from([None, *State]),
    st.booleans(),
)
def test_every_life_sums_to_its_length(
    time: dict[int, int],
    rest: int,
    state: int,
    born: bool,
    died: bool,
    seed: Optional[State],
    last: Optional[State],
    sampled: bool,
) -> None:
    """A record whose stretches follow one another, as the programs write them."""
    begin = START + 1_000 if born else START
    moment = begin + sum(time.values())
    row = thread_row(
        state=state,
        time=time,
        born_ns=begin if born else 0,
        last_ns=moment,
        ended_ns=moment + rest if died else 0,
    )
    life = only(
        lives_of(
            row,
            seed=snapshot(seed) if seed is not None else None,
            last=snapshot(last) if last is not None else None,
            sampled=sampled,
        )
    )
    assert all(ns >= 0 for ns in life.thread.time.values())


def test_thread_rows_decodes_the_tracked() -> None:
    tracked = bytearray(ThreadRecord.pack(tid=5, tgid=4, state=3, flags=1, switches=9, last_ns=77))
    at = ThreadRecord.fields["comm"].offset
    tracked[at : at + 16] = b"name\xff\0rest".ljust(16, b"\0")
    struct.pack_into("<Q", tracked, ThreadRecord.fields["time"].offset + 8 * 3, 123)
    excluded = ThreadRecord.pack(tid=6, flags=int(ThreadFlag.EXCLUDED))
    rows = thread_rows(bytes(ThreadRecord.size) + excluded + bytes(tracked))
    assert [(r.tid, r.tgid, r.state, r.switches, r.last_ns) for r in rows] == [(5, 4, 3, 9, 77)]
    assert rows[0].time[3] == 123 and rows[0].comm == "name\ufffd"
    assert thread_rows(b"") == []


def test_totals_add_up_over_drains() -> None:
    totals = CountTotals()
    key = CountKey.pack(tid=1, generation=2, kernel=3, user=4, state=5, flags=6)
    for _ in range(3):
        totals.add(key, CountValue.pack(nanoseconds=10, count=1))
    (row,) = totals.rows()
    assert (row.tid, row.generation, row.kernel, row.user) == (1, 2, 3, 4)
    assert (row.state, row.flags, row.nanoseconds, row.count) == (5, 6, 30, 3)


def test_iterator_records_are_decoded() -> None:
    one = bytearray(
        TaskSnapshot.pack(tid=5, tgid=4, task_state=0x402, task_flags=PF_KTHREAD, switches=3)
    )
    at = TaskSnapshot.fields["comm"].offset
    one[at : at + 16] = b"kworker/0:1".ljust(16, b"\0")
    dead = TaskSnapshot.pack(tid=6, tgid=6, exit_state=0x20)
    found = from_iterator(bytes(one) + dead + b"half a record")
    assert found[5].state is State.IDLE and found[5].kernel_thread and found[5].switches == 3
    assert found[5].comm == "kworker/0:1"
    assert found[6].state is State.DEAD and len(found) == 2


@pytest.mark.parametrize(
    ("bits", "state"),
    [
        (0, State.RUNNABLE),
        (0x1, State.SLEEPING),
        (0x2001, State.SLEEPING),  # freezable
        (0x2, State.DISK),
        (0x102, State.DISK),  # killable
        (0x402, State.IDLE),
        (0x4, State.STOPPED),
        (0x104, State.STOPPED),
        (0x8, State.TRACED),
        (0x108, State.TRACED),
        (0x40, State.PARKED),
        (0x80, State.DEAD),
        (0x8000, State.STOPPED),  # frozen
        (0x1000, State.DISK),  # waits for an rtlock
    ],
)
def test_task_state_bits(bits: int, state: State) -> None:
    assert state_of_bits(bits) is state
