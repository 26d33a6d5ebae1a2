"""Chrome traces of known content in the real viewers: what Perfetto and speedscope read of them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from systemscope.exporters.chrome import write
from systemscope.exporters.formats import ExportOptions, by_path
from systemscope.model import EventKind, Losses, Profile, State
from tests.unit.chrome_reader import CPUS, profile_of
from tests.unit.test_chrome import named_stacks, run, thread, wait
from tests.unit.test_timeline import record, timeline
from tests.viewers.browser import in_perfetto, in_speedscope

if TYPE_CHECKING:
    from playwright.sync_api import Browser

END = 3_600_000_000_000 + 1_001  # an hour and a bit: floats would round its nanoseconds
SAMPLE, WAKE = EventKind.SAMPLE, EventKind.WAKE
HOSTILE = "a\"'\\\n</script>{};,\u202e\ud800\x1b[0m\u00e9-7= (8) [9]: z"
THREADS = (
    "slice join thread_track on slice.track_id = thread_track.id join thread using (utid) "
    "join process using (upid)"
)


def hour() -> Profile:
    """Thread 5 runs with stacks that share names, is woken by thread 6, misses an event, and comes
    back as another process's thread; it has a name as hostile as can be."""
    entries, samples, stacks = named_stacks(("x", "y"), ("x",), ("y", "x"))
    late = END - 1_001
    events = timeline(
        [
            *(record(SAMPLE, 5, at * 1000, kernel=at) for at in (1, 2, 3)),
            run(5, 0, 4_001, State.SLEEPING, cpu=0),
            run(6, 0, 10_000, State.DISK, cpu=1),
            record(WAKE, 5, 7_003, cpu=1, other=6),
            wait(5, 4_001, 7_100, 7_200, cpu=0),
            run(5, 7_200, 8_000, State.DEAD, cpu=0),
            wait(6, 10_000, late, late, State.DISK, cpu=1),
            run(5, late, END - 1, State.RUNNING, cpu=0),
            run(6, late + 10, END, State.RUNNING, cpu=1),
        ]
    )
    events.stacks = {(1, 0): 1, (2, 0): 2, (3, 0): 3}
    events.lost = 1
    lives = [
        thread(5, HOSTILE, 0, 8_000),
        thread(6, "feeder", 0, END),
        thread(5, "again", late, END - 1, tgid=2),
    ]
    about = {"stacks": stacks, "losses": Losses(timeline_events_lost=1), "notes": [HOSTILE]}
    return profile_of(events, lives, END, samples, entries, command=HOSTILE, **about)


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chrome") / "hour.trace.json"
    with open(path, "wb") as file:
        write(hour(), file)
    return path


def test_perfetto_reads_every_slice_to_the_nanosecond(browser: Browser, trace: Path) -> None:
    with in_perfetto(browser, trace) as opened:
        rows = opened.query(
            "select pid, tid, thread.name as thread, slice.name, category, ts, dur, depth from "
            f"{THREADS} order by pid, tid, ts, depth"
        )
        errors = opened.query(
            "select name, value from stats where value > 0 and severity in ('error', 'data_loss')"
        )
        counters = opened.query("select distinct name from counter_track order by name")
        marks = opened.query(
            "select slice.name from slice where dur = 0 and name like '%events lost%' "
            "or name like '%event lost%'"
        )
    assert errors == []
    told = [
        (row["pid"], row["tid"], row["name"], row["depth"], row["ts"], row["dur"]) for row in rows
    ]
    late = END - 1_001
    # Half way between the samples, the first from the run's begin and the last to its end.
    assert [row for row in told if row[:2] == (1, 5)] == [
        (1, 5, "running", 0, 0, 4_001),
        (1, 5, "y", 1, 0, 1_500),
        (1, 5, "x", 2, 0, 1_500),
        (1, 5, "x", 1, 1_500, 4_001 - 1_500),
        (1, 5, "y", 2, 2_500, 4_001 - 2_500),
        (1, 5, "sleeping", 0, 4_001, 3_099),
        (1, 5, "runnable", 0, 7_100, 100),
        (1, 5, "running", 0, 7_200, 800),
    ]
    assert [row for row in told if row[:2] == (1, 6)] == [
        (1, 6, "running", 0, 0, 10_000),
        (1, 6, "disk", 0, 10_000, late - 10_000),
        (1, 6, "[missed events]", 0, late, 10),
        (1, 6, "running", 0, late + 10, END - late - 10),
    ]
    again = 100_000_005
    assert [row for row in told if row[0] == 2] == [(2, again, "running", 0, late, 1_000)]
    cpu = [(row[1], row[4], row[5]) for row in told if row[0] == CPUS]
    assert (CPUS + 1, 7_200, 800) in cpu and (CPUS + 2, late + 10, 991) in cpu
    names = {row["tid"]: row["thread"] for row in rows}
    # The scheduler's lines name threads too: no blanks and no "=" there.
    assert names[5] == "a\"'\\_</script>{};,___[0m\u00e9-7_\u00a0(8)\u00a0[9]:\u00a0z"
    assert names[again].replace("\u00a0", " ") == "again (tid 5 again)"
    assert names[CPUS + 1] == "CPU 0"
    assert [row["name"].split(" percent")[0] for row in counters] == sorted(
        row["name"].split(" percent")[0] for row in counters
    )
    for name in ("running threads", "runnable threads", "sampled CPU"):
        assert any(row["name"].startswith(name) for row in counters), name
    assert [row["name"] for row in marks] == ["1 event lost"]


