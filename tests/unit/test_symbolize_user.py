"""User names: through the image in force, the mapping, and the file behind it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from systemscope.elf import ElfImage, Location
from systemscope.model import (
    Capture,
    Entry,
    FileId,
    Frame,
    FrameKind,
    Gap,
    Image,
    Mapping,
    Process,
    Stack,
    State,
    Thread,
)
from systemscope.processes.maps import read_mappings
from systemscope.symbolizer import SymbolizerOptions, symbolize
from systemscope.symbolizer.space import AddressSpace
from tests.unit.elf_maker import TEXT, Maker, Sym

SYMBOLS = [Sym("first", TEXT, 64), Sym("second", TEXT + 64, 64), Sym("third", TEXT + 256, 16)]
BASE = 0x7F0000000000


class Opener:
    """Opens the made image for every mapping, and counts."""

    def __init__(self, path: Path, gone: frozenset[int] = frozenset()) -> None:
        self.path = path
        self.gone = gone
        self.calls: list[int] = []

    def __call__(self, tgid: int, mapping: Mapping) -> Optional[int]:
        self.calls.append(tgid)
        return None if tgid in self.gone else os.open(self.path, os.O_RDONLY)


@pytest.fixture
def opener(tmp_path: Path) -> Iterator[Opener]:
    path = tmp_path / "image"
    path.write_bytes(Maker(SYMBOLS).build())
    before = len(os.listdir("/proc/self/fd"))
    yield Opener(path)
    assert len(os.listdir("/proc/self/fd")) == before


def mapped(start: int = BASE, path: str = "/opt/app/libmade.so", inode: int = 5) -> Mapping:
    file = FileId(8, 1, inode) if inode else None
    return Mapping(start, start + 0x9000, 0, path, file)


def capture_of(mappings: tuple[Mapping, ...], *users: tuple[int, ...]) -> Capture:
    capture = Capture(0, 100, 0.0, 99, "cpu-clock")
    capture.threads = [Thread(7, 7, "worker", 0, 100)]
    capture.processes = {7: Process(7, "app", [Image(0, mappings)])}
    for user in users:
        capture.stacks.append(Stack(user=user))
        number = len(capture.stacks) - 1
        capture.entries.append(Entry(0, State.RUNNING, number, 10, 1, 50))
    return capture


def names(frames: tuple[Frame, ...]) -> list[str]:
    return [frame.name for frame in frames]


def test_leaf_is_exact_and_callers_are_return_addresses(opener: Opener) -> None:
    at = BASE + TEXT
    stack = (at + 64, at + 64, at + 65, at + 256)
    (sample,) = symbolize(capture_of((mapped(),), stack), opener=opener).samples
    # The last is an address at which nothing can have called: the start of `third`.
    assert names(sample.frames) == ["second", "first", "second", "third"]
    leaf, caller = sample.frames[:2]
    assert (leaf.address, leaf.offset, leaf.module) == (at + 64, 0, "libmade.so")
    assert (caller.address, caller.offset) == (at + 64, 64)
    assert leaf.build_id == "1234" and leaf.kind is FrameKind.USER
    assert leaf.mapping == mapped()
    assert sample.process_comm == "app"


def test_signal_frames(tmp_path: Path) -> None:
    """A walk by tables stores what was interrupted, and what handlers return to, one too high; the
    kernel's own walk stores the latter as it is."""
    path = tmp_path / "image"
    restore = Sym("__restore_rt", TEXT + 128 + 1, 9)  # as in glibc, behind a nop that is nobody's
    path.write_bytes(Maker([*SYMBOLS, restore]).build())
    at = BASE + TEXT
    begin = at + 129
    stacks = (
        (at + 4, begin + 1, at + 64 + 1, at + 70),  # interrupted at the first byte of `second`
        (at + 4, begin, at + 64 + 6),
    )
    tables, pointers = symbolize(capture_of((mapped(),), *stacks), opener=Opener(path)).samples
    assert names(tables.frames) == ["first", "__restore_rt", "second", "second"]
    assert [frame.offset for frame in tables.frames[1:3]] == [1, 1]
    assert names(pointers.frames) == ["first", "__restore_rt", "second"]
    assert pointers.frames[1].offset == 0


