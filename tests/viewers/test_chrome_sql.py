"""The timeline in Perfetto, asked by SQL: slices, durations, threads' times, arrows, counters."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import systemscope
from systemscope.exporters.chrome_tracks import CPUS_PID
from systemscope.model import EventKind, Profile, State, state_name
from tests.viewers.browser import Perfetto, in_perfetto, in_speedscope

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.kernel

#: A parent and its child pass a byte to and fro: each wakes the other, every ten milliseconds.
_PING_PONG = """
import os, time
a, b = os.pipe(), os.pipe()
if os.fork() == 0:
    os.close(a[1])
    while os.read(a[0], 1):
        sum(range(20000))
        os.write(b[1], b"x")
    os._exit(0)
os.close(a[0])
for _ in range(60):
    time.sleep(0.01)
    sum(range(40000))
    os.write(a[1], b"x")
    os.read(b[0], 1)
os.close(a[1])
os.wait()
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Profile, Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    profile = systemscope.profile(
        command=[sys.executable, "-c", _PING_PONG], timeline=True, frequency=999, min_block_us=1
    )
    path = tmp_path_factory.mktemp("chrome") / "ping.trace.json"
    systemscope.write(profile, path)
    return profile, path


@pytest.fixture(scope="module")
def perfetto(browser: Browser, recorded: tuple[Profile, Path]) -> Iterator[Perfetto]:
    with in_perfetto(browser, recorded[1]) as opened:
        yield opened


def test_the_times_are_the_profiles(perfetto: Perfetto, recorded: tuple[Profile, Path]) -> None:
    """For each thread and state: slices in Perfetto, the accounts, the samples of folded stacks."""
    profile, _ = recorded
    rows = perfetto.query(
        "select process.pid, thread.tid, slice.category as cat, sum(slice.dur) as ns "
        "from slice join thread_track on slice.track_id = thread_track.id join thread using(utid) "
        "join process using(upid) group by 1, 2, 3"
    )
    told = {(row["pid"], row["tid"], row["cat"]): row["ns"] for row in rows}
    aggregated: dict[tuple[int, State], int] = defaultdict(int)
    for sample in profile.samples:
        aggregated[id(sample.thread), sample.state] += sample.nanoseconds
    assert len(profile.capture.threads) == 2
    for thread in profile.capture.threads:
        for state, nanoseconds in thread.time.items():
            if state is State.UNKNOWN:
                continue
            found = told.get((thread.tgid, thread.tid, state_name(state)), 0)
            assert found == nanoseconds, (thread.tid, state)
            assert aggregated[id(thread), state] == nanoseconds


def test_cpu_tracks_show_what_ran(perfetto: Perfetto, recorded: tuple[Profile, Path]) -> None:
    profile, _ = recorded
    rows = perfetto.query(
        "select slice.name, sum(slice.dur) as ns from slice join thread_track "
        "on slice.track_id = thread_track.id join thread using(utid) join process using(upid) "
        f"where process.pid = {CPUS_PID} group by 1"
    )
    told = {row["name"]: row["ns"] for row in rows}
    for thread in profile.capture.threads:
        assert told[f"{thread.comm} {thread.tid}"] == thread.time[State.RUNNING]
    names = {
        row["name"]
        for row in perfetto.query(
            f"select thread.name from thread join process using(upid) where pid = {CPUS_PID}"
        )
    }
    assert any(name and name.startswith("CPU ") for name in names)


def test_perfettos_own_tables_agree(perfetto: Perfetto, recorded: tuple[Profile, Path]) -> None:
    """sched and thread_state, which its analyses are made of, hold the accounts too."""
    profile, _ = recorded
    ran = {
        row["tid"]: row["ns"]
        for row in perfetto.query(
            "select tid, sum(dur) as ns from sched join thread using (utid) group by 1"
        )
    }
    waited = {
        row["tid"]: row["ns"]
        for row in perfetto.query(
            "select tid, sum(dur) as ns from thread_state join thread using (utid) "
            "where state in ('R', 'R+') group by 1"
        )
    }
    for thread in profile.capture.threads:
        assert ran[thread.tid] == thread.time[State.RUNNING]
        runnable = thread.time.get(
            State.RUNNABLE, 0
        )  # before its first event it has no state there
        assert 0.5 * runnable - 1_000_000 <= waited.get(thread.tid, 0) <= runnable + 1


