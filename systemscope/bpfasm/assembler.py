"""The explicit level: one method an instruction, labels, functions, and a checked program.

Operands named ``operand`` are a :class:`Reg` (register form) or a plain int (immediate form).
"""

from __future__ import annotations

from typing import Union

from systemscope.bpfasm.checks import problem_of
from systemscope.bpfasm.errors import AssemblyError
from systemscope.bpfasm.flow import check_registers, drop_unreachable
from systemscope.bpfasm.insn import Insn, Link, function_address
from systemscope.bpfasm.isa import (
    MAX_ARGUMENTS,
    PSEUDO_CALL,
    PSEUDO_KFUNC_CALL,
    SIZE_OF_BYTES,
    Alu,
    Atomic,
    Class,
    Jmp,
    K,
    Mode,
    Pseudo,
    Reg,
    Size,
    X,
)
from systemscope.bpfasm.layout import lay_out
from systemscope.bpfasm.source import Location, here
from systemscope.bpfasm.types import (
    AttachType,
    MapSpec,
    MapType,
    ProgramFlag,
    ProgramSpec,
    ProgramType,
    RelocKind,
)

Operand = Union[Reg, int]


class Function:
    """Instructions of one BPF function and where its labels stand (instruction numbers)."""

    def __init__(
        self, name: str, arguments: int, callback: bool, location: Location, apart: bool = False
    ) -> None:
        if arguments > MAX_ARGUMENTS:
            problem = f"function '{name}' has {arguments} arguments, BPF passes at most 5"
            raise AssemblyError(problem, location.file, location.line)
        self.name = name
        self.arguments = arguments
        self.callback = callback
        self.apart = apart
        self.insns: list[Insn] = []
        self.labels: dict[str, int] = {}


