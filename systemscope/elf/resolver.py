"""The seam between an address in an ELF image and the frames it stands for.

A resolver answers for one image. Resolvers form a chain: the first that knows the address wins.
The symbol tables are the last link; line tables with inlined functions, or a separate debug file,
go before them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Protocol

from systemscope.elf.image import ElfImage


@dataclass(frozen=True)
class Location:
    """One function at an address. ``offset`` counts from the function's start; ``file`` and
    ``line`` are "" and 0 where unknown; ``inlined`` says the next location is its caller at the
    same address."""

    name: str
    offset: int = 0
    file: str = ""
    line: int = 0
    inlined: bool = False


class Resolver(Protocol):
    """Names addresses of one image."""

    def resolve(self, address: int) -> tuple[Location, ...]:
        """The functions at ELF virtual address ``address``, innermost first; () when unknown.
        Raises ElfError on damaged files."""
        ...


#: Makes the resolver for an image; it may raise ElfError.
ResolverFactory = Callable[[ElfImage], Resolver]


class SymbolResolver:
    """Names addresses by the image's symbol tables."""

    def __init__(self, image: ElfImage) -> None:
        self._image = image

    def resolve(self, address: int) -> tuple[Location, ...]:
        """See Resolver: one location at most."""
        symbol = self._image.find_symbol(address)
        return () if symbol is None else (Location(symbol.name, address - symbol.address),)
