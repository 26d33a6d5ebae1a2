"""One capture of four threads in every format: readers that know nothing of one another find the
same time of each thread in each state, to the microsecond."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from systemscope.exporters.chrome_tracks import CPUS_PID
from systemscope.exporters.formats import ExportOptions, by_name, formats
from systemscope.model import Profile, State, state_name
from tests.e2e.support import Workload, parse_folded
from tests.viewers.browser import Tab, in_perfetto, in_speedscope, refuse, require
from tests.workloads.build import NoCompiler, build

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.kernel
THREADS = {"burner", "worker", "futexer", "reader"}
#: Microseconds of (tid, state).
Totals = dict[tuple[int, str], float]
#: Folded lines are whole microseconds: they add up to each thread's total rounded to the nearest
#: one, and to within one of each state's.
_HALF = 0.5
_ROUNDED = 1.0
#: Where pprof has a thread's time besides the wall's; "" is nowhere.
_PARTS = {
    "running": "cpu/nanoseconds",
    "runnable": "runnable/nanoseconds",
    "unknown": "",
    "dead": "",
}


@pytest.fixture(scope="module")
def run() -> Profile:
    """Three seconds of the workload, named."""
    import systemscope
    from systemscope.errors import SystemScopeError

    try:
        binary = build() / "four"
    except NoCompiler as error:
        refuse(str(error))
    with Workload(binary) as workload:
        try:
            return systemscope.profile(pid=workload.pid, duration=3, timeline=True)
        except SystemScopeError as error:
            refuse(f"cannot profile here: {error}")


def add_up(rows: Iterable[tuple[int, str, float]]) -> Totals:
    """Microseconds by thread and state, without those that are zero."""
    totals: Counter[tuple[int, str]] = Counter()
    for tid, state, microseconds in rows:
        totals[tid, state] += microseconds  # type: ignore[assignment]
    return {key: value for key, value in totals.items() if value}


@pytest.fixture(scope="module")
def truth(run: Profile) -> Totals:
    """What the kernel programs measured, before any stack was named or written."""
    assert {thread.comm for thread in run.capture.threads} == THREADS
    return add_up(
        (thread.tid, state_name(state), ns / 1000)
        for thread in run.capture.threads
        for state, ns in thread.time.items()
    )


def assert_same(found: Totals, truth: Totals, within: float) -> None:
    """Every thread's every state, and every thread's sum."""
    assert set(found) <= set(truth)
    for key, microseconds in truth.items():
        assert found.get(key, 0) == pytest.approx(microseconds, abs=within), key
    for tid in {tid for tid, _state in truth}:
        ours, theirs = (sum(v for (t, _), v in x.items() if t == tid) for x in (found, truth))
        assert ours == pytest.approx(theirs, abs=min(within, _HALF + 0.001)), tid


def saved(of: Profile, name: str, path: Path) -> Path:
    if name not in {one.name for one in formats()}:
        pytest.skip(f"there is no format {name}")
    with path.open("wb") as raw:
        by_name(name).write_bytes(of, raw, ExportOptions(per_thread=True))
    return path


def test_folded(run: Profile, truth: Totals, tmp_path: Path) -> None:
    lines = parse_folded(saved(run, "folded", tmp_path / "a.folded").read_text())
    found = add_up((line.tid, line.state, line.microseconds) for line in lines)
    assert_same(found, truth, _ROUNDED)


def test_folded_read_back(run: Profile, truth: Totals, tmp_path: Path) -> None:
    from systemscope.importers.folded import read

    with saved(run, "folded", tmp_path / "a.folded").open("rb") as raw:
        back = read(raw)
    found = add_up(
        (one.thread.tid, state_name(one.state), one.nanoseconds / 1000) for one in back.samples
    )
    assert_same(found, truth, _ROUNDED)


def test_speedscope_as_json(run: Profile, truth: Totals, tmp_path: Path) -> None:
    read = json.loads(saved(run, "speedscope", tmp_path / "a.speedscope.json").read_text())
    names = [one["name"] for one in read["shared"]["frames"]]
    rows = []
    for one in read["profiles"][1:]:
        tid = int(one["name"].rpartition("/")[2])
        for stack, weight in zip(one["samples"], one["weights"]):
            rows.append((tid, names[stack[-1]].strip("[]"), weight / 1000))
    assert_same(add_up(rows), truth, 0.001)
    whole = read["profiles"][0]
    assert whole["endValue"] == sum(whole["weights"])
    assert whole["endValue"] == sum(one["endValue"] for one in read["profiles"][1:])


def test_speedscope_in_speedscope(
    run: Profile, truth: Totals, tmp_path: Path, browser: Browser
) -> None:
    with in_speedscope(browser, saved(run, "speedscope", tmp_path / "a.speedscope.json")) as opened:
        assert opened.tab.errors == []
        profiles = opened.profiles
    rows = [
        (int(one.name.rpartition("/")[2]), leaf.strip("[]"), weight / 1000)
        for one in profiles[1:]
        for leaf, weight in one.leaves.items()
    ]
    assert_same(add_up(rows), truth, 0.001)


_ADD_UP = """() => {
    const {samples, threads, states} = window.systemscope.store.data;
    return Array.from({length: samples.count}, (_, i) => [threads[samples.thread[i]].tid,
        states[samples.state[i]], samples.ms[i] * 1000 + samples.ns[i] / 1000]);
}"""


def test_html_in_a_browser(
    run: Profile, truth: Totals, tmp_path: Path, page: Callable[..., Tab]
) -> None:
    tab = page()
    tab.page.goto(saved(run, "html", tmp_path / "a.html").as_uri())
    assert_same(add_up(tuple(row) for row in tab.page.evaluate(_ADD_UP)), truth, 0.001)
    assert not tab.errors


def test_chrome_in_perfetto(run: Profile, truth: Totals, tmp_path: Path, browser: Browser) -> None:
    with in_perfetto(browser, saved(run, "chrome", tmp_path / "a.trace.json")) as opened:
        rows = opened.query(
            "select thread.tid, slice.category as state, sum(slice.dur) as ns from slice "
            "join thread_track on slice.track_id = thread_track.id join thread using(utid) "
            f"join process using(upid) where pid < {CPUS_PID} group by 1, 2"
        )
    states = {state_name(state) for state in State}
    found = add_up(
        (row["tid"], row["state"], row["ns"] / 1000) for row in rows if row["state"] in states
    )
    # What nothing tells of is a gap in a timeline.
    assert_same(found, {key: us for key, us in truth.items() if key[1] != "unknown"}, 0.001)


def test_svg(run: Profile, truth: Totals, tmp_path: Path) -> None:
    """The boxes of threads, by their titles: exact milliseconds."""
    text = saved(run, "svg", tmp_path / "a.svg").read_text()
    for tid in {tid for tid, _ in truth}:
        titles = re.findall(rf"<title>[^<]*/{tid}\b[^<]*?([\d,]+\.\d{{3}}) ms", text)
        whole = sum(us for (owner, _), us in truth.items() if owner == tid)
        assert titles, tid
        shown = [float(one.replace(",", "")) * 1000 for one in titles]
        assert any(abs(us - whole) <= _ROUNDED for us in shown), (tid, shown, whole)


def test_text(run: Profile, truth: Totals, tmp_path: Path) -> None:
    """States and threads, to the three digits that are shown."""
    text = saved(run, "text", tmp_path / "a.txt").read_text()
    units = {"s": 1e6, "ms": 1e3, "us": 1.0}
    for state in {state for _, state in truth}:
        row = re.search(rf"^\s+{state}\s+([\d.]+) (s|ms|us)\s", text, re.MULTILINE)
        assert row, state
        whole = sum(us for (_, kind), us in truth.items() if kind == state)
        assert float(row[1]) * units[row[2]] == pytest.approx(whole, rel=0.006), state


def test_capture(run: Profile, truth: Totals, tmp_path: Path) -> None:
    from systemscope.importers.capture import read

    back = read(io.BytesIO(saved(run, "capture", tmp_path / "a.ssc").read_bytes()))
    entries = add_up(
        (back.threads[one.thread].tid, state_name(one.state), one.nanoseconds / 1000)
        for one in back.entries
    )
    assert_same(entries, truth, 0.001)
    assert [thread.time for thread in back.threads] == [x.time for x in run.capture.threads]


def _raw_pprof(text: str) -> Iterable[dict[str, Any]]:
    """The samples of ``go tool pprof -raw``: values by type, and labels."""
    body = text.split("\nSamples:\n", 1)[1].split("\nLocations\n", 1)[0]
    header, *lines = body.splitlines()
    types = [word.replace("[dflt]", "") for word in header.split()]
    found: list[dict[str, Any]] = []
    for line in lines:
        values = re.fullmatch(r"\s*((?:\d+\s+)*\d+):[\s\d]*", line)
        if values:
            found.append(dict(zip(types, map(int, values[1].split()))))
        else:
            found[-1].update(re.findall(r"(\w+):\[([^\]]*\]?)\](?=\s|$)", line))
    return found


def test_pprof_in_go(run: Profile, truth: Totals, tmp_path: Path) -> None:
    go = require("go", "Debian: apt-get install golang-go")
    file = saved(run, "pprof", tmp_path / "a.pb.gz")
    done = subprocess.run(
        [go, "tool", "pprof", "-raw", str(file)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "PPROF_TMPDIR": str(tmp_path)},
    )
    samples = list(_raw_pprof(done.stdout))
    found = add_up(
        (int(one["tid"]), one["state"].strip("[]"), one["wall/nanoseconds"] / 1000)
        for one in samples
    )
    assert_same(found, truth, 0.001)
    for one in samples:
        part = _PARTS.get(one["state"].strip("[]"), "blocked/nanoseconds")
        assert not part or one[part] == one["wall/nanoseconds"], one
