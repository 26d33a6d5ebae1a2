"""Damaged and malicious call frame information: a table that holds together, or none, in bounds."""

from __future__ import annotations

import random
import time
import tracemalloc
import zlib
from pathlib import Path
from struct import pack
from typing import Optional

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from systemscope.elf import ElfError, ElfImage
from systemscope.elf.unwind_table import UnwindTable, build_unwind_table
from tests.unit.cfi_maker import TEXT, X86_INITIAL, Frames, Image, block, check_packing, uleb

#: One case a line: a name and the bytes of .eh_frame in hex. What once went wrong, or nearly did.
CORPUS = Path(__file__).with_name("hostile_eh_frame.txt")

_EXPRESSION = b"\x0f" + block(b"\x77\x08\x80\x00\x3f\x1a\x3b\x2a\x33\x24\x22")
GOOD = bytes(
    Frames()
    .cie()
    .fde(TEXT, 0x40, b"\x41\x0e\x10\x86\x02\x43\x0d\x06\x0a\x70\x0c\x07\x08\x41\x0b")
    .fde(TEXT + 0x40, 0x300, b"\x46\x0e\x18\x4a" + _EXPRESSION)
    .cie(augmentation=b"zRS")
    .fde(TEXT + 0x400, 0x10, b"\x0f\x04\x77\xa0\x01\x06\x10\x10\x03\x77\xa8\x01")
    .fde(TEXT + 0x410, 0x1000, b"\x02\x80\x0e\x20\x03\x00\x04\x0e\x30\x04\x00\x08\x00\x00\x0e\x08")
    .data
)


def explore(data: bytes, **image: object) -> Optional[UnwindTable]:
    """Build a table of .eh_frame; only ElfError may come out."""
    return explore_image(Image(data, **image).build())  # type: ignore[arg-type]


def explore_image(data: bytes, limit: int = 8 << 20) -> Optional[UnwindTable]:
    try:
        table = build_unwind_table(ElfImage.from_bytes(data), limit)
    except ElfError as error:
        assert error.message
        return None
    if table is not None:
        check_packing(table)
        assert len(table.words) <= limit
        for address in (table.low, table.low + 255, TEXT, TEXT + 0x41, 0, (1 << 64) - 1):
            table.rule_at(address)
    return table


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_arbitrary_bytes(data: bytes) -> None:
    explore(data)
    explore(GOOD + data)
    explore(data, sections=False, search_table=5)
    explore_image(Image(debug_frame=data).build())


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=8),
    st.integers(0, len(GOOD)),
    st.booleans(),
    st.sampled_from([62, 183]),
)
def test_damaged_frames(
    changes: list[tuple[int, int]], length: int, cut: bool, machine: int
) -> None:
    data = bytearray(GOOD)
    for position, value in changes:
        data[position] = value
    explore(bytes(data[:length] if cut else data), machine=machine)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.binary(max_size=12), st.binary(max_size=8))
def test_arbitrary_programs(code: bytes, initial: bytes, augmentation: bytes) -> None:
    frames = Frames().cie(X86_INITIAL + initial).fde(TEXT, 0x4000, code)
    table = explore(bytes(frames.fde(TEXT + 0x5000, 16).data))
    assert table is None or table.fdes >= 1
    letters = augmentation.replace(b"\0", b"")
    explore(bytes(Frames().cie(augmentation=b"z" + letters).fde(TEXT, 64, code).data))


def test_truncation_at_every_byte() -> None:
    whole = explore(GOOD)
    assert whole is not None
    assert whole.fdes == 4
    rows = 0
    for length in range(len(GOOD)):
        table = explore(GOOD[:length])
        assert (table.rows if table else 0) >= rows, "more bytes, fewer rows"
        rows = table.rows if table else 0


def test_every_bit_flipped() -> None:
    for bit in range(8 * len(GOOD)):
        data = bytearray(GOOD)
        data[bit >> 3] ^= 1 << (bit & 7)
        explore(bytes(data))


