"""A program that spends 75 % / 25 % of its CPU time in two named functions."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.support import Workload, run, through, total

WINDOW_SECONDS = 4
SPLIT_TOLERANCE = 0.03  # of all on-CPU time
UNDER_MAIN = 0.99  # of all samples


def test_split_is_right(workloads: Path, path: str) -> None:
    with Workload(workloads / "split") as workload:
        result = run(
            "oncpu", "-q", "--per-thread", "-p", workload.pid, "-d", WINDOW_SECONDS, path=path
        )
        truth = workload.stop()
    running = [line for line in result.lines if line.state == "running"]
    burnt = total(running)
    sampled = [line for line in running if "[not sampled]" not in line.frames]
    major = total(through(running, "burn_major")) / burnt
    minor = total(through(running, "burn_minor")) / burnt
    print(f"major {major:.4f} minor {minor:.4f} of {burnt} us")
    expected = truth["major_ns"] / (truth["major_ns"] + truth["minor_ns"])
    assert abs(major - expected) <= SPLIT_TOLERANCE
    assert abs(minor - (1 - expected)) <= SPLIT_TOLERANCE
    assert total(through(sampled, "main")) / total(sampled) >= UNDER_MAIN


def test_split_of_a_command_from_its_first_instruction(workloads: Path, path: str) -> None:
    """The same through ``-- COMMAND``, where window and life are one."""
    result = run(
        "profile",
        "-q",
        "--per-thread",
        "--",
        "sh",
        "-c",
        f"exec {workloads / 'split'} --seconds {WINDOW_SECONDS} >/dev/null",
        path=path,
    )
    running = [line for line in result.lines if line.state == "running"]
    major, minor = total(through(running, "burn_major")), total(through(running, "burn_minor"))
    assert abs(major / (major + minor) - 0.75) <= SPLIT_TOLERANCE
    assert total(through(running, "main")) / total(running) >= UNDER_MAIN - SPLIT_TOLERANCE
