"""Opening the file behind a mapping, for callers that bring no opener of their own."""

from __future__ import annotations

import os
import stat
from typing import Optional

from systemscope.model import FileId, Mapping


def open_mapped_file(tgid: int, mapping: Mapping) -> Optional[int]:
    """A read-only descriptor of the regular file behind ``mapping``, or None.

    /proc/TGID/map_files reaches deleted files and other mount namespaces. Paths are tried after
    it, below the target's root and below our own (for a process that is gone); what they lead to
    is taken only when it is the very inode that was mapped.
    """
    span = f"{mapping.start:x}-{mapping.end:x}"
    found = _open_regular(f"/proc/{tgid}/map_files/{span}", mapping.file, strict=False)
    if found is None and mapping.file is not None and mapping.path.startswith("/"):
        found = _open_regular(f"/proc/{tgid}/root{mapping.path}", mapping.file, strict=True)
        if found is None:
            found = _open_regular(mapping.path, mapping.file, strict=True)
    return found


def _open_regular(path: str, file: Optional[FileId], *, strict: bool) -> Optional[int]:
    # O_PATH first: opening a device or a FIFO for reading can have effects.
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or not _same(status, file, strict):
            return None
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    finally:
        os.close(handle)


def _same(status: os.stat_result, file: Optional[FileId], strict: bool) -> bool:
    if file is None:
        return not strict
    # overlayfs and btrfs show another device number to stat() than in /proc/PID/maps, so the
    # device counts only where nothing but the path led here.
    if status.st_ino != file.inode:
        return not strict
    device = (os.major(status.st_dev), os.minor(status.st_dev))
    return not strict or device == (file.major, file.minor)
