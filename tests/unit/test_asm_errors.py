"""What cannot be assembled is refused at the line that asks for it: this file's lines."""

from __future__ import annotations

import inspect
import re
from typing import Callable, Optional

import pytest

from systemscope.bpfasm.assembler import Assembler
from systemscope.bpfasm.errors import AssemblyError
from systemscope.bpfasm.insn import Insn
from systemscope.bpfasm.isa import R0, R1, R2, R3, R6, R9, R10, Alu, Atomic, Class, Jmp, Reg
from systemscope.bpfasm.types import MapSpec, MapType, ProgramSpec, ProgramType

ARRAY = MapSpec("values", MapType.ARRAY, 4, 16, 1)
MANY = MapSpec("many", MapType.ARRAY, 4, 16, 2)


def _build(asm: Assembler, prune: bool = False) -> ProgramSpec:
    return asm.build(ProgramType.SOCKET_FILTER, prune=prune)


def _refused(
    emit: Callable[[Assembler], object],
    problem: str,
    *,
    isa: int = 4,
    line: Optional[int] = None,
    prune: bool = False,
) -> None:
    """``emit``, then ``exit``, then building raises ``problem`` at ``line`` of this file: by
    default the lambda's own."""
    asm = Assembler("refused", isa)
    with pytest.raises(AssemblyError) as caught:
        emit(asm)
        asm.mov(R0, 0)
        asm.exit()
        _build(asm, prune)
    error = caught.value
    assert re.search(problem, error.problem), error.problem
    first = inspect.getsourcelines(emit)[1]
    assert error.file.endswith("test_asm_errors.py")
    assert error.line == (first if line is None else first + line)
    assert error.message == f"{error.file}:{error.line}: {error.problem}"


