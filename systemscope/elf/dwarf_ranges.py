"""Where the code of a DIE lies: low and high address, or a list of ranges.

Sources: DWARF 5, sections 2.17, 2.17.3 and 7.25; DWARF 4, section 2.17.3, for .debug_ranges.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import TYPE_CHECKING

from systemscope.elf.dwarf_constants import ADDRESS_INDEXES, At, Form, RangeEntry
from systemscope.elf.dwarf_forms import Values
from systemscope.elf.errors import ElfError
from systemscope.elf.leb128 import read_uleb128

if TYPE_CHECKING:
    from systemscope.elf.dwarf_units import Unit

Range = tuple[int, int]

_PAIR = Struct("<QQ")
#: How much of a list is read at first and then; and more than the longest entry takes.
_FIRST_PIECE, _PIECE = 64, 2048
_LONGEST_ENTRY = 22
_OFFSET_PAIR = int(RangeEntry.OFFSET_PAIR)
_BASE_SELECTION = (1 << 64) - 1
_MASK = (1 << 64) - 1


def ranges_of(unit: Unit, values: Values) -> list[Range]:
    """The ranges of a DIE whose attributes of place are ``values``, those only that hold code.

    Linkers leave descriptions of functions they throw away, at address 0 or beyond all code.
    Raises ElfError.
    """
    low = values.get(At.LOW_PC)
    if At.RANGES in values:
        found = _listed(unit, *values[At.RANGES])
    elif low is not None and At.HIGH_PC in values:
        begin = unit.address(*low)
        form, high = values[At.HIGH_PC]
        if isinstance(high, bytes):
            raise ElfError("a high address that is text in DWARF")
        if form == Form.ADDR or form in ADDRESS_INDEXES:
            found = iter([(begin, unit.address(form, high))])
        else:
            found = iter([(begin, begin + high)])
    else:
        return []
    first, last = unit.file.code
    return [(a, b) for a, b in found if first <= a < b <= last]


def _listed(unit: Unit, form: int, value: object) -> Iterator[Range]:
    if not isinstance(value, int):
        raise ElfError("a list of ranges that is text in DWARF")
    if unit.version >= 5:
        return _rnglist(unit, unit.range_list(form, value))
    return _ranges(unit, unit.range_list(form, value))


def _ranges(unit: Unit, offset: int) -> Iterator[Range]:
    """.debug_ranges: pairs relative to a base, until a pair of zeros."""
    section, base = unit.range_section, unit.base_address
    while True:
        data = section.read(offset, _PIECE)
        data = data[: len(data) & -16]
        unit.file.work.spend(16 + len(data))
        if not data:
            return
        for begin, end in _PAIR.iter_unpack(data):
            if not begin and not end:
                return
            if begin == _BASE_SELECTION:
                base = end
            else:
                yield base + begin & _MASK, base + end & _MASK
        offset += len(data)


def _rnglist(unit: Unit, offset: int) -> Iterator[Range]:
    """.debug_rnglists: entries of several kinds. Most lists are short, so they are read in pieces;
    an entry that does not fit its piece begins the next one."""
    section, base = unit.range_section, unit.base_address
    length = _FIRST_PIECE
    while True:
        data = section.read(offset, length)
        unit.file.work.spend(8)
        position, size = 0, len(data)
        last = size if size < length else size - _LONGEST_ENTRY
        while position < last:
            kind = data[position]
            if not kind:
                unit.file.work.spend(2 * position)
                return
            one, two, position = _operands(data, position + 1, kind)
            if kind == _OFFSET_PAIR:
                yield base + one & _MASK, base + two & _MASK
            elif kind == RangeEntry.BASE_ADDRESS:
                base = one
            elif kind == RangeEntry.BASE_ADDRESSX:
                base = unit.address(Form.ADDRX, one)
            else:
                yield _span(unit, kind, one, two)
        unit.file.work.spend(2 * position)
        if size < length:
            raise ElfError("a list of ranges without an end in DWARF")
        offset += position
        length = _PIECE


def _operands(data: bytes, position: int, kind: int) -> tuple[int, int, int]:
    if kind == _OFFSET_PAIR:  # nearly always
        one, position = read_uleb128(data, position)
        two, position = read_uleb128(data, position)
        return one, two, position
    if kind in (RangeEntry.BASE_ADDRESS, RangeEntry.START_END, RangeEntry.START_LENGTH):
        one = int.from_bytes(data[position : position + 8], "little")
        position += 8
    else:
        one, position = read_uleb128(data, position)
    two = 0
    if kind == RangeEntry.START_END:
        two = int.from_bytes(data[position : position + 8], "little")
        position += 8
    elif kind not in (RangeEntry.BASE_ADDRESS, RangeEntry.BASE_ADDRESSX):
        two, position = read_uleb128(data, position)
    return one, two, position


def _span(unit: Unit, kind: int, one: int, two: int) -> Range:
    if kind == RangeEntry.START_END:
        return one, two
    if kind == RangeEntry.START_LENGTH:
        return one, one + two
    if kind == RangeEntry.STARTX_ENDX:
        return unit.address(Form.ADDRX, one), unit.address(Form.ADDRX, two)
    if kind == RangeEntry.STARTX_LENGTH:
        begin = unit.address(Form.ADDRX, one)
        return begin, begin + two
    raise ElfError("an unknown kind of range in DWARF")
