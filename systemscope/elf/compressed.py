"""The contents of a section, decompressed where it is compressed.

Sources: the gABI, "Section Compression"; binutils' bfd/compress.c for the older .zdebug form.
"""

from __future__ import annotations

import importlib
import zlib
from struct import Struct
from typing import Optional

from systemscope.elf.header import Section, SectionFlag, SectionType
from systemscope.elf.image import ElfImage
from systemscope.elf.source import MAX_READ, Source

_CHDR = Struct("<IIQQ")  # Elf64_Chdr: type, reserved, size, alignment
_ZLIB, _ZSTD = 1, 2
_ZDEBUG = Struct(">4sQ")


def debug_section(image: ElfImage, name: str) -> tuple[Optional[Section], str]:
    """The section ``name``, such as ".debug_frame", in either form, and the name it has there;
    (None, "") when there is none with contents. Raises ElfError."""
    for known in (name, ".z" + name[1:]):
        section = image.section(known)
        if section is not None and section.size and section.type != SectionType.NOBITS:
            return section, known
    return None, ""


def is_compressed(section: Section, name: str) -> bool:
    """Whether the section called ``name`` has to go through :func:`decompressed`."""
    return bool(section.flags & SectionFlag.COMPRESSED) or name.startswith(".z")


def read_bytes(source: Source, offset: int, size: int) -> bytes:
    """``size`` bytes from ``offset`` in pieces that sources allow; fewer at the end. Raises
    ElfError."""
    pieces = []
    while size > 0:
        piece = source.read(offset, min(size, MAX_READ))
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
        size -= len(piece)
    return b"".join(pieces)


def decompressed(section: Section, name: str, data: bytes, limit: int) -> bytes:
    """The contents of the section called ``name`` whose bytes in the file are ``data``, at most
    ``limit`` bytes; b"" for what is damaged or compressed in a way Python cannot undo."""
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
    size = min(size, limit)
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
