"""The processes of a window and their address spaces, kept current by the kernel's records.

A process is snapshotted from /proc when first heard of, and from then on follows the side-band's
FORK, EXEC, COMM, MMAP and EXIT records. Snapshots and records overlap in time: a record older
than the snapshot it would change is already in it, and only tells *when* it happened.
"""

from __future__ import annotations

import time as clock
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Callable, Optional

from systemscope.model import Image, Mapping, Process
from systemscope.processes import maps, proc

MAX_PROCESSES = 65_536
MAX_TOTAL_MAPPINGS = 400_000
MAX_IMAGES = 64  # of one process: a loop of execs in one process is no reason to keep them all
MAX_REPLACED = 1_024  # of one image
KTHREADD = 2


@dataclass
class TableLosses:
    """What the table could not keep."""

    processes: int = 0  # ended ones forgotten, or new ones refused, because the table was full
    mappings: int = 0
    images: int = 0


class _Space:
    """A mutable Image. ``taken`` is when a snapshot was read into it, 0 without one."""

    __slots__ = ("mappings", "replaced", "since", "starts", "taken")

    def __init__(self, since: int, mappings: Iterable[Mapping] = (), taken: int = 0) -> None:
        self.since = since
        self.taken = taken
        self.mappings = list(mappings)
        self.starts = [mapping.start for mapping in self.mappings]
        self.replaced: list[Mapping] = []

    def add(self, new: Mapping) -> int:
        """Put ``new`` in, over whatever it overlaps; answers how many more mappings are held."""
        held = len(self.mappings) + len(self.replaced)
        first = bisect_right(self.starts, new.start) - 1
        if first < 0 or self.mappings[first].end <= new.start:
            first += 1
        last = bisect_left(self.starts, new.end)
        over = self.mappings[first:last]
        if len(over) == 1 and over[0] == new:
            return 0  # the kernel tells of each mprotect() too
        pieces = [new]
        if over and over[0].start < new.start:
            pieces.insert(0, _cut(over[0], over[0].start, new.start))
        if over and over[-1].end > new.end:
            pieces.append(_cut(over[-1], new.end, over[-1].end))
        self.mappings[first:last] = pieces
        self.starts[first:last] = [piece.start for piece in pieces]
        for old in over:
            # Anonymous code has no name to lose, and JITs replace it without end.
            if old.path and not _same_file(old, new) and len(self.replaced) < MAX_REPLACED:
                self.replaced.append(old)
        return len(self.mappings) + len(self.replaced) - held

    def size(self) -> int:
        return len(self.mappings) + len(self.replaced)

    def freeze(self) -> Image:
        return Image(self.since, tuple(self.mappings), tuple(self.replaced))


def _cut(mapping: Mapping, start: int, end: int) -> Mapping:
    offset = mapping.offset + (start - mapping.start)
    return Mapping(start, end, offset, mapping.path, mapping.file, mapping.deleted)


def _same_file(old: Mapping, new: Mapping) -> bool:
    """True when every address the two share means the same byte of the same file."""
    return (
        old.path == new.path
        and old.file == new.file
        and old.start - old.offset == new.start - new.offset
    )


class _Entry:
    """One thread group."""

    __slots__ = (
        "cgroup",
        "comm",
        "ended",
        "guessed",
        "host_files",
        "kernel",
        "namespace_pid",
        "spaces",
        "uid",
    )

    def __init__(self) -> None:
        self.comm = ""
        self.cgroup = ""
        self.namespace_pid = 0
        self.uid = -1
        self.kernel = False
        self.host_files = False
        self.ended = 0
        self.guessed = False  # cgroup, namespaces: taken over from the parent, not read
        self.spaces: list[_Space] = []


