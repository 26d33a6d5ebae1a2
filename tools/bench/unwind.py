"""Real programs under load: how much of their user stacks is whole, by three ways to unwind them.

SystemScope by tables (auto), SystemScope along frame pointers (fp), and perf record --call-graph
dwarf take turns at each program, on the CPU and off it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable, Optional, TypeVar

from systemscope.collectors.request import Request, Unwind
from systemscope.collectors.wallclock import collect
from systemscope.errors import SystemScopeError
from systemscope.kernel.capabilities import Capabilities, probe
from systemscope.model import Capture, State
from systemscope.model.unwinding import StackEnd
from systemscope.processes.files import FileStore
from systemscope.symbolizer import symbolize
from tools.bench import perf_stacks, unwind_cost
from tools.bench.perf_stacks import PerfRun, counted, whole
from tools.bench.real_programs import PROGRAMS, RealProgram, running, targets
from tools.bench.tables import not_measured, table
from tools.bench.tools import find

_T = TypeVar("_T")
_ATTEMPTS = 5
SECONDS = 2.5
#: perf copies 8 KiB at every switch: a second of a busy server fills hundreds of megabytes.
OFF_CPU_SECONDS = 1.0
FREQUENCY = 499
_ON_CPU = ("-F", str(FREQUENCY), "-e", "cpu-clock")
_OFF_CPU = ("-e", "sched:sched_switch")
_WHOLE_HEAD = (
    *("program", "on CPU: auto", "first", "fp", "perf"),
    *("off CPU: auto", "first", "fp", "perf"),
    *("samples", "waits", "perf lost on", "off"),
)
_COST_HEAD = ("program", "CPU s", "out MB", "perf record CPU s", "script CPU s", "data MB")
_OFF_HEAD = (*("perf off CPU: record CPU s", "script CPU s", "data MB"),)


@dataclass(frozen=True)
class Share:
    """``stacks`` with user frames, seen so many times in all, and how many of them are whole."""

    stacks: int
    complete: int

    def __str__(self) -> str:
        return percent(self.complete, self.stacks)


@dataclass(frozen=True)
class Ours:
    """One window of SystemScope."""

    on_cpu: Share
    off_cpu: Share
    ends: dict[str, int]


@dataclass(frozen=True)
class CommandCost:
    """``systemscope profile -o x.folded``, the whole process."""

    cpu_seconds: float
    bytes: int


@dataclass(frozen=True)
class Result:
    """Everything about one program. ``first`` is the first window ever, ``auto`` a later one, for
    which the tables are on disk; None where no tables were used."""

    program: str
    first: Optional[Ours]
    auto: Optional[Ours]
    fp: Ours
    perf_on_cpu: Optional[PerfRun]
    perf_off_cpu: Optional[PerfRun]
    cost: CommandCost


def percent(part: int, total: int) -> str:
    """With two decimals, and never 100.00 % for less than all."""
    if not total:
        return "-"
    share = 100 * part / total
    return "99.99 %" if part < total and share > 99.99 else f"{share:.2f} %"


def window(
    pids: Sequence[int], unwind: Unwind, capabilities: Capabilities, cache: Path
) -> tuple[Capture, Ours]:
    """Profile them and tell how many stacks are whole. Tables are kept in ``cache``."""
    request = Request(
        pids=tuple(pids),
        duration_ns=int(SECONDS * 1e9),
        frequency=FREQUENCY,
        unwind=unwind,
        cache_directory=str(cache),
    )
    with FileStore() as files:
        capture = collect(request, lambda: False, files=files, capabilities=capabilities)
        by_tables = unwind is not Unwind.FRAME_POINTERS and capture.unwinding is not None
        return capture, by_end(capture) if by_tables else by_name(capture, files)


def by_end(capture: Capture) -> Ours:
    """Whole is what the walk says reached the entry point."""
    rows = []
    for entry in capture.entries:
        stack = capture.stacks[entry.stack]
        if entry.gap is None and stack.user:
            rows.append((entry.state, entry.count, stack.user_end))
    return _ours(rows)


def by_name(capture: Capture, files: FileStore) -> Ours:
    """Whole is what ends in a function that begins a thread: frame pointers tell no end."""
    rows = []
    for sample in symbolize(capture, opener=files.open).samples:
        names = [
            frame.name for frame in sample.frames if frame.kind.value in ("user", "vdso", "jit")
        ]
        if sample.gap is None and names:
            end = StackEnd.ENTRY if whole(names) else StackEnd.UNTOLD
            rows.append((sample.state, sample.count, end))
    return _ours(rows)


def _ours(rows: Iterable[tuple[State, int, StackEnd]]) -> Ours:
    seen = {True: [0, 0], False: [0, 0]}
    ends: dict[str, int] = {}
    for state, count, end in rows:
        on_cpu = state is State.RUNNING
        seen[on_cpu][0] += count
        seen[on_cpu][1] += count if end is StackEnd.ENTRY else 0
        name = f"{'on' if on_cpu else 'off'} CPU {end.name}"
        ends[name] = ends.get(name, 0) + count
    return Ours(Share(*seen[True]), Share(*seen[False]), ends)


def command_cost(pids: Sequence[int], scratch: Path) -> CommandCost:
    """What the command takes from its start to its end, output included."""
    folded = scratch / "x.folded"
    words = [sys.executable, "-m", "systemscope", "profile", "-q", "-F", str(FREQUENCY)]
    argv = [*words, "-d", f"{SECONDS:g}", "-p", ",".join(map(str, pids)), "-o", str(folded)]
    with open(os.devnull, "wb") as nowhere:
        status, seconds = counted(argv, nowhere)
    if status:
        raise RuntimeError(f"systemscope profile: exit {status}")
    return CommandCost(seconds, folded.stat().st_size)


def measure(real: RealProgram, capabilities: Capabilities, scratch: Path) -> Result:
    """All windows of one program, one after the other, under the same load."""
    with running(real, scratch) as started:

        def pids() -> list[int]:
            return targets(real, started)

        cache = scratch / f"{real.name}-cache"
        cache.mkdir(mode=0o700)
        _, first = _again(lambda: window(pids(), Unwind.AUTO, capabilities, cache))
        capture, auto = _again(lambda: window(pids(), Unwind.AUTO, capabilities, cache))
        _, fp = _again(lambda: window(pids(), Unwind.FRAME_POINTERS, capabilities, cache))
        cost = _again(lambda: command_cost(pids(), scratch))
        on_cpu = off_cpu = None
        if find("perf"):
            on_cpu = _again(lambda: perf_window(pids(), SECONDS, _ON_CPU, scratch))
            off_cpu = _again(lambda: perf_window(pids(), OFF_CPU_SECONDS, _OFF_CPU, scratch))
    tables = capture.unwinding is not None
    ours = (first if tables else None, auto if tables else None, fp)
    return Result(real.name, *ours, on_cpu, off_cpu, cost)


def perf_window(
    pids: Sequence[int], seconds: float, event: Sequence[str], scratch: Path
) -> PerfRun:
    """The same by perf."""
    run = perf_stacks.profile(pids, seconds, event, scratch)
    if not run.stacks:
        raise RuntimeError("perf record saw nothing")
    return run


def _again(step: Callable[[], _T]) -> _T:
    """Short-lived children may be gone before a profiler has found them: it is asked again."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return step()
        except (RuntimeError, SystemScopeError):
            continue
    return step()


