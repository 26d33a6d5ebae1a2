"""Capture files: what is written comes back, and nothing a file says is believed."""

from __future__ import annotations

import io
import struct
import tempfile
import zlib
from contextlib import suppress
from dataclasses import fields, replace
from typing import Optional

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from systemscope.errors import InputError, OutputError, UsageError
from systemscope.exporters import capture as exporter
from systemscope.importers import capture as importer
from systemscope.model import (
    Capture,
    Delay,
    DelayKind,
    Entry,
    Event,
    EventKind,
    FileId,
    Gap,
    GeneratedSymbol,
    HostFacts,
    Image,
    KernelSymbol,
    Losses,
    Mapping,
    Overhead,
    Process,
    Profile,
    Sample,
    Stack,
    StackEnd,
    State,
    Thread,
    Timeline,
    UnwindReport,
)
from systemscope.model.timeline import RECORD
from systemscope.wire import capture_sections as sections
from systemscope.wire.capture_columns import ColumnError, Table, TableWriter
from tests.unit.fake_captures import capture, frame, sample, thread

U64 = st.integers(0, (1 << 64) - 1)
TEXT = st.text(st.characters(), max_size=12)  # any character, lone surrogates too
STATES = st.sampled_from(list(State))


def written(what: Capture) -> bytes:
    stream = io.BytesIO()
    exporter.write(Profile(what), stream)
    return stream.getvalue()


def read(data: bytes) -> Capture:
    return importer.read(io.BytesIO(data))


def record(end: int, tid: int = 7, kind: int = 1) -> bytes:
    return RECORD.pack(end - 5, 0, end, 3, 4, tid, 0, kind | State.SLEEPING << 8, 0)


def rich() -> Capture:
    """A capture that uses every field."""
    made = capture()
    file = FileId(8, 1, 42, 3)
    mapping = Mapping(0x1000, 0x3000, 0x1000, "/bin/\udcffapp;\n", file)
    gone = Mapping(0x5000, 0x6000, 0, "/memfd:x", None, True)
    made.command, made.notes = "app --flag", ["a note", "\ud800"]
    made.losses, made.overhead = Losses(walks_failed=3), Overhead(0.5, 0.25, 7, 1 << 40, 0.01)
    made.wall_start = 1_700_000_000.123456
    made.processes[100] = Process(
        100, "app", [Image(0, (mapping,)), Image(9, (mapping, gone), (gone,))], "/a/b", 5
    )
    made.threads[0].waits = {State.SLEEPING: 5}
    made.threads[0].delays = {DelayKind.BLOCK_IO: Delay(3, 1 << 63), DelayKind.CPU: Delay(0, 0)}
    made.threads[1].delays = {}
    made.threads[1].born, made.threads[1].preemptions, made.threads[1].elsewhere = True, 9, 11
    made.stacks.append(Stack(kernel_names=("do_nanosleep+0x5", "x"), user_truncated=True))
    made.stacks.append(Stack(user=(1 << 63, 5), user_end=StackEnd.STRAYED, user_by_pointer=True))
    made.unwinding = UnwindReport("bpf_loop", 14, 212_345, 1 << 33, 1 << 34, 0.25, 11, 1, 2, 3, 4)
    made.entries.append(Entry(1, State.DISK, 3, (1 << 64) - 1, 2, 10, Gap.SHORT_WAITS))
    made.facts = HostFacts(
        {("/bin/\udcffapp;\n", (8, 1, 42, 3)): "ab" * 20},
        [KernelSymbol(0xFFFF0000, 0xFFFF0100, "sched"), KernelSymbol(1 << 63, 1 << 64, "x", "m")],
        "cd" * 20, b"\x7fELF vdso", ["why"],
        [GeneratedSymbol(7, 1 << 63, (1 << 63) + 5, "js\n"), GeneratedSymbol(9, 0, 1, "")],
    )  # fmt: skip
    return made


