"""Little-endian base 128 numbers, bounded. Source: DWARF 5, section 7.6."""

from __future__ import annotations

from systemscope.elf.errors import ElfError

#: 64 bits need ten bytes; padded ones (gas makes some) are not longer either.
MAX_LEB128_BYTES = 10


def read_uleb128(data: bytes, position: int) -> tuple[int, int]:
    """(unsigned number at ``position``, position behind it). Raises ElfError when it does not end
    within ten bytes or within ``data``."""
    value = shift = 0
    for byte in data[position : position + MAX_LEB128_BYTES]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position + shift // 7
    raise ElfError("a LEB128 number without an end")


def read_sleb128(data: bytes, position: int) -> tuple[int, int]:
    """(signed number at ``position``, position behind it). Errors as of :func:`read_uleb128`."""
    value, end = read_uleb128(data, position)
    if data[end - 1] & 0x40:
        value -= 1 << 7 * (end - position)
    return value, end
