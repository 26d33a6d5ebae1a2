"""Takes a timeline's events out of their ring and puts them on disk while the window runs."""

from __future__ import annotations

import struct
import tempfile
from contextlib import ExitStack
from typing import BinaryIO, Protocol

from systemscope.bpf.perf import PerfEvent, PerfRing
from systemscope.bpf.ring_buffer import RingBuffer
from systemscope.collectors.entries import StackList
from systemscope.collectors.lives import Life, Lives, kind_of
from systemscope.collectors.seed import ThreadSnapshot
from systemscope.collectors.session import Session
from systemscope.model import Event, EventKind, State, Timeline
from systemscope.model.timeline import RECORD, STATE_SHIFT
from systemscope.programs.config import Ring
from systemscope.programs.records import TimelineRecord
from systemscope.syscalls.perf import PerfEventAttr, PerfType, SampleType, Software
from systemscope.syscalls.perf_abi import RecordType

PERF_RINGS_BYTES = 1 << 25  # of all CPUs together
PERF_RING_PAGES = (16, 1024)  # fewest and most of one CPU
PAGE = 4096
_HEADER = bytes(8)  # stands for the ring buffer's own, which the file keeps
_RAW = struct.Struct("<8xI")  # perf's header, then the length of the raw data
_BLOCKED = int(State.BLOCKED)
_TID_WORD, _KIND_WORD = 12, 14  # of a record, in 32-bit words
FASTEST, SLOWEST = 0.005, 0.1  # seconds between two polls


class _Source(Protocol):
    def take(self) -> bytes: ...

    def fill(self) -> float: ...


class _BpfRing:
    """The one ring buffer of all CPUs."""

    lost = 0

    def __init__(self, session: Session, owned: ExitStack) -> None:
        self._ring = owned.enter_context(RingBuffer(session.map("timeline")))
        self._size = session.plan.config.ring_bytes

    def fill(self) -> float:
        return self._ring.pending() / self._size

    def take(self) -> bytes:
        return self._ring.take(TimelineRecord.size)


class _PerfRings:
    """One perf ring a CPU."""

    def __init__(self, session: Session, owned: ExitStack, cpus: tuple[int, ...]) -> None:
        share = PERF_RINGS_BYTES // PAGE // len(cpus)
        fewest, most = PERF_RING_PAGES
        self._pages = max(fewest, min(most, 1 << max(share, 1).bit_length() - 1))
        self._rings: list[PerfRing] = []
        self._share = 0.0
        table = session.map("timeline")
        attr = PerfEventAttr(
            PerfType.SOFTWARE,
            Software.BPF_OUTPUT,
            sample_period=1,
            sample_type=SampleType.RAW,
            wakeup_events=1 << 30,
        )
        for cpu in cpus:
            event = owned.enter_context(PerfEvent.open(attr, -1, cpu))
            self._rings.append(owned.enter_context(PerfRing(event, self._pages)))
            table.update(struct.pack("<I", cpu), struct.pack("<I", event.fd))
            event.enable()

    def fill(self) -> float:
        return self._share

    def take(self) -> bytes:
        pieces: list[bytes] = []
        fullest = 0
        for ring in self._rings:
            records = ring.read()
            fullest = max(fullest, sum(len(record) for _, record in records))
            for kind, record in records:
                if kind == RecordType.SAMPLE and len(record) >= _RAW.size + TimelineRecord.size:
                    body = record[_RAW.size : _RAW.size + TimelineRecord.size]
                    pieces += (_HEADER, body)
        self._share = fullest / (self._pages * PAGE)
        return b"".join(pieces)


