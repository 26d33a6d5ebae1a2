"""The listing reads like the verifier's text and assembles back to what it lists."""

from __future__ import annotations

import random
from typing import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from systemscope.bpfasm.assembler import Assembler
from systemscope.bpfasm.errors import AssemblyError
from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.isa import R0, R1, R2, R3, R4, R6, R10, Alu, Atomic, Jmp
from systemscope.bpfasm.lexer import ParseError
from systemscope.bpfasm.listing import decode, instructions, listing
from systemscope.bpfasm.parser import parse
from systemscope.bpfasm.types import (
    AttachType,
    MapFlag,
    MapSpec,
    MapType,
    ProgramFlag,
    ProgramSpec,
    ProgramType,
    Reloc,
    Subprogram,
)
from tests.unit.asm_random import random_code

COUNTS = MapSpec("counts", MapType.HASH, 16, 8, 1024, MapFlag.NO_PREALLOC)
SAME_NAME = MapSpec("counts", MapType.ARRAY, 4, 128, 1, MapFlag.MMAPABLE)


def sample() -> ProgramSpec:
    """A program with everything a listing shows."""
    asm = Assembler("sample")
    asm.mov(R6, R1)
    asm.load_map(R1, COUNTS)
    asm.mov(R2, R10)
    asm.alu(Alu.ADD, R2, -16)
    asm.store_imm(R10, -16, 0, 8)
    asm.store_imm(R10, -8, 0, 8)
    asm.call(Helper.map_lookup_elem)
    asm.jump_if(Jmp.JNE, R0, 0, "found")
    asm.load_map_value(R0, SAME_NAME, 64)
    asm.label("found")
    asm.mov(R1, 1)
    asm.atomic(Atomic.ADD, R0, 0, R1, 8)
    asm.load_imm64(R3, 0x123456789ABCDEF0)
    asm.load_kernel_symbol(R4, "runqueues")
    asm.mov(R1, 8)
    asm.load_function(R2, "step")
    asm.mov(R3, R6)
    asm.mov(R4, 0)
    asm.call(Helper.loop)
    asm.mov(R1, R0)
    asm.call_function("twice")
    asm.call_kfunc("bpf_rcu_read_lock")
    asm.mov(R0, 0)
    asm.exit()
    asm.function("step", 2, callback=True)
    asm.label("again")
    asm.mov(R0, 0)
    asm.jump_if(Jmp.JSGT, R1, -5, "again", 32)
    asm.exit()
    asm.function("twice", 1)
    asm.mov(R0, R1, 32)
    asm.alu(Alu.LSH, R0, 1)
    asm.exit()
    return asm.build(
        ProgramType.TRACING, "sched_switch", AttachType.TRACE_RAW_TP, ProgramFlag.SLEEPABLE
    )


SAMPLE = """\
.program sample type=TRACING isa=4 attach_type=TRACE_RAW_TP attach_to=sched_switch flags=0x10 \
license="Dual MIT/GPL"
.map counts type=HASH key=16 value=8 entries=1024 flags=0x1
.map counts.2 type=ARRAY key=4 value=128 entries=1 flags=0x400 name=counts

.function sample arguments=1
    0: r6 = r1
    1: r1 = map[counts]
    3: r2 = r10
    4: r2 += -16
    5: *(u64 *)(r10 -16) = 0
    6: *(u64 *)(r10 -8) = 0
    7: call map_lookup_elem#1
    8: if r0 != 0x0 goto L1
    9: r0 = map[counts.2].value+64
L1:
   11: r1 = 1
   12: lock *(u64 *)(r0 +0) += r1
   13: r3 = 0x123456789abcdef0 ll
   15: r4 = ksym runqueues
   17: r1 = 8
   18: r2 = func step
   20: r3 = r6
   21: r4 = 0
   22: call loop#181
   23: r1 = r0
   24: call twice
   25: call kfunc bpf_rcu_read_lock
   26: r0 = 0
   27: exit

.function step arguments=2 callback
L2:
   28: r0 = 0
   29: if w1 s> -0x5 goto L2
   30: exit

.function twice arguments=1
   31: w0 = w1
   32: r0 <<= 1
   33: exit
"""


