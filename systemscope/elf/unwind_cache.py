"""Unwind tables by way of a disk cache.

A table's key is a digest of all that it is made from, so whoever forges a build ID can spoil nobody
else's table. What comes from the cache is checked again before it is used.
"""

from __future__ import annotations

import sys
from hashlib import blake2b
from struct import Struct, error
from typing import Callable, Optional

from systemscope.elf.cache import TableCache
from systemscope.elf.errors import ElfError
from systemscope.elf.frame_sections import raw_sections
from systemscope.elf.header import SegmentType
from systemscope.elf.image import ElfImage
from systemscope.elf.unwind_pack import BLOCK_BITS, PAGE_WORDS
from systemscope.elf.unwind_rules import RULE
from systemscope.elf.unwind_stubs import TRAMPOLINE_IMAGE_BYTES, go_bottoms, linker_stubs
from systemscope.elf.unwind_table import UnwindTable, build_unwind_table

#: Changes whenever the same file would give another table.
_FORMAT = 4
_HEADER = Struct("<QQQQQQQQ")  # low, blocks, rows, rules, rules_at, source, fdes, skipped
_SOURCES = ("", ".eh_frame", ".debug_frame", ".eh_frame + .debug_frame")
_NOTHING = _HEADER.pack(*[0] * 8)


def cached_unwind_table(
    image: ElfImage,
    cache: Optional[TableCache],
    limit_bytes: int = 64 << 20,
    slice: Optional[Callable[[], None]] = None,
) -> tuple[Optional[UnwindTable], bool]:
    """The image's table as of :func:`build_unwind_table`, and whether it came from the cache.
    That an image has none is kept too. Raises ElfError."""
    if cache is None:
        return build_unwind_table(image, limit_bytes, slice), False
    key = table_key(image)
    kept = cache.get(key)
    if kept == _NOTHING:
        return None, True
    table = decode_table(kept) if kept is not None else None
    if table is not None:
        if len(table.words) > limit_bytes:
            raise ElfError("a larger unwind table than there is room for")
        return table, True
    table = build_unwind_table(image, limit_bytes, slice)
    cache.put(key, encode_table(table))
    return table, False


def table_key(image: ElfImage) -> str:
    """Names everything that the image's table follows from. Raises ElfError."""
    header = image.header
    digest = blake2b(digest_size=32)
    # zstd, and with it more sections, can be read from 3.14 on.
    digest.update(repr((header.entry, sys.version_info >= (3, 14))).encode())
    for segment in header.segments:
        if segment.type == SegmentType.LOAD and segment.executable:
            digest.update(repr((segment.address, segment.memory_size)).encode())
    for section in raw_sections(image):
        name, data, *rest = section
        digest.update(repr((name, len(data), *rest)).encode())
        digest.update(data)
    digest.update(repr(go_bottoms(image)).encode())
    for name, _, code in linker_stubs(image):
        digest.update(repr((name, code)).encode())
    size = image.source.size
    if size <= TRAMPOLINE_IMAGE_BYTES:  # whose code is looked at, too
        digest.update(image.source.read(0, size))
    return f"unwind-{_FORMAT}-{header.machine:d}-{image.build_id}-{digest.hexdigest()}"


def encode_table(table: Optional[UnwindTable]) -> bytes:
    """The bytes that are kept for ``table``."""
    if table is None:
        return _NOTHING
    source = _SOURCES.index(table.source)
    return (
        _HEADER.pack(
            table.low,
            table.blocks,
            table.rows,
            table.rules,
            table.rules_at,
            source,
            table.fdes,
            table.skipped,
        )
        + table.words
    )


def decode_table(data: bytes) -> Optional[UnwindTable]:
    """The table kept in ``data``; None if it could lead a reader beyond its end."""
    try:
        low, blocks, rows, rules, rules_at, source, fdes, skipped = _HEADER.unpack_from(data)
    except error:
        return None
    size = len(data) - _HEADER.size
    if size % (4 * PAGE_WORDS) or low % (1 << BLOCK_BITS) or low >> 48 or rules_at % 4:
        return None
    if not 0 < blocks < rules_at or not rules or 4 * rules_at + RULE.size * rules > size:
        return None
    if not 0 < source < len(_SOURCES):
        return None
    words = data[_HEADER.size :]
    view = memoryview(words).cast("I")
    index = view[:blocks]
    if min(index) >> 8 < blocks or max(view[blocks:rules_at]) >> 8 >= rules:
        return None
    for entry in set(index):
        start, last = entry >> 8, entry & 255
        if start + last >= rules_at or start % PAGE_WORDS + last >= PAGE_WORDS:
            return None
    return UnwindTable(low, blocks, rows, rules, rules_at, words, _SOURCES[source], fdes, skipped)
