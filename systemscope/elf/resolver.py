"""The seam between an address in an ELF image and the frames it stands for.

A resolver answers for one image. Resolvers form a chain: the first that knows the address wins.
The symbol tables are the last link; line tables with inlined functions go before them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Callable, Optional, Protocol

from systemscope.elf.errors import ElfError
from systemscope.elf.image import ElfImage
from systemscope.elf.minidebug import mini_debug_image
from systemscope.elf.symbols import Symbol, SymbolTable


@dataclass(frozen=True)
class Location:
    """One function at an address. ``offset`` counts from the function's start; ``file`` and
    ``line`` are "" and 0 where unknown; ``inlined`` says the next location is its caller at the
    same address. ``source`` is the table that has the name, in words."""

    name: str
    offset: int = 0
    file: str = ""
    line: int = 0
    inlined: bool = False
    source: str = ""


class Resolver(Protocol):
    """Names addresses of one image."""

    def resolve(self, address: int) -> tuple[Location, ...]:
        """The functions at ELF virtual address ``address``, innermost first; () when unknown.
        Raises ElfError on damaged files."""
        ...


#: Makes the resolver for an image; it may raise ElfError.
ResolverFactory = Callable[[ElfImage], Resolver]


#: Looks for the function at an ELF virtual address.
_Finder = Callable[[int], Optional[Symbol]]


class SymbolResolver:
    """Names addresses by symbol tables, the best first: those of functions that are not exported
    too, of the image, its debug file and its MiniDebugInfo; then exported functions and linkage
    stubs. A table is read when those before it do not know an address."""

    def __init__(self, image: ElfImage) -> None:
        self._image = image
        self._known: list[tuple[str, _Finder]] = []
        self._more = self._tables()

    def resolve(self, address: int) -> tuple[Location, ...]:
        """See Resolver: one location at most."""
        for source, find in chain(self._known, self._next()):
            symbol = find(address)
            if symbol is not None:
                return (Location(symbol.name, address - symbol.address, source=source),)
        return ()

    def _next(self) -> Iterator[tuple[str, _Finder]]:
        for found in self._more:
            self._known.append(found)
            yield found

    def _tables(self) -> Iterator[tuple[str, _Finder]]:
        image = self._image
        if image.symtab is not None:
            yield ".symtab", image.symtab.find
        companions: tuple[tuple[str, Callable[[], Optional[ElfImage]]], ...] = (
            (".symtab of its debug file", lambda: image.debug_file),
            ("MiniDebugInfo", lambda: mini_debug_image(image)),
        )
        for source, companion in companions:
            table = self._table_of(source, companion)
            if table is not None:
                yield source, partial(self._find_in, source, table)
        if image.dynsym is not None:
            yield ".dynsym", image.dynsym.find
        yield "linkage stubs", image.find_stub

    def _table_of(
        self, source: str, companion: Callable[[], Optional[ElfImage]]
    ) -> Optional[SymbolTable]:
        try:
            found = companion()
            if found is None or found.header.machine != self._image.header.machine:
                return None
            return found.symtab
        except ElfError as error:
            self._note(source, error)
            return None

    def _find_in(self, source: str, table: SymbolTable, address: int) -> Optional[Symbol]:
        try:
            return table.find(address)
        except ElfError as error:
            self._note(source, error)
            return None

    def _note(self, source: str, error: ElfError) -> None:
        if self._image.companions is not None:
            self._image.companions.failed(source, error)