class Assembler:
    """Collects instructions of a program, the main function first.

    ``isa`` is the highest level (1-4) an instruction may need.
    """

    def __init__(self, name: str, isa: int = 4) -> None:
        if not 1 <= isa <= 4:
            raise AssemblyError(f"ISA level {isa} does not exist (1 to 4)")
        self.name = name
        self.isa = isa
        self.functions: dict[str, Function] = {name: Function(name, 1, False, here())}
        self.current = self.functions[name]
        self._fresh = 0

    # -- emission

    def emit(self, insn: Insn) -> Insn:
        """Append ``insn``, stamped with the Python line that asked for it."""
        insn.location = here()
        problem = problem_of(insn, self.isa)
        if problem:
            raise insn.fail(problem)
        self.current.insns.append(insn)
        return insn

    def alu(self, op: Alu, dst: Reg, operand: Operand, width: int = 64) -> None:
        """``dst = dst op operand`` in ``width`` (32 or 64) bits; 32 clears the upper half."""
        kind = self._width(width, Class.ALU64, Class.ALU)
        self._with_operand(kind | op, dst, operand)

    def mov(self, dst: Reg, operand: Operand, width: int = 64) -> None:
        """``dst = operand``."""
        self.alu(Alu.MOV, dst, operand, width)

    def movsx(self, dst: Reg, src: Reg, bits: int, width: int = 64) -> None:
        """``dst`` = the low ``bits`` (8, 16, 32) of ``src``, sign-extended. v4."""
        if bits not in (8, 16, 32) or bits >= width:
            raise self.error(f"no sign-extending move of {bits} bits into {width}")
        kind = self._width(width, Class.ALU64, Class.ALU)
        self.emit(Insn(kind | Alu.MOV | X, dst, src, offset=bits))

    def signed_div(self, dst: Reg, operand: Operand, width: int = 64) -> None:
        """Signed division. v4."""
        kind = self._width(width, Class.ALU64, Class.ALU)
        self._with_operand(kind | Alu.DIV, dst, operand, offset=1)

    def signed_mod(self, dst: Reg, operand: Operand, width: int = 64) -> None:
        """Signed remainder. v4."""
        kind = self._width(width, Class.ALU64, Class.ALU)
        self._with_operand(kind | Alu.MOD, dst, operand, offset=1)

    def neg(self, dst: Reg, width: int = 64) -> None:
        """``dst = -dst``."""
        self.emit(Insn(self._width(width, Class.ALU64, Class.ALU) | Alu.NEG, dst))

    def to_le(self, dst: Reg, bits: int) -> None:
        """Host order to little endian, ``bits`` 16, 32 or 64."""
        self.emit(Insn(Class.ALU | Alu.END | K, dst, immediate=self._swap_bits(bits)))

    def to_be(self, dst: Reg, bits: int) -> None:
        """Host order to big endian."""
        self.emit(Insn(Class.ALU | Alu.END | X, dst, immediate=self._swap_bits(bits)))

    def bswap(self, dst: Reg, bits: int) -> None:
        """Swap the bytes unconditionally. v4."""
        self.emit(Insn(Class.ALU64 | Alu.END, dst, immediate=self._swap_bits(bits)))

    # -- memory

    def load(self, dst: Reg, base: Reg, offset: int, size: int, signed: bool = False) -> None:
        """``dst = *(size bytes)(base + offset)``; ``signed`` sign-extends (v4)."""
        mode = Mode.MEM
        if signed:
            if size == 8:
                raise self.error("a load of 8 bytes has nothing to sign-extend")
            mode = Mode.MEMSX
        self.emit(Insn(Class.LDX | mode | self._size(size), dst, base, offset))

    def store(self, base: Reg, offset: int, src: Reg, size: int) -> None:
        """``*(size bytes)(base + offset) = src``."""
        self.emit(Insn(Class.STX | Mode.MEM | self._size(size), base, src, offset))

    def store_imm(self, base: Reg, offset: int, value: int, size: int) -> None:
        """Store a constant; for 8 bytes the 32-bit immediate is sign-extended."""
        self.emit(Insn(Class.ST | Mode.MEM | self._size(size), base, 0, offset, value))

    def atomic(
        self, op: Atomic, base: Reg, offset: int, src: Reg, size: int, fetch: bool = False
    ) -> None:
        """Atomic ``*(base + offset) op= src``, 4 or 8 bytes; ``fetch`` leaves the old value in
        ``src``. XCHG and CMPXCHG (compares with and returns in r0) always fetch."""
        if size not in (4, 8):
            raise self.error(f"no atomic operation on {size} bytes")
        immediate = op | (Atomic.FETCH if fetch else 0)
        opcode = Class.STX | Mode.ATOMIC | self._size(size)
        self.emit(Insn(opcode, base, src, offset, immediate))

    def load_absolute(self, size: int, offset: int) -> None:
        """Legacy packet load into r0; r6 holds the skb."""
        self.emit(Insn(Class.LD | Mode.ABS | self._size(size, 4), immediate=offset))

    def load_indirect(self, size: int, src: Reg, offset: int) -> None:
        """Legacy packet load at ``src + offset`` into r0; r6 holds the skb."""
        self.emit(Insn(Class.LD | Mode.IND | self._size(size, 4), 0, src, 0, offset))

    # -- 64-bit immediates

    def load_imm64(self, dst: Reg, value: int) -> None:
        """``dst`` = a 64-bit constant (two slots)."""
        self.emit(Insn(0x18, dst, immediate=value))

    def load_map(self, dst: Reg, spec: MapSpec) -> None:
        """``dst`` = pointer to the map itself, as helpers want it."""
        self.emit(Insn(0x18, dst, Pseudo.MAP_FD, link=Link(RelocKind.MAP_FD, spec)))

    def load_map_value(self, dst: Reg, spec: MapSpec, offset: int = 0) -> None:
        """``dst`` = address of byte ``offset`` of an array map's only value."""
        if spec.type is not MapType.ARRAY or spec.max_entries != 1:
            # kernel/bpf/arraymap.c, array_map_direct_value_addr
            raise self.error(f"map '{spec.name}' is no array of one value: it has no address")
        if not 0 <= offset < spec.value_size:
            raise self.error(f"offset {offset} lies outside the value of map '{spec.name}'")
        link = Link(RelocKind.MAP_VALUE, spec, offset=offset)
        self.emit(Insn(0x18, dst, Pseudo.MAP_VALUE, link=link))

    def load_kernel_symbol(self, dst: Reg, symbol: str) -> None:
        """``dst`` = address of a kernel variable known to BTF."""
        self.emit(Insn(0x18, dst, Pseudo.BTF_ID, link=Link(RelocKind.KSYM, symbol=symbol)))

    def load_function(self, dst: Reg, name: str) -> None:
        """``dst`` = address of a BPF function of this program, for a callback."""
        self.emit(function_address(dst, name, here()))

    # -- control

    def label(self, name: str) -> None:
        """The next instruction of the current function is ``name``."""
        if name in self.current.labels:
            raise self.error(f"label '{name}' stands twice in '{self.current.name}'")
        self.current.labels[name] = len(self.current.insns)

    def fresh_label(self, hint: str) -> str:
        """A label name not used yet."""
        self._fresh += 1
        return f"{hint}_{self._fresh}"

    def jump(self, label: str, long: bool = False) -> None:
        """Go to ``label``; ``long`` uses the 32-bit displacement of v4."""
        self.emit(Insn((Class.JMP32 if long else Class.JMP) | Jmp.JA, target=label))

    def jump_if(self, op: Jmp, dst: Reg, operand: Operand, label: str, width: int = 64) -> None:
        """Go to ``label`` if ``dst op operand``, comparing ``width`` bits (32 needs v3)."""
        if op in (Jmp.JA, Jmp.CALL, Jmp.EXIT, Jmp.JCOND):
            raise self.error(f"{op.name} is not a conditional jump")
        kind = self._width(width, Class.JMP, Class.JMP32)
        self._with_operand(kind | op, dst, operand, target=label)

    def may_goto(self, label: str) -> None:
        """Go to ``label`` when the kernel's loop budget is spent (Linux 6.9)."""
        self.emit(Insn(Class.JMP | Jmp.JCOND, target=label))

    def call(self, helper: int) -> None:
        """Call a helper by number: r1-r5 in, r0 out, r1-r5 gone."""
        self.emit(Insn(Class.JMP | Jmp.CALL, immediate=int(helper)))

    def call_function(self, name: str) -> None:
        """Call a BPF function of this program."""
        self.emit(Insn(Class.JMP | Jmp.CALL, src=PSEUDO_CALL, function=name))

    def call_kfunc(self, name: str) -> None:
        """Call a kernel function by its BTF name."""
        link = Link(RelocKind.KFUNC, symbol=name)
        self.emit(Insn(Class.JMP | Jmp.CALL, src=PSEUDO_KFUNC_CALL, link=link))

    def exit(self) -> None:
        """Return r0."""
        self.emit(Insn(Class.JMP | Jmp.EXIT))

    def function(
        self, name: str, arguments: int, callback: bool = False, apart: bool = False
    ) -> Function:
        """Begin (or go on with) another function; :meth:`main` returns to the first."""
        if name not in self.functions:
            self.functions[name] = Function(name, arguments, callback, here(), apart)
        self.current = self.functions[name]
        return self.current

    def main(self) -> Function:
        """Go back to the main function."""
        self.current = self.functions[self.name]
        return self.current

    # -- the end

    def build(
        self,
        type: ProgramType,
        attach_to: str = "",
        attach_type: AttachType = AttachType.NONE,
        flags: ProgramFlag = ProgramFlag(0),
        prune: bool = False,
    ) -> ProgramSpec:
        """Check everything and lay the program out. ``prune`` drops unreachable instructions
        (kernels before 5.0 reject them)."""
        callees = {function.name: function.arguments for function in self.functions.values()}
        for one in self.functions.values():
            if prune:
                drop_unreachable(one.insns, one.labels)
            check_registers(one.name, one.insns, one.labels, one.arguments, callees)
        return lay_out(self.name, self.functions, type, attach_to, attach_type, flags, self.isa)

    def error(self, problem: str) -> AssemblyError:
        """The error to raise at the caller's line."""
        location = here()
        return AssemblyError(problem, location.file, location.line)

    # -- checks

    def _with_operand(
        self, opcode: int, dst: Reg, operand: Operand, offset: int = 0, target: str = ""
    ) -> None:
        if isinstance(operand, Reg):
            self.emit(Insn(opcode | X, dst, operand, offset, target=target))
            return
        if not -(1 << 31) <= operand < 1 << 31:
            raise self.error(f"immediate {operand:#x} does not fit in 32 signed bits")
        self.emit(Insn(opcode | K, dst, 0, offset, operand, target=target))

    def _size(self, size: int, largest: int = 8) -> Size:
        if size not in SIZE_OF_BYTES or size > largest:
            raise self.error(f"no load or store of {size} bytes")
        return SIZE_OF_BYTES[size]

    def _width(self, width: int, wide: Class, narrow: Class) -> Class:
        if width not in (32, 64):
            raise self.error(f"operations are 32 or 64 bits wide, not {width}")
        return wide if width == 64 else narrow

    def _swap_bits(self, bits: int) -> int:
        if bits not in (16, 32, 64):
            raise self.error(f"byte swaps are of 16, 32 or 64 bits, not {bits}")
        return bits
