"""/tmp/perf-PID.map: a line for each piece of code, "START SIZE NAME", the numbers hexadecimal.

Source: tools/perf/Documentation/jit-interface.txt.
"""

from __future__ import annotations

import os

from systemscope.symbolizer.code_table import MAX_NAME, CodeTable

#: What is read of one map; a large Java server's takes some megabytes.
MAX_BYTES = 64 << 20
_BLOCK = 1 << 20
_LONGEST_LINE = MAX_NAME + 64


class PerfMap:
    """Reads a map as far as it goes, and goes on when it has grown."""

    def __init__(self, descriptor: int) -> None:
        """``descriptor`` stays the caller's and must stay open."""
        self._descriptor = descriptor
        self._position = 0
        self._rest = b""
        self.table = CodeTable()

    def grow(self) -> bool:
        """Read what has come since; True if that was anything. A file that cannot be read is as
        if it ended."""
        before = self._position
        while self._position < MAX_BYTES and not self.table.full:
            try:
                data = os.pread(self._descriptor, _BLOCK, self._position)
            except OSError:
                break
            if not data:
                break
            self._position += len(data)
            whole, _, rest = (self._rest + data).rpartition(b"\n")
            self._rest = rest[:_LONGEST_LINE]
            self._add(whole.split(b"\n"))
        return self._position > before

    def _add(self, lines: list[bytes]) -> None:
        rows = [parts for parts in (line.split(b" ", 2) for line in lines) if len(parts) == 3]
        starts, sizes = (_numbers([row[column] for row in rows]) for column in (0, 1))
        self.table.extend(starts, sizes, [row[2] for row in rows])


def _numbers(words: list[bytes]) -> list[int]:
    try:
        return [int(word, 16) for word in words]
    except ValueError:
        return [_number(word) for word in words]


def _number(word: bytes) -> int:
    """-1, which no code has, for what is no number."""
    try:
        return int(word[:18], 16)
    except ValueError:
        return -1
