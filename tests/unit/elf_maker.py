"""Small ELF images made to order, for the rules of symbols and for damaged files."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

TEXT = 0x1000
TEXT_SIZE = 0x8000

FUNC, NOTYPE, OBJECT, IFUNC, SECTION = 2, 0, 1, 10, 3
LOCAL, GLOBAL, WEAK = 0, 1, 2


@dataclass
class Sym:
    name: str
    value: int
    size: int = 0
    type: int = FUNC
    bind: int = GLOBAL
    section: int = 1


@dataclass
class Maker:
    """An image with .text at TEXT (section 1) and a second one behind it (section 2)."""

    symbols: list[Sym] = field(default_factory=list)
    dynamic: bool = False  # .dynsym instead of .symtab
    machine: int = 62
    type: int = 3
    build_id: bytes = b"\x12\x34"
    note_name: bytes = b"GNU\0"
    second: bytes = b".fini"

    def build(self) -> bytes:
        strings = bytearray(b"\0")
        table = bytearray(24)
        for symbol in self.symbols:
            table += struct.pack(
                "<IBBHQQ",
                len(strings) if symbol.name else 0,
                symbol.bind << 4 | symbol.type,
                0,
                symbol.section,
                symbol.value,
                symbol.size,
            )
            strings += symbol.name.encode() + b"\0"
        names = b"\0.text\0" + self.second + b"\0.symtab\0.strtab\0.shstrtab\0"
        symtab, strtab, shstrtab = (names.index(n) for n in (b".symtab", b".strtab", b".shstrtab"))
        note = struct.pack("<III", len(self.note_name), len(self.build_id), 3)
        note += self.note_name + self.build_id
        blobs = [note, bytes(table), bytes(strings), names]
        at = TEXT + TEXT_SIZE
        offsets = []
        for blob in blobs:
            offsets.append(at)
            at += len(blob) + -len(blob) % 8
        half = TEXT_SIZE // 2
        sections = [
            (0, 0, 0, 0, 0, 0, 0, 0),
            (1, 1, 6, TEXT, TEXT, half, 0, 0),
            (7, 1, 6, TEXT + half, TEXT + half, half, 0, 0),
            (symtab, 11 if self.dynamic else 2, 0, 0, offsets[1], len(table), 4, 24),
            (strtab, 3, 0, 0, offsets[2], len(strings), 0, 0),
            (shstrtab, 3, 0, 0, offsets[3], len(names), 0, 0),
        ]
        head = struct.pack(
            "<16sHHIQQQIHHHHHH",
            b"\x7fELF\x02\x01\x01",
            self.type,
            self.machine,
            1,
            TEXT,
            64,
            at,
            0,
            64,
            56,
            2,
            64,
            len(sections),
            5,
        )
        head += struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, TEXT + TEXT_SIZE, TEXT + TEXT_SIZE, 4096)
        head += struct.pack("<IIQQQQQQ", 4, 4, offsets[0], 0, 0, len(note), len(note), 4)
        data = bytearray(at)
        data[: len(head)] = head
        for offset, blob in zip(offsets, blobs):
            data[offset : offset + len(blob)] = blob
        for name, kind, flags, address, offset, size, link, entry in sections:
            data += struct.pack(
                "<IIQQQQIIQQ", name, kind, flags, address, offset, size, link, 0, 1, entry
            )
        return bytes(data)


def with_sections(image: bytes, extra: dict[str, bytes]) -> bytes:
    """``image``, as a Maker builds it, with more sections behind those it has."""
    data = bytearray(image)
    (offset,) = struct.unpack_from("<Q", data, 40)
    (count,) = struct.unpack_from("<H", data, 60)
    headers = bytes(data[offset : offset + count * 64])
    old = struct.unpack_from("<IIQQQQIIQQ", headers, 5 * 64)
    names = bytearray(data[old[4] : old[4] + old[5]])
    rows = b""
    for name, content in extra.items():
        rows += struct.pack("<IIQQQQIIQQ", len(names), 1, 0, 0, len(data), len(content), 0, 0, 4, 0)
        names += name.encode() + b"\0"
        data += content
    at = len(data)
    data += names
    headers = headers[: 5 * 64] + struct.pack("<IIQQQQIIQQ", *old[:4], at, len(names), *old[6:])
    struct.pack_into("<Q", data, 40, len(data))
    struct.pack_into("<H", data, 60, count + len(extra))
    return bytes(data) + headers + rows
