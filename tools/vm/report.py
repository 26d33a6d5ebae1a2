"""Outcomes, told as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, Optional


class Result(Enum):
    """How it went. The order is that of the exit statuses."""

    PASSED = "passed"
    TEST_FAILED = "test failed"
    BOOT_FAILED = "boot failed"
    NOT_OBTAINABLE = "not obtainable"


@dataclass
class Outcome:
    """One kernel's result, and the guest's messages for each case."""

    name: str
    release: str
    result: Result
    reason: str = ""
    seconds: float = 0.0
    cases: list[dict[str, Any]] = field(default_factory=list)
    console: str = ""

    def line(self) -> str:
        """One line, and one for each problem."""
        head = f"{self.name:<14} {self.result.value:<15}{self.seconds:4.0f} s  {self.release}"
        rows = [head + (f"  {self.reason}" if self.reason else "")]
        rows += [f"    {case['case']}: {text}" for case in self.cases for text in case["problems"]]
        return "\n".join(rows)

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "result": self.result.value}


def exit_status(outcomes: Sequence[Outcome]) -> int:
    """0 when all passed, else the status of the first kind of failure that happened."""
    happened = {outcome.result for outcome in outcomes}
    return next((i for i, kind in enumerate(Result) if i and kind in happened), 0)


def table(outcomes: Sequence[Outcome]) -> str:
    """A row for each kernel and way: how it was followed, how exact it was.

    "identity" is the largest part of the window by which a thread's states or samples fail to add
    up, "scheduler" the largest by which the scheduler's own counts differ,
    "whole" the share of the workload's user stacks that reach their thread's entry point.
    """
    rows: list[tuple[str, ...]] = [
        (
            *("kernel", "case", "hook", "walk", "stacks", "unwinding", "whole"),
            *("identity", "scheduler", "samples", ""),
        )
    ]
    for outcome in outcomes:
        if not outcome.cases:
            rows.append((outcome.name, *("",) * 9, outcome.result.value))
        for case in outcome.cases:
            rows.append(_row(outcome.name, case))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    )


def _row(name: str, case: dict[str, Any]) -> tuple[str, ...]:
    return (
        name,
        str(case["case"]),
        str(case.get("hook", "")),
        str(case.get("walk", "")),
        str(case.get("stacks_kept", "")),
        str(case.get("unwind", "")),
        _percent(case.get("whole")),
        _percent(case.get("identity_error")),
        _percent(case.get("scheduler_error")),
        str(case.get("samples", "")),
        _verdict(case),
    )


def _verdict(case: dict[str, Any]) -> str:
    if case["problems"]:
        return f"{len(case['problems'])} wrong"
    return "impossible here" if "impossible" in case else "right"


def _percent(share: Optional[float]) -> str:
    return "" if share is None else f"{share:.2%}"
