"""The BTF emitter, read back by a reader written for the test from the format's description."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Any

import pytest

from systemscope.bpfasm.btf import BtfWriter, Kind, MapBtf, map_btf, program_btf
from systemscope.bpfasm.records import Array, Bytes, Record, s32, u8, u16, u32, u64
from systemscope.bpfasm.types import (
    MapSpec,
    MapType,
    ProgramSpec,
    ProgramType,
    SourceLine,
    Subprogram,
)

MOV = bytes.fromhex("b700000000000000")
EXIT = bytes.fromhex("9500000000000000")
WIDE = bytes.fromhex("18010000000000000000000000000000")


class Sample(Record):
    tgid: u32
    code: s32
    ips: Array = Array(u64, 4)
    comm: Bytes = Bytes(16)
    flags: u16
    a: u8
    b: u8
    pad: u32


@dataclass(frozen=True)
class Type:
    kind: int
    name: str
    size: int
    tail: tuple[Any, ...]


def parse(blob: bytes) -> tuple[dict[int, Type], bytes]:
    """Type id -> type, and the strings."""
    magic, version, flags, header, type_off, type_len, str_off, str_len = struct.unpack_from(
        "<HBBIIIII", blob
    )
    assert (magic, version, flags, header, type_off) == (0xEB9F, 1, 0, 24, 0)
    assert str_off == type_len and len(blob) == header + type_len + str_len
    strings = blob[header + str_off :]
    assert strings[0] == 0 and strings[-1] == 0
    found: dict[int, Type] = {}
    at, end = header, header + type_len
    while at < end:
        name, info, size = struct.unpack_from("<III", blob, at)
        kind, vlen = info >> 24, info & 0xFFFF
        words = {1: 1, 2: 0, 3: 3, 4: 3 * vlen, 12: 0, 13: 2 * vlen}[kind]
        tail = struct.unpack_from(f"<{words}I", blob, at + 12)
        found[len(found) + 1] = Type(kind, text(strings, name), size, tail)
        at += 12 + 4 * words
    assert at == end
    return found, strings


def text(strings: bytes, offset: int) -> str:
    return strings[offset : strings.index(b"\0", offset)].decode()


def program(**changes: Any) -> ProgramSpec:
    spec = ProgramSpec(
        name="sampler",
        type=ProgramType.PERF_EVENT,
        code=MOV * 4 + EXIT + MOV + EXIT,
        lines=tuple(
            SourceLine(i, "programs/x.py", 10 + i // 2, f"  line({10 + i // 2})") for i in range(7)
        ),
        subprograms=(
            Subprogram(0, "sampler", 1),
            Subprogram(5, "step", 2, callback=True),
        ),
    )
    return replace(spec, **changes)


def lines_of(spec: ProgramSpec) -> list[tuple[int, str, str, int]]:
    btf = program_btf(spec)
    _, strings = parse(btf.blob)
    assert btf.line_info_rec_size == 16
    return [
        (slot, text(strings, file), text(strings, line), column >> 10)
        for slot, file, line, column in struct.iter_unpack("<IIII", btf.line_info)
    ]


def functions_of(spec: ProgramSpec) -> list[tuple[int, str, list[str]]]:
    btf = program_btf(spec)
    types, strings = parse(btf.blob)
    assert btf.func_info_rec_size == 8
    found = []
    for slot, type_id in struct.iter_unpack("<II", btf.func_info):
        function = types[type_id]
        assert function.kind == Kind.FUNC
        prototype = types[function.size]
        assert prototype.kind == Kind.FUNC_PROTO
        names = [text(strings, offset) for offset in prototype.tail[::2]]
        found.append((slot, function.name, names))
    return found


def test_functions_are_told_once_each() -> None:
    assert functions_of(program()) == [(0, "sampler", ["ctx"]), (5, "step", ["index", "ctx"])]


def test_plain_functions_take_words() -> None:
    spec = program(subprograms=(Subprogram(5, "add", 3),))
    assert functions_of(spec)[1] == (5, "add", ["a1", "a2", "a3"])


def test_function_names_become_identifiers() -> None:
    spec = program(name="9 lives;", subprograms=(Subprogram(5, "a-b", 0),))
    assert [name for _, name, _ in functions_of(spec)] == ["_9_lives_", "a_b"]


def test_lines_rise_and_name_each_line_once() -> None:
    assert lines_of(program()) == [
        (0, "programs/x.py", "line(10)", 10),
        (2, "programs/x.py", "line(11)", 11),
        (4, "programs/x.py", "line(12)", 12),
        (5, "programs/x.py", "line(12)", 12),  # a function's first slot has its own entry
        (6, "programs/x.py", "line(13)", 13),
    ]


def test_a_gap_is_filled_where_the_kernel_needs_an_entry() -> None:
    spec = program(lines=(SourceLine(2, "f.py", 7, "late"),))
    assert [(slot, line) for slot, _, _, line in lines_of(spec)] == [(0, 7), (5, 7)]


def test_the_second_half_of_a_wide_immediate_has_no_line() -> None:
    lines = tuple(SourceLine(i, "f.py", i + 1, "x") for i in range(3))
    spec = program(code=WIDE + EXIT, lines=lines, subprograms=())
    assert [slot for slot, *_ in lines_of(spec)] == [0, 2]


def test_without_lines_there_is_no_line_information() -> None:
    btf = program_btf(program(lines=()))
    assert btf.line_info == b""
    assert len(btf.func_info) == 16


def test_lines_beyond_the_program_and_huge_lines_are_kept_out() -> None:
    lines = (SourceLine(0, "f.py", 1 << 30, "y" * 1000), SourceLine(99, "f.py", 1, "z"))
    (entry,) = lines_of(program(lines=lines, subprograms=()))
    assert entry[3] == (1 << 22) - 1
    assert len(entry[2]) == 200


def test_same_program_same_bytes() -> None:
    assert program_btf(program()) == program_btf(program())


def test_strings_are_shared() -> None:
    writer = BtfWriter()
    assert writer.string("") == 0
    assert writer.string("abc") == writer.string("abc")
    assert writer.integer("u32", 4) == writer.integer("u32", 4)
    assert writer.string("nul\0inside") > 0
    _, strings = parse(writer.blob())
    assert b"nul?inside\0" in strings


def members(btf: MapBtf) -> list[tuple[str, int, Type]]:
    types, strings = parse(btf.blob)
    struct_type = types[btf.value_type_id]
    tail = struct_type.tail
    return [
        (text(strings, tail[at]), tail[at + 2], types[tail[at + 1]])
        for at in range(0, len(tail), 3)
    ]


def test_a_records_fields_lie_where_the_record_has_them() -> None:
    spec = MapSpec("samples", MapType.HASH, 4, Sample.size, 8)
    btf = map_btf(spec, value=Sample)
    types, _ = parse(btf.blob)
    assert types[btf.value_type_id].size == Sample.size
    assert types[btf.key_type_id].kind == Kind.INT
    found = members(btf)
    assert [(name, bits // 8) for name, bits, _ in found] == [
        (field.name, field.offset) for field in Sample.fields.values()
    ]
    kinds = {name: type.kind for name, _, type in found}
    assert kinds["tgid"] == Kind.INT and kinds["ips"] == Kind.ARRAY and kinds["comm"] == Kind.ARRAY


@pytest.mark.parametrize("size", [1, 2, 6, 8, 12, 40])
def test_without_a_record_the_words_cover_the_value(size: int) -> None:
    btf = map_btf(MapSpec("storage", MapType.TASK_STORAGE, 4, size, 0))
    types, _ = parse(btf.blob)
    ((_, offset, array),) = members(btf)
    element, _, count = array.tail
    assert offset == 0
    assert types[element].size * count == size == types[btf.value_type_id].size


def test_a_record_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="record of"):
        map_btf(MapSpec("samples", MapType.HASH, 4, 8, 8), value=Sample)
