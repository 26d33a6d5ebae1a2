"""The eBPF instruction set, versions 1 to 4, as numbers.

Source: RFC 9669 ("BPF Instruction Set Architecture") and ``include/uapi/linux/bpf.h``. Levels are
LLVM's ``-mcpu=v1..v4``: which kernel takes which is probed elsewhere.
"""

from __future__ import annotations

from enum import IntEnum

MAX_STACK = 512
MAX_ARGUMENTS = 5
SLOT = 8  # bytes of one instruction; a 64-bit immediate load takes two


class Reg(IntEnum):
    """r0 is the result, r1-r5 arguments, r6-r9 survive calls, r10 the frame pointer."""

    R0 = 0
    R1 = 1
    R2 = 2
    R3 = 3
    R4 = 4
    R5 = 5
    R6 = 6
    R7 = 7
    R8 = 8
    R9 = 9
    R10 = 10


R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = Reg


class Class(IntEnum):
    """Low three bits of an opcode."""

    LD = 0
    LDX = 1
    ST = 2
    STX = 3
    ALU = 4
    JMP = 5
    JMP32 = 6
    ALU64 = 7


#: The class of an opcode by its low three bits: a look-up is several times faster than a call.
CLASSES = tuple(Class)


class Size(IntEnum):
    """Bits 3-4 of a load or store; ``bytes_of`` turns a byte count into one."""

    W = 0x00
    H = 0x08
    B = 0x10
    DW = 0x18


SIZE_OF_BYTES = {1: Size.B, 2: Size.H, 4: Size.W, 8: Size.DW}
BYTES_OF_SIZE = {size: count for count, size in SIZE_OF_BYTES.items()}


class Mode(IntEnum):
    """Top three bits of a load or store."""

    IMM = 0x00
    ABS = 0x20
    IND = 0x40
    MEM = 0x60
    MEMSX = 0x80
    ATOMIC = 0xC0


class Alu(IntEnum):
    """Top four bits of an arithmetic opcode. SDIV, SMOD are DIV, MOD with offset 1 (v4)."""

    ADD = 0x00
    SUB = 0x10
    MUL = 0x20
    DIV = 0x30
    OR = 0x40
    AND = 0x50
    LSH = 0x60
    RSH = 0x70
    NEG = 0x80
    MOD = 0x90
    XOR = 0xA0
    MOV = 0xB0
    ARSH = 0xC0
    END = 0xD0


class Jmp(IntEnum):
    """Top four bits of a jump opcode."""

    JA = 0x00
    JEQ = 0x10
    JGT = 0x20
    JGE = 0x30
    JSET = 0x40
    JNE = 0x50
    JSGT = 0x60
    JSGE = 0x70
    CALL = 0x80
    EXIT = 0x90
    JLT = 0xA0
    JLE = 0xB0
    JSLT = 0xC0
    JSLE = 0xD0
    JCOND = 0xE0


#: The jump taken exactly when the key is not. JSET has no inverse.
INVERSE = {
    Jmp.JEQ: Jmp.JNE,
    Jmp.JNE: Jmp.JEQ,
    Jmp.JGT: Jmp.JLE,
    Jmp.JLE: Jmp.JGT,
    Jmp.JGE: Jmp.JLT,
    Jmp.JLT: Jmp.JGE,
    Jmp.JSGT: Jmp.JSLE,
    Jmp.JSLE: Jmp.JSGT,
    Jmp.JSGE: Jmp.JSLT,
    Jmp.JSLT: Jmp.JSGE,
}
V2_JUMPS = frozenset({Jmp.JLT, Jmp.JLE, Jmp.JSLT, Jmp.JSLE})

K = 0x00  # the operand is the immediate
X = 0x08  # the operand is a register


class Atomic(IntEnum):
    """Immediate of an atomic operation."""

    ADD = 0x00
    OR = 0x40
    AND = 0x50
    XOR = 0xA0
    FETCH = 0x01
    XCHG = 0xE1
    CMPXCHG = 0xF1


class Pseudo(IntEnum):
    """Source register of a 64-bit immediate load, or of a call."""

    NONE = 0
    MAP_FD = 1
    MAP_VALUE = 2
    BTF_ID = 3
    FUNC = 4


PSEUDO_CALL = 1
PSEUDO_KFUNC_CALL = 2


def level_of(opcode: int, offset: int, immediate: int) -> int:
    """The lowest ISA level (1-4) that has this instruction."""
    kind, high = CLASSES[opcode & 7], opcode & 0xF0
    if kind is Class.JMP32:
        return 4 if high == Jmp.JA else 3
    if kind is Class.JMP:
        if high == Jmp.JCOND:
            return 4
        return 2 if high in V2_JUMPS else 1
    if kind in (Class.ALU, Class.ALU64):
        sign_extends = high in (Alu.DIV, Alu.MOD, Alu.MOV) and offset != 0
        swaps = high == Alu.END and kind is Class.ALU64
        return 4 if sign_extends or swaps else 1
    if kind is Class.LDX and opcode & 0xE0 == Mode.MEMSX:
        return 4
    if kind is Class.STX and opcode & 0xE0 == Mode.ATOMIC:
        return 1 if immediate == Atomic.ADD else 3
    return 1
