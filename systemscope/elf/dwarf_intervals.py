"""Address ranges that may lie within or across one another, made into a flat table to search."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush

from systemscope.elf.errors import ElfError

#: More ranges than one table is made of; a list of that many takes about 150 MB for a while.
MAX_INTERVALS = 1_000_000

#: (low, high, rank, number): the code in [low, high) belongs to ``number``; where several say so,
#: to the one of the highest rank, then to the one named first.
Interval = tuple[int, int, int, int]


class IntervalMap:
    """Which number an address belongs to."""

    __slots__ = ("_numbers", "_starts")

    def __init__(self, intervals: Sequence[Interval]) -> None:
        """Raises ElfError for too many intervals, or addresses beyond 64 bits."""
        check_count(intervals)
        self._starts = array("Q")
        self._numbers = array("I")  # number + 1, 0 where nothing is
        try:
            self._fill(sorted(intervals, key=_low))
        except OverflowError:
            raise ElfError("addresses beyond 64 bits in DWARF") from None

    @property
    def cost(self) -> int:
        """About how many bytes it takes."""
        return 12 * len(self._starts)

    def find(self, address: int) -> int:
        """The number at ``address``, -1 if there is none."""
        index = bisect_right(self._starts, address) - 1
        return self._numbers[index] - 1 if index >= 0 else -1

    def spans(self) -> Iterator[tuple[int, int]]:
        """The ranges of addresses that belong to any number, ascending."""
        for index, number in enumerate(self._numbers):
            if number:
                yield self._starts[index], self._starts[index + 1]  # the last one has no number

    def _fill(self, intervals: list[Interval]) -> None:
        """Go through the addresses in order; ``live`` has the best interval on top, and below it
        ones that may be over already."""
        live: list[tuple[int, int, int, int]] = []  # (-rank, order, high, number)
        count, index, position = len(intervals), 0, 0
        while live or index < count:
            if not live:
                position = intervals[index][0]
            while index < count and intervals[index][0] <= position:
                _, high, rank, number = intervals[index]
                heappush(live, (-rank, index, high, number))
                index += 1
            while live and live[0][2] <= position:
                heappop(live)
            self._mark(position, live[0][3] + 1 if live else 0)
            if live:
                position = live[0][2]
                if index < count:
                    position = min(position, intervals[index][0])

    def _mark(self, position: int, value: int) -> None:
        if self._starts and self._starts[-1] == position:
            self._numbers[-1] = value
        elif not self._numbers or self._numbers[-1] != value:
            self._starts.append(position)
            self._numbers.append(value)


def check_count(intervals: Sequence[Interval]) -> None:
    """Raise ElfError once there are too many; to be called while they are gathered."""
    if len(intervals) > MAX_INTERVALS:
        raise ElfError("more address ranges in DWARF than any program has")


def _low(interval: Interval) -> int:
    return interval[0]
