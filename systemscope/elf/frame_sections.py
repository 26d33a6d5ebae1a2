"""Where the call frame information of an image lies, and its bytes.

What is cut short, damaged or longer than the limit gives the part that is there, or nothing; only a
file that cannot be read raises ElfError.

Sources: the LSB, "Exception Frames" and ".eh_frame_hdr".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

from systemscope.elf.compressed import debug_section, decompressed, read_bytes
from systemscope.elf.header import SectionType, SegmentType
from systemscope.elf.image import ElfImage

#: The largest section that is read, and the largest one that comes out of a compressed one.
MAX_FRAME_BYTES = 128 << 20

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
    section, name = debug_section(image, ".debug_frame")
    if section is None:
        return None
    raw = _read(image, section.offset, section.size)
    data = decompressed(section, name, raw, MAX_FRAME_BYTES)
    return FrameSection(".debug_frame", data, 0, None, True) if data else None


def raw_sections(image: ElfImage) -> Iterator[FrameSection]:
    """Both as they lie in the file, to tell images apart. Raises ElfError."""
    found = eh_frame(image)
    if found is not None:
        yield found
    section, name = debug_section(image, ".debug_frame")
    if section is not None:
        data = _read(image, section.offset, section.size)
        yield FrameSection(name, data, section.flags, None, True)


def _read(image: ElfImage, offset: int, size: int) -> bytes:
    return read_bytes(image.source, offset, min(size, MAX_FRAME_BYTES))


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
