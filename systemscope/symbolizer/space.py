"""Which mapping of a process an address belongs to."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Optional

from systemscope.model import Image, Mapping


class AddressSpace:
    """One process image, ready for look-ups.

    Mappings in force win over replaced ones; of the replaced, the last to go wins.
    """

    def __init__(self, tgid: int, image: Image) -> None:
        self.tgid = tgid
        self._starts: list[int] = []
        self._pieces: list[tuple[int, Mapping]] = []  # (end, the mapping seen up to there)
        self._fill(image.mappings)
        self._fill(reversed(image.replaced))

    def find(self, address: int) -> Optional[Mapping]:
        """The mapping that shows at ``address``, or None."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        end, mapping = self._pieces[index]
        return mapping if address < end else None

    def _fill(self, mappings: Iterable[Mapping]) -> None:
        for mapping in mappings:
            for start, end in self._free(mapping.start, mapping.end):
                index = bisect_left(self._starts, start)
                self._starts.insert(index, start)
                self._pieces.insert(index, (end, mapping))

    def _free(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of [start, end) that no piece covers yet."""
        free = []
        index = max(bisect_right(self._starts, start) - 1, 0)
        while start < end:
            if index >= len(self._starts) or self._starts[index] >= end:
                free.append((start, end))
                break
            if start < self._starts[index]:
                free.append((start, self._starts[index]))
            start = max(start, self._pieces[index][0])
            index += 1
        return free
