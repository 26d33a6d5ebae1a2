"""What the builder's constructs mean, found by running them in the kernel."""

from __future__ import annotations

import random

import pytest

from systemscope.bpfasm.builder import Builder
from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.records import Record, s16, u8, u16, u32
from systemscope.bpfasm.types import ProgramType
from systemscope.bpfasm.values import All, Any_, Expr, Not, Pointer
from tests.kernel.asm_runner import U64, VARIANTS, Body, Key, Sum, Variant, loaded

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: f"v{v.isa}"),
]


class Odd(Record):
    """Seven bytes: no multiple of anything."""

    a: u8
    b: u8
    c: u8
    d: u8
    e: u8
    f: u8
    g: u8


class Signed(Record):
    """Narrow fields with a sign."""

    low: s16
    high: u16
    pad: u32


def _outputs(body: Body, variant: Variant, *given: int) -> list[int]:
    with loaded(body, variant) as program:
        return program(*given)


def test_arithmetic(variant: Variant) -> None:
    def body(b: Builder, io: Pointer) -> None:
        x, y = b.let(io.given[0]), b.let(io.given[1])
        io.out[0] = x + y
        io.out[1] = x - y
        io.out[2] = x * y
        io.out[3] = x // y
        io.out[4] = x % y
        io.out[5] = (x & 0xFF00) | (y ^ 0x1234567890ABCDEF)
        io.out[6] = (x << 3) + (x >> (y & 63))
        io.out[7] = 5 - x

    x, y = 0xFEDCBA9876543210, 77
    assert _outputs(body, variant, x, y) == [
        x + y,
        x - y,
        x * y & U64,
        x // y,
        x % y,
        x & 0xFF00 | y ^ 0x1234567890ABCDEF,
        ((x << 3) + (x >> (y & 63))) & U64,
        5 - x & U64,
    ]


def test_division_by_zero_is_the_kernels(variant: Variant) -> None:
    def body(b: Builder, io: Pointer) -> None:
        io.out[0] = io.given[0] // io.given[1]
        io.out[1] = io.given[0] % io.given[1]

    assert _outputs(body, variant, 42, 0)[:2] == [0, 42]


def test_set_may_read_what_it_sets(variant: Variant) -> None:
    def body(b: Builder, io: Pointer) -> None:
        for spill in (False, True):
            x = b.let(io.given[0], spill=spill)
            b.set(x, x + 1)
            b.set(x, 100 - x)
            b.set(x, (x * 2) - (x + x) + (x ^ x) + x)
            b.set(x, x)
            io.out[int(spill)] = x

    assert _outputs(body, variant, 7)[:2] == [92, 92]


def test_more_variables_than_registers(variant: Variant) -> None:
    def body(b: Builder, io: Pointer) -> None:
        values = [b.let(io.given[i % 8] + i) for i in range(12)]
        b.do(Helper.ktime_get_ns)  # takes every scratch register
        total: Expr = values[0]
        for value in values[1:]:
            total = total * 3 + value
        io.out[0] = total

    given = [random.Random(1).getrandbits(64) for _ in range(8)]
    total = given[0]
    for i in range(1, 12):
        total = (total * 3 + given[i % 8] + i) & U64
    assert _outputs(body, variant, *given)[0] == total


@pytest.mark.parametrize("x", [0, 1, 5, 2**31, 2**32 + 5, U64, 2**63])
def test_comparisons(variant: Variant, x: int) -> None:
    def body(b: Builder, io: Pointer) -> None:
        value = b.let(io.given[0])
        signed = b.let(io.given[0], signed=True)
        conditions = [
            [value == 5, value != 5, value < 5, value <= 5, value > 5, value >= 5],
            [signed == 5, signed != 5, signed < 5, signed <= 5, signed > 5, signed >= 5],
            [value < 0x1_0000_0005, signed > -0x1_0000_0005, value == 2**63, signed < 0],
            [value < io.given[1], value >= io.given[1], signed < io.given[1]],
        ]
        for out, group in enumerate(conditions):
            for bit, condition in enumerate(group):
                with b.if_(condition):
                    io.out[out] = io.out[out] | (1 << bit)

    y = 6
    s = x - (1 << 64) if x >> 63 else x
    expected = [
        [x == 5, x != 5, x < 5, x <= 5, x > 5, x >= 5],
        [s == 5, s != 5, s < 5, s <= 5, s > 5, s >= 5],
        [x < 0x1_0000_0005, s > -0x1_0000_0005, x == 2**63, s < 0],
        [x < y, x >= y, s < y],
    ]
    bits = [sum(1 << i for i, holds in enumerate(group) if holds) for group in expected]
    assert _outputs(body, variant, x, y)[:4] == bits


