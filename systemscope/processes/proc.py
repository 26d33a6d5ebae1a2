"""What /proc says of a process or thread, read fast and without surprises.

Every reader takes a number, opens one file, reads a bounded amount and answers with plain data.
A process that ends meanwhile, or one we may not look into, is an ordinary answer: ``None``, an
empty tuple or an empty string, never an exception. Formats: ``Documentation/filesystems/proc.rst``
and ``fs/proc/array.c`` of the kernel.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple, Optional

PF_KTHREAD = 0x00200000  # include/linux/sched.h; /proc/TID/stat field 9 shows task->flags

MAX_SMALL_FILE = 1 << 16
MAX_KERNEL_FRAMES = 256
MAX_COMM = 64  # TASK_COMM_LEN is 16; kernel workers append their work's name in /proc
_CHUNK = 1 << 16
_NANOSECONDS = 1_000_000_000


class Stat(NamedTuple):
    """The fields of /proc/TID/stat that matter here.

    ``state`` is the kernel's letter (``fs/proc/array.c``). ``start_ns`` is on CLOCK_MONOTONIC,
    rounded down to a clock tick (10 ms): see :func:`monotonic_of_boottime`.
    """

    tid: int
    comm: str
    state: str
    ppid: int
    flags: int
    start_ns: int
    kernel_thread: bool


def read_file(path: str, limit: int = MAX_SMALL_FILE) -> Optional[bytes]:
    """The first ``limit`` bytes of a /proc file, or None when it cannot be read (any more)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    try:
        data = os.read(descriptor, min(limit, _CHUNK))
        if not data or len(data) >= limit:
            return data
        parts = [data]
        left = limit - len(data)
        while left > 0:
            data = os.read(descriptor, min(left, _CHUNK))
            if not data:
                break
            parts.append(data)
            left -= len(data)
        return b"".join(parts)
    except OSError:  # ESRCH: it ended between open and read; EPERM: not ours to see
        return None
    finally:
        os.close(descriptor)


def text(raw: bytes) -> str:
    """Bytes of a name as the file system decodes them: lossless, whatever they are."""
    return raw.decode("utf-8", "surrogateescape")


def _numbers(directory: str) -> list[int]:
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return sorted(int(name) for name in names if name.isdigit() and name.isascii())


def list_tgids() -> list[int]:
    """All thread groups /proc shows now, ascending."""
    return _numbers("/proc")


def list_tids(tgid: int) -> list[int]:
    """The threads of a process, ascending; empty when it is gone."""
    return _numbers(f"/proc/{tgid}/task")


