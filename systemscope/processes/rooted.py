"""Opening a path as a process in another root directory would, and never outside it.

A process chooses its own paths and symbolic links, so a path below /proc/PID/root must not be
handed to open(2): an absolute link in there would lead to *our* files. Everything here yields
O_PATH descriptors, which open nothing yet: no fifo blocks, no device notices.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Optional

from systemscope.errors import KernelError
from systemscope.syscalls.openat2 import Resolve, openat2

MAX_LINKS = 40  # as the kernel's MAXSYMLINKS
MAX_COMPONENTS = 4096

_O_PATH = os.O_PATH | os.O_CLOEXEC
_AS_IS = _O_PATH | os.O_NOFOLLOW


def open_in_root(root: int, path: str, *, follow: bool = True) -> Optional[int]:
    """An O_PATH descriptor of ``path`` with ``root`` (a directory descriptor) as "/".

    Symbolic links are followed inside that root, ".." stops at it. Without ``follow`` the last
    component must not be one. None when there is no such path. Without openat2 (before Linux 5.6)
    the path is walked component by component.
    """
    raw = os.fsencode(path)
    if b"\0" in raw:
        return None
    try:
        flags = _O_PATH if follow else _AS_IS
        found = openat2(root, raw, flags, Resolve.IN_ROOT | Resolve.NO_MAGICLINKS)
    except KernelError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):  # EPERM: a seccomp filter of old
            return walk_in_root(root, raw, follow=follow)
        return None
    if not follow and stat.S_ISLNK(os.fstat(found).st_mode):
        os.close(found)
        return None
    return found


def walk_in_root(root: int, path: bytes, *, follow: bool = True) -> Optional[int]:
    """As :func:`open_in_root`, by opening one component after the other without following links
    and following them by hand."""
    todo = path.split(b"/")[::-1]
    trail: list[int] = []  # descriptors of the directories from the root down to where we are
    links = steps = 0
    try:
        while todo:
            name = todo.pop()
            steps += 1
            if steps > MAX_COMPONENTS:
                return None
            if name in (b"", b"."):
                continue
            if name == b"..":
                if trail:
                    os.close(trail.pop())
                continue
            found = os.open(name, _AS_IS, dir_fd=trail[-1] if trail else root)
            mode = os.fstat(found).st_mode
            if not stat.S_ISLNK(mode):
                trail.append(found)
                if todo and not stat.S_ISDIR(mode):
                    return None  # "file/..", "file/": not a directory
                continue
            links += 1
            target = _read_link(found)
            if links > MAX_LINKS or not (follow or todo):
                return None
            if target.startswith(b"/"):
                while trail:
                    os.close(trail.pop())
            todo.extend(target.split(b"/")[::-1])
        return trail.pop() if trail else os.open(".", _AS_IS, dir_fd=root)
    except OSError:
        return None
    finally:
        for descriptor in trail:
            os.close(descriptor)


def _read_link(descriptor: int) -> bytes:
    """Where an O_PATH descriptor of a link points to (readlinkat with an empty path). Closes it."""
    try:
        return os.readlink(b"", dir_fd=descriptor)
    finally:
        os.close(descriptor)