def test_slices_of_a_thread_follow_each_other(perfetto: Perfetto) -> None:
    """Outermost slices neither overlap nor leave gaps, and frames lie within their run."""
    rows = perfetto.query(
        "select track_id, ts, dur, depth, category as cat from slice "
        "join thread_track on slice.track_id = thread_track.id join thread using(utid) "
        f"join process using(upid) where pid != {CPUS_PID} order by track_id, ts, depth"
    )
    reached: dict[int, int] = {}
    run: dict[int, tuple[int, int]] = {}
    frames = 0
    for row in rows:
        track, begin, end = row["track_id"], row["ts"], row["ts"] + row["dur"]
        if row["depth"] == 0:
            assert begin == reached.get(track, begin), "a gap or an overlap"
            reached[track] = end
            run[track] = (begin, end) if row["cat"] == "running" else (0, 0)
        else:
            frames += 1
            assert run[track][0] <= begin <= end <= run[track][1]
            assert row["cat"].split(",")[0] in ("kernel", "user", "vdso", "jit", "pseudo")
    assert frames > 20, "samples show their frames"


def test_arrows_lead_from_the_waker(perfetto: Perfetto, recorded: tuple[Profile, Path]) -> None:
    """The two threads wake each other: every arrow joins a run of one to a run of the other."""
    profile, _ = recorded
    rows = perfetto.query(
        "select t1.tid as waker, t2.tid as woken, s1.category as c1, s2.category as c2, "
        "count(*) as n from flow "
        "join slice s1 on flow.slice_out = s1.id join slice s2 on flow.slice_in = s2.id "
        "join thread_track k1 on s1.track_id = k1.id join thread t1 on k1.utid = t1.utid "
        "join thread_track k2 on s2.track_id = k2.id join thread t2 on k2.utid = t2.utid "
        "group by 1, 2, 3, 4"
    )
    tids = {thread.tid for thread in profile.capture.threads}
    counts = {(row["waker"], row["woken"]): 0 for row in rows}
    for row in rows:
        # The innermost slice there: a frame where a sample fell into the run.
        assert row["c2"].split(",")[0] in ("running", "kernel", "user", "vdso"), row
        counts[row["waker"], row["woken"]] += row["n"]
    first, second = sorted(tids)
    assert set(counts) <= {(first, second), (second, first)}
    assert counts[first, second] >= 55 and counts[second, first] >= 30


def test_waits_tell_their_reason_and_stack(perfetto: Perfetto) -> None:
    names = {
        row["name"]: row["n"]
        for row in perfetto.query(
            "select name, count(*) as n from slice where category = 'sleeping' group by 1"
        )
    }
    assert any("pipe" in name for name in names), names
    assert any("nanosleep" in name for name in names), names
    stacks = perfetto.query(
        "select count(*) as n from slice join args using(arg_set_id) "
        "where flat_key = 'args.stack' and string_value like '%pipe_read'"
    )
    assert stacks[0]["n"] >= 30


def test_counters(perfetto: Perfetto, recorded: tuple[Profile, Path]) -> None:
    """The integral over the counter of running threads is the time they ran."""
    profile, _ = recorded
    rows = perfetto.query(
        "select ts, value from counter join process_counter_track t on counter.track_id = t.id "
        "where t.name like 'running threads%' order by ts"
    )
    assert rows
    span = profile.capture.end - profile.capture.start
    begin = min(row["ts"] for row in rows)
    points = [(row["ts"] - begin, row["value"]) for row in rows] + [(span, 0.0)]
    area = sum(value * (after - at) for (at, value), (after, _) in zip(points, points[1:]))
    ran = sum(thread.time[State.RUNNING] for thread in profile.capture.threads)
    assert area == pytest.approx(ran, rel=0.01)


def test_speedscope_opens_it(browser: Browser, recorded: tuple[Profile, Path]) -> None:
    profile, path = recorded
    with in_speedscope(browser, path, view="time-ordered") as opened:
        assert not opened.tab.errors
        assert len(opened.profiles) >= len(profile.capture.threads)
        names = {name for one in opened.profiles for name in one.roots}
        assert any(name.startswith("running") for name in names)
        assert "runnable" in names or any(name.startswith("sleeping") for name in names)


def test_every_wake_up_of_the_timeline_is_told(recorded: tuple[Profile, Path]) -> None:
    """Arrows and arguments come from these events."""
    timeline = recorded[0].capture.timeline
    assert timeline is not None and timeline.lost == 0
    wakes = [event for event in timeline.events() if event.kind is EventKind.WAKE]
    by_timer = sum(1 for event in wakes if not event.other and event.middle & 1)
    assert by_timer >= 50, "the naps end by a timer"
