"""The DWARF of one image: its units, and which of them an address belongs to.

Sources: DWARF 5, sections 6.1.2 (.debug_aranges), 7.5.1 and 3.1.1.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import suppress
from struct import Struct
from typing import Optional
from weakref import WeakValueDictionary

from systemscope.elf.dwarf_abbrev import AbbreviationTable
from systemscope.elf.dwarf_constants import At, Tag
from systemscope.elf.dwarf_functions import Functions
from systemscope.elf.dwarf_intervals import Interval, IntervalMap, check_count
from systemscope.elf.dwarf_ranges import ranges_of
from systemscope.elf.dwarf_recent import Recent
from systemscope.elf.dwarf_sections import DebugSection, DebugSections, Work
from systemscope.elf.dwarf_units import Unit, read_header, unit_length
from systemscope.elf.errors import ElfError
from systemscope.elf.header import SegmentType
from systemscope.elf.image import ElfImage

#: More units than any program has (Chromium: about 40,000).
MAX_UNITS = 250_000
_KEPT_UNITS = 64
_KEPT_ABBREVIATIONS = 32
_PAIR = Struct("<QQ")
_LEAST_UNIT = 12
#: What it takes to begin with a unit, in bytes; and the longest set of ranges that is looked at.
_UNIT_WORK = 1024
_MAX_SET = 16 << 20


class DebugFile:
    """The DWARF of an image, or of a .dwo file. Methods raise ElfError."""

    def __init__(
        self,
        image: ElfImage,
        work: Work,
        *,
        skeleton: Optional[Unit] = None,
        supplement: Optional[DebugFile] = None,
    ) -> None:
        """``skeleton`` is the unit that led to this .dwo file. ``supplement`` is the file that dwz
        moved to what this one shares with others."""
        self.sections = DebugSections(image, ".dwo" if skeleton is not None else "")
        self.info: DebugSection = self.sections.get("info")
        self.work = work
        self.supplement = supplement
        self.code: tuple[int, int] = skeleton.file.code if skeleton is not None else _code(image)
        self._skeleton = skeleton
        self._offsets: Optional[array[int]] = None
        self._units: Recent[int, Unit] = Recent(_KEPT_UNITS, lambda _: 1)
        # Units refer to their file. A .dwo file must go, and be closed, with the last of them.
        self._split_units: WeakValueDictionary[int, Unit] = WeakValueDictionary()
        self._tables: Recent[tuple[int, bool, int], AbbreviationTable] = Recent(
            _KEPT_ABBREVIATIONS, lambda _: 1
        )

    @property
    def offsets(self) -> array[int]:
        """Where the units begin in .debug_info, ascending, up to the first that makes no sense."""
        if self._offsets is None:
            self._offsets = array("Q")
            offset = 0
            while offset + 12 <= self.info.size and len(self._offsets) < MAX_UNITS:
                try:
                    end = offset + unit_length(self.info.read(offset, 12))[0]
                except ElfError:
                    break
                if end < offset + _LEAST_UNIT:
                    break
                self._offsets.append(offset)
                offset = end
            self.work.spend(64 * len(self._offsets))
        return self._offsets

    def unit(self, offset: int) -> Unit:
        """The unit that begins at ``offset``."""
        found = self._units.get(offset) or self._split_units.get(offset)
        if found is None:
            self.work.spend(_UNIT_WORK)
            try:
                made = Unit(self, read_header(self.info, offset), self._skeleton)
            except IndexError:
                raise ElfError("a unit of DWARF that is cut short") from None
            found = made
            if self._skeleton is not None:
                self._split_units[offset] = made
            else:
                self._units.put(offset, made)
        return found

    def unit_at(self, offset: int) -> Unit:
        """The unit in which a DIE at ``offset`` lies."""
        index = bisect_right(self.offsets, offset) - 1
        if index < 0:
            raise ElfError("DWARF that refers to a unit that is not there")
        unit = self.unit(self.offsets[index])
        if not unit.header.first <= offset < unit.header.end:
            raise ElfError("DWARF that refers to a unit that is not there")
        return unit

    def abbreviations(self, offset: int, wide: bool, ref_addr: int) -> AbbreviationTable:
        """The abbreviations at ``offset`` of .debug_abbrev."""
        key = offset, wide, ref_addr
        found = self._tables.get(key)
        if found is None:
            table = AbbreviationTable(
                self.sections.get("abbrev"), offset, wide, ref_addr, self.work
            )
            found = self._tables.put(key, table)
        return found


class UnitIndex:
    """Which unit of a DebugFile an address belongs to."""

    def __init__(self, file: DebugFile) -> None:
        """Looks at .debug_aranges, and at the first DIE of units that it does not tell of: GNU
        compilers write it, LLVM and rustc leave it out. Raises ElfError."""
        self._file = file
        self._numbers = {offset: number for number, offset in enumerate(file.offsets)}
        self._intervals: list[Interval] = []
        self.problem = ""  # with units, if any
        self._silent: list[int] = []  # units of which nothing tells where their code is, if any
        told: set[int] = set()
        for offset, pairs in _address_ranges(file):
            if offset in self._numbers:
                told.add(offset)
                self._add(offset, pairs)
        for offset in file.offsets:
            if offset not in told:
                self._ask(offset)
        self._map = IntervalMap(self._intervals)
        if not self._silent:
            self._intervals = []

    def find(self, address: int) -> int:
        """The offset of the unit that ``address`` belongs to, -1 if there is none. Raises
        ElfError."""
        number = self._map.find(address)
        if number < 0 and self._silent:
            self._search()
            number = self._map.find(address)
        return self._file.offsets[number] if number >= 0 else -1

    def _add(self, offset: int, pairs: Iterable[tuple[int, int]]) -> None:
        first, last = self._file.code
        number = self._numbers[offset]
        self._intervals.extend(
            (low, high, 0, number) for low, high in pairs if first <= low < high <= last
        )
        check_count(self._intervals)

    def _ask(self, offset: int) -> None:
        try:
            unit = self._file.unit(offset)
            if unit.tag not in (Tag.COMPILE_UNIT, Tag.SKELETON_UNIT):
                return
            if At.RANGES in unit.root or At.HIGH_PC in unit.root:
                self._add(offset, ranges_of(unit, unit.root))
            elif At.STMT_LIST in unit.root:
                self._silent.append(offset)
        except ElfError as error:
            self.problem = error.message  # of no use, but others may be

    def _search(self) -> None:
        """Look at the functions of silent units."""
        silent, self._silent = self._silent, []
        for offset in silent:
            with suppress(ElfError):
                self._add(offset, Functions(self._file.unit(offset)).map.spans())
        self._map, self._intervals = IntervalMap(self._intervals), []


def _address_ranges(file: DebugFile) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """(offset of the unit, its ranges) for each set of .debug_aranges."""
    section = file.sections.get("aranges")
    offset = 0
    while offset + 16 <= section.size:
        try:
            length, wide, at = unit_length(section.read(offset, 12))
        except ElfError:
            return
        data = section.read(offset, min(length, _MAX_SET))
        file.work.spend(64 + len(data))
        version = int.from_bytes(data[at : at + 2], "little")
        width = 8 if wide else 4
        unit = int.from_bytes(data[at + 2 : at + 2 + width], "little")
        sizes = data[at + 2 + width : at + 4 + width]
        if version == 2 and sizes == b"\x08\0":  # of addresses, of segment selectors
            start = at + 4 + width + 15 & -16
            data = data[start:]
            pairs = _PAIR.iter_unpack(data[: len(data) & -16])
            yield unit, [(low, low + size) for low, size in pairs]
        offset += length


def _code(image: ElfImage) -> tuple[int, int]:
    """The addresses between which all code lies. Nothing is at address 0, where linkers put the
    descriptions of what they leave out."""
    spans = [
        (s.address, s.address + s.memory_size)
        for s in image.header.segments
        if s.type == SegmentType.LOAD and s.executable
    ]
    if not spans:
        return 1, 0
    return max(min(low for low, _ in spans), 1), max(high for _, high in spans)
