"""Turns expressions and conditions into instructions, with registers and stack slots to hold them.

Variables live in r6-r9 while there is room, then in stack slots; r0-r5 are scratch, so a helper
call never clobbers a variable.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional, Union

from systemscope.bpfasm.assembler import Assembler
from systemscope.bpfasm.isa import INVERSE, MAX_STACK, R10, V2_JUMPS, Alu, Jmp, Reg
from systemscope.bpfasm.values import (
    All,
    Any_,
    Binary,
    Compare,
    Condition,
    Const,
    Expr,
    Location,
    Not,
    Scope,
    StackAddress,
    Value,
    fail,
)

SAVED = (Reg.R6, Reg.R7, Reg.R8, Reg.R9)
SCRATCH = (Reg.R0, Reg.R1, Reg.R2, Reg.R3, Reg.R4, Reg.R5)

_ANY_CALL = 8  # get_smp_processor_id, the cheapest: a call leaves nothing in r1 to r5

#: The same comparison with its sides exchanged.
_SWAPPED = {
    Jmp.JLT: Jmp.JGT,
    Jmp.JLE: Jmp.JGE,
    Jmp.JSLT: Jmp.JSGT,
    Jmp.JSLE: Jmp.JSGE,
}


class Frame:
    """Registers and stack of one BPF function."""

    def __init__(self) -> None:
        self.registers = list(SAVED)
        self.depth = self.deepest = 0
        self.scopes = [Scope(0)]

    def reserve(self, size: int) -> StackAddress:
        """Where ``size`` new bytes are (8-byte aligned), freed with the scope."""
        self.depth += (size + 7) & ~7
        self.deepest = max(self.deepest, self.depth)
        if self.depth > MAX_STACK:
            raise fail(f"the function needs {self.depth} bytes of stack, BPF has {MAX_STACK}")
        return StackAddress(-self.depth, self.scopes[-1])

    def allocate(self, signed: bool, spill: bool) -> Value:
        """A variable that lives until the current scope ends."""
        if self.registers and not spill:
            value = Value(self.registers.pop(0), 0, signed)
        else:
            value = Value(None, self.reserve(8).offset, signed)
        self.scopes[-1].values.append(value)
        return value

    def enter(self) -> None:
        """Open a scope."""
        self.scopes.append(Scope(self.depth))

    def leave(self) -> None:
        """End a scope: its variables are gone, their places free."""
        scope = self.scopes.pop()
        scope.alive, self.depth = False, scope.depth
        for value in scope.values:
            value.alive = False
            if value.register is not None:
                self.registers.append(value.register)
        self.registers.sort()


class Evaluator:
    """Emits code for expressions through an :class:`Assembler`."""

    def __init__(self, asm: Assembler, tidy: bool = False) -> None:
        self.asm, self.tidy = asm, tidy
        self.frame = Frame()
        self._busy: set[Reg] = set()

    # -- scratch registers

    @contextmanager
    def scratch(self, avoid: tuple[Reg, ...] = ()) -> Iterator[Reg]:
        """A scratch register for the duration."""
        for register in SCRATCH:
            if register not in self._busy and register not in avoid:
                with self.hold(register):
                    yield register
                return
        raise fail("the expression is too deep for the scratch registers: split it with b.let()")

    @contextmanager
    def hold(self, *registers: Reg) -> Iterator[None]:
        """Keep scratch ``registers`` from being reused for the duration."""
        fresh = [r for r in registers if r in SCRATCH and r not in self._busy]
        self._busy.update(fresh)
        try:
            yield
        finally:
            self._busy.difference_update(fresh)

    def leave(self) -> None:
        """End a scope. ``tidy``: what a call gave, a pointer maybe, does not stay on the stack."""
        for value in self.frame.scopes[-1].values if self.tidy else ():
            if value.register is None and value.of_call:
                self.asm.store_imm(R10, value.slot, 0, 8)
        self.frame.leave()

    def forget(self, stack: bool) -> None:
        """Leave nothing in the registers, and what was used of the ``stack``, that is free."""
        self.asm.call(_ANY_CALL)
        for register in self.frame.registers:
            self.asm.mov(register, 0)
        if stack:
            for depth in range(self.frame.depth + 8, self.frame.deepest + 8, 8):
                self.asm.store_imm(R10, -depth, 0, 8)

    # -- expressions

    def into(self, expr: Expr, dst: Reg) -> None:
        """Evaluate ``expr`` into ``dst``."""
        asm = self.asm
        if isinstance(expr, Const):
            if -(1 << 31) <= expr.number < 1 << 31:
                asm.mov(dst, expr.number)
            else:
                asm.load_imm64(dst, expr.number)
        elif isinstance(expr, Value):
            self._check(expr)
            if expr.register is None:
                asm.load(dst, R10, expr.slot, 8)
            elif expr.register != dst:
                asm.mov(dst, expr.register)
        elif isinstance(expr, StackAddress):
            expr.check()
            asm.mov(dst, R10)
            asm.alu(Alu.ADD, dst, expr.offset)
        elif isinstance(expr, Location):
            self._load(expr, dst)
        elif isinstance(expr, Binary):
            self._binary(expr, dst)
        else:
            raise fail(f"cannot evaluate {expr!r}")

    @contextmanager
    def operand(self, expr: Expr) -> Iterator[Union[Reg, int]]:
        """``expr`` as an instruction operand: an immediate, a variable's register, or scratch."""
        if isinstance(expr, Const) and -(1 << 31) <= expr.number < 1 << 31:
            yield expr.number
            return
        with self.register(expr) as register:
            yield register

    @contextmanager
    def register(self, expr: Expr) -> Iterator[Reg]:
        """``expr`` in some register, read-only for the caller."""
        if isinstance(expr, Value) and expr.register is not None:
            self._check(expr)
            yield expr.register
            return
        with self.scratch() as register:
            self.into(expr, register)
            yield register

    def _binary(self, expr: Binary, dst: Reg) -> None:
        with self.hold(dst):
            self.into(expr.left, dst)
            right_side = expr.right
            low_half = isinstance(right_side, Const) and right_side.number == 0xFFFFFFFF
            if expr.op is Alu.AND and low_half:
                # Writing the low half clears the high one: one slot instead of three.
                self.asm.mov(dst, dst, 32)
                return
            with self.operand(expr.right) as right:
                self.asm.alu(expr.op, dst, right)

    def _check(self, value: Value) -> None:
        if not value.alive:
            raise fail("the value's block has ended: make it before the block, or use b.set()")

    # -- memory

    @contextmanager
    def address(self, location: Location) -> Iterator[tuple[Reg, int]]:
        """(base register, offset) of a field or element."""
        base, field = location.pointer._base, location.field
        if location.index is None:
            if isinstance(base, StackAddress):
                base.check()
                yield R10, base.offset + field.offset
                return
            with self.register(base) as register:
                yield register, field.offset
            return
        with self.scratch() as register:
            self.into(location.index, register)
            self.asm.alu(Alu.AND, register, field.count - 1)
            if field.size > 1:
                self.asm.alu(Alu.LSH, register, field.size.bit_length() - 1)
            if self.asm.isa < 2:
                # Until 4.14 (f1174f77b50c) a number plus a pointer is none to the verifier.
                with self.scratch() as start:
                    self.into(base, start)
                    self.asm.alu(Alu.ADD, start, register)
                    yield start, field.offset
                return
            with self.operand(base) as start:
                self.asm.alu(Alu.ADD, register, start)
            yield register, field.offset

    def _load(self, location: Location, dst: Reg) -> None:
        location.check_fresh()
        field = location.field
        with self.hold(dst), self.address(location) as (base, offset):
            extend = field.signed and field.size < 8
            native = extend and self.asm.isa >= 4
            self.asm.load(dst, base, offset, field.size, signed=native)
        if extend and not native:
            bits = 64 - 8 * field.size
            self.asm.alu(Alu.LSH, dst, bits)
            self.asm.alu(Alu.ARSH, dst, bits)

    def store_to(self, location: Location, expr: Expr) -> None:
        """Store ``expr`` in a field or element."""
        size = location.field.size
        if isinstance(expr, Const) and self._fits_store(expr.number, size):
            with self.address(location) as (base, offset):
                self.asm.store_imm(base, offset, self._store_constant(expr.number, size), size)
            return
        with self.register(expr) as value, self.address(location) as (base, offset):
            self.asm.store(base, offset, value, size)

    def _fits_store(self, number: int, size: int) -> bool:
        if size == 8:
            return -(1 << 31) <= number < 1 << 31
        if not -(1 << (8 * size - 1)) <= number < 1 << 8 * size:
            raise fail(f"{number:#x} does not fit in {size} bytes")
        return True

    def _store_constant(self, number: int, size: int) -> int:
        return number - (1 << 32) if size == 4 and number >= 1 << 31 else number

    # -- conditions

    def branch(self, condition: Condition, target: str, when: bool) -> None:
        """Jump to ``target`` if ``condition`` turns out as ``when``; fall through otherwise."""
        if isinstance(condition, Compare):
            self._compare(condition, target, when)
        elif isinstance(condition, Not):
            self.branch(condition.inner, target, not when)
        elif isinstance(condition, (All, Any_)):
            decisive = isinstance(condition, Any_)
            if decisive == when:
                for part in condition.parts:
                    self.branch(part, target, when)
                return
            past = self.asm.fresh_label("past")
            for part in condition.parts[:-1]:
                self.branch(part, past, decisive)
            self.branch(condition.parts[-1], target, when)
            self.asm.label(past)
        else:
            raise fail(f"{condition!r} is not a condition")

    def _compare(self, condition: Compare, target: str, when: bool) -> None:
        op = condition.op if when else INVERSE[condition.op]
        with self.register(condition.left) as left:
            if op in V2_JUMPS and self.asm.isa < 2:
                with self.register(condition.right) as right:
                    self.asm.jump_if(_SWAPPED[op], right, left, target)
                return
            with self.operand(condition.right) as operand:
                self.asm.jump_if(op, left, operand, target)

    def set_value(self, value: Value, expr: Expr) -> None:
        """``value = expr``; safe when ``expr`` reads ``value``."""
        self._check(value)
        target: Optional[Reg] = value.register
        if target is None:
            with self.register(expr) as register:
                self.asm.store(R10, value.slot, register, 8)
            return
        in_place = (
            isinstance(expr, Binary) and expr.left is value and not expr.right.mentions(value)
        )
        if expr.mentions(value) and expr is not value and not in_place:
            with self.scratch() as register:
                self.into(expr, register)
                self.asm.mov(target, register)
            return
        self.into(expr, target)
