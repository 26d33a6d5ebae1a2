"""Source lines and inlined functions for the frames of user code."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

from systemscope.elf import (
    ElfError,
    ElfImage,
    FileSource,
    Resolver,
    ResolverFactory,
    SymbolResolver,
)
from systemscope.processes.files import regular_readable

if TYPE_CHECKING:
    from systemscope.elf.dwarf_split import SplitName


def resolvers(
    lines: bool, inlines: bool = True, directories: Sequence[str] = ()
) -> tuple[ResolverFactory, ...]:
    """What SymbolizerOptions takes so that frames tell file and line if ``lines``, and inlined
    functions are frames if ``inlines``. ``directories`` are where .dwo files are looked for
    first."""
    if not lines:
        return (SymbolResolver,)
    finder = SplitFiles(directories)

    def make(image: ElfImage) -> Resolver:
        # Most runs do without: nothing of it is loaded before.
        from systemscope.elf.dwarf_resolver import LineResolver

        # A stripped program's debug information is in its debug file, at the same addresses.
        debug = None if image.section(".debug_info") is not None else image.debug_file
        return LineResolver(
            debug or image,
            inlines=inlines,
            symbols=SymbolResolver(image),
            supplement=(debug or image).supplement,
            split=finder.open,
        )

    return (make,)


class SplitFiles:
    """Finds .dwo files, which compilers leave beside their object files.

    Programs tell the paths they had when they were built. These are looked for below each of
    ``directories``, as a whole and by their mere names, then as they are. The id in the file tells
    whether it is the one, so a path can lead to no other file's contents.
    """

    def __init__(self, directories: Sequence[str] = ()) -> None:
        self._directories = tuple(directories)

    def open(self, wanted: SplitName) -> Optional[FileSource]:
        """The file, which is closed when the result is no longer used; None if there is none. A
        SplitOpener."""
        path = os.path.join(wanted.directory, wanted.name)
        relative = os.path.normpath("/" + path).lstrip("/")
        places = [path] if path.startswith("/") else []
        for directory in reversed(self._directories):
            places.insert(0, os.path.join(directory, os.path.basename(relative)))
            places.insert(0, os.path.join(directory, relative))
        for place in places:
            descriptor = _open(place)
            if descriptor is not None:
                return _owned(descriptor)
        return None


def _open(path: str) -> Optional[int]:
    """Named by a file that may be hostile: no device is opened, and no fifo waited for."""
    try:
        found = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        return regular_readable(found)
    finally:
        os.close(found)


def _owned(descriptor: int) -> Optional[FileSource]:
    try:
        source = FileSource(descriptor)
    except ElfError:
        os.close(descriptor)
        return None
    weakref.finalize(source, os.close, descriptor)
    return source
