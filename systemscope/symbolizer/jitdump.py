"""jit-PID.dump: records of code as it is made, from compilers that perf calls jitdump.

The file is found by the page of it that the compiler maps executable, to that end. Source:
tools/perf/Documentation/jitdump-specification.txt. Times are not looked at: of several functions at
one address the last counts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from struct import Struct

from systemscope.symbolizer.code_table import MAX_NAME, CodeTable

#: What a marker mapping's path ends in.
MARKER = re.compile(r"/jit-[0-9]+\.dump$")
_MAGIC = 0x4A695444
_HEADER = Struct("<IIIIIIQQ")  # magic, version, total_size, elf_mach, pad, pid, timestamp, flags
_PREFIX = Struct("<IIQ")  # id, total_size, timestamp
_LOAD = Struct("<IIQQQQ")  # pid, tid, vma, code_addr, code_size, code_index
_MOVE = Struct("<IIQQQQQ")  # pid, tid, vma, old_code_addr, new_code_addr, code_size, code_index
_CODE_LOAD, _CODE_MOVE = 0, 1
_MAX_RECORDS = 2_000_000
_MAX_BYTES = 1 << 30
_WINDOW = 1 << 18
_BATCH = 4096


class JitDump:
    """As perf_map.PerfMap."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0
        self._records = 0
        self._names: dict[int, bytes] = {}
        self._window = (0, b"")
        self.table = CodeTable()

    def grow(self) -> bool:
        """Read what has come since; True if that was anything."""
        before = self._position
        self._window = (0, b"")
        try:
            if not self._position:
                self._position = self._first()
            self._add_all()
        except OSError:
            pass
        return self._position > before

    def _first(self) -> int:
        """Where the first record is; beyond any where this is no such file."""
        data = self._read(0, _HEADER.size)
        if len(data) < _HEADER.size:
            return 0
        magic, version, size, *_ = _HEADER.unpack(data)
        known = magic == _MAGIC and version == 1 and _HEADER.size <= size <= _WINDOW
        return size if known else _MAX_BYTES

    def _add_all(self) -> None:
        batch: list[tuple[int, int, bytes]] = []
        for row in self._rows():
            batch.append(row)
            if len(batch) == _BATCH:
                self._flush(batch)
        self._flush(batch)

    def _flush(self, batch: list[tuple[int, int, bytes]]) -> None:
        if batch:
            starts, sizes, names = zip(*batch)
            self.table.extend(starts, sizes, names)
            batch.clear()

    def _rows(self) -> Iterator[tuple[int, int, bytes]]:
        """(address, size, name) of each whole record of code."""
        while _HEADER.size <= self._position < _MAX_BYTES and self._records < _MAX_RECORDS:
            head = self._read(self._position, _PREFIX.size)
            if len(head) < _PREFIX.size:
                return
            kind, size, _ = _PREFIX.unpack(head)
            if size < _PREFIX.size:
                return  # not written yet, or damaged
            # The code itself, which makes up most of a record, is not looked at.
            wanted = min(size - _PREFIX.size, _MOVE.size + MAX_NAME)
            body = self._read(self._position + _PREFIX.size, wanted)
            if len(body) < wanted:
                return
            self._position += size
            self._records += 1
            if kind == _CODE_LOAD and len(body) > _LOAD.size:
                *_, start, length, index = _LOAD.unpack_from(body)
                name = body[_LOAD.size :].split(b"\0", 1)[0][:MAX_NAME].replace(b"\n", b" ")
                self._names[index] = name
                yield start, length, name
            elif kind == _CODE_MOVE and len(body) >= _MOVE.size:
                *_, start, length, index = _MOVE.unpack_from(body)
                yield start, length, self._names.get(index, b"")

    def _read(self, offset: int, length: int) -> bytes:
        begin, data = self._window
        if not begin <= offset <= offset + length <= begin + len(data):
            data = os.pread(self._descriptor, max(_WINDOW, length), offset)
            begin, self._window = offset, (offset, data)
        return data[offset - begin : offset - begin + length]
