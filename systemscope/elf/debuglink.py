"""The sections by which an image names files of its debug information.

Sources: GDB's manual, "Debugging Information in Separate Files" (.gnu_debuglink, its CRC and the
places to look); binutils' bfd/opncls.c (.gnu_debugaltlink); DWARF 5, section 7.3.6.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple, Optional

from systemscope.elf.errors import ElfError
from systemscope.elf.header import SectionType
from systemscope.elf.image import ElfImage
from systemscope.elf.source import MAX_READ, Source

_MAX_LINK = 4096 + 64
_MAX_FILE_NAME = 255
_MAX_PATH = 4096
_MAX_BUILD_ID = 64
#: Larger files are not read through for their checksum: at 1 GB/s it takes seconds.
MAX_CHECKED_BYTES = 2 << 30


class DebugLink(NamedTuple):
    """The file called ``name``, whose bytes have the checksum ``crc``."""

    name: str
    crc: int


class AlternateLink(NamedTuple):
    """The file at ``path``, relative to the image's own directory, with this build ID in hex."""

    path: str
    build_id: str


def debug_link(image: ElfImage) -> Optional[DebugLink]:
    """What .gnu_debuglink says, None if there is none. Raises ElfError."""
    data = _contents(image, ".gnu_debuglink")
    if data is None:
        return None
    raw, nul, _ = data.partition(b"\0")
    at = (len(raw) + 4) & ~3
    name = raw.decode("utf-8", "surrogateescape")
    if not nul or len(data) < at + 4 or not 0 < len(raw) <= _MAX_FILE_NAME:
        raise ElfError("a damaged .gnu_debuglink")
    if "/" in name or name in (".", ".."):
        raise ElfError("a .gnu_debuglink that leads elsewhere")
    return DebugLink(name, int.from_bytes(data[at : at + 4], "little"))


def alternate_link(image: ElfImage) -> Optional[AlternateLink]:
    """What .gnu_debugaltlink says, None if there is none. Raises ElfError."""
    data = _contents(image, ".gnu_debugaltlink")
    if data is None:
        return None
    raw, nul, build_id = data.partition(b"\0")
    if not nul or not 0 < len(raw) <= _MAX_PATH or not 0 < len(build_id) <= _MAX_BUILD_ID:
        raise ElfError("a damaged .gnu_debugaltlink")
    return AlternateLink(raw.decode("utf-8", "surrogateescape"), build_id.hex())


def checksum(source: Source) -> int:
    """The CRC-32 of all bytes. Raises ElfError for a file of more than MAX_CHECKED_BYTES."""
    if source.size > MAX_CHECKED_BYTES:
        raise ElfError("too large to check")
    crc = position = 0
    while position < source.size:
        piece = source.read(position, MAX_READ // 16)
        if not piece:
            raise ElfError("truncated while it was read")
        crc = zlib.crc32(piece, crc)
        position += len(piece)
    return crc


def _contents(image: ElfImage, name: str) -> Optional[bytes]:
    section = image.section(name)
    if section is None or section.type == SectionType.NOBITS:
        return None
    return image.source.read(section.offset, min(section.size, _MAX_LINK))
