"""Files that processes map: each opened once, asked for all its addresses, and closed.

Going file by file, and not stack by stack, keeps one file's tables in memory at a time.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Optional, Union

from systemscope.elf import ElfError, ElfImage, Location, Resolver
from systemscope.errors import SystemScopeError
from systemscope.model import Mapping
from systemscope.processes.vdso import read_vdso
from systemscope.symbolizer.demangle import Demangler
from systemscope.symbolizer.options import FileOpener, OpenFile, SymbolizerOptions
from systemscope.symbolizer.separate import DebugSearch

#: How many mappings of one file are tried before it counts as gone: a process may have died,
#: another that maps the same file be alive.
_MAX_ATTEMPTS = 16
_SHOWN = 3

GONE = "its file is gone or cannot be opened"
STRIPPED = "its file is stripped, and no exported symbol covers it"
NO_SYMBOL = "no symbol of its file covers it"
NOT_LOADED = "its file has no code there"
NO_VDSO = "this process has no vdso to compare with"
FOREIGN = "the capture is of another kernel"

#: Below it lie the addresses of 32-bit processes, whose vdso is another.
FOUR_GIB = 1 << 32

#: (file offset, whether it is an instruction pointer and not a return address)
Place = tuple[int, bool]


@dataclass(frozen=True)
class Answer:
    """What one place is. ``address`` is the ELF virtual address, or the file offset where the
    file is no ELF image we could read. ``locations`` are innermost first; without any,
    ``unknown`` says why."""

    address: int
    locations: tuple[Location, ...] = ()
    unknown: str = ""
    build_id: str = ""
    elf: bool = True  # False when the file was read and is no ELF image


@dataclass
class Module:
    """One mapped file and the places of it that need names."""

    where: list[tuple[int, Mapping]] = field(default_factory=list)
    places: dict[Place, Optional[Answer]] = field(default_factory=dict)
    build_id: Optional[str] = None  # None: not looked for yet

    def ask(self, tgid: int, mapping: Mapping, place: Place) -> None:
        """Note that ``place`` needs a name, and that process ``tgid`` maps the file."""
        if place not in self.places:
            self.places[place] = None
        if len(self.where) < _MAX_ATTEMPTS and (tgid, mapping) not in self.where[-1:]:
            self.where.append((tgid, mapping))


class ModuleReader:
    """Fills in the answers of modules."""

    def __init__(
        self,
        options: SymbolizerOptions,
        opener: FileOpener,
        *,
        same_kernel: bool,
        vdso: Optional[bytes] = None,
        search: Optional[DebugSearch] = None,
        demangler: Optional[Demangler] = None,
    ) -> None:
        """``vdso`` is the image of the capture's machine, b"" if it did not tell; None where that
        is this machine. ``search`` finds debug files, ``demangler`` renames in bulk."""
        self._options = options
        self._opener = opener
        self._same_kernel = same_kernel
        self._vdso = vdso
        self._search = search
        self._demangler = demangler
        #: (file's name, table that had the names, in words) -> addresses that got one.
        self.sources: Counter[tuple[str, str]] = Counter()
        self._problems: dict[str, None] = {}

    def notes(self) -> list[str]:
        """What the user should know, a line each."""
        found = list(self._problems)
        more = f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
        return [f"without some source lines: {', '.join(found[:_SHOWN])}{more}"] if found else []

    def answer(self, module: Module) -> None:
        """Answer all the module's places. Never raises for what is wrong with a file."""
        opened = self._open(module)
        if isinstance(opened, str):
            _answer_all(module, opened)
            return
        try:
            with open_image(opened) as image, self._companions(image, module):
                self._resolve(image, module)
        except ElfError as error:
            _answer_all(module, f"its file is {error.message}", elf=False)
        self._finish_all(module)

    def _companions(self, image: ElfImage, module: Module) -> AbstractContextManager[object]:
        if self._search is None:
            return nullcontext()
        image.cache = self._search.cache
        companions = self._search.beside(module.where)
        image.companions = companions
        return companions

    def _open(self, module: Module) -> Union[int, OpenFile, bytes, str]:
        """The file, the bytes of the vdso, or a sentence that says why there is neither."""
        if module.where and module.where[0][1].path == "[vdso]":
            return self._read_vdso(module.where[0][1])
        for tgid, mapping in module.where:
            try:
                opened = self._opener(tgid, mapping)
            except (OSError, SystemScopeError):
                continue
            if opened is not None:
                return opened
        return GONE

    def _read_vdso(self, mapping: Mapping) -> Union[bytes, str]:
        if mapping.end <= FOUR_GIB:
            return NO_VDSO
        if self._vdso is not None:
            return self._vdso or NO_VDSO
        return (read_vdso() or NO_VDSO) if self._same_kernel else FOREIGN

    def _resolve(self, image: ElfImage, module: Module) -> None:
        resolvers = [make(image) for make in self._options.resolvers]
        reason = NO_SYMBOL if image.has_symtab else STRIPPED
        build_id = image.build_id
        # In order, because a resolver decodes the parts of a file that belong together at once.
        for place in sorted(module.places):
            if module.places[place] is None:
                offset, exact = place
                # The byte before a return address is the one that must be in the segment.
                back = 0 if exact else 1
                address = image.address_of_offset(offset - back)
                if address is None and module.where:
                    mapped = min(mapping.offset for _, mapping in module.where)
                    address = image.address_without_bytes(offset - back, mapped)
                if address is None:
                    answer = Answer(offset, (), NOT_LOADED, build_id)
                else:
                    address += back
                    found = self._locate(resolvers, address, exact)
                    answer = Answer(address, found, "" if found else reason, build_id)
                    if found:
                        self.sources[_name_of(module), found[-1].source] += 1
                module.places[place] = answer
        for resolver in resolvers:
            problem = getattr(resolver, "problem", "")  # of its debug information
            if problem and module.where:
                name = module.where[0][1].path.rsplit("/", 1)[-1]
                self._problems[f"{name} ({problem})"] = None

    def _locate(
        self, resolvers: Iterable[Resolver], address: int, exact: bool
    ) -> tuple[Location, ...]:
        # A return address may lie behind the last byte of the function that called, when the call
        # does not return: the byte before it is inside the call. Only the code that signal
        # handlers return to has nothing before it (glibc's __restore_rt).
        for delta in (0,) if exact else (1, 0):
            for resolver in resolvers:
                found = resolver.resolve(address - delta)
                if found:
                    return tuple(self._finish(location, delta) for location in found)
        return ()

    def _finish_all(self, module: Module) -> None:
        """Demangle the names of all answers: in bulk, because another process does it."""
        answers = {place: answer for place, answer in module.places.items() if answer is not None}
        if self._demangler is None:
            return
        told = self._demangler.names(
            location.name for answer in answers.values() for location in answer.locations
        )
        for place, answer in answers.items():
            if any(location.name in told for location in answer.locations):
                renamed = tuple(replace(x, name=told.get(x.name, x.name)) for x in answer.locations)
                module.places[place] = replace(answer, locations=renamed)

    def _finish(self, location: Location, delta: int) -> Location:
        name = location.name
        if self._options.rename is not None:
            name = self._options.rename(name) or name
        if delta == 0 and name == location.name:
            return location
        return replace(location, name=name, offset=location.offset + delta)


def _name_of(module: Module) -> str:
    path = module.where[0][1].path if module.where else ""
    return path.rsplit("/", 1)[-1] or "[file]"


def _answer_all(module: Module, unknown: str, *, elf: bool = True) -> None:
    for place, known in module.places.items():
        if known is None:
            module.places[place] = Answer(place[0], (), unknown, elf=elf)


@contextmanager
def open_image(opened: Union[int, OpenFile, bytes]) -> Iterator[ElfImage]:
    """The image in what an opener gave, which is closed at the end. Raises ElfError."""
    try:
        if isinstance(opened, bytes):
            yield ElfImage.from_bytes(opened)
            return
        descriptor = opened if isinstance(opened, int) else opened.fileno()
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ElfError("not a regular file")
        yield ElfImage.from_descriptor(descriptor)
    finally:
        _close(opened)


def _close(opened: Union[int, OpenFile, bytes]) -> None:
    if isinstance(opened, int):
        os.close(opened)
    elif not isinstance(opened, bytes):
        opened.close()
