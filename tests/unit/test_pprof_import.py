"""pprof files read back: our own, those of others, and those that mean harm."""

from __future__ import annotations

import gzip
import io
import zlib
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from systemscope.errors import InputError, SystemScopeError
from systemscope.exporters.naming import safe_text
from systemscope.importers import pprof_tables
from systemscope.importers.pprof import read
from systemscope.model import (
    Delay,
    DelayKind,
    Frame,
    FrameKind,
    Gap,
    Mapping,
    Profile,
    Sample,
    State,
    Thread,
)
from systemscope.wire.pprof import messages, records
from tests.unit.fake_captures import SECOND, frame, profile, sample, thread
from tests.unit.pprof_files import back, foreign, packed
from tests.unit.test_pprof import mixed

MAPPING = Mapping(0x400000, 0x500000, 0x1000, "/usr/bin/prog")
KINDS = st.sampled_from(FrameKind)


def test_our_own_come_back() -> None:
    one = mixed()
    one.capture.command = "make all"
    one.capture.losses.walks_failed = 2
    got = back(packed(one))
    assert [_plain(s) for s in got.samples] == [_plain(s) for s in one.samples]
    assert [s.frames for s in got.samples] == [s.frames for s in one.samples]
    first = got.samples[0].thread
    assert (first.tid, first.tgid, first.comm) == (1, 100, "worker")
    assert first.time == {State.RUNNING: 10, State.DISK: 20}
    assert first.waits == {State.DISK: 1}
    assert first.delays == {DelayKind.CPU: Delay(1, 2)}
    assert got.capture.command == "make all"
    assert (got.capture.frequency, got.capture.event) == (99, "cpu-clock")
    assert got.capture.end - got.capture.start == SECOND
    assert got.notes == ["lost when it was recorded: stack walks that failed: 2"]


def _plain(one: Sample) -> tuple[object, ...]:
    t = one.thread
    about = (t.tid, t.tgid, safe_text(t.comm), safe_text(one.process_comm))
    return (*about, one.state, one.nanoseconds, one.count, one.gap)


def test_a_frame_without_a_name_tells_its_place() -> None:
    lost = Frame("prog+0x2123", FrameKind.USER, 0x401123, "prog", unknown="x", mapping=MAPPING)
    got = back(packed(profile(sample(thread(1), 1, lost))))
    [one] = got.samples[0].frames
    assert (one.name, one.address, one.mapping) == ("prog+0x2123", 0x401123, MAPPING)
    assert one.unknown


NAMES = st.text(st.characters(), min_size=1, max_size=12).filter(
    lambda name: not name.startswith("[")
)


@st.composite
def profiles(draw: Any) -> Profile:
    pool = [
        Frame(
            draw(NAMES),
            draw(st.sampled_from((FrameKind.USER, FrameKind.KERNEL))),
            draw(st.integers(0, (1 << 64) - 1)),
            file=draw(st.text(max_size=4)),
            line=draw(st.integers(0, 99)),
        )
        for _ in range(draw(st.integers(1, 4)))
    ]
    threads = [Thread(n, 100, draw(st.text(max_size=6)), 0, SECOND) for n in range(1, 4)]
    samples = [
        Sample(
            draw(st.sampled_from(threads)),
            draw(st.text(max_size=4)),
            draw(st.sampled_from(State)),
            tuple(draw(st.lists(st.sampled_from(pool), max_size=5))),
            draw(st.integers(0, 1 << 60)),
            draw(st.integers(1, 9)),
            draw(st.none() | st.sampled_from(Gap)),
        )
        for _ in range(draw(st.integers(0, 6)))
    ]
    return profile(*samples)


@settings(max_examples=200, deadline=None)
@given(profiles())
def test_any_profile_comes_back(one: Profile) -> None:
    got = back(packed(one))
    assert [_plain(s) for s in got.samples] == [_plain(s) for s in one.samples]
    for mine, theirs in zip(one.samples, got.samples):
        assert [safe_text(f.name) for f in mine.frames] == [f.name for f in theirs.frames]
        assert [f.line for f in mine.frames] == [f.line for f in theirs.frames]
    assert packed(got) == packed(back(packed(got)))


def test_one_giant_stack() -> None:
    deep = sample(thread(1), 5, *(frame(f"f{n % 50}") for n in range(16_000)))
    [got] = back(packed(profile(deep))).samples
    assert len(got.frames) == 16_000 and got.nanoseconds == 5


def test_a_deeper_stack_is_cut_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    data = packed(profile(sample(thread(1), 5, *(frame(f"f{n}") for n in range(9)))))
    monkeypatch.setattr(pprof_tables, "MAX_DEPTH", 4)
    got = back(data)
    assert [f.name for f in got.samples[0].frames] == ["f0", "f1", "f2", "f3"]
    assert "stacks of the file cut" in got.notes[0]


def test_many_members_are_refused() -> None:
    with pytest.raises(InputError, match="gzip members"):
        back(gzip.compress(b"") * 2_000)


def test_an_empty_profile() -> None:
    got = back(packed(profile()))
    assert got.samples == [] and got.notes == []


