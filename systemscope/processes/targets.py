"""What the user asked to profile, as thread groups and threads that exist now."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

from systemscope.errors import TargetError
from systemscope.processes import proc

CGROUP_ROOT = "/sys/fs/cgroup"
MAX_CGROUPS = 20_000  # directories walked below the one asked for
MAX_CGROUP_FILE = 16 << 20


@dataclass(frozen=True)
class Targets:
    """Who is profiled, as found at one moment.

    ``tgids`` are processes of which every thread is meant; ``single_tids`` threads meant alone;
    ``tids`` all threads that exist now and are meant, of either kind. All are ascending.
    """

    tgids: tuple[int, ...] = ()
    tids: tuple[int, ...] = ()
    single_tids: tuple[int, ...] = ()


def resolve(
    pids: Iterable[int] = (),
    tids: Iterable[int] = (),
    comm: str = "",
    cgroup: str = "",
) -> Targets:
    """Find the processes and threads asked for; the kinds of target add up.

    ``comm`` is a glob (``*``, ``?``, ``[…]``) on names: one that matches a process (the name of
    its first thread) means the whole process, one that matches other threads means these alone.
    ``cgroup`` is a directory below /sys/fs/cgroup, of either version, absolute or relative to the
    root of any hierarchy; what is in the groups below it counts too. Our own process is never
    among what a comm or cgroup yields.

    Raises TargetError when a target named by number does not exist, is a thread where a process
    is asked for, or is this process; when there is no such cgroup; when nothing matches.
    """
    groups: set[int] = set()
    singles: dict[int, int] = {}  # tid -> tgid
    for pid in pids:
        groups.add(_check_process(pid))
    for tid in tids:
        singles[tid] = _check_thread(tid)
    if comm:
        found, threads = _matching(comm)
        groups |= found
        singles.update(threads)
    if cgroup:
        groups |= _in_cgroup(cgroup)
    seeds: set[int] = set()
    for tgid in groups:
        seeds.update(proc.list_tids(tgid))
    lone = sorted(tid for tid, tgid in singles.items() if tgid not in groups)
    seeds.update(lone)
    return Targets(tuple(sorted(groups)), tuple(sorted(seeds)), tuple(lone))


def _check_process(pid: int) -> int:
    tgid = proc.tgid_of(pid) if pid > 0 else None
    if tgid is None:
        raise TargetError(
            f"process {pid} does not exist or has ended",
            "list the running processes with 'ps -e', and run systemscope in the same PID "
            "namespace",
        )
    if tgid != pid:
        raise TargetError(
            f"{pid} is a thread of process {tgid}, not a process",
            f"use --pid {tgid} for the whole process or --tid {pid} for this thread alone",
        )
    if pid == os.getpid():
        raise TargetError(
            f"process {pid} is SystemScope itself, which it leaves out of its profiles",
            "name another process",
        )
    about = proc.stat(pid)
    if about is not None and about.state in "ZX" and len(proc.list_tids(pid)) <= 1:
        raise TargetError(
            f"process {pid} has ended and only waits for its parent ({about.ppid}) to notice",
            "list the running processes with 'ps -e'",
        )
    return tgid


def _check_thread(tid: int) -> int:
    tgid = proc.tgid_of(tid) if tid > 0 else None
    if tgid is None:
        raise TargetError(
            f"thread {tid} does not exist or has ended",
            "list the threads with 'ps -eL' (column LWP), or use --pid for a whole process",
        )
    if tgid == os.getpid():
        raise TargetError(
            f"thread {tid} is SystemScope's own, which it leaves out of its profiles",
            "name a thread of another process",
        )
    return tgid


def glob_pattern(glob: str) -> re.Pattern[str]:
    """A compiled glob for names: ``*`` and ``?`` match any character, newlines too."""
    import fnmatch

    return re.compile(fnmatch.translate(glob))


def _matching(glob: str) -> tuple[set[int], dict[int, int]]:
    matches = glob_pattern(glob).match
    own = os.getpid()
    groups: set[int] = set()
    threads: dict[int, int] = {}
    for tgid in proc.list_tgids():
        if tgid == own:
            continue
        if matches(proc.comm(tgid)):
            groups.add(tgid)
            continue
        tids = proc.list_tids(tgid)
        if len(tids) > 1:
            for tid in tids:
                if tid != tgid and matches(proc.comm(tid)):
                    threads[tid] = tgid
    if not groups and not threads:
        raise TargetError(
            f"no process or thread is named '{glob}'",
            "names have at most 15 characters: see them with 'ps -eL -o comm', and put globs in "
            "quotes",
        )
    return groups, threads


def cgroup_directory(path: str, root: str = CGROUP_ROOT) -> str:
    """The directory of a control group: ``path`` itself when it lies below ``root``, else looked
    for in the root and in each v1 hierarchy (or the unified one) mounted there.

    Raises TargetError when there is none, or when the path leads out of ``root``.
    """
    if not os.path.isdir(root):
        raise TargetError(
            f"control groups are not mounted at {root}",
            "mount them: mount -t cgroup2 none /sys/fs/cgroup",
        )
    base = os.path.realpath(root)
    given = os.path.normpath(path)
    candidates = [given] if os.path.isabs(given) and _below(given, base) else []
    relative = given.lstrip("/")
    candidates.append(os.path.join(base, relative))
    try:
        hierarchies = sorted(os.listdir(base), key=lambda name: (name != "unified", name))
    except OSError:
        hierarchies = []
    candidates += [os.path.join(base, name, relative) for name in hierarchies]
    for candidate in candidates:
        real = os.path.realpath(candidate)
        if _below(real, base) and os.path.exists(os.path.join(real, "cgroup.procs")):
            return real
    raise TargetError(
        f"there is no control group '{path}' below {root}",
        "see the groups with 'systemd-cgls' or in /proc/PID/cgroup",
    )


def _below(path: str, base: str) -> bool:
    return path == base or path.startswith(base.rstrip("/") + "/")


def _in_cgroup(path: str) -> set[int]:
    groups = cgroup_members(cgroup_directory(path))
    groups.discard(os.getpid())
    if not groups:
        raise TargetError(
            f"no process is in control group '{path}' or below it",
            "check with: cat <group>/cgroup.procs",
        )
    return groups


def cgroup_members(directory: str) -> set[int]:
    """The processes in a group and all groups below it. Links are not followed; at most
    ``MAX_CGROUPS`` groups are visited."""
    found: set[int] = set()
    for count, (where, _, _) in enumerate(os.walk(directory)):
        if count >= MAX_CGROUPS:
            break
        numbers = _read_numbers(os.path.join(where, "cgroup.procs"))
        if numbers is None:
            # A threaded v2 group does not list processes (EOPNOTSUPP), but their threads.
            threads = _read_numbers(os.path.join(where, "cgroup.threads")) or []
            numbers = [tgid for tgid in map(proc.tgid_of, threads) if tgid is not None]
        found.update(number for number in numbers if number > 0)
    return found


def _read_numbers(path: str) -> Optional[list[int]]:
    data = proc.read_file(path, MAX_CGROUP_FILE)
    return None if data is None else [int(word) for word in data.split() if word.isdigit()]


class TargetWatch:
    """Tells when the last of some processes and threads has ended.

    A process is watched through a pidfd where the kernel has them (5.3), so that a number used
    again does not pass for it; threads, and processes elsewhere, by their start time in /proc. A
    process whose first thread has ended lives on while others run: pidfds know, and /proc still
    lists its other threads. Owns the descriptors: close it, or use it as a context manager.
    """

    #: Descriptors used at most: beyond it /proc serves as well, only slower.
    MAX_DESCRIPTORS = 256

    def __init__(self, tgids: Iterable[int] = (), tids: Iterable[int] = ()) -> None:
        self._descriptors: dict[int, int] = {}  # pidfd -> tgid
        self._started: dict[tuple[int, bool], int] = {}  # (number, is thread) -> start_ns ticks
        self._poll = select.poll()
        for tgid in tgids:
            self.add(tgid)
        for tid in tids:
            self._watch_start(tid, True)

    def add(self, tgid: int) -> bool:
        """Watch one more process; False when it has ended already."""
        if len(self._descriptors) < self.MAX_DESCRIPTORS:
            try:
                descriptor = os.pidfd_open(tgid)
            except ProcessLookupError:
                return False
            except (OSError, AttributeError):  # ENOSYS, seccomp's EPERM, an old C library
                pass
            else:
                self._descriptors[descriptor] = tgid
                self._poll.register(descriptor, select.POLLIN)
                return True
        return self._watch_start(tgid, False)

    def _watch_start(self, number: int, thread: bool) -> bool:
        start = _start_ticks(number)
        if start is None:
            return False
        self._started[number, thread] = start
        return True

    def all_gone(self) -> bool:
        """True when none of what was to be watched is left. True from the start if nothing is."""
        if self._descriptors:
            for descriptor, _ in self._poll.poll(0):
                self._forget(descriptor)
            if self._descriptors:
                return False
        for key, start in list(self._started.items()):
            if _alive(key[0], key[1], start):
                return False
            del self._started[key]
        return True

    def descriptors(self) -> tuple[int, ...]:
        """The pidfds: readable when their process ends. For a caller's own poll; still ours."""
        return tuple(self._descriptors)

    def _forget(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        del self._descriptors[descriptor]
        os.close(descriptor)

    def close(self) -> None:
        """Give the descriptors back. A closed watch has nothing left to watch."""
        for descriptor in list(self._descriptors):
            self._forget(descriptor)
        self._started.clear()

    def __enter__(self) -> TargetWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _start_ticks(number: int) -> Optional[int]:
    data = proc.read_file(f"/proc/{number}/stat")
    about = None if data is None else proc.parse_stat(data, 0)  # no offset: only compared
    return None if about is None else about.start_ns


def _alive(number: int, thread: bool, start: int) -> bool:
    data = proc.read_file(f"/proc/{number}/stat")
    about = None if data is None else proc.parse_stat(data, 0)
    if about is None or about.start_ns != start:
        return False
    if about.state not in "ZX":
        return True
    return not thread and len(proc.list_tids(number)) > 1
