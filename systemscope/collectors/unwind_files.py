"""Unwind tables of the files that processes map: built in a thread of their own, most wanted first.

Building is pure computing on bytes that are not ours: it must neither hold up whoever drains the
kernel's tables nor fail a profile. A file that cannot be read simply has no table.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional, Union

if TYPE_CHECKING:  # imported by the thread, while programs are being loaded
    from systemscope.elf.cache import TableCache
    from systemscope.elf.image import ElfImage
    from systemscope.elf.unwind_table import UnwindTable

#: A thread that computes gives way so often that others wait a few milliseconds at most.
_REST_SECONDS = 0.0005
_JOIN_SECONDS = 5.0
_MOST_BYTES = 64 << 20  # of one table; whether there is room for it is seen once it is built


@dataclass
class FileTable:
    """One file. ``image`` tells where its code is loaded, ``table`` is None when it has none or
    was dropped; ``page`` is the first in the pool, 0 while it is not there."""

    key: Hashable
    image: Optional[ElfImage] = None
    table: Optional[UnwindTable] = None
    cached: bool = False
    seconds: float = 0.0
    page: int = 0
    pages: int = 0
    rows: int = 0
    walks: int = 0


@dataclass
class _Task:
    """A file that waits for its table."""

    file: FileTable
    opened: Union[int, bytes]
    size: int
    wanted: int = 0


class TableBuilder:
    """Builds tables in the background. A context manager.

    Files are handed over as descriptors, which it closes, or as bytes.
    """

    def __init__(self, cache_directory: str) -> None:
        self._directory = cache_directory
        self._cache: Optional[TableCache] = None
        self._queue: dict[Hashable, _Task] = {}
        self._done: list[FileTable] = []
        self._pending = 0
        self._ending = False
        self._lock = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="unwind tables", daemon=True)

    def __enter__(self) -> TableBuilder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._ending = True
            self._lock.notify_all()
        self._thread.join(_JOIN_SECONDS)
        for task in self._queue.values():
            _close(task.opened)
        self._queue.clear()

    @property
    def problem(self) -> str:
        """Why the disk cache is of no use, if it is not; one line."""
        return self._cache.problem if self._cache is not None else ""

    def ask(self, file: FileTable, opened: Union[int, bytes]) -> None:
        """Build the table of ``file``."""
        size = len(opened) if isinstance(opened, bytes) else os.fstat(opened).st_size
        with self._lock:
            self._pending += 1
            self._queue[file.key] = _Task(file, opened, size)
            self._lock.notify_all()

    def prefer(self, file: FileTable, wanted: int) -> None:
        """A stack that needs the table was asked for so many times more. What is wanted most is
        built first, of the rest what is small."""
        with self._lock:
            task = self._queue.get(file.key)
            if task is not None:
                task.wanted += wanted

    def finished(self) -> list[FileTable]:
        """Files whose building has ended since the last call, with or without a table."""
        with self._lock:
            done, self._done = self._done, []
        return done

    @property
    def idle(self) -> bool:
        """True when everything asked for is done and taken."""
        with self._lock:
            return not self._pending and not self._done

    def wait(self, seconds: float) -> bool:
        """Return when something is finished, at the latest after so many seconds; True if so."""
        with self._lock:
            self._lock.wait_for(lambda: bool(self._done) or not self._pending, seconds)
            return bool(self._done)

    # -- in the thread

    def _run(self) -> None:
        from systemscope.elf import unwind_cache  # noqa: F401 (the first table is to wait for less)
        from systemscope.elf.cache import CACHE_BYTES, TableCache

        if self._directory:
            self._cache = TableCache(self._directory, CACHE_BYTES)
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._ending or bool(self._queue))
                if self._ending:
                    return
                task = min(self._queue.values(), key=lambda one: (-one.wanted, one.size))
                del self._queue[task.file.key]
            self._build(task.file, task.opened)
            with self._lock:
                self._pending -= 1
                self._done.append(task.file)
                self._lock.notify_all()

    def _build(self, file: FileTable, opened: Union[int, bytes]) -> None:
        from systemscope.elf.errors import ElfError
        from systemscope.elf.image import ElfImage
        from systemscope.elf.unwind_cache import cached_unwind_table

        begin = time.thread_time()
        try:
            if isinstance(opened, bytes):
                image = ElfImage.from_bytes(opened)
            else:
                image = ElfImage.from_descriptor(opened)
            found = cached_unwind_table(image, self._cache, _MOST_BYTES, self._slice)
            file.table, file.cached = found
            file.image = image
            file.rows = file.table.rows if file.table is not None else 0
        except (ElfError, OSError, _Ended):
            file.table = None  # no ELF file of ours, or a damaged one
        finally:
            _close(opened)
            file.seconds = time.thread_time() - begin

    def _slice(self) -> None:
        if self._ending:
            raise _Ended
        time.sleep(_REST_SECONDS)


class _Ended(Exception):
    """Nobody waits for the table any more."""


def _close(opened: Union[int, bytes]) -> None:
    if isinstance(opened, int):
        os.close(opened)
