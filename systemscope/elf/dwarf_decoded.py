"""What was decoded of one unit: lines, functions, and what is inlined in those asked for."""

from __future__ import annotations

from typing import NamedTuple, Optional

from systemscope.elf.dwarf_constants import At
from systemscope.elf.dwarf_file import DebugFile
from systemscope.elf.dwarf_functions import Functions, Inlined, InlineTable
from systemscope.elf.dwarf_lines import LineTable
from systemscope.elf.dwarf_names import function_name
from systemscope.elf.dwarf_units import Unit
from systemscope.elf.errors import ElfError

#: What a .dwo file counts as beside its contents: it stays open, and open files are few.
_OPEN_FILE = 256 << 10


class Function(NamedTuple):
    """One function of a unit."""

    number: int
    die: int  # offset in .debug_info
    low: int  # its first address


class DecodedUnit:
    """A part that is damaged is as if it were not there; ``problem`` tells. No method raises."""

    def __init__(self, unit: Unit, skeleton: Optional[Unit] = None) -> None:
        """``skeleton`` is the unit in the program itself, if ``unit`` is in a .dwo file: the lines
        of both are there."""
        self.unit = unit
        self.problem = ""
        self._deep: Optional[Functions] = None
        self._tables: dict[tuple[bool, int], Optional[InlineTable]] = {}
        self._names: dict[tuple[DebugFile, int], str] = {}
        self._shallow = self._scan(False)
        self._lines = self._line_table(skeleton or unit)
        self.cost = 4000 if skeleton is None else _OPEN_FILE
        self.cost += self._shallow.cost if self._shallow is not None else 0
        self.cost += self._lines.cost if self._lines is not None else 0

    def line(self, address: int) -> tuple[str, int]:
        """(path of the file, line) of the code at ``address``; ("", 0) where nothing is told."""
        found = self._lines.find(address) if self._lines is not None else None
        return ("", 0) if found is None else (self.path(found[0]), found[1])

    def path(self, number: int) -> str:
        """The path of the file that the unit calls ``number``, "" if there is none."""
        if self._lines is None:
            return ""
        try:
            return self._lines.header.path(number)
        except ElfError as error:
            self._note(error)
            return ""

    def function(self, address: int, *, nested: bool) -> Optional[tuple[Function, list[Inlined]]]:
        """The function at ``address``, and what is inlined there, innermost first. ``nested`` looks
        for functions within others too, which takes longer, once."""
        for deep in (False, True) if nested else (False,):
            functions = self._functions(deep)
            number = functions.map.find(address) if functions is not None else -1
            if functions is not None and number >= 0:
                table = self._table(functions, deep, number)
                die = self.unit.header.offset + functions.dies[number]
                return (
                    Function(number, die, functions.lows[number]),
                    table.chain(address) if table is not None else [],
                )
        return None

    def name(self, function: Function) -> str:
        """What DWARF calls ``function``, "" if it has no name."""
        return self._name(self.unit.file, function.die)

    def name_of_inlined(self, inlined: Inlined) -> str:
        """The same for an inlined function."""
        try:
            return self._name(*self.unit.reference(*inlined.origin))
        except ElfError as error:
            self._note(error)
            return ""

    def _name(self, file: DebugFile, offset: int) -> str:
        key = file, offset
        found = self._names.get(key)
        if found is None:
            try:
                found = function_name(file, offset)
            except ElfError as error:
                self._note(error)
                found = ""
            self._names[key] = found
            self.cost += 300
        return found

    def _functions(self, deep: bool) -> Optional[Functions]:
        if not deep:
            return self._shallow
        if self._deep is None and self._shallow is not None:
            self._deep = self._scan(True)
            self.cost += self._deep.cost if self._deep is not None else 0
        return self._deep

    def _scan(self, deep: bool) -> Optional[Functions]:
        try:
            return Functions(self.unit, deep=deep)
        except ElfError as error:
            self._note(error)
            return None

    def _line_table(self, unit: Unit) -> Optional[LineTable]:
        if At.STMT_LIST not in unit.root:
            return None
        try:
            return LineTable(unit)
        except ElfError as error:
            self._note(error)
            return None

    def _table(self, functions: Functions, deep: bool, number: int) -> Optional[InlineTable]:
        key = deep, number
        if key not in self._tables:
            try:
                made = InlineTable(self.unit, functions.bodies[number], functions.ends[number])
                self.cost += made.cost
                self._tables[key] = made
            except ElfError as error:
                self._note(error)
                self._tables[key] = None
        return self._tables[key]

    def _note(self, error: ElfError) -> None:
        self.problem = self.problem or error.message
