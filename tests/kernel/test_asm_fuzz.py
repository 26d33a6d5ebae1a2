"""Random expressions of the builder, evaluated in the kernel and in Python."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Callable, NamedTuple

import pytest

from systemscope.bpfasm.builder import Builder
from systemscope.bpfasm.values import All, Any_, Condition, Expr, Not, Pointer, Value, as_expr
from tests.kernel.asm_runner import U64, VARIANTS, Variant, loaded

pytestmark = pytest.mark.kernel

_EDGES = (0, 1, 2, 63, 64, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, U64)
_INPUTS = 4


class Sides(NamedTuple):
    """The same expression twice: for the kernel, and as a function of the inputs in Python."""

    kernel: Callable[[Sequence[Value]], Expr]
    python: Callable[[Sequence[int]], int]


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _number(rng: random.Random) -> int:
    return rng.choice(_EDGES) if rng.random() < 0.5 else rng.getrandbits(rng.choice((8, 32, 64)))


def _divide(left: int, right: int) -> int:
    return left // right if right else 0  # as BPF defines it


def _remainder(left: int, right: int) -> int:
    return left % right if right else left


def _leaf(rng: random.Random) -> Sides:
    if rng.random() < 0.7:
        which = rng.randrange(_INPUTS)
        return Sides(lambda v: v[which], lambda x: x[which])
    number = _number(rng)
    return Sides(lambda v: as_expr(number), lambda x: number)


def _expression(rng: random.Random, depth: int) -> Sides:
    if depth == 0 or rng.random() < 0.15:
        return _leaf(rng)
    left, right = _expression(rng, depth - 1), _expression(rng, depth - 1)
    kl, kr, pl, pr = left.kernel, right.kernel, left.python, right.python
    number = rng.randrange(64)
    divisor = rng.randrange(1, 1 << 31)
    return rng.choice(
        (
            Sides(lambda v: kl(v) + kr(v), lambda x: pl(x) + pr(x) & U64),
            Sides(lambda v: kl(v) - kr(v), lambda x: pl(x) - pr(x) & U64),
            Sides(lambda v: kl(v) * kr(v), lambda x: pl(x) * pr(x) & U64),
            Sides(lambda v: kl(v) // (kr(v) ^ v[0]), lambda x: _divide(pl(x), pr(x) ^ x[0])),
            Sides(lambda v: kl(v) % (kr(v) ^ v[0]), lambda x: _remainder(pl(x), pr(x) ^ x[0])),
            Sides(lambda v: kl(v) // divisor, lambda x: pl(x) // divisor),
            Sides(lambda v: kl(v) % divisor, lambda x: pl(x) % divisor),
            Sides(lambda v: kl(v) & kr(v), lambda x: pl(x) & pr(x)),
            Sides(lambda v: kl(v) | kr(v), lambda x: pl(x) | pr(x)),
            Sides(lambda v: kl(v) ^ kr(v), lambda x: pl(x) ^ pr(x)),
            Sides(lambda v: kl(v) << number, lambda x: pl(x) << number & U64),
            Sides(lambda v: kl(v) >> number, lambda x: pl(x) >> number),
            Sides(lambda v: kl(v) << (kr(v) & 63), lambda x: pl(x) << (pr(x) & 63) & U64),
            Sides(lambda v: kl(v) >> (kr(v) & 63), lambda x: pl(x) >> (pr(x) & 63)),
            Sides(lambda v: number - kl(v), lambda x: number - pl(x) & U64),
        )
    )


def _comparison(
    rng: random.Random, kept: Sequence[int]
) -> tuple[
    Callable[[Sequence[Value], Sequence[Value]], Condition],
    Callable[[Sequence[int]], bool],
]:
    """A condition on the inputs: over unsigned values, or over their signed twins."""
    left, right = rng.choice(kept), rng.choice(kept)
    constant = (
        rng.choice((*range(-3, 4), 2**31, -(2**31) - 1, 2**40)) if rng.random() < 0.4 else None
    )
    is_signed = rng.random() < 0.5 or (constant is not None and constant <= 0)
    op = rng.choice(("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__"))

    def kernel(plain: Sequence[Value], twins: Sequence[Value]) -> Condition:
        values = twins if is_signed else plain
        other = values[right] if constant is None else constant
        condition: Condition = getattr(values[left], op)(other)
        return condition

    def python(x: Sequence[int]) -> bool:
        a, b = x[left], x[right] if constant is None else constant
        if is_signed:
            a, b = _signed(a), b if constant is not None else _signed(b)
        return bool(getattr(a, op)(b))

    return kernel, python


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: f"v{v.isa}")
@pytest.mark.parametrize("seed", range(12))
def test_expressions(variant: Variant, seed: int) -> None:
    rng = random.Random(seed)
    cases = [_expression(rng, rng.randrange(1, 5)) for _ in range(8)]
    spilled = [rng.random() < 0.3 for _ in range(_INPUTS)]

    def body(b: Builder, io: Pointer) -> None:
        inputs = [b.let(io.given[i], spill=spilled[i]) for i in range(_INPUTS)]
        for out, case in enumerate(cases):
            io.out[out] = case.kernel(inputs)

    with loaded(body, variant) as program:
        for _ in range(25):
            given = [_number(rng) for _ in range(_INPUTS)]
            assert program(*given) == [case.python(given) for case in cases], given


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: f"v{v.isa}")
@pytest.mark.parametrize("seed", range(8))
def test_conditions(variant: Variant, seed: int) -> None:
    rng = random.Random(1000 + seed)
    parts = [[_comparison(rng, range(_INPUTS)) for _ in range(3)] for _ in range(8)]
    kinds = [rng.randrange(4) for _ in range(8)]

    def body(b: Builder, io: Pointer) -> None:
        plain = [b.let(io.given[i]) for i in range(_INPUTS)]
        twins = [b.let(io.given[i], signed=True) for i in range(_INPUTS)]
        for out in range(8):
            p, q, r = (kernel(plain, twins) for kernel, _ in parts[out])
            shapes = (All(p, q, r), Any_(p, q, r), Not(All(p, Any_(q, r))), Any_(p, All(Not(q), r)))
            with b.if_(shapes[kinds[out]]):
                io.out[out] = 1
            with b.else_():
                io.out[out] = 2

    def expected(x: Sequence[int]) -> list[int]:
        answers = []
        for out in range(8):
            p, q, r = (python(x) for _, python in parts[out])
            shapes = (p and q and r, p or q or r, not (p and (q or r)), p or (not q and r))
            answers.append(1 if shapes[kinds[out]] else 2)
        return answers

    with loaded(body, variant) as program:
        for _ in range(40):
            given = [_number(rng) for _ in range(_INPUTS)]
            assert program(*given) == expected(given), given
