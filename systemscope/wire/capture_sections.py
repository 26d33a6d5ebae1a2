"""Sections: the frame of a capture file. What lies in them is the business of other modules.

A file is a header and a run of sections, each with its own length and checksums, the last one
``END``. ``docs/capture-format.md`` describes the bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Optional

#: As PNG's: the first byte is no ASCII, and a transfer that changes line ends is noticed.
MAGIC = b"\x89SSC\r\n\x1a\n"
MAJOR, MINOR = 1, 1
END = b"END "

#: A writer begins a new section well before; a reader refuses longer ones.
MAX_SECTION = 16 << 20
_DEFLATED = 1
_FILE_HEADER = struct.Struct("<8sHHI")  # magic, major, minor, checksum of these
_HEADER = struct.Struct("<4sB3xIII")  # tag, flags, stored size, size, checksum of the stored bytes
_CHECKSUM = struct.Struct("<I")  # of the header
_COPY = 1 << 20


class SectionError(ValueError):
    """A section cannot be read. ``resumable`` says the next one can be found all the same."""

    def __init__(self, message: str, resumable: bool = False) -> None:
        super().__init__(message)
        self.resumable = resumable


class NotACapture(ValueError):
    """The file does not begin as a capture file."""


class TooNew(ValueError):
    """The file's major version is above ours."""


@dataclass(frozen=True)
class Section:
    """Where a section lies and what its header says."""

    tag: bytes
    flags: int
    offset: int  # of the stored bytes
    stored: int
    size: int
    checksum: int

    @property
    def name(self) -> str:
        """The tag as text that is safe to print."""
        return "".join(chr(byte) if 33 <= byte < 127 else "?" for byte in self.tag).rstrip("?")


def write_file_header(stream: BinaryIO) -> None:
    """Begin a capture file."""
    fields = _FILE_HEADER.pack(MAGIC, MAJOR, MINOR, 0)[: -_CHECKSUM.size]
    stream.write(fields + _CHECKSUM.pack(zlib.crc32(fields)))


def write_section(stream: BinaryIO, tag: bytes, payload: bytes, level: int = 6) -> None:
    """Append one section, compressed where that makes it smaller."""
    if len(payload) > MAX_SECTION:
        raise SectionError(f"a section of {len(payload):,} bytes is too long")
    packed = zlib.compress(payload, level)
    flags, stored = (_DEFLATED, packed) if len(packed) < len(payload) else (0, payload)
    header = _HEADER.pack(tag, flags, len(stored), len(payload), zlib.crc32(stored))
    stream.write(header + _CHECKSUM.pack(zlib.crc32(header)))
    stream.write(stored)


def read_file_header(stream: BinaryIO) -> tuple[int, int]:
    """(major, minor). Raises NotACapture, TooNew, and SectionError for a damaged header."""
    data = stream.read(_FILE_HEADER.size)
    if not data.startswith(MAGIC):
        raise NotACapture("it does not begin as a capture file")
    if len(data) < _FILE_HEADER.size:
        raise SectionError("it ends within its first 16 bytes")
    _, major, minor, checksum = _FILE_HEADER.unpack(data)
    if checksum != zlib.crc32(data[: -_CHECKSUM.size]):
        raise SectionError("its first 16 bytes are damaged")
    if major > MAJOR:
        raise TooNew(f"it is of format version {major}.{minor}")
    return int(major), int(minor)


def next_section(stream: BinaryIO) -> Optional[Section]:
    """The header at the stream's position, which moves behind it; None at the end of the file.
    Raises SectionError."""
    whole = _HEADER.size + _CHECKSUM.size
    data = stream.read(whole)
    if not data:
        return None
    if len(data) < whole:
        raise SectionError("it ends within a section's header")
    header = data[: _HEADER.size]
    if _CHECKSUM.unpack(data[_HEADER.size :])[0] != zlib.crc32(header):
        raise SectionError("a section's header is damaged")
    tag, flags, stored, size, checksum = _HEADER.unpack(header)
    return Section(tag, flags, stream.tell(), stored, size, checksum)


def read_payload(stream: BinaryIO, section: Section) -> bytes:
    """The section's bytes, inflated; the stream stands behind it. Raises SectionError."""
    _check_size(section)
    stream.seek(section.offset)
    data = stream.read(section.stored)
    if len(data) < section.stored:
        raise SectionError("it ends within the section")
    if zlib.crc32(data) != section.checksum:
        raise SectionError("its bytes are damaged", resumable=True)
    if not section.flags & _DEFLATED:
        if len(data) != section.size:
            raise SectionError("its size is wrong", resumable=True)
        return data
    inflater = zlib.decompressobj()
    try:
        payload = inflater.decompress(data, section.size + 1)
    except zlib.error as error:
        raise SectionError(f"its bytes cannot be inflated ({error})", resumable=True) from error
    if len(payload) != section.size:
        raise SectionError("its size is wrong", resumable=True)
    return payload


def check_payload(stream: BinaryIO, section: Section) -> None:
    """Read over the section without keeping or inflating it. Raises SectionError."""
    _check_size(section)
    checksum = 0
    for data in _pieces(stream, section.stored):
        checksum = zlib.crc32(data, checksum)
    if checksum != section.checksum:
        raise SectionError("its bytes are damaged", resumable=True)


def skip_payload(stream: BinaryIO, section: Section) -> None:
    """Step over the section."""
    for _ in _pieces(stream, section.stored):
        pass


def _pieces(stream: BinaryIO, length: int) -> Iterator[bytes]:
    while length:
        data = stream.read(min(length, _COPY))
        if not data:
            raise SectionError("it ends within the section")
        length -= len(data)
        yield data


def _check_size(section: Section) -> None:
    if section.size > MAX_SECTION or section.stored > MAX_SECTION:
        raise SectionError("its size is beyond all bounds")