def test_damaged_images() -> None:
    """Headers, too: sections and segments that lie."""
    good = Image(GOOD, search_table=4, entry=TEXT + 0x5000).build()
    chance = random.Random(4)
    spots = [*range(64, 64 + 3 * 56), *range(len(good) - 5 * 64, len(good)), *range(4096, 4128)]
    for _ in range(1500):
        data = bytearray(good)
        for spot in chance.sample(spots, chance.randrange(1, 4)):
            data[spot] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        explore_image(bytes(data))


def corpus() -> list[tuple[str, bytes]]:
    lines = [line.split("#")[0].split() for line in CORPUS.read_text().splitlines()]
    return [(fields[0], bytes.fromhex("".join(fields[1:]))) for fields in lines if fields]


@pytest.mark.parametrize(("name", "data"), corpus(), ids=lambda value: str(value)[:24])
def test_corpus(name: str, data: bytes) -> None:
    explore(data)
    explore(data, machine=183)
    explore(data, sections=False, search_table=0xFFFFFFFF)
    explore_image(Image(debug_frame=data).build())


def bounded(data: bytes, seconds: float = 8, megabytes: int = 160) -> Optional[UnwindTable]:
    """Explore with a look at the time (with much to spare for slow machines) and the memory."""
    tracemalloc.start()
    begin = time.process_time()
    try:
        return explore_image(data, 64 << 20)
    finally:
        assert time.process_time() - begin < seconds
        assert tracemalloc.get_traced_memory()[1] < megabytes << 20
        tracemalloc.stop()


def test_rows_without_end() -> None:
    """Programs that advance by 2^32 a time, remember without end, or are one long chain."""
    far = b"\x04\xff\xff\xff\xff\x0e\x10\x04\xff\xff\xff\xff\x0e\x18" * 2000
    eight = b"\x1d" + b"\xff" * 8
    chain = b"".join(b"\x41\x0e" + bytes([8 + 8 * (i % 2)]) for i in range(60_000))
    for code in (far, eight * 5000, b"\x0a" * 100_000, b"\x0a\x0b" * 60_000, b"\x0b", chain):
        frames = Frames().cie().fde(TEXT, (1 << 32) - 1, code).fde(TEXT + 0x20000, 16)
        bounded(Image(bytes(frames.data), text_size=0x40000).build())


def test_many_functions_over_all_of_the_code() -> None:
    frames = Frames().cie()
    for number in range(8000):
        frames.fde(TEXT + number % 7, (1 << 32) - 1, b"\x0e" + uleb(8 * number))
    table = bounded(Image(bytes(frames.data), text_size=0x100000).build())
    assert table is not None
    assert table.rows < 10_000


def test_every_function_has_a_cie_of_its_own() -> None:
    """CIEs inside one another, and FDEs that point at each byte."""
    frames = Frames().cie(initial=X86_INITIAL + bytes(3000))
    for number in range(8000):
        frames.cie_at = number
        frames.fde(TEXT + 16 * number, 16, b"\x0e" + uleb(8 * number))
    bounded(Image(bytes(frames.data), text_size=1 << 30).build())
    frames = Frames()
    for number in range(5000):
        frames.cie(initial=X86_INITIAL + b"\x0e" + uleb(8 * number)).fde(TEXT + 16 * number, 16)
    bounded(Image(bytes(frames.data), text_size=1 << 30).build())


def test_functions_of_debug_frame_in_the_gaps_of_eh_frame() -> None:
    frames, debug = Frames().cie(), Frames(debug=True).cie(augmentation=b"", augmentation_data=b"")
    for number in range(3000):
        frames.fde(TEXT + 32 * number, 16)
        debug.fde(TEXT + number, 1 << 31, b"\x0e\x10" * 10)
    bounded(Image(bytes(frames.data), bytes(debug.data), text_size=1 << 20).build())


def test_a_section_that_blows_up() -> None:
    zeros = zlib.compress(bytes(32 << 20), 1)
    for claimed in (32 << 20, 1 << 62):
        head = pack("<IIQQ", 1, 0, claimed, 8)
        bounded(Image(debug_frame=head + zeros, debug_flags=0x800).build(), seconds=30)


def test_code_all_over_the_address_space() -> None:
    frames = Frames().cie(augmentation_data=b"\0")
    for shift in range(20, 64):
        frames.fde(1 << shift, 64)
    bounded(Image(bytes(frames.data), text_size=(1 << 64) - 1).build())
