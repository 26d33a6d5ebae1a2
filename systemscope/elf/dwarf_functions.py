"""The functions of a unit, and what is inlined in each.

Two steps, because most functions of a unit are never asked for: first where each function's code
and the DIEs below it lie; then, for one function, what is inlined where. Compilers that write
DW_AT_sibling (GCC) let the first step jump over all that is below a function or a type.

Source: DWARF 5, sections 3.3, 3.3.8 and 7.5.3.
"""

from __future__ import annotations

from array import array
from typing import NamedTuple

from systemscope.elf.dwarf_abbrev import BLOCKS, SCOPES
from systemscope.elf.dwarf_constants import At, Tag
from systemscope.elf.dwarf_forms import Values, skip, take
from systemscope.elf.dwarf_intervals import Interval, IntervalMap, check_count
from systemscope.elf.dwarf_ranges import ranges_of
from systemscope.elf.dwarf_units import Unit
from systemscope.elf.errors import ElfError
from systemscope.elf.leb128 import read_uleb128

_TOP = 0xFFFFFFFF
#: What looking at a function takes, in bytes; and how many may be inlined in one.
_FUNCTION_WORK = 16
_MAX_INLINED = 250_000


class Functions:
    """Where the functions of a unit are. All places count from the unit's first byte."""

    def __init__(self, unit: Unit, *, deep: bool = False) -> None:
        """``deep`` looks below functions and types too, where GCC has nested functions and the
        bodies of OpenMP loops. Raises ElfError."""
        self.dies = array("I")
        self.bodies = array("I")  # where the DIEs below it begin ...
        self.ends = array("I")  # ... and end
        self.lows = array("Q")
        self._intervals: list[Interval] = []
        try:
            self._scan(unit, deep)
        except IndexError:
            raise ElfError("a unit of DWARF that is cut short") from None
        self.map = IntervalMap(self._intervals)
        del self._intervals

    @property
    def cost(self) -> int:
        """About how many bytes they take."""
        return 20 * len(self.dies) + self.map.cost

    def _scan(self, unit: Unit, deep: bool) -> None:
        data = unit.body()
        table = unit.abbreviations
        known = table.known
        position, end = unit.header.first - unit.header.offset, len(data)
        depth = 0
        open_: list[tuple[int, int]] = []  # (depth of its children, function)
        while position < end:
            die = position
            code = data[position]
            position += 1
            if code >= 0x80:
                code, position = read_uleb128(data, die)
            if not code:
                if open_ and open_[-1][0] == depth:
                    self.ends[open_.pop()[1]] = position
                depth -= 1
                if depth <= 0:
                    break
                continue
            abbreviation = known.get(code) or table.find(code)
            size = abbreviation.leaf
            if size >= 0:
                position += size
                continue
            values: Values = {}
            function = -1
            if abbreviation.tag == Tag.SUBPROGRAM:
                position = take(data, position, abbreviation.places, values)
                function = self._add(unit, values, die, position, depth)
            elif abbreviation.jump is not None and abbreviation.tag not in SCOPES and not deep:
                position = take(data, position, abbreviation.jump, values)
            else:
                position = skip(data, position, abbreviation.skips)
            if abbreviation.children:
                after = 0 if deep else _sibling(unit, values, position, end)
                if after:
                    position = after
                else:
                    depth += 1
                if function >= 0:
                    self.ends[function] = after or end
                    if not after:
                        open_.append((depth, function))

    def _add(self, unit: Unit, values: Values, die: int, body: int, depth: int) -> int:
        """Note a function; its number, -1 if it has no code."""
        unit.file.work.spend(_FUNCTION_WORK)
        if At.LOW_PC not in values and At.RANGES not in values:
            return -1
        ranges = ranges_of(unit, values)
        if not ranges:
            return -1
        number = len(self.dies)
        self.dies.append(die)
        self.bodies.append(body)
        self.ends.append(body)
        self.lows.append(ranges[0][0])
        self._intervals.extend((low, high, depth, number) for low, high in ranges)
        check_count(self._intervals)
        return number


class Inlined(NamedTuple):
    """One function inlined into another."""

    parent: int  # the inlined function it is inlined into, -1 for the function itself
    low: int  # the lowest address of its code
    origin: tuple[int, int]  # form and value of DW_AT_abstract_origin
    file: int  # number in the line table of the file of the call
    line: int


