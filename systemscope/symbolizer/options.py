"""What the symbolizer may be told, and the seams through which more names come in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional, Protocol, Union

from systemscope.elf import ResolverFactory, SymbolResolver
from systemscope.model import Frame, Mapping


class OpenFile(Protocol):
    """Anything that owns a descriptor: a file object, or systemscope.syscalls.fd.Fd."""

    def fileno(self) -> int:
        """The descriptor."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


#: Opens the file behind a mapping of thread group ``tgid``, which may be dead, for reading. The
#: symbolizer closes what it gets; None, OSError or SystemScopeError mean the file is out of reach.
FileOpener = Callable[[int, Mapping], Union[int, OpenFile, None]]

#: Names an address of thread group ``tgid`` that lies in anonymous memory: innermost frame first,
#: () when unknown. This is where the maps of just-in-time compilers come in.
CodeNamer = Callable[[int, int], tuple[Frame, ...]]


@dataclass(frozen=True)
class SymbolizerOptions:
    """How names are found.

    ``resolvers`` are asked in turn for each address of an ELF image; ``rename`` is applied to each
    name they give. ``demangle`` turns C++ and Rust symbols into what was written.
    ``generated_code`` names addresses in no file; without it the maps that just-in-time compilers
    leave are read. Debug files are looked for in ``debug_directories`` first, and last at the
    ``debuginfod`` servers; these files and sorted symbol tables are kept in ``cache_directory``
    ("" for nowhere). ``kallsyms`` and ``modules`` are the kernel's own tables.
    """

    resolvers: tuple[ResolverFactory, ...] = (SymbolResolver,)
    rename: Optional[Callable[[str], str]] = None
    demangle: bool = True
    generated_code: Optional[CodeNamer] = None
    debug_directories: tuple[str, ...] = ()
    debuginfod: tuple[str, ...] = ()
    cache_directory: str = ""
    kallsyms: str = "/proc/kallsyms"
    modules: str = "/proc/modules"
