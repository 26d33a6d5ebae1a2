"""What can be said against one instruction by itself, before control flow is known."""

from __future__ import annotations

from systemscope.bpfasm.insn import Insn
from systemscope.bpfasm.isa import BYTES_OF_SIZE, CLASSES, MAX_STACK, Alu, Class, Mode, level_of

_BYTES = {int(size): count for size, count in BYTES_OF_SIZE.items()}
_SHIFTS = frozenset({Alu.LSH, Alu.RSH, Alu.ARSH})


def problem_of(insn: Insn, isa: int) -> str:
    """Why ``insn`` cannot be in a program of ISA level ``isa``; empty when nothing is wrong."""
    for register in (insn.dst, insn.src):
        if not 0 <= register <= 10:
            return f"there is no register r{register}"
    needed = level_of(insn.opcode, insn.offset, insn.immediate)
    if needed > isa:
        return f"the instruction needs ISA v{needed}, the program is for v{isa}"
    if 10 in insn.writes():
        return "r10, the frame pointer, cannot be written"
    kind = CLASSES[insn.opcode & 7]
    if kind in (Class.ALU, Class.ALU64):
        return _arithmetic(insn, 64 if kind is Class.ALU64 else 32)
    if kind in (Class.LDX, Class.ST, Class.STX):
        return _memory(insn, kind)
    return ""


def _arithmetic(insn: Insn, width: int) -> str:
    high, value = insn.opcode & 0xF0, insn.immediate
    if insn.opcode & 8 or high == Alu.END:
        return ""
    if high in _SHIFTS and not 0 <= value < width:
        return f"shift by {value} in {width} bits"
    if high in (Alu.DIV, Alu.MOD) and value == 0:
        return "division by zero"
    return ""


def _memory(insn: Insn, kind: Class) -> str:
    size = _BYTES[insn.opcode & 0x18]
    base = insn.src if kind is Class.LDX else insn.dst
    offset, value = insn.offset, insn.immediate
    if base == 10 and not (-MAX_STACK <= offset and offset + size <= 0):
        return f"{size} bytes at r10{offset:+d} lie outside the 512-byte stack"
    stores = insn.opcode & 0xE7 == Mode.MEM | Class.ST
    if stores and size < 4 and not -(1 << 8 * size - 1) <= value < 1 << 8 * size:
        return f"{value:#x} does not fit in {size} bytes"
    return ""
