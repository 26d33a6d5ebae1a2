"""The timeline inside a capture file: rounds of records, packed into sections.

A section holds the pieces of whole rounds, or of one that goes on in the next section: their
number, their lengths (the top bit says that the round goes on), and the records.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from systemscope.model import Timeline
from systemscope.model.timeline import RECORD
from systemscope.wire.capture_sections import Section, SectionError, read_payload

#: Bytes of records in one section: what memory a writer and a reader need.
_ROOM = (1 << 20) // RECORD.size * RECORD.size
#: A round goes on over at most so many bytes; a writer's ring is smaller.
_MAX_ROUND = 64 << 20
_GOES_ON = 1 << 31
_WORD = struct.Struct("<I")


def event_payloads(timeline: Timeline) -> Iterator[bytes]:
    """The payloads of the sections that hold the timeline's rounds."""
    pieces: list[bytes] = []
    marks: list[int] = []
    held = 0
    for whole in timeline.rounds():
        position, end = 0, len(whole) - len(whole) % RECORD.size
        while position < end:
            piece = whole[position : min(position + _ROOM - held, end)]
            position += len(piece)
            held += len(piece)
            pieces.append(piece)
            marks.append(len(piece) | (_GOES_ON if position < end else 0))
            if held == _ROOM:
                yield _payload(pieces, marks)
                pieces, marks, held = [], [], 0
    if pieces:
        yield _payload(pieces, marks)


def _payload(pieces: list[bytes], marks: list[int]) -> bytes:
    return b"".join([_WORD.pack(len(marks)), *map(_WORD.pack, marks), *pieces])


@dataclass
class StoredTimeline(Timeline):
    """A timeline that lies in an open capture file, inflated anew section by section by each
    reader. Sections that cannot be read are gaps in it."""

    sections: list[Section] = field(default_factory=list)

    def rounds(self) -> Iterator[bytes]:
        """See Timeline."""
        begun: list[bytes] = []
        held = 0
        for section in self.sections:
            for piece, goes_on in self._pieces(section):
                begun.append(piece)
                held += len(piece)
                if not goes_on or held >= _MAX_ROUND:
                    yield b"".join(begun)
                    begun, held = [], 0
        if begun:
            yield b"".join(begun)

    def append(self, records: bytes) -> None:
        """A saved timeline is not added to."""
        raise OSError("a saved timeline cannot grow")

    def _pieces(self, section: Section) -> Iterator[tuple[bytes, bool]]:
        try:
            payload = read_payload(self.file, section)
        except (SectionError, OSError):
            return
        count = _WORD.unpack_from(payload)[0] if len(payload) >= _WORD.size else 0
        position = _WORD.size * (1 + count)
        if position > len(payload):
            return
        for (mark,) in _WORD.iter_unpack(payload[_WORD.size : position]):
            length = mark & ~_GOES_ON
            piece = payload[position : position + length]
            position += length
            if piece:
                yield piece[: len(piece) - len(piece) % RECORD.size], bool(mark & _GOES_ON)