def test_every_entry_gives_one_sample(opener: Opener) -> None:
    capture = capture_of((mapped(),), (BASE + TEXT,), (BASE + TEXT + 300,))
    capture.entries += [
        Entry(0, State.SLEEPING, 0, 12345, 2, 50, Gap.SHORT_WAITS),
        Entry(0, State.DISK, 2, 1, 1, 50),
        Entry(0, State.RUNNING, 1, 0, 0, 50),
    ]
    profile = symbolize(capture, opener=opener)
    assert [s.nanoseconds for s in profile.samples] == [e.nanoseconds for e in capture.entries]
    assert [s.count for s in profile.samples] == [e.count for e in capture.entries]
    assert [s.state for s in profile.samples] == [e.state for e in capture.entries]
    assert profile.samples[2].gap is Gap.SHORT_WAITS and profile.samples[2].frames == ()
    losses = profile.capture.losses
    assert (losses.resolved_frames, losses.unresolved_frames) == (2, 2)
    symbolize(capture, opener=opener)
    assert (losses.resolved_frames, losses.unresolved_frames) == (2, 2)


def test_file_is_opened_once_for_all_who_map_it(opener: Opener) -> None:
    capture = capture_of((mapped(),), (BASE + TEXT,))
    for tgid in range(8, 40):
        start = BASE + 0x10000 * tgid
        # One mapping told by the side-band with a generation, one by /proc without.
        made = mapped(start)
        if tgid % 2:
            made = Mapping(made.start, made.end, 0, made.path, FileId(8, 1, 5, 99))
        capture.processes[tgid] = Process(tgid, "app", [Image(0, (made,))])
        capture.threads.append(Thread(tgid, tgid, "worker", 0, 100))
        capture.stacks.append(Stack(user=(start + TEXT + 4,)))
        capture.entries.append(Entry(tgid - 7, State.RUNNING, tgid - 6, 10, 1, 50))
    profile = symbolize(capture, opener=opener)
    assert {names(s.frames)[0] for s in profile.samples} == {"first"}
    assert len(opener.calls) == 1


def test_another_process_lends_the_file(opener: Opener) -> None:
    opener.gone = frozenset({7})
    capture = capture_of((mapped(),), (BASE + TEXT,), (BASE + TEXT + 64,))
    capture.processes[8] = Process(8, "app", [Image(0, (mapped(),))])
    capture.threads.append(Thread(8, 8, "worker", 0, 100))
    capture.entries.append(Entry(1, State.RUNNING, 1, 10, 1, 50))
    profile = symbolize(capture, opener=opener)
    assert [names(s.frames)[0] for s in profile.samples] == ["first", "second", "first"]


def test_image_in_force_at_the_time(opener: Opener, tmp_path: Path) -> None:
    capture = capture_of((mapped(),), (BASE + TEXT,))
    other = Mapping(BASE, BASE + 0x9000, 64, "/opt/app/other", FileId(8, 1, 6))
    capture.processes[7].images = [
        Image(20, (mapped(),)),
        Image(60, (other,)),
    ]
    capture.entries = [Entry(0, State.RUNNING, 1, 1, 1, t) for t in (10, 20, 59, 60, 99)]
    profile = symbolize(capture, opener=opener)
    assert [names(s.frames)[0] for s in profile.samples] == ["first"] * 3 + ["second"] * 2
    assert [s.frames[0].module for s in profile.samples] == ["libmade.so"] * 3 + ["other"] * 2


def test_replaced_mappings_still_name_their_addresses(opener: Opener) -> None:
    new = Mapping(BASE, BASE + 0x1000, 0, "", None)
    capture = capture_of((), (BASE + TEXT,), (BASE + 16,))
    capture.processes[7].images = [Image(0, (new,), (mapped(),))]
    profile = symbolize(capture, opener=opener)
    assert [names(s.frames)[0] for s in profile.samples] == ["first", f"[anon]+{BASE + 16:#x}"]


def test_why_a_name_is_missing(opener: Opener, tmp_path: Path) -> None:
    opener.gone = frozenset({7})
    anonymous = Mapping(BASE + 0x100000, BASE + 0x101000, 0, "")
    heap = Mapping(BASE + 0x200000, BASE + 0x201000, 0, "[heap]")
    gone = mapped()
    stacks = [(a,) for a in (BASE + 0x1234, BASE + 0x100010, BASE + 0x200010, 0x99)]
    profile = symbolize(capture_of((gone, anonymous, heap), *stacks), opener=opener)
    frames = [s.frames[0] for s in profile.samples]
    assert names(tuple(frames)) == [
        "libmade.so+0x1234",
        "[anon]+0x7f0000100010",
        "[heap]+0x7f0000200010",
        "[unknown]+0x99",
    ]
    assert [f.kind for f in frames] == [
        FrameKind.USER,
        FrameKind.JIT,
        FrameKind.JIT,
        FrameKind.USER,
    ]
    assert all(f.unknown for f in frames)
    assert "gone" in frames[0].unknown and "no mapping" in frames[3].unknown


