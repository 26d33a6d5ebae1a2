"""Calls about processes, limits and mounts."""

from __future__ import annotations

import errno
import resource
from enum import IntEnum, IntFlag

from systemscope.syscalls.fd import Fd
from systemscope.syscalls.numbers import numbers
from systemscope.syscalls.raw import Buffer, c_string, failure, syscall

# CLONE_NEWNS of include/uapi/linux/sched.h.
CLONE_NEWNS = 0x00020000


class MountFlag(IntFlag):
    """include/uapi/linux/mount.h."""

    NONE = 0
    RDONLY = 1 << 0
    NOSUID = 1 << 1
    NODEV = 1 << 2
    NOEXEC = 1 << 3
    REC = 1 << 14
    PRIVATE = 1 << 18


class UmountFlag(IntFlag):
    """MNT_* of umount2()."""

    NONE = 0
    DETACH = 1 << 1


class MembarrierCommand(IntEnum):
    """enum membarrier_cmd, as far as it is used."""

    QUERY = 0
    GLOBAL = 1
    PRIVATE_EXPEDITED = 1 << 3
    REGISTER_PRIVATE_EXPEDITED = 1 << 4


def raise_memlock() -> bool:
    """Lift RLIMIT_MEMLOCK, which BPF memory counted against before 5.11.

    To infinity, or else as far as the hard limit goes. True when the limit went up.
    """
    infinity = resource.RLIM_INFINITY
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft == infinity:
        return False
    for wanted in ((infinity, infinity), (hard, hard)):
        try:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, wanted)
        except (OSError, ValueError):
            continue
        return resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != soft
    return False


def raise_open_files() -> int:
    """Lift RLIMIT_NOFILE to its hard limit, for hosts with more CPUs than 1024 descriptors serve.

    Answers the limit that holds then.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return soft
    return hard


def pidfd_open(pid: int) -> Fd:
    """A descriptor of process ``pid`` (5.3), readable when it has ended. ESRCH, ENOSYS."""
    result = syscall(numbers().pidfd_open, pid, 0)
    if result < 0:
        raise failure("pidfd_open", f"process {pid}", -result)
    return Fd(result, f"process {pid}")


def pidfd_send_signal(fd: int, signal: int) -> bool:
    """Send a signal to just that process; False when it has ended already."""
    result = syscall(numbers().pidfd_send_signal, fd, signal, 0, 0)
    if result < 0 and result != -errno.ESRCH:
        raise failure("pidfd_send_signal", "process", -result)
    return result >= 0


def mount(
    source: str, target: str, kind: str, flags: MountFlag = MountFlag.NONE, data: str = ""
) -> None:
    """mount(2). An empty ``kind`` or ``data`` is a null pointer."""
    where, path = c_string(source), c_string(target)
    type_name = c_string(kind) if kind else Buffer(0)
    options = c_string(data) if data else Buffer(0)
    result = syscall(
        numbers().mount, where.address, path.address, type_name.address, flags, options.address
    )
    if result < 0:
        raise failure(
            "mount", f"{kind or source} on {target}", -result, "Mounting needs CAP_SYS_ADMIN."
        )


def umount2(target: str, flags: UmountFlag = UmountFlag.NONE) -> None:
    """umount2(2)."""
    path = c_string(target)
    result = syscall(numbers().umount2, path.address, flags)
    if result < 0:
        raise failure("umount2", target, -result, "Unmounting needs CAP_SYS_ADMIN.")


def unshare(flags: int = CLONE_NEWNS) -> None:
    """unshare(2): for a private mount namespace the calling THREAD leaves the shared one."""
    result = syscall(numbers().unshare, flags)
    if result < 0:
        raise failure("unshare", f"namespaces {flags:#x}", -result, "It needs CAP_SYS_ADMIN.")


def setns(fd: int, kind: int = CLONE_NEWNS) -> None:
    """setns(2): enter the namespace behind ``fd``. A mount namespace needs a one-thread process."""
    result = syscall(numbers().setns, fd, kind)
    if result < 0:
        raise failure("setns", f"namespace {fd}", -result, "It needs CAP_SYS_ADMIN.")


def membarrier(command: MembarrierCommand) -> int:
    """membarrier(2): QUERY answers the mask of commands there are."""
    result = syscall(numbers().membarrier, command, 0, 0)
    if result < 0:
        raise failure("membarrier", command.name, -result)
    return result
