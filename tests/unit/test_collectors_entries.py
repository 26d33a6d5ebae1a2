"""Every nanosecond of a thread finds its stack or the gap that says why there is none."""

from __future__ import annotations

import struct
from typing import Optional

from hypothesis import given
from hypothesis import strategies as st

from systemscope.collectors.entries import Options, StackList, build_entries, share
from systemscope.collectors.lives import Life, Lives, OpenWait
from systemscope.collectors.readout import CountRow, StackReader
from systemscope.collectors.seed import ThreadSnapshot
from systemscope.model import Entry, Gap, Losses, State, Thread
from systemscope.programs.config import StackTable
from systemscope.programs.records import CLASS_SHIFT, CountFlag, StackRecord

START, END = 1_000_000_000, 5_000_000_000
TID = 7
WAITING = [s for s in State if s not in (State.UNKNOWN, State.RUNNING, State.DEAD)]
ALL = Options(oncpu=True, offcpu=True, min_block_ns=1_000_000, tables_full=False)
ESTIMATED, NOT_WALKED = int(CountFlag.ESTIMATED), int(CountFlag.NOT_WALKED)


def packed(*ips: int, flags: int = 0) -> bytes:
    """A StackRecord."""
    data = struct.pack(f"<II{len(ips)}Q", len(ips), flags, *ips)
    return data.ljust(StackRecord.size, b"\0")


def stack_list(*ids: int) -> StackList:
    """Stacks whose one address is ten times their id."""
    reader = StackReader(StackTable.HASHED)
    for number in ids:
        reader.add(number.to_bytes(8, "little"), packed(number * 10))
    return StackList(reader, Losses())


def life(
    time: dict[State, int],
    open: Optional[OpenWait] = None,
    waits: Optional[dict[State, int]] = None,
    short: Optional[dict[State, int]] = None,
) -> Life:
    end = START + sum(time.values())
    thread = Thread(TID, TID, "it", START, end, dict(time), waits or {})
    return Life(thread, short or {}, open)


def entries_of(
    one: Life, rows: list[CountRow], options: Options = ALL, stacks: Optional[StackList] = None
) -> list[Entry]:
    lives = Lives(START, END)
    lives.add(one)
    return build_entries(lives, rows, stacks or stack_list(1, 2, 3), options, Losses())


def row(state: State, ns: int, kernel: int = 1, count: int = 1, flags: int = 0) -> CountRow:
    return CountRow(TID, 0, kernel, 0, int(state), flags, ns, count)


def by_gap(entries: list[Entry]) -> dict[Optional[Gap], int]:
    found: dict[Optional[Gap], int] = {}
    for entry in entries:
        found[entry.gap] = found.get(entry.gap, 0) + entry.nanoseconds
    return found


@given(st.integers(0, 1 << 62), st.lists(st.integers(0, 1 << 60), max_size=30))
def test_shares_sum_exactly_and_are_in_proportion(total: int, weights: list[int]) -> None:
    parts = share(total, weights)
    assert len(parts) == len(weights)
    if not weights:
        return
    assert sum(parts) == total
    assert all(part >= 0 for part in parts)
    whole = sum(weights)
    if whole:
        for part, weight in zip(parts, weights):
            assert abs(part * whole - total * weight) <= whole


_NS = st.integers(0, 3_000_000_000)
_FLAGS = st.one_of(
    st.just(0),
    st.just(int(CountFlag.NEW_THREAD)),
    st.builds(lambda c: ESTIMATED | c << CLASS_SHIFT, st.integers(0, 6)),
    st.builds(lambda c: ESTIMATED | NOT_WALKED | c << CLASS_SHIFT, st.integers(1, 6)),
)
_ROWS = st.lists(
    st.builds(
        CountRow,
        tid=st.just(TID),
        generation=st.integers(0, 0xFFFFFFFF),
        kernel=st.integers(0, 4),
        user=st.integers(0, 4),
        state=st.sampled_from([int(s) for s in State]),
        flags=_FLAGS,
        nanoseconds=_NS,
        count=st.integers(0, 1000),
    ),
    max_size=20,
)
_OPEN = st.one_of(st.none(), st.builds(OpenWait, st.sampled_from(WAITING), _NS, _NS, st.none()))


