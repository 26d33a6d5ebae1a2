"""Files of another machine's processes, found on this one by their build IDs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import Optional

from systemscope.elf import ElfError, ElfImage
from systemscope.model import HostFacts, Mapping
from systemscope.symbolizer.debuginfod import DebugServers
from systemscope.symbolizer.facts import file_key

_SHOWN = 3


class DebugFiles:
    """Looks for mapped files in debug directories, then by their paths on this machine.

    A debug directory is laid out as ``.build-id/xx/yyyy.debug`` or ``.build-id/xx/yyyy`` (as in
    /usr/lib/debug), as a root file system (``usr/bin/app``), or holds files by their mere names.
    A file counts only if its build ID is the recorded one. Where none was recorded, a file at the
    same path is taken, and told. Last the ``servers`` are asked for a debug file, which says where
    functions lie as well. ``open`` is a FileOpener.
    """

    def __init__(
        self,
        facts: HostFacts,
        directories: Sequence[str] = (),
        servers: Optional[DebugServers] = None,
    ) -> None:
        self._facts = facts
        self._servers = servers
        self._directories = tuple(directories)
        self._missing: dict[str, bool] = {}  # -> whether a file of another build was there
        self._unproved: dict[str, None] = {}
        self._names: dict[tuple[int, str], tuple[str, str]] = {}
        for (path, file), build_id in facts.build_ids.items():
            self._names.setdefault((file[2], path), (path, build_id))

    def open(self, tgid: int, mapping: Mapping) -> Optional[int]:
        """A descriptor of the mapping's file, which the caller closes; None when there is none."""
        wanted = self._build_id(mapping)
        other = False
        for path, by_path in self._candidates(mapping.path, wanted):
            descriptor = _open(path)
            if descriptor is None:
                continue
            found = _build_id_of(descriptor)
            if found is not None and (found == wanted if wanted else by_path):
                if not wanted:
                    self._unproved[mapping.path] = None
                self._missing.pop(mapping.path, None)
                return descriptor
            other = other or found is not None
            os.close(descriptor)
        descriptor = self._servers.open(wanted) if self._servers is not None else None
        if descriptor is None:
            self._missing[mapping.path] = other
        return descriptor

    def notes(self) -> list[str]:
        """What the user should know: files that were not found, files taken on trust."""
        found = []
        if self._missing:
            other = [path for path, seen in self._missing.items() if seen]
            what = f"no file for {_listing(list(self._missing))}"
            builds = f", {len(other):,} of another build" if other else ""
            found.append(f"{what}{builds}: name where they are with --debug-dir")
        if self._unproved:
            listing = _listing(list(self._unproved))
            found.append(f"taken by path alone, the capture tells no build ID: {listing}")
        return found + (self._servers.notes() if self._servers is not None else [])

    def _build_id(self, mapping: Mapping) -> str:
        known = self._facts.build_ids.get(file_key(mapping))
        if known is None and mapping.file is not None:
            # One mapping of a file may tell the generation of its inode and another not.
            known = self._names.get((mapping.file.inode, mapping.path), ("", ""))[1]
        return known or ""

    def _candidates(self, path: str, build_id: str) -> Iterator[tuple[str, bool]]:
        """(path, whether the file has the name it had on the other machine)."""
        relative = os.path.normpath("/" + path).lstrip("/")
        for directory in self._directories:
            if len(build_id) > 2 and build_id.isalnum():
                stem = os.path.join(directory, ".build-id", build_id[:2], build_id[2:])
                yield stem + ".debug", False
                yield stem, False
            if relative:
                yield os.path.join(directory, relative + ".debug"), False
                yield os.path.join(directory, relative), True
                name = os.path.basename(relative)
                yield os.path.join(directory, name + ".debug"), False
                yield os.path.join(directory, name), True
        if path.startswith("/"):
            yield path, True


def _open(path: str) -> Optional[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None


def _build_id_of(descriptor: int) -> Optional[str]:
    """The build ID of an ELF file, None for any other file."""
    try:
        return ElfImage.from_descriptor(descriptor).build_id
    except ElfError:
        return None


def _listing(paths: list[str]) -> str:
    more = len(paths) - _SHOWN
    return ", ".join(paths[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
