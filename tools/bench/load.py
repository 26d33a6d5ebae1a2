"""The workloads that are measured, from tests/workloads."""

from __future__ import annotations

import json
import mmap
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Optional


class Storm:
    """Two threads answering each other through pipes on one CPU; counts its own round trips."""

    SWITCHES_PER_ROUND_TRIP = 2

    def __init__(self, binaries: Path, scratch: Path, cpu: int) -> None:
        file = scratch / "round-trips"
        argv = [str(binaries / "storm"), "--pin", str(cpu), "--counter", str(file)]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.pid = int(json.loads(self._process.stdout.readline())["ready"])
        with open(file, "r+b") as opened:
            self._counter = mmap.mmap(opened.fileno(), 4096, access=mmap.ACCESS_READ)

    def rate(self, seconds: float) -> float:
        """Round trips per second of CPU time that the storm got within the next ``seconds``.

        Whatever a profiler does at a switch is charged to the threads that switch; what other
        processes take from the storm's CPU is not, so a busy machine does not blur the figure.
        """
        first, begin = self._count(), self._cpu_ns()
        time.sleep(seconds)
        last, end = self._count(), self._cpu_ns()
        return max(last - first, 1) / (max(end - begin, 1) / 1e9)

    def _cpu_ns(self) -> int:
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)

    def _count(self) -> int:
        return int(struct.unpack_from("=Q", self._counter)[0])

    def __enter__(self) -> Storm:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._counter.close()
        _end(self._process)


@contextmanager
def background(binaries: Path) -> Iterator[None]:
    """A busy machine of known make-up: four threads in four states, and a second CPU burner."""
    running = [
        subprocess.Popen([str(binaries / name)], stdout=subprocess.PIPE)
        for name in ("four", "split")
    ]
    try:
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()
        yield
    finally:
        for process in running:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
