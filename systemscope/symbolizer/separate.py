"""Files with what was stripped off programs: found, checked to belong to them, and opened once.

They are looked for in the root directory of the process that maps the program, then in our own: by
build ID, by .gnu_debuglink, and last, where the user allows it, at debuginfod servers. A file whose
build ID is another is never used. Sources: GDB's manual, "Debugging Information in Separate Files";
binutils' bfd/opncls.c.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Optional

from systemscope.elf import ElfError, ElfImage
from systemscope.elf.cache import TableCache
from systemscope.elf.debuglink import alternate_link, checksum, debug_link
from systemscope.model import Mapping
from systemscope.processes.files import regular_readable
from systemscope.processes.rooted import open_in_root
from systemscope.symbolizer.debuginfod import DebugServers

_GLOBAL = "/usr/lib/debug"
_SHOWN = 3
_MAX_PROBLEMS = 1000
_MAX_TARGETS = 4
_USEFUL = (".debug_info", ".zdebug_info", ".debug_line", ".zdebug_line")


class DebugSearch:
    """Where to look, and what went wrong there.

    ``targets`` says that processes are those of this machine, so that their roots are searched.
    ``directories`` come first; they are laid out as /usr/lib/debug or as a root file system.
    """

    def __init__(
        self,
        *,
        targets: bool,
        directories: Sequence[str] = (),
        servers: Optional[DebugServers] = None,
        cache: Optional[TableCache] = None,
    ) -> None:
        self.targets = targets
        self.directories = tuple(directories)
        self.servers = servers
        self.cache = cache
        self._problems: dict[str, None] = {}

    def beside(self, where: Sequence[tuple[int, Mapping]]) -> ModuleCompanions:
        """The companions of the image that ``where`` maps: a context manager that owns them."""
        return ModuleCompanions(self, where)

    def problem(self, what: str) -> None:
        """Note that ``what`` was not used."""
        if len(self._problems) < _MAX_PROBLEMS:
            self._problems[what] = None

    def notes(self) -> list[str]:
        """What the user should know, a line each."""
        found = list(self._problems)
        more = f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
        notes = [f"not used for names: {', '.join(found[:_SHOWN])}{more}"] if found else []
        return notes + (self.servers.notes() if self.servers is not None else [])


class ModuleCompanions:
    """The files that belong to one mapped file, and to its debug file (elf.companions)."""

    def __init__(self, search: DebugSearch, where: Sequence[tuple[int, Mapping]]) -> None:
        self._search = search
        self._where = where
        self._path = where[0][1].path if where else ""
        self._owned = ExitStack()
        self._roots: Optional[list[tuple[int, tuple[str, ...]]]] = None
        self._places: dict[int, str] = {}  # id of an image we opened -> its directory

    def __enter__(self) -> ModuleCompanions:
        return self

    def __exit__(self, *_: object) -> None:
        self._owned.close()

    def debug_file(self, image: ElfImage) -> Optional[ElfImage]:
        """See Companions."""
        wanted = image.build_id
        found = self._by_build_id(wanted, useful=True) or self._by_link(image)
        return found or self._from_servers(wanted)

    def supplement(self, image: ElfImage) -> Optional[ElfImage]:
        """See Companions."""
        try:
            link = alternate_link(image)
        except ElfError as error:
            self.failed(self._path, error)
            return None
        if link is None:
            return None
        found = self._by_build_id(link.build_id, useful=False)
        if found is None:
            base = self._places.get(id(image), posixpath.dirname(self._path))
            path = posixpath.join(base, link.path)
            found = self._first([path], link.build_id, useful=False)
        found = found or self._from_servers(link.build_id)
        if found is None:
            self._search.problem(f"{link.path} (missing)")
        return found

    def failed(self, what: str, error: ElfError) -> None:
        """See Companions."""
        name = posixpath.basename(self._path) or "[file]"
        place = what if what == self._path else f"{what} of {name}"
        self._search.problem(f"{place} ({error.message})")

    # -- where ------------------------------------------------------------------------------

    def _by_build_id(self, build_id: str, *, useful: bool) -> Optional[ElfImage]:
        if not 2 < len(build_id) <= 128:
            return None
        path = f"/.build-id/{build_id[:2]}/{build_id[2:]}.debug"
        return self._first([path], build_id, useful=useful, below=True)

    def _by_link(self, image: ElfImage) -> Optional[ElfImage]:
        try:
            link = debug_link(image)
        except ElfError as error:
            self.failed(self._path, error)
            return None
        if link is None or not self._path.startswith("/"):
            return None
        home = posixpath.dirname(self._path)
        # Distributions moved /lib to /usr/lib; debug files may lie under either name.
        other = home[4:] if home.startswith("/usr/") else f"/usr{home}"
        paths = [f"{home}/{link.name}", f"{home}/.debug/{link.name}"]
        paths += [f"{_GLOBAL}{one}/{link.name}" for one in (home, other)]
        return self._first(paths, image.build_id, useful=True, crc=link.crc)

    def _first(
        self,
        paths: Sequence[str],
        build_id: str,
        *,
        useful: bool,
        crc: Optional[int] = None,
        below: bool = False,
    ) -> Optional[ElfImage]:
        """The first of ``paths`` that is the file. ``below`` says that they are relative to the
        directories of debug files that each root has."""
        for root, prefixes in self._all_roots():
            for path in (p + path for path in paths for p in (prefixes if below else ("",))):
                descriptor = _readable(root, path)
                if descriptor is None:
                    continue
                found = self._checked(descriptor, path, build_id, useful, crc)
                if found is not None:
                    self._places[id(found)] = posixpath.dirname(path)
                    return found
        return None

    def _all_roots(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        """(descriptor of a root directory, where its debug files lie), opened at first use."""
        if self._roots is None:
            self._roots = []
            for path in self._search.directories:
                self._add_root(path, ("", _GLOBAL))
            if self._search.targets:
                for tgid in list(dict.fromkeys(tgid for tgid, _ in self._where))[:_MAX_TARGETS]:
                    if self._add_root(f"/proc/{tgid}/root", (_GLOBAL,)):
                        break
            self._add_root("/", (_GLOBAL,))
        yield from self._roots

    def _add_root(self, path: str, prefixes: tuple[str, ...]) -> bool:
        assert self._roots is not None
        try:
            root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except (OSError, ValueError):
            return False
        self._owned.callback(os.close, root)
        self._roots.append((root, prefixes))
        return True

    def _from_servers(self, build_id: str) -> Optional[ElfImage]:
        servers = self._search.servers
        descriptor = servers.open(build_id) if servers is not None and build_id else None
        if descriptor is None:
            return None
        return self._checked(descriptor, f"debuginfod's file {build_id}", build_id, False, None)

    # -- whether it is the one --------------------------------------------------------------

    def _checked(
        self, descriptor: int, path: str, build_id: str, useful: bool, crc: Optional[int]
    ) -> Optional[ElfImage]:
        """The image in ``descriptor``, which is closed with the others, or at once if it is
        not the wanted one. ``crc`` is its checksum, where only that proves it."""
        reason = ""
        try:
            # No linker has seen what dwz makes.
            image = ElfImage.from_descriptor(descriptor, relocatable=not useful)
            if useful and not _is_useful(image):
                pass  # the stripped file itself may be where its debug file is looked for
            elif image.build_id != build_id and (image.build_id or crc is None):
                reason = "of another build"
            elif crc is not None and _checksum(descriptor, image) != crc:
                reason = "another checksum"
            else:
                image.cache, image.companions = self._search.cache, self
                self._owned.callback(os.close, descriptor)
                return image
        except ElfError as error:
            reason = error.message
        if reason:
            self._search.problem(f"{path} ({reason})")
        os.close(descriptor)
        return None


def _readable(root: int, path: str) -> Optional[int]:
    found = open_in_root(root, path)
    if found is None:
        return None
    try:
        return regular_readable(found)
    finally:
        os.close(found)


def _is_useful(image: ElfImage) -> bool:
    return image.has_symtab or any(image.section(name) is not None for name in _USEFUL)


def _checksum(descriptor: int, image: ElfImage) -> int:
    with suppress(OSError):
        # A file of holes costs its maker nothing and its reader seconds.
        if os.fstat(descriptor).st_blocks * 512 * 64 < image.source.size:
            raise ElfError("full of holes")
    return checksum(image.source)
