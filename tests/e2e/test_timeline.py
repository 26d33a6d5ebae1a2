"""Timelines as a user gets them: their slices are the thread's times, their arrows the truth."""

from __future__ import annotations

import io
import platform
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import systemscope
from systemscope.exporters.chrome import write
from systemscope.exporters.formats import ExportOptions
from systemscope.model import Profile, State, Thread, state_name
from tests.e2e.support import Workload, disabled, parse_folded, run, total
from tests.unit.chrome_reader import CPUS, Trace, read

SECONDS = 2
ROUNDS = 40

#: Two processes hand a word in shared memory to and fro with futex(2); each naps before it answers,
#: so that the other one is always asleep by then.
_FUTEX = """
import ctypes, mmap, os, sys, time
number, rounds = int(sys.argv[1]), int(sys.argv[2])
shared = mmap.mmap(-1, 4096)
word = ctypes.c_int.from_buffer(shared)
call = ctypes.CDLL(None).syscall
at = ctypes.c_void_p(ctypes.addressof(word))

def hand_over(value):
    time.sleep(0.002)
    word.value = value
    call(number, at, 1, 1, None, None, 0)

def wait_for(value):
    while word.value != value:
        call(number, at, 0, ctypes.c_int(word.value), None, None, 0)

if os.fork() == 0:
    for turn in range(rounds):
        wait_for(2 * turn + 1)
        hand_over(2 * turn + 2)
    os._exit(0)
for turn in range(rounds):
    hand_over(2 * turn + 1)
    wait_for(2 * turn + 2)
os.wait()
"""


@pytest.fixture
def four(workloads: Path) -> Iterator[Workload]:
    with Workload(workloads / "four") as running:
        yield running


def exported(profile: Profile, min_slice_ns: int = 0) -> Trace:
    stream = io.BytesIO()
    write(profile, stream, ExportOptions(min_slice_ns=min_slice_ns))
    return read(stream.getvalue())


def told(trace: Trace, thread: Thread) -> dict[str, int]:
    """Nanoseconds of a thread by state: its outermost slices, and what was gathered."""
    times: dict[str, int] = defaultdict(int)
    for one in trace.states(thread.tgid, thread.tid):
        if one.category == "short":
            for key, value in one.args.items():
                if key != "slices":
                    times[key.replace(" ns", "")] += value
        else:
            times[one.category] += one.length
    return times


def check_times(trace: Trace, profile: Profile) -> None:
    """Every thread's slices are its times, to the nanosecond; its samples' too.

    Time in no known state is a gap, and so is a stretch that the window's end cut off unseen.
    """
    assert profile.capture.timeline is not None and profile.capture.timeline.lost == 0
    samples: dict[int, Counter[str]] = defaultdict(Counter)
    for sample in profile.samples:
        samples[sample.thread.tid][state_name(sample.state)] += sample.nanoseconds
    for thread in profile.capture.threads:
        times = told(trace, thread)
        assert sum(times.values()) == thread.elapsed, thread.comm
        for state, nanoseconds in thread.time.items():
            name = "missed" if state is State.UNKNOWN else state_name(state)
            if not thread.time.get(State.UNKNOWN):
                assert times.get(name, 0) == nanoseconds, (thread.comm, name)
                assert samples[thread.tid][name] == nanoseconds, (thread.comm, name)
            elif state is not State.UNKNOWN:
                assert times.get(name, 0) <= nanoseconds, (thread.comm, name)


@pytest.mark.parametrize("min_slice_ns", [0, 200_000], ids=["all", "thinned"])
def test_slices_are_the_threads_times(four: Workload, path: str, min_slice_ns: int) -> None:
    targets = [four.pid, four.ready["feeder"]]
    profile = systemscope.profile(targets, duration=SECONDS, timeline=True, without=disabled(path))
    assert len(profile.capture.threads) == 5
    trace = exported(profile, min_slice_ns)
    check_times(trace, profile)
    running = sum(thread.time.get(State.RUNNING, 0) for thread in profile.capture.threads)
    on_cpus = sum(
        one.args["running ns"] if one.name == "[short slices]" else one.length
        for (pid, _), slices in trace.slices.items()
        if pid == CPUS
        for one in slices
    )
    assert on_cpus == running, "CPU tracks show what threads' tracks show"


