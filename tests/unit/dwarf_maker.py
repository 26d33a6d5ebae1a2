"""Small images with debug sections made to order, for rules, and damage that no compiler does."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from systemscope.elf.dwarf_constants import At, Form, Tag

TEXT, TEXT_SIZE = 0x1000, 0x1000
_HEADER, _SEGMENT, _SECTION = 64, 56, 64

#: (attribute, form[, value of DW_FORM_implicit_const])
Attribute = Sequence[int]


def uleb(value: int) -> bytes:
    """``value`` as an unsigned LEB128."""
    found = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        found.append(low | (0x80 if value else 0))
        if not value:
            return bytes(found)


def image(sections: dict[str, bytes], *, type_: int = 3, flags: int = 0) -> bytes:
    """An ELF file of code at TEXT and of ``sections``, whose sh_flags are ``flags``."""
    names, blobs, headers = bytearray(b"\0"), bytearray(), bytearray(_SECTION)
    at = _HEADER + _SEGMENT
    every = {**sections, ".shstrtab": b""}
    for name in every:
        headers += struct.pack("<I", len(names))
        names += name.encode() + b"\0"
        data = every[name] if name != ".shstrtab" else bytes(names)
        headers += struct.pack("<IQQQQIIQQ", 1, flags, 0, at + len(blobs), len(data), 0, 0, 1, 0)
        blobs += data
    count = len(every) + 1
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", type_, 62, 1, TEXT, _HEADER, at + len(blobs),
        0, _HEADER, _SEGMENT, 1, _SECTION, count, count - 1,
    )  # fmt: skip
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, TEXT, TEXT, TEXT_SIZE, TEXT_SIZE, 4096)
    return header + segment + bytes(blobs) + bytes(headers)


def abbreviation(code: int, tag: int, children: bool, *attributes: Attribute) -> bytes:
    """One entry of .debug_abbrev."""
    made = uleb(code) + uleb(tag) + bytes([children])
    for attribute, form, *constant in attributes:
        made += uleb(attribute) + uleb(form) + b"".join(uleb(x & 0x3F) for x in constant)
    return made + b"\0\0"


def unit(dies: bytes, *, version: int = 4, kind: int = 1, abbreviations: int = 0) -> bytes:
    """One unit of .debug_info; offsets in it begin at 11, of version 5 at 12."""
    if version >= 5:
        head = struct.pack("<HBBI", version, kind, 8, abbreviations)
    else:
        head = struct.pack("<HIB", version, abbreviations, 8)
    return struct.pack("<I", len(head) + len(dies)) + head + dies


def line_table(
    program: bytes, files: Sequence[bytes] = (b"a.c",), *, base: int = -5, width: int = 14
) -> bytes:
    """A .debug_line of version 4."""
    head = struct.pack("<BBBbBB", 1, 1, 1, base, width, 13) + bytes.fromhex(
        "000101010100000001000001"
    )
    head += b"\0" + b"".join(name + b"\0\0\0\0" for name in files) + b"\0"
    body = struct.pack("<HI", 4, len(head)) + head + program
    return struct.pack("<I", len(body)) + body


def sequence(address: int, *instructions: bytes) -> bytes:
    """Instructions between an address and the end of the sequence."""
    return b"\0\x09\x02" + struct.pack("<Q", address) + b"".join(instructions) + b"\0\x01\x01"


#: Abbreviation 1 is a unit with lines and a span of code; 2 a function with a name and a span, 3
#: the same with children; 4 an inlined function; 5 a function with no code; 6 and 7 ones without a
#: name that refer to another.
USUAL = b"".join(
    (
        abbreviation(
            1, Tag.COMPILE_UNIT, True, (At.NAME, Form.STRING), (At.STMT_LIST, Form.SEC_OFFSET),
            (At.LOW_PC, Form.ADDR), (At.HIGH_PC, Form.DATA4), (At.COMP_DIR, Form.STRING),
        ),
        abbreviation(
            2, Tag.SUBPROGRAM, False, (At.NAME, Form.STRING), (At.LOW_PC, Form.ADDR),
            (At.HIGH_PC, Form.DATA4),
        ),
        abbreviation(
            3, Tag.SUBPROGRAM, True, (At.NAME, Form.STRING), (At.LOW_PC, Form.ADDR),
            (At.HIGH_PC, Form.DATA4),
        ),
        abbreviation(
            4, Tag.INLINED_SUBROUTINE, True, (At.ABSTRACT_ORIGIN, Form.REF4),
            (At.LOW_PC, Form.ADDR), (At.HIGH_PC, Form.DATA4), (At.CALL_FILE, Form.DATA1),
            (At.CALL_LINE, Form.UDATA),
        ),
        abbreviation(5, Tag.SUBPROGRAM, False, (At.NAME, Form.STRING)),
        abbreviation(6, Tag.SUBPROGRAM, False, (At.ABSTRACT_ORIGIN, Form.REF4)),
        abbreviation(7, Tag.SUBPROGRAM, False, (At.SPECIFICATION, Form.REF_ADDR)),
    )
)  # fmt: skip


def root(low: int = TEXT, size: int = TEXT_SIZE, directory: bytes = b"/src") -> bytes:
    """The first DIE of a unit, by abbreviation 1."""
    return b"\x01unit\0" + struct.pack("<IQI", 0, low, size) + directory + b"\0"


def function(name: bytes, low: int, size: int, *, children: bool = False) -> bytes:
    """A function, by abbreviation 2 or 3."""
    return bytes([2 + children]) + name + b"\0" + struct.pack("<QI", low, size)


def inlined(origin: int, low: int, size: int, line: int) -> bytes:
    """An inlined function with children, by abbreviation 4."""
    return b"\x04" + struct.pack("<IQIB", origin, low, size, 1) + uleb(line)
