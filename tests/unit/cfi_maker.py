"""Call frame information put together by hand, and small ELF images around it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from systemscope.elf import ElfImage
from systemscope.elf.unwind_table import UnwindTable

FRAMES = 0x1000  # where .eh_frame_hdr lies, in the file and in memory
HEADER = 32  # its room; .eh_frame follows
EH_FRAME = FRAMES + HEADER
TEXT = 0x100000

X86_INITIAL = b"\x0c\x07\x08\x90\x01"  # def_cfa rsp 8; offset rip -8
ARM_INITIAL = b"\x0c\x1f\x00"  # def_cfa sp 0


def uleb(number: int) -> bytes:
    out = bytearray()
    while True:
        out.append(number & 0x7F | (0x80 if number > 0x7F else 0))
        number >>= 7
        if not number:
            return bytes(out)


def sleb(number: int) -> bytes:
    out = bytearray()
    while True:
        byte = number & 0x7F
        number >>= 7
        if (number, byte & 0x40) in ((0, 0), (-1, 0x40)):
            return bytes([*out, byte])
        out.append(byte | 0x80)


def block(expression: bytes) -> bytes:
    return uleb(len(expression)) + expression


def entry(body: bytes, wide: bool = False) -> bytes:
    """An entry with its length, filled up with no-ops."""
    body += bytes(-len(body) % 8)
    return (
        struct.pack("<IQ", 0xFFFFFFFF, len(body)) + body
        if wide
        else struct.pack("<I", len(body)) + body
    )


class Frames:
    """A section of call frame information in the making."""

    def __init__(self, debug: bool = False, address: int = EH_FRAME, wide: bool = False) -> None:
        self.data = bytearray()
        self.debug = debug
        self.wide = wide
        self.address = address
        self.cie_at = 0
        self.encoding = 0
        self.augmented = False
        self.count = 0

    def cie(
        self,
        initial: bytes = X86_INITIAL,
        augmentation: bytes = b"zR",
        augmentation_data: bytes = b"\x1b",
        factors: bytes = b"\x01\x78",
        return_address: int = 16,
        version: int = 1,
    ) -> Frames:
        self.cie_at = len(self.data)
        self.encoding = augmentation_data[-1] if b"R" in augmentation else 0
        self.augmented = augmentation[:1] == b"z"
        width = 8 if self.wide and self.debug else 4
        mark = (b"\xff" if self.debug else b"\0") * width
        body = mark + bytes([version]) + augmentation + b"\0"
        body += b"\x08\0" if version == 4 else b""
        body += factors + uleb(return_address)
        if self.augmented:
            body += uleb(len(augmentation_data)) + augmentation_data
        self.data += entry(body + initial, self.wide)
        return self

    def fde(self, start: int, size: int, code: bytes = b"", lsda: bytes = b"") -> Frames:
        here = len(self.data) + (12 if self.wide else 4)
        width = 8 if self.wide and self.debug else 4
        pointer = self.cie_at if self.debug else here - self.cie_at
        body = pointer.to_bytes(width, "little")
        place = self.address + here + width
        if self.encoding == 0x1B:
            body += struct.pack("<iI", start - place, size)
        else:
            body += struct.pack("<QQ", start, size)
        body += uleb(len(lsda)) + lsda if self.augmented else b""
        self.data += entry(body + code, self.wide)
        self.count += 1
        return self


@dataclass
class Image:
    """An ELF file with a read-only segment of frames and one of code at TEXT."""

    eh_frame: bytes = b""
    debug_frame: bytes = b""
    debug_name: str = ".debug_frame"
    debug_flags: int = 0
    machine: int = 62
    entry: int = 0
    text_size: int = 0x10000
    code: bytes = b""
    sections: bool = True
    search_table: int = -1  # how many FDEs .eh_frame_hdr claims; -1: no such segment

    def build(self) -> bytes:
        names = b"\0.text\0.eh_frame\0" + self.debug_name.encode() + b"\0.shstrtab\0"
        header = bytes(HEADER)
        if self.search_table >= 0:
            header = struct.pack("<4BiI", 1, 0x1B, 3, 0x3B, HEADER - 4, self.search_table)
        blobs = [header.ljust(HEADER, b"\0") + self.eh_frame, self.debug_frame, self.code, names]
        offsets, at = [], FRAMES
        for blob in blobs:
            offsets.append(at)
            at += len(blob) + -len(blob) % 16
        size = len(blobs[0])
        loads = [
            (1, 4, FRAMES, FRAMES, FRAMES, size, size, 0x1000),
            (1, 5, offsets[2], TEXT, TEXT, len(self.code), self.text_size, 0x1000),
        ]
        if self.search_table >= 0:
            loads.append((0x6474E550, 4, FRAMES, FRAMES, FRAMES, HEADER, HEADER, 4))
        frames, debug, text, strings = offsets
        debug_at = 17
        sections = [
            (0,) * 10,
            (1, 1, 6, TEXT, text, len(self.code), 0, 0, 1, 0),
            (7, 1, 2, EH_FRAME, frames + HEADER, len(self.eh_frame), 0, 0, 8, 0),
            (debug_at, 1, self.debug_flags, 0, debug, len(self.debug_frame), 0, 0, 8, 0),
            (debug_at + len(self.debug_name) + 1, 3, 0, 0, strings, len(names), 0, 0, 1, 0),
        ]
        count = len(sections) if self.sections else 0
        data = bytearray(at)
        head = struct.pack(
            "<16sHHIQQQIHHHHHH",
            b"\x7fELF\x02\x01\x01",
            3,
            self.machine,
            1,
            self.entry,
            64,
            at if count else 0,
            0,
            64,
            56,
            len(loads),
            64,
            count,
            count - 1 if count else 0,
        ) + b"".join(struct.pack("<IIQQQQQQ", *load) for load in loads)
        data[: len(head)] = head
        for offset, blob in zip(offsets, blobs):
            data[offset : offset + len(blob)] = blob
        for section in sections[:count]:
            data += struct.pack("<IIQQQQIIQQ", *section)
        return bytes(data)

    def elf(self) -> ElfImage:
        return ElfImage.from_bytes(self.build())


def check_packing(table: UnwindTable) -> None:
    """Everything that a BPF program takes for granted of a table's words."""
    assert len(table.words) % 4096 == 0
    assert table.low % 256 == 0
    assert table.rules_at % 4 == 0
    assert 4 * table.rules_at + 16 * table.rules <= len(table.words)
    words = memoryview(table.words).cast("I")
    assert tuple(table.rule(0)) == (0,) * 9
    contents = set()
    for word in set(words[: table.blocks]):
        start, count = word >> 8, (word & 255) + 1
        assert table.blocks <= start
        assert start + count <= table.rules_at
        assert start // 1024 == (start + count - 1) // 1024, "a block's rows cross a page"
        rows = words[start : start + count].tolist()
        offsets = [row & 255 for row in rows]
        assert offsets[0] == 0
        assert offsets == sorted(set(offsets))
        numbers = [row >> 8 for row in rows]
        assert max(numbers) < table.rules
        assert all(one != two for one, two in zip(numbers, numbers[1:])), "rows not merged"
        assert tuple(rows) not in contents, "equal blocks not shared"
        contents.add(tuple(rows))
    assert table.rows == sum(map(len, contents))
