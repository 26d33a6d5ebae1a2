"""The structured builder: programs read top to bottom, with values, blocks, loops and records.

What emits code is a call on the builder or an assignment to a record's field. Python's ``if`` and
``for`` decide while the program is built; ``with b.if_(...)`` decides in the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Callable, Optional, Union

from systemscope.bpfasm.assembler import Assembler
from systemscope.bpfasm.evaluate import Evaluator
from systemscope.bpfasm.insn import Insn
from systemscope.bpfasm.isa import R0, R1, R2, R3, R4, R5, R10, Alu, Atomic, Jmp, Reg
from systemscope.bpfasm.records import RecordType
from systemscope.bpfasm.types import (
    AttachType,
    MapSpec,
    ProgramFlag,
    ProgramSpec,
    ProgramType,
)
from systemscope.bpfasm.values import (
    Compare,
    Condition,
    Const,
    Expr,
    ExprLike,
    Location,
    Pointer,
    StackAddress,
    Value,
    as_expr,
    fail,
)

_ARGUMENTS = (R1, R2, R3, R4, R5)
_LOOKUP, _UPDATE, _DELETE, _LOOP = 1, 2, 3, 181

ANY, NOEXIST, EXIST = 0, 1, 2  # flags of a map update

Argument = Union[ExprLike, MapSpec, "FunctionRef"]


class FunctionRef:
    """A BPF function's address, as an argument of a helper that calls back."""

    def __init__(self, name: str) -> None:
        self.name = name


