"""Source lines and inlined functions of addresses, by the DWARF of an image.

Whose name counts where symbols and DWARF both know a function: the function itself, the outermost
of the frames at an address, is named by the symbol table, and by DWARF only if no symbol covers the
address. So names are the same with and without lines, code that the compiler split off or made for
one use keeps the name that says so (``f.cold``, ``f.part.0``), and of several names for one address
the same one is taken. (Where compilers fold equal functions into one, DWARF tells of one of them,
and the symbol that is taken may be another.) Inlined functions have no symbols and get their
linkage names, else their plain ones.

DWARF that is damaged, or more than is worked through, is as if it were not there: the symbol table
answers then, and ``problem`` tells.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from systemscope.elf.dwarf_decoded import DecodedUnit
from systemscope.elf.dwarf_file import DebugFile, UnitIndex
from systemscope.elf.dwarf_recent import Recent
from systemscope.elf.dwarf_sections import Work
from systemscope.elf.dwarf_split import SplitOpener, bulk_of, split_name
from systemscope.elf.dwarf_units import Unit
from systemscope.elf.errors import ElfError
from systemscope.elf.image import ElfImage
from systemscope.elf.resolver import Location, Resolver, SymbolResolver

#: What one file is worth, about in bytes of DWARF that are decoded: all units of a program of a few
#: hundred megabytes, or the ones that matter of a larger one. A hostile file costs a minute or two.
MAX_WORK = 512 << 20

#: The name of an inlined function that has none, or whose name is not at hand.
NAMELESS = "[inlined]"

#: What decoded units may take in memory together.
MAX_KEPT = 32 << 20


class LineResolver:
    """Names addresses of one image with files, lines and inlined functions; see Resolver.

    ``symbols`` names functions by symbol tables, those of ``image`` if it is not given: ``image``
    may be a separate file of debug information. ``supplement`` is the file that dwz moved what
    several files share to (.gnu_debugaltlink), opened as ``relocatable``. ``split`` finds .dwo
    files. Without ``inlines`` only the function itself is told, with the line in it where the
    inlined code is called. All images must stay readable while the resolver is used.

    ``resolve`` raises nothing for what is wrong with DWARF; ``problem`` is "" or says what was.
    """

    def __init__(
        self,
        image: ElfImage,
        *,
        inlines: bool = True,
        symbols: Optional[Resolver] = None,
        supplement: Optional[ElfImage] = None,
        split: Optional[SplitOpener] = None,
        work: int = MAX_WORK,
    ) -> None:
        self._problem = ""
        self._image = image
        self._symbols: Resolver = symbols or SymbolResolver(image)
        self._supplement = supplement
        self._inlines = inlines
        self._split = split
        self._work = Work(work)
        self._failed = False  # to open
        self._file: Optional[DebugFile] = None
        self._index: Optional[UnitIndex] = None
        self._units: Recent[int, DecodedUnit] = Recent(MAX_KEPT, _cost)

    @property
    def problem(self) -> str:
        """What was wrong with the DWARF, "" as long as nothing was."""
        return self._problem or self._work.problem

    def resolve(self, address: int) -> tuple[Location, ...]:
        """See Resolver. () where neither DWARF nor a symbol names the function."""
        named = self._symbols.resolve(address)
        try:
            return self._by_dwarf(address, named) or named
        except ElfError as error:
            self._problem = self._problem or error.message
            return named

    def _by_dwarf(self, address: int, named: tuple[Location, ...]) -> tuple[Location, ...]:
        """The whole answer; () where DWARF adds nothing to ``named``."""
        decoded = self._decoded(address)
        if decoded is None:
            return ()
        file, line = decoded.line(address)
        found: list[Location] = []
        # Where a table of all symbols has none, there is nothing but padding between functions.
        known = decoded.function(address, nested=bool(named) or not self._image.has_symtab)
        if known is not None:
            function, chain = known
            for inlined in chain:
                if self._inlines:
                    called = decoded.name_of_inlined(inlined) or NAMELESS
                    found.append(Location(called, address - inlined.low, file, line, True))
                file, line = decoded.path(inlined.file), inlined.line
            if not named:
                name = decoded.name(function)
                told = Location(name, address - function.low, source=".debug_info")
                named = (told,) if name else ()
        self._problem = self._problem or decoded.problem
        if not named:
            return ()
        return (*found, replace(named[0], file=file, line=line), *named[1:])

    def _decoded(self, address: int) -> Optional[DecodedUnit]:
        if self._file is None or self._index is None:
            self._open()
            assert self._file is not None and self._index is not None
        offset = self._index.find(address)
        if offset < 0:
            return None
        found = self._units.get(offset)
        if found is None:
            found = self._decode(self._file.unit(offset))
        # It may have become larger by what was asked of it.
        return self._units.put(offset, found)

    def _open(self) -> None:
        if self._failed:
            raise ElfError(self._problem)
        self._failed = True
        supplement = None
        if self._supplement is not None:
            try:
                supplement = DebugFile(self._supplement, self._work)
            except ElfError as error:
                self._problem = error.message
        self._file = DebugFile(self._image, self._work, supplement=supplement)
        self._index = UnitIndex(self._file)
        self._problem = self._problem or self._index.problem
        self._failed = False

    def _decode(self, unit: Unit) -> DecodedUnit:
        name = split_name(unit)
        if name is not None and self._split is not None:
            try:
                bulk = bulk_of(unit, name, self._split)
                if bulk is not None:
                    return DecodedUnit(bulk, unit)
            except ElfError as error:
                self._problem = self._problem or error.message
        return DecodedUnit(unit)


def _cost(unit: DecodedUnit) -> int:
    return unit.cost