def boottime_offset() -> int:
    """Nanoseconds by which CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC: time spent suspended."""
    # The narrowest of at most three readings: a preemption between the two clocks must not count.
    best: Optional[tuple[int, int]] = None
    for _ in range(3):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        reading = (after - before, boot - (before + after) // 2)
        if best is None or reading < best:
            best = reading
        if best[0] < 1000:
            break
    return best[1] if best is not None else 0


def monotonic_of_boottime(ticks: int, offset: Optional[int] = None) -> int:
    """A start time in clock ticks since boot (stat field 22) as CLOCK_MONOTONIC nanoseconds.

    The field counts suspended time, our clock does not, so the present difference of the two
    clocks is taken off. That is exact for whatever started after the last suspend; what started
    before one comes out too early by that suspend, which no one can notice inside a window, for a
    window does not reach back beyond its own start. Never negative.
    """
    if offset is None:
        offset = boottime_offset()
    return max(0, ticks * (_NANOSECONDS // os.sysconf("SC_CLK_TCK")) - offset)


def parse_stat(data: bytes, offset: Optional[int] = None) -> Optional[Stat]:
    """Parse one /proc/TID/stat line; None when it is not one.

    The name stands in parentheses and may itself hold parentheses, spaces and newlines (any
    process may call itself ``a) R 1 (b``), so it reaches to the *last* closing parenthesis: none
    of the fields after it can hold one.
    """
    opening = data.find(b"(")
    closing = data.rfind(b")")
    if opening < 1 or closing < opening:
        return None
    fields = data[closing + 1 :].split(None, 21)
    try:
        flags = int(fields[6])
        return Stat(
            int(data[:opening]),
            text(data[opening + 1 : closing][:MAX_COMM]),
            fields[0][:1].decode("ascii"),
            int(fields[1]),
            flags,
            monotonic_of_boottime(int(fields[19]), offset),
            bool(flags & PF_KTHREAD),
        )
    except (IndexError, ValueError):
        return None


def stat(tid: int) -> Optional[Stat]:
    """The state of one thread (or of a process's first thread); None when it is gone."""
    data = read_file(f"/proc/{tid}/stat")
    return None if data is None else parse_stat(data)


def comm(tid: int) -> str:
    """The thread's name, or an empty string when it is gone."""
    data = read_file(f"/proc/{tid}/comm")
    return "" if data is None else text(data[:-1][:MAX_COMM])


def status_fields(data: bytes, names: tuple[bytes, ...]) -> dict[bytes, bytes]:
    """The named lines of a /proc/PID/status text. ``Name:`` comes first and has its newlines
    escaped by the kernel, so that a process name cannot fake a line."""
    found: dict[bytes, bytes] = {}
    for line in data.split(b"\n"):
        name, _, value = line.partition(b":")
        if name in names and name not in found:
            found[name] = value.strip()
    return found


def _status_numbers(tid: int, name: bytes) -> list[int]:
    data = read_file(f"/proc/{tid}/status")
    if data is None:
        return []
    words = status_fields(data, (name,)).get(name, b"").split()
    return [int(word) for word in words if word.isdigit()]


def tgid_of(tid: int) -> Optional[int]:
    """The thread group a thread belongs to; None when there is no such thread."""
    numbers = _status_numbers(tid, b"Tgid")
    return numbers[0] if numbers else None


def namespace_pid(tgid: int) -> int:
    """The number the process has in its own (innermost) PID namespace; 0 when unknown."""
    numbers = _status_numbers(tgid, b"NSpid")
    return numbers[-1] if numbers else 0


def effective_uid(tgid: int) -> int:
    """The user the process acts as, as our user namespace numbers it; -1 when unknown."""
    numbers = _status_numbers(tgid, b"Uid")
    return numbers[1] if len(numbers) > 1 else -1


def parse_schedstat(data: bytes) -> Optional[tuple[int, int, int]]:
    """Parse "run_ns wait_ns slices"; None when it is not that."""
    words = data.split()
    if len(words) < 3 or not all(word.isdigit() for word in words[:3]):
        return None
    return int(words[0]), int(words[1]), int(words[2])


def schedstat(tid: int) -> Optional[tuple[int, int, int]]:
    """(ns on a CPU, ns waiting for one, number of time slices) since the thread began.

    None when the thread is gone or the kernel keeps no such figures (CONFIG_SCHED_INFO).
    """
    data = read_file(f"/proc/{tid}/schedstat")
    return None if data is None else parse_schedstat(data)


def parse_kernel_stack(data: bytes) -> tuple[str, ...]:
    """The lines "[<0>] symbol+0xoff/0xsize [module]" as "symbol+0xoff", leaf first.

    Before Linux 4.14 the brackets hold an address and the last line is an end marker of all ones.
    """
    frames: list[str] = []
    for line in data.split(b"\n"):
        words = line.split()
        if words and words[0].startswith(b"[<"):
            words = words[1:]
        if not words or words[0].startswith(b"0xffffffffffffffff"):
            continue
        frames.append(words[0].partition(b"/")[0].decode("ascii", "replace"))
        if len(frames) == MAX_KERNEL_FRAMES:
            break
    return tuple(frames)


def kernel_stack(tid: int) -> tuple[str, ...]:
    """Where in the kernel a thread waits, leaf first; empty for one that runs or is not ours to
    see (needs CAP_SYS_ADMIN, Linux 4.20)."""
    data = read_file(f"/proc/{tid}/stack")
    return () if data is None else parse_kernel_stack(data)


def parse_syscall(data: bytes) -> Optional[tuple[int, int]]:
    """(stack pointer, program counter) of a /proc/TID/syscall line; None when it is "running"."""
    words = data.split()
    if len(words) not in (3, 9):
        return None
    try:
        return int(words[-2], 16), int(words[-1], 16)
    except ValueError:
        return None


def syscall_registers(tid: int) -> Optional[tuple[int, int]]:
    """User (stack pointer, program counter) of a waiting thread; None when it runs or may not be
    seen. Kernel threads answer (0, 0)."""
    data = read_file(f"/proc/{tid}/syscall")
    return None if data is None else parse_syscall(data)


# Of the many hierarchies of cgroup v1, the ones that say most about what a process belongs to.
_V1_PREFERENCE = (b"name=systemd", b"cpu", b"cpuacct", b"memory", b"pids")


def parse_cgroup(data: bytes) -> str:
    """The telling path of a /proc/PID/cgroup text ("hierarchy:controllers:path" lines).

    The unified (v2) path when there is one below its root, else the first v1 hierarchy, in an
    order of preference, that is not at its root, else "/". Empty for an empty text.
    """
    rank_of = {name: rank for rank, name in enumerate(_V1_PREFERENCE)}
    best: Optional[tuple[int, bytes]] = None
    for line in data.split(b"\n"):
        parts = line.split(b":", 2)
        if len(parts) != 3:
            continue
        hierarchy, controllers, path = parts
        if path == b"/":
            rank = 1000
        elif hierarchy == b"0":
            rank = -1
        else:
            rank = min(rank_of.get(name, 100) for name in controllers.split(b","))
        if best is None or rank < best[0]:
            best = (rank, path)
    return "" if best is None else text(best[1])


def cgroup(tgid: int) -> str:
    """The control group path of a process, as seen from our cgroup namespace; empty if unknown."""
    data = read_file(f"/proc/{tgid}/cgroup")
    return "" if data is None else parse_cgroup(data)


def shares_our_files(tgid: int) -> bool:
    """True when the process has our root directory in our mount namespace, so that its paths are
    ours. False also when that cannot be told."""
    try:
        theirs = os.stat(f"/proc/{tgid}/ns/mnt")
        ours = os.stat("/proc/self/ns/mnt")
        if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino):
            return False
        return os.path.samestat(os.stat(f"/proc/{tgid}/root"), os.stat("/"))
    except OSError:
        return False
