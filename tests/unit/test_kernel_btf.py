"""The BTF reader on blobs made here, whole and damaged."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from systemscope.errors import SystemScopeError
from systemscope.kernel.btf import BtfKind, KernelBtf, Member


class BlobMaker:
    """Writes BTF record by record; each method answers the new type's id."""

    def __init__(self) -> None:
        self.strings = bytearray(b"\0")
        self.types = bytearray()
        self.count = 0

    def name(self, text: str) -> int:
        if not text:
            return 0
        at = self.strings.find(b"\0" + text.encode() + b"\0")
        if at < 0:
            at = len(self.strings) - 1
            self.strings += text.encode() + b"\0"
        return at + 1

    def record(
        self, name: str, kind: int, size: int, *words: int, vlen: int = 0, flag: int = 0
    ) -> int:
        info = flag << 31 | kind << 24 | vlen
        self.types += struct.pack(f"=3I{len(words)}I", self.name(name), info, size, *words)
        self.count += 1
        return self.count

    def integer(self, name: str, size: int) -> int:
        return self.record(name, BtfKind.INT, size, size * 8)

    def struct(
        self,
        name: str,
        size: int,
        members: list[tuple[str, int, int]],
        *,
        kind: int = BtfKind.STRUCT,
        flag: int = 0,
    ) -> int:
        words = [word for text, type_id, at in members for word in (self.name(text), type_id, at)]
        return self.record(name, kind, size, *words, vlen=len(members), flag=flag)

    def blob(self) -> bytes:
        header = struct.pack(
            "=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self.types), len(self.types), len(self.strings)
        )
        return header + bytes(self.types) + bytes(self.strings)


def kernel_like() -> BlobMaker:
    """struct task with all the shapes that matter."""
    made = BlobMaker()
    u8 = made.integer("u8", 1)
    u32 = made.integer("u32", 4)
    u64 = made.integer("u64", 8)
    pid_t = made.record("pid_t", BtfKind.TYPEDEF, u32)
    const = made.record("", BtfKind.CONST, pid_t)
    array = made.record("", BtfKind.ARRAY, 0, u8, u32, 16)
    matrix = made.record("", BtfKind.ARRAY, 0, array, u32, 2)
    inner = made.struct("", 8, [("low", u32, 0), ("high", u32, 32)])
    union = made.struct("", 8, [("", inner, 0), ("whole", u64, 0)], kind=BtfKind.UNION)
    thread = made.struct("thread_struct", 16, [("sp", u64, 0), ("fsbase", u64, 64)])
    pointer = made.record("", BtfKind.PTR, thread)
    bits = 1 << 24  # width 1
    made.struct(
        "task_struct",
        128,
        [
            ("pid", const, 0),
            ("", union, 64),
            ("thread", thread, 128),
            ("comm", array, 256),
            ("flag_a", u32, bits | 384),
            ("flag_b", u32, (3 << 24) | 385),
            ("parent", pointer, 448),
            ("matrix", matrix, 512),
        ],
        flag=1,
    )
    proto = made.record(
        "", BtfKind.FUNC_PROTO, 0, made.name("__data"), pointer, made.name("prev"), pointer, vlen=2
    )
    made.record("finish_task_switch", BtfKind.FUNC, proto)
    nameless = made.record("", BtfKind.FUNC_PROTO, 0, 0, pointer, 0, pointer, vlen=2)
    function_pointer = made.record("", BtfKind.PTR, nameless)
    made.record("btf_trace_sched_switch", BtfKind.TYPEDEF, function_pointer)
    made.record("btf_trace_other", BtfKind.TYPEDEF, function_pointer)
    made.record("__traceiter_sched_switch", BtfKind.FUNC, proto)
    made.record("runqueues", BtfKind.VAR, u64, 0)
    made.record(
        "bpf_cmd", BtfKind.ENUM, 4, made.name("FIRST"), 0, made.name("LAST"), 0xFFFFFFFF, vlen=2
    )
    made.record("pair", BtfKind.FWD, 0)
    made.struct("pair", 4, [("one", u32, 0)])
    made.struct("pair", 8, [("one", u32, 0), ("two", u32, 32)])
    return made