def test_perfetto_schedules_as_its_own_traces_do(browser: Browser, trace: Path) -> None:
    """Its tables of scheduling and thread states, to the nanosecond."""
    with in_perfetto(browser, trace) as opened:
        sched = opened.query(
            "select tid, cpu, ts, dur, end_state as state from sched join thread using (utid) "
            "where tid > 0 order by ts, cpu"
        )
        states = opened.query(
            "select s.ts, s.dur, s.state, w.tid as waker from thread_state s "
            "join thread t using (utid) left join thread w on s.waker_utid = w.utid "
            "where t.tid = 5 order by s.ts"
        )
    late, again = END - 1_001, 100_000_005
    assert [(one["tid"], one["cpu"], one["ts"], one["dur"], one["state"]) for one in sched] == [
        (5, 0, 0, 4_001, "S"),
        (6, 1, 0, 10_000, "D"),
        (5, 0, 7_200, 800, "X"),
        (again, 0, late, 1_000, "R"),
        (6, 1, late + 10, 991, "R"),
    ]
    told = [(one["ts"], one["dur"], one["state"], one["waker"]) for one in states]
    assert told[:4] == [
        (0, 4_001, "Running", None),
        (4_001, 3_099, "S", None),
        (7_100, 100, "R", 6),
        (7_200, 800, "Running", None),
    ]


def test_perfetto_draws_the_arrow_between_the_runs(browser: Browser, trace: Path) -> None:
    with in_perfetto(browser, trace) as opened:
        rows = opened.query(
            "select a.name as waker, a.ts as since, a.depth as deep, b.name as woken, b.ts as at "
            "from flow join slice a on a.id = slice_out join slice b on b.id = slice_in"
        )
    assert rows == [{"waker": "running", "since": 0, "deep": 0, "woken": "running", "at": 7_200}]


def test_speedscope_reads_the_same_times(browser: Browser, trace: Path) -> None:
    with in_speedscope(browser, trace, view="time-ordered") as opened:
        profiles = {one.name: one for one in opened.profiles}
        assert not opened.tab.errors
    [first] = [one for name, one in profiles.items() if "(tid 5)" in name]
    assert first.unit == "microseconds"
    assert first.roots == pytest.approx({"running": 4.801, "sleeping": 3.099, "runnable": 0.1})
    # x is the leaf of the first two samples; the run after the wait has none.
    leaves = {"x": 2.5, "y": 1.501, "running": 0.8, "sleeping": 3.099, "runnable": 0.1}
    assert first.leaves == pytest.approx(leaves)
    [second] = [one for name, one in profiles.items() if "(tid 6)" in name]
    assert second.total == pytest.approx(END / 1000, abs=0.001)
    assert set(second.roots) == {"running", "disk", "[missed events]"}
    assert opened.profiles[-1].name.startswith("CPUs"), "threads come first"


def test_both_open_it_compressed(browser: Browser, trace: Path, tmp_path: Path) -> None:
    path = tmp_path / "hour.trace.json.gz"
    with open(path, "wb") as file:
        by_path(path.name).write_bytes(hour(), file, ExportOptions())
    assert gzip.decompress(path.read_bytes()) == trace.read_bytes()
    with in_perfetto(browser, path) as opened:
        assert opened.query("select count(*) as n from slice")[0]["n"] > 10
    with in_speedscope(browser, path) as shown:
        assert len(shown.profiles) == 5


def test_thinned_traces_load_and_still_tell_the_time(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "thin.trace.json"
    with open(path, "wb") as file:
        write(hour(), file, ExportOptions(min_slice_ns=1_000))
    with in_perfetto(browser, path) as opened:
        rows = opened.query(
            f"select category, sum(dur) as ns from {THREADS} "
            "where pid = 1 and depth = 0 group by 1 order by 1"
        )
        assert opened.query("select count(*) as n from sched") == [{"n": 0}], "it would be wrong"
    told = {row["category"]: row["ns"] for row in rows}
    late = END - 1_001
    # Of thread 5 the last 900 ns, of thread 6 the gap of 10 ns and its last 991 ns are short.
    assert told == {
        "running": 4_001 + 10_000,
        "sleeping": 3_099,
        "disk": late - 10_000,
        "short": 900 + 10 + 991,
    }
