"""The JSON of a trace: written in pieces, so that its length costs no memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import BinaryIO

from systemscope.exporters.naming import safe_text

_PIECES = 4096  # events held back before they are written in one go
_LONGEST_NAME = 500  # characters


class TraceStream:
    """Writes one trace: :meth:`open`, any number of events, :meth:`close`.

    ``add`` takes one event as JSON text without anything around it. Times are nanoseconds of the
    capture's clock; :meth:`time` turns them into the trace's.
    """

    def __init__(self, stream: BinaryIO, start: int) -> None:
        self._stream = stream
        self.start = start
        self._pieces: list[str] = []
        self._separator = ""
        self.add = self._pieces.append
        self.written = 0

    def open(self, facts: Mapping[str, object]) -> None:
        """Begin, with what is known before the first event."""
        head = json.dumps(facts, indent=1)
        text = f'{{"displayTimeUnit":"ns",\n"otherData":{head},\n"traceEvents":[\n'
        self._stream.write(text.encode("ascii"))

    def flush_if_full(self) -> None:
        """Write what has gathered, once it is worth a write."""
        if len(self._pieces) >= _PIECES:
            self.flush()

    def flush(self) -> None:
        """Write what has gathered."""
        if self._pieces:
            text = self._separator + ",\n".join(self._pieces)
            self.written += len(self._pieces)
            self._pieces.clear()
            self._separator = ",\n"
            self._stream.write(text.encode("ascii"))

    def close(self, facts: Mapping[str, object], ftrace: Iterable[bytes] = ()) -> None:
        """End, with what is known only now, and the scheduler's events as the inside of a string,
        in pieces."""
        self.flush()
        self._stream.write(b"\n]")
        separator = b',\n"systemTraceEvents":"'
        for piece in ftrace:
            self._stream.write(separator + piece)
            separator = b""
        if not separator:
            self._stream.write(b'"')
        tail = json.dumps({**facts, "events_written": self.written}, indent=1)
        self._stream.write(f',\n"metadata":{tail}\n}}\n'.encode("ascii"))

    def time(self, nanoseconds: int) -> str:
        """A moment as microseconds since the window's start, with three exact decimals."""
        return microseconds(nanoseconds - self.start)


def metadata(what: str, pid: int, tid: int, arguments: str) -> str:
    """The event that names or orders a track; ``arguments`` are members of a JSON object."""
    return f'{{"ph":"M","name":"{what}","pid":{pid},"tid":{tid},"args":{{{arguments}}}}}'


def microseconds(nanoseconds: int) -> str:
    """Nanoseconds, not negative, as microseconds with exact decimals."""
    whole, rest = divmod(nanoseconds, 1000)
    return f"{whole}.{rest:03d}"


def text(value: str) -> str:
    """``value`` as a JSON string in ASCII: safe to show, of bounded length."""
    if len(value) > _LONGEST_NAME:
        value = value[:_LONGEST_NAME] + "..."
    return json.dumps(safe_text(value))
