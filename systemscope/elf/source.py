"""Where the bytes of an ELF image come from: a file descriptor or a piece of memory.

Files are read with pread, never mapped: a file that shrinks while it is mapped kills its reader
with SIGBUS, and the files read here belong to whoever is profiled.
"""

from __future__ import annotations

import os
from typing import Protocol

from systemscope.elf.errors import ElfError

#: No single read is longer. The largest tables of real programs are read in pieces.
MAX_READ = 16 << 20


class Source(Protocol):
    """Random access to ``size`` bytes."""

    @property
    def size(self) -> int:
        """How many bytes there are."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``, fewer at the end. Raises ElfError when unreadable."""
        ...


class FileSource:
    """A regular file by its descriptor, which is borrowed: the caller closes it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        try:
            self.size = os.fstat(descriptor).st_size
        except OSError as error:
            raise ElfError(f"unreadable: {error.strerror}") from error

    def read(self, offset: int, length: int) -> bytes:
        """See Source."""
        if offset < 0 or length <= 0 or offset >= self.size:
            return b""
        try:
            return os.pread(self._descriptor, min(length, MAX_READ, self.size - offset), offset)
        except OSError as error:
            raise ElfError(f"unreadable: {error.strerror}") from error


class MemorySource:
    """An image that is already in memory, such as the vdso."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, offset: int, length: int) -> bytes:
        """See Source."""
        if offset < 0 or length <= 0:
            return b""
        return self._data[offset : offset + min(length, MAX_READ)]


def read_exactly(source: Source, offset: int, length: int, what: str) -> bytes:
    """``length`` bytes from ``offset`` or an ElfError that names ``what`` was cut short."""
    data = source.read(offset, length)
    if len(data) != length:
        raise ElfError(f"truncated: {what} lies beyond the end")
    return data


def read_string(source: Source, offset: int, limit: int) -> bytes:
    """The bytes from ``offset`` up to a NUL, cut at ``limit`` bytes."""
    data = b""
    step = 128
    while limit > 0:
        piece = source.read(offset, min(step, limit))
        if not piece:
            break
        end = piece.find(0)
        if end >= 0:
            return data + piece[:end]
        data += piece
        offset += len(piece)
        limit -= len(piece)
        step *= 4
    return data
