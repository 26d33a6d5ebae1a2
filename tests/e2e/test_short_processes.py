"""Hundreds of processes that live a few milliseconds: none missing, their frames named."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.e2e.support import Line, parse_folded, run, through, total

COUNT = 500
WORK_US = 5000
TIME_TOLERANCE = 0.02  # of the CPU time the kernel charged the children
NAMED = 0.99  # of the user frames, weighted by time
_UNNAMED = re.compile(r"\+0x[0-9a-f]+$|^0x|^\[unknown|^\[unnamed")


def _swarm(workloads: Path, tmp_path: Path, *extra: str) -> tuple[list[Line], dict[str, int]]:
    output, truth_file = tmp_path / "swarm.folded", tmp_path / "truth.json"
    command = " ".join(
        [str(workloads / "swarm"), str(workloads / "short"), "--count", str(COUNT),
         "--work-us", str(WORK_US), *extra]
    )  # fmt: skip
    run(
        "profile", "-q", "-a", "--per-thread", "--output", "folded", "-o", output, "--",
        "sh", "-c", f"exec {command} >{truth_file}",
    )  # fmt: skip
    ready, truth = (json.loads(line) for line in truth_file.read_text().splitlines())
    assert truth["finished"] == COUNT
    lines = parse_folded(output.read_text())
    return [line for line in lines if line.pid != ready["ready"]], truth


def _user_frames(line: Line) -> list[str]:
    return [f for f in line.frames if not f.endswith("_[k]") and not f.startswith("[")]


@pytest.mark.parametrize("kind", ["exec", "fork"])
def test_short_lives_are_complete_and_named(workloads: Path, tmp_path: Path, kind: str) -> None:
    extra = ("--fork-only",) if kind == "fork" else ()
    children, truth = _swarm(workloads, tmp_path, *extra)
    assert len({line.pid for line in children}) == COUNT
    running = [line for line in children if line.state == "running"]
    ratio = total(running) * 1000 / truth["child_cpu_ns"]
    named = unnamed = 0
    for line in running:
        for frame in _user_frames(line):
            if _UNNAMED.search(frame) and (kind == "exec" or not frame.startswith("libc")):
                unnamed += line.microseconds
            else:
                named += line.microseconds
    print(f"time {ratio:.4f} of the truth, {named / max(named + unnamed, 1):.4f} of frames named")
    assert abs(ratio - 1) <= TIME_TOLERANCE
    assert named / (named + unnamed) >= NAMED
    functions = ("short_first", "short_second") if kind == "exec" else (
        "forked_first", "forked_second"
    )  # fmt: skip
    for function in functions:
        assert through(running, function)
