"""The few forms of DWARF expression that compilers and assemblers put into call frame information.

An expression is run on symbols instead of values: what remains is *register + offset*, or
*(register + offset) + add*, or it is of no form known here. Source: DWARF 5, sections 2.5.1 and
7.7.1.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from systemscope.elf.errors import ElfError
from systemscope.elf.leb128 import read_sleb128, read_uleb128

_DEREF = 0x06
_CONST1U, _CONST8S = 0x08, 0x0F
_CONSTU, _CONSTS = 0x10, 0x11
_MINUS, _PLUS, _PLUS_UCONST = 0x1C, 0x22, 0x23
_LIT0, _LIT31 = 0x30, 0x4F
_BREG0, _BREG31, _BREGX = 0x70, 0x8F, 0x92
_NOP = 0x96

#: More than any expression of a known form has.
MAX_EXPRESSION_BYTES = 64
_MAX_STACK = 8

#: What follows "DW_OP_breg7 n" in the stubs of a procedure linkage table (ld's
#: elf_x86_64_eh_frame_plt): the stub has pushed a word once ip is past its push instruction.
#: breg16 0; lit15; and; LITERAL; ge; lit3; shl; plus
_PLT_HEAD = bytes([0x80, 0x00, 0x3F, 0x1A])
_PLT_TAIL = bytes([0x2A, 0x33, 0x24, 0x22])
_PLT_BASE = 0x77


class _Value(NamedTuple):
    """register + offset, or *(register + offset) + add if loaded; a constant without register."""

    register: Optional[int]
    offset: int
    loaded: bool = False
    add: int = 0

    def plus(self, number: int) -> _Value:
        if self.loaded:
            return self._replace(add=self.add + number)
        return self._replace(offset=self.offset + number)


def register_plus_offset(code: bytes) -> Optional[tuple[int, int]]:
    """(register, offset) when that is what the expression comes to, else None."""
    value = _evaluate(code)
    if value is None or value.register is None or value.loaded:
        return None
    return value.register, value.offset


def dereferenced_register(code: bytes) -> Optional[tuple[int, int, int]]:
    """(register, offset, add) when the expression is *(register + offset) + add, else None."""
    value = _evaluate(code)
    if value is None or value.register is None or not value.loaded:
        return None
    return value.register, value.offset, value.add


def plt_threshold(code: bytes) -> Optional[tuple[int, int]]:
    """(offset, threshold) of rsp + offset + (((rip & 15) >= threshold) << 3), else None."""
    if len(code) > MAX_EXPRESSION_BYTES or code[:1] != bytes([_PLT_BASE]):
        return None
    try:
        offset, end = read_sleb128(code, 1)
    except ElfError:
        return None
    rest = code[end:]
    if len(rest) != 9 or rest[:4] != _PLT_HEAD or rest[5:] != _PLT_TAIL:
        return None
    literal = rest[4] - _LIT0
    return (offset, literal) if 0 <= literal <= 15 else None


def _evaluate(code: bytes) -> Optional[_Value]:
    if len(code) > MAX_EXPRESSION_BYTES:
        return None
    stack: list[_Value] = []
    position = 0
    try:
        while position < len(code):
            position = _step(code, position, stack)
            if len(stack) > _MAX_STACK:
                return None
    except (ElfError, IndexError):
        return None
    return stack[-1] if stack else None


def _step(code: bytes, position: int, stack: list[_Value]) -> int:
    """Run one operation and say where the next one is. Raises ElfError on an unknown one,
    IndexError on an empty stack."""
    operation = code[position]
    position += 1
    if _LIT0 <= operation <= _LIT31:
        stack.append(_Value(None, operation - _LIT0))
    elif _BREG0 <= operation <= _BREG31:
        offset, position = read_sleb128(code, position)
        stack.append(_Value(operation - _BREG0, offset))
    elif operation == _BREGX:
        register, position = read_uleb128(code, position)
        offset, position = read_sleb128(code, position)
        stack.append(_Value(register, offset))
    elif operation == _PLUS_UCONST:
        number, position = read_uleb128(code, position)
        stack.append(stack.pop().plus(number))
    elif _CONST1U <= operation <= _CONSTS:
        number, position = _constant(code, operation, position)
        stack.append(_Value(None, number))
    elif operation == _DEREF:
        value = stack.pop()
        if value.register is None or value.loaded:
            raise ElfError("an expression that loads twice")
        stack.append(value._replace(loaded=True))
    elif operation in (_PLUS, _MINUS):
        stack.append(_sum(stack.pop(), stack.pop(), operation == _MINUS))
    elif operation != _NOP:
        raise ElfError("an operation that is not supported")
    return position


def _constant(code: bytes, operation: int, position: int) -> tuple[int, int]:
    if operation == _CONSTU:
        return read_uleb128(code, position)
    if operation == _CONSTS:
        return read_sleb128(code, position)
    size = 1 << (operation - _CONST1U >> 1)
    if position + size > len(code):
        raise ElfError("an expression cut short")
    signed = bool(operation - _CONST1U & 1)
    number = int.from_bytes(code[position : position + size], "little", signed=signed)
    return number, position + size


def _sum(second: _Value, first: _Value, negative: bool) -> _Value:
    """Of two values of which one is a constant."""
    if second.register is None:
        return first.plus(-second.offset if negative else second.offset)
    if first.register is None and not negative:
        return second.plus(first.offset)
    raise ElfError("a sum of two registers")
