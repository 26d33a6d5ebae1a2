"""Four threads in known states: everybody present, every nanosecond in the right place.

The oracle is /proc/TID/schedstat, read around the window by the test itself.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from systemscope.model import Capture, State, Thread
from tests.e2e.support import (
    Line,
    SchedStatWatch,
    Workload,
    disabled,
    hogs,
    run,
    through,
    total,
)

WINDOW_SECONDS = 4.0
WINDOW_TOLERANCE = 0.01  # of the window: sums, and deltas against schedstat
HOGS = 4
SCENARIOS = ("alone", "hogs", "system")
#: The states each thread can be in; nothing else is a right answer.
EXPECTED_STATES = {
    "burner": {"running", "runnable"},
    "worker": {"running", "runnable", "sleeping"},
    "futexer": {"sleeping"},
    "reader": {"running", "runnable", "sleeping"},
}
#: The function each thread is in when it is in its main state.
EXPECTED_FUNCTION = {
    "burner": ("running", "burn_until_stopped"),
    "worker": ("running", "do_work"),
    "futexer": ("sleeping", "wait_on_futex"),
    "reader": ("sleeping", "read_feed"),
}
MAIN_FUNCTION_SHARE = 0.95  # of the time in that state


@pytest.fixture(params=SCENARIOS)
def scenario(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _thread_of(capture: Capture, tid: int) -> Thread:
    found = [thread for thread in capture.threads if thread.tid == tid]
    assert len(found) == 1, f"thread {tid} is in the capture {len(found)} times"
    return found[0]


def test_times_agree_with_schedstat(workloads: Path, path: str, scenario: str) -> None:
    from systemscope.collectors.request import Request
    from systemscope.collectors.wallclock import collect

    with ExitStack() as stack:
        four = stack.enter_context(Workload(workloads / "four"))
        stack.enter_context(hogs(workloads / "hog", HOGS if scenario == "hogs" else 0))
        with SchedStatWatch(four.tids) as watch:
            request = Request(
                pids=() if scenario == "system" else (four.pid,),
                duration_ns=int(WINDOW_SECONDS * 1e9),
                disabled=disabled(path),
            )
            capture = collect(request, stop=lambda: False)
    window = capture.end - capture.start
    for name, tid in four.tids.items():
        thread = _thread_of(capture, tid)
        oracle = watch.delta(name, thread.begin, thread.end)
        running = thread.time.get(State.RUNNING, 0)
        runnable = thread.time.get(State.RUNNABLE, 0)
        print(
            f"{name}: sum {thread.accounted / window:.4f} of the window, running off by "
            f"{(running - oracle.run) / window:+.4f}, runnable by "
            f"{(runnable - oracle.wait) / window:+.4f}"
        )
        assert thread.comm == name
        assert abs(thread.accounted - window) <= WINDOW_TOLERANCE * window
        assert abs(running - oracle.run) <= WINDOW_TOLERANCE * window
        assert abs(runnable - oracle.wait) <= WINDOW_TOLERANCE * window
        entries = sum(
            entry.nanoseconds
            for entry in capture.entries
            if capture.threads[entry.thread] is thread
        )
        assert abs(entries - thread.accounted) <= WINDOW_TOLERANCE * window


def test_every_thread_is_shown_where_it_is(workloads: Path, path: str, scenario: str) -> None:
    with ExitStack() as stack:
        four = stack.enter_context(Workload(workloads / "four"))
        stack.enter_context(hogs(workloads / "hog", HOGS if scenario == "hogs" else 0))
        target = ("--idle-threads", "show") if scenario == "system" else ("-p", four.pid)
        result = run("profile", "-q", "--per-thread", "-d", WINDOW_SECONDS, *target, path=path)
    lines = [line for line in result.lines if line.pid == four.pid]
    for name, tid in four.tids.items():
        own = [line for line in lines if line.tid == tid]
        assert own, f"{name} is missing"
        assert {line.comm for line in own} == {name}
        assert abs(total(own) / (WINDOW_SECONDS * 1e6) - 1) <= WINDOW_TOLERANCE
        _check_states(name, own)


def _check_states(name: str, own: list[Line]) -> None:
    strange = [line for line in own if line.state not in EXPECTED_STATES[name]]
    assert total(strange) <= WINDOW_TOLERANCE * total(own), strange
    state, function = EXPECTED_FUNCTION[name]
    there = [line for line in own if line.state == state]
    assert there, f"{name} is never {state}"
    share = total(through(there, function)) / total(there)
    assert share >= MAIN_FUNCTION_SHARE, f"{name}: {function} has {share:.3f} of {state}"
    if name == "futexer":
        kernel = [line for line in there if any("futex" in frame for frame in line.frames[:-1])]
        assert total(kernel) == total(there), "the futex thread's kernel stack is missing"
        assert any(
            "futex_wait" in frame or "futex_do_wait" in frame
            for line in there
            for frame in line.frames
        )
