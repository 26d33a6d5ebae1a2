"""What the builder refuses, and where; what it makes is run in tests/kernel/test_asm_builder.py."""

from __future__ import annotations

import inspect
from typing import Callable

import pytest

from systemscope.bpfasm.builder import Builder
from systemscope.bpfasm.errors import AssemblyError
from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.listing import instructions
from systemscope.bpfasm.records import Array, Bytes, Record, s32, u32, u64
from systemscope.bpfasm.types import MapSpec, MapType, ProgramSpec, ProgramType
from systemscope.bpfasm.values import Expr


class Pair(Record):
    """Sixteen bytes."""

    first: u64
    small: u32
    minus: s32


class Wide(Record):
    """Arrays."""

    three: Array = Array(u64, 3)
    four: Array = Array(u32, 4)
    name: Bytes = Bytes(8)


PAIRS = MapSpec("pairs", MapType.HASH, 8, Pair.size, 8)
ONE = MapSpec("one", MapType.ARRAY, 4, Pair.size, 1)
MANY = MapSpec("many", MapType.ARRAY, 4, Pair.size, 4)


def _builder(isa: int = 4) -> Builder:
    return Builder("refused", ProgramType.SOCKET_FILTER, isa=isa)


def _python_if(b: Builder) -> None:
    if b.let(1):
        pass


def _python_if_on_comparison(b: Builder) -> None:
    if b.let(1) == 2:
        pass


def _python_if_on_pointer(b: Builder) -> None:
    if b.stack(Pair):
        pass


def _else_too_late(b: Builder) -> None:
    with b.if_(b.let(1) == 1):
        b.exit(1)
    b.let(2)
    with b.else_():
        pass


def _value_after_its_block(b: Builder) -> None:
    with b.block():
        value = b.let(1)
    b.let(value)


def _record_after_its_block(b: Builder) -> None:
    with b.block():
        pair = b.stack(Pair)
    b.let(pair.first)


def _address_after_its_block(b: Builder) -> None:
    with b.block():
        where = b.address(b.stack(Pair), "small")
    b.do(Helper.ktime_get_ns, where)


def _read_before_store(b: Builder) -> None:
    pair = b.stack(Pair)
    old = pair.first
    pair.first = 5
    b.let(old)


def _six_arguments(b: Builder) -> None:
    b.call(Helper.ktime_get_ns, 1, 2, 3, 4, 5, 6)


def _too_deep(b: Builder) -> None:
    tree: Expr = b.let(1, spill=True)
    for _ in range(8):
        tree = b.let(1, spill=True) - tree
    b.let(tree)


def _stack_too_large(b: Builder) -> None:
    for _ in range(33):
        b.stack(Pair)


