"""Chrome traces of timelines small enough to check with pencil and paper."""

from __future__ import annotations

import io
from collections import defaultdict

import pytest

from systemscope.errors import UsageError
from systemscope.exporters.chrome import write
from systemscope.exporters.formats import by_name, by_path
from systemscope.model import (
    Capture,
    Entry,
    EventKind,
    FrameKind,
    Losses,
    Profile,
    Sample,
    Stack,
    State,
    Thread,
    Timeline,
)
from tests.unit.chrome_reader import CPUS, frame, profile_of, written
from tests.unit.test_timeline import record, timeline

RUN, WAIT, STACK = EventKind.RUN, EventKind.WAIT, EventKind.STACK
SAMPLE, WAKE = EventKind.SAMPLE, EventKind.WAKE
END = 10_000_000


def thread(tid: int, comm: str = "worker", begin: int = 0, end: int = END, tgid: int = 1) -> Thread:
    return Thread(tid, tgid, comm, begin, end)


def run(tid: int, begin: int, end: int, state: State = State.SLEEPING, cpu: int = 0) -> bytes:
    return record(RUN, tid, end, begin, state, cpu=cpu)


def wait(
    tid: int, begin: int, middle: int, end: int, state: State = State.SLEEPING, **more: int
) -> bytes:
    return record(WAIT, tid, end, begin, state, middle=middle, **more)


def named_stacks(*stacks: tuple[str, ...]) -> tuple[list[Entry], list[Sample], list[Stack]]:
    """Stacks 1, 2, ... of thread 0 (leaf first); names that begin with k_ are the kernel's."""
    owner = thread(5)
    entries, samples = [], []
    for index, names in enumerate(stacks):
        kinds = [FrameKind.KERNEL if one.startswith("k_") else FrameKind.USER for one in names]
        frames = tuple(frame(name, kind) for name, kind in zip(names, kinds))
        entries.append(Entry(0, State.RUNNING, index + 1, 1, 1, 0))
        samples.append(Sample(owner, "p", State.RUNNING, frames, 1, 1))
    return entries, samples, [Stack()] * (len(stacks) + 1)


def test_a_thread_runs_sleeps_and_waits_for_a_cpu() -> None:
    events = timeline(
        [
            run(5, 0, 1_000_001, cpu=3),
            wait(5, 1_000_001, 3_000_000, 3_500_000, cpu=2),
            run(5, 3_500_000, END, State.RUNNABLE, cpu=2),
        ]
    )
    trace = written(profile_of(events, [thread(5)], END))
    assert [(one.name, one.category, one.begin, one.end) for one in trace.states(1, 5)] == [
        ("running", "running", 0, 1_000_001),
        ("sleeping", "sleeping", 1_000_001, 3_000_000),
        ("runnable", "runnable", 3_000_000, 3_500_000),
        ("running", "running", 3_500_000, END),
    ]
    first, _, runnable, last = trace.states(1, 5)
    assert first.args == {"cpu": 3, "then": "sleeping"}
    assert last.args["then"] == "preempted"
    assert runnable.args["switched in on cpu"] == 2
    assert trace.name("thread_name", 1, 5) == "worker"
    assert trace.name("process_name", 1) == "p1"


def test_a_preempted_thread_says_so() -> None:
    events = timeline(
        [
            run(5, 0, 100, State.RUNNABLE),
            wait(5, 100, 100, 200, State.SLEEPING, cpu=1),
            run(5, 200, END),
        ]
    )
    states = written(profile_of(events, [thread(5)], END)).states(1, 5)
    assert [one.name for one in states] == ["running", "runnable", "running"]
    assert states[1].args == {"since": "preempted", "switched in on cpu": 1}