class TimelineRecorder:
    """Owns the ring's reader and the file. Create it before the programs are attached.

    The file lies in ``directory`` ("" is the usual one for temporary files) and has no name: it is
    gone however this process ends. Events that do not fit on the disk are counted as lost.
    """

    def __init__(self, session: Session, cpus: tuple[int, ...], directory: str = "") -> None:
        self._session = session
        self._owned = ExitStack()
        self._dropped = 0
        self._pause = FASTEST
        self.note = ""
        self.error = False
        config = session.plan.config
        self._renames = config.wakeups
        self._kinds: dict[int, State] = {}
        try:
            self._source: _Source
            if config.ring is Ring.BPF:
                self._source = _BpfRing(session, self._owned)
            else:
                self._source = _PerfRings(session, self._owned, cpus)
            # It outlives the window: the profile is written from it.
            file: BinaryIO = tempfile.TemporaryFile(dir=directory or None)  # noqa: SIM115
        except BaseException:
            self._owned.close()
            raise
        self.timeline = Timeline(file)

    def __enter__(self) -> TimelineRecorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the ring. The file lives as long as the timeline."""
        self._owned.close()

    def open_window(self, seeds: dict[int, ThreadSnapshot]) -> None:
        """The window begins: what threads were doing then is known for those of ``seeds``."""
        if self._renames:
            self._kinds = {tid: kind_of(seed) for tid, seed in seeds.items()}

    def poll(self) -> None:
        """Move what is there to the file."""
        fill = self._source.fill()
        records = self._source.take()
        fill = max(fill, self._source.fill())
        # Aim at a quarter full: half as long when there is twice as much.
        pause = self._pause * 0.25 / fill if fill else 2 * self._pause
        self._pause = min(SLOWEST, 2 * self._pause, max(FASTEST, pause))
        if not records:
            return
        if self._renames:
            records = self._name_blocked(records)
        if self.error:
            self._dropped += len(records) // RECORD.size
            return
        try:
            self.timeline.append(records)
        except OSError as error:
            self.error = True
            self._dropped += len(records) // RECORD.size
            self.note = (
                f"the timeline ends early: its temporary file could not grow ({error.strerror})"
            )

    def pause(self) -> float:
        """Seconds until the next poll."""
        return self._pause

    def lost(self, stats: dict[str, int]) -> int:
        """Events that are not in the file."""
        return stats["timeline_lost"] + self._dropped

    def _name_blocked(self, records: bytes) -> bytes:
        """Where wake-ups end waits and tracepoints tell little, a wait may be of no known kind: as
        in the accounts, it is of the kind the thread was found in when the window began."""
        packed = memoryview(records).cast("I")[_KIND_WORD :: RECORD.size // 4].tolist()
        blocked = [index for index, word in enumerate(packed) if word >> STATE_SHIFT == _BLOCKED]
        if not blocked:
            return records
        changed = bytearray(records)
        with memoryview(changed).cast("I") as words:
            for index in blocked:
                at = index * (RECORD.size // 4)
                kind = self._kinds.get(words[at + _TID_WORD])
                if kind is not None:
                    words[at + _KIND_WORD] = packed[index] & 0xFF | int(kind) << STATE_SHIFT
        return bytes(changed)

    def finish(self, lives: Lives, stacks: StackList, stats: dict[str, int]) -> Timeline:
        """The whole timeline: what is left in the ring, and what the window's end cut off."""
        self.poll()
        timeline = self.timeline
        timeline.stacks = stacks.pairs()
        timeline.closing = [
            event for life in lives.all for event in _closing(life, lives.end, stacks)
        ]
        timeline.lost = self.lost(stats)
        return timeline


def _closing(life: Life, end: int, stacks: StackList) -> list[Event]:
    """What a thread was doing as the window closed."""
    thread, wait = life.thread, life.open
    if wait is not None:
        begin = end - wait.blocked_ns - wait.runnable_ns
        stack = stacks.of_snapshot(wait.snapshot) if wait.snapshot is not None else 0
        middle = end - wait.runnable_ns
        tid = thread.tid
        return [Event(EventKind.WAIT, tid, -1, begin, middle, end, wait.state, stack, 0)]
    if life.running and thread.time.get(State.RUNNING, 0) >= life.running:
        begin = end - life.running
        return [Event(EventKind.RUN, thread.tid, -1, begin, 0, end, State.RUNNING, 0, 0)]
    return []
