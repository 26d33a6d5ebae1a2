"""Damaged and malicious files: an ElfError or an answer, in bounded time and memory."""

from __future__ import annotations

import os
import struct
import subprocess
import tempfile
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from systemscope.elf import ElfError, ElfImage
from tests.unit.elf_maker import TEXT, Maker, Sym

GOOD = Maker([Sym(f"f{i}", TEXT + 16 * i, 16 if i % 3 else 0) for i in range(20)]).build()
#: Where one damaged byte matters: header, program headers, symbols, section headers.
_INTERESTING = list(range(176)) + list(range(len(GOOD) - 1000, len(GOOD)))


def explore(data: bytes) -> None:
    """Ask everything of an image; only ElfError may come out."""
    try:
        image = ElfImage.from_bytes(data)
        assert isinstance(image.build_id, str)
        for section in image.header.sections[:50]:
            image.section_name(section)
        for address in (0, TEXT, TEXT + 17, TEXT + 300, (1 << 64) - 1):
            image.find_symbol(address)
            image.address_of_offset(address)
            image.offset_of_address(address)
            image.load_bias(0x7F0000000000, address)
    except ElfError as error:
        assert error.message


def real_program() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        source, program = Path(directory, "a.c"), Path(directory, "a")
        source.write_text('#include <stdio.h>\nint main(void) { return puts("x"); }\n')
        done = subprocess.run(["cc", "-o", str(program), str(source)], check=False)
        return program.read_bytes() if done.returncode == 0 else GOOD


REAL: list[bytes] = []


@pytest.fixture(scope="module", autouse=True)
def _compile() -> None:
    REAL.append(real_program())


@settings(deadline=None)
@given(st.binary(max_size=512))
def test_arbitrary_bytes(data: bytes) -> None:
    explore(data)
    explore(b"\x7fELF\x02\x01\x01" + data)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(_INTERESTING), st.integers(0, 255)), min_size=1, max_size=12
    ),
    st.integers(0, len(GOOD)),
    st.booleans(),
)
def test_damaged_image(changes: list[tuple[int, int]], length: int, cut: bool) -> None:
    data = bytearray(GOOD)
    for position, value in changes:
        data[position] = value
    explore(bytes(data[:length] if cut else data))


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1 << 20),
            st.sampled_from([0, 1, 8, 0xFF, 0x7FFF, 0xFFFFFFFF, (1 << 63) - 1, (1 << 64) - 1]),
            st.sampled_from([1, 2, 4, 8]),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_damaged_program(changes: list[tuple[int, int, int]]) -> None:
    data = bytearray(REAL[0])
    for position, value, width in changes:
        # Half of the damage goes where the tables are: at both ends of the file.
        at = position % len(data) if position % 2 else (position % 4096) - 2048
        at = max(min(at % len(data), len(data) - width), 0)
        data[at : at + width] = (value & (1 << 8 * width) - 1).to_bytes(width, "little")
    explore(bytes(data))


@pytest.mark.parametrize(
    ("position", "value", "words"),
    [
        (0, b"\x7fELG", "not an ELF file"),
        (4, b"\x01", "a 32-bit ELF file"),
        (5, b"\x02", "a big-endian ELF file"),
        (6, b"\x07", "an ELF file of an unknown version"),
        (16, b"\x01\0", "ELF type 1 for machine 62 is not supported"),
        (16, b"\x04\0", "ELF type 4 for machine 62 is not supported"),
        (18, b"\x28\0", "ELF type 3 for machine 40 is not supported"),
    ],
)
def test_refusals_say_why(position: int, value: bytes, words: str) -> None:
    data = GOOD[:position] + value + GOOD[position + len(value) :]
    with pytest.raises(ElfError, match=words):
        ElfImage.from_bytes(data)


def test_truncated_header() -> None:
    with pytest.raises(ElfError, match="truncated"):
        ElfImage.from_bytes(GOOD[:63])
    with pytest.raises(ElfError, match="truncated"):
        ElfImage.from_bytes(b"")


def test_missing_section_table_leaves_the_segments() -> None:
    image = ElfImage.from_bytes(GOOD[:-64])
    assert image.header.sections == ()
    assert image.address_of_offset(TEXT) == TEXT
    assert image.build_id == "1234"
    assert image.find_symbol(TEXT) is None


def test_descriptor_that_cannot_be_read() -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(ElfError):
            ElfImage.from_descriptor(reader)
        with pytest.raises(ElfError):
            ElfImage.from_descriptor(writer)
    finally:
        os.close(reader)
        os.close(writer)


def _sparse(path: Path, symbols: int) -> None:
    """A sparse file whose symbol table claims ``symbols`` entries, most of them zero bytes."""
    data = bytearray(Maker([Sym("f", TEXT, 16)]).build())
    header = len(data) - 6 * 64 + 3 * 64
    struct.pack_into("<QQ", data, header + 24, len(data) + 4096, symbols * 24)
    path.write_bytes(bytes(data))
    os.truncate(path, len(data) + 4096 + symbols * 24)


def test_giant_symbol_table_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "giant"
    _sparse(path, 1 << 31)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        image = ElfImage.from_descriptor(descriptor)
        tracemalloc.start()
        began = time.process_time()
        assert image.find_symbol(TEXT) is None
        used = tracemalloc.get_traced_memory()[1]
        assert used < 512 << 20
        assert time.process_time() - began < 60
    finally:
        tracemalloc.stop()
        os.close(descriptor)


def test_endless_name_is_cut(tmp_path: Path) -> None:
    image = ElfImage.from_bytes(Maker([Sym("x" * 100_000, TEXT, 16)]).build())
    found = image.find_symbol(TEXT)
    assert found is not None and len(found.name) == 16_384


def test_hordes_of_aliases_and_nested_symbols_stay_quick() -> None:
    symbols = [Sym(f"a{i}", TEXT, 32) for i in range(5000)]
    symbols += [Sym("outer", TEXT - 16, 1 << 30)]
    symbols += [Sym(f"n{i}", TEXT + 100 + i, 1) for i in range(5000)]
    image = ElfImage.from_bytes(Maker(symbols).build())
    began = time.process_time()
    for _ in range(2000):
        image.find_symbol(TEXT + 1)
        image.find_symbol(TEXT + 6000)
    assert time.process_time() - began < 30
