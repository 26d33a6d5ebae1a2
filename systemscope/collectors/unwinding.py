"""Keeps the kernel's unwinder told of the processes' mappings and their files' tables.

What a process maps comes from the process table, whose side-band runs live; what the programs
asked for in vain comes from a map of theirs. A process is told of as soon as all that it maps has
been looked at, most wanted first.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Callable, Optional

from systemscope.collectors.session import Session
from systemscope.collectors.unwind_files import FileTable, TableBuilder
from systemscope.collectors.unwind_pool import PAGE_BYTES, TablePool
from systemscope.errors import KernelError
from systemscope.model import FileId, Mapping, UnwindReport
from systemscope.processes.files import FileStore
from systemscope.processes.vdso import read_vdso
from systemscope.programs.records import MAX_UNWIND_MAPPINGS, UnwindMapping, UnwindSpace

_U32 = struct.Struct("<I")
_WALKS = UnwindSpace.index("walks")
_MASK = (1 << 64) - 1
_FOUR_GIB = 1 << 32
_VDSO = "[vdso]"
_Entry = tuple[int, int, int, int, int]  # as UnwindMapping


@dataclass
class _Region:
    """Packed mappings in the pool, shared by all processes that map the same there."""

    word: int
    count: int
    tag: int
    users: int = 0


@dataclass
class _Space:
    """What the kernel was told of one process."""

    packed: bytes
    files: set[Hashable]


class Unwinding:
    """One window's tables. A context manager; nothing here raises for what a target does.

    ``mappings`` tells what a process maps now; ``files`` finds the files behind; ``builder``, which
    runs already, makes their tables.
    """

    def __init__(
        self,
        session: Session,
        files: FileStore,
        mappings: Callable[[int], tuple[Mapping, ...]],
        builder: TableBuilder,
        limit_bytes: int,
    ) -> None:
        config = session.plan.config.unwind
        assert config is not None
        self._session, self._files, self._mappings = session, files, mappings
        self._pool = TablePool(session, config, limit_bytes // PAGE_BYTES)
        self._builder = builder
        self._tables: dict[Hashable, FileTable] = {}
        self._spaces: dict[int, _Space] = {}
        self._regions: dict[bytes, _Region] = {}
        self._generations: dict[tuple[int, int, int], list[int]] = {}
        self._tag = 0
        self._changed: dict[int, int] = {}  # tgid -> how much it is wanted
        self._waiting: dict[Hashable, set[int]] = {}  # file -> processes that map it
        self.report = UnwindReport(method=config.loop.value, limit_bytes=limit_bytes)

    def __enter__(self) -> Unwinding:
        self._pool.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.__exit__()

    # -- what happened

    def changed(self, tgid: int, wanted: int = 0) -> None:
        """The process is new, or maps something new."""
        self._changed[tgid] = max(self._changed.get(tgid, 0), wanted)

    def executed(self, tgid: int) -> None:
        """The process runs another program: what is told of it is void."""
        self.ended(tgid)
        self._changed[tgid] = 0

    def ended(self, tgid: int) -> None:
        """The process is gone."""
        self._changed.pop(tgid, None)
        self._forget(tgid)

    def _forget(self, tgid: int) -> None:
        """Also what the kernel's own program handed to a child that was never looked at."""
        self._session.map("unwind_spaces").delete(_U32.pack(tgid))
        space = self._spaces.pop(tgid, None)
        if space is not None:
            self._let_go(space.packed)

    def wanted(self) -> dict[int, int]:
        """Processes without tables whose stacks were asked for since the last call, and how often.
        They count as changed."""
        keys, values = self._session.map("unwind_wanted").drain()
        found = dict(zip((k for (k,) in _U32.iter_unpack(keys)), memoryview(values).cast("Q")))
        for tgid, count in found.items():
            self.changed(tgid, count)
        return found

    # -- keeping up

    def poll(self) -> None:
        """Take in what was built, and tell the kernel of what changed."""
        for file in self._builder.finished():
            self._install(file)
        order = sorted(self._changed.items(), key=lambda item: -item[1])
        self._changed.clear()
        for tgid, priority in order:
            self._tell(tgid, priority)
        if self._pool.stale_slots > MAX_UNWIND_MAPPINGS:
            self._pool.settle()

    def expect(self, path: str) -> None:
        """A program that is about to be executed: its table will be wanted."""
        try:
            status = os.stat(path)
        except OSError:
            return
        device = status.st_dev
        file = FileId(os.major(device), os.minor(device), status.st_ino)
        self._file_of(os.getpid(), Mapping(0, 0, 0, os.path.realpath(path), file), 0)

    @property
    def idle(self) -> bool:
        """True while no table is being built."""
        return self._builder.idle

    def prepare(self, seconds: float) -> None:
        """Before the window opens: tables of the processes seen, as far as the time goes."""
        deadline = time.monotonic() + seconds
        self.poll()
        while not self._builder.idle:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            if self._builder.wait(left):
                self.poll()

    def memory_bytes(self) -> int:
        """Kernel memory of the tables."""
        return self._pool.memory_bytes()

    # -- files

    def _install(self, file: FileTable) -> None:
        self.report.build_seconds += file.seconds
        for tgid in self._waiting.pop(file.key, set()):
            self.changed(tgid)
        table = file.table
        if table is None:
            self.report.without += 1
            return
        pages = -(-len(table.words) // PAGE_BYTES)
        first = self._room_for(pages, file)
        if first is None or not self._pool.write(first, table.words):
            if first is not None:
                self._pool.give_back(first, pages)
            self.report.refused += 1
            file.table = None
            return
        file.page, file.pages = first, pages
        self.report.files += 1
        self.report.rows += table.rows
        self.report.cached += file.cached

    def _room_for(self, pages: int, wanted: FileTable) -> Optional[int]:
        """Pages for a table; those of the least used files are dropped for it."""
        first = self._pool.take(pages)
        if first is not None or pages >= self._pool.limit:
            return first
        self._count_walks()
        held = [one for one in self._tables.values() if one.page and one is not wanted]
        for file in sorted(held, key=lambda one: one.walks):
            self._drop(file)
            first = self._pool.take(pages)
            if first is not None:
                return first
        return None

    def _count_walks(self) -> None:
        """How often each file's processes were walked, as far as the kernel has counted."""
        for file in self._tables.values():
            file.walks = 0
        spaces = self._session.map("unwind_spaces")
        for tgid, space in self._spaces.items():
            value = spaces.lookup(_U32.pack(tgid))
            walks = UnwindSpace.decoder.unpack(value)[_WALKS] if value is not None else 0
            for key in space.files:
                self._tables[key].walks += walks

    def _drop(self, file: FileTable) -> None:
        first, pages = file.page, file.pages
        file.page, file.table = 0, None
        self.report.dropped += 1
        self.report.files -= 1
        for tgid in [tgid for tgid, space in self._spaces.items() if file.key in space.files]:
            self._tell(tgid, 0)
        self._pool.give_back(first, pages)

    def _file_of(self, tgid: int, mapping: Mapping, priority: int) -> Optional[FileTable]:
        """The file behind a mapping, asked for if it is new; None for memory without one."""
        key = self._key_of(mapping)
        if key is None:
            return None
        file = self._tables.get(key)
        if file is None:
            file = self._tables[key] = FileTable(key)
            opened = read_vdso() if key == _VDSO else self._files.open(tgid, mapping)
            if opened is None:
                del self._tables[key]  # another process may still have it
                return None
            self._waiting[key] = set()
            self._builder.ask(file, opened)
        if key in self._waiting:
            self._waiting[key].add(tgid)
            self._builder.prefer(file, priority)
        return file

    def _key_of(self, mapping: Mapping) -> Optional[Hashable]:
        if mapping.path == _VDSO:
            return _VDSO if mapping.end > _FOUR_GIB else None  # 32-bit processes have another
        file = mapping.file
        if file is None:
            return None
        # The side-band tells the inode's generation, /proc does not: 0 means whichever was seen.
        number = (file.major, file.minor, file.inode)
        lives = self._generations.setdefault(number, [file.generation])
        if file.generation and file.generation not in lives:
            if lives == [0]:
                lives[0] = file.generation
            else:
                lives.append(file.generation)
        life = lives.index(file.generation) if file.generation else len(lives) - 1
        return (*number, life)

    # -- processes

    def _tell(self, tgid: int, priority: int) -> None:
        mappings = self._mappings(tgid)
        files: set[Hashable] = set()
        entries = self._entries(tgid, mappings, priority, files)
        space = self._spaces.get(tgid)
        if space is None and self._is_waiting(tgid) and not (entries and self._inherited(tgid)):
            return  # half the tables would do more harm than good
        if not entries:
            self._forget(tgid)
            return
        if len(entries) > MAX_UNWIND_MAPPINGS:
            del entries[MAX_UNWIND_MAPPINGS:]
        packed = b"".join(UnwindMapping.decoder.pack(*entry) for entry in entries)
        if space is not None and space.packed == packed:
            space.files = files
            return  # a forked child got its parent's in the kernel
        region = self._region(packed)
        if region is None:
            self.report.refused += 1
            return
        value = UnwindSpace.pack(first=region.word, count=region.count, tag=region.tag)
        try:
            self._session.map("unwind_spaces").update(_U32.pack(tgid), value)
        except KernelError:
            self._let_go(packed)
            self.report.refused += 1
            return
        self._spaces[tgid] = _Space(packed, files)
        if space is not None:
            self._let_go(space.packed)

    def _is_waiting(self, tgid: int) -> bool:
        return any(tgid in waiting for waiting in self._waiting.values())

    def _inherited(self, tgid: int) -> bool:
        """Whether the kernel's program gave the process its parent's mappings as it was forked.
        They must not be left alone: what they point at may be given back by the parent."""
        return self._session.map("unwind_spaces").lookup(_U32.pack(tgid)) is not None

    def _region(self, packed: bytes) -> Optional[_Region]:
        region = self._regions.get(packed)
        if region is None:
            word = self._pool.take_slots(packed)
            if word is None:
                return None
            count = len(packed) // UnwindMapping.size
            self._tag += 1
            region = self._regions[packed] = _Region(word, count, self._tag)
        region.users += 1
        return region

    def _let_go(self, packed: bytes) -> None:
        region = self._regions[packed]
        region.users -= 1
        if not region.users:
            del self._regions[packed]
            self._pool.give_back_slots(region.word, region.count)

    def _entries(
        self, tgid: int, mappings: tuple[Mapping, ...], priority: int, files: set[Hashable]
    ) -> list[_Entry]:
        """What of the process's code has a table, sorted; ``files`` takes theirs."""
        entries: list[_Entry] = []
        beside: Optional[tuple[FileTable, int]] = None
        for mapping in mappings:
            file = self._file_of(tgid, mapping, priority)
            if file is not None and file.image is not None:
                bias = file.image.load_bias(mapping.start, mapping.offset)
                beside = None if bias is None else (file, bias)
            elif file is not None or mapping.path or beside is None:
                beside = None  # other code, or a file not looked at yet
            elif not _within_code(beside, mapping):
                continue  # anonymous code; text moved to huge pages stands in its file's place
            entry = _entry(mapping, beside)
            if beside is not None and entry is not None:
                files.add(beside[0].key)
                entries.append(entry)
        return entries

    def finish(self) -> UnwindReport:
        """What it all took."""
        self.report.table_bytes = self._pool.used * PAGE_BYTES
        self.report.processes = len(self._spaces)
        return self.report


def _within_code(beside: tuple[FileTable, int], mapping: Mapping) -> bool:
    """Whether a mapping lies where the file's executable segments were loaded."""
    file, bias = beside
    assert file.image is not None
    for segment in file.image.header.segments:
        begin = bias + segment.address
        if segment.executable and begin <= mapping.start < begin + segment.memory_size:
            return True
    return False


def _entry(mapping: Mapping, found: Optional[tuple[FileTable, int]]) -> Optional[_Entry]:
    if found is None:
        return None
    file, bias = found
    table = file.table
    if table is None or not file.page or bias & 0xFF:
        return None
    low = bias + table.low
    start, end = max(mapping.start, low), min(mapping.end, low + (table.blocks << 8))
    if not 0 <= start < end <= 1 << 63:
        return None
    return start, end, low & _MASK, file.page, table.rules_at
