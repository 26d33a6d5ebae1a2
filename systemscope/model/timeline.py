"""The order in which things happened: what each thread did from moment to moment.

Every event is one whole stretch of a thread's time, told when it ended, so that an event that was
lost is a gap in one thread's track and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import BinaryIO, NamedTuple

from systemscope.model.states import STATE_COUNT, State


class EventKind(IntEnum):
    """What an event tells. The numbers are shared with the BPF programs."""

    RUN = 1  # tid ran on cpu over [begin, end); state: what it became then
    WAIT = 2  # tid was in state over [begin, middle), then runnable over [middle, end)
    STACK = 3  # the stack of tid's WAIT that ended at end
    SAMPLE = 4  # tid ran on cpu at end with this stack
    WAKE = 5  # tid was made runnable at end by other on cpu


class Event(NamedTuple):
    """One event. Times are CLOCK_MONOTONIC ns; ``stack`` indexes ``Capture.stacks`` (0: none).

    ``cpu`` of a WAIT is where the thread was switched in, -1 while it still waits; of a RUN it is
    -1 where the window's end cut it off: the thread's last known one. ``other`` is the waker's
    tid, 0 for the idle task and interrupts; then ``middle`` tells their kinds as bits: 1 a timer,
    2 a soft interrupt, 4 a device. A field that a kind does not use is 0.
    """

    kind: EventKind
    tid: int
    cpu: int
    begin: int
    middle: int
    end: int
    state: State
    stack: int
    other: int


#: As it comes out of the kernel's ring, whose header of 8 bytes means nothing here: begin, middle,
#: end, kernel stack, user stack, tid, cpu, kind and state, other.
RECORD = struct.Struct("<8x5Q4I")
STATE_SHIFT = 8
NO_CPU = 0xFFFFFFFF
#: By number: looking them up in a tuple takes a fifth of calling the enumeration.
_KINDS = (EventKind.RUN, *EventKind)
_STATES = tuple(State)
_ROUND = struct.Struct("<I")
_MAX_ROUND = 1 << 30


@dataclass
class Timeline:
    """Events in a file, read anew by each :meth:`events`; memory is bounded by one round.

    ``file`` holds rounds from ``offset`` to ``offset + size``: a little-endian u32 length, then so
    many bytes of ``RECORD``. A round is what was drained at once: records of different CPUs come
    in any order within it, and at most one round late. ``stacks`` maps the kernel's pair of stack
    ids to an index in ``Capture.stacks``. ``closing`` are the stretches that the window's end cut
    off. ``lost`` counts the events that did not fit into the ring.
    """

    file: BinaryIO
    offset: int = 0
    size: int = 0
    stacks: dict[tuple[int, int], int] = field(default_factory=dict)
    closing: Sequence[Event] = ()
    lost: int = 0

    def events(self) -> Iterator[Event]:
        """All events, ordered by ``end``. A file cut short yields what is whole."""
        late: list[tuple[int, ...]] = []
        horizon = 0
        for batch in self.rounds():
            whole = len(batch) - len(batch) % RECORD.size
            late += (record for record in RECORD.iter_unpack(batch[:whole]) if _known(record))
            late.sort(key=_end)
            ready = [record for record in late if record[2] <= horizon]
            late = late[len(ready) :]
            yield from map(self._event, ready)
            if late:
                horizon = max(horizon, late[-1][2])
        closing = sorted(self.closing, key=lambda event: event.end)
        rest = [self._event(record) for record in late]
        yield from sorted([*rest, *closing], key=lambda event: event.end)

    def rounds(self) -> Iterator[bytes]:
        """The rounds as they lie in the file, without their lengths."""
        position, limit = self.offset, self.offset + self.size
        while position + _ROUND.size <= limit:
            self.file.seek(position)
            header = self.file.read(_ROUND.size)
            if len(header) < _ROUND.size:
                return
            length = min(_ROUND.unpack(header)[0], _MAX_ROUND, limit - position - _ROUND.size)
            batch = self.file.read(length)
            if batch:
                yield batch
            position += _ROUND.size + length

    def append(self, records: bytes) -> None:
        """Add one round at the end of the file. Raises what the file raises (a full disk)."""
        if records:
            self.file.seek(self.offset + self.size)
            self.file.write(_ROUND.pack(len(records)) + records)
            self.size += _ROUND.size + len(records)

    def _event(self, record: tuple[int, ...]) -> Event:
        begin, middle, end, kernel, user, tid, cpu, packed, other = record
        stack = self.stacks.get((kernel, user), 0) if kernel or user else 0
        kind = _KINDS[packed & 0xFF]
        state = _STATES[packed >> STATE_SHIFT]
        return Event(
            kind, tid, cpu if cpu != NO_CPU else -1, begin, middle, end, state, stack, other
        )


def _known(record: tuple[int, ...]) -> bool:
    """False for what no program of ours wrote: the file may be corrupt."""
    kind, state = record[7] & 0xFF, record[7] >> STATE_SHIFT
    return EventKind.RUN <= kind <= EventKind.WAKE and state < STATE_COUNT


def _end(record: tuple[int, ...]) -> int:
    return record[2]