@pytest.fixture
def types() -> KernelBtf:
    return KernelBtf(kernel_like().blob())


def test_ids_are_by_name_and_kind(types: KernelBtf) -> None:
    assert types.type_id("u8", BtfKind.INT) == 1
    assert types.type_id("pid_t", BtfKind.TYPEDEF) == 4
    assert types.type_id("task_struct", BtfKind.STRUCT) == 12
    assert types.type_id("task_struct", BtfKind.UNION) == 0
    assert types.type_id("task", BtfKind.STRUCT) == 0
    assert types.type_id("", BtfKind.STRUCT) == 0
    assert types.type_id("pid\0x", BtfKind.INT) == 0
    assert types.type_id("runqueues", BtfKind.VAR) > types.type_id("pid_t", BtfKind.TYPEDEF)


def test_ids_do_not_depend_on_the_order_of_questions() -> None:
    names = [
        ("runqueues", BtfKind.VAR),
        ("u32", BtfKind.INT),
        ("finish_task_switch", BtfKind.FUNC),
        ("task_struct", BtfKind.STRUCT),
    ]
    forward = KernelBtf(kernel_like().blob())
    backward = KernelBtf(kernel_like().blob())
    answers = {name: forward.type_id(*name) for name in names}
    assert answers == {name: backward.type_id(*name) for name in reversed(names)}
    assert all(answers.values())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("pid", Member(0, 4, 0, 0)),
        ("low", Member(8, 4, 0, 0)),
        ("high", Member(12, 4, 0, 0)),
        ("whole", Member(8, 8, 0, 0)),
        ("thread", Member(16, 16, 0, 0)),
        ("thread.fsbase", Member(24, 8, 0, 0)),
        ("comm", Member(32, 16, 0, 0)),
        ("comm[3]", Member(35, 1, 0, 0)),
        ("flag_a", Member(48, 4, 0, 1)),
        ("flag_b", Member(48, 4, 1, 3)),
        ("parent", Member(56, 8, 0, 0)),
        ("matrix", Member(64, 32, 0, 0)),
        ("matrix[1]", Member(80, 16, 0, 0)),
    ],
)
def test_members(types: KernelBtf, path: str, expected: Member) -> None:
    assert types.member("task_struct", path) == expected


@pytest.mark.parametrize(
    "path",
    ["nope", "", "thread.nope", "parent.sp", "comm[16]", "comm[x]", "comm[1", "pid[0]", "pid.x"],
)
def test_absent_members(types: KernelBtf, path: str) -> None:
    assert types.member("task_struct", path) is None
    assert types.member("no_struct", path) is None


def test_a_name_of_several_structs(types: KernelBtf) -> None:
    assert types.member("pair", "two") == Member(4, 4, 0, 0)
    assert types.size("pair") == 4


def test_parameters(types: KernelBtf) -> None:
    assert types.params("finish_task_switch") == ("__data", "prev")
    assert types.params("btf_trace_sched_switch") == ("__data", "prev"), "from __traceiter_"
    assert types.params("btf_trace_other") == ("", "")
    assert types.arity("btf_trace_other") == 2
    assert types.params("nothing") == ()
    assert types.params("pid_t") == ()


def test_enumerators(types: KernelBtf) -> None:
    assert types.enumerator("bpf_cmd", "FIRST") == 0
    assert types.enumerator("bpf_cmd", "LAST") == 0xFFFFFFFF
    assert types.enumerator("bpf_cmd", "prev") is None
    assert types.enumerator("no_enum", "FIRST") is None


def test_absent_file_is_no_error(tmp_path: Path) -> None:
    assert KernelBtf.open(str(tmp_path / "absent")) is None


def test_file_is_mapped_or_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(kernel_like().blob())
    opened = KernelBtf.open(str(path))
    assert opened is not None
    with opened:
        assert opened.member("task_struct", "thread.fsbase") == Member(24, 8, 0, 0)


@pytest.mark.parametrize("length", [0, 1, 23, 24, 40])
def test_cut_short(tmp_path: Path, length: int) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(kernel_like().blob()[:length])
    with pytest.raises(SystemScopeError, match="malformed"):
        KernelBtf.open(str(path))


