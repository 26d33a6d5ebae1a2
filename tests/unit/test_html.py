"""The html format: the page's parts, its data, and what hostile names can do (nothing)."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
import tracemalloc
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemscope.errors import OutputError
from systemscope.exporters.formats import ExportOptions, by_name, by_path
from systemscope.exporters.html import SCRIPTS, STYLES, page, write, write_difference
from systemscope.model import (
    Delay,
    DelayKind,
    Frame,
    FrameKind,
    Gap,
    Losses,
    Profile,
    Sample,
    State,
    Thread,
)
from tests.unit.fake_captures import SECOND, capture, frame, profile, sample, thread

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "systemscope" / "exporters" / "web"
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]>\u2028\u2029\u202e\x00\x1b[31m",
    "\"'\\`${x}",
    "\ud800lone",
    "{{data}}{{script}}",
    "x" * 100_000,
]


class Page(HTMLParser):
    """The elements of a page in order, with the text inside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, str] = {}
        self._name = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._name = dict(attrs).get("id") or tag

    def handle_endtag(self, tag: str) -> None:
        self._name = ""

    def handle_data(self, data: str) -> None:
        if self._name:
            self.inside[self._name] = self.inside.get(self._name, "") + data


def written(of: Profile, **options: bool) -> str:
    stream = io.StringIO()
    write(of, stream, ExportOptions(**options))
    return stream.getvalue()


def data_of(text: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(Page(text).inside["data"])
    return data


def stacks(data: dict[str, Any]) -> dict[tuple[int, str, tuple[str, ...]], int]:
    """Nanoseconds by thread, state and stack (root first), as the page adds them up."""
    nodes, samples, frames = data["nodes"], data["samples"], data["frames"]
    found: dict[tuple[int, str, tuple[str, ...]], int] = {}
    for index, node in enumerate(samples["node"]):
        names: list[str] = []
        while node:
            names.append(data["strings"][frames["name"][nodes["frame"][node - 1]]])
            node -= nodes["up"][node - 1]
        tid = data["threads"][samples["thread"][index]][1]
        key = (tid, data["states"][samples["state"][index]], tuple(reversed(names)))
        time = samples["ms"][index] * 1_000_000 + samples["ns"][index]
        found[key] = found.get(key, 0) + time
    return found


def test_it_is_found_by_name_and_ending() -> None:
    assert by_name("html") is by_path("a.html") is by_path("A.HTM")
    assert by_name("html").differences


def test_the_stacks_come_back() -> None:
    one, two = thread(7), thread(8)
    samples = [
        sample(one, 1_234_567, frame("leaf"), frame("main")),
        sample(one, 5, frame("main"), state=State.SLEEPING),
        sample(two, 3 * SECOND, frame("other", FrameKind.KERNEL), frame("main")),
        sample(two, 9, state=State.SLEEPING, gap=Gap.SHORT_WAITS),
        sample(two, 11, state=State.DISK),
    ]
    assert stacks(data_of(written(profile(*samples)))) == {
        (7, "running", ("main", "leaf")): 1_234_567,
        (7, "sleeping", ("main",)): 5,
        (8, "running", ("main", "other")): 3 * SECOND,
        (8, "sleeping", ("[short waits]",)): 9,
        (8, "disk", ()): 11,
    }


_frames = st.lists(st.sampled_from([frame(name) for name in "abcde"]), max_size=6)
_time = st.integers(0, (1 << 63) + 5)


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.sampled_from(State), _frames, _time)))
def test_any_stacks_come_back_exactly(rows: list[tuple[int, State, list[Frame], int]]) -> None:
    threads = {tid: thread(tid) for tid in (1, 2)}
    expected: dict[tuple[int, str, tuple[str, ...]], int] = {}
    samples = []
    for tid, state, frames, time in rows:
        samples.append(sample(threads[tid], time, *frames, state=state))
        key = (tid, state.name.lower(), tuple(one.name for one in reversed(frames)))
        expected[key] = expected.get(key, 0) + time
    assert stacks(data_of(written(profile(*samples)))) == expected


@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_any_name_is_only_text(name: str) -> None:
    hostile = thread(1, name)
    text = written(profile(sample(hostile, 1, Frame(name or "x", FrameKind.USER, module=name))))
    plain = Page(written(profile()))
    assert Page(text).elements == plain.elements
    text.encode("utf-8")


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name)[:20])
def test_hostile_names_stay_data(name: str) -> None:
    hostile = thread(1, name)
    made = profile(Sample(hostile, name, State.RUNNING, (frame(name),), 1, 1))
    made.capture = replace(made.capture, command=name, hostname=name, kernel=name, notes=[name])
    made.capture.threads.append(hostile)
    text = written(made)
    assert len(text) < 400_000
    assert Page(text).elements == Page(written(profile())).elements
    assert not re.search(r"[\u2028\u2029\u202e\x00\x1b\ud800]", text)
    assert data_of(text)["sides"][0]["command"]


