"""What a system-wide window costs the profiler itself, and how soon it sees anything."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

from tools.bench import tools
from tools.bench.load import background
from tools.bench.running import Cost, measure
from tools.bench.tables import not_measured, table

WINDOW_SECONDS = 10.0
STARTUP_SECONDS = 1.0
STARTUP_ROUNDS = 3
_FIRST_EVENT = re.compile(r"first event after ([\d.]+) (ms|s)")
_TOOLS = (
    tools.SYSTEMSCOPE,
    tools.PERF_ONCPU,
    tools.PERF_SWITCH,
    tools.BPFTRACE_ONCPU,
    tools.BPFTRACE_OFFCPU,
    tools.LIBBPF_PROFILE,
    tools.LIBBPF_OFFCPU,
)
_COST_HEAD = ("tool", "own CPU s", "peak MB", "wall beyond s", "to read it: CPU s", "MB")
_STARTUP_HEAD = ("tool", "attached after s", "first event after s", "total CPU s")


def report_cost(binaries: Path, scratch: Path) -> Iterable[str]:
    """Own CPU, memory and extra wall time of one window under load."""
    rows = []
    with background(binaries):
        for tool in _TOOLS:
            if not tool.installed:
                rows.append(not_measured(tool.name, "not installed", len(_COST_HEAD)))
                continue
            cost = measure(tool.argv(WINDOW_SECONDS, scratch), scratch / "errors")
            after = ["-", "-"]
            if tool.after is not None:
                read = measure(tool.after(scratch), scratch / "errors")
                after = [f"{read.cpu_seconds:.2f}", f"{read.peak_mb:.0f}"]
            if cost.status:
                rows.append(not_measured(tool.name, f"exit {cost.status}", len(_COST_HEAD)))
                continue
            beyond = cost.wall_seconds - WINDOW_SECONDS
            rows.append(
                [
                    tool.name,
                    f"{cost.cpu_seconds:.2f}",
                    f"{cost.peak_mb:.0f}",
                    f"{beyond:.2f}",
                    *after,
                ]
            )
    title = f"Cost of {WINDOW_SECONDS:g} s of the whole system under load"
    yield table(title, _COST_HEAD, rows)


def report_startup(binaries: Path, scratch: Path) -> Iterable[str]:
    """Seconds from spawn to the last event attached, and to the first event counted."""
    rows = []
    with background(binaries):
        for tool in _TOOLS:
            if not tool.installed:
                rows.append(not_measured(tool.name, "not installed", len(_STARTUP_HEAD)))
                continue
            costs = [
                measure(tool.argv(STARTUP_SECONDS, scratch), scratch / "errors")
                for _ in range(STARTUP_ROUNDS)
            ]
            first = [seconds for seconds in map(_first_event, costs) if seconds is not None]
            rows.append(
                [
                    tool.name,
                    f"{statistics.median(cost.attached_seconds for cost in costs):.2f}",
                    f"{statistics.median(first):.2f}" if first else "-",
                    f"{statistics.median(cost.cpu_seconds for cost in costs):.2f}",
                ]
            )
    title = (
        f"Start-up: median of {STARTUP_ROUNDS} runs of {STARTUP_SECONDS:g} s; attached when the "
        "last perf event,\nprogram or link appeared; the first event as SystemScope itself saw it"
    )
    yield table(title, _STARTUP_HEAD, rows)


def _first_event(cost: Cost) -> Optional[float]:
    found = _FIRST_EVENT.search(cost.errors)
    return float(found[1]) / (1000 if found[2] == "ms" else 1) if found else None
