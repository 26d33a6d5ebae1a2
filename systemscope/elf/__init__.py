"""ELF files, read with bounds and suspicion: headers, build IDs, symbols, linkage stubs."""

from systemscope.elf.errors import ElfError
from systemscope.elf.header import (
    FileType,
    Header,
    Machine,
    Section,
    SectionType,
    Segment,
    SegmentType,
)
from systemscope.elf.image import ElfImage
from systemscope.elf.resolver import Location, Resolver, ResolverFactory, SymbolResolver
from systemscope.elf.source import FileSource, MemorySource, Source
from systemscope.elf.symbols import Symbol, SymbolTable

__all__ = [
    "ElfError",
    "ElfImage",
    "FileSource",
    "FileType",
    "Header",
    "Location",
    "Machine",
    "MemorySource",
    "Resolver",
    "ResolverFactory",
    "Section",
    "SectionType",
    "Segment",
    "SegmentType",
    "Source",
    "Symbol",
    "SymbolResolver",
    "SymbolTable",
]