def test_the_policy_allows_this_script_and_style_and_nothing_else() -> None:
    parsed = Page(written(profile()))
    policy = next(
        attributes["content"] or ""
        for tag, attributes in parsed.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    for name in ("script", "style"):
        digest = hashlib.sha256(parsed.inside[name].encode()).digest()
        assert f"{name}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    for tag, attributes in parsed.elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)


def test_the_page_is_ours_small_and_whole() -> None:
    before, after = page()
    assert len((before + after).encode()) < 200_000
    assert "{{" not in before + after
    assert sorted(path.name for path in WEB.iterdir()) == sorted([*SCRIPTS, *STYLES, "page.html"])
    for path in WEB.iterdir():
        text = path.read_text("utf-8")
        assert len(text.splitlines()) <= 400, path.name
        assert path.name == "page.html" or "</" not in text, path.name
        markup = r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|fetch)\b"
        assert not re.search(markup, text), path.name


def test_it_works_from_a_zip(tmp_path: Path) -> None:
    archive = tmp_path / "systemscope.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in (ROOT / "systemscope").rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                packed.write(path, path.relative_to(ROOT))
    code = "from systemscope.exporters.html import page; print(len(page()[0]))"
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(archive)!r}); {code}"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert int(ran.stdout) == len(page()[0])


def test_lines_of_a_function_become_a_range() -> None:
    calls = [Frame("f", FrameKind.USER, file="a.c", line=line) for line in (30, 0, 12)]
    data = data_of(written(profile(*(sample(thread(1), 1, call) for call in calls))))
    assert (data["frames"]["first"], data["frames"]["last"]) == ([12], [30])


def test_losses_summary_and_delays_are_there() -> None:
    made = profile()
    made.capture.losses = Losses(walks_failed=3)
    made.capture.threads[0].delays = {DelayKind.BLOCK_IO: Delay(2, 5_000_000)}
    made.notes.append("the note")
    data = data_of(written(made))
    assert data["sides"][0]["losses"] == ["stack walks that failed: 3"]
    assert ["note", "the note"] in data["sides"][0]["summary"]
    place = 2 * data["delayKinds"].index("block I/O")
    assert data["threads"][0][6][place : place + 2] == [2, 5_000_000]


def test_a_time_that_a_browser_cannot_hold_is_refused() -> None:
    for time in (-1, 1 << 73):
        with pytest.raises(OutputError):
            written(profile(sample(thread(1), time)))


def test_a_difference_merges_threads_by_name() -> None:
    before = profile(sample(thread(1, "w", 10), 5_000, frame("f")))
    after = profile(
        sample(thread(21, "w", 20), 7_000, frame("f")), sample(thread(22, "w", 20), 1, frame("g"))
    )
    for one in (before, after):
        one.capture = replace(one.capture, threads=[])
    stream = io.StringIO()
    write_difference(before, after, stream, ExportOptions(normalize=True))
    data = data_of(stream.getvalue())
    assert data["difference"] and data["options"]["normalize"] and len(data["sides"]) == 2
    assert len(data["threads"]) == 1
    assert data["samples"]["side"] == [0, 1, 1]
    assert sum(data["samples"]["ns"]) == 12_001


def test_a_large_profile_is_written_in_bounded_memory() -> None:
    functions = [frame(f"function_{number}") for number in range(2000)]
    threads: list[Thread] = [thread(tid) for tid in range(1, 41)]
    samples = []
    for number in range(200_000):
        path = [functions[number * step % 2000] for step in (1, 7, 31, 3, 3)]
        shared = functions[number % 50 : number % 50 + 7]
        frames = (functions[number // 2000], *path, *shared)
        samples.append(Sample(threads[number % 40], "p", State.RUNNING, frames, 999 + number, 1))
    made = Profile(capture(), samples)
    tracemalloc.start()
    try:
        sink = _Sink()
        write(made, sink)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sink.size > 4_000_000
    # The tables: some 300 bytes a stack. A page built whole would add its size several times.
    assert peak < 400 * len(samples)
    assert sink.largest < 1_000_000


class _Sink(io.StringIO):
    """Counts what is written and keeps nothing."""

    size = largest = 0

    def write(self, text: str) -> int:
        self.size += len(text)
        self.largest = max(self.largest, len(text))
        return len(text)
