"""What comes out of debug information made to order, good and damaged."""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemscope.elf import ElfError, ElfImage, Location, dwarf_intervals, dwarf_sections
from systemscope.elf.dwarf_constants import At, Form, Tag
from systemscope.elf.dwarf_intervals import IntervalMap
from systemscope.elf.dwarf_recent import Recent
from systemscope.elf.dwarf_resolver import NAMELESS, LineResolver
from tests.unit.dwarf_maker import (
    TEXT,
    TEXT_SIZE,
    USUAL,
    abbreviation,
    function,
    image,
    inlined,
    line_table,
    root,
    sequence,
    uleb,
    unit,
)

LINES = line_table(sequence(TEXT, b"\x03\x09\x01", b"\x02\x10\x03\x05\x01", b"\x02\x80\x10"))


def resolver(
    info: bytes, abbrev: bytes = USUAL, line: bytes = LINES, **more: bytes
) -> LineResolver:
    sections = {".debug_info": info, ".debug_abbrev": abbrev, ".debug_line": line}
    sections.update({f".debug_{name}": data for name, data in more.items()})
    return LineResolver(ElfImage.from_bytes(image(sections)))


def simple(*inner: bytes, name: bytes = b"outer") -> bytes:
    """A unit of one function, with DIEs below it."""
    dies = function(name, TEXT, 0x100, children=True) + b"".join(inner) + b"\0"
    return unit(root() + b"\x05callee\0" + dies + b"\0")


#: Where the DIE of "callee" is in simple().
CALLEE = 11 + len(root())


def test_a_function_and_what_is_inlined_in_it() -> None:
    info = simple(inlined(CALLEE, TEXT + 0x10, 8, 300), inlined(CALLEE, TEXT + 0x12, 2, 7), b"\0\0")
    found = resolver(info)
    told = Location("outer", 4, "/src/a.c", 10, source=".debug_info")
    assert found.resolve(TEXT + 4) == (told,)
    assert found.resolve(TEXT + 0x10) == (
        Location("callee", 0, "/src/a.c", 15, True),
        Location("outer", 0x10, "/src/a.c", 300, source=".debug_info"),
    )
    assert found.resolve(TEXT + 0x13) == (
        Location("callee", 1, "/src/a.c", 15, True),
        Location("callee", 3, "/src/a.c", 7, True),
        Location("outer", 0x13, "/src/a.c", 300, source=".debug_info"),
    )
    assert found.resolve(TEXT + 0x100) == ()  # in the unit, but in no function with a name
    assert found.resolve(TEXT - 1) == found.resolve(0) == found.resolve((1 << 64) - 1) == ()
    assert found.problem == ""


def test_origins_that_lead_nowhere_leave_a_frame() -> None:
    for origin in (0, 1 << 30, 11, 12, CALLEE + 1):
        found = resolver(simple(inlined(origin, TEXT, 8, 3), b"\0"))
        inner, outer = found.resolve(TEXT)
        assert (inner.name, outer.name, outer.line) == (NAMELESS, "outer", 3)


def test_cycles_of_origins_and_specifications_end() -> None:
    one, two = CALLEE + 8, CALLEE + 13
    for circle in (
        b"\x06" + struct.pack("<I", one),  # itself
        b"\x06" + struct.pack("<I", two) + b"\x07" + struct.pack("<I", one),
    ):
        dies = root() + b"\x05callee\0" + circle
        dies += function(b"outer", TEXT, 64, children=True) + inlined(one, TEXT, 8, 3) + b"\0\0\0"
        assert resolver(unit(dies)).resolve(TEXT)[0].name == NAMELESS


def test_deep_nesting_needs_no_recursion() -> None:
    depth = 20_000
    info = simple(inlined(CALLEE, TEXT, 64, 3) * depth, b"\0" * depth)
    found = resolver(info)
    began = time.process_time()
    assert len(found.resolve(TEXT + 1)) == depth + 1
    assert time.process_time() - began < 20