@given(
    st.dictionaries(st.sampled_from([s for s in State if s is not State.DEAD]), _NS),
    _ROWS,
    _OPEN,
    st.dictionaries(st.sampled_from(WAITING), st.integers(0, 1 << 31)),
    st.dictionaries(st.sampled_from(WAITING), st.integers(0, 100)),
    st.booleans(),
)
def test_entries_sum_exactly_to_each_states_time(
    time: dict[State, int],
    rows: list[CountRow],
    open: Optional[OpenWait],
    short: dict[State, int],
    waits: dict[State, int],
    full: bool,
) -> None:
    """Whatever the tables hold, also what contradicts itself."""
    options = Options(True, True, 1_000_000, full)
    entries = entries_of(life(time, open, waits, short), rows, options)
    totals: dict[State, int] = {}
    for entry in entries:
        assert entry.nanoseconds >= 0
        assert (entry.stack == 0) == (entry.gap is not None)
        totals[entry.state] = totals.get(entry.state, 0) + entry.nanoseconds
    assert totals == {state: ns for state, ns in time.items() if ns} | {
        state: 0 for state in totals if not time.get(state)
    }


def test_samples_are_weighted_to_the_measured_time() -> None:
    rows = [row(State.RUNNING, 0, 1, 30), row(State.RUNNING, 0, 2, 10)]
    entries = entries_of(life({State.RUNNING: 4_000}), rows)
    assert [(e.nanoseconds, e.count, e.gap) for e in entries] == [
        (3000, 30, None),
        (1000, 10, None),
    ]


def test_time_no_sample_hit_is_shown() -> None:
    assert by_gap(entries_of(life({State.RUNNING: 5}), [])) == {Gap.NOT_SAMPLED: 5}


def test_time_around_a_missed_switch_is_shown() -> None:
    assert by_gap(entries_of(life({State.UNKNOWN: 5}), [])) == {Gap.MISSED: 5}


def test_the_wait_for_the_first_cpu_has_no_stack_yet() -> None:
    rows = [row(State.RUNNABLE, 70, 0, 1, int(CountFlag.NEW_THREAD))]
    assert by_gap(entries_of(life({State.RUNNABLE: 70}), rows)) == {Gap.NEW_THREAD: 70}


def test_what_is_left_of_short_waits_is_shown() -> None:
    one = life({State.SLEEPING: 5_000_000}, waits={State.SLEEPING: 9}, short={State.SLEEPING: 400})
    found = by_gap(entries_of(one, [row(State.SLEEPING, 4_000_000)]))
    assert found == {None: 4_000_000, Gap.SHORT_WAITS: 400, Gap.NO_STACK: 999_600}


def test_a_full_table_is_named() -> None:
    full = Options(True, True, 1_000_000, True)
    one = life({State.SLEEPING: 9_000_000}, waits={State.SLEEPING: 1}, short={State.SLEEPING: 0})
    assert by_gap(entries_of(one, [], full)) == {Gap.TABLE_FULL: 9_000_000}
    rows = [row(State.SLEEPING, 9_000_000, kernel=0)]
    assert by_gap(entries_of(one, rows, full)) == {Gap.TABLE_FULL: 9_000_000}
    assert by_gap(entries_of(one, rows)) == {Gap.NO_STACK: 9_000_000}


def test_charges_over_the_measured_time_are_scaled_down() -> None:
    rows = [row(State.SLEEPING, 300, 1), row(State.SLEEPING, 100, 2)]
    entries = entries_of(life({State.SLEEPING: 200}), rows)
    assert [e.nanoseconds for e in entries] == [150, 50]


def snapshot(kernel: int = 0, names: tuple[str, ...] = (), ip: int = 0) -> ThreadSnapshot:
    return ThreadSnapshot(
        TID, TID, "it", State.SLEEPING, False, 0, kernel, kernel_names=names, user_ip=ip
    )


def test_an_open_wait_has_the_stack_it_was_found_with() -> None:
    wait = OpenWait(State.DISK, 2_000_000, 700_000, snapshot(kernel=3))
    stacks = stack_list(3)
    one = life({State.DISK: 2_000_000, State.RUNNABLE: 700_000}, wait)
    entries = entries_of(one, [], stacks=stacks)
    assert [(e.state, e.nanoseconds, e.gap) for e in entries] == [
        (State.DISK, 2_000_000, None),
        (State.RUNNABLE, 700_000, None),
    ]
    assert {stacks.stacks[e.stack].kernel for e in entries} == {(30,)}