def test_cpu_tracks() -> None:
    events = timeline([run(5, 0, 100, cpu=1), run(6, 100, 300, State.DISK, cpu=1)])
    trace = written(profile_of(events, [thread(5), thread(6, "b")], END))
    tid = CPUS + 2
    assert trace.name("process_name", CPUS) == "CPUs"
    assert trace.name("thread_name", CPUS, tid) == "CPU 1"
    first, second = trace.states(CPUS, tid)
    assert (first.name, first.begin, first.end) == ("worker 5", 0, 100)
    assert (second.name, second.args) == ("b 6", {"tid": 6, "pid": 1, "then": "disk"})


def test_the_scheduler_s_lines() -> None:
    events = timeline(
        [
            run(6, 0, 800, State.RUNNABLE, cpu=1),
            record(WAKE, 5, 700, cpu=1, other=6),
            wait(5, 0, 700, 800, cpu=1),
            run(5, 800, 2_000_000_000, State.DISK, cpu=1),
        ]
    )
    nobody = "[idle\u00a0or\u00a0not\u00a0profiled]"
    lives = [thread(5, "Web Content", end=2_000_000_000), thread(6, "a=b")]
    trace = written(profile_of(events, lives, 2_000_000_000))
    assert trace.ftrace == [
        f"<idle>-0 (-----) [001] d..2 0.00000000025: sched_switch: prev_comm={nobody} prev_pid=0 "
        "prev_prio=120 prev_state=S ==> next_comm=a_b next_pid=6 next_prio=120",
        "a_b-6 (    1) [001] d..2 0.00000070025: sched_waking: comm=Web\u00a0Content pid=5 "
        "prio=120 target_cpu=001",
        "a_b-6 (    1) [001] d..2 0.00000080025: sched_switch: prev_comm=a_b prev_pid=6 "
        "prev_prio=120 prev_state=R ==> next_comm=Web\u00a0Content next_pid=5 next_prio=120",
        "Web\u00a0Content-5 (    1) [001] d..2 2.00000000025: sched_switch: "
        "prev_comm=Web\u00a0Content prev_pid=5 prev_prio=120 prev_state=D ==> "
        f"next_comm={nobody} next_pid=0 next_prio=120",
    ]
    assert not written(profile_of(events, lives, 2_000_000_000), 1000).ftrace, "it would be wrong"


def test_a_run_cut_off_by_the_end_is_on_its_last_known_cpu() -> None:
    events = timeline([wait(5, 0, 10, 20, cpu=7)])
    events.closing = list(timeline([record(RUN, 5, END, 20, cpu=0xFFFFFFFF)]).events())
    trace = written(profile_of(events, [thread(5)], END))
    assert trace.states(1, 5)[-1].args["cpu"] == 7
    assert trace.states(CPUS, CPUS + 8)[0].length == END - 20


def test_samples_become_nested_frames() -> None:
    entries, samples, stacks = named_stacks(("leaf", "mid", "main"), ("other", "mid", "main"))
    events = timeline(
        [
            record(SAMPLE, 5, 1_000_000, kernel=1),
            record(SAMPLE, 5, 2_000_000, kernel=2),
            record(SAMPLE, 5, 4_500_000, kernel=2),
            run(5, 500_000, 6_000_000),
        ]
    )
    events.stacks = {(1, 0): 1, (2, 0): 2}
    lives = [thread(5, begin=500_000, end=6_000_000)]
    trace = written(profile_of(events, lives, END, samples, entries, stacks=stacks))
    # Half way to the next, a period (1 ms) at most: nothing is known of 3.0 to 3.5 ms.
    assert [(one.name, one.depth, one.begin, one.end) for one in trace.frames(1, 5)] == [
        ("main", 1, 500_000, 3_000_000),
        ("mid", 2, 500_000, 3_000_000),
        ("leaf", 3, 500_000, 1_500_000),
        ("other", 3, 1_500_000, 3_000_000),
        ("main", 1, 3_500_000, 5_500_000),
        ("mid", 2, 3_500_000, 5_500_000),
        ("other", 3, 3_500_000, 5_500_000),
    ]
    assert trace.frames(1, 5)[0].category == "user,app"
    assert trace.states(1, 5)[0].args["samples"] == 3