def test_siblings_must_lie_ahead() -> None:
    table = USUAL + abbreviation(9, Tag.LEXICAL_BLOCK, True, (At.SIBLING, Form.REF4))
    table += abbreviation(10, 0x13, True, (At.SIBLING, Form.REF4))  # a structure
    for target in (0, 11, CALLEE, 1 << 31):
        dies = root() + b"\x0a" + struct.pack("<I", target) + b"\0"
        found = resolver(unit(dies + function(b"f", TEXT, 64) + b"\0"), table)
        assert found.resolve(TEXT) == () and "sibling" in found.problem
    info = unit(
        root() + b"\x0a" + struct.pack("<I", CALLEE + 9) + b"\xff" * 4 + function(b"f", TEXT, 9)
    )
    assert resolver(info, table).resolve(TEXT)[0].name == "f"


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"\xff" * 40,
        line_table(b"", width=0),
        line_table(sequence(TEXT, b"\x03\x09")[:-3]),  # ends in the middle of an instruction
        line_table(sequence(TEXT, b"\x02" + b"\xff" * 9 + b"\x01\x01")),  # beyond 64 bits
        line_table(sequence(TEXT, b"\x03" + b"\x80" * 9 + b"\x40\x01")),  # before line 0
        line_table(sequence(TEXT, b"\x04" + uleb(1 << 62) + b"\x01\x01\x20")),
        line_table(b"\0\xff\xff\xff\xff\x7f\x02" + bytes(8)),
        struct.pack("<IHI", 1 << 31, 4, 9),
        struct.pack("<IQHI", 0xFFFFFFFF, 1 << 62, 5, 9),
        struct.pack("<I", 12) + struct.pack("<HBBI", 5, 8, 0, 1 << 30) + bytes(4),
    ],
)
def test_damaged_lines_leave_the_functions(lines: bytes) -> None:
    found = resolver(simple(), line=lines)
    (outer,) = found.resolve(TEXT + 4)
    assert (outer.name, outer.offset) == ("outer", 4)


def test_rows_of_one_address_and_out_of_order() -> None:
    back = sequence(
        TEXT,
        b"\x03\x01\x01",  # line 2
        b"\x03\x01\x01",  # line 3, the same address: counts
        b"\0\x09\x02" + struct.pack("<Q", TEXT + 0x40) + b"\x03\x01\x01",  # line 4
        b"\0\x09\x02" + struct.pack("<Q", TEXT + 0x20) + b"\x03\x01\x01",  # line 5, further back
        b"\x02\x60",
    )
    dead = sequence(0, b"\x01", b"\x02\xff\x7f")  # thrown away by the linker
    found = resolver(simple(), line=line_table(dead + back + back))
    lines = [found.resolve(TEXT + at)[0].line for at in (0, 0x1F, 0x20, 0x3F, 0x40, 0x7F, 0x80)]
    assert lines == [3, 3, 5, 5, 4, 4, 0]


def test_ranges_beyond_the_code_are_passed_over() -> None:
    dies = root() + function(b"dead", 0, 0x1100) + function(b"odd", (1 << 64) - 2, 1 << 16)
    found = resolver(unit(dies + function(b"alive", TEXT, 64) + b"\0"))
    assert found.resolve(TEXT)[0].name == "alive"


def test_units_that_tell_no_ranges_are_asked_themselves() -> None:
    table = abbreviation(
        1, Tag.COMPILE_UNIT, True, (At.NAME, Form.STRING), (At.STMT_LIST, Form.SEC_OFFSET)
    )
    table += USUAL[USUAL.index(b"\x02\x2e") :]
    info = unit(b"\x01unit\0" + bytes(4) + function(b"f", TEXT, 64) + b"\0")
    assert resolver(info, table).resolve(TEXT + 1)[0].name == "f"


def test_many_lists_of_ranges_cost_what_they_are_worth() -> None:
    """A thousand functions that all refer to one long list."""
    table = USUAL[: USUAL.index(b"\x02\x2e")]
    table += abbreviation(2, Tag.SUBPROGRAM, False, (At.RANGES, Form.SEC_OFFSET))
    pairs = struct.pack("<QQ", 1, 2) * 50_000
    dies = root() + (b"\x02" + bytes(4)) * 20_000 + b"\0"
    found = resolver(unit(dies), table, ranges=pairs + bytes(16))
    found._work._left = 8 << 20
    began = time.process_time()
    assert found.resolve(TEXT) == () and "more" in found.problem
    assert time.process_time() - began < 20


