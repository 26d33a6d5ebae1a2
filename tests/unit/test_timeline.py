"""The timeline's file: rounds, order, and what a corrupt one yields."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemscope.model import Event, EventKind, State, Timeline
from systemscope.model.timeline import NO_CPU, RECORD, STATE_SHIFT
from systemscope.programs.records import TimelineRecord


def record(
    kind: EventKind, tid: int, end: int, begin: int = 0, state: State = State.UNKNOWN, **more: int
) -> bytes:
    packed = int(kind) | int(state) << STATE_SHIFT
    kernel, user = more.get("kernel", 0), more.get("user", 0)
    middle, cpu, other = more.get("middle", 0), more.get("cpu", 0), more.get("other", 0)
    return RECORD.pack(begin, middle, end, kernel, user, tid, cpu, packed, other)


def timeline(*rounds: list[bytes]) -> Timeline:
    made = Timeline(io.BytesIO())
    for batch in rounds:
        made.append(b"".join(batch))
    return made


def test_the_record_is_the_programs_behind_a_ring_header() -> None:
    assert RECORD.size == TimelineRecord.size + 8
    packed = TimelineRecord.pack(
        begin=1, middle=2, end=3, kernel=4, user=5, tid=6, cpu=7, kind=8, other=9
    )
    assert RECORD.unpack(bytes(8) + packed) == (1, 2, 3, 4, 5, 6, 7, 8, 9)


def test_an_event_is_decoded() -> None:
    one = timeline(
        [record(EventKind.WAIT, 7, 30, 10, State.DISK, middle=25, cpu=3, kernel=11, user=12)]
    )
    one.stacks = {(11, 12): 5}
    expected = Event(EventKind.WAIT, 7, 3, 10, 25, 30, State.DISK, 5, 0)
    assert list(one.events()) == [expected]
    assert list(one.events()) == [expected], "read anew each time"


def test_a_cpu_that_is_none_and_a_stack_that_is_not_known() -> None:
    one = timeline([record(EventKind.SAMPLE, 7, 30, cpu=NO_CPU, kernel=1)])
    (event,) = one.events()
    assert (event.cpu, event.stack) == (-1, 0)


def test_a_record_may_come_one_round_late() -> None:
    one = timeline(
        [record(EventKind.RUN, 1, 50), record(EventKind.RUN, 2, 20)],
        [record(EventKind.RUN, 3, 40), record(EventKind.RUN, 1, 90)],
        [record(EventKind.RUN, 2, 80)],
    )
    assert [event.end for event in one.events()] == [20, 40, 50, 80, 90]


def test_what_the_end_cut_off_comes_in_its_place() -> None:
    one = timeline([record(EventKind.RUN, 1, 50)], [record(EventKind.RUN, 1, 60)])
    one.closing = (
        Event(EventKind.WAIT, 1, -1, 60, 70, 70, State.SLEEPING, 0, 0),
        Event(EventKind.WAIT, 2, -1, 0, 55, 55, State.SLEEPING, 0, 0),
    )
    assert [(event.tid, event.end) for event in one.events()] == [
        (1, 50),
        (2, 55),
        (1, 60),
        (1, 70),
    ]


@given(
    st.lists(st.lists(st.integers(0, 1000), max_size=6), max_size=6),
    st.integers(0, 400),
)
def test_a_file_cut_anywhere_yields_what_is_whole(ends: list[list[int]], cut: int) -> None:
    whole = timeline(*[[record(EventKind.RUN, 1, end) for end in batch] for batch in ends])
    data = whole.file
    assert isinstance(data, io.BytesIO)
    data.truncate(min(cut, whole.size))
    kept = len(list(whole.events()))
    assert kept <= sum(map(len, ends))
    assert kept >= max(0, min(cut, whole.size) // RECORD.size - 1 - len(ends))


@given(st.binary(max_size=600))
def test_garbage_is_never_an_exception(garbage: bytes) -> None:
    for event in Timeline(io.BytesIO(garbage), 0, len(garbage)).events():
        assert event.kind in EventKind and event.state in State


def test_unknown_kinds_and_states_are_left_out() -> None:
    bad_kind = RECORD.pack(0, 0, 5, 0, 0, 1, 0, 99, 0)
    bad_state = RECORD.pack(0, 0, 5, 0, 0, 1, 0, int(EventKind.RUN) | 200 << STATE_SHIFT, 0)
    good = record(EventKind.RUN, 1, 5)
    assert len(list(timeline([bad_kind, good, bad_state]).events())) == 1


def test_an_absurd_length_reads_no_more_than_there_is() -> None:
    data = struct.pack("<I", 0xFFFFFFFF) + record(EventKind.RUN, 1, 5)
    assert len(list(Timeline(io.BytesIO(data), 0, len(data)).events())) == 1


def test_a_file_that_cannot_grow_is_the_callers_to_know() -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    full = Timeline(Full())
    with pytest.raises(OSError, match="No space"):
        full.append(record(EventKind.RUN, 1, 5))
    assert full.size == 0