def test_a_wait_tells_its_reason_its_stack_and_its_waker() -> None:
    entries, samples, stacks = named_stacks(("k_x", "read", "main"))
    names = ("schedule", "pipe_read", "vfs_read")
    kernel = tuple(frame(name, FrameKind.KERNEL, "[kernel]") for name in names)
    samples = [Sample(samples[0].thread, "p", State.SLEEPING, (*kernel, frame("main")), 1, 1)]
    events = timeline(
        [
            run(6, 0, 800, cpu=1),
            record(WAKE, 5, 700, cpu=1, other=6),
            wait(5, 0, 710, 900, cpu=0),
            record(STACK, 5, 900, kernel=9),
            run(5, 900, END),
        ]
    )
    events.stacks = {(9, 0): 1}
    lives = [thread(5), thread(6, "feeder")]
    trace = written(profile_of(events, lives, END, samples, entries, stacks=stacks))
    sleeping, runnable, _ = trace.states(1, 5)
    assert sleeping.name == "sleeping: data from a pipe"
    assert sleeping.args["stack"] == [*names, "main"], "the innermost first"
    assert sleeping.args["woken by"] == runnable.args["woken by"] == "feeder-1/6"
    assert "stack" not in runnable.args
    [begin], [end] = trace.of("s"), trace.of("f")
    assert (begin["pid"], begin["tid"], str(begin["ts"])) == (1, 6, "0.700")
    assert (end["tid"], str(end["ts"]), end["bp"]) == (5, "0.900", "e")
    assert begin["id"] == end["id"]


@pytest.mark.parametrize(
    ("bits", "words"), [(0, "an interrupt"), (1, "a timer"), (6, "a soft interrupt, a device")]
)
def test_interrupts_wake_without_an_arrow(bits: int, words: str) -> None:
    events = timeline(
        [record(WAKE, 5, 50, middle=bits), wait(5, 0, 50, 60), run(5, 60, END)]
    )  # fmt: skip
    trace = written(profile_of(events, [thread(5)], END))
    assert trace.states(1, 5)[0].args["woken by"] == words
    assert not trace.of("s") and not trace.of("f")


def test_a_waker_that_is_not_in_the_profile_is_named_by_its_number() -> None:
    events = timeline([record(WAKE, 5, 50, other=77), wait(5, 0, 50, 60), run(5, 60, END)])
    trace = written(profile_of(events, [thread(5)], END))
    assert trace.states(1, 5)[0].args["woken by"] == "thread 77"
    assert not trace.of("s")


def test_a_wake_up_before_the_wait_is_not_its_own() -> None:
    events = timeline(
        [record(WAKE, 5, 50, other=6), run(5, 0, 100), wait(5, 100, 150, 160), run(5, 160, END)]
    )
    trace = written(profile_of(events, [thread(5), thread(6)], END))
    assert "woken by" not in trace.states(1, 5)[1].args
    assert not trace.of("s")


def test_lost_events_are_gaps_and_said() -> None:
    events = timeline([run(5, 0, 100), run(5, 300, 400), wait(5, 500, 600, 600, cpu=0)])
    events.lost = 3
    losses = Losses(timeline_events_lost=3)
    trace = written(profile_of(events, [thread(5, end=1000)], END, losses=losses))
    assert [(one.name, one.begin, one.end) for one in trace.states(1, 5)] == [
        ("running", 0, 100),
        ("[missed events]", 100, 300),
        ("running", 300, 400),
        ("[missed events]", 400, 500),
        ("sleeping", 500, 600),
        ("[missed events]", 600, 1000),
    ]
    [said] = trace.of("i")
    assert (said["name"], said["s"]) == ("3 events lost", "g")
    assert trace.other["losses"] == ["events of the timeline not kept: 3"]