class Builder:
    """Builds one program.

    ``isa`` bounds the instructions used. ``direct_values`` says the kernel takes map value
    addresses in instructions (5.2); without it :meth:`value_of` looks the value up.
    ``bounded_loops`` says the verifier follows loops (5.3); without it they are unrolled.
    """

    def __init__(
        self,
        name: str,
        type: ProgramType,
        *,
        isa: int = 4,
        direct_values: bool = True,
        bounded_loops: bool = True,
        context: bool = True,
    ) -> None:
        self.name, self.type = name, type
        self.asm = Assembler(name, isa)
        self.direct_values, self.bounded_loops = direct_values, bounded_loops
        self._eval = Evaluator(self.asm, tidy=not bounded_loops)
        self._closed_if: Optional[tuple[int, str]] = None
        self._ends: list[str] = []
        self._context: Optional[Value] = None
        if context:
            self._context = self._eval.frame.allocate(signed=False, spill=False)
            assert self._context.register is not None
            self.asm.mov(self._context.register, R1)

    # -- values

    @property
    def context(self) -> Value:
        """The program's context pointer."""
        if self._context is None:
            raise fail("this builder was made without a context")
        return self._context

    def let(self, expr: ExprLike, *, signed: bool = False, spill: bool = False) -> Value:
        """Evaluate now, keep until the block ends. ``spill`` keeps it on the stack."""
        source = as_expr(expr)
        value = self._eval.frame.allocate(signed or source.signed, spill)
        if value.register is None:
            with self._eval.register(source) as register:
                self.asm.store(R10, value.slot, register, 8)
        else:
            self._eval.into(source, value.register)
        return value

    def set(self, value: Value, expr: ExprLike) -> None:
        """Assign to a variable made by :meth:`let`."""
        self._eval.set_value(value, as_expr(expr))

    def load(self, base: ExprLike, offset: int, size: int, signed: bool = False) -> Value:
        """``*(size bytes)(base + offset)``: context fields and BTF-typed kernel pointers."""
        value = self._eval.frame.allocate(signed, spill=False)
        with self._eval.register(as_expr(base)) as register:
            if value.register is not None:
                self.asm.load(value.register, register, offset, size)
            else:
                with self._eval.scratch(avoid=(register,)) as result:
                    self.asm.load(result, register, offset, size)
                    self.asm.store(R10, value.slot, result, 8)
        return value

    def cast(self, base: ExprLike, record: RecordType) -> Pointer:
        """``base`` seen as a pointer to ``record``."""
        return Pointer(self, as_expr(base), record)

    def address(self, pointer: Pointer, field: str = "") -> Expr:
        """The address of a record, or of one of its fields."""
        base = pointer._base
        offset = pointer._record.fields[field].offset if field else 0
        if isinstance(base, StackAddress):
            return StackAddress(base.offset + offset, base.scope)
        return base + offset if offset else base

    def forget(self, stack: bool = False) -> None:
        """Empty the registers, and the ``stack``, that hold no variable: paths that differ in
        nothing else meet here, for verifiers that do not know what is read again (before 4.15)."""
        self._eval.forget(stack)

    # -- memory

    def stack(self, record: RecordType, zero: bool = True) -> Pointer:
        """A record on the stack, zeroed unless every byte will be written before it is used."""
        address = self._eval.frame.reserve(record.size)
        if zero:
            at = 0
            for size in (8, 4, 2, 1):
                while record.size - at >= size:
                    self.asm.store_imm(R10, address.offset + at, 0, size)
                    at += size
        return Pointer(self, address, record)

    def store(self, location: Location, expr: ExprLike) -> None:
        """``location = expr``."""
        self._eval.store_to(location, as_expr(expr))
        self._touch(location)

    def add(self, location: Location, expr: ExprLike) -> None:
        """``location += expr``, for memory only this CPU or lock holder writes."""
        size = location.field.size
        memory = self._eval.address(location)
        with memory as (base, offset), self._eval.hold(base), self._eval.scratch() as total:
            self.asm.load(total, base, offset, size)
            with self._eval.operand(as_expr(expr)) as operand:
                self.asm.alu(Alu.ADD, total, operand)
            self.asm.store(base, offset, total, size)
        self._touch(location)

    def atomic_add(self, location: Location, expr: ExprLike) -> None:
        """``location += expr`` against every CPU."""
        memory = self._eval.address(location)
        with self._eval.register(as_expr(expr)) as value, memory as (base, offset):
            self.asm.atomic(Atomic.ADD, base, offset, value, location.field.size)
        self._touch(location)

    def _touch(self, location: Location) -> None:
        versions = location.pointer._versions
        versions[location.field.name] = versions.get(location.field.name, 0) + 1

    # -- calls

    def call(
        self, helper: int, *arguments: Argument, signed: bool = False, into: Optional[Value] = None
    ) -> Value:
        """Call a helper and keep its result, ``into`` a variable there is or a new one."""
        self.do(helper, *arguments)
        return self._result(signed, into)

    def do(self, helper: int, *arguments: Argument) -> None:
        """Call a helper for its effect."""
        self._arguments(arguments)
        self.asm.call(helper)

    def call_function(self, name: str, *arguments: Argument, signed: bool = False) -> Value:
        """Call a BPF function made by :meth:`function` and keep its result."""
        self._arguments(arguments)
        self.asm.call_function(name)
        return self._result(signed)

    def call_kfunc(self, name: str, *arguments: Argument, signed: bool = False) -> Value:
        """Call a kernel function by BTF name and keep its result."""
        self._arguments(arguments)
        self.asm.call_kfunc(name)
        return self._result(signed)

    def _arguments(self, arguments: Sequence[Argument]) -> None:
        if len(arguments) > len(_ARGUMENTS):
            raise fail(f"{len(arguments)} arguments: BPF passes at most 5")
        done: list[Reg] = []
        for register, argument in zip(_ARGUMENTS, arguments):
            with self._eval.hold(*done, register):
                if isinstance(argument, MapSpec):
                    self.asm.load_map(register, argument)
                elif isinstance(argument, FunctionRef):
                    self.asm.load_function(register, argument.name)
                else:
                    self._eval.into(as_expr(argument), register)
            done.append(register)

    def _result(self, signed: bool, into: Optional[Value] = None) -> Value:
        value = self._eval.frame.allocate(signed, spill=False) if into is None else into
        value.of_call = True
        if value.register is None:
            self.asm.store(R10, value.slot, R0, 8)
        else:
            self.asm.mov(value.register, R0)
        return value

    # -- maps

    def lookup(self, spec: MapSpec, key: ExprLike, record: RecordType) -> Pointer:
        """The value at ``key`` (a pointer to the key), null when there is none."""
        self._fits(spec, record)
        return Pointer(self, self.call(_LOOKUP, spec, key), record)

    def lookup_index(self, spec: MapSpec, index: ExprLike, record: RecordType) -> Pointer:
        """Like :meth:`lookup` for a number as 4-byte key, put on the stack here."""
        self._fits(spec, record)
        slot = self._eval.frame.reserve(8)
        with self._eval.register(as_expr(index)) as register:
            self.asm.store(R10, slot.offset, register, 4)
        return Pointer(self, self.call(_LOOKUP, spec, slot), record)

    def value_of(self, spec: MapSpec, record: RecordType) -> Pointer:
        """The only value of an array map, never null."""
        self._fits(spec, record)
        if self.direct_values and "PERCPU" not in spec.type.name:
            value = self._eval.frame.allocate(signed=False, spill=False)
            if value.register is not None:
                self.asm.load_map_value(value.register, spec)
            else:
                with self._eval.scratch() as register:
                    self.asm.load_map_value(register, spec)
                    self.asm.store(R10, value.slot, register, 8)
            return Pointer(self, value, record)
        pointer = self.lookup_index(spec, 0, record)
        with self.if_(self.is_null(pointer)):
            self.exit(0)
        return pointer

    def update(self, spec: MapSpec, key: ExprLike, value: ExprLike, flags: int = ANY) -> Value:
        """Insert or replace; the result is 0 or a negative errno."""
        return self.call(_UPDATE, spec, key, value, flags, signed=True)

    def delete(self, spec: MapSpec, key: ExprLike) -> None:
        """Remove ``key`` if it is there."""
        self.do(_DELETE, spec, key)

    def lookup_or_insert(
        self, spec: MapSpec, key: ExprLike, initial: Callable[[], ExprLike], record: RecordType
    ) -> Pointer:
        """The value at ``key``, inserted from ``initial()`` when missing; null when refused.

        ``initial`` emits the making of the first value, only on the path that needs it.
        """
        pointer = self.lookup(spec, key, record)
        base = pointer._base
        assert isinstance(base, Value)
        with self.if_(self.is_null(pointer)):
            self.do(_UPDATE, spec, key, initial(), NOEXIST)
            again = self.call(_LOOKUP, spec, key)
            self.set(base, again)
        return pointer

    def _fits(self, spec: MapSpec, record: RecordType) -> None:
        if record.size != spec.value_size:
            raise fail(
                f"{record.__name__} has {record.size} bytes, '{spec.name}' {spec.value_size}"
            )

    # -- control

    def is_null(self, pointer: Union[Pointer, Expr]) -> Condition:
        """True for the null pointer."""
        return Compare(Jmp.JEQ, as_expr(pointer), Const(0))

    def not_null(self, pointer: Union[Pointer, Expr]) -> Condition:
        """True for anything but the null pointer."""
        return Compare(Jmp.JNE, as_expr(pointer), Const(0))

    @contextmanager
    def if_(self, condition: Union[Condition, Expr]) -> Iterator[None]:
        """Run the block when ``condition`` holds (an expression: when it is not 0)."""
        if isinstance(condition, Expr):
            condition = condition != 0
        otherwise = self.asm.fresh_label("else")
        self._eval.branch(condition, otherwise, when=False)
        with self.block():
            yield
        self.asm.label(otherwise)
        self._closed_if = (len(self.asm.current.insns), otherwise)

    @contextmanager
    def else_(self) -> Iterator[None]:
        """Run the block when the ``if_`` right before it did not."""
        position = len(self.asm.current.insns)
        if self._closed_if is None or self._closed_if[0] != position:
            raise fail("else_() must follow an if_() block at once")
        otherwise, end = self._closed_if[1], self.asm.fresh_label("end")
        self.asm.jump(end)
        self.asm.current.labels[otherwise] = position + 1
        with self.block():
            yield
        self.asm.label(end)
        self._closed_if = None

    @contextmanager
    def block(self) -> Iterator[None]:
        """A scope: variables and records made inside end with it."""
        self._eval.frame.enter()
        yield
        self._eval.leave()

    def repeat(self, count: int, body: Callable[[Expr], None]) -> None:
        """Run ``body(index)`` for 0..count-1; :meth:`break_` leaves it."""
        if count <= 0:
            return
        end = self.asm.fresh_label("end_loop")
        self._ends.append(end)
        if self.bounded_loops:
            with self.block():
                index, top = self.let(0), self.asm.fresh_label("loop")
                self.asm.label(top)
                with self.block():
                    body(index)
                self.set(index, index + 1)
                self._eval.branch(index < count, top, when=True)
        else:
            for number in range(count):
                with self.block():
                    body(Const(number))
        self.asm.label(end)
        self._ends.pop()

    def break_(self) -> None:
        """Leave the innermost :meth:`repeat`."""
        if not self._ends:
            raise fail("break_() stands outside of repeat()")
        self.asm.jump(self._ends[-1])

    def bpf_loop(self, count: ExprLike, function: str, context: ExprLike) -> Value:
        """Call ``function(index, context)`` up to ``count`` times until it returns 1 (5.17)."""
        return self.call(_LOOP, count, FunctionRef(function), context, 0, signed=True)

    def exit(self, result: ExprLike = 0) -> None:
        """Return from the program or function."""
        self._eval.into(as_expr(result), R0)
        self.asm.exit()

    @contextmanager
    def function(
        self, name: str, arguments: int, callback: bool = False, apart: bool = False
    ) -> Iterator[tuple[Value, ...]]:
        """The body of BPF function ``name``; yields its arguments. End it with :meth:`exit`."""
        outer, outer_eval, outer_context = self.asm.current, self._eval, self._context
        self.asm.function(name, arguments, callback, apart)
        self._eval, self._context = Evaluator(self.asm, self._eval.tidy), None
        self._closed_if = None
        values = []
        for register in _ARGUMENTS[:arguments]:
            value = self._eval.frame.allocate(signed=False, spill=False)
            if value.register is None:
                self.asm.store(R10, value.slot, register, 8)
            else:
                self.asm.mov(value.register, register)
            values.append(value)
        yield tuple(values)
        self.asm.current, self._eval, self._context = outer, outer_eval, outer_context
        self._closed_if = None

    def emit(self, insn: Insn) -> None:
        """An instruction of the explicit level."""
        self.asm.emit(insn)

    def build(
        self,
        attach_to: str = "",
        attach_type: AttachType = AttachType.NONE,
        flags: ProgramFlag = ProgramFlag(0),
    ) -> ProgramSpec:
        """The finished program."""
        return self.asm.build(self.type, attach_to, attach_type, flags, prune=True)
