"""One instruction from bytes to the verifier's syntax.

An instruction has its text only when that text says all of it: one with a field set that its text
cannot show is written as raw bytes, so that the text always assembles to the same bytes.
"""

from __future__ import annotations

import struct
from typing import Optional

from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.insn import Insn
from systemscope.bpfasm.isa import (
    PSEUDO_CALL,
    PSEUDO_KFUNC_CALL,
    SLOT,
    Alu,
    Atomic,
    Class,
    Jmp,
    Mode,
    Pseudo,
    Size,
)
from systemscope.bpfasm.source import Location
from systemscope.bpfasm.syntax import (
    ALU_SIGNS,
    COMPARE_WORD,
    FETCH_WORDS,
    JUMP_SIGNS,
    LOCK_SIGNS,
    SIGNED_SIGNS,
    SIGNED_SIZE_WORDS,
    SIZE_WORDS,
)

_SLOT = struct.Struct("<BBhi")
_HELPERS = {int(helper): helper.name for helper in Helper}


class RawSlot(Insn):
    """Eight bytes as they are."""

    def __init__(self, slot: bytes, location: Location = Location("", 0)) -> None:
        opcode, registers, offset, immediate = _SLOT.unpack(slot)
        super().__init__(opcode, registers & 15, registers >> 4, offset, immediate, location)

    @property
    def wide(self) -> bool:
        return False


def decode_slot(code: bytes, index: int) -> Insn:
    """The instruction at slot ``index``; its text may still be raw."""
    opcode, registers, offset, low = _SLOT.unpack_from(code, index * SLOT)
    dst, src = registers & 15, registers >> 4
    if opcode == 0x18 and len(code) >= (index + 2) * SLOT:
        rest, blank, none, high = _SLOT.unpack_from(code, (index + 1) * SLOT)
        if rest == blank == none == offset == 0 and dst <= 10 and src <= Pseudo.FUNC:
            value = (high & 0xFFFFFFFF) << 32 | low & 0xFFFFFFFF
            insn = Insn(opcode, dst, src, offset, value)
            if _wide(insn):
                return insn
    if opcode == 0x18:
        return RawSlot(code[index * SLOT : (index + 1) * SLOT])
    return Insn(opcode, dst, src, offset, low)


def displacement(insn: Insn) -> Optional[int]:
    """Slots a jump goes beyond the next one; None for what is no jump, or only nearly one."""
    if not _body(insn, "x"):
        return None
    if insn.opcode == Class.JMP32 | Jmp.JA:
        return insn.immediate
    jumps = insn.opcode & 7 in (Class.JMP, Class.JMP32)
    if not jumps or insn.opcode & 0xF0 in (Jmp.CALL, Jmp.EXIT):
        return None
    return insn.offset


def text(insn: Insn, label: str = "") -> str:
    """Its text; a jump goes to ``label``, or by distance where there is none."""
    return _body(insn, label) or ".raw " + RawSlot.encode(insn).hex()


def _body(insn: Insn, label: str) -> str:
    if insn.dst > 10 or insn.src > 10 or isinstance(insn, RawSlot):
        return ""
    kind = Class(insn.opcode & 7)
    if kind in (Class.ALU, Class.ALU64):
        return _alu(insn, kind is Class.ALU64)
    if kind in (Class.JMP, Class.JMP32):
        return _jump(insn, kind is Class.JMP, label)
    if kind is Class.LD:
        return _wide(insn) if insn.wide else _packet(insn)
    return _memory(insn, kind)


def _alu(insn: Insn, is_64: bool) -> str:
    high, by_register = insn.opcode & 0xF0, bool(insn.opcode & 8)
    letter = "r" if is_64 else "w"
    dst = f"{letter}{insn.dst}"
    if high == Alu.END:
        swaps = insn.immediate in (16, 32, 64) and not insn.src and not insn.offset
        if not swaps or (is_64 and by_register):
            return ""
        word = "bswap" if is_64 else "be" if by_register else "le"
        return f"r{insn.dst} = {word}{insn.immediate} r{insn.dst}"
    if (by_register and insn.immediate) or (not by_register and insn.src):
        return ""
    operand = f"{letter}{insn.src}" if by_register else str(insn.immediate)
    if high == Alu.NEG:
        plain = not by_register and not insn.immediate and not insn.offset
        return f"{dst} = -{dst}" if plain else ""
    if high == Alu.MOV and by_register and insn.offset:
        widths = (8, 16, 32) if is_64 else (8, 16)
        return f"{dst} = (s{insn.offset}){operand}" if insn.offset in widths else ""
    signs = SIGNED_SIGNS if insn.offset == 1 else ALU_SIGNS if insn.offset == 0 else {}
    for op, sign in signs.items():
        if op == high:
            return f"{dst} {sign} {operand}"
    return ""