@pytest.mark.parametrize(
    ("types", "values", "period", "nanoseconds", "count", "state"),
    [
        (["samples/count", "cpu/nanoseconds"], (3, 30), "cpu/nanoseconds", 30, 3, State.RUNNING),
        (["cpu/microseconds"], (30,), "cpu/microseconds", 30_000, 0, State.RUNNING),
        (["samples/count"], (3,), "cpu/nanoseconds", 30_000_000, 3, State.RUNNING),
        (["contentions/count", "delay/nanoseconds"], (2, 9), "x/count", 9, 2, State.BLOCKED),
        (["sample/count", "wall/nanoseconds"], (2, 9), "wall/nanoseconds", 9, 2, State.UNKNOWN),
        (["wall/nanoseconds", "cpu/nanoseconds"], (8, 9), "x/y", 9, 0, State.RUNNING),
    ],
)
def test_profiles_of_others(
    types: list[str], values: Any, period: str, nanoseconds: int, count: int, state: State
) -> None:
    got = back(foreign(types, [values], period))
    [one] = got.samples
    assert (one.nanoseconds, one.count, one.state) == (nanoseconds, count, state)
    [only] = one.frames
    assert (only.name, only.file, only.line) == ("main.work", "work.go", 7)
    assert (only.address, only.module) == (0x401000, "prog")
    assert (one.thread.comm, one.process_comm) == ("prog", "prog")
    assert got.capture.wall_start == 5
    if state is State.RUNNING and period == "cpu/nanoseconds":
        assert got.capture.frequency == 100


def test_threads_of_others() -> None:
    types = ["samples/count", "cpu/nanoseconds"]
    for labels in (
        {"pid": 7, "tid": 8, "comm": "app", "thread_comm": "io"},
        {"process_id": "7", "thread id": 8, "process_name": "app", "thread name": "io"},
    ):
        [one] = back(foreign(types, [(1, 10)], labels=labels)).samples
        assert (one.thread.tgid, one.thread.tid, one.thread.comm) == (7, 8, "io")
        assert one.process_comm == "app"


def test_a_profile_without_time_is_refused() -> None:
    heap = foreign(["alloc_objects/count", "alloc_space/bytes"], [(1, 64)], "space/bytes")
    with pytest.raises(InputError, match="holds no time, but alloc_objects/count, alloc_space"):
        back(heap)


@pytest.mark.parametrize("data", [b"", b"main;work 12\n", b"\x7fELF" + bytes(99), b"{}", b"\n\0"])
def test_what_is_no_profile_is_refused(data: bytes) -> None:
    for one in (data, gzip.compress(data)):
        with pytest.raises(InputError):
            back(one)


def test_a_file_cut_short_gives_what_it_has() -> None:
    many = [sample(thread(n), 10, *(frame(f"f{n * 7 % 500}"), frame("m"))) for n in range(3_000)]
    data = packed(profile(*many))
    part = back(data[: len(data) * 2 // 3])
    assert 0 < len(part.samples) < 3_000
    assert part.notes[0].startswith("the file is cut short")
    assert {f.name for s in part.samples for f in s.frames} <= {f"f{n}" for n in range(500)} | {"m"}
    raw = gzip.decompress(data)
    assert back(raw[:-3]).notes[0].startswith("the file is cut short")
    assert len(back(raw).samples) == 3_000  # not packed at all
    damaged = bytearray(data)
    damaged[-8] ^= 1  # the checksum
    assert len(back(bytes(damaged)).samples) == 3_000
    assert back(bytes(damaged)).notes[0].startswith("the file is damaged")


def test_locations_that_are_missing() -> None:
    raw = gzip.decompress(packed(profile(sample(thread(1), 10, frame("a")))))
    kept = messages().Profile.FromString(raw)
    del kept.location[:]
    got = back(kept.SerializeToString())
    assert got.samples[0].nanoseconds == 10
    assert [f.name for f in got.samples[0].frames] == ["[missing]"]
    assert got.notes == ["locations missing in the file: 1"]


RAW = gzip.decompress(packed(mixed()))


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(RAW) - 1), st.integers(0, 255)), max_size=8))
def test_damage_is_survived_or_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(RAW)
    for place, value in changes:
        data[place] = value
    try:
        packed(back(bytes(data)))
    except SystemScopeError as error:
        assert "\n" not in error.message


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_survived_or_refused(data: bytes) -> None:
    with suppress(SystemScopeError):
        back(b"\x32\x00" + data)


def test_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zlib.compressobj(wbits=31)
    data = bomb.compress(bytes(64 << 20)) + bomb.flush()
    with pytest.raises(InputError, match="unpacks to far more"):
        back(data)
    monkeypatch.setattr(pprof_tables, "MAX_BYTES", 1000)
    for one in (gzip.compress(RAW * 2), RAW * 2):
        with pytest.raises(InputError, match="too large"):
            back(one)


def test_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAX_RECORDS", "MAX_SAMPLES", "MAX_TABLE", "MAX_FRAMES"):
        with monkeypatch.context() as patch:
            patch.setattr(pprof_tables, name, 1)
            with pytest.raises(InputError, match="too large"):
                back(RAW)
    monkeypatch.setattr(pprof_tables, "MAX_RECORD", 30)
    assert "damaged records" in str(back(packed(mixed())).notes)


def test_records_cover_a_file() -> None:
    found = list(records(RAW))
    assert sum(1 for one in found if one.field == 2) == 4
    assert found[-1].end == len(RAW)
    assert read(io.BytesIO(gzip.compress(RAW[:100]) + gzip.compress(RAW[100:]))).samples
