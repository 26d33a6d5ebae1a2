"""The GNU build ID. Source: the System V ABI, "Note Section"; elf/common.h of binutils."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from systemscope.elf.header import Header, SectionType, SegmentType
from systemscope.elf.source import Source

_NOTE = Struct("<III")
_NT_GNU_BUILD_ID = 3
_MAX_NOTES_BYTES = 65_536
_MAX_BUILD_ID = 64


def read_build_id(source: Source, header: Header) -> str:
    """The build ID in lower-case hex, or "" if there is none.

    Segments come first: they are what the kernel itself maps and what `strip` leaves.
    """
    for offset, size, alignment in _note_ranges(header):
        data = source.read(offset, min(size, _MAX_NOTES_BYTES))
        found = find_build_id(data, 8 if alignment == 8 else 4)
        if found:
            return found.hex()
    return ""


def _note_ranges(header: Header) -> Iterator[tuple[int, int, int]]:
    for segment in header.segments:
        if segment.type == SegmentType.NOTE:
            yield segment.offset, segment.file_size, segment.alignment
    for section in header.sections[:1024]:
        if section.type == SectionType.NOTE:
            yield section.offset, section.size, 4


def find_build_id(data: bytes, alignment: int) -> bytes:
    """The GNU build ID in a run of notes, b"" if there is none. ``alignment`` is 4 or 8."""
    position = 0
    mask = alignment - 1
    while position + _NOTE.size <= len(data):
        name_size, size, type_ = _NOTE.unpack_from(data, position)
        name_at = position + _NOTE.size
        at = (name_at + name_size + mask) & ~mask
        if at + size > len(data):
            break
        name = data[name_at : name_at + name_size]
        if type_ == _NT_GNU_BUILD_ID and name == b"GNU\0" and 0 < size <= _MAX_BUILD_ID:
            return data[at : at + size]
        position = (at + size + mask) & ~mask
    return b""