@pytest.mark.parametrize("tag", [Tag.SUBPROGRAM, Tag.INLINED_SUBROUTINE])
def test_functions_of_one_byte_do_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch, tag: int
) -> None:
    """Each DIE is one byte and claims code by constants in its abbreviation."""
    monkeypatch.setattr(dwarf_intervals, "MAX_INTERVALS", 50_000)
    table = USUAL + abbreviation(
        9, tag, False, (At.LOW_PC, Form.IMPLICIT_CONST, 0), (At.HIGH_PC, Form.IMPLICIT_CONST, 63),
        (At.ABSTRACT_ORIGIN, Form.IMPLICIT_CONST, 0),
    )  # fmt: skip
    table = table.replace(b"\x11\x21\x00", b"\x11\x21\x80\x20")  # at TEXT
    many = b"\x09" * 400_000
    info = simple(many) if tag == Tag.INLINED_SUBROUTINE else unit(root() + many + b"\0")
    found = resolver(info, table)
    tracemalloc.start()
    try:
        found.resolve(TEXT + 1)
        assert found.problem
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


def test_attributes_without_bytes_cost_nothing() -> None:
    """Thousands of them in an abbreviation, and a DIE for each byte."""
    flags = [(0x3F, Form.FLAG_PRESENT)] * 4000
    table = USUAL + abbreviation(9, 0x34, False, *flags)
    found = resolver(unit(root() + b"\x09" * 1_000_000 + function(b"f", TEXT, 64)), table)
    began = time.process_time()
    assert found.resolve(TEXT)[0].name == "f"
    assert time.process_time() - began < 10


def test_giant_claims() -> None:
    for table in (
        b"\x01\x11\x01" + b"\x03\x08" * 5000,
        b"\x01\x11\x01\x03\x99\x01\0\0",
        b"",
        b"\x80" * 100,
        b"\x01\x11\x01\x03\x16\0\0",
    ):
        found = resolver(simple(), table)
        assert found.resolve(TEXT) == ()
    for head in (b"\xff" * 12, b"\xf8\xff\xff\xff" + bytes(20), struct.pack("<IH", 1 << 31, 4)):
        assert resolver(head + simple()).resolve(TEXT) == ()
    assert resolver(unit(root() + b"\0", version=9)).resolve(TEXT) == ()


def test_compressed_sections_that_lie_about_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dwarf_sections, "MAX_INFLATED", 4 << 20)
    packed = zlib.compress(bytes(32 << 20), 9)
    head = struct.pack("<IIQQ", 1, 0, 1 << 60, 1)
    data = image({".debug_info": head + packed, ".debug_abbrev": head + packed}, flags=0x800)
    tracemalloc.start()
    try:
        assert LineResolver(ElfImage.from_bytes(data)).resolve(TEXT) == ()
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    bad = image({".debug_info": head + b"nonsense", ".debug_abbrev": b""}, flags=0x800)
    assert LineResolver(ElfImage.from_bytes(bad)).resolve(TEXT) == ()


def test_the_work_for_one_file_ends() -> None:
    found = resolver(simple())
    found._work._left = 100
    assert found.resolve(TEXT) == () and "more DWARF" in found.problem
    assert found.resolve(TEXT + 1) == ()


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20), st.integers(0, 3)), max_size=12))
def test_intervals_against_a_plain_search(spans: list[tuple[int, int, int]]) -> None:
    made = [(low, low + size, rank, number) for number, (low, size, rank) in enumerate(spans)]
    found = IntervalMap(made)
    for address in range(65):
        covering = [x for x in made if x[0] <= address < x[1]]
        best: Optional[int] = None
        if covering:
            rank = max(x[2] for x in covering)
            # Of equal ones the one that begins first, then the one told first.
            best = min((x[0], x[3]) for x in covering if x[2] == rank)[1]
        assert found.find(address) == (-1 if best is None else best)


def test_intervals_beyond_64_bits() -> None:
    with pytest.raises(ElfError):
        IntervalMap([(1 << 64, 1 << 65, 0, 0)])


def test_what_was_used_last_is_kept() -> None:
    kept: Recent[str, int] = Recent(10, lambda value: value)
    kept.put("a", 4)
    kept.put("b", 4)
    assert kept.get("a") == 4
    kept.put("c", 4)
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (4, None, 4)
    kept.put("a", 20)
    assert (kept.get("a"), kept.get("c")) == (20, None)
    kept.put("d", 100)
    assert (kept.get("a"), kept.get("d")) == (None, 100)


def test_code_ends_where_the_segments_do() -> None:
    info = unit(root(TEXT, TEXT_SIZE + 1) + function(b"f", TEXT, 64) + b"\0")
    assert resolver(info).resolve(TEXT) == ()
