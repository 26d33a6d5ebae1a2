"""Rounding many parts of one whole without losing any of it."""

from __future__ import annotations

from collections.abc import Sequence


def round_parts(values: Sequence[int], unit: int) -> list[int]:
    """``values`` in multiples of ``unit``, adding up to their sum rounded to the nearest unit.

    Largest-remainder method: every part is within one unit of its value. Ties go to the earlier
    part. Values must not be negative; ``unit`` must be positive.
    """
    parts = [value // unit for value in values]
    missing = (sum(values) + unit // 2) // unit - sum(parts)
    # With at most half a unit of upward rounding, missing never exceeds the number of parts.
    order = sorted(range(len(values)), key=lambda index: -(values[index] % unit))
    for index in order[: max(0, missing)]:
        parts[index] += 1
    return parts
