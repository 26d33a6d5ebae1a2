"""The grammar of one instruction: a line of the listing becomes an :class:`Insn`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Optional

from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.insn import Insn, Link
from systemscope.bpfasm.isa import (
    PSEUDO_CALL,
    PSEUDO_KFUNC_CALL,
    Alu,
    Atomic,
    Class,
    Jmp,
    K,
    Mode,
    Pseudo,
    Size,
    X,
)
from systemscope.bpfasm.lexer import Line, Register
from systemscope.bpfasm.syntax import (
    ALU_OF_SIGN,
    COMPARE_WORD,
    FETCH_OF_WORD,
    JUMP_OF_SIGN,
    LOCK_OF_SIGN,
    SIGNED_OF_SIGN,
    SIGNED_OF_WORD,
    SIZE_OF_WORD,
)
from systemscope.bpfasm.types import MapSpec, RelocKind

_SWAP = re.compile(r"(be|le|bswap)(16|32|64)\Z")
_ATOMIC = re.compile(r"atomic(64)?_(\w+)\Z")
_PSEUDO = {"map_fd": Pseudo.MAP_FD, "map_value": Pseudo.MAP_VALUE, "btf_id": Pseudo.BTF_ID}
_VALUE = "a register, a number, or what else can be assigned"


def instruction(line: Line, maps: Mapping[str, MapSpec]) -> Insn:
    """Read one instruction, up to the end of the line."""
    if line.at_register():
        insn = _assignment(line, maps)
    elif line.at("*"):
        insn = _store(line)
    elif line.accept("lock"):
        insn = _lock(line)
    elif line.accept("if"):
        insn = _condition(line)
    elif line.accept("goto"):
        insn = _jump(line, Insn(Class.JMP | Jmp.JA))
    elif line.accept("gotol"):
        insn = _jump(line, Insn(Class.JMP32 | Jmp.JA))
    elif line.accept("may_goto"):
        insn = _jump(line, Insn(Class.JMP | Jmp.JCOND))
    elif line.accept("call"):
        insn = _call(line)
    elif line.accept("exit"):
        insn = Insn(Class.JMP | Jmp.EXIT)
    else:
        raise line.expected("an instruction, label or directive")
    line.end()
    return insn


def _assignment(line: Line, maps: Mapping[str, MapSpec]) -> Insn:
    dst = line.register()
    sign = line.peek().text
    kind = Class.ALU64 if dst.wide else Class.ALU
    if line.accept("="):
        return _assigned(line, dst, kind, maps)
    if sign in SIGNED_OF_SIGN:
        line.take()
        return _operand(line, Insn(kind | SIGNED_OF_SIGN[sign], dst.number, offset=1), dst.wide)
    if sign not in ALU_OF_SIGN:
        raise line.expected("'=', '+=' or another assignment")
    line.take()
    return _operand(line, Insn(kind | ALU_OF_SIGN[sign], dst.number), dst.wide)


def _operand(line: Line, insn: Insn, wide: bool) -> Insn:
    if line.at_register():
        insn.opcode |= X
        insn.src = line.register(wide=wide).number
    else:
        insn.immediate = _immediate(line, "a register or a number")
    return insn


def _immediate(line: Line, what: str = "a number") -> int:
    token = line.peek()
    value = line.number(what)
    if not -(1 << 31) <= value < 1 << 31:
        raise line.error(f"immediate {value:#x} does not fit in 32 signed bits", token)
    return value


def _assigned(line: Line, dst: Register, kind: Class, maps: Mapping[str, MapSpec]) -> Insn:
    """What stands behind ``rN =``."""
    if line.at_register():
        return _operand(line, Insn(kind | Alu.MOV, dst.number), dst.wide)
    if line.at("-") and line.at_register(1):
        line.take()
        _same(line, dst)
        return Insn(kind | Alu.NEG, dst.number)
    if line.accept("("):
        return _sign_extension(line, dst, kind)
    if line.peek().kind == "number" or line.at("-"):
        return _constant(line, dst, kind)
    if line.peek().kind == "word" or line.at("*"):
        if not dst.wide:
            raise line.expected(f"a register or number (only r{dst.number} takes anything else)")
        return _load(line, dst) if line.at("*") else _named(line, dst, maps)
    raise line.expected(_VALUE)


def _same(line: Line, dst: Register) -> None:
    token = line.peek()
    if line.register(wide=dst.wide) != dst:
        raise line.error("expected the same register on both sides", token)


def _sign_extension(line: Line, dst: Register, kind: Class) -> Insn:
    token = line.take()
    widths = {"s8": 8, "s16": 16, "s32": 32} if dst.wide else {"s8": 8, "s16": 16}
    if token.text not in widths:
        raise line.error(f"expected one of {', '.join(widths)}, found '{token.text}'", token)
    line.expect(")")
    src = line.register(wide=dst.wide)
    return Insn(kind | Alu.MOV | X, dst.number, src.number, widths[token.text])


def _constant(line: Line, dst: Register, kind: Class) -> Insn:
    token, start = line.peek(), line.position
    value = line.number()
    if not line.at("ll"):
        line.position = start
        return Insn(kind | Alu.MOV | K, dst.number, immediate=_immediate(line))
    if not dst.wide:
        raise line.expected("the end of the line (w registers take 32 bits)")
    line.take()
    if not -(1 << 63) <= value < 1 << 64:
        raise line.error(f"immediate {value:#x} does not fit in 64 bits", token)
    return Insn(0x18, dst.number, immediate=value)


def _named(line: Line, dst: Register, maps: Mapping[str, MapSpec]) -> Insn:
    """Byte swaps, atomics with a result, and everything a 64-bit immediate can stand for."""
    word = line.peek().text
    swap, atomic = _SWAP.match(word), _ATOMIC.match(word)
    if swap:
        line.take()
        _same(line, dst)
        kind = Class.ALU64 if swap.group(1) == "bswap" else Class.ALU
        source = X if swap.group(1) == "be" else K
        return Insn(kind | Alu.END | source, dst.number, immediate=int(swap.group(2)))
    if atomic:
        return _fetch(line, dst, bool(atomic.group(1)), atomic.group(2))
    if line.accept("func"):
        insn = Insn(0x18, dst.number, Pseudo.FUNC)
        if line.accept("pc"):
            insn.immediate = line.displacement() & 0xFFFFFFFF
        else:
            insn.function = line.name("a function's name, or pc+N")
        return insn
    if line.accept("ksym"):
        link = Link(RelocKind.KSYM, symbol=line.name("a kernel symbol's name"))
        return Insn(0x18, dst.number, Pseudo.BTF_ID, link=link)
    if line.accept("map"):
        return _map(line, dst, maps)
    if word in _PSEUDO:
        line.take()
        value = line.number()
        line.expect("ll")
        return Insn(0x18, dst.number, _PSEUDO[word], immediate=value)
    raise line.expected(_VALUE)


def _map(line: Line, dst: Register, maps: Mapping[str, MapSpec]) -> Insn:
    line.expect("[")
    token = line.peek()
    name = line.name("a map's name")
    if name not in maps:
        known = ", ".join(maps) or "none is declared"
        raise line.error(f"there is no map '{name}' (known: {known})", token)
    line.expect("]")
    if not line.accept("."):
        return Insn(0x18, dst.number, Pseudo.MAP_FD, link=Link(RelocKind.MAP_FD, maps[name]))
    line.expect("value")
    offset = line.displacement()
    link = Link(RelocKind.MAP_VALUE, maps[name], offset=offset)
    return Insn(0x18, dst.number, Pseudo.MAP_VALUE, link=link)


# -- memory


def _typed(line: Line, words: Mapping[str, Size]) -> str:
    """``(u64 *)``: the size word."""
    line.expect("(")
    token = line.take()
    if token.text not in words:
        raise line.error(f"expected one of {', '.join(words)}, found '{token.text}'", token)
    line.expect("*")
    line.expect(")")
    return token.text


def _place(line: Line) -> tuple[int, int]:
    """``(r1 +8)``: base register and offset."""
    line.expect("(")
    base = line.register(wide=True).number
    token = line.peek()
    offset = line.displacement()
    if not -0x8000 <= offset <= 0x7FFF:
        raise line.error(f"offset {offset} does not fit in 16 bits", token)
    line.expect(")")
    return base, offset


def _load(line: Line, dst: Register) -> Insn:
    line.expect("*")
    word = _typed(line, {**SIZE_OF_WORD, **SIGNED_OF_WORD})
    if line.at("skb"):
        return _packet(line, dst, word)
    base, offset = _place(line)
    if word in SIGNED_OF_WORD:
        return Insn(Class.LDX | Mode.MEMSX | SIGNED_OF_WORD[word], dst.number, base, offset)
    return Insn(Class.LDX | Mode.MEM | SIZE_OF_WORD[word], dst.number, base, offset)


def _packet(line: Line, dst: Register, word: str) -> Insn:
    token = line.take()
    if dst.number != 0 or word not in ("u8", "u16", "u32"):
        raise line.error("packet loads are of u8, u16 or u32 into r0", token)
    line.expect("[")
    source: Optional[int] = line.register(wide=True).number if line.at_register() else None
    mode = Mode.ABS if source is None else Mode.IND
    insn = Insn(Class.LD | mode | SIZE_OF_WORD[word], 0, source or 0)
    insn.immediate = _immediate(line)
    line.expect("]")
    return insn


def _store(line: Line) -> Insn:
    line.expect("*")
    size = SIZE_OF_WORD[_typed(line, SIZE_OF_WORD)]
    base, offset = _place(line)
    line.expect("=")
    if line.at_register():
        source = line.register(wide=True).number
        return Insn(Class.STX | Mode.MEM | size, base, source, offset)
    value = _immediate(line, "a register or a number")
    return Insn(Class.ST | Mode.MEM | size, base, 0, offset, value)


def _lock(line: Line) -> Insn:
    line.expect("*")
    size = SIZE_OF_WORD[_typed(line, {"u32": Size.W, "u64": Size.DW})]
    base, offset = _place(line)
    sign = line.peek()
    if sign.text not in LOCK_OF_SIGN:
        raise line.expected("one of " + ", ".join(LOCK_OF_SIGN))
    line.take()
    source = line.register(wide=True).number
    opcode = Class.STX | Mode.ATOMIC | size
    return Insn(opcode, base, source, offset, LOCK_OF_SIGN[sign.text])


def _fetch(line: Line, dst: Register, is_64: bool, word: str) -> Insn:
    token = line.take()
    compares = word == COMPARE_WORD
    if not compares and word not in FETCH_OF_WORD:
        words = ", ".join([*FETCH_OF_WORD, COMPARE_WORD])
        raise line.error(f"expected one of {words} after atomic, found '{word}'", token)
    size = Size.DW if is_64 else Size.W
    line.expect("(")
    _typed(line, {"u64": size} if is_64 else {"u32": size})
    base, offset = _place(line)
    line.expect(",")
    if compares:
        line.expect("r0")
        line.expect(",")
        if dst.number != 0:
            raise line.error("cmpxchg compares with r0 and returns in r0", token)
    source_token = line.peek()
    source = line.register(wide=True).number
    if not compares and source != dst.number:
        raise line.error("expected the register that takes the result", source_token)
    line.expect(")")
    immediate = Atomic.CMPXCHG if compares else FETCH_OF_WORD[word]
    return Insn(Class.STX | Mode.ATOMIC | size, base, source, offset, int(immediate))


# -- control


def _jump(line: Line, insn: Insn) -> Insn:
    """``LABEL`` or ``pc+N``."""
    token = line.peek()
    if line.accept("pc"):
        distance = line.displacement()
        if insn.opcode == Class.JMP32 | Jmp.JA:
            limit, bits = 1 << 31, 32
            insn.immediate = distance
        else:
            limit, bits = 1 << 15, 16
            insn.offset = distance
        if not -limit <= distance < limit:
            raise line.error(f"a jump of {distance} slots does not fit in {bits} bits", token)
        return insn
    insn.target = line.name("a label, or pc+N")
    return insn


def _condition(line: Line) -> Insn:
    dst = line.register()
    sign = line.peek()
    if sign.text not in JUMP_OF_SIGN:
        raise line.expected("one of " + " ".join(JUMP_OF_SIGN))
    line.take()
    kind = Class.JMP if dst.wide else Class.JMP32
    insn = _operand(line, Insn(kind | JUMP_OF_SIGN[sign.text], dst.number), dst.wide)
    line.expect("goto")
    return _jump(line, insn)


def _call(line: Line) -> Insn:
    call = Insn(Class.JMP | Jmp.CALL)
    if line.at("kfunc") and not line.at("#", 1):
        line.take()
        call.src = PSEUDO_KFUNC_CALL
        call.link = Link(RelocKind.KFUNC, symbol=line.name("a kernel function's name"))
        return call
    if line.at("pc"):
        line.take()
        call.src, call.immediate = PSEUDO_CALL, line.displacement()
        return call
    token = line.peek()
    name = line.name("a helper, a function, or pc+N")
    if not line.accept("#"):
        call.src, call.function = PSEUDO_CALL, name
        return call
    call.immediate = _immediate(line, "a helper's number")
    if name == "kfunc":
        call.src = PSEUDO_KFUNC_CALL
        return call
    known = Helper.__members__.get(name[4:] if name.startswith("bpf_") else name)
    if name != "helper" and (known is None or known != call.immediate):
        right = "unknown to this program" if known is None else f"number {int(known)}"
        raise line.error(f"helper '{name}' is {right}, not {call.immediate}", token)
    return call
