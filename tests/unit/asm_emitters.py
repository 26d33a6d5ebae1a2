"""How the explicit level emits each encoding of the corpus: text -> a call on the assembler."""

from __future__ import annotations

from typing import Callable

from systemscope.bpfasm.assembler import Assembler
from systemscope.bpfasm.insn import Insn
from systemscope.bpfasm.isa import R0, R1, R2, R3, R4, R5, R6, R10, Alu, Atomic, Class, Jmp

Emit = Callable[[Assembler], object]

_ALU = {
    "+=": Alu.ADD,
    "-=": Alu.SUB,
    "*=": Alu.MUL,
    "/=": Alu.DIV,
    "|=": Alu.OR,
    "&=": Alu.AND,
    "<<=": Alu.LSH,
    ">>=": Alu.RSH,
    "%=": Alu.MOD,
    "^=": Alu.XOR,
    "=": Alu.MOV,
    "s>>=": Alu.ARSH,
}
_JUMPS = {
    "==": Jmp.JEQ,
    ">": Jmp.JGT,
    ">=": Jmp.JGE,
    "&": Jmp.JSET,
    "!=": Jmp.JNE,
    "s>": Jmp.JSGT,
    "s>=": Jmp.JSGE,
    "<": Jmp.JLT,
    "<=": Jmp.JLE,
    "s<": Jmp.JSLT,
    "s<=": Jmp.JSLE,
}
_ATOMICS = {"add": Atomic.ADD, "or": Atomic.OR, "and": Atomic.AND, "xor": Atomic.XOR}
_LOCKS = {"+=": Atomic.ADD, "|=": Atomic.OR, "&=": Atomic.AND, "^=": Atomic.XOR}
_SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}


def emitters() -> dict[str, Emit]:
    """For every text of the corpus that the explicit level can say."""
    table: dict[str, Emit] = {}
    _arithmetic(table)
    _memory(table)
    _atomics(table)
    _control(table)
    return table


def _arithmetic(table: dict[str, Emit]) -> None:
    for letter, width in (("r", 64), ("w", 32)):
        for sign, op in _ALU.items():
            number = 7 if op in (Alu.LSH, Alu.RSH, Alu.ARSH) else -5
            table[f"{letter}1 {sign} {letter}2"] = lambda a, o=op, w=width: a.alu(o, R1, R2, w)
            table[f"{letter}3 {sign} {number}"] = lambda a, o=op, n=number, w=width: a.alu(
                o, R3, n, w
            )
        table[f"{letter}1 s/= {letter}2"] = lambda a, w=width: a.signed_div(R1, R2, w)
        table[f"{letter}3 s/= -5"] = lambda a, w=width: a.signed_div(R3, -5, w)
        table[f"{letter}1 s%= {letter}2"] = lambda a, w=width: a.signed_mod(R1, R2, w)
        table[f"{letter}3 s%= -5"] = lambda a, w=width: a.signed_mod(R3, -5, w)
        table[f"{letter}4 = -{letter}4"] = lambda a, w=width: a.neg(R4, w)
        for bits in (8, 16, 32)[: 3 if width == 64 else 2]:
            text = f"{letter}1 = (s{bits}){letter}2"
            table[text] = lambda a, b=bits, w=width: a.movsx(R1, R2, b, w)
    for bits in (16, 32, 64):
        table[f"r5 = le{bits} r5"] = lambda a, b=bits: a.to_le(R5, b)
        table[f"r5 = be{bits} r5"] = lambda a, b=bits: a.to_be(R5, b)
        table[f"r5 = bswap{bits} r5"] = lambda a, b=bits: a.bswap(R5, b)


