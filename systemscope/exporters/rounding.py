"""Rounding many parts of one whole without losing any of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional


def round_parts(values: Sequence[int], unit: int, total: Optional[int] = None) -> list[int]:
    """``values`` in multiples of ``unit``, adding up to ``total`` units.

    ``total`` is their sum rounded to the nearest unit, unless given, and then within one unit of
    the sum. Largest-remainder method: every part is within one unit of its value. Ties go to the
    earlier part. Values must not be negative; ``unit`` must be positive.
    """
    if total is None:
        total = (sum(values) + unit // 2) // unit
    parts = [value // unit for value in values]
    # Within one unit of the sum, what is missing never exceeds the number of parts.
    missing = total - sum(parts)
    order = sorted(range(len(values)), key=lambda index: -(values[index] % unit))
    for index in order[: max(0, missing)]:
        parts[index] += 1
    return parts
