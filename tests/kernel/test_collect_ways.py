"""The same workload along every way through the kernel: the same answers."""

from __future__ import annotations

import os

import pytest

from systemscope.model import Capture, State
from systemscope.symbolizer import symbolize
from tests.e2e.support import SchedStat, SchedStatWatch, Workload
from tests.kernel.collecting import (
    WAYS,
    check_identity,
    entries_of,
    gaps,
    profile,
    share,
    threads_of,
)

pytestmark = pytest.mark.kernel

SECONDS = 1.5
TOLERANCE = 0.01  # of the window, against schedstat, which counts a wait as it ends
#: /proc is read before the window begins and ends: a thread that moves meanwhile is missed.
UNKNOWN = 0.03


def longest_step(watch: SchedStatWatch, tid: int) -> SchedStat:
    """How far a reading can be behind."""
    seen = watch._seen[tid]
    pairs = list(zip(seen, seen[1:]))
    return SchedStat(
        0, max(y.run - x.run for x, y in pairs), max(y.wait - x.wait for x, y in pairs)
    )


@pytest.mark.parametrize("wide", [False, True], ids=["pid", "system"])
@pytest.mark.parametrize("way", list(WAYS))
def test_four_threads(four: Workload, way: str, wide: bool) -> None:
    with SchedStatWatch(four.tids) as watch:
        capture = profile(SECONDS, pids=() if wide else (four.pid,), disabled=WAYS[way])
    check_identity(capture)
    window = capture.end - capture.start
    assert not any(thread.tgid == os.getpid() for thread in capture.threads)
    for name, tid in four.tids.items():
        (thread,) = threads_of(capture, tid)
        assert (thread.comm, thread.tgid) == (name, four.pid)
        assert thread.elapsed == window
        assert share(thread, State.UNKNOWN) <= UNKNOWN
        oracle = watch.delta(name, capture.start, capture.end)
        missed = thread.time.get(State.UNKNOWN, 0)
        step = longest_step(watch, tid)
        for state, expected, edge in (
            (State.RUNNING, oracle.run, step.run),
            (State.RUNNABLE, oracle.wait, step.wait),
        ):
            difference = abs(thread.time.get(state, 0) - expected)
            assert difference <= TOLERANCE * window + missed + 2 * edge, (name, state)
    _check_states(capture, four)
    assert gaps(capture).get(None, 0) > 0
    assert capture.samples > 0 and capture.event in ("cycles", "cpu-clock")


def _check_states(capture: Capture, four: Workload) -> None:
    threads = {name: threads_of(capture, tid)[0] for name, tid in four.tids.items()}
    assert share(threads["burner"], State.RUNNING, State.RUNNABLE, State.UNKNOWN) > 0.98
    assert share(threads["futexer"], State.SLEEPING) == 1
    assert not threads["futexer"].ran
    for name in ("worker", "reader"):
        assert share(threads[name], State.SLEEPING) > 0.05
        known = share(threads[name], State.SLEEPING, State.RUNNING, State.RUNNABLE, State.UNKNOWN)
        assert known > 0.98
    (waiting,) = entries_of(capture, threads["futexer"])
    assert waiting.gap is None
    frames = [
        frame.name
        for sample in symbolize(capture).samples
        if sample.thread.tid == four.tids["futexer"]
        for frame in sample.frames
    ]
    assert any("futex" in name for name in frames), frames