REFUSED = {
    "offset above": (lambda a: a.load(R0, R1, 32768, 8), "offset 32768 does not fit in 16 bits"),
    "offset below": (lambda a: a.store(R1, -32769, R1, 8), "offset -32769 does not fit"),
    "immediate above": (lambda a: a.mov(R0, 1 << 31), "0x80000000 does not fit in 32 signed"),
    "immediate below": (lambda a: a.alu(Alu.ADD, R1, -(1 << 31) - 1), "does not fit in 32 signed"),
    "32-bit immediate": (lambda a: a.mov(R0, 0xFFFFFFFF, 32), "does not fit in 32 signed bits"),
    "jump immediate": (lambda a: a.jump_if(Jmp.JGT, R1, 1 << 32, "x"), "does not fit in 32"),
    "stored immediate": (lambda a: a.store_imm(R10, -8, 1 << 31, 8), "does not fit in 32 signed"),
    "stored half word": (lambda a: a.store_imm(R10, -8, 0x10000, 2), "not fit in 2 bytes"),
    "stored byte": (lambda a: a.store_imm(R10, -1, -129, 1), "-0x81 does not fit in 1 bytes"),
    "64-bit immediate": (lambda a: a.load_imm64(R0, 1 << 64), "does not fit in 64 bits"),
    "unset register": (lambda a: a.mov(R0, R3), "r3 is read before it is set"),
    "unset destination": (lambda a: a.alu(Alu.ADD, R3, 1), "r3 is read before it is set"),
    "unset base": (lambda a: a.load(R0, R6, 0, 8), "r6 is read before it is set"),
    "unset stored": (lambda a: a.store(R10, -8, R9, 8), "r9 is read before it is set"),
    "unset operand": (lambda a: a.jump_if(Jmp.JEQ, R1, R2, "x"), "label 'x' is nowhere|r2 is"),
    "unset skb": (lambda a: a.load_absolute(4, 0), "r6 is read before it is set"),
    "unset comparand": (
        lambda a: a.atomic(Atomic.CMPXCHG, R10, -8, R1, 8),
        "r0 is read before it is set",
    ),
    "stack below": (lambda a: a.store_imm(R10, -520, 0, 8), "8 bytes at r10-520 lie outside"),
    "stack above": (lambda a: a.load(R0, R10, -4, 8), "8 bytes at r10-4 lie outside the 512-byte"),
    "stack at 0": (lambda a: a.atomic(Atomic.ADD, R10, 0, R1, 4), r"4 bytes at r10\+0 lie outside"),
    "level 2": (lambda a: a.jump_if(Jmp.JLT, R1, 3, "x"), "needs ISA v2, the program is for v1"),
    "level 3": (lambda a: a.jump_if(Jmp.JEQ, R1, 3, "x", 32), "needs ISA v3, .* for v1"),
    "level 3 atomic": (
        lambda a: a.atomic(Atomic.ADD, R10, -8, R1, 8, fetch=True),
        "needs ISA v3, .* for v1",
    ),
    "level 4": (lambda a: a.movsx(R0, R1, 8), "needs ISA v4, the program is for v1"),
    "level 4 load": (lambda a: a.load(R0, R1, 0, 4, signed=True), "needs ISA v4"),
    "level 4 jump": (lambda a: a.jump("x", long=True), "needs ISA v4"),
    "unknown label": (lambda a: a.jump("nowhere"), "label 'nowhere' is nowhere in the function"),
    "unknown function": (lambda a: a.load_function(R1, "f"), "there is no BPF function 'f'"),
    "r10 written": (lambda a: a.mov(R10, R1), "r10, the frame pointer, cannot be written"),
    "r10 loaded": (lambda a: a.load_imm64(R10, 1), "r10, the frame pointer"),
    "r10 fetched": (
        lambda a: a.atomic(Atomic.XCHG, R1, 0, R10, 8),
        "r10, the frame pointer|needs ISA v3",
    ),
    "division by zero": (lambda a: a.alu(Alu.DIV, R1, 0), "division by zero"),
    "modulo zero": (lambda a: a.alu(Alu.MOD, R1, 0, 32), "division by zero"),
    "shift by 64": (lambda a: a.alu(Alu.LSH, R1, 64), "shift by 64 in 64 bits"),
    "shift by 32": (lambda a: a.alu(Alu.ARSH, R1, 32, 32), "shift by 32 in 32 bits"),
    "shift back": (lambda a: a.alu(Alu.RSH, R1, -1), "shift by -1 in 64 bits"),
    "3 bytes": (lambda a: a.load(R0, R1, 0, 3), "no load or store of 3 bytes"),
    "8 packet bytes": (lambda a: a.load_absolute(8, 0), "no load or store of 8 bytes"),
    "2-byte atomic": (lambda a: a.atomic(Atomic.ADD, R1, 0, R1, 2), "no atomic operation on 2"),
    "sign of 8 bytes": (lambda a: a.load(R0, R1, 0, 8, signed=True), "nothing to sign-extend"),
    "wide extension": (lambda a: a.movsx(R0, R1, 32, 32), "no sign-extending move of 32 bits"),
    "swap of 8": (lambda a: a.to_be(R1, 8), "byte swaps are of 16, 32 or 64 bits, not 8"),
    "width": (lambda a: a.mov(R0, R1, 16), "operations are 32 or 64 bits wide, not 16"),
    "no condition": (lambda a: a.jump_if(Jmp.CALL, R1, 1, "x"), "CALL is not a conditional jump"),
    "no register": (lambda a: a.emit(Insn(Class.ALU64, 11)), "there is no register r11"),
    "6 arguments": (lambda a: a.function("f", 6), "6 arguments, BPF passes at most 5"),
    "outside values": (lambda a: a.load_map_value(R1, ARRAY, 16), "16 lies outside the value of"),
    "no address": (lambda a: a.load_map_value(R1, MANY), "map 'many' is no array of one value"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    emit, problem = REFUSED[name]
    line = 0 if "lambda" in inspect.getsource(emit).splitlines()[0] else 1
    _refused(emit, problem, isa=1 if "level" in problem or "ISA" in problem else 4, line=line)


@pytest.mark.parametrize("isa", [0, 5])
def test_no_such_level(isa: int) -> None:
    with pytest.raises(AssemblyError, match=f"ISA level {isa} does not exist"):
        Assembler("x", isa)


@pytest.mark.parametrize("op", ["signed_div", "signed_mod"])
def test_signed_division_by_zero(op: str) -> None:
    _refused(lambda a: getattr(a, op)(R1, 0), "division by zero")


def test_duplicate_label() -> None:
    def emit(a: Assembler) -> None:
        a.label("twice")
        a.mov(R0, 0)
        a.label("twice")

    _refused(emit, "label 'twice' stands twice in 'refused'", line=3)


def test_a_label_of_another_function_is_unknown() -> None:
    def emit(a: Assembler) -> None:
        a.label("here")
        a.mov(R0, 0)
        a.exit()
        a.function("other", 0)
        a.jump("here")

    _refused(emit, "label 'here' is nowhere", line=5)


def test_control_falls_off_the_end() -> None:
    asm = Assembler("falls")
    asm.mov(R0, 0)
    last = inspect.currentframe().f_lineno - 1  # type: ignore[union-attr]
    with pytest.raises(AssemblyError, match="control falls off the end of function 'falls'") as it:
        _build(asm)
    assert it.value.line == last


def test_a_label_at_the_end_falls_off_it() -> None:
    asm = Assembler("falls")
    asm.jump_if(Jmp.JEQ, R1, 0, "end")
    asm.mov(R0, 0)
    asm.exit()
    asm.label("end")
    with pytest.raises(AssemblyError, match="control falls off the end"):
        _build(asm)


def test_no_instructions() -> None:
    with pytest.raises(AssemblyError, match="function 'empty' has no instructions"):
        _build(Assembler("empty"))


def test_a_call_takes_the_argument_registers() -> None:
    _refused(lambda a: (a.call(5), a.mov(R0, R1)), "r1 is read before it is set")
    _refused(
        lambda a: (a.mov(R6, R1), a.load_absolute(4, 0), a.mov(R0, R1)),
        "r1 is read before it is set",
    )


def test_a_function_is_called_with_all_its_arguments() -> None:
    def emit(a: Assembler) -> None:
        a.function("adds", 2)
        a.mov(R0, R1)
        a.alu(Alu.ADD, R0, R2)
        a.exit()
        a.main()
        a.call_function("adds")

    _refused(emit, "r2 is read before it is set", line=6)


def test_a_register_set_on_one_path_only() -> None:
    def emit(a: Assembler) -> None:
        a.jump_if(Jmp.JEQ, R1, 0, "past")
        a.mov(R2, 1)
        a.label("past")
        a.mov(R0, R2)

    _refused(emit, "r2 is read before it is set", line=4)


def test_a_register_set_on_both_paths() -> None:
    asm = Assembler("both")
    asm.jump_if(Jmp.JEQ, R1, 0, "zero")
    asm.mov(R0, 1)
    asm.jump("past")
    asm.label("zero")
    asm.mov(R0, 2)
    asm.label("past")
    asm.exit()
    assert _build(asm).slots == 5


def test_a_loop_keeps_what_is_set_before_it() -> None:
    asm = Assembler("loop")
    asm.mov(R6, 10)
    asm.label("top")
    asm.alu(Alu.SUB, R6, 1)
    asm.jump_if(Jmp.JNE, R6, 0, "top")
    asm.mov(R0, R6)
    asm.exit()
    assert _build(asm).slots == 5


@pytest.mark.parametrize(("count", "fits"), [(32767, True), (32768, False)])
def test_how_far_a_jump_reaches(count: int, fits: bool) -> None:
    asm = Assembler("far")
    asm.mov(R0, 0)
    asm.jump("end")
    jump_line = inspect.currentframe().f_lineno - 1  # type: ignore[union-attr]
    for _ in range(count):
        asm.mov(R0, 0)
    asm.label("end")
    asm.exit()
    if fits:
        assert _build(asm).code[10:12] == (32767).to_bytes(2, "little")
        return
    with pytest.raises(AssemblyError, match="32768 slots away: 16 bits reach 32767") as caught:
        _build(asm)
    assert caught.value.line == jump_line


def test_a_long_jump_reaches_further() -> None:
    asm = Assembler("far")
    asm.mov(R0, 0)
    asm.jump("end", long=True)
    for _ in range(40000):
        asm.mov(R0, 0)
    asm.label("end")
    asm.exit()
    assert int.from_bytes(_build(asm).code[12:16], "little") == 40000


def test_pruning_drops_what_is_never_reached() -> None:
    asm = Assembler("pruned")
    asm.mov(R0, 0)
    asm.jump("end")
    asm.mov(R0, Reg.R7)  # never runs: not even checked
    asm.label("end")
    asm.exit()
    spec = asm.build(ProgramType.SOCKET_FILTER, prune=True)
    assert spec.code.hex() == "b700000000000000" + "9500000000000000"
    assert [line.index for line in spec.lines] == [0, 1]


def test_lines_name_the_python_source() -> None:
    asm = Assembler("lines")
    asm.mov(R0, 7)
    here = inspect.currentframe().f_lineno - 1  # type: ignore[union-attr]
    asm.exit()
    spec = _build(asm)
    assert [(line.index, line.line, line.text) for line in spec.lines] == [
        (0, here, "asm.mov(R0, 7)"),
        (1, here + 2, "asm.exit()"),
    ]
    assert spec.lines[0].file.endswith("tests/unit/test_asm_errors.py")


def test_building_twice_gives_the_same() -> None:
    def make() -> ProgramSpec:
        asm = Assembler("same")
        asm.load_map(R1, ARRAY)
        asm.load_map_value(R2, ARRAY, 8)
        asm.mov(R0, 0)
        asm.exit()
        return _build(asm)

    first, second = make(), make()
    assert first == second
    assert first.maps == (ARRAY,)
    assert [reloc.index for reloc in first.relocs] == [0, 2]