def with_timeline(made: Capture, *rounds: bytes) -> Capture:
    timeline = Timeline(tempfile.TemporaryFile(), lost=4)  # noqa: SIM115
    for batch in rounds:
        timeline.append(batch)
    timeline.stacks = {(3, 4): 1, (1 << 63, 0): 2}
    timeline.closing = [Event(EventKind.WAIT, 7, -1, 50, 60, 90, State.DISK, 2, 0)]
    made.timeline = timeline
    return made


def check_equal(found: Capture, expected: Capture) -> None:
    for field in fields(Capture):
        if field.name not in ("timeline", "facts"):
            assert getattr(found, field.name) == getattr(expected, field.name), field.name


def test_every_field_comes_back() -> None:
    made = with_timeline(rich(), record(10) + record(20), record(30))
    found = read(written(made))
    check_equal(found, made)
    assert found.facts == made.facts
    assert found.timeline is not None and made.timeline is not None
    assert list(found.timeline.events()) == list(made.timeline.events())
    assert list(found.timeline.events()) == list(found.timeline.events()), "read anew each time"
    assert (found.timeline.lost, found.timeline.stacks) == (4, made.timeline.stacks)
    with pytest.raises(OSError, match="cannot grow"):
        found.timeline.append(record(40))


def test_the_same_capture_gives_the_same_bytes() -> None:
    first = written(with_timeline(rich(), record(10)))
    assert written(with_timeline(rich(), record(10))) == first
    assert written(read(first)) == first, "and so does what was read from them"


def test_rounds_longer_than_a_section_stay_one() -> None:
    long = b"".join(record(end) for end in range(10, 40_010))
    found = read(written(with_timeline(capture(), record(5), long, record(50_000))))
    assert found.timeline is not None
    assert list(found.timeline.rounds()) == [record(5), long, record(50_000)]


def reports(ended: bool) -> st.SearchStrategy[Optional[UnwindReport]]:
    """What tables took; never nothing where a stack was unwound by them."""
    seconds = st.floats(0, 1e9)
    report = st.builds(UnwindReport, TEXT, *[U64] * 4, seconds, *[U64] * 5)
    return report if ended else st.none() | report


