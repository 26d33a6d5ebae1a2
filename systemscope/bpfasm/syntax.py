"""The words of the listing, shared by the one who writes it and the one who reads it.

The syntax is the kernel verifier's (``kernel/bpf/disasm.c``), with labels, names and registers'
true widths. A line holds one of:

    .program NAME type=T isa=N ...      .map NAME type=T key=N value=N entries=N flags=N
                                        [inner=T inner_key=N inner_value=N inner_entries=N]
    .function NAME arguments=N [callback|apart]
    LABEL:
    [SLOT:] INSTRUCTION
    .raw 8-byte slot in hex             what no instruction of ISA v1-v4 looks like

and a comment from ``;`` to its end. Names are bare words, or JSON strings where they are not.
"""

from __future__ import annotations

import json
import re

from systemscope.bpfasm.isa import Alu, Atomic, Jmp, Size

ALU_SIGNS = {
    Alu.ADD: "+=",
    Alu.SUB: "-=",
    Alu.MUL: "*=",
    Alu.DIV: "/=",
    Alu.OR: "|=",
    Alu.AND: "&=",
    Alu.LSH: "<<=",
    Alu.RSH: ">>=",
    Alu.MOD: "%=",
    Alu.XOR: "^=",
    Alu.MOV: "=",
    Alu.ARSH: "s>>=",
}
SIGNED_SIGNS = {Alu.DIV: "s/=", Alu.MOD: "s%="}
JUMP_SIGNS = {
    Jmp.JEQ: "==",
    Jmp.JGT: ">",
    Jmp.JGE: ">=",
    Jmp.JSET: "&",
    Jmp.JNE: "!=",
    Jmp.JSGT: "s>",
    Jmp.JSGE: "s>=",
    Jmp.JLT: "<",
    Jmp.JLE: "<=",
    Jmp.JSLT: "s<",
    Jmp.JSLE: "s<=",
}
SIZE_WORDS = {Size.B: "u8", Size.H: "u16", Size.W: "u32", Size.DW: "u64"}
SIGNED_SIZE_WORDS = {Size.B: "s8", Size.H: "s16", Size.W: "s32"}
LOCK_SIGNS = {Atomic.ADD: "+=", Atomic.OR: "|=", Atomic.AND: "&=", Atomic.XOR: "^="}
FETCH_WORDS = {
    Atomic.ADD | Atomic.FETCH: "fetch_add",
    Atomic.OR | Atomic.FETCH: "fetch_or",
    Atomic.AND | Atomic.FETCH: "fetch_and",
    Atomic.XOR | Atomic.FETCH: "fetch_xor",
    Atomic.XCHG: "xchg",
}
COMPARE_WORD = "cmpxchg"

ALU_OF_SIGN = {sign: op for op, sign in ALU_SIGNS.items()}
SIGNED_OF_SIGN = {sign: op for op, sign in SIGNED_SIGNS.items()}
JUMP_OF_SIGN = {sign: op for op, sign in JUMP_SIGNS.items()}
SIZE_OF_WORD = {word: size for size, word in SIZE_WORDS.items()}
SIGNED_OF_WORD = {word: size for size, word in SIGNED_SIZE_WORDS.items()}
LOCK_OF_SIGN = {sign: op for op, sign in LOCK_SIGNS.items()}
FETCH_OF_WORD = {word: immediate for immediate, word in FETCH_WORDS.items()}

#: Words that begin an operand or an instruction, so a name like them is quoted.
RESERVED = frozenset(
    {
        "pc",
        "map",
        "func",
        "ksym",
        "kfunc",
        "skb",
        "if",
        "goto",
        "gotol",
        "may_goto",
        "call",
        "exit",
        "lock",
        "ll",
        "callback",
        "apart",
    }
)
WORD = r"[A-Za-z_][A-Za-z0-9_.$]*"
_PLAIN = re.compile(WORD + r"\Z")
_REGISTER = re.compile(r"[rw][0-9]+\Z")


def name_text(name: str) -> str:
    """``name`` as the listing writes it: bare, or a JSON string where that could mislead."""
    if _PLAIN.match(name) and name not in RESERVED and not _REGISTER.match(name):
        return name
    return json.dumps(name)


def map_names(names: list[str]) -> list[str]:
    """Names that tell maps apart: the second map called ``x`` is ``x.2``, as far as needed."""
    taken: set[str] = set()
    result = []
    for name in names:
        candidate, count = name, 1
        while candidate in taken:
            count += 1
            candidate = f"{name}.{count}"
        taken.add(candidate)
        result.append(candidate)
    return result