def _comparable(spec: ProgramSpec) -> tuple[object, ...]:
    """Everything but the source lines; maps by what they are."""
    maps = {one: (one.name, one.type, one.key_size, one.value_size) for one in spec.maps}
    relocs = [(r.index, r.kind, r.symbol, r.offset, r.map and maps[r.map]) for r in spec.relocs]
    shape = (spec.name, spec.type, spec.isa, spec.attach_to, spec.attach_type, spec.flags)
    sizes = [(*maps[one], one.max_entries, one.flags) for one in spec.maps]
    return (*shape, spec.license, spec.code.hex(), relocs, spec.subprograms, sizes)


def test_how_it_reads() -> None:
    assert listing(sample(), slots=True) == SAMPLE


@pytest.mark.parametrize("slots", [False, True])
@pytest.mark.parametrize("source", [False, True])
def test_it_reads_back(slots: bool, source: bool) -> None:
    spec = sample()
    text = listing(spec, slots=slots, source=source)
    again = parse(text)
    assert _comparable(again) == _comparable(spec)
    assert listing(again, slots=slots) == listing(spec, slots=slots)


def test_source_lines_stand_once_before_their_instructions() -> None:
    lines = listing(sample(), source=True).splitlines()
    at = lines.index("    *(u64 *)(r10 -16) = 0")
    assert lines[at - 1].startswith("; ")
    assert lines[at - 1].endswith("  asm.store_imm(R10, -16, 0, 8)")
    assert "test_asm_listing.py:" in lines[at - 1]
    comments = [line for line in lines if line.startswith(";")]
    assert len(comments) == len(set(comments)) == len(instructions(sample()))


def test_parsed_lines_are_the_listings() -> None:
    spec = parse("r0 = 0\n\nexit\n", "some.asm")
    assert [(line.index, line.file, line.line) for line in spec.lines] == [
        (0, "some.asm", 1),
        (1, "some.asm", 3),
    ]


def test_maps_given_are_used() -> None:
    text = ".map counts type=HASH key=16 value=8 entries=1\nr1 = map[counts]\nr0 = 0\nexit\n"
    spec = parse(text, maps={"counts": COUNTS})
    assert spec.maps == (COUNTS,)
    assert spec.relocs[0].map is COUNTS


@pytest.mark.parametrize("name", ["if", "r1", "w10", "two words", 'quo"te', "pc", "ä", "", "1x"])
def test_names_that_need_quotes(name: str) -> None:
    spec = ProgramSpec(
        name,
        ProgramType.KPROBE,
        bytes.fromhex("8510000000000000" + "b700000000000000" + "9500000000000000"),
        subprograms=(Subprogram(0, "main", 1), Subprogram(1, name or "f", 0)),
        attach_to=name,
        license=name,
    )
    again = parse(listing(spec), check=False)
    assert _comparable(again) == _comparable(spec)


def test_helpers_of_the_kernels_and_our_names() -> None:
    code = parse("call ktime_get_ns#5\nr0 = 0\nexit").code
    assert parse("call bpf_ktime_get_ns#5\nr0 = 0\nexit").code == code
    assert parse("call helper#5\nr0 = 0\nexit").code == code
    assert instructions(parse("call helper#9999", check=False)) == [(0, "call helper#9999")]


def test_what_is_no_instruction_is_raw() -> None:
    for code in ("b710000001000000", "8d00000000000000", "1800000001000000", "ffffffffffffffff"):
        spec = ProgramSpec("raw", ProgramType.SOCKET_FILTER, bytes.fromhex(code))
        assert instructions(spec) == [(0, f".raw {code}")]
        assert parse(listing(spec), check=False).code.hex() == code
    with pytest.raises(ValueError, match="12 bytes"):
        list(decode(bytes(12)))


