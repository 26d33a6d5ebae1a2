"""Perf maps and jitdumps: parsed in bulk, read on as they grow, from the right process's files."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from systemscope.model import (
    Capture,
    Entry,
    FileId,
    Frame,
    FrameKind,
    Image,
    Mapping,
    Process,
    Stack,
    State,
    Thread,
)
from systemscope.processes import generated as files
from systemscope.processes import rooted
from systemscope.symbolizer import symbolize
from systemscope.symbolizer.code_table import CodeTable
from systemscope.symbolizer.facts import gather_facts
from systemscope.symbolizer.generated import GeneratedCode
from systemscope.symbolizer.jitdump import JitDump
from systemscope.symbolizer.perf_map import PerfMap

BASE = 0x7F0000100000


def found(teller: object, address: int) -> str:
    code = teller.table.find(address)  # type: ignore[attr-defined]
    return code.name if code is not None else ""


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[bytes], int]]:
    descriptors: list[int] = []

    def make(data: bytes) -> int:
        path = tmp_path / f"file{len(descriptors)}"
        path.write_bytes(data)
        descriptors.append(os.open(path, os.O_RDWR))
        return descriptors[-1]

    yield make
    for descriptor in descriptors:
        os.close(descriptor)


def test_perf_map(opened: Callable[[bytes], int]) -> None:
    text = (
        b"1000 20 LazyCompile:~first /a b.js:1:2\n"
        b"0x1020 0x10 second\n"
        b"\n"
        b"nonsense\n"
        b"zz 10 not a number\n"
        b"1040 -5 negative\n"
        b"1050 0 empty\n"
        b"2000 ffffffffffffffff everything\n"
        b"3000 10 caf\xc3\xa9 \xff\n"
        b"4000 10 half a li"
    )
    descriptor = opened(text)
    reader = PerfMap(descriptor)
    assert reader.grow() and not reader.grow()
    assert found(reader, 0x1000) == found(reader, 0x101F) == "LazyCompile:~first /a b.js:1:2"
    assert found(reader, 0x1020) == "second" and found(reader, 0x1030) == ""
    assert found(reader, 0x3001) == "café \ufffd"
    assert found(reader, 0x2000) == found(reader, 0x4001) == ""
    os.pwrite(descriptor, b"ne\n1000 8 newer\n", len(text))
    assert reader.grow()
    assert found(reader, 0x4001) == "half a line"
    assert found(reader, 0x1007) == "newer" and found(reader, 0x1008).startswith("LazyCompile")


def record(kind: int, body: bytes) -> bytes:
    return struct.pack("<IIQ", kind, 16 + len(body), 5) + body


def load(start: int, name: bytes, index: int, code: bytes = b"\x90" * 16) -> bytes:
    head = struct.pack("<IIQQQQ", 1, 1, start, start, len(code), index)
    return record(0, head + name + b"\0" + code)


def move(index: int, new: int) -> bytes:
    return record(1, struct.pack("<IIQQQQQ", 1, 1, new, 0, new, 16, index))


HEADER = struct.pack("<IIIIIIQQ", 0x4A695444, 1, 40, 62, 0, 1, 1, 0)


def test_jitdump(opened: Callable[[bytes], int]) -> None:
    debug = record(2, bytes(100))
    data = HEADER + load(0x1000, b"first", 1) + debug + load(0x2000, b"second", 2, bytes(300_000))
    descriptor = opened(data + move(1, 0x9000))
    reader = JitDump(descriptor)
    assert reader.grow() and not reader.grow()
    assert found(reader, 0x100F) == "first" and found(reader, 0x1010) == ""
    assert found(reader, 0x2000 + 299_999) == "second"
    assert found(reader, 0x9008) == "first"
    end = os.fstat(descriptor).st_size
    added = load(0x1000, b"third", 3)
    os.pwrite(descriptor, added[:30], end)
    assert not reader.grow()  # half a record
    os.pwrite(descriptor, added, end)
    assert reader.grow() and found(reader, 0x1008) == "third"


@pytest.mark.parametrize(
    "data",
    [
        b"", HEADER[:20], b"x" * 200, HEADER + bytes(1000), HEADER + record(0, b"short"),
        struct.pack("<IIIIIIQQ", 0x4A695444, 1, 0xFFFFFFFF, 62, 0, 1, 1, 0) + bytes(64),
        HEADER + struct.pack("<IIQ", 0, 0xFFFFFFFF, 0) + bytes(5000),
        HEADER + load(1 << 63, b"x", 1) + load(5, b"", 1) + load(5, b"x", 1, b""),
    ],
)  # fmt: skip
def test_damaged_jitdump(opened: Callable[[bytes], int], data: bytes) -> None:
    reader = JitDump(opened(data))
    reader.grow()
    reader.grow()
    assert len(reader.table) == 0


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 300), st.integers(0, 255))
def test_arbitrary_files(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int, to: int
) -> None:
    good = bytearray(HEADER + load(0x1000, b"first", 1) + move(1, 0x2000) + load(0x3000, b"x", 2))
    good[at % len(good)] = to
    path = tmp_path_factory.mktemp("arbitrary") / "file"
    for content in (data, HEADER + data, bytes(good), b"10 10 a\n" + data):
        path.write_bytes(content)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            for reader in (PerfMap(descriptor), JitDump(descriptor)):
                reader.grow()
                for address in (0, 0x10, 0x1000, 0x2000, (1 << 64) - 1):
                    reader.table.find(address)
        finally:
            os.close(descriptor)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=30))
def test_the_last_one_made_wins(spans: list[tuple[int, int]]) -> None:
    table = CodeTable()
    half = len(spans) // 2
    for part in (spans[:half], spans[half:]):
        offset = 0 if part is spans[:half] else half
        names = [b"f%d" % spans.index(span) for span in part]
        table.extend([s for s, _ in part], [n for _, n in part], names)
        assert offset <= len(table) or not part
    for address in range(95):
        covering = [i for i, (s, n) in enumerate(spans) if s <= address < s + n]
        code = table.find(address)
        if not covering:
            assert code is None
        else:
            assert code is not None and (code.start, code.size) == spans[covering[-1]]


def test_a_large_map_is_quick(opened: Callable[[bytes], int]) -> None:
    lines = b"".join(
        b"%x 40 function_number_%d file.js:%d\n" % (64 * i, i, i) for i in range(200_000)
    )
    reader = PerfMap(opened(lines))
    began = time.process_time()
    assert reader.grow() and found(reader, 64 * 150_000 + 3).startswith("function_number_150000 ")
    assert time.process_time() - began < 20


# -- finding the files -------------------------------------------------------------------------


def map_of(number: int) -> Path:
    return Path(f"/tmp/perf-{number}.map")


@pytest.fixture
def own_map() -> Iterator[Path]:
    path = map_of(os.getpid())
    if path.exists():
        pytest.skip("this Python writes a map of its own")
    yield path
    path.unlink(missing_ok=True)


def me(**more: object) -> Process:
    pid = os.getpid()
    return Process(pid, "me", [], "", pid, **more)  # type: ignore[arg-type]


def opens(process: Process) -> bool:
    descriptor = files.open_perf_map(process)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


def test_own_map(own_map: Path) -> None:
    assert not opens(me())
    own_map.write_text("10 10 x\n")
    assert opens(me())
    own_map.unlink()
    own_map.symlink_to("/etc/passwd")
    assert not opens(me())
    own_map.unlink()
    os.mkfifo(own_map)
    assert not opens(me())


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
def test_maps_of_others_do_not_count(own_map: Path) -> None:
    own_map.write_text("10 10 x\n")
    os.chown(own_map, 12345, 12345)
    assert not opens(me())
    assert opens(me(uid=12345))
    # A process that has ended, whose user is known and whose files were ours.
    gone = Process(4_194_000, "gone", [], "", os.getpid(), uid=12345)
    assert not opens(gone)
    gone.host_files = True
    assert opens(gone)
    gone.uid = 54321
    assert not opens(gone)


def test_the_last_component_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("x")
    (tmp_path / "directory").symlink_to("real")
    (tmp_path / "real" / "link").symlink_to("file")
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        for path, wanted in (("/directory/file", True), ("/directory/link", False), ("/no", False)):
            for descriptor in (
                rooted.open_in_root(root, path, follow=False),
                rooted.walk_in_root(root, path.encode(), follow=False),
            ):
                assert (descriptor is not None) is wanted
                if descriptor is not None:
                    os.close(descriptor)
    finally:
        os.close(root)


def test_frames_of_generated_code(own_map: Path, tmp_path: Path) -> None:
    own_map.write_text(f"{BASE:x} 40 js_function a.js:1\n")
    dump = tmp_path / f"jit-{os.getpid()}.dump"
    dump.write_bytes(HEADER + load(BASE + 0x1000, b"dumped", 1))
    marker = Mapping(BASE + 0x9000, BASE + 0xA000, 0, str(dump), FileId(8, 1, 77))
    anonymous = Mapping(BASE, BASE + 0x8000, 0, "")
    pid = os.getpid()
    capture = Capture(0, 100, 0.0, 99, "cpu-clock")
    capture.threads = [Thread(pid, pid, "me", 0, 100)]
    capture.processes = {pid: Process(pid, "me", [Image(0, (anonymous, marker))], "", pid)}
    addresses = (BASE, BASE + 0x40, BASE + 0x1004, BASE + 0x5000)
    capture.stacks.append(Stack(user=addresses))
    capture.entries.append(Entry(0, State.RUNNING, 1, 10, 1, 50))

    def opener(tgid: int, mapping: Mapping) -> Optional[int]:
        return os.open(mapping.path, os.O_RDONLY)

    (sample,) = symbolize(capture, opener=opener).samples
    # The second is a return address behind the function's last byte.
    names = ["js_function a.js:1", "js_function a.js:1", "dumped", f"[anon]+{BASE + 0x5000:#x}"]
    assert [frame.name for frame in sample.frames] == names
    assert [frame.offset for frame in sample.frames[:3]] == [0, 0x40, 4]
    assert [frame.address for frame in sample.frames] == list(addresses)
    assert all(frame.kind is FrameKind.JIT for frame in sample.frames)
    assert sample.frames[1].mapping == anonymous


def test_captures_take_the_names_along(own_map: Path) -> None:
    own_map.write_text(f"{BASE:x} 40 outer\n{BASE + 16:x} 8 inner\n{BASE + 0x100:x} 40 unseen\n")
    anonymous = Mapping(BASE, BASE + 0x8000, 0, "")
    pid = os.getpid()
    capture = Capture(0, 100, 0.0, 99, "cpu-clock")
    capture.threads = [Thread(pid, pid, "me", 0, 100)]
    capture.processes = {pid: Process(pid, "me", [Image(0, (anonymous,))], "", pid)}
    capture.stacks.append(Stack(user=(BASE + 17, BASE + 5, BASE + 0x40, BASE + 0x5000)))
    capture.entries.append(Entry(0, State.RUNNING, 1, 10, 1, 50))
    capture.facts = gather_facts(capture, lambda tgid, mapping: None)
    told = [(one.tgid, one.start - BASE, one.name) for one in capture.facts.generated]
    assert told == [(pid, 16, "inner"), (pid, 0, "outer")]
    own_map.unlink()
    (sample,) = symbolize(capture).samples
    names = [frame.name for frame in sample.frames]
    assert names == ["inner", "outer", "outer", f"[anon]+{BASE + 0x5000:#x}"]
    assert sample.frames[2].offset == 0x40 and sample.frames[2].kind is FrameKind.JIT


def test_a_map_that_grows(own_map: Path) -> None:
    own_map.write_text("")
    before = len(os.listdir("/proc/self/fd"))
    with GeneratedCode({os.getpid(): me()}, lambda tgid, mapping: None) as code:
        assert code.name(os.getpid(), 0x1000) == () == code.name(1, 0x1000)
        with open(own_map, "a") as file:
            file.write("1000 10 late\n")
        (frame,) = code.name(os.getpid(), 0x1008)
        assert frame == Frame("late", FrameKind.JIT, 0x1008, "[jit]", offset=8)
    assert len(os.listdir("/proc/self/fd")) == before
