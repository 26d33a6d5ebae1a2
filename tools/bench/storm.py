"""How much of its throughput a storm of context switches keeps while it is profiled."""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path

from tools.bench import tools
from tools.bench.load import Storm
from tools.bench.running import attached
from tools.bench.tables import not_measured, table
from tools.bench.tools import Tool

ROUNDS = 3
PERIOD_SECONDS = 1.2
_FOREVER_SECONDS = 600
_HEAD = ("tool", "kept", "lowest", "highest", "ns/switch added")


def tools_for(pid: int) -> tuple[Tool, ...]:
    """Everything that looks at context switches, and an on-CPU profiler for comparison."""
    me = sys.executable
    legacy = tools.systemscope("-q", *tools.legacy_options())
    return (
        Tool("SystemScope profile", me, tools.systemscope("-q")),
        Tool("SystemScope profile -p", me, tools.systemscope("-q", "-p", str(pid))),
        Tool("SystemScope, Linux 4.9's way", me, legacy),
        tools.TIMELINE,
        tools.PERF_SCHED,
        tools.LIBBPF_OFFCPU,
        tools.BPFTRACE_OFFCPU,
        tools.PERF_SWITCH,
        tools.BPFTRACE_ONCPU,
    )


def report(binaries: Path, scratch: Path) -> Iterable[str]:
    """The table. Unprofiled and profiled stretches take turns within one storm."""
    cpu = max(os.sched_getaffinity(0))
    with Storm(binaries, scratch, cpu) as storm:
        storm.rate(PERIOD_SECONDS)  # warm up
        chosen = tools_for(storm.pid)
        kept: dict[str, list[float]] = {tool.name: [] for tool in chosen}
        added: dict[str, list[float]] = {tool.name: [] for tool in chosen}
        failed: dict[str, str] = {}
        rates = [storm.rate(PERIOD_SECONDS)]
        for _ in range(ROUNDS):
            for tool in chosen:
                if not tool.installed:
                    continue
                try:
                    with attached(tool.argv(_FOREVER_SECONDS, scratch)):
                        profiled = storm.rate(PERIOD_SECONDS)
                except (RuntimeError, OSError) as error:
                    failed[tool.name] = str(error)
                    continue
                rates.append(storm.rate(PERIOD_SECONDS))
                free = (rates[-2] + rates[-1]) / 2
                kept[tool.name].append(profiled / free)
                per_switch = (1 / profiled - 1 / free) / Storm.SWITCHES_PER_ROUND_TRIP
                added[tool.name].append(per_switch * 1e9)
    rows = []
    for tool in chosen:
        if not kept[tool.name]:
            why = failed.get(tool.name, "not installed")
            rows.append(not_measured(tool.name, why, len(_HEAD)))
            continue
        ratios = kept[tool.name]
        rows.append(
            [
                tool.name,
                f"{statistics.median(ratios):.2f}",
                f"{min(ratios):.2f}",
                f"{max(ratios):.2f}",
                f"{statistics.median(added[tool.name]):+.0f}",
            ]
        )
    switches = statistics.median(rates) * Storm.SWITCHES_PER_ROUND_TRIP
    title = (
        f"Throughput kept by a storm of {switches / 1000:.0f} thousand switches per CPU second,"
        f"\nprofiled system-wide unless the line says -p (median of {ROUNDS} interleaved rounds)"
    )
    yield table(title, _HEAD, rows)