@pytest.mark.parametrize("bits", range(8))
def test_conditions_combine(variant: Variant, bits: int) -> None:
    p, q, r = (bool(bits >> i & 1) for i in range(3))

    def body(b: Builder, io: Pointer) -> None:
        a, c, d = (io.given[i] != 0 for i in range(3))
        for out, condition in enumerate(
            [
                All(a, c, d),
                Any_(a, c, d),
                Not(All(a, c)),
                Not(Any_(a, c)),
                All(a, Any_(c, d)),
                Any_(a, All(c, d)),
                Not(All(Not(a), Any_(c, Not(d)))),
                All(Any_(a, c), Not(d)),
            ]
        ):
            with b.if_(condition):
                io.out[out] = 1
            with b.else_():
                io.out[out] = 2

    expected = [
        p and q and r,
        p or q or r,
        not (p and q),
        not (p or q),
        p and (q or r),
        p or (q and r),
        not (not p and (q or not r)),
        (p or q) and not r,
    ]
    assert _outputs(body, variant, p, q, r) == [1 if holds else 2 for holds in expected]


@pytest.mark.parametrize(("x", "expected"), [(0, 10), (1, 21), (2, 22), (3, 30)])
def test_branches_nest(variant: Variant, x: int, expected: int) -> None:
    def body(b: Builder, io: Pointer) -> None:
        value = b.let(io.given[0])
        with b.if_(value == 0):
            io.out[0] = 10
        with b.else_():
            with b.if_(value < 3):
                with b.if_(value == 1):
                    io.out[0] = 21
                with b.else_():
                    io.out[0] = 22
            with b.else_():
                io.out[0] = 30
        with b.if_(value):
            io.out[1] = 1

    outputs = _outputs(body, variant, x)
    assert outputs[0] == expected
    assert outputs[1] == (1 if x else 0)


def test_exit_leaves_the_program(variant: Variant) -> None:
    def body(b: Builder, io: Pointer) -> None:
        io.out[0] = 1
        with b.if_(io.given[0] == 9):
            b.exit(io.given[1] + 1)
        io.out[0] = 2

    with loaded(body, variant) as program:
        assert (program(9, 41)[0], program.retval) == (1, 42)
        assert (program(8, 41)[0], program.retval) == (2, 0)


@pytest.mark.parametrize("stop", [0, 1, 5, 6, 100])
def test_repeat(variant: Variant, stop: int) -> None:
    def body(b: Builder, io: Pointer) -> None:
        total, rounds = b.let(0), b.let(0)

        def add(index: Expr) -> None:
            with b.if_(index == io.given[0]):
                b.break_()
            b.set(total, total + io.given[1] + index)
            b.set(rounds, rounds + 1)

        b.repeat(6, add)
        io.out[0], io.out[1] = total, rounds
        b.repeat(0, lambda index: b.set(total, 0))
        io.out[2] = total

    rounds = min(stop, 6)
    total = sum(range(rounds)) + 1000 * rounds
    assert _outputs(body, variant, stop, 1000)[:3] == [total, rounds, total]


def test_loops_nest(variant: Variant) -> None:
    def body(b: Builder, io: Pointer) -> None:
        total = b.let(0)

        def outer(i: Expr) -> None:
            def inner(j: Expr) -> None:
                with b.if_(j > i):
                    b.break_()
                b.set(total, total * 2 + j)

            b.repeat(4, inner)

        b.repeat(5, outer)
        io.out[0] = total

    total = 0
    for i in range(5):
        for j in range(4):
            if j > i:
                break
            total = total * 2 + j
    assert _outputs(body, variant)[0] == total


def test_bpf_loop_calls_back(variant: Variant) -> None:
    def body(b: Builder, io: Pointer) -> None:
        with b.function("step", 2, callback=True) as (index, context):
            sums = b.cast(context, Sum)
            sums.total = sums.total + index
            sums.times += 1
            with b.if_(index == 6):
                b.exit(1)
            b.exit(0)
        sums = b.stack(Sum)
        rounds = b.bpf_loop(io.given[0], "step", b.address(sums))
        io.out[0], io.out[1], io.out[2] = sums.total, sums.times, rounds

    assert _outputs(body, variant, 5)[:3] == [10, 5, 5]
    assert _outputs(body, variant, 100)[:3] == [21, 7, 7]


