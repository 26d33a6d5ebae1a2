"""The speedscope format: its schema, its totals, its memory."""

from __future__ import annotations

import io
import json
import tracemalloc
from typing import Any

import pytest

from systemscope.exporters.formats import ExportOptions, by_name, by_path
from systemscope.exporters.speedscope import MAX_THREADS, write
from systemscope.model import Frame, FrameKind, Gap, Profile, Sample, State
from tests.unit.fake_captures import SECOND, capture, frame, profile, sample, thread
from tests.viewers.browser import speedscope

MIB = 1 << 20


def document(of: Profile, **options: Any) -> dict[str, Any]:
    stream = io.StringIO()
    write(of, stream, ExportOptions(**options))
    read: dict[str, Any] = json.loads(stream.getvalue())
    return read


def named(read: dict[str, Any], index: int) -> list[tuple[str, int]]:
    """The stacks of one profile, by name, and their weights."""
    names = [one["name"] for one in read["shared"]["frames"]]
    one = read["profiles"][index]
    stacks = [";".join(names[number] for number in stack) for stack in one["samples"]]
    assert len(stacks) == len(one["weights"])
    return list(zip(stacks, one["weights"]))


def assert_valid(read: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((speedscope() / "file-format-schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.Draft7Validator(schema).validate(read)


def test_one_profile_of_all_and_one_of_each_thread() -> None:
    busy, idle = thread(1, "busy"), thread(2, "my idler")
    read = document(
        profile(
            sample(idle, SECOND, frame("wait"), frame("main"), state=State.SLEEPING),
            sample(busy, 3, frame("leaf"), frame("main")),
            sample(busy, 4, frame("leaf"), frame("main")),
            sample(busy, 5, gap=Gap.NOT_SAMPLED),
        )
    )
    assert_valid(read)
    assert [one["name"] for one in read["profiles"]] == [
        "all threads",
        "busy-100/1",
        "my_idler-100/2",
    ]
    assert sorted(named(read, 0)) == [
        ("busy;[not sampled];[running]", 5),
        ("busy;main;leaf;[running]", 7),
        ("my_idler;main;wait;[sleeping]", SECOND),
    ]
    assert sorted(named(read, 1)) == [("[not sampled];[running]", 5), ("main;leaf;[running]", 7)]
    assert [one["endValue"] for one in read["profiles"]] == [SECOND + 12, 12, SECOND]
    assert {one["unit"] for one in read["profiles"]} == {"nanoseconds"}
    assert {one["type"] for one in read["profiles"]} == {"sampled"}
    assert {one["startValue"] for one in read["profiles"]} == {0}
    assert read["activeProfileIndex"] == 0
    assert read["exporter"].startswith("systemscope@")


def test_options() -> None:
    one = profile(sample(thread(7, "a b"), 5, frame("schedule", FrameKind.KERNEL), frame("main")))
    assert named(document(one, state=False), 0) == [("a_b;main;schedule", 5)]
    assert named(document(one, per_thread=True, annotate=True), 0) == [
        ("a_b-100/7;main;schedule_[k];[running]", 5)
    ]


def test_frames_carry_file_and_first_line_or_else_the_module() -> None:
    frames = (
        Frame("inner", FrameKind.USER, 1, "app", "/src/a.c", 12),
        Frame("inner", FrameKind.USER, 2, "app", "/src/a.c", 13),
        Frame("outer", FrameKind.USER, 3, "libc.so.6"),
        Frame("outer", FrameKind.USER, 4, "libc.so.6"),
    )
    read = document(profile(sample(thread(1), 5, *frames)), state=False)
    assert read["shared"]["frames"] == [
        {"name": "worker"},
        {"name": "outer", "file": "libc.so.6"},
        {"name": "inner", "file": "/src/a.c", "line": 12},
    ]
    assert read["profiles"][0]["samples"] == [[0, 1, 1, 2, 2]]


def test_stacks_with_the_same_callers_lie_side_by_side() -> None:
    one = thread(1)
    read = document(
        profile(
            sample(one, 1, frame("x"), frame("main")),
            sample(one, 2, frame("start")),
            sample(one, 3, frame("y"), frame("main")),
        ),
        state=False,
    )
    assert named(read, 1) == [("main;x", 1), ("main;y", 3), ("start", 2)]


def test_a_hostile_name_stays_inside_its_string() -> None:
    hostile = 'a"\\\x1b[2J\n\u202e\ud800;</script>' + "x" * 100_000
    of = profile(sample(thread(1, hostile), 5, frame(hostile), frame("\U0001f600 é")))
    of.capture.command = hostile
    stream = io.StringIO()
    write(of, stream)
    text = stream.getvalue()
    assert text.isascii() and "\x1b" not in text
    read = json.loads(text)
    assert_valid(read)
    names = [one["name"] for one in read["shared"]["frames"]]
    assert "\U0001f600 é" in names
    assert 'a"\\_[2J___;</script>' + "x" * 100_000 in names
    assert len(read["name"]) <= 300


def test_numbers_above_a_double_are_exact_in_the_file() -> None:
    ones = [sample(thread(tid, "w"), (1 << 63) - 1, frame("f")) for tid in range(3)]
    read = document(profile(*ones))
    assert_valid(read)
    assert read["profiles"][0]["weights"] == [3 * ((1 << 63) - 1)]
    assert read["profiles"][0]["endValue"] == 3 * ((1 << 63) - 1)
    assert read["profiles"][1]["endValue"] == (1 << 63) - 1


def test_nothing_and_zero() -> None:
    for of in (profile(), profile(sample(thread(1), 0, frame("f")))):
        read = document(of)
        assert_valid(read)
        [only] = read["profiles"]
        assert (only["samples"], only["weights"], only["endValue"]) == ([], [], 0)


def test_losses_are_in_the_first_name_and_the_summary() -> None:
    of = profile()
    of.capture.command = "./four"
    read = document(of)
    assert (read["name"], read["profiles"][0]["name"]) == ("./four", "all threads")
    of.capture.losses.walks_failed = 3
    read = document(of)
    assert read["profiles"][0]["name"] == "all threads (losses: stack walks that failed: 3)"
    assert any("stack walks that failed: 3" in row for row in read["summary"])


def test_many_threads_share_a_last_profile() -> None:
    count = MAX_THREADS + 50
    threads = [thread(tid, f"t{tid}") for tid in range(count)]
    read = document(profile(*[sample(one, one.tid + 1, frame("f")) for one in threads]))
    assert len(read["profiles"]) == MAX_THREADS + 2
    assert read["profiles"][1]["name"] == f"t{count - 1}-100/{count - 1}"
    assert read["profiles"][-1]["name"] == "50 other threads"
    assert ("t0;f;[running]", 1) in named(read, len(read["profiles"]) - 1)
    whole = sum(range(1, count + 1))
    assert sum(read["profiles"][0]["weights"]) == whole
    assert sum(one["endValue"] for one in read["profiles"][1:]) == whole


def test_it_is_found_by_name_and_by_ending() -> None:
    assert by_path("out.speedscope.json") == by_name("speedscope")


class _Counter(io.TextIOBase):
    """Forgets what is written to it, but for its length and its longest piece."""

    size = 0
    longest = 0

    def write(self, text: str) -> int:
        self.size += len(text)
        self.longest = max(self.longest, len(text))
        return len(text)


def test_a_large_profile_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("systemscope.exporters.speedscope._MERGE_BYTES", MIB)
    of = _large(100_000, 4)
    stream = _Counter()
    tracemalloc.start()
    write(of, stream)  # type: ignore[arg-type]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert stream.size > 4 * MIB
    assert stream.longest < MIB
    assert peak < 5 * MIB  # all merged stacks would take 22


def _large(count: int, depth: int) -> Profile:
    """``count`` different stacks of one thread in two, on 2,000 functions."""
    functions = [frame(f"function_{index}") for index in range(2_000)]
    threads = [thread(1), thread(2)]
    base = capture()
    samples = []
    for index in range(count):
        frames = tuple(functions[(index * 7 + level * level) % 2_000] for level in range(depth - 2))
        marks = (functions[index % 1_000], functions[index // 1_000])
        samples.append(Sample(threads[index % 2], "app", State.RUNNING, frames + marks, 1_000, 1))
    return Profile(base, samples)