def _round_trip(code: bytes, functions: tuple[Subprogram, ...]) -> str:
    spec = ProgramSpec("random", ProgramType.KPROBE, code, subprograms=functions)
    text = listing(spec)
    again = parse(text, check=False)
    assert again.code.hex() == code.hex()
    assert again.subprograms == functions
    assert listing(again) == text
    return text


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.lists(st.integers(0, 40), max_size=3))
def test_random_instructions_read_back(seed: int, count: int, cuts: list[int]) -> None:
    code = random_code(random.Random(seed), count)
    starts = sorted({0, *cuts} & {slot for slot, _ in decode(code)})
    functions = tuple(Subprogram(at, f"f{at}", at % 6, bool(at & 1)) for at in starts)
    assert ".raw" not in _round_trip(code, functions)


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=8, max_size=160))
def test_any_bytes_read_back(data: bytes) -> None:
    _round_trip(data[: len(data) // 8 * 8], ())


def test_relocations_without_subprograms() -> None:
    map_fd = Reloc(0, kind=sample().relocs[0].kind, map=COUNTS)
    code = bytes.fromhex("18110000000000000000000000000000")
    spec = ProgramSpec("bare", ProgramType.KPROBE, code, relocs=(map_fd,))
    again = parse(listing(spec), check=False)
    assert (again.relocs[0].index, again.maps[0].name) == (0, "counts")


WRONG: list[tuple[str, int, int, str]] = [
    # text, line, column, what is said
    ("r0 = 0\nexit now", 2, 6, "expected the end of the line, found 'now'"),
    ("frobnicate r0", 1, 1, "expected an instruction, label or directive, found 'frobnicate'"),
    ("r0 = @", 1, 6, "expected an instruction, label or directive, found '@'"),
    ("r0 =", 1, 5, "found the end of the line"),
    ("r11 = 0", 1, 1, "there is no register r11"),
    ("r0 + r1", 1, 4, "expected '=', '+=' or another assignment, found '+'"),
    ("r0 += w1", 1, 7, "expected a register of 64 bits (r1)"),
    ("w0 = r1", 1, 6, "expected a register of 32 bits (w1)"),
    ("w0 = *(u32 *)(r1 +0)", 1, 6, "only r0 takes anything else"),
    ("r1 = -r2", 1, 7, "expected the same register on both sides"),
    ("r1 = be16 r2", 1, 11, "expected the same register on both sides"),
    ("r1 = be24 r1", 1, 6, "found 'be24'"),
    ("r1 = (u8)r2", 1, 7, "expected one of s8, s16, s32, found 'u8'"),
    ("w1 = (s32)w2", 1, 7, "expected one of s8, s16, found 's32'"),
    ("r1 = *(u24 *)(r2 +0)", 1, 8, "expected one of u8, u16, u32, u64, s8, s16, s32"),
    ("r1 = *(u8 *)(r2 0)", 1, 17, "expected '+' or '-', found '0'"),
    ("r1 = *(u8 *)(r2 +32768)", 1, 17, "offset 32768 does not fit in 16 bits"),
    ("r1 = *(u8 *)(w2 +0)", 1, 14, "expected a register of 64 bits (r2)"),
    ("*(s8 *)(r1 +0) = r2", 1, 3, "expected one of u8, u16, u32, u64, found 's8'"),
    ("*(u8 *)(r1 +0) = w2", 1, 18, "expected a register of 64 bits (r2)"),
    ("r0 = 0x80000000", 1, 6, "immediate 0x80000000 does not fit in 32 signed bits"),
    ("r0 = 0x10000000000000000 ll", 1, 6, "does not fit in 64 bits"),
    ("r0 = 12ab", 1, 6, "found '1'"),
    ("w0 = 5 ll", 1, 8, "w registers take 32 bits"),
    ("r1 = *(u32 *)skb[0]", 1, 14, "packet loads are of u8, u16 or u32 into r0"),
    ("lock *(u16 *)(r1 +0) += r2", 1, 8, "expected one of u32, u64, found 'u16'"),
    ("lock *(u64 *)(r1 +0) -= r2", 1, 22, "expected one of +=, |=, &=, ^=, found '-='"),
    ("r3 = atomic64_fetch_add((u64 *)(r1 +0), r2)", 1, 41, "register that takes the result"),
    ("r2 = atomic64_fetch_sub((u64 *)(r1 +0), r2)", 1, 6, "after atomic, found 'fetch_sub'"),
    ("r2 = atomic_fetch_add((u64 *)(r1 +0), r2)", 1, 24, "expected one of u32, found 'u64'"),
    ("r1 = atomic64_cmpxchg((u64 *)(r2 +0), r0, r3)", 1, 6, "cmpxchg compares with r0"),
    ("if r1 = 0 goto L1", 1, 7, "expected one of == > >="),
    ("if r1 == 0 exit", 1, 12, "expected 'goto', found 'exit'"),
    ("goto pc+40000", 1, 6, "a jump of 40000 slots does not fit in 16 bits"),
    ("goto", 1, 5, "expected a label, or pc+N, found the end of the line"),
    ("goto r1", 1, 6, "expected a label, or pc+N, found 'r1'"),
    ("call ktime_get_ns#6", 1, 6, "helper 'ktime_get_ns' is number 5, not 6"),
    ("call no_such_helper#6", 1, 6, "helper 'no_such_helper' is unknown"),
    ("r1 = map[nothing]", 1, 10, "there is no map 'nothing' (known: none is declared)"),
    ("top:\ntop: exit", 2, 1, "label 'top' stands twice in the function"),
    (".raw 12", 1, 6, "expected 16 hex digits, found '12'"),
    (".section text", 1, 2, "expected one of .program, .map, .function, .raw"),
    (".program p type=TRACE", 1, 17, "expected one of SOCKET_FILTER, KPROBE"),
    (".program p isa=5", 1, 16, "ISA level 5 does not exist"),
    (".program p isa=four", 1, 16, "expected a number for isa=, found 'four'"),
    (".program p flags=1 flags=2", 1, 20, "found 'flags='"),
    (".map m type=HASH key=4 value=4", 1, 31, "expected entries=, found the end of the line"),
    (".map m type=HASH key=4 value=4 entries=1 x", 1, 42, "expected the end of the line"),
    (".function f\nexit\n.function f", 3, 11, "function 'f' stands twice"),
    ('call "\\x"', 1, 6, "is no JSON string"),
]


@pytest.mark.parametrize(("text", "line", "column", "problem"), WRONG, ids=[w[0] for w in WRONG])
def test_what_cannot_be_read_says_where(text: str, line: int, column: int, problem: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(text, "wrong.asm")
    error = caught.value
    assert problem in error.problem
    assert (error.line, error.column) == (line, column), error.message
    assert error.message.startswith(f"wrong.asm:{line}:{column}: ")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("r0 = r5\nexit", "x.asm:1: r5 is read before it is set"),
        ("r0 = 0\nr0 /= 0\nexit", "x.asm:2: division by zero"),
        ("r0 = 0\n*(u64 *)(r10 +0) = r0\nexit", "x.asm:2: 8 bytes at r10+0 lie outside"),
        ("r10 = 0\nexit", "x.asm:1: r10, the frame pointer, cannot be written"),
        ("goto nowhere", "x.asm:1: label 'nowhere' is nowhere in the function"),
        ("r0 = 0", "x.asm:1: control falls off the end of function 'program'"),
        ("r0 = 0\ncall other\nexit", "x.asm:2: there is no BPF function 'other'"),
        (".function f arguments=6\nexit", "x.asm:1: function 'f' has 6 arguments"),
        (".program p isa=1\nr0 = (s8)r1\nexit", "x.asm:2: the instruction needs ISA v4"),
    ],
)
def test_what_is_wrong_in_itself_says_the_line(text: str, problem: str) -> None:
    with pytest.raises(AssemblyError) as caught:
        parse(text, "x.asm")
    assert caught.value.message.startswith(problem)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='rw015-+=*&|^<>s()[]{} :.#,;"ulgotexicamp\n', max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    _read_or_refuse(lambda: parse(text))
    _read_or_refuse(lambda: parse(text, check=False))


def _read_or_refuse(action: Callable[[], object]) -> None:
    try:
        action()
    except AssemblyError as error:
        assert error.line >= 0
