"""What the end-to-end tests share: the command line as a user runs it, workloads with known truth,
an independent reader of folded stacks, and /proc/TID/schedstat as the oracle of time."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

REPOSITORY = Path(__file__).resolve().parents[2]
#: The two ways through the kernel: all it offers, or what Linux 4.9 offers.
LEGACY = "legacy"
NATIVE = ""

_LABEL = re.compile(r"^(?P<comm>.*)-(?P<pid>\d+)/(?P<tid>\d+)$")
_LINE = re.compile(r"^(?P<stack>.+) (?P<value>\d+)$")
_STATE = re.compile(
    r"^\[(running|runnable|sleeping|disk|stopped|traced|idle|parked|blocked|unknown)\]$"
)
_OFF_CPU = frozenset({"runnable", "sleeping", "disk", "idle", "stopped", "traced", "blocked"})


@dataclass(frozen=True)
class Line:
    """One folded line. ``frames`` are root first, without the label and the state's frame."""

    label: str
    comm: str
    pid: int
    tid: int
    frames: tuple[str, ...]
    state: str
    microseconds: int

    @property
    def waiting(self) -> bool:
        """Whether this is time off the CPU."""
        return self.state in _OFF_CPU


def parse_folded(text: str) -> list[Line]:
    """Folded stacks written with --per-thread. Raises AssertionError on a line that is not one."""
    lines = []
    for row in text.splitlines():
        matched = _LINE.match(row)
        assert matched, f"not a folded line: {row!r}"
        label, *frames = matched["stack"].split(";")
        who = _LABEL.match(label)
        assert who, f"not comm-pid/tid: {label!r}"
        state = _STATE.match(frames[-1]) if frames else None
        assert state, f"the leaf is no state: {row!r}"
        lines.append(
            Line(
                label=label,
                comm=who["comm"],
                pid=int(who["pid"]),
                tid=int(who["tid"]),
                frames=tuple(frames[:-1]),
                state=state[1],
                microseconds=int(matched["value"]),
            )
        )
    return lines


def total(lines: Sequence[Line]) -> int:
    """Microseconds of all lines."""
    return sum(line.microseconds for line in lines)


def through(lines: Sequence[Line], function: str) -> list[Line]:
    """The lines with ``function`` anywhere on the stack, annotated or not."""
    names = {function, function + "_[k]"}
    return [line for line in lines if names.intersection(line.frames)]


@dataclass(frozen=True)
class Result:
    """What one run of the command line left behind."""

    status: int
    output: str
    errors: str
    seconds: float

    @property
    def lines(self) -> list[Line]:
        """Standard output, parsed."""
        return parse_folded(self.output)


def environment() -> dict[str, str]:
    """The environment of a run: this repository's package, wherever the test runs."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def disabled(path: str) -> frozenset[str]:
    """The capabilities that a run along ``path`` does without."""
    from systemscope.kernel.capabilities import LEGACY_4_9

    return LEGACY_4_9 if path == LEGACY else frozenset()


def command_line(command: str, *arguments: object, path: str = NATIVE) -> list[str]:
    """``systemscope COMMAND ARGUMENTS`` as argv. Limits ("isa>1") are for the Python API alone."""
    names = ",".join(sorted(name for name in disabled(path) if ">" not in name))
    without = ["--without", names] if names else []
    return [sys.executable, "-m", "systemscope", command, *without, *map(str, arguments)]


def run(
    command: str,
    *arguments: object,
    path: str = NATIVE,
    status: Optional[int] = 0,
    timeout: float = 60,
) -> Result:
    """Run ``systemscope COMMAND ARGUMENTS`` to its end; it must exit with ``status``."""
    begin = time.monotonic()
    done = subprocess.run(
        command_line(command, *arguments, path=path),
        env=environment(),
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=timeout,
        check=False,
    )
    result = Result(done.returncode, done.stdout, done.stderr, time.monotonic() - begin)
    if status is not None:
        assert result.status == status, f"exit {result.status}, not {status}:\n{result.errors}"
    assert "Traceback" not in result.errors, result.errors
    return result


@contextmanager
def started(
    command: str, *arguments: object, path: str = NATIVE
) -> Iterator[subprocess.Popen[str]]:
    """``systemscope COMMAND ARGUMENTS`` running; killed at the end if it still is."""
    process = subprocess.Popen(
        command_line(command, *arguments, path=path),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


class Workload:
    """A workload binary: its first line of JSON tells that it is ``ready``, its last the truth."""

    def __init__(self, *command: object) -> None:
        self.process = subprocess.Popen(
            [str(word) for word in command], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.ready: dict[str, Any] = json.loads(self.process.stdout.readline())
        self.pid = int(self.ready["ready"])

    @property
    def tids(self) -> dict[str, int]:
        """Thread ids by the names the workload gave its threads."""
        return {str(name): int(tid) for name, tid in self.ready["tids"].items()}

    def stop(self) -> dict[str, Any]:
        """SIGTERM, and the truth it prints."""
        self.process.terminate()
        output, _ = self.process.communicate(timeout=20)
        truth: dict[str, Any] = json.loads(output.splitlines()[-1])
        return truth

    def __enter__(self) -> Workload:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.communicate()


@contextmanager
def hogs(binary: Path, count: int) -> Iterator[None]:
    """``count`` processes that want a CPU all the time."""
    running = [Workload(binary) for _ in range(count)]
    try:
        yield
    finally:
        for hog in running:
            hog.__exit__()


@dataclass(frozen=True)
class SchedStat:
    """Nanoseconds on CPU and on the run queue since a thread began, by the scheduler's count."""

    at: int
    run: float
    wait: float


