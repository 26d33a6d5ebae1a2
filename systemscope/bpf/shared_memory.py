"""Memory shared with the kernel."""

from __future__ import annotations

import errno
import mmap
import sys

from systemscope.syscalls.raw import failure

_REMEDY = "Run as root or with CAP_IPC_LOCK, or raise kernel.perf_event_mlock_kb and ulimit -l."


def map_shared(
    fd: int, length: int, subject: str, *, writable: bool = True, offset: int = 0
) -> mmap.mmap:
    """``length`` bytes of ``fd`` from ``offset``; KernelError when the kernel refuses."""
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    try:
        if sys.version_info >= (3, 13):
            # The mapping outlives the descriptor: a duplicate a ring would be waste.
            return mmap.mmap(fd, length, mmap.MAP_SHARED, protection, offset=offset, trackfd=False)
        return mmap.mmap(fd, length, mmap.MAP_SHARED, protection, offset=offset)
    except OSError as error:
        number = error.errno or errno.EIO
        remedy = _REMEDY if number in (errno.EPERM, errno.EAGAIN) else ""
        raise failure("mmap", subject, number, remedy) from None
