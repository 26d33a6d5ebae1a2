"""Units: their headers, and what their first DIE tells about the forms of all others.

Sources: DWARF 5, sections 7.4, 7.5.1, 7.26, 7.27 and 7.28; https://gcc.gnu.org/wiki/DebugFission
for the split DWARF of version 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Optional, Union

from systemscope.elf.dwarf_constants import (
    ADDRESS_INDEXES,
    ALT_REFERENCES,
    ALT_STRINGS,
    STRING_INDEXES,
    UNIT_REFERENCES,
    At,
    Form,
    Tag,
    UnitType,
)
from systemscope.elf.dwarf_forms import Values, take
from systemscope.elf.dwarf_sections import DebugSection
from systemscope.elf.errors import ElfError
from systemscope.elf.leb128 import read_uleb128

if TYPE_CHECKING:
    from systemscope.elf.dwarf_abbrev import AbbreviationTable
    from systemscope.elf.dwarf_file import DebugFile

#: The longest first DIE, and the largest unit that is worked through.
_MAX_ROOT = 65_536
MAX_UNIT = 64 << 20
_LONG = 0xFFFFFFFF
_RESERVED = 0xFFFFFFF0


class UnitHeader(NamedTuple):
    """What precedes the DIEs of a unit. Offsets count from the start of .debug_info."""

    offset: int
    end: int
    first: int  # of the first DIE
    version: int
    wide: bool  # 64-bit DWARF
    kind: int
    abbreviations: int
    dwo_id: int


def unit_length(data: bytes) -> tuple[int, bool, int]:
    """(where a unit that begins with ``data`` ends, whether it is of 64-bit DWARF, the length of
    the field). Section 7.4. Raises ElfError."""
    length = int.from_bytes(data[:4], "little")
    if len(data) < 12 or _RESERVED <= length < _LONG:
        raise ElfError("a unit of DWARF without a length that makes sense")
    if length == _LONG:
        return 12 + int.from_bytes(data[4:12], "little"), True, 12
    return 4 + length, False, 4


def read_header(info: DebugSection, offset: int) -> UnitHeader:
    """The header of the unit at ``offset``. Raises ElfError for a kind that is not supported."""
    data = info.read(offset, 40)
    length, wide, at = unit_length(data)
    width = 8 if wide else 4
    version = int.from_bytes(data[at : at + 2], "little")
    at += 2
    kind, dwo_id = int(UnitType.COMPILE), 0
    if version == 5:
        kind, address_size = data[at], data[at + 1]
        abbreviations = int.from_bytes(data[at + 2 : at + 2 + width], "little")
        at += 2 + width
        if kind in (UnitType.SKELETON, UnitType.SPLIT_COMPILE):
            dwo_id = int.from_bytes(data[at : at + 8], "little")
            at += 8
        elif kind in (UnitType.TYPE, UnitType.SPLIT_TYPE):
            at += 8 + width
    elif 2 <= version <= 4:
        abbreviations = int.from_bytes(data[at : at + width], "little")
        address_size = data[at + width]
        at += width + 1
    else:
        raise ElfError(f"DWARF of version {version}")
    if address_size != 8 or at > length or offset + length > info.size:
        raise ElfError("a unit of DWARF whose header makes no sense")
    return UnitHeader(
        offset, offset + length, offset + at, version, wide, kind, abbreviations, dwo_id
    )


class Unit:
    """One unit and how to read values of its DIEs. Methods raise ElfError."""

    def __init__(
        self, file: DebugFile, header: UnitHeader, skeleton: Optional[Unit] = None
    ) -> None:
        """``skeleton`` is the unit in the program itself that ``header`` is the bulk of."""
        self.file = file
        self.header = header
        self.skeleton = skeleton
        self.version = header.version
        self.root: Values = {}
        self.tag = 0
        if header.kind not in (UnitType.TYPE, UnitType.SPLIT_TYPE):
            self._read_root()
        outer = skeleton or self
        self.range_section = self._range_section(outer)
        self._addresses = outer.file.sections.get("addr")
        self._address_base = outer.number(At.ADDR_BASE) or outer.number(At.GNU_ADDR_BASE)
        self.base_address = outer._base_address()

    @property
    def abbreviations(self) -> AbbreviationTable:
        """The unit's abbreviations."""
        ref_addr = 8 if self.version == 2 or self.header.wide else 4
        return self.file.abbreviations(self.header.abbreviations, self.header.wide, ref_addr)

    def body(self) -> bytes:
        """All its bytes, from the header on."""
        size = self.header.end - self.header.offset
        if size > MAX_UNIT:
            raise ElfError("a unit of DWARF larger than is worked through")
        self.file.work.spend(size)
        return self.file.info.read(self.header.offset, size)

    def number(self, attribute: int, default: int = 0) -> int:
        """A numeric attribute of the first DIE."""
        value = self.root.get(attribute, (0, default))[1]
        return value if isinstance(value, int) else default

    def text(self, attribute: int) -> str:
        """A string of the first DIE, "" if it has none."""
        known = self.root.get(attribute)
        return "" if known is None else self.string(*known)

    def address(self, form: int, value: Union[int, bytes]) -> int:
        """The address that an attribute means."""
        if not isinstance(value, int):
            raise ElfError("an address that is text in DWARF")
        if form in ADDRESS_INDEXES:
            return self._addresses.number(self._address_base + 8 * value, 8)
        return value

    def string(self, form: int, value: Union[int, bytes]) -> str:
        """The text that an attribute means."""
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if form == Form.STRP:
            return self.file.sections.get("str").string(value)
        if form == Form.LINE_STRP:
            return self.file.sections.get("line_str").string(value)
        if form in STRING_INDEXES:
            width = 8 if self.header.wide else 4
            offsets = self.file.sections.get("str_offsets")
            where = self.number(At.STR_OFFSETS_BASE, self._default_base()) + width * value
            return self.file.sections.get("str").string(offsets.number(where, width))
        if form in ALT_STRINGS and self.file.supplement is not None:
            return self.file.supplement.sections.get("str").string(value)
        raise ElfError("DWARF with a string of a form that strings do not have")

    def reference(self, form: int, value: Union[int, bytes]) -> tuple[DebugFile, int]:
        """The file and the offset in its .debug_info of the DIE that an attribute means."""
        if isinstance(value, int):
            if form in UNIT_REFERENCES:
                return self.file, self.header.offset + value
            if form == Form.REF_ADDR:
                return self.file, value
            if form in ALT_REFERENCES and self.file.supplement is not None:
                return self.file.supplement, value
        raise ElfError("DWARF with a reference of a form that cannot be followed")

    def range_list(self, form: int, value: int) -> int:
        """Where in range_section the list is that an attribute means."""
        if self.version < 5:
            # In a .dwo file the lists are those of the program, from a base of their own.
            base = self.skeleton.number(At.GNU_RANGES_BASE) if self.skeleton is not None else 0
            return base + value
        if form != Form.RNGLISTX:
            return value
        width = 8 if self.header.wide else 4
        base = self.number(At.RNGLISTS_BASE, 20 if self.header.wide else 12)
        return base + self.range_section.number(base + width * value, width)

    def _range_section(self, outer: Unit) -> DebugSection:
        if self.version >= 5:
            return self.file.sections.get("rnglists")
        return outer.file.sections.get("ranges")

    def _default_base(self) -> int:
        """Of .debug_str_offsets: behind its header, which version 4 does without."""
        return 0 if self.version < 5 else 16 if self.header.wide else 8

    def _base_address(self) -> int:
        low = self.root.get(At.LOW_PC)
        return 0 if low is None else self.address(*low)

    def _read_root(self) -> None:
        offset = self.header.first
        data = self.file.info.read(offset, min(_MAX_ROOT, self.header.end - offset, 512))
        code, position = read_uleb128(data, 0)
        if not code:
            return  # a unit of nothing
        abbreviation = self.abbreviations.find(code)
        self.tag = abbreviation.tag
        if self.tag not in (Tag.COMPILE_UNIT, Tag.PARTIAL_UNIT, Tag.SKELETON_UNIT):
            return
        try:
            end = take(data, position, abbreviation.unit, self.root)
        except (ElfError, IndexError):
            end = len(data) + 1
        if end > len(data):
            data = self.file.info.read(offset, min(_MAX_ROOT, self.header.end - offset))
            if take(data, position, abbreviation.unit, self.root) > len(data):
                raise ElfError("a unit of DWARF that is cut short")
