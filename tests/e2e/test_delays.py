"""--delays as a user runs it, and the kernel's run-queue figure as one more oracle of ours."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from systemscope.model import DelayKind, State
from tests.e2e.support import SchedStatWatch, Workload, disabled, hogs, run

WINDOW_SECONDS = 4.0
TOLERANCE = 0.01  # of the window
HOGS = 4
SWITCH = Path("/proc/sys/kernel/task_delayacct")


@pytest.mark.parametrize("crowd", [0, HOGS], ids=["alone", "hogs"])
def test_the_run_queue_three_times(workloads: Path, path: str, crowd: int) -> None:
    """Our own RUNNABLE time, taskstats' delay and schedstat read by another process."""
    from systemscope.collectors.request import Request
    from systemscope.collectors.wallclock import collect

    with ExitStack() as stack:
        four = stack.enter_context(Workload(workloads / "four"))
        stack.enter_context(hogs(workloads / "hog", crowd))
        with SchedStatWatch(four.tids) as watch:
            request = Request(
                pids=(four.pid,),
                duration_ns=int(WINDOW_SECONDS * 1e9),
                disabled=disabled(path),
                delays=True,
            )
            capture = collect(request, stop=lambda: False)
    window = capture.end - capture.start
    for name, tid in four.tids.items():
        (thread,) = [thread for thread in capture.threads if thread.tid == tid]
        if thread.delays is None:
            pytest.skip(f"this kernel tells no delays: {capture.notes}")
        told = thread.delays[DelayKind.CPU].nanoseconds
        ours = thread.time.get(State.RUNNABLE, 0)
        oracle = watch.delta(name, thread.begin, thread.end).wait
        print(
            f"{name}: taskstats {told / window:.4f} of the window, ours off by "
            f"{(ours - told) / window:+.4f}, schedstat by {(oracle - told) / window:+.4f}"
        )
        # taskstats adds a wait when it ends: both ends of the window may cut one.
        assert abs(told - ours) <= 2 * TOLERANCE * window
        assert abs(told - oracle) <= 2 * TOLERANCE * window


def test_a_kernel_that_counts_little_says_so(workloads: Path) -> None:
    if not SWITCH.exists():
        pytest.skip("kernel.task_delayacct came with Linux 5.14")
    before = SWITCH.read_text()
    with Workload(workloads / "four") as four:
        try:
            for value, expected in (("0", 1), ("1", 0)):
                SWITCH.write_text(value)
                result = run("profile", "--delays", "-d", 0.5, "-p", four.pid, "--output", "folded")
                assert result.errors.count("sysctl kernel.task_delayacct=1") == expected
        finally:
            SWITCH.write_text(before)
