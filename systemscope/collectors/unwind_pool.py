"""The kernel memory that unwind tables lie in: pages of 4096 bytes, mapped in by the chunk.

What the programs may still be reading is never written over: pages given back wait until every
program that ran then has ended.
"""

from __future__ import annotations

import struct
from contextlib import ExitStack
from typing import Optional

from systemscope.bpf.map import Map
from systemscope.collectors.session import Session, wait_for_programs
from systemscope.errors import KernelError
from systemscope.programs.config import UnwindConfig
from systemscope.programs.records import (
    CHUNK_PAGES,
    MAPPINGS_A_PAGE,
    MAX_UNWIND_MAPPINGS,
    PAGE_WORDS,
    UnwindMapping,
)

PAGE_BYTES = 4 * PAGE_WORDS
MAPPING_WORDS = UnwindMapping.size // 4
_U32 = struct.Struct("<I")


class TablePool:
    """Hands out pages, and slots of pages for processes' mappings.

    A context manager: owns the chunks. ``limit`` is in pages. Page 0 is never handed out: the
    programs' zeroed scratch names it.
    """

    def __init__(self, session: Session, config: UnwindConfig, limit: int) -> None:
        self._pool = session.map("unwind_pool")
        self._chunked = config.chunks > 0
        most = config.chunks * CHUNK_PAGES if self._chunked else config.pages
        self.limit = min(limit, most)
        self._chunks: dict[int, Map] = {}
        self._owned = ExitStack()
        self._free = _Runs(1, self.limit)
        self._waiting: list[tuple[int, int]] = []
        self._slots: dict[int, _SlotPage] = {}  # by page
        self._waiting_slots: list[tuple[int, int]] = []
        self.used = 0  # pages

    def __enter__(self) -> TablePool:
        return self

    def __exit__(self, *_: object) -> None:
        self._owned.close()

    def memory_bytes(self) -> int:
        """Kernel memory of the chunks; a pool of one array is the session's."""
        return sum(chunk.memory_bytes() for chunk in self._chunks.values())

    # -- whole pages

    def take(self, pages: int) -> Optional[int]:
        """The first of so many pages in a row, None when there is no room."""
        first = self._free.take(pages)
        if first is None and self._waiting:
            self.settle()
            first = self._free.take(pages)
        if first is not None:
            self.used += pages
        return first

    def give_back(self, first: int, pages: int) -> None:
        """Nothing points at these pages any more: used again once no program reads them."""
        self._waiting.append((first, pages))
        self.used -= pages

    def settle(self) -> None:
        """Wait for the programs, and make what was given back free."""
        if not (self._waiting or self._waiting_slots):
            return
        wait_for_programs()
        for first, pages in self._waiting:
            self._free.give_back(first, pages)
        self._waiting.clear()
        for word, count in self._waiting_slots:
            self._free_slots(word, count)
        self._waiting_slots.clear()

    def write(self, first: int, data: bytes) -> bool:
        """Fill pages from ``first`` on; False when the kernel has no memory for them."""
        view = memoryview(data)
        try:
            for number in range(-(-len(data) // PAGE_BYTES)):
                self._write_page(first + number, view[number * PAGE_BYTES :][:PAGE_BYTES])
        except KernelError:
            return False
        return True

    def _write_page(self, page: int, data: memoryview) -> None:
        value = bytes(data).ljust(PAGE_BYTES, b"\0")
        if not self._chunked:
            self._pool.update(_U32.pack(page), value)
            return
        number, within = divmod(page, CHUNK_PAGES)
        self._chunk(number).update(_U32.pack(within), value)

    def _chunk(self, number: int) -> Map:
        chunk = self._chunks.get(number)
        if chunk is None:
            assert self._pool.spec.inner is not None
            chunk = self._owned.enter_context(Map.create(self._pool.spec.inner))
            self._pool.update(_U32.pack(number), _U32.pack(chunk.fd))
            self._chunks[number] = chunk
        return chunk

    # -- slots of pages, one a mapping

    def take_slots(self, entries: bytes) -> Optional[int]:
        """Put the packed mappings of a process somewhere; the pool word of the first, or None."""
        count = len(entries) // UnwindMapping.size
        if not 0 < count <= MAX_UNWIND_MAPPINGS:
            return None
        if count > MAPPINGS_A_PAGE:
            pages = -(-len(entries) // PAGE_BYTES)
            first = self.take(pages)
            if first is None:
                return None
            if not self.write(first, entries):
                self.give_back(first, pages)
                return None
            return first * PAGE_WORDS
        for page, slots in self._slots.items():
            at = slots.runs.take(count)
            if at is not None:
                return self._fill(page, slots, at, entries)
        page_number = self.take(1)
        if page_number is None:
            return None
        slots = self._slots[page_number] = _SlotPage()
        at = slots.runs.take(count)
        assert at is not None
        return self._fill(page_number, slots, at, entries)

    def _fill(self, page: int, slots: _SlotPage, at: int, entries: bytes) -> Optional[int]:
        begin = at * UnwindMapping.size
        slots.data[begin : begin + len(entries)] = entries
        if not self.write(page, bytes(slots.data)):
            slots.runs.give_back(at, len(entries) // UnwindMapping.size)
            return None
        return page * PAGE_WORDS + at * MAPPING_WORDS

    def give_back_slots(self, word: int, count: int) -> None:
        """As :meth:`give_back`, for what :meth:`take_slots` gave."""
        if count > MAPPINGS_A_PAGE:
            pages = -(-count // MAPPINGS_A_PAGE)
            self.give_back(word // PAGE_WORDS, pages)
        else:
            self._waiting_slots.append((word, count))

    def _free_slots(self, word: int, count: int) -> None:
        page, within = divmod(word, PAGE_WORDS)
        slots = self._slots[page]
        slots.runs.give_back(within // MAPPING_WORDS, count)
        if slots.runs.free == MAPPINGS_A_PAGE:
            del self._slots[page]
            self._free.give_back(page, 1)
            self.used -= 1

    @property
    def stale_slots(self) -> int:
        """How many slots wait to be used again."""
        return sum(count for _, count in self._waiting_slots)


class _SlotPage:
    """A page of mappings and what it holds, for it can only be written whole."""

    def __init__(self) -> None:
        self.runs = _Runs(0, MAPPINGS_A_PAGE)
        self.data = bytearray(PAGE_BYTES)


class _Runs:
    """Free numbers from ``begin`` to ``end``, handed out in runs: the first that is long enough."""

    def __init__(self, begin: int, end: int) -> None:
        self._runs = [(begin, max(end - begin, 0))]
        self.free = max(end - begin, 0)

    def take(self, count: int) -> Optional[int]:
        for index, (first, length) in enumerate(self._runs):
            if length >= count:
                if length == count:
                    del self._runs[index]
                else:
                    self._runs[index] = (first + count, length - count)
                self.free -= count
                return first
        return None

    def give_back(self, first: int, count: int) -> None:
        self.free += count
        merged: list[tuple[int, int]] = []
        for begin, length in sorted([*self._runs, (first, count)]):
            if merged and sum(merged[-1]) == begin:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((begin, length))
        self._runs = merged
