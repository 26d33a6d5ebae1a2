"""MiniDebugInfo: a small ELF image with a .symtab, compressed into the section .gnu_debugdata.

Source: GDB's manual, "Debugging information in a special section". The section is xz.
"""

from __future__ import annotations

from typing import Optional

from systemscope.elf.errors import ElfError
from systemscope.elf.header import SectionType
from systemscope.elf.image import ElfImage

_SECTION = ".gnu_debugdata"
#: Fedora's largest are some megabytes. xz asks for the size of its dictionary in memory.
MAX_PACKED_BYTES = 16 << 20
MAX_PLAIN_BYTES = 64 << 20
_MAX_MEMORY = 128 << 20
_PIECE = 1 << 20


def mini_debug_image(image: ElfImage) -> Optional[ElfImage]:
    """The image within ``image``, None if there is none. Raises ElfError for a damaged or an
    oversized one, and where Python was built without lzma."""
    section = image.section(_SECTION)
    if section is None or section.type == SectionType.NOBITS:
        return None
    if section.size > MAX_PACKED_BYTES:
        raise ElfError(f"{section.size:,} bytes of {_SECTION}")
    return ElfImage.from_bytes(_unpacked(image.source.read(section.offset, section.size)))


def _unpacked(data: bytes) -> bytes:
    try:
        import lzma
    except ImportError:
        raise ElfError("this Python was built without lzma") from None
    pieces: list[bytes] = []
    size = 0
    try:
        decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_MEMORY)
        while not decoder.eof:
            piece = decoder.decompress(data, _PIECE)
            data = b""
            size += len(piece)
            if size > MAX_PLAIN_BYTES:
                raise ElfError(f"{_SECTION} unpacks to too much")
            if not piece and decoder.needs_input:
                raise ElfError(f"{_SECTION} is cut short")
            pieces.append(piece)
    except (lzma.LZMAError, EOFError, MemoryError) as error:
        raise ElfError(f"{_SECTION} is damaged: {error}") from error
    return b"".join(pieces)