def _jump(insn: Insn, is_64: bool, label: str) -> str:
    high, by_register = insn.opcode & 0xF0, bool(insn.opcode & 8)
    if high == Jmp.JA and not by_register and not insn.dst and not insn.src:
        return _goto(insn, is_64, label)
    if high in (Jmp.CALL, Jmp.EXIT, Jmp.JCOND):
        if by_register or not is_64 or insn.dst:
            return ""
        if high == Jmp.CALL:
            return _call(insn)
        if insn.src or insn.immediate:
            return ""
        if high == Jmp.JCOND:
            return f"may_goto {label or f'pc{insn.offset:+d}'}"
        return "" if insn.offset else "exit"
    if (by_register and insn.immediate) or (not by_register and insn.src):
        return ""
    letter = "r" if is_64 else "w"
    operand = f"{letter}{insn.src}" if by_register else f"{insn.immediate:#x}"
    for op, sign in JUMP_SIGNS.items():
        if op == high:
            to = label or f"pc{insn.offset:+d}"
            return f"if {letter}{insn.dst} {sign} {operand} goto {to}"
    return ""


def _goto(insn: Insn, is_64: bool, label: str) -> str:
    word, distance, unused = (
        ("goto", insn.offset, insn.immediate) if is_64 else ("gotol", insn.immediate, insn.offset)
    )
    return "" if unused else f"{word} {label or f'pc{distance:+d}'}"


def _call(insn: Insn) -> str:
    if insn.offset:
        return ""
    if insn.src == 0:
        return f"call {_HELPERS.get(insn.immediate, 'helper')}#{insn.immediate}"
    if insn.src == PSEUDO_CALL:
        return f"call pc{insn.immediate:+d}"
    return f"call kfunc#{insn.immediate}" if insn.src == PSEUDO_KFUNC_CALL else ""


def _packet(insn: Insn) -> str:
    mode, size = insn.opcode & 0xE0, Size(insn.opcode & 0x18)
    if size is Size.DW or insn.dst or insn.offset:
        return ""
    if mode == Mode.ABS:
        return "" if insn.src else f"r0 = *({SIZE_WORDS[size]} *)skb[{insn.immediate}]"
    if mode == Mode.IND:
        return f"r0 = *({SIZE_WORDS[size]} *)skb[r{insn.src} {insn.immediate:+d}]"
    return ""


def _memory(insn: Insn, kind: Class) -> str:
    mode, size = insn.opcode & 0xE0, Size(insn.opcode & 0x18)
    if kind is Class.LDX:
        words = SIZE_WORDS if mode == Mode.MEM else SIGNED_SIZE_WORDS
        if mode not in (Mode.MEM, Mode.MEMSX) or size not in words or insn.immediate:
            return ""
        return f"r{insn.dst} = *({words[size]} *)(r{insn.src} {insn.offset:+d})"
    place = f"({SIZE_WORDS[size]} *)(r{insn.dst} {insn.offset:+d})"
    if kind is Class.STX and mode == Mode.ATOMIC:
        return _atomic(insn, size, place)
    if mode != Mode.MEM:
        return ""
    if kind is Class.STX:
        return "" if insn.immediate else f"*{place} = r{insn.src}"
    return "" if insn.src else f"*{place} = {insn.immediate}"


def _atomic(insn: Insn, size: Size, place: str) -> str:
    if size not in (Size.W, Size.DW):
        return ""
    word = "atomic64_" if size is Size.DW else "atomic_"
    for op, sign in LOCK_SIGNS.items():
        if op == insn.immediate:
            return f"lock *{place} {sign} r{insn.src}"
    if insn.immediate == Atomic.CMPXCHG:
        return f"r0 = {word}{COMPARE_WORD}({place}, r0, r{insn.src})"
    name = FETCH_WORDS.get(insn.immediate)
    return f"r{insn.src} = {word}{name}({place}, r{insn.src})" if name else ""


def _wide(insn: Insn) -> str:
    if insn.src == Pseudo.NONE:
        return f"r{insn.dst} = {insn.immediate & 0xFFFFFFFFFFFFFFFF:#x} ll"
    if insn.src == Pseudo.FUNC and insn.immediate >> 32 == 0:
        low = insn.immediate & 0xFFFFFFFF
        return f"r{insn.dst} = func pc{(low ^ 1 << 31) - (1 << 31):+d}"
    words = {Pseudo.MAP_FD: "map_fd", Pseudo.MAP_VALUE: "map_value", Pseudo.BTF_ID: "btf_id"}
    name = words.get(Pseudo(insn.src))
    return f"r{insn.dst} = {name} {insn.immediate:#x} ll" if name else ""
