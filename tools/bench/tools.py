"""The tools that are compared, each as the commands a user would type."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

REPOSITORY = Path(__file__).resolve().parents[2]
FREQUENCY = 99

#: Stacks are taken as a thread leaves the CPU: only then does the tracepoint run in its context.
_BPFTRACE_OFFCPU = """
tracepoint:sched:sched_switch {
  @start[args->prev_pid] = nsecs; @k[args->prev_pid] = kstack; @u[args->prev_pid] = ustack;
  $begin = @start[args->next_pid];
  if ($begin) {
    @waited[@k[args->next_pid], @u[args->next_pid], args->next_comm] = sum(nsecs - $begin);
    delete(@start[args->next_pid]);
  }
}
END { clear(@start); clear(@k); clear(@u); }
"""
_BPFTRACE_ONCPU = f"profile:hz:{FREQUENCY} {{ @[kstack, ustack, comm] = count(); }}"


@dataclass(frozen=True)
class Tool:
    """``argv(seconds, scratch)`` profiles the whole system for so long, files go to ``scratch``.

    ``program`` must be installed. ``after`` is what the user runs next to see anything.
    """

    name: str
    program: str
    argv: Callable[[float, Path], list[str]]
    after: Optional[Callable[[Path], list[str]]] = None

    @property
    def installed(self) -> bool:
        """Whether it can be run here."""
        return find(self.program) is not None


def find(program: str) -> Optional[str]:
    """The program's path; system directories count even where a user's PATH lacks them."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/sbin"])
    return program if os.path.isabs(program) else shutil.which(program, path=path)


def _found(program: str) -> str:
    return find(program) or program


def systemscope(*options: str) -> Callable[[float, Path], list[str]]:
    """``systemscope profile`` of the whole system with ``options``."""

    def argv(seconds: float, _scratch: Path) -> list[str]:
        words = [sys.executable, "-m", "systemscope", "profile", *options]
        return [*words, "--output", "folded", "-d", f"{seconds:g}"]

    return argv


def timeline() -> Callable[[float, Path], list[str]]:
    """The same, recording every switch and wake-up too."""

    def argv(seconds: float, scratch: Path) -> list[str]:
        words = [sys.executable, "-m", "systemscope", "profile", "-q", "--timeline"]
        return [*words, "-o", str(scratch / "timeline.folded"), "-d", f"{seconds:g}"]

    return argv


def _libbpf(program: str) -> Callable[[float, Path], list[str]]:
    return lambda seconds, _scratch: [_found(program), f"{max(round(seconds), 1)}"]


def _bpftrace(script: str) -> Callable[[float, Path], list[str]]:
    def argv(seconds: float, _scratch: Path) -> list[str]:
        end = f"interval:ms:{round(seconds * 1000)} {{ exit(); }}"
        return [_found("bpftrace"), "-e", script + end]

    return argv


def _perf(*options: str) -> Callable[[float, Path], list[str]]:
    def argv(seconds: float, scratch: Path) -> list[str]:
        record = [_found("perf"), "record", "-q", "-a", "-g", *options]
        return [*record, "-o", str(scratch / "perf.data"), "--", "sleep", f"{seconds:g}"]

    return argv


def _perf_script(scratch: Path) -> list[str]:
    return [_found("perf"), "script", "-i", str(scratch / "perf.data")]


def legacy_options() -> Sequence[str]:
    """What makes SystemScope do without everything that came after Linux 4.9."""
    from systemscope.kernel.capabilities import LEGACY_4_9

    return ("--without", ",".join(sorted(name for name in LEGACY_4_9 if ">" not in name)))


SYSTEMSCOPE = Tool("SystemScope profile", sys.executable, systemscope("-v"))
LIBBPF_OFFCPU = Tool("libbpf-tools offcputime", "offcputime", _libbpf("offcputime"))
LIBBPF_PROFILE = Tool("libbpf-tools profile", "profile", _libbpf("profile"))
BPFTRACE_OFFCPU = Tool("bpftrace off-CPU script", "bpftrace", _bpftrace(_BPFTRACE_OFFCPU))
BPFTRACE_ONCPU = Tool("bpftrace profile:hz:99", "bpftrace", _bpftrace(_BPFTRACE_ONCPU))
PERF_SWITCH = Tool(
    "perf record -g sched_switch", "perf", _perf("-e", "sched:sched_switch"), _perf_script
)
TIMELINE = Tool("SystemScope profile --timeline", sys.executable, timeline())
PERF_SCHED = Tool(
    "perf sched record (no user stacks)",
    "perf",
    lambda seconds, scratch: [
        *(_found("perf"), "sched", "record", "-q", "-o", str(scratch / "sched.data")),
        *("--", "sleep", f"{seconds:g}"),
    ],
)
PERF_ONCPU = Tool("perf record -g -F 99", "perf", _perf("-F", str(FREQUENCY)), _perf_script)
