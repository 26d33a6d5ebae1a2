"""perf record --call-graph dwarf: how many of its stacks are whole, and what they cost.

perf copies the top of the stack (8 KiB unless told otherwise) into its file at each event and
unwinds when the file is read. It is read here without looking for inlined functions: perf 6.1 asks
another program for each address, which takes minutes.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tools.bench.tools import find

#: The last function of a stack that is whole.
ROOTS = frozenset(
    {
        *("_start", "clone", "clone3", "__clone", "__clone3", "start_thread", "thread_start"),
        *("runtime.goexit", "runtime.mstart", "runtime.rt0_go", "_rt0_amd64_linux"),
        # Go's own tracebacks end where it left a goroutine's stack for another (topofstack).
        *("runtime.mcall", "runtime.morestack"),
    }
)
#: What calls main, and is called by a function that has no name in a stripped program.
_CALLS_MAIN = re.compile(r"^__libc_start")
_LOST = re.compile(r"PERF_RECORD_LOST\S* .*?lost (\d+)|LOST_SAMPLES.*?(\d+)$")
_FRAME = re.compile(r"^\s+([0-9a-f]+) (.*?)(?: \((.*)\))?$")
_MOST_BYTES = "200M"
_PATIENCE_SECONDS = 120


def whole(names: Sequence[str]) -> bool:
    """Whether a user stack, leaf first, ends where a thread begins."""
    if not names:
        return False
    if _bare(names[-1]) in ROOTS or _CALLS_MAIN.match(names[-1]):
        return True
    return len(names) > 1 and bool(_CALLS_MAIN.match(names[-2]))


def _bare(name: str) -> str:
    for suffix in (".abi0", ".llvm"):
        name = name.partition(suffix)[0]
    return re.split(r"[@+]", name)[0]


@dataclass(frozen=True)
class PerfRun:
    """``stacks`` with user frames, ``complete`` of them; what recording and reading took."""

    stacks: int
    complete: int
    lost: int
    bytes: int
    record_cpu_seconds: float
    read_cpu_seconds: float
    cut: bool  # the file grew to its limit, or reading took too long


def counted(argv: Sequence[str], output: IO[bytes]) -> tuple[int, float]:
    """Run it; its status and the CPU seconds of it and its children."""
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime


def profile(pids: Sequence[int], seconds: float, event: Sequence[str], scratch: Path) -> PerfRun:
    """One window of ``pids`` and what they start. Raises RuntimeError when perf refuses."""
    perf, data = find("perf") or "perf", scratch / "perf.data"
    listing = scratch / "perf.txt"
    record = [
        *(perf, "record", "-q", "--call-graph", "dwarf", "--max-size", _MOST_BYTES, *event),
        *("-p", ",".join(map(str, pids)), "-o", str(data), "--", "sleep", f"{seconds:g}"),
    ]
    with open(listing, "wb") as output:
        status, recording = counted(record, output)
    if status not in (0, -15) or not data.exists():
        raise RuntimeError(f"perf record: exit {status}")
    size = data.stat().st_size
    script = [
        *("timeout", str(_PATIENCE_SECONDS), perf, "script", "--no-inline", "-i", str(data)),
        *("--show-lost-events", "-F", "comm,tid,ip,sym,dso"),
    ]
    with open(listing, "wb") as output:
        status, reading = counted(script, output)
    with open(listing, errors="replace") as lines:
        stacks, complete, lost = count(lines)
    data.unlink()
    cut = status == 124 or size > 0.99 * 200 * (1 << 20)
    return PerfRun(stacks, complete, lost, size, recording, reading, cut)


def count(lines: Iterator[str]) -> tuple[int, int, int]:
    """(stacks with user frames, those that are whole, samples lost) of what perf script wrote."""
    stacks = complete = lost = 0
    names: list[str] = []
    for line in lines:
        found = _LOST.search(line)
        if found:
            lost += int(found[1] or found[2])
        frame = _FRAME.match(line)
        if frame:
            if not _kernel(frame[1], frame[3] or ""):
                names.append(frame[2])
        elif names:
            stacks, complete, names = stacks + 1, complete + whole(names), []
    if names:
        stacks, complete = stacks + 1, complete + whole(names)
    return stacks, complete, lost


def _kernel(address: str, file: str) -> bool:
    high = len(address) == 16 and address[0] in "89abcdef"
    return high or file.startswith(("[kernel", "[guest")) or ".ko" in file