@st.composite
def captures(draw: st.DrawFn) -> Capture:
    threads = draw(
        st.lists(
            st.builds(
                Thread,
                tid=U64, tgid=U64, comm=TEXT, begin=st.just(0), end=U64,
                time=st.dictionaries(STATES, U64), waits=st.dictionaries(STATES, U64),
                born=st.booleans(), died=st.booleans(), ran=st.booleans(),
                preemptions=U64, elsewhere=U64,
                delays=st.none() | st.dictionaries(
                    st.sampled_from(list(DelayKind)), st.builds(Delay, U64, U64)
                ),
            ),
            max_size=3,
        )
    )  # fmt: skip
    addresses = st.lists(U64, max_size=5).map(tuple)
    texts = st.lists(TEXT, max_size=2).map(tuple)
    flags = (st.booleans(), st.booleans(), st.sampled_from(StackEnd), st.booleans())
    stack = st.builds(Stack, addresses, addresses, texts, *flags)
    stacks = [Stack(), *draw(st.lists(stack, max_size=4))]
    entry = st.builds(
        Entry,
        st.integers(0, max(len(threads) - 1, 0)), STATES, st.integers(0, len(stacks) - 1),
        U64, U64, U64, st.none() | st.sampled_from(list(Gap)),
    )  # fmt: skip
    entries = draw(st.lists(entry, max_size=6)) if threads else []
    return Capture(
        draw(st.just(0)), draw(U64), draw(st.floats(allow_nan=False, allow_infinity=False)),
        draw(U64), draw(TEXT), draw(TEXT), draw(TEXT), draw(TEXT),
        threads=threads, stacks=stacks, entries=entries, notes=draw(st.lists(TEXT, max_size=2)),
        unwinding=draw(reports(any(stack.user_end for stack in stacks))),
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(captures())
def test_any_capture_comes_back(made: Capture) -> None:
    check_equal(read(written(made)), made)


def test_one_giant_stack_and_many_small_ones() -> None:
    made = capture()
    made.stacks += [Stack(user=tuple(range(300_000))), *(Stack((n,)) for n in range(40_000))]
    made.entries.append(Entry(0, State.RUNNING, len(made.stacks) - 1, 5, 1, 9))
    check_equal(read(written(made)), made)


def test_what_does_not_fit_is_refused() -> None:
    for value in (-1, 1 << 64):
        made = capture()
        made.entries[0].nanoseconds = value
        with pytest.raises(OutputError, match="does not fit into 64 bits"):
            written(made)
        made = capture()
        made.stacks.append(Stack(user=(value,)))
        with pytest.raises(OutputError, match="does not fit into 64 bits"):
            written(made)
    foreign = Profile(capture(), [sample(thread(1), 5, frame("main"))])
    foreign.capture.entries = []
    with pytest.raises(UsageError, match="holds no capture"):
        exporter.write(foreign, io.BytesIO())


def check_sums(found: Capture) -> None:
    """Every thread's entries add up to its time, whatever was lost."""
    for index, one in enumerate(found.threads):
        total = sum(entry.nanoseconds for entry in found.entries if entry.thread == index)
        assert total == sum(one.time.values())
    for entry in found.entries:
        assert 0 <= entry.thread < len(found.threads)
        assert 0 <= entry.stack < len(found.stacks)


def test_a_file_cut_anywhere_gives_what_is_before_the_cut() -> None:
    whole = written(with_timeline(capture(), record(10), record(20)))
    saved = set()
    for length in range(len(whole)):
        try:
            found = read(whole[:length])
        except InputError as error:
            assert error.remedy or "no capture file" in error.message
            continue
        assert "damaged" in found.notes[-1]
        check_sums(found)
        assert found.timeline is None or list(found.timeline.events()) is not None
        saved.add((len(found.threads), len(found.stacks) > 1, found.timeline is not None))
    assert (3, True, True) in saved
    assert (3, False, True) in saved


def test_a_file_cut_in_the_middle_holds_what_is_before() -> None:
    made = capture()
    made.threads[0].time = {State.RUNNING: 20_000}
    made.stacks = [Stack(), *(Stack(user=(n * 7919 % 100_003, n)) for n in range(1, 20_000))]
    made.entries = [Entry(0, State.RUNNING, n, 1, 1, n) for n in range(20_000)]
    whole = written(made)
    found = read(whole[: len(whole) // 2])
    kept = [entry for entry in found.entries if entry.gap is None]
    assert len(kept) > 7_000
    assert [found.stacks[entry.stack] for entry in kept] == made.stacks[: len(kept)]
    check_sums(replace(found, threads=found.threads[:1]))


def test_a_damaged_section_costs_no_other() -> None:
    whole = bytearray(written(capture()))
    place = whole.index(b"ENTR") + 26
    whole[place] ^= 1
    found = read(bytes(whole))
    check_sums(found)
    assert all(entry.gap is Gap.NO_STACK for entry in found.entries)
    assert "section ENTR: its bytes are damaged" in found.notes[-1]
    assert "0 of 4 entries" in found.notes[-1]
    assert len(found.stacks) == 3


WHOLE = written(with_timeline(rich(), record(10), record(20)))


def use(found: Capture) -> None:
    """Look at everything as an exporter would."""
    for entry in found.entries:
        assert found.threads[entry.thread].elapsed >= 0
        assert found.stacks[entry.stack] is not None
    if found.timeline is not None:
        for event in found.timeline.events():
            assert event.stack < len(found.stacks)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(1, 255)), max_size=4))
def test_flipped_bits_are_survived(flips: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE)
    for place, mask in flips:
        data[place] ^= mask
    with suppress(InputError):
        use(read(bytes(data)))


