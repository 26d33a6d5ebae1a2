"""Process life as the kernel tells it while it happens: perf's side-band.

One dummy event a CPU carries no samples, only the records of tasks and mappings made on that CPU,
stamped with CLOCK_MONOTONIC. So a process that lives for milliseconds still has its image known,
though /proc never showed it to us.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from operator import itemgetter
from typing import Callable, Optional

from systemscope.bpf.perf import PerfEvent, PerfRing
from systemscope.errors import KernelError
from systemscope.model import Mapping
from systemscope.processes import records
from systemscope.processes.table import ProcessTable
from systemscope.syscalls.perf import (
    AttrFlag,
    PerfEventAttr,
    PerfType,
    ReadFormat,
    SampleType,
    Software,
)

#: Pages of one CPU's ring: room for about 300 short processes between two polls.
RING_PAGES = 64

#: Records younger than this at the start of a poll wait for the next one: another CPU may still
#: be writing an older one.
SETTLE_NS = 1_000_000

#: After a loss everything alive is read again, but not more often than this, and so seldom that it
#: takes at most one part in RECOVERY_SHARE of our time: some programs make records without end.
RECOVERY_INTERVAL_NS = 1_000_000_000
RECOVERY_SHARE = 100

HEADER_SIZE = 8  # struct perf_event_header: u32 type, u16 misc, u16 size

_U64_PAIR = struct.Struct("=QQ")  # what reading an event with ReadFormat.LOST yields

_Record = tuple[int, int, int, bytes]  # time, kind, misc, body

ProcessCallback = Callable[[int], None]
MappingCallback = Callable[[int, Mapping], None]


def sideband_attr(pages: int, tells_lost: bool, prompt: bool = False) -> PerfEventAttr:
    """A dummy event that yields MMAP2, COMM, FORK and EXIT records of executable mappings.

    ``tells_lost`` makes reading its descriptor tell how many it dropped (Linux 6.0): a LOST record
    comes only with the next record after a loss, and so not at all after the last. ``prompt``
    makes the descriptor readable with each record, not when the ring is half full.
    """
    return PerfEventAttr(
        type=PerfType.SOFTWARE,
        config=Software.DUMMY,
        sample_type=SampleType.TID | SampleType.TIME,
        read_format=ReadFormat.LOST if tells_lost else 0,
        flags=AttrFlag.MMAP
        | AttrFlag.MMAP2
        | AttrFlag.COMM
        | AttrFlag.COMM_EXEC
        | AttrFlag.TASK
        | AttrFlag.SAMPLE_ID_ALL
        | AttrFlag.USE_CLOCKID
        | AttrFlag.WATERMARK,
        wakeup_events=1 if prompt else pages * 4096 // 2,  # bytes
        clockid=time.CLOCK_MONOTONIC,
    )


class SideBand:
    """Feeds a ProcessTable from the perf rings of ``cpus``.

    Recording begins with the constructor. Call :meth:`poll` a few times a second, or when one of
    :meth:`descriptors` is readable (a ring is half full; ``prompt``: has a record), and with
    ``flush`` at the end. In the
    order of the records, after the table has taken one in: ``on_process(tgid)`` for a process not
    known before, ``on_exec(tgid)`` for a new program, ``on_mapping(tgid, mapping)`` for each
    mapping, also of a process just read from /proc, which is the moment to pin its file, and
    ``on_exit(tgid)`` for a process whose first thread has ended.

    Owns its events and rings: close it, or use it as a context manager. Raises KernelError when
    no CPU's event can be opened.
    """

    def __init__(
        self,
        table: ProcessTable,
        cpus: Iterable[int],
        pages: int = RING_PAGES,
        on_process: Optional[ProcessCallback] = None,
        on_exec: Optional[ProcessCallback] = None,
        on_mapping: Optional[MappingCallback] = None,
        on_exit: Optional[ProcessCallback] = None,
        prompt: bool = False,
    ) -> None:
        self.table = table
        self.lost = 0  # records the kernel had no room for, as of the last poll
        self.applied = 0  # records taken in
        self._on_process = on_process
        self._on_exec = on_exec
        self._on_mapping = on_mapping
        self._on_exit = on_exit
        self._prompt = prompt
        self._pending: list[_Record] = []
        self._lost_seen = 0
        self._next_recovery = 0
        self._events: list[PerfEvent] = []
        self._rings: list[PerfRing] = []
        self._tells_lost = True
        if on_mapping is not None:
            table.on_snapshot = self._tell_snapshot
        self._stack = ExitStack()
        try:
            self._open(cpus, pages)
        except BaseException:
            self._stack.close()
            raise

    def _open(self, cpus: Iterable[int], pages: int) -> None:
        refused: Optional[KernelError] = None
        for cpu in cpus:
            try:
                event = self._stack.enter_context(self._open_event(pages, cpu))
            except KernelError as error:  # ENODEV: the CPU has gone offline meanwhile
                refused = error
                continue
            self._events.append(event)
            self._rings.append(self._stack.enter_context(PerfRing(event, pages)))
        if not self._rings and refused is not None:
            raise refused

    def _open_event(self, pages: int, cpu: int) -> PerfEvent:
        if self._tells_lost:
            try:
                return PerfEvent.open(sideband_attr(pages, True, self._prompt), -1, cpu)
            except KernelError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._tells_lost = False
        return PerfEvent.open(sideband_attr(pages, False, self._prompt), -1, cpu)

    def descriptors(self) -> tuple[int, ...]:
        """Become readable when a ring is half full. For a caller's poll(2); they stay ours."""
        return tuple(event.fd for event in self._events)

    def poll(self, flush: bool = False) -> int:
        """Take in what has been recorded, in order of time across all CPUs; answers how many
        records. What is younger than ``SETTLE_NS`` waits for the next call, unless ``flush``."""
        now = time.monotonic_ns()
        for ring in self._rings:
            self._read(ring)
        self._pending.sort(key=itemgetter(0))
        ready = self._pending
        self._pending = []
        if not flush:
            horizon = now - SETTLE_NS
            young = 0
            while young < len(ready) and ready[-1 - young][0] > horizon:
                young += 1
            if young:
                self._pending = ready[-young:]
                del ready[-young:]
        for record in ready:
            self._apply(record)
        self.lost = self._count_lost()
        if self.lost != self._lost_seen and now >= self._next_recovery:
            self._recover()
        return len(ready)

    def _recover(self) -> None:
        self._lost_seen = self.lost
        begin = time.monotonic_ns()
        self.table.recover(begin)
        end = time.monotonic_ns()
        self._next_recovery = end + max(RECOVERY_INTERVAL_NS, RECOVERY_SHARE * (end - begin))

    def _count_lost(self) -> int:
        if self._tells_lost:
            return sum(_U64_PAIR.unpack(os.read(event.fd, 16))[1] for event in self._events)
        return sum(ring.lost for ring in self._rings)

    def _read(self, ring: PerfRing) -> None:
        pending = self._pending
        for kind, record in ring.read():
            if kind in records.KINDS:
                misc = int.from_bytes(record[4:6], sys.byteorder)
                pending.append((records.time_of(record), kind, misc, record[HEADER_SIZE:]))

    def _apply(self, record: _Record) -> None:
        _, kind, misc, body = record
        table = self.table
        # Looked at before parsing: with a target named, most records are of no interest.
        if not table.follows(records.tgid_of(body)) and not (
            kind == records.RECORD_FORK and table.follows(records.parent_of(body))
        ):
            return
        event = records.parse(kind, misc, body)
        if event is None:
            return
        self.applied += 1
        if isinstance(event, records.Mmap):
            known = event.tgid in table
            taken = table.mmap(event.tgid, event.time, event.mapping)
            if not known and event.tgid in table and self._on_process is not None:
                self._on_process(event.tgid)
            if taken and self._on_mapping is not None:
                self._on_mapping(event.tgid, event.mapping)
        elif isinstance(event, records.Comm):
            self._apply_comm(event)
        elif isinstance(event, records.Fork):
            if (
                event.parent != event.child
                and table.fork(event.parent, event.child, event.time)
                and self._on_process is not None
            ):
                self._on_process(event.child)
        elif event.tid == event.tgid:
            table.exit(event.tgid, event.time)
            if self._on_exit is not None:
                self._on_exit(event.tgid)

    def _tell_snapshot(self, tgid: int) -> None:
        if self._on_mapping is not None:
            for mapping in self.table.mappings(tgid):
                self._on_mapping(tgid, mapping)

    def _apply_comm(self, event: records.Comm) -> None:
        if event.exec:
            new = self.table.exec(event.tgid, event.time, event.comm)
            if new and self._on_process is not None:
                self._on_process(event.tgid)
            if self._on_exec is not None:
                self._on_exec(event.tgid)
        elif event.tid == event.tgid:
            self.table.comm(event.tgid, event.time, event.comm)

    def close(self) -> None:
        """Stop recording and give the rings back."""
        self.table.on_snapshot = None
        self._events.clear()
        self._stack.close()

    def __enter__(self) -> SideBand:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
