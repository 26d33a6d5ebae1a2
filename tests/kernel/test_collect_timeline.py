"""The timeline of a window: its stretches are those the accounts add up, along every way."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from systemscope.collectors import timeline as recording
from systemscope.model import Capture, Event, EventKind, State
from tests.e2e.support import Workload
from tests.kernel.collecting import WAYS, check_identity, profile

pytestmark = pytest.mark.kernel

SECONDS = 1.0
RINGS = {"no ring buffer": frozenset({"ring_buffer"})}


def events_of(capture: Capture) -> list[Event]:
    assert capture.timeline is not None
    return list(capture.timeline.events())


def times(events: list[Event]) -> dict[int, dict[State, int]]:
    """Nanoseconds of each tid and state."""
    found: dict[int, dict[State, int]] = defaultdict(lambda: defaultdict(int))
    for event in events:
        if event.kind is EventKind.RUN:
            found[event.tid][State.RUNNING] += event.end - event.begin
        elif event.kind is EventKind.WAIT:
            found[event.tid][event.state] += event.middle - event.begin
            found[event.tid][State.RUNNABLE] += event.end - event.middle
    return found


def check_times(capture: Capture, events: list[Event]) -> None:
    """What the events tell of each tid is what its lives' accounts hold, to the nanosecond.

    A thread of which a switch was missed has gaps: there the events tell less, never more.
    """
    assert capture.timeline is not None and capture.timeline.lost == 0
    expected: dict[int, dict[State, int]] = defaultdict(lambda: defaultdict(int))
    for thread in capture.threads:
        for state, nanoseconds in thread.time.items():
            if state is not State.UNKNOWN:  # nothing says what happened: a gap in the track
                expected[thread.tid][state] += nanoseconds
    gaps = {thread.tid for thread in capture.threads if thread.time.get(State.UNKNOWN)}
    told = times(events)
    for tid in set(expected) | set(told):
        for state in State:
            assert told[tid][state] <= expected[tid][state], (tid, state.name)
            whole = tid in gaps or told[tid][state] == expected[tid][state]
            assert whole, (tid, state.name, told[tid][state], expected[tid][state])


def check_order(events: list[Event]) -> None:
    """The stretches of one thread follow each other without overlap."""
    reached: dict[int, int] = {}
    for event in sorted(events, key=lambda event: (event.end, event.begin)):
        if event.kind in (EventKind.RUN, EventKind.WAIT):
            assert event.begin >= reached.get(event.tid, 0), event
            assert event.begin <= event.end, event
            reached[event.tid] = event.end


@pytest.mark.parametrize("wide", [False, True], ids=["pid", "system"])
@pytest.mark.parametrize("way", [*WAYS, *RINGS])
def test_stretches_are_the_accounts(four: Workload, way: str, wide: bool) -> None:
    without = {**WAYS, **RINGS}[way]
    pids = () if wide else (four.pid,)
    capture = profile(SECONDS, pids=pids, timeline=True, disabled=without)
    check_identity(capture)
    events = events_of(capture)
    check_times(capture, events)
    check_order(events)
    kinds = Counter(event.kind for event in events)
    assert kinds[EventKind.SAMPLE] == capture.samples or wide
    with_stack = sum(1 for e in events if e.stack and e.kind is not EventKind.SAMPLE)
    assert with_stack >= 50, "the worker's naps carry stacks"
    assert kinds[EventKind.WAKE] >= 50


def test_wakers_are_told_from_interrupts(four: Workload) -> None:
    capture = profile(SECONDS, pids=(four.pid,), timeline=True)
    woken: dict[int, Counter[int]] = defaultdict(Counter)
    for event in events_of(capture):
        if event.kind is EventKind.WAKE:
            woken[event.tid][event.other] += 1
    reader, worker = four.tids["reader"], four.tids["worker"]
    by_feeder = woken[reader][four.ready["feeder"]]
    assert by_feeder >= 0.9 * sum(woken[reader].values()) > 0, "a pipe's writer wakes its reader"
    by_timer = woken[worker][0]
    assert by_timer >= 0.9 * sum(woken[worker].values()) > 0, "a timer's interrupt ends a nap"


def test_a_full_ring_is_counted_and_leaves_gaps_only(
    four: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording.TimelineRecorder, "poll", lambda self: None)
    from systemscope.collectors import plan

    original = plan.make_plan

    def small(*arguments: object) -> plan.Plan:
        from dataclasses import replace

        from systemscope.programs.maps import profiler_maps

        made = original(*arguments)  # type: ignore[arg-type]
        config = replace(made.config, ring_bytes=4096)
        return replace(made, config=config, maps=profiler_maps(config))

    monkeypatch.setattr("systemscope.collectors.wallclock.make_plan", small)
    capture = profile(SECONDS, pids=(four.pid,), timeline=True)
    check_identity(capture)
    assert capture.losses.timeline_events_lost > 0
    check_order(events_of(capture))


def test_a_full_disk_ends_the_timeline_and_nothing_else(
    four: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, records: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("systemscope.model.timeline.Timeline.append", full)
    capture = profile(SECONDS, pids=(four.pid,), timeline=True)
    check_identity(capture)
    assert capture.losses.timeline_events_lost > 0
    assert any("the timeline ends early" in note for note in capture.notes)


def test_only_chosen_cpus(four: Workload) -> None:
    capture = profile(SECONDS, pids=(four.pid,), timeline=True, cpus=(0,))
    events = events_of(capture)
    cpus = {e.cpu for e in events if e.kind in (EventKind.RUN, EventKind.WAIT)}
    assert cpus <= {0, -1}
    told = times(events)
    for thread in capture.threads:
        for state in (State.RUNNING, State.RUNNABLE):
            assert told[thread.tid][state] <= thread.time.get(state, 0) + 1, thread