TAGS = [b"HEAD", b"THRD", b"MAPS", b"PROC", b"IMAG", b"FACT", b"BIDS", b"KSYM", b"STAK", b"ENTR"]
TAGS += [b"JSYM", b"TSTK", b"TEND", b"TEVT"]


def sections_of(data: bytes) -> dict[bytes, bytes]:
    stream = io.BytesIO(data)
    sections.read_file_header(stream)
    found: dict[bytes, bytes] = {}
    while True:
        section = sections.next_section(stream)
        if section is None:
            return found
        found.setdefault(section.tag, sections.read_payload(stream, section))


PAYLOADS = sections_of(WHOLE)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(TAGS),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=5),
    st.integers(0, 1 << 16),
)
@example(b"HEAD", [(0, ord("["))], 1 << 16)
def test_hostile_payloads_with_right_checksums(
    tag: bytes, changes: list[tuple[int, int]], length: int
) -> None:
    stream = io.BytesIO()
    sections.write_file_header(stream)
    for name, payload in PAYLOADS.items():
        data = bytearray(payload)
        if name == tag and data:
            for place, value in changes:
                data[place % len(data)] = value
            del data[length:]
        sections.write_section(stream, name, bytes(data))
    with suppress(InputError):
        use(read(stream.getvalue()))


def assembled(*parts: tuple[bytes, bytes]) -> bytes:
    stream = io.BytesIO()
    sections.write_file_header(stream)
    for tag, payload in (*parts, (sections.END, b"")):
        sections.write_section(stream, tag, payload)
    return stream.getvalue()


def test_later_versions_are_read() -> None:
    threads = PAYLOADS[b"THRD"]
    later = TableWriter()
    later.numbers("colour", [1, 2, 3])
    entries = Table(PAYLOADS[b"ENTR"])
    count = len(entries.numbers("thread"))
    future = TableWriter()
    for name in ("thread", "stack", "nanoseconds", "count", "time"):
        future.numbers(name, entries.numbers(name))
    future.numbers("state", [200] * count)
    future.texts("gap", ["[of the future]"] * count)
    ends = TableWriter()
    ends.numbers("first", [0])
    ends.numbers("kernel", [0] * 5)
    ends.numbers("user", [0, 1, 1, 1, 1])
    ends.numbers("address", [1, 2, 3, 4])
    ends.numbers("user_end", [0, 1, 6, 7, 1 << 60])
    found = read(
        assembled(
            (b"HEAD", PAYLOADS[b"HEAD"]),
            (b"XTRA", b"what no version knows"),
            (b"THRD", threads + later.payload()),
            (b"STAK", ends.payload()),
            (b"ENTR", future.payload()),
        )
    )
    assert found.notes[-1] == "a newer version wrote what this one does not know: XTRA"
    assert len(found.threads) == 3
    assert {entry.state for entry in found.entries} == {State.UNKNOWN}
    assert {entry.gap for entry in found.entries} == {Gap.NO_STACK}
    assert [stack.user_end for stack in found.stacks[1:]] == [
        StackEnd.ENTRY,
        StackEnd.STRAYED,
        StackEnd.DEPTH,
        StackEnd.DEPTH,
    ]


def test_what_is_told_of_unwinding_may_be_damaged() -> None:
    lost = read(assembled(*(item for item in PAYLOADS.items() if item[0] != b"HEAD")))
    assert lost.unwinding == UnwindReport(), "stacks still tell that there were tables"
    for told, expected in (
        (b"7", None),
        (b"[]", None),
        (b"{}", UnwindReport()),
        (b'{"method":3,"files":-1,"rows":"x","build_seconds":1e999}', UnwindReport()),
        (b'{"method":"new","files":5,"later":1}', UnwindReport("new", 5)),
    ):
        found = read(assembled((b"HEAD", b'{"unwinding":' + told + b"}")))
        assert found.unwinding == expected, told


