"""Our kernel names against the kernel's own: /proc/PID/stack prints the very same frames."""

from __future__ import annotations

import struct
import subprocess
import sys
import time

import pytest

from systemscope.bpf.perf import PerfEvent, PerfRing
from systemscope.model import Stack
from systemscope.symbolizer import SymbolizerOptions
from systemscope.symbolizer.kallsyms import KernelSymbols
from systemscope.symbolizer.kernel import KernelNamer
from systemscope.syscalls import perf

pytestmark = pytest.mark.kernel

CHILD = "import time\nwhile True: time.sleep(0.2)"
_SOFTWARE, _CONTEXT_SWITCHES, _CALLCHAIN = 1, 3, 1 << 5
_KERNEL_CONTEXT = (1 << 64) - 128


def switch_stacks(pid: int, seconds: float) -> set[tuple[int, ...]]:
    """Kernel stacks of ``pid`` at its context switches, by perf callchains."""
    attr = perf.PerfEventAttr(
        type=_SOFTWARE,
        config=_CONTEXT_SWITCHES,
        sample_period=1,
        sample_type=_CALLCHAIN,
        flags=perf.AttrFlag.DISABLED | perf.AttrFlag.EXCLUDE_CALLCHAIN_USER,
    )
    found = set()
    with PerfEvent.open(attr, pid=pid) as event, PerfRing(event, 8) as ring:
        event.enable()
        time.sleep(seconds)
        event.disable()
        for kind, record in ring.read():
            if kind == 9:  # PERF_RECORD_SAMPLE
                (count,) = struct.unpack_from("<Q", record, 8)
                chain = struct.unpack_from(f"<{count}Q", record, 16)
                found.add(tuple(a for a in chain if a < _KERNEL_CONTEXT - 4096))
    return found


def test_names_and_offsets_match_proc_stack() -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD])
    try:
        time.sleep(0.3)
        stacks = switch_stacks(child.pid, 1.0)
        with open(f"/proc/{child.pid}/stack") as file:
            expected = [line.split()[1].split("/")[0] for line in file]
        if not expected:
            pytest.skip("the child was not asleep")
        namer = KernelNamer(SymbolizerOptions())
        named = []
        for stack in stacks:
            frames = namer.frames(Stack(kernel=stack), running=False)
            assert all(frame.unknown == "" for frame in frames)
            assert frames[0].name in ("__schedule", "schedule")
            named.append([f"{frame.name}+{frame.offset:#x}" for frame in frames])
        # /proc/PID/stack leaves out the scheduler's own frames on top.
        assert any(lines[-len(expected) :] == expected for lines in named), (named, expected)
    finally:
        child.kill()
        child.wait()


def test_table_is_whole() -> None:
    symbols = KernelSymbols.read()
    assert not symbols.missing and not symbols.hidden
    assert len(symbols) > 10_000
    with open("/proc/kallsyms") as file:
        rows = (line.split() for line in file)
        wanted = {r[2]: int(r[0], 16) for r in rows if r[2] in ("schedule", "ksys_read", "_etext")}
    for name in ("schedule", "ksys_read"):
        found = symbols.find(wanted[name] + 1)
        assert found is not None and found.name == name and found.module == "[kernel]"
    behind = symbols.find(wanted["_etext"])
    assert behind is None
