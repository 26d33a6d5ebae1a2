"""Trace events as text: each is one line of JSON, put together without a tree of objects."""

from __future__ import annotations

import json
from typing import TextIO

_FLUSH_LINES = 4096


class EventWriter:
    """Writes one trace. Times in are CLOCK_MONOTONIC ns, times out microseconds since ``start``."""

    def __init__(self, stream: TextIO, start: int) -> None:
        self._stream, self._start = stream, start
        self._lines: list[str] = []
        self._separator = "\n"
        self._quoted: dict[str, str] = {}

    def begin(self) -> None:
        """The head of the file."""
        self._stream.write('{"displayTimeUnit":"ns","traceEvents":[')

    def end(self, other: dict[str, object]) -> None:
        """The rest of the file; ``other`` is shown as the trace's metadata."""
        self._flush()
        self._stream.write('\n],"otherData":' + json.dumps(other) + "}\n")

    def slice(
        self, pid: int, tid: int, name: str, category: str, begin: int, end: int, args: str
    ) -> None:
        """[begin, end) on a track; ``args`` is a JSON object's text or ""."""
        more = f',"args":{args}' if args else ""
        self._write(
            f'{{"ph":"X","pid":{pid},"tid":{tid},"ts":{self._ts(begin)},"dur":{_us(end - begin)},'
            f'"name":{self.quoted(name)},"cat":"{category}"{more}}}'
        )

    def arrow(
        self, number: int, from_pid: int, from_tid: int, at: int, pid: int, tid: int, to: int
    ) -> None:
        """From what runs on one track at ``at`` to the slice that begins on another at ``to``."""
        about = f'"id":{number},"name":"wakes","cat":"wakeup"'
        self._write(f'{{"ph":"s",{about},"pid":{from_pid},"tid":{from_tid},"ts":{self._ts(at)}}}')
        self._write(f'{{"ph":"f","bp":"e",{about},"pid":{pid},"tid":{tid},"ts":{self._ts(to)}}}')

    def counter(self, pid: int, name: str, at: int, series: str, value: str) -> None:
        """``series`` of the counter ``name`` is ``value`` from ``at`` on."""
        args = f"{{{self.quoted(series)}:{value}}}"
        self._write(
            f'{{"ph":"C","pid":{pid},"tid":{pid},"ts":{self._ts(at)},'
            f'"name":{self.quoted(name)},"args":{args}}}'
        )

    def instant(self, pid: int, tid: int, name: str, at: int) -> None:
        """A mark across all tracks."""
        self._write(
            f'{{"ph":"i","s":"g","pid":{pid},"tid":{tid},"ts":{self._ts(at)},'
            f'"name":{self.quoted(name)}}}'
        )

    def name(self, kind: str, pid: int, tid: int, text: str) -> None:
        """``thread_name`` or ``process_name``."""
        self._meta(kind, pid, tid, f'"name":{json.dumps(text)}')

    def sort(self, kind: str, pid: int, tid: int, index: int) -> None:
        """``thread_sort_index`` or ``process_sort_index``."""
        self._meta(kind, pid, tid, f'"sort_index":{index}')

    def quoted(self, text: str) -> str:
        """``text`` as JSON; names come often, so they are kept."""
        known = self._quoted.get(text)
        if known is None:
            known = self._quoted[text] = json.dumps(text)
        return known

    def _meta(self, kind: str, pid: int, tid: int, args: str) -> None:
        self._write(f'{{"ph":"M","pid":{pid},"tid":{tid},"name":"{kind}","args":{{{args}}}}}')

    def _write(self, line: str) -> None:
        self._lines.append(line)
        if len(self._lines) >= _FLUSH_LINES:
            self._flush()

    def _flush(self) -> None:
        if self._lines:
            self._stream.write(self._separator + ",\n".join(self._lines))
            self._separator = ",\n"
            self._lines.clear()

    def _ts(self, moment: int) -> str:
        return _us(max(0, moment - self._start))


def _us(nanoseconds: int) -> str:
    """Exact: a float would round times of more than an hour."""
    return f"{nanoseconds // 1000}.{nanoseconds % 1000:03d}"
