"""The reader of a BPF ring buffer map (5.8)."""

from __future__ import annotations

import mmap
import struct
from types import TracebackType
from typing import Optional

from systemscope.bpf.map import Map
from systemscope.bpf.shared_memory import map_shared
from systemscope.bpfasm.types import MapType
from systemscope.syscalls.raw import memory_barrier

_HEADER_BYTES = 8
_LENGTH = struct.Struct("=I")
_BUSY = 1 << 31
_DISCARD = 1 << 30


class RingBuffer:
    """Reads the records of a RINGBUF map, which stays its owner's.

    Single consumer: two readers of one map take each other's records.
    """

    def __init__(self, map: Map) -> None:
        if map.spec.type is not MapType.RINGBUF:
            raise ValueError(f"map '{map.spec.name}' is no ring buffer")
        page = mmap.PAGESIZE
        self._map = map
        self._size = map.spec.max_entries
        subject = f"ring buffer '{map.spec.name}'"
        self._consumer = map_shared(map.fd, page, subject)
        # The data is mapped twice in a row, so a record that wraps is read in one piece.
        try:
            self._producer = map_shared(
                map.fd, page + 2 * self._size, subject, writable=False, offset=page
            )
        except BaseException:
            self._consumer.close()
            raise
        self._consumer_view = memoryview(self._consumer).cast("Q")
        self._producer_view = memoryview(self._producer)
        self._producer_word = self._producer_view[:8].cast("Q")
        self._data = self._producer_view[page:]

    def read(self, limit: int = 1 << 16) -> list[bytes]:
        """The records committed so far, at most ``limit`` of them, oldest first."""
        records: list[bytes] = []
        position = self._consumer_view[0]
        end = self._producer_word[0]
        memory_barrier()  # headers must not be read before the producer's position
        mask = self._size - 1
        while position < end and len(records) < limit:
            at = position & mask
            header: int = _LENGTH.unpack_from(self._data, at)[0]
            if header & _BUSY:  # reserved, not yet committed: everything behind it waits too
                break
            memory_barrier()  # the record must not be read before its busy bit is seen clear
            length = header & ~_DISCARD
            if length > self._size:
                break
            if not header & _DISCARD:
                records.append(bytes(self._data[at + 8 : at + 8 + length]))
            position += (_HEADER_BYTES + length + 7) & ~7
        memory_barrier()
        self._consumer_view[0] = position
        return records

    def take(self, size: int) -> bytes:
        """The records committed so far in one piece, of a ring whose records all have ``size``
        bytes (a multiple of 8): each behind its 8-byte header. A record of another size ends it.
        """
        position = self._consumer_view[0]
        end = self._producer_word[0]
        memory_barrier()  # headers must not be read before the producer's position
        step = _HEADER_BYTES + size
        at = position & (self._size - 1)
        with memoryview(self._data[at : at + (end - position)]).cast("I") as words:
            headers = words[:: step // 4].tolist()
        count = len(headers)
        if headers.count(size) != count:  # busy, or strange
            count = next(index for index, header in enumerate(headers) if header != size)
        memory_barrier()  # nor the records before their busy bits are seen clear
        data = bytes(self._data[at : at + count * step])
        memory_barrier()
        self._consumer_view[0] = position + count * step
        return data

    def pending(self) -> int:
        """Bytes written and not read."""
        return int(self._producer_word[0] - self._consumer_view[0])

    def fileno(self) -> int:
        """The map's descriptor: readable (select, epoll) when records wait."""
        return self._map.fd

    def close(self) -> None:
        """Unmap it; closing again does nothing."""
        for view in (self._consumer_view, self._producer_word, self._data, self._producer_view):
            view.release()
        self._consumer.close()
        self._producer.close()

    def __enter__(self) -> RingBuffer:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()
