"""Reading another process's memory without stopping it."""

from __future__ import annotations

import struct

from systemscope.syscalls.numbers import numbers
from systemscope.syscalls.raw import Buffer, failure, syscall

MAX_READ_BYTES = 16 << 20
_IOVEC = struct.Struct("=QQ")


def process_vm_readv(pid: int, address: int, length: int) -> bytes:
    """Up to ``length`` bytes at ``address`` of ``pid``; fewer when the mapping ends before.

    KernelError: ESRCH no such process, EFAULT nothing mapped there, EPERM not allowed. ValueError
    for more than MAX_READ_BYTES.
    """
    if not 0 <= length <= MAX_READ_BYTES:
        raise ValueError(f"{length} bytes: at most {MAX_READ_BYTES} at a time")
    if length == 0:
        return b""
    target = Buffer(length)
    local = Buffer(_IOVEC.pack(target.address, length))
    remote = Buffer(_IOVEC.pack(address, length))
    number = numbers().process_vm_readv
    result = syscall(number, pid, local.address, 1, remote.address, 1, 0)
    if result < 0:
        remedy = "Reading another user's process needs CAP_SYS_PTRACE."
        raise failure("process_vm_readv", f"process {pid} at {address:#x}", -result, remedy)
    return bytes(target.data[:result])