REFUSED: list[tuple[Callable[[Builder], object], int, str]] = [
    (_python_if, 1, "cannot be tested by Python's 'if'"),
    (_python_if_on_comparison, 1, "cannot be tested by Python's 'if'"),
    (_python_if_on_pointer, 1, "cannot be tested by Python's 'if'"),
    (_else_too_late, 4, r"else_\(\) must follow an if_\(\) block at once"),
    (_value_after_its_block, 3, "the value's block has ended"),
    (_record_after_its_block, 3, "the record's block has ended"),
    (_address_after_its_block, 3, "the record's block has ended"),
    (_read_before_store, 4, "'first' was stored to since this read"),
    (_six_arguments, 1, "6 arguments: BPF passes at most 5"),
    (_too_deep, 4, "too deep for the scratch registers"),
    (_stack_too_large, 2, "needs 528 bytes of stack, BPF has 512"),
    (lambda b: b.let("text"), 0, "'text' is not a kernel value, pointer or number"),
    (lambda b: b.let(1 << 64), 0, "0x10000000000000000 does not fit in 64 bits"),
    (lambda b: b.stack(Pair).third, 0, "record Pair has no field 'third'"),
    (lambda b: setattr(b.stack(Wide), "four", 1), 0, "'four' is an array"),
    (lambda b: b.stack(Wide).four[4], 0, r"index 4 is outside four\[4\]"),
    (lambda b: b.stack(Wide).three[b.let(0)], 0, "only a power of two takes a computed index"),
    (lambda b: setattr(b.stack(Pair), "small", 1 << 32), 0, "does not fit in 4 bytes"),
    (lambda b: b.let(b.let(1) // 0), 0, "division by zero"),
    (lambda b: b.let(b.let(1) << 64), 0, "shift by 64 in 64 bits"),
    (lambda b: b.let(1, signed=True) // 2, 0, "division is unsigned"),
    (lambda b: b.let(7) % -2, 0, "division is unsigned"),
    (lambda b: b.let(1) < 0, 0, "an unsigned value is never below 0"),
    (lambda b: b.let(1) >= 0, 0, "an unsigned value is never below 0"),
    (lambda b: b.let(1) > -1, 0, "an unsigned value is never below 0"),
    (lambda b: b.break_(), 0, r"break_\(\) stands outside of repeat\(\)"),
    (lambda b: b.lookup(PAIRS, b.address(b.stack(Pair)), Wide), 0, "Wide has 48 bytes, 'pairs' 16"),
    (lambda b: b.value_of(MANY, Pair), 0, "map 'many' is no array of one value"),
    (lambda b: b.call_function("missing"), 0, "there is no BPF function 'missing'"),
    (lambda b: b.atomic_add(b.stack(Wide).name[0], 1), 0, "no atomic operation on 1 bytes"),
]


@pytest.mark.parametrize(("body", "line", "problem"), REFUSED, ids=[case[2] for case in REFUSED])
def test_refused_at_the_line_that_asks(
    body: Callable[[Builder], object], line: int, problem: str
) -> None:
    b = _builder()
    with pytest.raises(AssemblyError, match=problem) as caught:
        body(b)
        b.exit(0)
        b.build()
    assert caught.value.file.endswith("test_asm_builder.py")
    assert caught.value.line == inspect.getsourcelines(body)[1] + line


def test_no_context_to_read() -> None:
    b = Builder("bare", ProgramType.SOCKET_FILTER, context=False)
    with pytest.raises(AssemblyError, match="made without a context"):
        b.let(b.context)


def test_a_signed_value_may_be_below_0() -> None:
    b = _builder()
    result = b.call(Helper.map_delete_elem, PAIRS, b.address(b.stack(Pair)), signed=True)
    with b.if_(result < 0):
        b.exit(1)
    b.exit(0)
    assert any("s>= 0x0" in text for _, text in instructions(b.build()))


def _everything(isa: int, direct: bool, loops: bool) -> ProgramSpec:
    b = Builder(
        "everything",
        ProgramType.SOCKET_FILTER,
        isa=isa,
        direct_values=direct,
        bounded_loops=loops,
    )
    one = b.value_of(ONE, Pair)
    total = b.let(one.first)
    b.repeat(3, lambda index: b.set(total, total * 3 + index))
    with b.if_(total < one.minus):
        b.exit(1)
    with b.else_():
        one.first = total
    b.exit(0)
    return b.build()


@pytest.mark.parametrize("isa", [1, 2, 3, 4])
def test_no_instruction_is_above_the_level(isa: int) -> None:
    spec = _everything(isa, direct=isa > 2, loops=isa > 2)
    assert spec.isa == isa
    texts = [text for _, text in instructions(spec)]
    assert any("(s32 *)" in text for text in texts) == (isa == 4)
    if isa == 1:
        assert not any(sign in text for text in texts for sign in (" < ", " <= ", "s<"))


def test_what_kernels_lack_is_done_otherwise() -> None:
    def texts(direct: bool, loops: bool) -> list[str]:
        return [text for _, text in instructions(_everything(4, direct, loops))]

    assert "r7 = map[one].value+0" in texts(True, True)
    assert "call map_lookup_elem#1" in texts(False, True)
    assert sum("*= 3" in text for text in texts(True, True)) == 1
    assert sum("*= 3" in text for text in texts(True, False)) == 3


def test_every_instruction_names_its_line() -> None:
    spec = _everything(4, True, True)
    first = inspect.getsourcelines(_everything)[1]
    assert {line.file.rsplit("/", 1)[-1] for line in spec.lines} == {"test_asm_builder.py"}
    assert all(first <= line.line < first + 22 for line in spec.lines)
    assert [line.index for line in spec.lines] == [slot for slot, _ in instructions(spec)]


def test_records_read_in_user_space_what_programs_write() -> None:
    assert (Wide.size, Wide.format) == (48, "<3Q4I8s")
    assert [Wide.index(name) for name in ("three", "four", "name")] == [0, 3, 7]
    data = Pair.pack(first=1, small=2, minus=-3)
    assert list(Pair.iter_unpack(data + data)) == [(1, 2, -3)] * 2
    with pytest.raises(KeyError):
        Pair.index("none")
    with pytest.raises(AssemblyError, match="needs explicit padding at its end"):
        type("Ragged", (Record,), {"__annotations__": {"a": "u64", "b": "u8"}})
    with pytest.raises(AssemblyError, match="field b at 1 needs explicit padding"):
        type("Hole", (Record,), {"__annotations__": {"a": "u8", "b": "u32"}})
    with pytest.raises(AssemblyError, match="has no BPF type 'float'"):
        type("Strange", (Record,), {"__annotations__": {"a": "float"}})