class InlineTable:
    """What is inlined in one function."""

    def __init__(self, unit: Unit, body: int, end: int) -> None:
        """``body`` and ``end`` are as of Functions. Raises ElfError."""
        self.inlined: list[Inlined] = []
        self._intervals: list[Interval] = []
        if body < end:
            try:
                self._walk(unit, body, end)
            except IndexError:
                raise ElfError("a unit of DWARF that is cut short") from None
        self.map = IntervalMap(self._intervals)
        del self._intervals

    @property
    def cost(self) -> int:
        """About how many bytes it takes."""
        return 300 + 250 * len(self.inlined) + self.map.cost

    def chain(self, address: int) -> list[Inlined]:
        """What is inlined at ``address``, innermost first."""
        number, found = self.map.find(address), []
        while number >= 0:
            found.append(self.inlined[number])
            number = found[-1].parent  # always a smaller number
        return found

    def _walk(self, unit: Unit, body: int, end: int) -> None:
        start = unit.header.offset
        unit.file.work.spend(end - body)
        data = unit.file.info.read(start + body, end - body)
        table = unit.abbreviations
        known = table.known
        position, end, depth = 0, len(data), 1
        parents: list[tuple[int, int]] = [(0, -1)]  # (depth of its children, inlined function)
        while position < end:
            code = data[position]
            position += 1
            if code >= 0x80:
                code, position = read_uleb128(data, position - 1)
            if not code:
                if parents[-1][0] == depth:
                    parents.pop()
                depth -= 1
                if depth <= 0:
                    break
                continue
            abbreviation = known.get(code) or table.find(code)
            size = abbreviation.leaf
            if size >= 0:
                position += size
                continue
            values: Values = {}
            if abbreviation.tag == Tag.INLINED_SUBROUTINE:
                position = take(data, position, abbreviation.places, values)
                number = self._add(unit, values, parents[-1][1], len(parents))
                if abbreviation.children:
                    parents.append((depth + 1, number))
            elif abbreviation.jump is not None and abbreviation.tag not in BLOCKS:
                position = take(data, position, abbreviation.jump, values)
                after = _sibling(unit, values, body + position, body + end) - body
                if after > 0:
                    position = after
                    continue
            else:
                position = skip(data, position, abbreviation.skips)
                if abbreviation.tag == Tag.SUBPROGRAM and abbreviation.children:
                    # A function of its own, that Functions knows of.
                    position = _behind_children(unit, data, position)
                    continue
            if abbreviation.children:
                depth += 1

    def _add(self, unit: Unit, values: Values, parent: int, rank: int) -> int:
        unit.file.work.spend(_FUNCTION_WORK)
        ranges = ranges_of(unit, values)
        form, origin = values.get(At.ABSTRACT_ORIGIN, (0, 0))
        if not ranges or not isinstance(origin, int):
            return parent
        number = len(self.inlined)
        if number >= _MAX_INLINED:
            raise ElfError("more inlined functions in one than any program has")
        low = min(ranges)[0]
        file, line = _number(values, At.CALL_FILE), _number(values, At.CALL_LINE)
        self.inlined.append(Inlined(parent, low, (form, origin), file, line))
        self._intervals.extend((low, high, rank, number) for low, high in ranges)
        check_count(self._intervals)
        return number


def _behind_children(unit: Unit, data: bytes, position: int) -> int:
    """The position behind the DIEs below the one whose attributes end at ``position``."""
    table = unit.abbreviations
    depth, end = 1, len(data)
    while position < end:
        code, position = read_uleb128(data, position)
        if not code:
            depth -= 1
            if not depth:
                break
            continue
        abbreviation = table.find(code)
        position = skip(data, position, abbreviation.skips)
        if abbreviation.children:
            depth += 1
    return position


def _sibling(unit: Unit, values: Values, position: int, end: int) -> int:
    """Where the next sibling is, 0 if that is not told."""
    told = values.get(At.SIBLING)
    if told is None:
        return 0
    file, offset = unit.reference(*told)
    after = offset - unit.header.offset
    if file is not unit.file or not position <= after <= end:
        raise ElfError("DWARF with a sibling that is not one")
    return after


def _number(values: Values, attribute: int) -> int:
    value = values.get(attribute, (0, 0))[1]
    return value if isinstance(value, int) and 0 <= value <= _TOP else 0
