"""Functions by address, where later ones replace earlier ones: code that was made at run time."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple, Optional

MAX_FUNCTIONS = 1_000_000
MAX_NAME = 4_096
#: Longer pieces of code than any compiler makes at once: such a line is a mistake or a lie.
_MAX_SIZE = 1 << 32
_LIMIT = 1 << 63
#: How many functions that begin before an address are looked at for one that covers it.
_MAX_OVERLAPS = 256


class Code(NamedTuple):
    """A piece of code."""

    name: str
    start: int
    size: int


class CodeTable:
    """Takes functions in the order in which they were made, and finds the last one made at an
    address. Names stay bytes until asked for."""

    def __init__(self) -> None:
        self._starts, self._ends = array("Q"), array("Q")
        self._offsets = array("Q")
        self._texts: list[bytes] = []
        self._text_starts: list[int] = []
        self._length = 0
        self._order: Optional[tuple[array[int], array[int], array[int]]] = None

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def full(self) -> bool:
        """Whether there is no room for more."""
        return len(self._starts) >= MAX_FUNCTIONS

    def extend(self, starts: Sequence[int], sizes: Sequence[int], names: Sequence[bytes]) -> None:
        """Add functions, in order."""
        kept: list[bytes] = []
        begin = self._length
        for start, size, name in zip(starts, sizes, names):
            if self.full:
                break
            if 0 <= start < _LIMIT and 0 < size < _MAX_SIZE and name:
                self._starts.append(start)
                self._ends.append(start + size)
                self._offsets.append(self._length)
                kept.append(name[:MAX_NAME])
                self._length += len(kept[-1]) + 1
        if kept:
            self._texts.append(b"\n".join(kept) + b"\n")
            self._text_starts.append(begin)
            self._order = None

    def find(self, address: int) -> Optional[Code]:
        """The function made last of those that cover ``address``."""
        if self._order is None:
            order = sorted(range(len(self._starts)), key=self._starts.__getitem__)
            starts = array("Q", [self._starts[i] for i in order])
            reach = array("Q", accumulate((self._ends[i] for i in order), max))
            self._order = array("Q", order), starts, reach
        order_of, starts, reach = self._order
        at = bisect_right(starts, address) - 1
        lowest = max(at - _MAX_OVERLAPS, -1)
        last = -1
        while at > lowest and reach[at] > address:
            index = order_of[at]
            if self._ends[index] > address:
                last = max(last, index)
            at -= 1
        if last < 0:
            return None
        start = self._starts[last]
        return Code(self._name(last), start, self._ends[last] - start)

    def _name(self, index: int) -> str:
        offset = self._offsets[index]
        piece = bisect_right(self._text_starts, offset) - 1
        text, begin = self._texts[piece], offset - self._text_starts[piece]
        return text[begin : text.index(b"\n", begin)].decode("utf-8", "replace")
