"""Abbreviations: what attributes the DIEs of a unit have, and in what forms.

Source: DWARF 5, section 7.5.3.
"""

from __future__ import annotations

from typing import Optional

from systemscope.elf.dwarf_constants import At, Form, Tag
from systemscope.elf.dwarf_forms import Step, fixed_size, program, step_of
from systemscope.elf.dwarf_sections import DebugSection, Work
from systemscope.elf.errors import ElfError
from systemscope.elf.leb128 import read_sleb128, read_uleb128

#: More than any unit has: abbreviations, and attributes of one.
_MAX_ABBREVIATIONS = 65_536
_MAX_ATTRIBUTES = 4096
#: How much of .debug_abbrev is read at first, and how much at most.
_PIECE = 8192
_MAX_TABLE = 4 << 20

_NAMES = frozenset(
    {At.NAME, At.LINKAGE_NAME, At.MIPS_LINKAGE_NAME, At.ABSTRACT_ORIGIN, At.SPECIFICATION}
)
_PLACES = frozenset({At.SIBLING, At.LOW_PC, At.HIGH_PC, At.RANGES})
_UNIT = frozenset(
    {
        At.NAME, At.STMT_LIST, At.LOW_PC, At.HIGH_PC, At.COMP_DIR, At.RANGES, At.STR_OFFSETS_BASE,
        At.ADDR_BASE, At.RNGLISTS_BASE, At.DWO_NAME, At.GNU_DWO_NAME, At.GNU_DWO_ID,
        At.GNU_RANGES_BASE, At.GNU_ADDR_BASE,
    }
)  # fmt: skip
_INLINED = _PLACES | {At.ABSTRACT_ORIGIN, At.CALL_FILE, At.CALL_LINE}
_UNITS = frozenset({Tag.COMPILE_UNIT, Tag.PARTIAL_UNIT, Tag.SKELETON_UNIT})
_SIBLING = frozenset({At.SIBLING})

#: DIEs whose children may be, or hold, functions of the unit; and ones that may hold inlined code.
SCOPES = frozenset({Tag.NAMESPACE, Tag.MODULE})
BLOCKS = frozenset(
    {Tag.LEXICAL_BLOCK, Tag.WITH_STMT, Tag.CATCH_BLOCK, Tag.TRY_BLOCK, Tag.INLINED_SUBROUTINE}
)


class Abbreviation:
    """One kind of DIE, and programs for its attributes."""

    __slots__ = ("_names", "_steps", "children", "jump", "leaf", "places", "skips", "tag", "unit")

    def __init__(self, tag: int, children: bool, steps: list[Step]) -> None:
        self.tag = tag
        self.children = children
        self.skips = program(steps, frozenset())
        #: The length of what needs no look at all: no children, no code, fixed attributes; or -1.
        self.leaf = -1 if children or tag == Tag.SUBPROGRAM else fixed_size(self.skips)
        #: Takes the attributes that tell where the next sibling is; None if they do not.
        self.jump: Optional[tuple[Step, ...]] = None
        if children and any(step[2] == At.SIBLING for step in steps):
            self.jump = program(steps, _SIBLING)
        self.places: tuple[Step, ...] = ()  # takes where code lies
        if tag == Tag.SUBPROGRAM:
            self.places = program(steps, _PLACES)
        elif tag == Tag.INLINED_SUBROUTINE:
            self.leaf = -1
            self.places = program(steps, _INLINED)
        self.unit = program(steps, _UNIT) if tag in _UNITS else ()
        self._names: Optional[tuple[Step, ...]] = None
        self._steps = steps if tag in (Tag.SUBPROGRAM, Tag.INLINED_SUBROUTINE) else []

    def for_names(self) -> tuple[Step, ...]:
        """The program that takes names and where else they are; empty for other than functions."""
        if self._names is None:
            self._names = program(self._steps, _NAMES)
        return self._names


class AbbreviationTable:
    """The abbreviations of one unit, read as far as they were needed."""

    def __init__(
        self, section: DebugSection, offset: int, wide: bool, ref_addr: int, work: Work
    ) -> None:
        """The table at ``offset`` of .debug_abbrev, for units of 64-bit DWARF if ``wide``, in which
        a DW_FORM_ref_addr has ``ref_addr`` bytes."""
        self._section = section
        self._work = work
        self._offset = offset
        self._length = _PIECE
        self._data = b""
        self._position = 0
        self._wide = wide
        self._ref_addr = ref_addr
        self._left = _MAX_ABBREVIATIONS
        self.known: dict[int, Abbreviation] = {}

    def find(self, code: int) -> Abbreviation:
        """The abbreviation ``code``. Raises ElfError when there is none."""
        found = self.known.get(code)
        while found is None:
            try:
                more = self._read_one()
            except (ElfError, IndexError):
                # It may be the piece that ends here, not the table.
                more = self._longer()
            if not more:
                raise ElfError("DWARF with an abbreviation that is not there")
            found = self.known.get(code)
        return found

    def _longer(self) -> bool:
        if self._length > _MAX_TABLE or len(self._data) == self._section.size - self._offset:
            return False
        self._data = self._section.read(self._offset, self._length)
        self._length *= 4
        return True

    def _read_one(self) -> bool:
        data = self._data
        code, position = read_uleb128(data, self._position)
        if not code or self._left <= 0:
            return False
        tag, position = read_uleb128(data, position)
        children = data[position] == 1
        position += 1
        steps: list[Step] = []
        for _ in range(_MAX_ATTRIBUTES):
            attribute, position = read_uleb128(data, position)
            form, position = read_uleb128(data, position)
            constant = 0
            if form == Form.IMPLICIT_CONST:
                constant, position = read_sleb128(data, position)
            if not attribute and not form:
                break
            steps.append(step_of(attribute, form, constant, self._wide, self._ref_addr))
        else:
            return False
        self._left -= 1
        self._work.spend(4 * (position - self._position))
        self._position = position
        self.known.setdefault(code, Abbreviation(tag, children, steps))
        return True
