"""Archives in the format a kernel unpacks as its first file system.

Documentation/driver-api/early-userspace/buffer-format.rst: "newc" cpio archives, gzipped or not,
one after the other.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

_MAGIC = "070701"


class Writer:
    """Writes one archive to a stream; parent directories come by themselves."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._made: set[str] = set()
        self._number = 0

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """A regular file."""
        self._parents(name)
        self._entry(name, stat.S_IFREG | mode, data)

    def link(self, name: str, target: str) -> None:
        """A symbolic link."""
        self._parents(name)
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def directory(self, name: str) -> None:
        """A directory."""
        if name not in self._made:
            self._parents(name)
            self._made.add(name)
            self._entry(name, stat.S_IFDIR | 0o755, b"")

    def character_device(self, name: str, major: int, minor: int) -> None:
        """A device node."""
        self._parents(name)
        self._entry(name, stat.S_IFCHR | 0o600, b"", (major, minor))

    def tree(self, root: Path, into: str = "", skip: frozenset[str] = frozenset()) -> None:
        """Everything under ``root``, but the directories whose names or paths are in ``skip``."""
        for parent, directories, files in os.walk(root):
            base = Path(parent).relative_to(root)
            for name in sorted(directories):
                if name in skip or str(base / name) in skip:
                    directories.remove(name)
                elif (Path(parent) / name).is_symlink():
                    files.append(name)
                else:
                    self.directory(str(Path(into) / base / name))
            for name in sorted(files):
                self._copy(Path(parent) / name, str(Path(into) / base / name))

    def end(self) -> None:
        """The entry that ends an archive."""
        self._entry("TRAILER!!!", 0, b"")

    def _copy(self, path: Path, name: str) -> None:
        if path.is_symlink():
            self.link(name, os.readlink(path))
        elif path.is_file():
            self.file(name, path.read_bytes(), stat.S_IMODE(path.stat().st_mode))

    def _parents(self, name: str) -> None:
        parent = os.path.dirname(name)
        if parent:
            self.directory(parent)

    def _entry(self, name: str, mode: int, data: bytes, device: tuple[int, int] = (0, 0)) -> None:
        self._number += 1
        encoded = name.encode() + b"\0"
        fields = (self._number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
        header = _MAGIC + "".join(f"{field:08X}" for field in fields)
        self._padded(header.encode() + encoded)
        self._padded(data)

    def _padded(self, data: bytes) -> None:
        self._stream.write(data + bytes(-len(data) % 4))