def test_the_command_line_writes_what_folded_adds_up(four: Workload, tmp_path: Path) -> None:
    """The same window twice: as a timeline, and from the capture it was saved in, as totals."""
    saved, timeline = tmp_path / "run.ssc", tmp_path / "run.trace.json"
    folded = tmp_path / "run.folded"
    run("profile", "-p", four.pid, "-d", SECONDS, "--timeline", "-o", saved)
    run("convert", saved, "-o", timeline)
    run("convert", saved, "--per-thread", "-o", folded)
    trace = read(timeline.read_bytes())
    lines = parse_folded(folded.read_text())
    for name, tid in four.tids.items():
        mine = [line for line in lines if line.tid == tid]
        states = trace.states(four.pid, tid)
        for state in {line.state for line in mine} - {"unknown"}:
            drawn = sum(one.length for one in states if one.category == state) / 1000
            added = total([line for line in mine if line.state == state])
            assert drawn == pytest.approx(added, abs=len(mine)), (name, state)
    reasons = {one.name for one in trace.states(four.pid, four.tids["futexer"])}
    assert reasons == {"sleeping: a lock or a condition (futex)"}
    burner = {one.name for one in trace.frames(four.pid, four.tids["burner"])}
    assert "burn_until_stopped" in burner
    assert trace.other["kernel"] and trace.other["window ended by"] == "duration"


def arrows(trace: Trace) -> Counter[tuple[int, int]]:
    """(waker, woken) tids of all arrows, whose ends must lie where those threads run."""
    found: Counter[tuple[int, int]] = Counter()
    ends = {event["id"]: event for event in trace.of("f")}
    for begin in trace.of("s"):
        end = ends[begin["id"]]
        for event, where in ((begin, "from"), (end, "to")):
            at = int(event["ts"] * 1000)
            states = trace.states(event["pid"], event["tid"])
            [inside] = [one for one in states if one.begin <= at < one.end]
            assert inside.category == "running", where
            assert where == "from" or inside.begin == at
        found[begin["tid"], end["tid"]] += 1
    return found


def test_a_pipe_wakes_its_reader(four: Workload) -> None:
    feeder, reader = four.ready["feeder"], four.tids["reader"]
    profile = systemscope.profile([four.pid, feeder], duration=SECONDS, timeline=True)
    trace = exported(profile)
    found = arrows(trace)
    assert found[feeder, reader] >= 0.8 * sum(
        n for (_, woken), n in found.items() if woken == reader
    )
    assert found[feeder, reader] >= 100
    waits = [one for one in trace.states(four.pid, reader) if one.category == "sleeping"]
    by = Counter(one.args.get("woken by") for one in waits)
    assert by[f"feeder-{feeder}/{feeder}"] >= 0.8 * len(waits)
    naps = [one for one in trace.states(feeder, feeder) if one.category == "sleeping"]
    assert Counter(one.args.get("woken by") for one in naps).most_common(1)[0][0] == "a timer"
    explained = [one for one in waits if "stack" in one.args]
    assert len(explained) >= 0.8 * len(waits)
    assert all("read_feed" in one.args["stack"] for one in explained[1:-1])
    assert {one.name for one in explained} == {"sleeping: data from a pipe"}


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="futex's number")
def test_a_futex_handed_to_and_fro(tmp_path: Path) -> None:
    number = {"x86_64": 202, "aarch64": 98}[platform.machine()]
    out = tmp_path / "futex.trace.json"
    command = (sys.executable, "-c", _FUTEX, number, ROUNDS)
    run("profile", "-q", "-o", out, "--", *command)
    trace = read(out.read_bytes())
    pids = sorted({pid for pid, _ in trace.slices if pid != CPUS})
    assert len(pids) == 2
    parent, child = pids
    found = arrows(trace)
    for waker, woken in ((parent, child), (child, parent)):
        assert ROUNDS * 0.8 <= found[waker, woken] <= ROUNDS + 2, (waker, woken)
        waits = [one for one in trace.states(woken, woken) if "futex" in one.name]
        assert len(waits) >= ROUNDS * 0.8
        assert all(one.name == "sleeping: a lock or a condition (futex)" for one in waits)
        naps = [one for one in trace.states(woken, woken) if "nanosleep" in one.name]
        assert len(naps) >= ROUNDS * 0.8
        timers = [one for one in naps if one.args.get("woken by") == "a timer"]
        assert len(timers) >= len(naps) * 0.8
