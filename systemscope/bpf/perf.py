"""Perf events and their rings."""

from __future__ import annotations

import mmap
import os
import struct
from types import TracebackType
from typing import Optional

from systemscope.bpf.owned import Owned
from systemscope.bpf.shared_memory import map_shared
from systemscope.syscalls import perf
from systemscope.syscalls.perf_abi import RECORD_HEADER, RING_PAGE
from systemscope.syscalls.raw import memory_barrier

_HEAD = RING_PAGE.fields["data_head"].offset // 8
_TAIL = RING_PAGE.fields["data_tail"].offset // 8
_HEADER = struct.Struct("=IHH")
_LOST = struct.Struct("=QQ")
_U64 = struct.Struct("=Q")


class PerfEvent(Owned):
    """One perf event."""

    @classmethod
    def open(cls, attr: perf.PerfEventAttr, pid: int = -1, cpu: int = -1) -> PerfEvent:
        """Open ``attr`` for thread ``pid`` (-1 all, 0 self) on ``cpu`` (-1 any)."""
        return cls(perf.perf_event_open(attr, pid, cpu))

    def enable(self) -> None:
        """Start counting."""
        perf.ioctl(self.fd, perf.Ioctl.ENABLE)

    def disable(self) -> None:
        """Stop counting."""
        perf.ioctl(self.fd, perf.Ioctl.DISABLE)

    def set_output(self, other: PerfEvent) -> None:
        """Send the records of this event to ``other``'s ring (same CPU)."""
        perf.ioctl(self.fd, perf.Ioctl.SET_OUTPUT, other.fd)

    def set_program(self, program_fd: int) -> None:
        """Attach a BPF program until the event closes (4.9)."""
        perf.ioctl(self.fd, perf.Ioctl.SET_BPF, program_fd)

    def set_period(self, period: int) -> None:
        """Change the period, or the frequency in Hz of a FREQ event."""
        perf.perf_ioctl_period(self.fd, period)

    @property
    def id(self) -> int:
        """The kernel's id of the event."""
        return perf.perf_ioctl_id(self.fd)

    def count(self) -> int:
        """The event's count, of an event without a read format."""
        value: int = _U64.unpack_from(os.read(self.fd, 8))[0]
        return value


class PerfRing:
    """The mmapped ring of one perf event, which this object maps and unmaps but does not own.

    ``pages`` of data, a power of two. ``lost`` counts the records the kernel dropped because the
    ring was full.
    """

    def __init__(self, event: PerfEvent, pages: int) -> None:
        if pages <= 0 or pages & (pages - 1):
            raise ValueError(f"{pages} pages: a power of two is needed")
        page = mmap.PAGESIZE
        self.lost = 0
        self.size = pages * page
        self._map = map_shared(event.fd, page + self.size, "perf ring")
        # One aligned 64-bit load or store each: never a torn head or tail.
        self._view = memoryview(self._map)
        self._words = self._view[:page].cast("Q")
        self._data = self._view[page:]

    def read(self) -> list[tuple[int, bytes]]:
        """All records written so far, at most a ring full: (type, whole record).

        The record's bytes begin with its 8-byte header {u32 type, u16 misc, u16 size}, so that
        ``misc`` is at hand. LOST records are added to :attr:`lost` and not returned.
        """
        head = self._words[_HEAD]
        memory_barrier()  # the data behind the head must not be read before the head
        tail = self._words[_TAIL]
        data = self._copy(tail, head)
        memory_barrier()  # nor may the kernel get room before the data is copied
        self._words[_TAIL] = head
        return self._records(data)

    def _copy(self, tail: int, head: int) -> bytes:
        length = head - tail
        if length <= 0:
            return b""
        if length > self.size:  # impossible but for a corrupt page: take the newest ring full
            tail, length = head - self.size, self.size
        start = tail & (self.size - 1)
        first = min(length, self.size - start)
        return bytes(self._data[start : start + first]) + bytes(self._data[: length - first])

    def _records(self, data: bytes) -> list[tuple[int, bytes]]:
        records: list[tuple[int, bytes]] = []
        offset, end = 0, len(data)
        while end - offset >= RECORD_HEADER.size:
            kind, _, size = _HEADER.unpack_from(data, offset)
            if size < RECORD_HEADER.size or offset + size > end:
                break
            if kind == perf.RecordType.LOST and size >= RECORD_HEADER.size + _LOST.size:
                self.lost += _LOST.unpack_from(data, offset + RECORD_HEADER.size)[1]
            else:
                records.append((kind, data[offset : offset + size]))
            offset += size
        return records

    def close(self) -> None:
        """Unmap it; closing again does nothing."""
        self._words.release()
        self._data.release()
        self._view.release()
        self._map.close()

    def __enter__(self) -> PerfRing:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()