def test_an_open_wait_may_have_names_only() -> None:
    stacks = stack_list()
    wait = OpenWait(State.SLEEPING, 5_000_000, 0, snapshot(names=("futex_wait+0x7",), ip=99))
    (entry,) = entries_of(life({State.SLEEPING: 5_000_000}, wait), [], stacks=stacks)
    stack = stacks.stacks[entry.stack]
    assert (stack.kernel_names, stack.user, stack.user_truncated) == (
        ("futex_wait+0x7",),
        (99,),
        True,
    )


def test_an_open_wait_without_a_stack_says_why() -> None:
    for length, gap in ((999_999, Gap.SHORT_WAITS), (1_000_000, Gap.NO_STACK)):
        wait = OpenWait(State.SLEEPING, length, 0, None)
        assert by_gap(entries_of(life({State.SLEEPING: length}, wait), [])) == {gap: length}


def test_estimates_share_what_the_exact_charges_left() -> None:
    rows = [
        row(State.SLEEPING, 1_000, 1),
        row(State.SLEEPING, 30, 2, 3, ESTIMATED),
        row(State.SLEEPING, 10, 3, 1, ESTIMATED),
    ]
    entries = entries_of(life({State.SLEEPING: 9_000}), rows)
    assert sorted(e.nanoseconds for e in entries) == [1_000, 2_000, 6_000]


def test_long_waits_that_were_not_walked_go_to_long_ones() -> None:
    long, longer = ESTIMATED | 2 << CLASS_SHIFT, ESTIMATED | 5 << CLASS_SHIFT
    stacks = stack_list(1, 2, 3)
    rows = [
        row(State.SLEEPING, 100, 1, 10, ESTIMATED),
        row(State.SLEEPING, 500, 2, 5, long),
        row(State.SLEEPING, 900, 3, 1, longer),
        row(State.SLEEPING, 4_000, 0, 9, long | NOT_WALKED),
        row(State.SLEEPING, 7_000, 0, 2, ESTIMATED | NOT_WALKED | 6 << CLASS_SHIFT),
    ]
    entries = entries_of(life({State.SLEEPING: 12_000}), rows, stacks=stacks)
    found = {stacks.stacks[e.stack].kernel: e.nanoseconds for e in entries}
    assert found == {(10,): 1_000, (20,): 4_000, (30,): 7_000}


def test_long_waits_of_which_none_was_walked_have_no_stack() -> None:
    rows = [
        row(State.SLEEPING, 100, 1, 10, ESTIMATED),
        row(State.SLEEPING, 4_000, 0, 9, ESTIMATED | NOT_WALKED | 1 << CLASS_SHIFT),
    ]
    assert by_gap(entries_of(life({State.SLEEPING: 5_000}), rows)) == {
        Gap.NO_STACK: 4_000,
        None: 1_000,
    }


def test_charges_of_the_unknown_kind_join_the_kind_the_seed_gave() -> None:
    entries = entries_of(life({State.DISK: 2_000}), [row(State.BLOCKED, 2_000)])
    assert [(e.state, e.nanoseconds, e.gap) for e in entries] == [(State.DISK, 2_000, None)]


def test_charges_of_threads_without_a_record_are_a_loss() -> None:
    losses, lives = Losses(), Lives(START, END)
    stranger = CountRow(99, 0, 1, 0, int(State.RUNNING), 0, 0, 4)
    assert build_entries(lives, [stranger], stack_list(), ALL, losses) == []
    assert losses.threads_table_full == 4


def test_stacks_are_kept_once_and_end_marks_dropped() -> None:
    stacks = stack_list(1, 2)
    assert stacks.pair(1, 2) == stacks.pair(1, 2) != stacks.pair(2, 1)
    assert stacks.pair(0, 0) == 0 and stacks.pair(77, 0) == 0
    reader = StackReader(StackTable.HASHED)
    reader.add((9).to_bytes(8, "little"), packed(5, 6, 0, 0, flags=0x102))
    assert reader.addresses(9) == (5, 6) and reader.flags(9) == 0x102
