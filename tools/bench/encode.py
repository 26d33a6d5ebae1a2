"""What writing a profile takes: every format over one synthetic profile, each in a process of its
own. pprof is also shown as a multiple of a bare protobuf message with the same stacks and values.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Optional

from systemscope.exporters.formats import ExportOptions, by_name, formats
from systemscope.model import (
    Capture,
    Entry,
    EventKind,
    Frame,
    FrameKind,
    Image,
    Mapping,
    Process,
    Profile,
    Sample,
    Stack,
    State,
    Thread,
    Timeline,
)
from systemscope.model.timeline import RECORD, STATE_SHIFT
from tools.bench.tables import not_measured, table
from tools.bench.tools import REPOSITORY

STACKS, DEPTH, THREADS = 50_000, 30, 64
EVENTS = 400_000  # of formats that show a timeline
_ROUND_BYTES = 1 << 20
_FUNCTIONS, _BRANCHES = 3_000, 3
_BASELINE = "protobuf alone"
_PATIENCE_SECONDS = 300
_RUNTIME = "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"
_HEAD = ("50,000 stacks of 30 frames", "CPU s", "MB", "peak MB more", "x protobuf alone")


class _Sink(io.RawIOBase):
    """Takes everything and keeps the number of bytes."""

    size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.size += len(data)
        return len(data)


def synthetic(stacks: int = STACKS, depth: int = DEPTH) -> Profile:
    """Distinct stacks, a tree of three branches at each function, spread over 64 threads."""
    dice = random.Random(1)
    mapping = Mapping(0x400000, 0x800000, 0, "/usr/bin/program")
    kernel, user = FrameKind.KERNEL, FrameKind.USER
    frames = [
        Frame(f"some_function_{n}", kernel, 0xFFFFFFFF81000000 + 64 * n, "[kernel]")
        if n < _FUNCTIONS // 4
        else Frame(f"some::scope::function_{n}", user, 0x400000 + 64 * n, "program",
                   build_id="ab" * 20, mapping=mapping)
        for n in range(_FUNCTIONS)
    ]  # fmt: skip
    threads = [Thread(n, n // 8 * 8, f"worker-{n % 8}", 0, 0) for n in range(8, 8 + THREADS)]
    made: list[Stack] = [Stack()]
    entries: list[Entry] = []
    samples: list[Sample] = []
    step = _FUNCTIONS // depth
    for number in range(stacks):
        picks = [step * level + dice.randrange(_BRANCHES) for level in range(depth)]
        stack = tuple(frames[pick] for pick in picks)
        addresses = [frame.address for frame in stack]
        edge = sum(frame.kind is kernel for frame in stack)
        thread, state = number % THREADS, State.RUNNING if number % 4 else State.SLEEPING
        nanoseconds, count = dice.randrange(1_000, 50_000_000), dice.randrange(1, 5)
        made.append(Stack(tuple(addresses[:edge]), tuple(addresses[edge:])))
        entries.append(Entry(thread, state, number + 1, nanoseconds, count, 1))
        owner = threads[thread]
        owner.time[state] = owner.time.get(state, 0) + nanoseconds
        samples.append(Sample(owner, "program", state, stack, nanoseconds, count))
    for owner in threads:
        owner.end = sum(owner.time.values())
    processes = {
        tgid: Process(tgid, "program", [Image(0, (mapping,))])
        for tgid in {owner.tgid for owner in threads}
    }
    end = max(owner.end for owner in threads)
    capture = Capture(0, end, 0.0, 99, "cpu-clock", threads=threads, processes=processes)
    capture.stacks, capture.entries = made, entries
    return Profile(capture, samples)


def with_timeline(profile: Profile, events: int = EVENTS) -> Profile:
    """``profile`` with so many events: threads run, wait and are woken in turn; one run in ten is
    sampled, one wait in ten has its stack."""
    capture = profile.capture
    made = Timeline(tempfile.TemporaryFile())  # noqa: SIM115
    threads = capture.threads
    step = max(1, capture.end * len(threads) // events // 4)
    batch = bytearray()
    for turn in range(events // 3):
        owner = threads[turn % len(threads)]
        begin = 4 * step * (turn // len(threads))
        state = int(State.SLEEPING) << STATE_SHIFT
        cpu, waker = turn % 8, threads[turn % len(threads) - 1].tid
        stack = 0 if turn % 10 else turn % len(capture.stacks)
        middle, back = begin + 2 * step, begin + 4 * step
        run, wait, wake = int(EventKind.RUN), int(EventKind.WAIT), int(EventKind.WAKE)
        if stack:
            sample = int(EventKind.SAMPLE)
            batch += RECORD.pack(0, 0, begin, stack, 1, owner.tid, cpu, sample, 0)
        for row in (
            (begin, 0, middle, 0, 0, owner.tid, cpu, run | state, 0),
            (0, 0, back - step, 0, 0, owner.tid, cpu, wake, waker),
            (middle, back - step, back, stack, 1, owner.tid, cpu, wait | state, 0),
        ):
            batch += RECORD.pack(*row)
        if len(batch) > _ROUND_BYTES:
            made.append(bytes(batch))
            batch.clear()
    made.append(bytes(batch))
    made.stacks = {(number, 1): number for number in range(len(capture.stacks))}
    capture.timeline = made
    return profile


def bare_message(profile: Profile, sink: Any) -> None:
    """The least any pprof writer through protobuf must do: locations known before, no labels."""
    from systemscope.wire.pprof import messages

    numbers = {id(frame): 1 for sample in profile.samples for frame in sample.frames}
    for number, key in enumerate(numbers, 1):
        numbers[key] = number
    message = messages().Profile()
    for sample in profile.samples:
        added = message.sample.add()
        added.location_id.extend([numbers[id(frame)] for frame in sample.frames])
        added.value.extend([sample.count, sample.nanoseconds])
    sink.write(gzip.compress(message.SerializeToString(), 6))


def _measured(name: str) -> dict[str, float]:
    """Write once, in this process: CPU seconds, bytes, and how far the resident set grew."""
    write: Callable[[Profile, Any], None] = bare_message
    prepare: Callable[[Profile], Profile] = lambda profile: profile  # noqa: E731
    if name != _BASELINE:
        form = by_name(name)
        prepare = with_timeline if form.timeline else prepare
        write = lambda profile, sink: form.write_bytes(profile, sink, ExportOptions())  # noqa: E731
    write(prepare(synthetic(20)), _Sink())  # imports what it needs
    profile, sink = prepare(synthetic()), _Sink()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, begin = _kilobytes("VmRSS"), time.process_time()
    write(profile, sink)
    seconds = time.process_time() - begin
    return {"seconds": seconds, "bytes": sink.size, "peak": max(_kilobytes("VmHWM") - before, 0)}


def _kilobytes(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    return int(found[1]) if found else 0


def _asked(name: str, runtime: str = "") -> Optional[dict[str, float]]:
    """The same in a process of its own; None where it failed."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    if runtime:
        environment[_RUNTIME] = runtime
    argv = [sys.executable, "-m", "tools.bench.encode", name]
    try:
        ran = subprocess.run(
            argv, capture_output=True, env=environment, cwd=REPOSITORY, timeout=_PATIENCE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return None
    if ran.returncode:
        sys.stderr.write(ran.stderr.decode("utf-8", "replace"))
        return None
    found: dict[str, float] = json.loads(ran.stdout)
    return found


def report(_binaries: Path, _scratch: Path) -> list[str]:
    """The table of every format."""
    rows = []
    for runtime in ("", "python"):
        label = " (pure-Python protobuf)" if runtime else ""
        names = ["pprof"] if runtime else [one.name for one in formats()]
        timelines = {one.name for one in formats() if one.timeline}
        base = _asked(_BASELINE, runtime)
        rows.append(_row(_BASELINE + label, base, None))
        rows += [
            _row(
                name + (f" ({EVENTS:,} events)" if name in timelines else label),
                _asked(name, runtime),
                base if name == "pprof" else None,
            )
            for name in names
        ]
    return [table("Writing a profile", _HEAD, rows)]


def _row(name: str, got: Optional[dict[str, float]], base: Optional[dict[str, float]]) -> list[str]:
    if got is None:
        return not_measured(name, "failed", len(_HEAD))
    times = f"{got['seconds'] / base['seconds']:.1f}" if base else "-"
    size, peak = got["bytes"] / 1e6, got["peak"] * 1024 / 1e6
    return [name, f"{got['seconds']:.2f}", f"{size:.2f}", f"{peak:.1f}", times]


if __name__ == "__main__":
    print(json.dumps(_measured(sys.argv[1])))