def _header(blob: bytes, **changes: int) -> bytes:
    names = ("magic", "version", "flags", "hdr_len", "type_off", "type_len", "str_off", "str_len")
    values = dict(zip(names, struct.unpack_from("=HBBIIIII", blob)))
    values.update(changes)
    return struct.pack("=HBBIIIII", *values.values()) + blob[24:]


@pytest.mark.parametrize(
    "changes",
    [
        {"magic": 0x9FEB},
        {"version": 2},
        {"hdr_len": 0},
        {"hdr_len": 0xFFFFFFFF},
        {"type_off": 0xFFFFFFFF},
        {"type_len": 0xFFFFFFFC},
        {"type_len": 7},
        {"str_off": 0xFFFFFFFF},
        {"str_len": 0},
        {"str_len": 0xFFFFFFFF},
        {"str_off": 7},
    ],
)
def test_bad_headers(changes: dict[str, int]) -> None:
    with pytest.raises(SystemScopeError, match="malformed"):
        KernelBtf(_header(kernel_like().blob(), **changes))


def test_unknown_kind() -> None:
    made = BlobMaker()
    made.record("odd", 31, 4)
    made.integer("u32", 4)
    with pytest.raises(SystemScopeError, match="kind 31"):
        KernelBtf(made.blob()).type_id("u32", BtfKind.INT)


def test_record_beyond_its_section() -> None:
    made = BlobMaker()
    made.record("huge", BtfKind.STRUCT, 4, vlen=0xFFFF)
    with pytest.raises(SystemScopeError, match="beyond its section"):
        KernelBtf(made.blob()).member("huge", "huge")


def test_typedefs_in_a_circle() -> None:
    made = BlobMaker()
    made.record("a_t", BtfKind.TYPEDEF, 2)
    made.record("b_t", BtfKind.TYPEDEF, 1)
    made.struct("s", 4, [("m", 1, 0)])
    with pytest.raises(SystemScopeError, match="malformed"):
        KernelBtf(made.blob()).member("s", "m")


def test_anonymous_struct_within_itself() -> None:
    made = BlobMaker()
    made.struct("s", 4, [("", 1, 0), ("", 1, 0)])
    made.integer("wanted", 4)
    with pytest.raises(SystemScopeError, match="nested without end"):
        KernelBtf(made.blob()).member("s", "wanted")


def test_array_of_itself() -> None:
    made = BlobMaker()
    made.record("", BtfKind.ARRAY, 0, 1, 1, 0xFFFFFFFF)
    made.struct("s", 4, [("m", 1, 0)])
    with pytest.raises(SystemScopeError, match="nested without end"):
        KernelBtf(made.blob()).member("s", "m")


def test_reference_to_an_absent_type() -> None:
    made = BlobMaker()
    made.struct("s", 4, [("m", 0xFFFFFFF0, 0)])
    with pytest.raises(SystemScopeError, match="absent"):
        KernelBtf(made.blob()).member("s", "m")


def test_parameter_name_outside_the_strings() -> None:
    made = BlobMaker()
    proto = made.record("", BtfKind.FUNC_PROTO, 0, 0x7FFFFFFF, 0, vlen=1)
    made.record("f", BtfKind.FUNC, proto)
    with pytest.raises(SystemScopeError, match="outside the string section"):
        KernelBtf(made.blob()).params("f")


def test_random_damage_is_answered_or_refused() -> None:
    """Whatever bytes are damaged, there is an answer or the one error, soon."""
    whole = kernel_like().blob()
    dice = random.Random(20240)
    for _ in range(3000):
        blob = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            blob[dice.randrange(len(blob))] = dice.choice((0, 1, 0x0D, 0x7F, 0x80, 0xFF))
        try:
            types = KernelBtf(bytes(blob))
            for path in ("pid", "thread.fsbase", "high", "flag_b", "comm[3]", "matrix"):
                types.member("task_struct", path)
            types.params("finish_task_switch")
            types.params("btf_trace_sched_switch")
            types.size("task_struct")
            types.type_id("runqueues", BtfKind.VAR)
            types.enumerator("bpf_cmd", "LAST")
        except SystemScopeError as error:
            assert "malformed" in error.message
