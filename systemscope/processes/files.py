"""The files behind mappings, of processes that may be dead and of files that may be deleted.

A mapping's path is what *its process* sees, at the time it was mapped: by now the file may have
been replaced, the process may be gone, and the path may mean another file to us. So a file is
looked for where it certainly is (/proc/PID/map_files), then where the process would find it
(/proc/PID/root), then under our own root; and what is found must have the inode that was mapped.
"""

from __future__ import annotations

import os
import resource
import stat
from typing import Callable, Optional

from systemscope.model import FileId, Mapping
from systemscope.processes import maps, rooted

MAX_PINNED = 2048

_Key = tuple[int, int, int]


def regular_readable(descriptor: int) -> Optional[int]:
    """A descriptor to read the regular file behind an O_PATH one; None for anything else.

    It has its own file offset and belongs to the caller; ``descriptor`` stays as it is. Opening
    through /proc/self/fd reaches the very file, also when it has no name any more.
    """
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None


class FileStore:
    """Finds files of mappings, and keeps hold of those it was shown in time.

    ``shares_our_files`` says whether a process, dead or alive, had our root and mount namespace
    (ProcessTable.shares_our_files). A file reached through our own root is accepted when device
    and inode are those mapped; when the inode alone is (overlayfs and btrfs show another device
    to stat(2) than to mappings), only if the process shared our root. Through the process itself
    the inode alone has to fit.

    Owns the pinned descriptors: close it, or use it as a context manager.
    """

    def __init__(
        self,
        shares_our_files: Optional[Callable[[int], bool]] = None,
        limit: Optional[int] = None,
    ) -> None:
        self._shares = shares_our_files
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        room = MAX_PINNED if soft == resource.RLIM_INFINITY else soft // 2
        self._limit = min(MAX_PINNED if limit is None else limit, room)
        self._pinned: dict[_Key, tuple[int, int]] = {}  # -> (generation, O_PATH descriptor)
        self.refused = 0  # files not pinned because the limit was reached

    def consult(self, shares_our_files: Callable[[int], bool]) -> None:
        """Ask this from now on whether a process shared our root."""
        self._shares = shares_our_files

    def __len__(self) -> int:
        return len(self._pinned)

    def pin(self, tgid: int, mapping: Mapping) -> bool:
        """Keep the mapping's file reachable from now on; False when it cannot be found, is no
        regular file, or too many are held. Cheap for a file that is pinned already."""
        if mapping.file is None:
            return False
        if self._held(mapping.file) is not None:
            return True
        key = _key(mapping.file)
        if key not in self._pinned and len(self._pinned) >= self._limit:
            self.refused += 1
            return False
        descriptor = self._find(tgid, mapping, mapping.file)
        if descriptor is None:
            return False
        replaced = self._pinned.pop(key, None)  # the inode number was used again
        if replaced is not None:
            os.close(replaced[1])
        self._pinned[key] = (mapping.file.generation, descriptor)
        return True

    def open(self, tgid: int, mapping: Mapping) -> Optional[int]:
        """A descriptor to read the mapping's file, which the caller closes; None when it is not to
        be had (any more), or is no regular file. Never blocks on a fifo or device."""
        if mapping.file is None:
            return None
        held = self._held(mapping.file)
        if held is not None:
            return regular_readable(held)
        found = self._find(tgid, mapping, mapping.file)
        if found is None:
            return None
        try:
            return regular_readable(found)
        finally:
            os.close(found)

    def _held(self, file: FileId) -> Optional[int]:
        pinned = self._pinned.get(_key(file))
        if pinned is None:
            return None
        # /proc/PID/maps does not tell the generation, which then is 0: any will do.
        known = file.generation and pinned[0] and file.generation != pinned[0]
        return None if known else pinned[1]

    def _find(self, tgid: int, mapping: Mapping, file: FileId) -> Optional[int]:
        """An O_PATH descriptor of the mapping's regular file."""
        found = _accept(_open_path(_map_file(tgid, mapping.start, mapping.end)), file, False)
        if found is not None:
            return found
        found = self._find_by_path(tgid, mapping, file)
        if found is not None or not mapping.deleted:
            return found
        # The mapping was split or merged since: any other one of the file will do.
        for other in maps.read_mappings(tgid):
            if other.file is not None and _key(other.file) == _key(file):
                return _accept(_open_path(_map_file(tgid, other.start, other.end)), file, False)
        return None

    def _find_by_path(self, tgid: int, mapping: Mapping, file: FileId) -> Optional[int]:
        if not mapping.path.startswith("/"):
            return None
        names = [mapping.path]
        if mapping.deleted:
            names.append(mapping.path + " (deleted)")  # it may really be called that
        root = _open_path(f"/proc/{tgid}/root")
        if root is not None:
            try:
                for name in names:
                    found = _accept(rooted.open_in_root(root, name), file, False)
                    if found is not None:
                        return found
            finally:
                os.close(root)
        trusted = self._shares is not None and self._shares(tgid)
        for name in names:
            found = _accept(_open_path(name), file, not trusted)
            if found is not None:
                return found
        return None

    def close(self) -> None:
        """Let go of all pinned files. The store can still be asked, and finds what is there."""
        while self._pinned:
            os.close(self._pinned.popitem()[1][1])

    def __enter__(self) -> FileStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _key(file: FileId) -> _Key:
    return file.major, file.minor, file.inode


def _map_file(tgid: int, start: int, end: int) -> str:
    return f"/proc/{tgid}/map_files/{start:x}-{end:x}"


def _open_path(path: str) -> Optional[int]:
    try:
        return os.open(path, os.O_PATH)
    except (OSError, ValueError):
        return None


def _accept(descriptor: Optional[int], file: FileId, exact: bool) -> Optional[int]:
    """``descriptor`` if it is the mapped regular file, else it is closed. ``exact`` asks for the
    device to be the same too."""
    if descriptor is None:
        return None
    try:
        status = os.fstat(descriptor)
    except OSError:  # a file system that is gone (ESTALE)
        os.close(descriptor)
        return None
    fits = stat.S_ISREG(status.st_mode) and status.st_ino == file.inode
    if fits and exact:
        fits = status.st_dev == os.makedev(file.major, file.minor)
    if fits:
        return descriptor
    os.close(descriptor)
    return None