def report(
    binaries: Path, scratch: Path, chosen: Sequence[str] = (), to: Optional[Path] = None
) -> Iterable[str]:
    """The tables; with ``to`` all figures as JSON too. ``chosen`` are programs by name."""
    capabilities = probe()
    results: list[Result] = []
    refused: dict[str, str] = {}
    for real in PROGRAMS:
        if chosen and real.name not in chosen:
            continue
        if not real.installed:
            refused[real.name] = "not installed"
            continue
        try:
            results.append(measure(real, capabilities, scratch))
        except (OSError, RuntimeError, SystemScopeError, subprocess.CalledProcessError) as error:
            refused[real.name] = str(error)[:60]
        print(f"  {real.name}: {refused.get(real.name, 'done')}", file=sys.stderr, flush=True)
    yield _whole_table(results, refused)
    yield _cost_table(results)
    costs = unwind_cost.measure_all(binaries, capabilities)
    yield from unwind_cost.tables(costs)
    if to is not None:
        found = {"programs": [asdict(one) for one in results], "walks": costs.as_dict()}
        to.write_text(json.dumps(found, indent=1) + "\n")


def _perf(run: Optional[PerfRun]) -> tuple[str, str]:
    """The share that is whole, and what was lost."""
    if run is None:
        return "-", "-"
    return percent(run.complete, run.stacks), percent(run.lost, run.lost + run.stacks)


def _whole_table(results: Sequence[Result], refused: dict[str, str]) -> str:
    rows = []
    for one in results:
        (on, lost_on), (off, lost_off) = _perf(one.perf_on_cpu), _perf(one.perf_off_cpu)
        tables = (one.auto, one.first)
        ours_on = [str(known.on_cpu) if known else "-" for known in tables]
        ours_off = [str(known.off_cpu) if known else "-" for known in tables]
        counts = (one.auto or one.fp).on_cpu.stacks, (one.auto or one.fp).off_cpu.stacks
        fp = one.fp
        shares = [*ours_on, str(fp.on_cpu), on, *ours_off, str(fp.off_cpu), off]
        rows.append([one.program, *shares, *map(str, counts), lost_on, lost_off])
    rows += [not_measured(name, why, len(_WHOLE_HEAD)) for name, why in refused.items()]
    title = (
        f"User stacks that reach the entry point of their thread, {SECONDS:g} s at {FREQUENCY} Hz "
        f"each\n(perf's off-CPU window {OFF_CPU_SECONDS:g} s); first: no table was on disk yet; "
        "lost: no room in\nperf's buffer"
    )
    return table(title, _WHOLE_HEAD, rows)


def _cost_table(results: Sequence[Result]) -> str:
    def perf(run: Optional[PerfRun]) -> list[str]:
        if run is None:
            return ["-"] * 3
        cut = "+" if run.cut else ""
        seconds = (f"{run.record_cpu_seconds:.2f}", f"{run.read_cpu_seconds:.2f}{cut}")
        return [*seconds, f"{run.bytes / 1e6:.1f}{cut}"]

    rows = [
        [
            *(one.program, f"{one.cost.cpu_seconds:.2f}", f"{one.cost.bytes / 1e6:.2f}"),
            *perf(one.perf_on_cpu),
            *perf(one.perf_off_cpu),
        ]
        for one in results
    ]
    title = (
        "What that costs: systemscope profile -o x.folded, on and off CPU in one window, the whole"
        "\nprocess; perf record, one window each, and perf script, which unwinds (+: cut short)"
    )
    return table(title, (*_COST_HEAD, *_OFF_HEAD), rows)
