"""Addresses to frames: the kernel's symbols, ELF files through the mappings of processes."""

from systemscope.symbolizer.options import CodeNamer, FileOpener, OpenFile, SymbolizerOptions
from systemscope.symbolizer.symbolize import symbolize

__all__ = [
    "CodeNamer",
    "FileOpener",
    "OpenFile",
    "SymbolizerOptions",
    "symbolize",
]
