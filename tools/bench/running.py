"""A tool while it runs: when it is attached, and what it cost in the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from tools.bench.tools import REPOSITORY

_TRACING = re.compile(r"\[perf_event\]|bpf[-_](prog|link)|bpf-raw-tracepoint")
_POLL_SECONDS = 0.005
_SETTLED_SECONDS = 0.4
_PATIENCE_SECONDS = 20.0


def environment() -> dict[str, str]:
    """This repository's package; map sizes as the tools come."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def tracing_descriptors(pid: int) -> int:
    """How many perf events, BPF programs and links ``pid`` holds."""
    count = 0
    try:
        for name in os.scandir(f"/proc/{pid}/fd"):
            try:
                count += bool(_TRACING.search(os.readlink(name.path)))
            except OSError:
                continue
    except OSError:
        return 0
    return count


@dataclass(frozen=True)
class Cost:
    """What one run took. Seconds; ``peak_mb`` is the peak resident set of the tool itself."""

    status: int
    cpu_seconds: float
    wall_seconds: float
    peak_mb: float
    attached_seconds: float
    errors: str


@contextmanager
def attached(argv: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The tool running, all its events attached; interrupted at the end as by Ctrl-C."""
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    try:
        if not _wait_attached(process):
            raise RuntimeError(f"{argv[0]} did not attach")
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_attached(process: subprocess.Popen[bytes]) -> bool:
    """True once the number of tracing descriptors has stood still for a while."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    last, since = 0, time.monotonic()
    while time.monotonic() < deadline and process.poll() is None:
        now = tracing_descriptors(process.pid)
        if now != last:
            last, since = now, time.monotonic()
        elif now and time.monotonic() - since > _SETTLED_SECONDS:
            return True
        time.sleep(_POLL_SECONDS)
    return False


def measure(argv: list[str], errors: Path) -> Cost:
    """Run the tool to its end and tell what it took.

    CPU seconds are the tool's and its children's. Attached is when its first link or last new perf
    event appeared, in seconds after it was started, as far as polling every few ms can see.
    """
    begin = time.monotonic()
    with open(errors, "wb") as stderr:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=environment(),
        )
    peak, seen, attached_at = 0.0, 0, 0.0
    while True:
        reaped, status, usage = os.wait4(process.pid, os.WNOHANG)
        if reaped:
            break
        now = time.monotonic() - begin
        if now < _PATIENCE_SECONDS / 2:
            count = tracing_descriptors(process.pid)
            if count > seen:
                seen, attached_at = count, now
        peak = max(peak, _peak_mb(process.pid) or 0.0)
        time.sleep(_POLL_SECONDS if now < 3 else 10 * _POLL_SECONDS)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Cost(
        status=process.returncode,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        wall_seconds=time.monotonic() - begin,
        peak_mb=peak,
        attached_seconds=attached_at,
        errors=errors.read_text(errors="replace"),
    )


def _peak_mb(pid: int) -> Optional[float]:
    """VmHWM: unlike rusage's maximum it does not count what came before exec."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB", text, re.M)
    return int(found[1]) / 1024 if found else None