def test_stripped_and_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "image"
    for data, reason in (
        (Maker(SYMBOLS, dynamic=True).build(), "stripped"),
        (Maker(SYMBOLS).build(), "no symbol"),
        (b"#!/bin/sh\n" * 100, "not an ELF file"),
        (b"", "truncated"),
        (b"\x7fELF\x01\x01\x01" + bytes(100), "32-bit"),
    ):
        path.write_bytes(data)
        capture = capture_of((mapped(),), (BASE + TEXT + 200,))
        (sample,) = symbolize(capture, opener=Opener(path)).samples
        assert sample.frames[0].name == f"libmade.so+{TEXT + 200:#x}"
        assert reason in sample.frames[0].unknown


def test_offset_of_an_unnamed_address_is_the_virtual_one(tmp_path: Path) -> None:
    """A fixed executable at 0x400000 whose code begins at file offset 0x1000."""
    data = bytearray(Maker(SYMBOLS).build())
    data[64 + 16 : 64 + 24] = (0x400000).to_bytes(8, "little")
    path = tmp_path / "fixed"
    path.write_bytes(data)
    capture = capture_of((Mapping(0x401000, 0x402000, 0x1000, "/a", FileId(8, 1, 1)),), (0x401004,))
    (sample,) = symbolize(capture, opener=Opener(path)).samples
    assert sample.frames[0].name == "a+0x401004"


def test_unknown_process_and_kernel_thread() -> None:
    capture = capture_of((), (0x1234,))
    del capture.processes[7]
    (sample,) = symbolize(capture).samples
    assert names(sample.frames) == ["[unknown]+0x1234"]
    assert sample.process_comm == "worker"


def test_opener_that_fails_or_gives_something_odd(tmp_path: Path) -> None:
    def refuse(tgid: int, mapping: Mapping) -> Optional[int]:
        raise PermissionError("no")

    def fifo(tgid: int, mapping: Mapping) -> Optional[int]:
        return os.open("/dev/null", os.O_RDONLY)

    for opener, reason in ((refuse, "gone"), (fifo, "not a regular file")):
        capture = capture_of((mapped(),), (BASE + TEXT,))
        (sample,) = symbolize(capture, opener=opener).samples
        assert reason in sample.frames[0].unknown


def test_seams_for_more_names(opener: Opener) -> None:
    class Lines:
        def __init__(self, image: ElfImage) -> None:
            pass

        def resolve(self, address: int) -> tuple[Location, ...]:
            if address != TEXT + 4:
                return ()
            inner = Location("inlined", 1, "a.c", 3, inlined=True)
            return (inner, Location("first", 4, "a.c", 9))

    from systemscope.elf import SymbolResolver

    options = SymbolizerOptions(
        resolvers=(Lines, SymbolResolver),
        rename=str.upper,
        generated_code=lambda tgid, address: (Frame("jitted", FrameKind.JIT, address),),
    )
    anonymous = Mapping(BASE + 0x100000, BASE + 0x101000, 0, "")
    stack = (BASE + TEXT + 4, BASE + TEXT + 70, BASE + 0x100010)
    capture = capture_of((mapped(), anonymous), stack)
    (sample,) = symbolize(capture, options, opener).samples
    assert names(sample.frames) == ["INLINED", "FIRST", "SECOND", "jitted"]
    assert sample.frames[0].inlined and sample.frames[0].line == 3
    assert sample.frames[0].address == sample.frames[1].address


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=12),
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=12),
)
def test_address_space_against_a_plain_search(
    current: list[tuple[int, int]], replaced: list[tuple[int, int]]
) -> None:
    def made(spans: list[tuple[int, int]], label: str) -> tuple[Mapping, ...]:
        return tuple(
            Mapping(start, start + length, 0, f"/{label}{i}")
            for i, (start, length) in enumerate(spans)
        )

    image = Image(0, made(current, "now"), made(replaced, "old"))
    space = AddressSpace(1, image)
    for address in range(95):
        order = list(image.mappings) + list(reversed(image.replaced))
        expected = next((m for m in order if m.start <= address < m.end), None)
        assert space.find(address) == expected


