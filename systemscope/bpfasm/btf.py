"""Emitting BTF: function and line information of a program, key and value types of a map.

The kernel stores line information with the program, so that its verifier's log, and every tool
that dumps the program, shows the Python line behind each instruction. Functions that are called,
and ``bpf_loop`` callbacks above all, need function information. Format:
Documentation/bpf/btf.rst of the kernel.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Optional

from systemscope.bpfasm.records import FieldInfo, RecordType
from systemscope.bpfasm.types import MapSpec, ProgramSpec, SourceLine, Subprogram

MAGIC = 0xEB9F
VERSION = 1
FUNC_INFO_BYTES = 8
LINE_INFO_BYTES = 16

_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_ARRAY = struct.Struct("<III")
_MEMBER = struct.Struct("<III")
_PARAM = struct.Struct("<II")
_WORD = struct.Struct("<I")
_FUNC_INFO = struct.Struct("<II")
_LINE_INFO = struct.Struct("<IIII")
_INT_SIGNED = 1
_MAX_LINE = (1 << 22) - 1  # line_col keeps the line above 10 bits of column
_MAX_LINE_TEXT = 200


class Kind(IntEnum):
    """BTF_KIND_*, as far as it is emitted."""

    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    FUNC = 12
    FUNC_PROTO = 13


class BtfWriter:
    """Collects types and strings; :meth:`blob` is what BPF_BTF_LOAD takes.

    Each method adds a type and answers its id; id 0 is void. Equal integers share an id.
    """

    def __init__(self) -> None:
        self._types = bytearray()
        self._count = 0
        self._strings = bytearray(b"\0")
        self._offsets: dict[str, int] = {"": 0}
        self._integers: dict[tuple[str, int, bool], int] = {}

    def string(self, text: str) -> int:
        """The offset of ``text`` in the string section."""
        if text not in self._offsets:
            self._offsets[text] = len(self._strings)
            self._strings += text.encode("utf-8", "replace").replace(b"\0", b"?") + b"\0"
        return self._offsets[text]

    def _add(
        self, kind: Kind, name: str, size_or_type: int, vlen: int = 0, tail: bytes = b""
    ) -> int:
        self._types += _TYPE.pack(self.string(name), kind << 24 | vlen, size_or_type) + tail
        self._count += 1
        return self._count

    def integer(self, name: str, size: int, signed: bool = False) -> int:
        """An integer of ``size`` bytes."""
        key = (name, size, signed)
        if key not in self._integers:
            encoding = (_INT_SIGNED if signed else 0) << 24 | size * 8
            self._integers[key] = self._add(Kind.INT, name, size, tail=_WORD.pack(encoding))
        return self._integers[key]

    def pointer(self, target: int = 0) -> int:
        """A pointer to type ``target``, to void by default."""
        return self._add(Kind.PTR, "", target)

    def array(self, element: int, count: int) -> int:
        """An array of ``count`` elements."""
        index = self.integer("unsigned int", 4)
        return self._add(Kind.ARRAY, "", 0, tail=_ARRAY.pack(element, index, count))

    def struct(self, name: str, size: int, members: Sequence[tuple[str, int, int]]) -> int:
        """A struct; members are (name, type id, offset in bytes)."""
        tail = b"".join(
            _MEMBER.pack(self.string(member), type_id, offset * 8)
            for member, type_id, offset in members
        )
        return self._add(Kind.STRUCT, name, size, len(members), tail)

    def function(
        self, name: str, result: int, parameters: Sequence[tuple[str, int]], linkage: int = 0
    ) -> int:
        """A function with its prototype; parameters are (name, type id). ``linkage`` is 0 for
        static, 1 for global (enum btf_func_linkage)."""
        tail = b"".join(_PARAM.pack(self.string(text), type_id) for text, type_id in parameters)
        prototype = self._add(Kind.FUNC_PROTO, "", result, len(parameters), tail)
        return self._add(Kind.FUNC, _identifier(name), prototype, linkage)

    def record(self, record: RecordType) -> int:
        """The struct of a record, each field an integer or an array of integers."""
        members = [(f.name, self._field(f), f.offset) for f in record.fields.values()]
        return self.struct(_identifier(record.__name__), record.size, members)

    def _field(self, field: FieldInfo) -> int:
        prefix = "s" if field.signed else "u"
        element = self.integer(f"{prefix}{field.size * 8}", field.size, field.signed)
        return self.array(element, field.count) if field.count else element

    def blob(self) -> bytes:
        """The whole BTF."""
        types, strings = len(self._types), len(self._strings)
        header = _HEADER.pack(MAGIC, VERSION, 0, _HEADER.size, 0, types, types, strings)
        return header + bytes(self._types) + bytes(self._strings)


def _identifier(name: str) -> str:
    """``name`` as a C identifier: the kernel refuses other function names."""
    safe = re.sub(r"[^A-Za-z0-9_]", "_", name)[:127]
    return safe if safe and not safe[0].isdigit() else "_" + safe


@dataclass(frozen=True)
class ProgramBtf:
    """What BPF_PROG_LOAD takes beside the code. ``line_info`` is empty without source lines."""

    blob: bytes
    func_info: bytes
    func_info_rec_size: int
    line_info: bytes
    line_info_rec_size: int


def program_btf(spec: ProgramSpec) -> ProgramBtf:
    """Function and line information of ``spec``. Pure: same spec, same bytes."""
    writer = BtfWriter()
    functions = _FUNC_INFO.pack(0, _main_function(writer, spec.name))
    for subprogram in _subprograms(spec):
        functions += _FUNC_INFO.pack(subprogram.index, _function(writer, subprogram))
    lines = b"".join(
        _LINE_INFO.pack(
            index,
            writer.string(line.file),
            writer.string(line.text.strip()[:_MAX_LINE_TEXT]),
            min(line.line, _MAX_LINE) << 10,
        )
        for index, line in _line_entries(spec)
    )
    return ProgramBtf(writer.blob(), functions, FUNC_INFO_BYTES, lines, LINE_INFO_BYTES)


def _subprograms(spec: ProgramSpec) -> list[Subprogram]:
    """The subprograms in code order, the main program left out."""
    return sorted((s for s in spec.subprograms if s.index > 0), key=lambda s: s.index)


def _main_function(writer: BtfWriter, name: str) -> int:
    context = writer.pointer()
    return writer.function(name, writer.integer("int", 4, True), [("ctx", context)])


def _function(writer: BtfWriter, subprogram: Subprogram) -> int:
    wide = writer.integer("u64", 8)
    if subprogram.callback:
        index = writer.integer("u32", 4)
        parameters = [("index", index), ("ctx", writer.pointer())]
        return writer.function(subprogram.name, writer.integer("long", 8, True), parameters)
    parameters = [(f"a{number}", wide) for number in range(1, subprogram.arguments + 1)]
    return writer.function(subprogram.name, wide, parameters, int(subprogram.apart))


def _line_entries(spec: ProgramSpec) -> list[tuple[int, SourceLine]]:
    """(slot, line) by the kernel's rules: slots rise strictly; slot 0 and the first slot of each
    function have an entry; none points at the second half of a 64-bit immediate. Repetitions of
    one line are left out, which makes the load faster.
    """
    if not spec.lines or not spec.code:
        return []
    lines = sorted(spec.lines, key=lambda line: line.index)
    starts = {0} | {s.index for s in _subprograms(spec)}
    slots = sorted(starts | {line.index for line in lines if line.index < spec.slots})
    entries: list[tuple[int, SourceLine]] = []
    position, current = 0, lines[0]
    shown: Optional[tuple[str, int]] = None
    for slot in slots:
        while position < len(lines) and lines[position].index <= slot:
            current = lines[position]
            position += 1
        second_half = spec.code[slot * 8] == 0
        if second_half or (slot not in starts and shown == (current.file, current.line)):
            continue
        entries.append((slot, current))
        shown = (current.file, current.line)
    return entries


@dataclass(frozen=True)
class MapBtf:
    """BTF of a map, with the type ids of its key and value."""

    blob: bytes
    key_type_id: int
    value_type_id: int


def map_btf(
    spec: MapSpec, key: Optional[RecordType] = None, value: Optional[RecordType] = None
) -> MapBtf:
    """BTF of ``spec``'s key and value: of the records when given, else plain words.

    Without records a key of 4 bytes is an int, as TASK_STORAGE wants it, and any other key or
    value a struct of one array of the widest words that fit. ValueError when a record's size is
    not the map's.
    """
    writer = BtfWriter()
    key_id = _entry_type(writer, f"{spec.name}_key", spec.key_size, key)
    value_id = _entry_type(writer, f"{spec.name}_value", spec.value_size, value, words=True)
    return MapBtf(writer.blob(), key_id, value_id)


def _entry_type(
    writer: BtfWriter, name: str, size: int, record: Optional[RecordType], words: bool = False
) -> int:
    if record is not None:
        if record.size != size:
            raise ValueError(f"{name}: record of {record.size} bytes for an entry of {size}")
        return writer.record(record)
    if size == 4 and not words:
        return writer.integer("int", 4, True)
    if size == 0:
        return 0
    width = next(w for w in (8, 4, 2, 1) if size % w == 0)
    element = writer.integer(f"u{width * 8}", width)
    return writer.struct(
        _identifier(name), size, [("words", writer.array(element, size // width), 0)]
    )