def test_functions_take_and_give(variant: Variant) -> None:
    def body(b: Builder, io: Pointer) -> None:
        with b.function("mix", 5) as (p, q, r, s, t):
            kept = b.let(p * 10000 + q * 1000)
            with b.if_(t == 0):
                b.exit(0)
            b.exit(kept + r * 100 + s * 10 + t)
        x = b.let(io.given[0])
        result = b.call_function("mix", x, x + 1, io.given[1], 4, io.given[2])
        io.out[0], io.out[1] = result, x
        io.out[2] = b.call_function("mix", 1, 2, 3, 4, 0)

    assert _outputs(body, variant, 1, 3, 5)[:3] == [12345, 1, 0]


def test_records_on_the_stack(variant: Variant) -> None:
    def body(b: Builder, io: Pointer) -> None:
        key = b.stack(Key)
        key.wide = io.given[0]
        key.word = io.given[0]
        key.half = io.given[0]
        key.byte = 255
        io.out[0], io.out[1], io.out[2] = key.wide, key.word, key.half
        io.out[3] = key.byte
        key.word += 1
        b.add(key.half, 3)
        io.out[4], io.out[5], io.out[6] = key.word, key.half, key.pad
        odd = b.stack(Odd)
        odd.g = 7
        io.out[7] = odd.a + odd.b + odd.c + odd.d + odd.e + odd.f + odd.g

    x = 0xFFEEDDCCFFFFFFFF
    expected = [x, 0xFFFFFFFF, 0xFFFF, 255, 0, 2, 0, 7]
    assert _outputs(body, variant, x) == expected


def test_narrow_fields_keep_their_sign(variant: Variant) -> None:
    def body(b: Builder, io: Pointer) -> None:
        record = b.stack(Signed)
        record.low = io.given[0]
        record.high = io.given[0]
        io.out[0], io.out[1] = record.low, record.high
        with b.if_(record.low < 0):
            io.out[2] = record.low >> 4
        io.numbers[1] = io.given[0]
        io.out[3] = io.numbers[1]
        io.out[4] = io.numbers[io.given[1]]
        record.low = -2
        io.out[5] = record.low

    x = -0x7654 & U64
    expected = [x, 0x89AC, -0x7654 >> 4 & U64, x, x, U64 - 1]
    assert _outputs(body, variant, x, 1)[:6] == expected


def test_array_fields_take_a_computed_index(variant: Variant) -> None:
    def body(b: Builder, io: Pointer) -> None:
        index = b.let(io.given[0])
        io.out[index] = 11
        io.out[index + 9] = 22  # masked to the array: 9 is 1
        io.octets[index * 2] = io.given[1] | 0x1FF
        io.out[0] = io.octets[index * 2]
        io.octets[3] = 9
        io.out[7] = io.octets[3] + io.given[index]

    assert _outputs(body, variant, 2, 0, 5) == [255, 0, 11, 22, 0, 0, 0, 14]


def test_variables_end_with_their_block(variant: Variant) -> None:
    def body(b: Builder, io: Pointer) -> None:
        total = b.let(0)
        for step in range(40):  # far more than the stack holds at once
            with b.block():
                values = [b.let(io.given[0] + step * i) for i in range(8)]
                b.set(total, total + values[7])
        io.out[0] = total

    assert _outputs(body, variant, 3)[0] == 40 * 3 + 7 * sum(range(40))


def test_loads_through_the_context(variant: Variant) -> None:
    def body(b: Builder, io: Pointer) -> None:
        io.out[0] = b.load(b.context, 0, 4)  # struct __sk_buff: len

    # The test run takes the Ethernet header off.
    assert _outputs(body, variant)[0] == 64 - 14


def test_the_same_program_gives_the_same_bytes(variant: Variant) -> None:
    def make() -> bytes:
        b = Builder("same", ProgramType.SOCKET_FILTER, isa=variant.isa)
        with b.if_(b.call(Helper.ktime_get_ns) > 5):
            b.exit(1)
        b.exit(0)
        return b.build().code

    assert make() == make()