def own_capture(*addresses: int) -> Capture:
    pid = os.getpid()
    capture = Capture(0, 100, 0.0, 99, "cpu-clock", kernel=os.uname().release)
    capture.threads = [Thread(pid, pid, "me", 0, 100)]
    capture.processes = {pid: Process(pid, "me", [Image(0, read_mappings(pid))])}
    capture.stacks.append(Stack(user=addresses))
    capture.entries.append(Entry(0, State.RUNNING, 1, 10, 1, 50))
    return capture


def test_own_functions_by_their_run_time_addresses() -> None:
    libc = ctypes.CDLL(None)
    wanted = ["qsort", "printf", "fopen", "getpid"]
    addresses = [ctypes.cast(getattr(libc, name), ctypes.c_void_p).value or 0 for name in wanted]
    (sample,) = symbolize(own_capture(*(a + 1 for a in addresses))).samples
    for frame, name, address in zip(sample.frames, wanted, addresses):
        assert frame.unknown == "" and frame.module.startswith("libc")
        assert frame.address - frame.offset == address
        assert frame.name == name
    assert sample.frames[0].build_id


def test_own_vdso() -> None:
    span = next((m for m in read_mappings(os.getpid()) if m.path == "[vdso]"), None)
    if span is None:
        pytest.skip("no vdso here")
    from systemscope.processes.vdso import read_vdso

    image = ElfImage.from_bytes(read_vdso() or b"")
    assert image.dynsym is not None
    start = next(iter(image.dynsym.addresses()))
    (sample,) = symbolize(own_capture(span.start + start)).samples
    (frame,) = sample.frames
    assert frame.kind is FrameKind.VDSO and frame.unknown == "" and frame.module == "[vdso]"
    narrow = Mapping(0xF7FC0000, 0xF7FC2000, 0, "[vdso]")  # of a 32-bit process: another image
    mixed = own_capture(span.start + start, 0xF7FC0000 + start + 1)
    mixed.processes[os.getpid()].images = [Image(0, (narrow, *read_mappings(os.getpid())))]
    (sample,) = symbolize(mixed).samples
    assert [bool(frame.unknown) for frame in sample.frames] == [False, True]
    foreign = own_capture(span.start + start)
    foreign.kernel = "1.2.3"
    (sample,) = symbolize(foreign).samples
    assert sample.frames[0].name == f"[vdso]+{start:#x}" and sample.frames[0].unknown


PROGRAM = """
#include <stdio.h>
#include <unistd.h>
int known(int x) { return x + 1; }
int main(void) { printf("%p\\n", (void *)known); fflush(stdout); pause(); return known(1); }
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("flags", [["-pie", "-fPIE"], ["-no-pie", "-fno-pie"], ["-static"]])
@pytest.mark.parametrize("deleted", [False, True])
def test_running_program(tmp_path: Path, flags: list[str], deleted: bool) -> None:
    source, program = tmp_path / "a.c", tmp_path / "a"
    source.write_text(PROGRAM)
    subprocess.run(["cc", "-O0", *flags, "-o", str(program), str(source)], check=True)
    child = subprocess.Popen([str(program)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        address = int(child.stdout.readline(), 16)
        if deleted:
            program.unlink()
        if deleted and os.geteuid() != 0:
            pytest.skip("map_files needs root")
        capture = capture_of(read_mappings(child.pid), (address + 4, address + 8))
        capture.threads = [Thread(child.pid, child.pid, "a", 0, 100)]
        capture.processes = {child.pid: Process(child.pid, "a", capture.processes[7].images)}
        (sample,) = symbolize(capture).samples
        assert names(sample.frames) == ["known", "known"]
        assert sample.frames[0].offset == 4
    finally:
        child.kill()
        child.communicate()


def test_many_addresses_stay_quick() -> None:
    """50,000 addresses in this process's own files: a guard against quadratic costs only."""
    spans = [m for m in read_mappings(os.getpid()) if m.path.startswith("/")]
    per_span = 50_000 // len(spans)
    addresses = [
        span.start + (span.end - span.start) * i // per_span
        for span in spans
        for i in range(per_span)
    ]
    capture = own_capture(*addresses)
    began = time.process_time()
    (sample,) = symbolize(capture).samples
    assert time.process_time() - began < 60
    assert len(sample.frames) == len(addresses)
