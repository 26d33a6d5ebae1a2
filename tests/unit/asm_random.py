"""Random instructions that are valid encodings, from the bit patterns of RFC 9669.

Written from the RFC's tables, not through the assembler, so that it proves something.
"""

from __future__ import annotations

import random
import struct

_SLOT = struct.Struct("<BBhi")
_ATOMIC_IMMEDIATES = (0x00, 0x40, 0x50, 0xA0, 0x01, 0x41, 0x51, 0xA1, 0xE1, 0xF1)


def _number(rng: random.Random) -> int:
    edge = rng.choice((0, 1, -1, 2**31 - 1, -(2**31), 0x7F, 0x80, -129))
    return edge if rng.random() < 0.4 else rng.randint(-(2**31), 2**31 - 1)


def _offset(rng: random.Random) -> int:
    edge = rng.choice((0, 1, 2, -2, 32767, -32768))
    return edge if rng.random() < 0.4 else rng.randint(-32768, 32767)


def random_slot(rng: random.Random) -> bytes:
    """One instruction: 8 bytes, or 16 for a 64-bit immediate."""
    dst, src = rng.randrange(11), rng.randrange(11)
    kind = rng.choice(("alu", "alu", "jump", "jump", "load", "store", "atomic", "wide", "other"))
    if kind == "alu":
        return _alu(rng, dst, src)
    if kind == "jump":
        opcode = rng.choice((0x05, 0x06)) | rng.choice((1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13)) << 4
        if rng.random() < 0.5:
            return _SLOT.pack(opcode | 8, dst | src << 4, _offset(rng), 0)
        return _SLOT.pack(opcode, dst, _offset(rng), _number(rng))
    if kind == "load":
        opcode = rng.choice((0x61, 0x69, 0x71, 0x79, 0x81, 0x89, 0x91))
        return _SLOT.pack(opcode, dst | src << 4, _offset(rng), 0)
    if kind == "store":
        size = rng.choice((0x00, 0x08, 0x10, 0x18))
        if rng.random() < 0.5:
            return _SLOT.pack(0x63 | size, dst | src << 4, _offset(rng), 0)
        return _SLOT.pack(0x62 | size, dst, _offset(rng), _number(rng))
    if kind == "atomic":
        opcode = rng.choice((0xC3, 0xDB))
        immediate = rng.choice(_ATOMIC_IMMEDIATES)
        return _SLOT.pack(opcode, dst | src << 4, _offset(rng), immediate)
    if kind == "wide":
        return _SLOT.pack(0x18, dst, 0, _number(rng)) + _SLOT.pack(0, 0, 0, _number(rng))
    return _other(rng, src)


def _alu(rng: random.Random, dst: int, src: int) -> bytes:
    kind = rng.choice((4, 7))
    high = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 8, 13)) << 4
    if high == 0x80:
        return _SLOT.pack(kind | high, dst, 0, 0)
    if high == 0xD0:
        source = rng.choice((0, 8)) if kind == 4 else 0
        return _SLOT.pack(kind | high | source, dst, 0, rng.choice((16, 32, 64)))
    by_register = rng.random() < 0.5
    offset = 0
    if high in (0x30, 0x90):
        offset = rng.choice((0, 1))
    if high == 0xB0 and by_register:
        offset = rng.choice((0, 8, 16, 32) if kind == 7 else (0, 8, 16))
    if by_register:
        return _SLOT.pack(kind | high | 8, dst | src << 4, offset, 0)
    return _SLOT.pack(kind | high, dst, offset, _number(rng))


def _other(rng: random.Random, src: int) -> bytes:
    return rng.choice(
        (
            _SLOT.pack(0x05, 0, _offset(rng), 0),
            _SLOT.pack(0x06, 0, 0, _number(rng)),
            _SLOT.pack(0xE5, 0, _offset(rng), 0),
            _SLOT.pack(0x85, 0, 0, rng.randint(1, 211)),
            _SLOT.pack(0x95, 0, 0, 0),
            _SLOT.pack(rng.choice((0x20, 0x28, 0x30)), 0, 0, _number(rng)),
            _SLOT.pack(rng.choice((0x40, 0x48, 0x50)), src << 4, 0, _number(rng)),
        )
    )


def random_code(rng: random.Random, count: int) -> bytes:
    """``count`` instructions."""
    return b"".join(random_slot(rng) for _ in range(count))
