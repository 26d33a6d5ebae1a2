"""The rules by which short waits are charged to stacks, played through in Python.

What is asked of them: whatever the pattern of the waits, a call site is charged its share of the
waiting time in expectation. The rules are those of programs/switch.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from math import sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from systemscope.programs.switch import STRIDE_MAX, WALK_INTERVAL_HIGH_NS, WALK_INTERVAL_LOW_NS

MEAN = 1_000_000  # --min-block
Wait = tuple[str, int]


def periods(waits: Iterable[Wait], seed: int, mean: int = MEAN) -> tuple[dict[str, int], int]:
    """``_short``: charges by site and what is left at the end."""
    draw = random.Random(seed)

    def period() -> int:
        return mean // 2 + 1 + ((draw.getrandbits(32) * mean) >> 32)

    charged: dict[str, int] = {"a": 0, "b": 0}
    short, goal = 0, period()
    for site, length in waits:
        short += length
        for _crossing in range(2):
            if short >= goal:
                charged[site] += goal
                short -= goal
                goal = period()
        assert short < goal, "a short wait crosses at most two points"
        assert short < 1 << 32
    return charged, short


def alternating(a: int, b: int, count: int) -> list[Wait]:
    return [("a", a), ("b", b)] * (count // 2)


def share_of_a(rule: Callable[[int], dict[str, int]], seeds: int) -> tuple[float, float]:
    """Mean over runs with different random numbers, and its standard error."""
    shares = []
    for seed in range(seeds):
        charged = rule(seed)
        shares.append(charged["a"] / max(sum(charged.values()), 1))
    mean = sum(shares) / seeds
    variance = sum((share - mean) ** 2 for share in shares) / (seeds - 1)
    return mean, sqrt(variance / seeds)


_SHORT = st.one_of(
    st.integers(1_000, MEAN - 1),
    st.integers(MEAN - 2_000, MEAN - 1),  # the period and the pattern nearly in step
    st.integers(MEAN // 2 - 2_000, MEAN // 2 + 2_000),
)


@given(_SHORT, _SHORT)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_short_waits_are_charged_their_share(a: int, b: int) -> None:
    count = max(400, min(4_000, 200 * MEAN // (a + b) * 2))
    waits = alternating(a, b, count)
    mean, error = share_of_a(lambda seed: periods(waits, seed)[0], 40)
    assert abs(mean - a / (a + b)) <= 5 * error + 0.01


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, MEAN - 1)), max_size=300),
    st.integers(0, 1 << 32),
)
@settings(deadline=None)
def test_charges_and_the_rest_are_all_there_is(waits: list[Wait], seed: int) -> None:
    charged, left = periods(waits, seed)
    assert sum(charged.values()) + left == sum(length for _, length in waits)


@pytest.mark.parametrize("mean", [1, 2, 3, 1_500_000_000])
def test_extreme_thresholds_keep_within_their_fields(mean: int) -> None:
    draw = random.Random(mean)
    waits = [("a", draw.randrange(1, mean) if mean > 1 else 0) for _ in range(2_000)]
    periods(waits, 1, mean)


def strides(waits: Iterable[Wait], seed: int, run_ns: int) -> dict[str, float]:
    """``_walk_now_and_then`` and ``_charge_walked``: charges of the weighted walks by site."""
    draw = random.Random(seed)
    charged = {"a": 0.0, "b": 0.0}
    stride, walked, now = 1, -(10**9), 0
    for site, length in waits:
        now += run_ns
        if draw.getrandbits(32) & (stride - 1) == 0:
            charged[site] += stride * length
            pause = now - walked
            if pause < WALK_INTERVAL_LOW_NS and stride < STRIDE_MAX:
                stride *= 2
            elif pause > WALK_INTERVAL_HIGH_NS and stride > 1:
                stride //= 2
            walked = now
        now += length
    return charged


@given(st.integers(1_000, 3_000_000), st.integers(1_000, 3_000_000), st.integers(500, 300_000))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_walks_at_switch_out_charge_every_site_its_time(a: int, b: int, run: int) -> None:
    """The stride follows the waits, so also patterns that steer it must not bend the charges."""
    waits = alternating(a, b, 2_000)
    truth = {"a": 1_000 * a, "b": 1_000 * b}
    runs = [strides(waits, seed, run) for seed in range(60)]
    for site in "ab":
        ratios = [charged[site] / truth[site] for charged in runs]
        mean = sum(ratios) / len(ratios)
        error = sqrt(sum((ratio - mean) ** 2 for ratio in ratios) / (len(ratios) - 1) / len(ratios))
        assert abs(mean - 1) <= 5 * error + 1e-9