def test_captures_without_tables_are_as_they_were() -> None:
    stak = capture()
    stak.stacks.append(Stack(user=(5,), user_truncated=True))
    found = sections_of(written(stak))
    assert not Table(found[b"STAK"]).has("user_end")
    assert read(written(stak)).unwinding is None


def test_earlier_versions_are_read() -> None:
    short = TableWriter()
    short.numbers("first", [0])
    short.numbers("tid", [5])
    found = read(assembled((b"THRD", short.payload())))
    assert [(one.tid, one.comm, one.ran) for one in found.threads] == [(5, "", False)]
    assert found.facts is not None and found.facts.notes, "another kernel's names are not taken"


def test_what_is_no_capture_file() -> None:
    head = struct.pack("<8sHH", sections.MAGIC, sections.MAJOR + 1, 0)
    newer = head + struct.pack("<I", zlib.crc32(head))
    for data, words in (
        (b"", "no capture file"),
        (b"hello", "no capture file"),
        (WHOLE[:12], "nothing can be read"),
        (WHOLE[:16], "nothing can be read"),
        (WHOLE.replace(b"\r\n", b"\n"), "no capture file"),
        (newer, "too new"),
    ):
        with pytest.raises(InputError, match=words):
            read(data)


def test_bombs_do_not_go_off() -> None:
    section = struct.pack("<4sB3xIII", b"STAK", 1, 40, 0xFFFFFFFF, 0)
    bomb = WHOLE[:16] + section + struct.pack("<I", zlib.crc32(section)) + bytes(40)
    with pytest.raises(InputError, match="more than any capture holds"):
        read(bomb)
    packed = zlib.compress(bytes(32 << 20))
    section = struct.pack("<4sB3xIII", b"STAK", 1, len(packed), 99, zlib.crc32(packed))
    bomb = WHOLE[:16] + section + struct.pack("<I", zlib.crc32(section)) + packed
    with pytest.raises(InputError, match="its size is wrong"):
        read(bomb)
    rows = TableWriter()
    rows.numbers("first", [0])
    rows.numbers("kernel", [0] * (1 << 20))
    with pytest.raises(InputError, match="longer than any writer"):
        read(assembled((b"STAK", rows.payload())))
    far = TableWriter()
    far.numbers("first", [1 << 40])
    far.numbers("kernel", [0])
    far.numbers("address", [])
    with pytest.raises(InputError, match="more than"):
        read(assembled((b"STAK", far.payload())))
    deep = b'{"notes":' + b"[" * 200_000
    with pytest.raises(InputError, match="JSON"):
        read(assembled((b"HEAD", deep)))
    digits = read(assembled((b"HEAD", b'{"start":' + b"9" * 1_000_000 + b"}")))
    assert digits.start == 0


def test_columns_say_what_is_wrong_with_them() -> None:
    table = TableWriter()
    table.numbers("a", [1, 2])
    table.texts("b", ["x"])
    found = Table(table.payload())
    assert found.numbers("a", 2) == [1, 2]
    assert found.numbers("none", 3) == [0, 0, 0]
    for call, words in (
        (lambda: found.numbers("a", 3), "2 values instead of 3"),
        (lambda: found.numbers("b"), "holds no numbers"),
        (lambda: found.texts("a"), "holds no texts"),
        (lambda: found.blob("a"), "holds no bytes"),
        (lambda: found.numbers("none"), "missing"),
        (lambda: Table(table.payload()[:-1]), "cut short"),
    ):
        with pytest.raises(ColumnError, match=words):
            call()


def test_a_profile_keeps_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    named = Profile(capture(), [])
    named.samples = [
        Sample(named.capture.threads[e.thread], "app", e.state, (frame("f"),), e.nanoseconds, 1)
        for e in named.capture.entries
    ]
    stream = io.BytesIO()
    exporter.write(named, stream)
    check_equal(read(stream.getvalue()), named.capture)