def test_samples_of_a_run_that_was_lost_are_drawn_in_its_gap() -> None:
    entries, samples, stacks = named_stacks(("leaf", "main"))
    events = timeline(
        [record(SAMPLE, 5, 200, kernel=1), wait(5, 300, 400, 400, cpu=0), run(5, 400, END)]
    )
    events.stacks = {(1, 0): 1}
    trace = written(profile_of(events, [thread(5)], END, samples, entries, stacks=stacks))
    assert trace.states(1, 5)[0].name == "[missed events]"
    assert [one.name for one in trace.frames(1, 5)] == ["main", "leaf"]


def test_numbers_that_are_used_again_have_tracks_of_their_own() -> None:
    lives = [thread(5, "old", 0, 400), thread(5, "new", 600, END, tgid=2)]
    events = timeline([run(5, 0, 400, State.DEAD), run(5, 600, END)])
    trace = written(profile_of(events, lives, END))
    assert [one.end for one in trace.states(1, 5)] == [400]
    assert [one.begin for one in trace.states(2, 100_000_005)] == [600]
    assert trace.name("thread_name", 2, 100_000_005) == "new (tid 5 again)"


def test_hostile_names() -> None:
    comm = 'a"\\\n</script>\u202e\ud800' + "x" * 100_000
    entries, samples, stacks = named_stacks((comm, comm))
    events = timeline([record(SAMPLE, 5, 50, kernel=1), run(5, 0, END)])
    events.stacks = {(1, 0): 1}
    made = profile_of(events, [thread(5, comm)], END, samples, entries, stacks=stacks)
    made.capture.command = comm
    trace = written(made)
    name = trace.name("thread_name", 1, 5)
    assert name.startswith('a"\\_</script>__x') and len(name) < 600
    assert all(one.name == name for one in trace.frames(1, 5))


def test_threads_left_out_are_counted_and_an_empty_timeline_is_whole() -> None:
    trace = written(profile_of(timeline([run(9, 0, 10)]), [thread(5)], END))
    assert trace.metadata["events of threads left out"] == 1
    assert [one.name for one in trace.states(1, 5)] == ["[missed events]"]
    empty = written(profile_of(Timeline(io.BytesIO()), [], 0))
    assert not empty.slices


def test_without_a_timeline() -> None:
    with pytest.raises(UsageError, match="no timeline"):
        write(Profile(Capture(0, 1, 0.0, 99, "")), io.BytesIO())


def test_time_on_other_cpus_is_not_a_loss() -> None:
    life = thread(5)
    life.elsewhere = END - 100
    trace = written(profile_of(timeline([run(5, 0, 100)]), [life], END))
    assert [one.name for one in trace.states(1, 5)] == ["running", "[other CPUs]"]


def test_the_ending_of_a_path() -> None:
    assert by_path("a.trace.json").name == by_path("a.JSON").name == "chrome"
    assert by_path("a.speedscope.json") == by_name("speedscope")
    assert by_name("chrome").timeline


def test_thin_slices_are_gathered_and_told() -> None:
    records = []
    for at in range(0, 1_000_000, 1000):
        records += [run(5, at, at + 300), wait(5, at + 300, at + 900, at + 1000, cpu=0)]
    records.append(run(5, 1_000_000, END))
    trace = written(profile_of(timeline(records), [thread(5)], END), min_slice_ns=50_000)
    short = trace.states(1, 5)[:-1]
    assert {one.name for one in short} == {"[short slices]"}
    assert all(one.length >= 50_000 for one in short)
    told: dict[str, int] = defaultdict(int)
    for one in short:
        assert sum(ns for key, ns in one.args.items() if key.endswith(" ns")) == one.length
        for key, value in one.args.items():
            told[key] += value
    assert told == {
        "slices": 3000,
        "running ns": 300_000,
        "sleeping ns": 600_000,
        "runnable ns": 100_000,
    }
    gathered = trace.metadata["short slices, gathered"]
    assert gathered["sleeping"] == {"count": 1000, "ns": 600_000}
    cpu = trace.states(CPUS, CPUS + 1)
    assert sum(one.args["running ns"] for one in cpu[:-1]) == 300_000
