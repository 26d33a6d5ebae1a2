"""Virtual values: expressions built in Python, evaluated in the kernel when they are used.

Building an expression emits nothing. ``Builder.let`` evaluates one into a variable; conditions,
stores and call arguments evaluate the ones they are given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Union

from systemscope.bpfasm.errors import AssemblyError
from systemscope.bpfasm.isa import Alu, Jmp, Reg
from systemscope.bpfasm.records import FieldInfo, RecordType
from systemscope.bpfasm.source import here

if TYPE_CHECKING:
    from systemscope.bpfasm.builder import Builder

ExprLike = Union["Expr", "Pointer", int]


def fail(problem: str) -> AssemblyError:
    """The error to raise at the program author's line."""
    location = here()
    return AssemblyError(problem, location.file, location.line)


class Condition:
    """Something ``if_`` can decide in the kernel."""

    def __bool__(self) -> bool:
        raise fail("a kernel value cannot be tested by Python's 'if': use 'with b.if_(...)'")


class Compare(Condition):
    """``left op right``."""

    def __init__(self, op: Jmp, left: Expr, right: Expr) -> None:
        self.op, self.left, self.right = op, left, right


class Not(Condition):
    """The opposite."""

    def __init__(self, inner: Condition) -> None:
        self.inner = inner


class All(Condition):
    """Every one, left to right, stopping at the first that fails."""

    def __init__(self, *parts: Condition) -> None:
        self.parts = parts


class Any_(Condition):  # noqa: N801
    """At least one, left to right, stopping at the first that holds."""

    def __init__(self, *parts: Condition) -> None:
        self.parts = parts


class Expr:
    """An unsigned 64-bit expression, unless ``signed``. ``negative``: a number below 0."""

    signed = False
    negative = False

    def __bool__(self) -> bool:
        raise fail("a kernel value cannot be tested by Python's 'if': use 'with b.if_(...)'")

    def __add__(self, other: ExprLike) -> Expr:
        return Binary(Alu.ADD, self, other)

    def __radd__(self, other: int) -> Expr:
        return Binary(Alu.ADD, self, other)

    def __sub__(self, other: ExprLike) -> Expr:
        return Binary(Alu.SUB, self, other)

    def __rsub__(self, other: int) -> Expr:
        return Binary(Alu.SUB, Const(other), self)

    def __mul__(self, other: ExprLike) -> Expr:
        return Binary(Alu.MUL, self, other)

    def __floordiv__(self, other: ExprLike) -> Expr:
        return self._unsigned(Alu.DIV, other)

    def __mod__(self, other: ExprLike) -> Expr:
        return self._unsigned(Alu.MOD, other)

    def _unsigned(self, op: Alu, other: ExprLike) -> Expr:
        result = Binary(op, self, other)
        if result.signed or result.right.negative:
            raise fail("division is unsigned: a signed operand would not give what it says")
        return result

    def __and__(self, other: ExprLike) -> Expr:
        return Binary(Alu.AND, self, other)

    def __or__(self, other: ExprLike) -> Expr:
        return Binary(Alu.OR, self, other)

    def __xor__(self, other: ExprLike) -> Expr:
        return Binary(Alu.XOR, self, other)

    def __lshift__(self, other: ExprLike) -> Expr:
        return Binary(Alu.LSH, self, other)

    def __rshift__(self, other: ExprLike) -> Expr:
        return Binary(Alu.ARSH if self.signed else Alu.RSH, self, other)

    def _compare(self, plain: Jmp, signed: Jmp, other: ExprLike) -> Condition:
        right = as_expr(other)
        if self.signed or right.signed:
            return Compare(signed, self, right)
        always = plain in (Jmp.JLT, Jmp.JGE) and isinstance(right, Const) and right.number == 0
        if right.negative or always:
            raise fail("an unsigned value is never below 0: make it with signed=True")
        return Compare(plain, self, right)

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]
        return Compare(Jmp.JEQ, self, as_expr(other))

    def __ne__(self, other: object) -> Condition:  # type: ignore[override]
        return Compare(Jmp.JNE, self, as_expr(other))

    def __lt__(self, other: ExprLike) -> Condition:
        return self._compare(Jmp.JLT, Jmp.JSLT, other)

    def __le__(self, other: ExprLike) -> Condition:
        return self._compare(Jmp.JLE, Jmp.JSLE, other)

    def __gt__(self, other: ExprLike) -> Condition:
        return self._compare(Jmp.JGT, Jmp.JSGT, other)

    def __ge__(self, other: ExprLike) -> Condition:
        return self._compare(Jmp.JGE, Jmp.JSGE, other)

    __hash__ = object.__hash__

    def mentions(self, value: Value) -> bool:
        """True when evaluating this reads ``value``."""
        return False