def _memory(table: dict[str, Emit]) -> None:
    for word, size in _SIZES.items():
        table[f"r1 = *({word} *)(r6 +8)"] = lambda a, s=size: a.load(R1, R6, 8, s)
        table[f"*({word} *)(r10 -8) = r2"] = lambda a, s=size: a.store(R10, -8, R2, s)
        table[f"*({word} *)(r10 -16) = 42"] = lambda a, s=size: a.store_imm(R10, -16, 42, s)
        if size < 8:
            signed = f"r1 = *(s{8 * size} *)(r6 -12)"
            table[signed] = lambda a, s=size: a.load(R1, R6, -12, s, signed=True)
            table[f"r0 = *({word} *)skb[12]"] = lambda a, s=size: a.load_absolute(s, 12)
            table[f"r0 = *({word} *)skb[r3 +14]"] = lambda a, s=size: a.load_indirect(s, R3, 14)


def _atomics(table: dict[str, Emit]) -> None:
    for word, size, prefix in (("u32", 4, "atomic_"), ("u64", 8, "atomic64_")):
        for sign, op in _LOCKS.items():
            text = f"lock *({word} *)(r10 -8) {sign} r2"
            table[text] = lambda a, o=op, s=size: a.atomic(o, R10, -8, R2, s)
        place = f"({word} *)(r1 +16)"
        for name, op in _ATOMICS.items():
            text = f"r2 = {prefix}fetch_{name}({place}, r2)"
            table[text] = lambda a, o=op, s=size: a.atomic(o, R1, 16, R2, s, fetch=True)
        table[f"r2 = {prefix}xchg({place}, r2)"] = lambda a, s=size: a.atomic(
            Atomic.XCHG, R1, 16, R2, s
        )
        table[f"r0 = {prefix}cmpxchg({place}, r0, r2)"] = lambda a, s=size: a.atomic(
            Atomic.CMPXCHG, R1, 16, R2, s
        )


def _pad(a: Assembler, count: int) -> None:
    for _ in range(count):
        a.mov(R0, 0)


def _forward(a: Assembler, count: int, emit: Emit) -> None:
    """``emit`` jumps to "there", ``count`` slots on."""
    emit(a)
    _pad(a, count)
    a.label("there")
    a.exit()


def _back(a: Assembler, count: int, emit: Emit) -> None:
    """``emit`` jumps to "there", ``count`` slots back from the one after it."""
    a.label("there")
    _pad(a, count - 1)
    emit(a)


def _control(table: dict[str, Emit]) -> None:
    for letter, width in (("r", 64), ("w", 32)):
        for sign, op in _JUMPS.items():
            table[f"if {letter}1 {sign} {letter}2 goto pc+4"] = lambda a, o=op, w=width: _forward(
                a, 4, lambda b: b.jump_if(o, R1, R2, "there", w)
            )
            table[f"if {letter}1 {sign} 0x5 goto pc-3"] = lambda a, o=op, w=width: _back(
                a, 3, lambda b: b.jump_if(o, R1, 5, "there", w)
            )
    table["goto pc+300"] = lambda a: _forward(a, 300, lambda b: b.jump("there"))
    table["gotol pc-70000"] = lambda a: _back(a, 70000, lambda b: b.jump("there", long=True))
    table["may_goto pc+2"] = lambda a: _forward(a, 2, lambda b: b.may_goto("there"))
    table["call ktime_get_ns#5"] = lambda a: a.call(5)
    table["call kfunc#77"] = lambda a: a.emit(Insn(Class.JMP | Jmp.CALL, 0, 2, 0, 77))
    table["call pc+12"] = lambda a: a.emit(Insn(Class.JMP | Jmp.CALL, 0, 1, 0, 12))
    table["exit"] = lambda a: a.exit()
    table["r1 = 0x123456789abcdef0 ll"] = lambda a: a.load_imm64(R1, 0x123456789ABCDEF0)
    table["r1 = map_fd 0x3 ll"] = lambda a: a.emit(Insn(0x18, 1, 1, 0, 3))
    table["r1 = map_value 0x800000003 ll"] = lambda a: a.emit(Insn(0x18, 1, 2, 0, 0x800000003))
    table["r1 = btf_id 0x4d ll"] = lambda a: a.emit(Insn(0x18, 1, 3, 0, 0x4D))
    table["r1 = func pc+9"] = lambda a: a.emit(Insn(0x18, 1, 4, 0, 9))
