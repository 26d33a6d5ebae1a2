"""``openat2()`` (Linux 5.6): open a path that cannot lead out of a directory."""

from __future__ import annotations

import struct
from enum import IntFlag

from systemscope.syscalls.raw import Buffer, failure, syscall

# The same on x86-64 and aarch64 (and everywhere else: calls since 5.1 share their numbers).
_OPENAT2 = 437
_OPEN_HOW = struct.Struct("=QQQ")  # struct open_how: flags, mode, resolve


class Resolve(IntFlag):
    """RESOLVE_* of include/uapi/linux/openat2.h."""

    NO_XDEV = 0x01
    NO_MAGICLINKS = 0x02
    NO_SYMLINKS = 0x04
    BENEATH = 0x08
    IN_ROOT = 0x10


def openat2(directory: int, path: bytes, flags: int, resolve: Resolve) -> int:
    """Open ``path`` relative to ``directory``; the caller owns the descriptor it gets.

    Raises KernelError: ENOSYS before Linux 5.6, EXDEV when the path leads out of what
    ``resolve`` allows, and whatever open(2) says. ValueError for a path with a NUL.
    """
    if b"\0" in path:
        raise ValueError("a path holds no NUL")
    name = Buffer(path + b"\0")
    how = Buffer(_OPEN_HOW.pack(flags, 0, int(resolve)))
    result = syscall(_OPENAT2, directory, name.address, how.address, how.size)
    if result < 0:
        raise failure("openat2", repr(path), -result)
    return result