#: How long readings go on after the window: a wait for the CPU is counted only when it has ended.
LONGEST_WAIT_SECONDS = 0.3


@dataclass
class SchedStatWatch:
    """Reads threads' schedstat over and over, so that any window within can be asked for."""

    tids: Mapping[str, int]
    _seen: dict[int, list[SchedStat]] = field(default_factory=dict)

    def __enter__(self) -> SchedStatWatch:
        self._reader = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.schedstat", *map(str, self.tids.values())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            text=True,
        )
        assert self._reader.stdout is not None
        assert self._reader.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(LONGEST_WAIT_SECONDS)
        output, _errors = self._reader.communicate(timeout=20)
        for row in output.splitlines():
            tid, at, run, wait = map(int, row.split())
            self._seen.setdefault(tid, []).append(SchedStat(at, run, wait))

    def delta(self, name: str, start: int, end: int) -> SchedStat:
        """Run and wait nanoseconds of ``name`` between two moments of CLOCK_MONOTONIC."""
        first, last = self._at(name, start), self._at(name, end)
        return SchedStat(end - start, last.run - first.run, last.wait - first.wait)

    def _at(self, name: str, moment: int) -> SchedStat:
        """On CPU: between two readings, a straight line from the one to the other. On the run
        queue: the kernel adds a wait when it ends, so part of the next step lies before."""
        seen = self._seen[self.tids[name]]
        after = next((i for i, stat in enumerate(seen) if stat.at >= moment), len(seen) - 1)
        low, high = seen[max(after - 1, 0)], seen[after]
        share = (moment - low.at) / (high.at - low.at) if high.at > low.at else 0.0
        ended = next((stat for stat in seen[after:] if stat.wait > low.wait), high)
        begun = max(ended.wait - low.wait - max(ended.at - moment, 0), 0.0)
        return SchedStat(moment, low.run + share * (high.run - low.run), low.wait + begun)


def kernel_objects() -> tuple[frozenset[int], frozenset[int]]:
    """Ids of all BPF programs and links in the kernel."""
    from systemscope.errors import SystemScopeError
    from systemscope.syscalls import bpf

    def every(next_id: Any) -> frozenset[int]:
        found: set[int] = set()
        last = 0
        while True:
            try:
                last = next_id(last)
            except SystemScopeError:  # a kernel without links
                break
            if not last:
                break
            found.add(last)
        return frozenset(found)

    return every(bpf.prog_get_next_id), every(bpf.link_get_next_id)


def objects_of(pid: int) -> tuple[frozenset[int], frozenset[int]]:
    """Ids of the BPF programs and links that process ``pid`` holds."""
    found: dict[str, set[int]] = {"prog": set(), "link": set()}
    for file in Path(f"/proc/{pid}/fd").iterdir():
        try:
            kind = os.readlink(file)
            text = Path(f"/proc/{pid}/fdinfo/{file.name}").read_text()
        except OSError:  # closed meanwhile
            continue
        for word in found:
            if kind == f"anon_inode:bpf-{word}" or kind == f"anon_inode:bpf_{word}":
                found[word].update(map(int, re.findall(rf"^{word}_id:\s*(\d+)$", text, re.M)))
    return frozenset(found["prog"]), frozenset(found["link"])


def wait_for(condition: Any, seconds: float = 10.0) -> bool:
    """Whether ``condition()`` becomes true within ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return bool(condition())
