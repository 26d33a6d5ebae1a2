"""From map bytes to rows: bulk decoding, one tuple a thread."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from systemscope.bpf.map import Map
from systemscope.programs.config import StackTable
from systemscope.programs.records import (
    PIECE_SLOTS,
    PIECES_ID,
    SHORT_CLASSES,
    STACK_SLOTS,
    STATES,
    CountKey,
    CountValue,
    PieceKey,
    StackFlag,
    StackPiece,
    StackRecord,
    ThreadFlag,
    ThreadRecord,
)

_AT = {name: ThreadRecord.index(name) for name in ThreadRecord.fields}
_SCALARS = _AT["time"]
_FLAGS_WORD = ThreadRecord.fields["flags"].offset // 4
_WORDS = ThreadRecord.size // 4
_U64 = struct.Struct("<Q")
_U32 = struct.Struct("<I")


@dataclass(frozen=True)
class ThreadRow:
    """A thread's record, decoded. See ``programs.records.ThreadRecord``."""

    tid: int
    tgid: int
    state: int
    flags: int
    last_ns: int
    born_ns: int
    ended_ns: int
    blocked_ns: int
    blocked_state: int
    generation: int
    switches: int
    preemptions: int
    time: tuple[int, ...]
    waits: tuple[int, ...]
    short: tuple[int, ...]
    comm: str


def thread_rows(values: bytes) -> list[ThreadRow]:
    """The tracked threads among the records of an array or hash."""
    flags = memoryview(values).cast("I")[_FLAGS_WORD::_WORDS].tolist()
    size, unpack = ThreadRecord.size, ThreadRecord.decoder.unpack_from
    tracked = int(ThreadFlag.TRACKED)
    return [_row(unpack(values, i * size)) for i, flag in enumerate(flags) if flag & tracked]


def _row(row: tuple[Any, ...]) -> ThreadRow:
    time = row[_SCALARS : _SCALARS + STATES]
    waits = row[_SCALARS + STATES : _SCALARS + 2 * STATES]
    short = row[_SCALARS + 2 * STATES : _SCALARS + 2 * STATES + len(SHORT_CLASSES)]
    comm: bytes = row[-1]
    return ThreadRow(
        tid=row[_AT["tid"]],
        tgid=row[_AT["tgid"]],
        state=row[_AT["state"]],
        flags=row[_AT["flags"]],
        last_ns=row[_AT["last_ns"]],
        born_ns=row[_AT["born_ns"]],
        ended_ns=row[_AT["ended_ns"]],
        blocked_ns=row[_AT["blocked_ns"]],
        blocked_state=row[_AT["blocked_state"]],
        generation=row[_AT["generation"]],
        switches=row[_AT["switches"]],
        preemptions=row[_AT["preemptions"]],
        time=time,
        waits=waits,
        short=short,
        comm=comm.split(b"\0")[0].decode(errors="replace"),
    )


@dataclass(frozen=True)
class CountRow:
    """One entry of the counts table: a thread's life, a state, a pair of stacks."""

    tid: int
    generation: int
    kernel: int
    user: int
    state: int
    flags: int
    nanoseconds: int
    count: int


class CountTotals:
    """The counts tables' entries, added up over every time a table was emptied."""

    def __init__(self) -> None:
        self._totals: dict[tuple[int, ...], list[int]] = {}

    def add(self, keys: bytes, values: bytes) -> None:
        """Take in what was read of a table."""
        totals = self._totals
        for key, (nanoseconds, count) in zip(
            CountKey.iter_unpack(keys), CountValue.iter_unpack(values)
        ):
            entry = totals.setdefault(key, [0, 0])
            entry[0] += nanoseconds
            entry[1] += count

    def rows(self) -> list[CountRow]:
        """All of them."""
        return [CountRow(*key, *total) for key, total in self._totals.items()]


class StackReader:
    """Addresses by stack id."""

    def __init__(self, kind: StackTable) -> None:
        self._kind = kind
        self._stacks: dict[int, tuple[tuple[int, ...], int]] = {}
        self._pieces: dict[int, dict[int, tuple[int, ...]]] = {}  # by stack, then by number

    def addresses(self, stack: int) -> tuple[int, ...]:
        """Leaf first; empty for id 0 and stacks that are gone."""
        return self._stack(stack)[0]

    def flags(self, stack: int) -> int:
        """How its walk ended, as ``programs.records.StackFlag``."""
        return self._stack(stack)[1]

    def _stack(self, stack: int) -> tuple[tuple[int, ...], int]:
        found = self._stacks.get(stack)
        if found is None:
            found = self._stacks[stack] = self._of_pieces(self._pieces.get(stack, {}))
        return found

    def read(self, table: Map, wanted: set[int]) -> None:
        """Take in the stacks of ``table``; only ``wanted`` ids where they must be asked for."""
        if self._kind is StackTable.STACK_ID:
            self._read_ids(table, {stack for stack in wanted if 0 < stack < PIECES_ID})
        else:
            self.add(*table.read_all())

    def add(self, keys: bytes, values: bytes) -> None:
        """Take in what was read of a table of hashed stacks."""
        size = StackRecord.size
        for number, (stack,) in enumerate(_U64.iter_unpack(keys)):
            at = number * size
            depth, flags = struct.unpack_from("<II", values, at)
            ips = struct.unpack_from(f"<{min(depth, STACK_SLOTS)}Q", values, at + 8)
            self._stacks[stack] = (_without_end_marks(ips), flags)

    def add_pieces(self, keys: bytes, values: bytes) -> None:
        """Take in what was read of a table of stacks in pieces."""
        pieces = StackPiece.iter_unpack(values)
        for (stack, number, _), piece in zip(PieceKey.iter_unpack(keys), pieces):
            self._pieces.setdefault(stack, {})[number] = piece

    def _of_pieces(self, pieces: dict[int, tuple[int, ...]]) -> tuple[tuple[int, ...], int]:
        if 0 not in pieces:
            return (), 0  # it found no room
        depth, flags = pieces[0][:2]
        numbers = range(-(-min(depth, STACK_SLOTS) // PIECE_SLOTS))
        if any(number not in pieces for number in numbers):
            return (), 0
        ips = [ip for number in numbers for ip in pieces[number][2:]]
        return _without_end_marks(tuple(ips[:depth])), flags

    def _read_ids(self, table: Map, wanted: set[int]) -> None:
        slots = table.spec.value_size // 8
        for stack in wanted:
            value = table.lookup(_U32.pack(stack - 1))
            if value is None:
                continue
            ips = struct.unpack(f"<{slots}Q", value)
            depth = ips.index(0) if 0 in ips else slots
            cut = StackFlag.TRUNCATED if depth == slots else 0
            self._stacks[stack] = (ips[:depth], int(cut))


def _without_end_marks(ips: tuple[int, ...]) -> tuple[int, ...]:
    """The outermost frame's caller is 0 by the ABI (its frame pointer chain ends there), which a
    walk along frame pointers reports as one more address."""
    end = len(ips)
    while end and ips[end - 1] == 0:
        end -= 1
    return ips[:end]
