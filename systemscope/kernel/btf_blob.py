"""A BTF blob as bytes: its sections, its names, and where its type records begin.

The format is that of ``include/uapi/linux/btf.h`` and ``Documentation/bpf/btf.rst``. The data is
the kernel's, but it is checked like a stranger's: every length is bounded, and damage raises one
:class:`SystemScopeError`. :mod:`systemscope.kernel.btf` answers the questions.
"""

from __future__ import annotations

import mmap
import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from enum import IntEnum
from typing import Union

from systemscope.errors import SystemScopeError

MAGIC = 0xEB9F
_HEADER = struct.Struct("=HBBIIIII")
_MAX_SPELLINGS = 16  # offsets at which one name may be stored


class BtfKind(IntEnum):
    """BTF_KIND_* of include/uapi/linux/btf.h."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


# 32-bit words that follow the three of struct btf_type: (always, for each of its vlen entries).
_WORDS = {
    BtfKind.INT: (1, 0),
    BtfKind.PTR: (0, 0),
    BtfKind.ARRAY: (3, 0),
    BtfKind.STRUCT: (0, 3),
    BtfKind.UNION: (0, 3),
    BtfKind.ENUM: (0, 2),
    BtfKind.FWD: (0, 0),
    BtfKind.TYPEDEF: (0, 0),
    BtfKind.VOLATILE: (0, 0),
    BtfKind.CONST: (0, 0),
    BtfKind.RESTRICT: (0, 0),
    BtfKind.FUNC: (0, 0),
    BtfKind.FUNC_PROTO: (0, 2),
    BtfKind.VAR: (1, 0),
    BtfKind.DATASEC: (0, 3),
    BtfKind.FLOAT: (0, 0),
    BtfKind.DECL_TAG: (1, 0),
    BtfKind.TYPE_TAG: (0, 0),
    BtfKind.ENUM64: (0, 3),
}


def malformed(what: str) -> SystemScopeError:
    """The error for damaged BTF."""
    return SystemScopeError(
        f"the kernel's BTF is malformed: {what}",
        "report it with the kernel's version; profiling works without BTF at a higher cost",
    )


class _RecordLength(dict[int, int]):
    """Words of a type record by its ``info`` word; computed once for each distinct word."""

    def __missing__(self, info: int) -> int:
        kind = (info >> 24) & 0x1F
        words = _WORDS.get(kind)  # type: ignore[call-overload]
        if words is None:
            raise malformed(f"type kind {kind} is not known")
        length: int = 3 + words[0] + words[1] * (info & 0xFFFF)
        self[info] = length
        return length


class BtfBlob:
    """Finds records by name and numbers them no further than the answer needs."""

    def __init__(self, data: Union[bytes, mmap.mmap]) -> None:
        """``data`` is a whole BTF blob, in this machine's byte order."""
        self._data = data
        if len(data) < _HEADER.size:
            raise malformed("it is shorter than its header")
        magic, version, _flags, header, types, types_size, strings, strings_size = (
            _HEADER.unpack_from(data)
        )
        if magic != MAGIC or version != 1:
            raise malformed(f"magic {magic:#x}, version {version}")
        self._types = header + types
        self._types_end = self._types + types_size
        self._strings = header + strings
        self._strings_end = self._strings + strings_size
        if header < _HEADER.size or types_size % 4 or self._types_end > len(data):
            raise malformed("the type section lies outside the data")
        if strings_size == 0 or self._strings_end > len(data):
            raise malformed("the string section lies outside the data")
        if data[self._strings] or data[self._strings_end - 1]:
            raise malformed("the string section is not bounded by zero bytes")
        self._view = memoryview(data)
        # The type section as 32-bit words: name offset, info, size or type id, then what follows.
        self.words = self._section_words()
        # Word position of the record of each type id met so far; id 0 is void.
        self._positions = array("Q", [0])
        self._next = 0
        self._lengths = _RecordLength()
        self._offsets: dict[str, tuple[int, ...]] = {}

    def close(self) -> None:
        """Drop the mapping. Asking afterwards is an error."""
        self.words.release()
        self._view.release()
        if isinstance(self._data, mmap.mmap):
            self._data.close()

    def _section_words(self) -> memoryview:
        section = self._view[self._types : self._types_end]
        if self._types % 4:  # never in the kernel's file; a cast of a mapping must be aligned
            section = memoryview(bytes(section))
        return section.cast("I")

    def spellings(self, name: str) -> tuple[int, ...]:
        """Offsets of ``name`` in the string section (one, unless the writer did not share)."""
        known = self._offsets.get(name)
        if known is not None:
            return known
        raw = name.encode()
        found: list[int] = []
        if raw and b"\0" not in raw:
            needle = b"\0" + raw + b"\0"
            at = self._data.find(needle, self._strings, self._strings_end)
            while at >= 0 and len(found) < _MAX_SPELLINGS:
                found.append(at + 1 - self._strings)
                at = self._data.find(needle, at + 1, self._strings_end)
        self._offsets[name] = tuple(found)
        return tuple(found)

    def find(self, name: str, kind: BtfKind) -> Iterator[int]:
        """Word positions of the records of that name and kind, lowest id first.

        The bytes of a name's offset also occur as other numbers, so a hit counts only where a
        record begins; the cheap test of the kind comes first, because it spares numbering.
        """
        for offset in self.spellings(name):
            needle = offset.to_bytes(4, sys.byteorder)
            at = self._data.find(needle, self._types, self._types_end)
            while at >= 0:
                position, rest = divmod(at - self._types, 4)
                if rest == 0 and position + 2 < len(self.words):
                    info = self.words[position + 1]
                    if (info >> 24) & 0x1F == kind and self._is_record(position):
                        yield position
                at = self._data.find(needle, at + 1, self._types_end)

    def _is_record(self, position: int) -> bool:
        self._number(position)
        index = bisect_left(self._positions, position, 1)
        return index < len(self._positions) and self._positions[index] == position

    def _number(self, until: int) -> None:
        """Number the records up to and including the one at word ``until``."""
        words, lengths, positions = self.words, self._lengths, self._positions
        here, end = self._next, len(words) - 1
        note = positions.append
        while here <= until and here < end:
            note(here)
            here += lengths[words[here + 1]]
        self._next = here
        if here > len(words):
            raise malformed("a type record reaches beyond its section")

    def number_of(self, position: int) -> int:
        """The type id of a record that :meth:`find` gave."""
        return bisect_left(self._positions, position, 1)

    def position(self, type_id: int) -> int:
        """Where the record of a type begins, in words of the type section."""
        positions = self._positions
        while type_id >= len(positions):
            if self._next >= len(self.words) - 1:
                raise malformed(f"type {type_id} is referred to but absent")
            # A record takes three words at least: this never goes too far by much.
            self._number(self._next + 3 * (type_id - len(positions)))
        return int(positions[type_id])

    def string(self, offset: int) -> str:
        """The name at ``offset`` of the string section."""
        start = self._strings + offset
        if start >= self._strings_end:
            raise malformed("a name lies outside the string section")
        end = self._data.find(b"\0", start, self._strings_end)
        return bytes(self._view[start:end]).decode("ascii", "replace")