class ProcessTable:
    """Who lived in the window, and what was mapped where when.

    With ``follow`` only these thread groups, what they fork, and what :meth:`see` is asked for
    are kept; records of all others are ignored. Without it everything is. Both numbers of things
    kept are bounded; ``losses`` counts what did not fit.
    """

    def __init__(
        self,
        follow: Optional[Iterable[int]] = None,
        max_processes: int = MAX_PROCESSES,
        max_mappings: int = MAX_TOTAL_MAPPINGS,
    ) -> None:
        self._everything = follow is None
        self._followed = set(follow or ())
        self._entries: dict[int, _Entry] = {}
        self._ended: dict[int, None] = {}  # in order of their end: the first to be forgotten
        self._held = 0
        self._max_processes = max_processes
        self._max_mappings = max_mappings
        self.losses = TableLosses()
        #: Called with the number of each process just read from /proc.
        self.on_snapshot: Optional[Callable[[int], None]] = None

    def __contains__(self, tgid: int) -> bool:
        return tgid in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def follows(self, tgid: int) -> bool:
        """True when records of this process are kept."""
        return self._everything or tgid in self._followed

    def see(self, tgid: int, now: int) -> bool:
        """Make a process known, reading it from /proc unless it is; ``now`` is the time just
        before. False when it is gone or there is no room."""
        if tgid in self._entries:
            return True
        if tgid <= 0:
            return False
        about = proc.stat(tgid)
        if about is None:
            return False
        self._followed.add(tgid)
        entry = self._new(tgid)
        if entry is None:
            return False
        entry.comm = about.comm
        entry.kernel = about.kernel_thread
        if entry.kernel:
            return True
        self._complete(tgid, entry)
        mappings = maps.read_mappings(tgid)
        # What was mapped now has been so for an unknown while: from the beginning, until a
        # record of an exec tells better.
        entry.spaces.append(_Space(0, self._admit(mappings), taken=now))
        if self.on_snapshot is not None:
            self.on_snapshot(tgid)
        return True

    def fork(self, parent: int, child: int, time: int) -> bool:
        """A new process; True when it was not known. The child begins with its parent's image."""
        if not (self._everything or parent in self._followed or child in self._followed):
            return False
        if parent not in self._entries:
            self.see(parent, clock.monotonic_ns())
        entry = self._entries.get(child)
        origin = self._entries.get(parent)
        snapshot = entry.spaces[-1] if entry is not None and entry.spaces else None
        if entry is not None and snapshot is not None and snapshot.taken > time:
            # Seen before this record came: what it began with goes in front of the snapshot.
            if snapshot.since <= time:
                entry.spaces.insert(0, self._inherit(origin, time))
                snapshot.since = snapshot.taken
            return False
        if entry is None:
            entry = self._new(child)
            if entry is None:
                return False
        else:
            self._revive(child, entry)  # the number is used again
        self._followed.add(child)
        if origin is not None:
            entry.comm = origin.comm
            entry.cgroup = origin.cgroup
            entry.kernel = origin.kernel
            entry.host_files = origin.host_files
            entry.uid = origin.uid
        entry.kernel = entry.kernel or parent == KTHREADD
        if not entry.kernel:
            self._append(entry, self._inherit(origin, time))
            entry.namespace_pid = self._inner_pid(parent, origin, child)
            entry.guessed = origin is not None
        return True

    def exec(self, tgid: int, time: int, comm: str) -> bool:
        """A new program in a process: a new, empty image. True when it was not known before."""
        entry = self._entries.get(tgid)
        if entry is None:
            if not self.follows(tgid):
                return False
            entry = self._new(tgid)
            if entry is None:
                return False
            entry.comm = comm
            self._append(entry, _Space(time))
            self._complete(tgid, entry)
            return True
        entry.kernel = False  # a user-mode helper of the kernel becomes a process by its exec
        current = entry.spaces[-1] if entry.spaces else None
        if current is not None and current.taken > time:
            # The snapshot shows the new program already: what ran before it is not known.
            if current.since < time:
                entry.spaces.insert(-1, _Space(current.since))
            current.since = time
            return False
        entry.comm = comm
        self._append(entry, _Space(time))
        return False

    def comm(self, tgid: int, time: int, comm: str) -> None:
        """The process's first thread renamed itself."""
        entry = self._entries.get(tgid)
        if entry is not None and not (entry.spaces and entry.spaces[-1].taken > time):
            entry.comm = comm

    def mmap(self, tgid: int, time: int, mapping: Mapping) -> bool:
        """An executable mapping appeared, over whatever was there; True when it was taken in."""
        entry = self._entries.get(tgid)
        if entry is None:
            if not self.follows(tgid) or not self.see(tgid, clock.monotonic_ns()):
                return False
            entry = self._entries[tgid]
        if not entry.spaces:
            entry.spaces.append(_Space(time))
        space = entry.spaces[-1]
        if space.taken > time:
            return False  # the snapshot has it, or what came after it
        if self._held >= self._max_mappings and not self._make_room():
            self.losses.mappings += 1
            return False
        self._held += space.add(mapping)
        return True

    def exit(self, tgid: int, time: int) -> None:
        """The process's first thread ended: it may be forgotten when room is needed."""
        entry = self._entries.get(tgid)
        if entry is not None:
            entry.ended = time
            self._ended[tgid] = None

    def recover(self, now: int) -> None:
        """Read again what lives, after records were lost: where the mappings are not what the
        records told, a new image begins ``now`` (the time just before the call). Children of
        followed processes whose fork was lost are found by their parent."""
        for tgid, entry in list(self._entries.items()):
            if entry.kernel or entry.ended or tgid not in self._entries:
                continue
            mappings = maps.read_mappings(tgid)
            if not mappings:
                if proc.stat(tgid) is None:
                    self.exit(tgid, now)
            elif not entry.spaces or list(mappings) != entry.spaces[-1].mappings:
                self._append(entry, _Space(now, self._admit(mappings), taken=now))
        for tgid in proc.list_tgids():
            if tgid not in self._entries and self._is_wanted(tgid):
                self.see(tgid, now)

    def _is_wanted(self, tgid: int) -> bool:
        if self.follows(tgid):
            return not self._everything  # what did nothing yet is seen when it does
        about = proc.stat(tgid)
        return about is not None and about.ppid in self._followed

    def mappings(self, tgid: int) -> tuple[Mapping, ...]:
        """What is mapped in a process as far as it is known now; empty when it is unknown."""
        entry = self._entries.get(tgid)
        return tuple(entry.spaces[-1].mappings) if entry is not None and entry.spaces else ()

    def shares_our_files(self, tgid: int) -> bool:
        """True when the process, at first sight, had our root and mount namespace."""
        entry = self._entries.get(tgid)
        return entry is not None and entry.host_files

    def processes(self) -> dict[int, Process]:
        """A frozen picture of all processes kept."""
        for tgid, entry in self._entries.items():
            if entry.guessed and not entry.ended:
                self._complete(tgid, entry)  # it may have been moved since it was forked
        return {
            tgid: Process(
                tgid,
                entry.comm,
                [space.freeze() for space in entry.spaces],
                entry.cgroup,
                entry.namespace_pid,
                entry.kernel,
                entry.uid,
                entry.host_files,
            )
            for tgid, entry in self._entries.items()
        }

    def _new(self, tgid: int) -> Optional[_Entry]:
        if len(self._entries) >= self._max_processes and not self._make_room():
            self.losses.processes += 1
            return None
        entry = _Entry()
        self._entries[tgid] = entry
        return entry

    def _make_room(self) -> bool:
        """Forget the process that ended first; False when all are alive."""
        for tgid in self._ended:
            del self._ended[tgid]
            entry = self._entries.pop(tgid)
            self._held -= sum(space.size() for space in entry.spaces)
            if not self._everything:
                self._followed.discard(tgid)
            self.losses.processes += 1
            return True
        return False

    def _revive(self, tgid: int, entry: _Entry) -> None:
        self._ended.pop(tgid, None)
        entry.ended = 0
        entry.kernel = False

    def _append(self, entry: _Entry, space: _Space) -> None:
        entry.spaces.append(space)
        if len(entry.spaces) > MAX_IMAGES:
            # The first is kept: the symbolizer takes it for anything earlier than the rest.
            self._held -= entry.spaces.pop(1).size()
            self.losses.images += 1

    def _admit(self, mappings: tuple[Mapping, ...]) -> tuple[Mapping, ...]:
        while self._held + len(mappings) > self._max_mappings and self._make_room():
            pass
        kept = mappings[: max(0, self._max_mappings - self._held)]
        self.losses.mappings += len(mappings) - len(kept)
        self._held += len(kept)
        return kept

    def _inherit(self, origin: Optional[_Entry], time: int) -> _Space:
        """A child's first image: a copy of what its parent had mapped at ``time``."""
        if origin is not None:
            for space in reversed(origin.spaces):
                if space.since <= time:
                    return _Space(time, self._admit(tuple(space.mappings)))
        return _Space(time)

    def _inner_pid(self, parent: int, origin: Optional[_Entry], child: int) -> int:
        """The child's number in its PID namespace: its own unless the parent is in another
        namespace, for then only /proc can tell."""
        if origin is not None and origin.namespace_pid == parent:
            return child
        return proc.namespace_pid(child)

    def _complete(self, tgid: int, entry: _Entry) -> None:
        """What the records do not tell, as long as the process is there to be asked."""
        cgroup = proc.cgroup(tgid)
        if cgroup:
            entry.cgroup = cgroup
            entry.namespace_pid = proc.namespace_pid(tgid)
            entry.host_files = proc.shares_our_files(tgid)
            entry.uid = proc.effective_uid(tgid)
            entry.guessed = False