class Const(Expr):
    """A number known now; must fit in 64 bits, signed or unsigned."""

    def __init__(self, number: int) -> None:
        if not -(1 << 63) <= number < 1 << 64:
            raise fail(f"{number:#x} does not fit in 64 bits")
        self.number = number if number < 1 << 63 else number - (1 << 64)
        self.negative = number < 0


class Binary(Expr):
    """``left op right``, 64 bits, wrapping."""

    def __init__(self, op: Alu, left: ExprLike, right: ExprLike) -> None:
        self.op, self.left, self.right = op, as_expr(left), as_expr(right)
        shifts = op in (Alu.LSH, Alu.RSH, Alu.ARSH)
        self.signed = self.left.signed or (self.right.signed and not shifts)

    def mentions(self, value: Value) -> bool:
        return self.left.mentions(value) or self.right.mentions(value)


class Value(Expr):
    """A variable: in a callee-saved register, or in a stack slot (``slot`` is its r10 offset)."""

    def __init__(self, register: Optional[Reg], slot: int, signed: bool) -> None:
        self.register, self.slot, self.signed = register, slot, signed
        self.alive, self.of_call = True, False

    def mentions(self, value: Value) -> bool:
        return self is value


class Scope:
    """One block: what it holds is gone, and its place taken by others, when it ends."""

    def __init__(self, depth: int) -> None:
        self.depth = depth  # bytes of stack in use when it began
        self.values: list[Value] = []
        self.alive = True


class StackAddress(Expr):
    """r10 + ``offset``, inside what was reserved in ``scope``."""

    def __init__(self, offset: int, scope: Scope) -> None:
        self.offset, self.scope = offset, scope

    def check(self) -> None:
        """Raise when the block is over."""
        if not self.scope.alive:
            raise fail("the record's block has ended: make it before the block")


class Location(Expr):
    """A field in memory: reading it loads, the builder stores to it.

    ``index`` picks an array element, masked to the array's (power of two) length.
    """

    def __init__(self, pointer: Pointer, field: FieldInfo, index: Optional[Expr] = None) -> None:
        self.pointer, self.field, self.index = pointer, field, index
        self.signed = field.signed
        self.version = pointer._versions.get(field.name, 0)

    def mentions(self, value: Value) -> bool:
        inner = self.index is not None and self.index.mentions(value)
        return inner or self.pointer._base.mentions(value)

    def check_fresh(self) -> None:
        """A read written before a store but evaluated after it would see the new value."""
        if self.version != self.pointer._versions.get(self.field.name, 0):
            raise fail(f"'{self.field.name}' was stored to since this read: keep it with b.let()")


class ArrayRef:
    """An array field; index it with a number or an expression."""

    def __init__(self, pointer: Pointer, field: FieldInfo) -> None:
        self._pointer, self._field = pointer, field

    def __getitem__(self, index: ExprLike) -> Location:
        field = self._field
        if isinstance(index, int):
            if not 0 <= index < field.count:
                raise fail(f"index {index} is outside {field.name}[{field.count}]")
            offset = field.offset + index * field.size
            single = FieldInfo(field.name, offset, field.size, field.signed, 0, False)
            return Location(self._pointer, single)
        if field.count & (field.count - 1):
            raise fail(f"{field.name}[{field.count}]: only a power of two takes a computed index")
        return Location(self._pointer, field, as_expr(index))

    def __setitem__(self, index: ExprLike, value: ExprLike) -> None:
        self._pointer._builder.store(self[index], value)


class Pointer:
    """A pointer to a record: ``pointer.field`` reads, ``pointer.field = x`` stores."""

    _builder: Builder
    _base: Expr
    _record: RecordType
    _versions: dict[str, int]

    def __init__(self, builder: Builder, base: Expr, record: RecordType) -> None:
        object.__setattr__(self, "_builder", builder)
        object.__setattr__(self, "_base", base)
        object.__setattr__(self, "_record", record)
        object.__setattr__(self, "_versions", {})

    def __bool__(self) -> bool:
        raise fail("a kernel pointer cannot be tested by Python's 'if': use 'with b.if_(...)'")

    def __getattr__(self, name: str) -> Any:
        field = self._record.fields.get(name)
        if field is None:
            raise fail(f"record {self._record.__name__} has no field '{name}'")
        return ArrayRef(self, field) if field.count else Location(self, field)

    def __setattr__(self, name: str, value: Any) -> None:
        location = self.__getattr__(name)
        if not isinstance(location, Location):
            raise fail(f"'{name}' is an array: assign to its elements")
        self._builder.store(location, value)


def as_expr(value: object) -> Expr:
    """Numbers become constants, pointers their address."""
    if isinstance(value, Expr):
        return value
    if isinstance(value, Pointer):
        return value._base
    if isinstance(value, int):
        return Const(int(value))
    raise fail(f"{value!r} is not a kernel value, pointer or number")
