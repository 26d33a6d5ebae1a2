"""Where the call frame information of an image lies, and its bytes.

What is cut short, damaged or longer than the limit gives the part that is there, or nothing; only a
file that cannot be read raises ElfError.

Sources: the LSB, "Exception Frames" and ".eh_frame_hdr"; the gABI, "Section Compression"; binutils'
bfd/compress.c for the older .zdebug form.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple, Optional

from systemscope.elf.header import Section, SectionFlag, SectionType, SegmentType
from systemscope.elf.image import ElfImage
from systemscope.elf.source import MAX_READ

#: The largest section that is read, and the largest one that comes out of a compressed one.
MAX_FRAME_BYTES = 128 << 20

_CHDR = Struct("<IIQQ")  # Elf64_Chdr: type, reserved, size, alignment
_ZLIB, _ZSTD = 1, 2
_ZDEBUG = Struct(">4sQ")
_HEADER_BYTES = 20
_UDATA4, _SDATA4_PCREL, _OMIT = 0x03, 0x1B, 0xFF


class FrameSection(NamedTuple):
    """The bytes of one section of call frame information."""

    name: str
    data: bytes
    address: int  # of the first byte; 0 where no pointer is relative to it
    descriptions: Optional[int]  # how many FDEs there are, where the end is not known otherwise
    is_debug: bool  # in the form of .debug_frame


def eh_frame(image: ElfImage) -> Optional[FrameSection]:
    """.eh_frame, by its section header or else through PT_GNU_EH_FRAME; None if there is none.
    Raises ElfError."""
    section = image.section(".eh_frame")
    if section is not None and section.size and section.type != SectionType.NOBITS:
        data = _read(image, section.offset, section.size)
        return FrameSection(".eh_frame", data, section.address, None, False)
    return _eh_frame_by_segment(image)


def debug_frame(image: ElfImage) -> Optional[FrameSection]:
    """.debug_frame, decompressed; None if there is none that can be read. Raises ElfError."""
    section, name = _debug_section(image)
    if section is None:
        return None
    data = _decompressed(section, name, _read(image, section.offset, section.size))
    return FrameSection(".debug_frame", data, 0, None, True) if data else None


def raw_sections(image: ElfImage) -> Iterator[FrameSection]:
    """Both as they lie in the file, to tell images apart. Raises ElfError."""
    found = eh_frame(image)
    if found is not None:
        yield found
    section, name = _debug_section(image)
    if section is not None:
        data = _read(image, section.offset, section.size)
        yield FrameSection(name, data, section.flags, None, True)


def _debug_section(image: ElfImage) -> tuple[Optional[Section], str]:
    for name in (".debug_frame", ".zdebug_frame"):
        section = image.section(name)
        if section is not None and section.size and section.type != SectionType.NOBITS:
            return section, name
    return None, ""


def _read(image: ElfImage, offset: int, size: int) -> bytes:
    pieces = []
    size = min(size, MAX_FRAME_BYTES)
    while size > 0:
        piece = image.source.read(offset, min(size, MAX_READ))
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
        size -= len(piece)
    return b"".join(pieces)


def _eh_frame_by_segment(image: ElfImage) -> Optional[FrameSection]:
    """.eh_frame_hdr says where .eh_frame begins and how many FDEs its search table has."""
    segment = next((s for s in image.header.segments if s.type == SegmentType.GNU_EH_FRAME), None)
    if segment is None:
        return None
    head = image.source.read(segment.offset, _HEADER_BYTES)
    if len(head) < 8 or head[0] != 1 or head[1] != _SDATA4_PCREL:
        return None
    address = segment.address + 4 + int.from_bytes(head[4:8], "little", signed=True)
    count = None
    if head[2] == _UDATA4 and head[3] != _OMIT and len(head) >= 12:
        count = int.from_bytes(head[8:12], "little")
    offset = image.offset_of_address(address)
    if offset is None:
        return None
    load = next(
        s
        for s in image.header.segments
        if s.type == SegmentType.LOAD and s.address <= address < s.address + s.file_size
    )
    size = min(load.address + load.file_size - address, image.source.size - offset)
    return FrameSection(".eh_frame", _read(image, offset, size), address, count, False)


def _decompressed(section: Section, name: str, data: bytes) -> bytes:
    if section.flags & SectionFlag.COMPRESSED:
        if len(data) < _CHDR.size:
            return b""
        kind, _, size, _ = _CHDR.unpack_from(data)
        body = memoryview(data)[_CHDR.size :]
    elif name.startswith(".z"):
        if len(data) < _ZDEBUG.size:
            return b""
        magic, size = _ZDEBUG.unpack_from(data)
        kind = _ZLIB if magic == b"ZLIB" else 0
        body = memoryview(data)[_ZDEBUG.size :]
    else:
        return data
    size = min(size, MAX_FRAME_BYTES)
    if kind == _ZLIB:
        return _inflate(body, size)
    return _unzstd(body, size) if kind == _ZSTD else b""


def _inflate(body: memoryview, size: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(body, size) if size else b""
    except zlib.error:
        return b""


def _unzstd(body: memoryview, size: int) -> bytes:
    """zstd is part of Python from 3.14 on; before, such sections are passed over."""
    try:
        zstd = importlib.import_module("compression.zstd")
    except ImportError:
        return b""
    try:
        return bytes(zstd.ZstdDecompressor().decompress(body, size)) if size else b""
    except (zstd.ZstdError, EOFError):
        return b""
