"""The folded format, and the rounding under it."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemscope.exporters.folded import FoldedOptions, write
from systemscope.exporters.rounding import round_parts
from systemscope.model import FrameKind, Gap, Profile, State
from tests.unit.fake_captures import SECOND, frame, profile, sample, thread

KERNEL = FrameKind.KERNEL
LINE = re.compile(r"[^ ;][^\x00-\x1f]* [1-9][0-9]*\n")


def folded(of: Profile, **options: bool) -> list[str]:
    stream = io.StringIO()
    write(of, stream, FoldedOptions(**options))
    return stream.getvalue().splitlines()


def test_root_first_with_comm_and_state() -> None:
    one = sample(thread(1), 5_000, frame("leaf"), frame("middle"), frame("main"))
    assert folded(profile(one)) == ["worker;main;middle;leaf;[running] 5"]


def test_options() -> None:
    one = sample(
        thread(7, "my app", 5),
        2_000,
        frame("schedule", KERNEL),
        frame("inner", inlined=True),
        frame("jitted", FrameKind.JIT),
        frame("main"),
        state=State.DISK,
    )
    annotated = folded(profile(one), annotate=True)
    assert annotated == ["my_app;main;jitted_[j];inner_[i];schedule_[k];[disk] 2"]
    bare = folded(profile(one), state=False, per_thread=True)
    assert bare == ["my_app-5/7;main;jitted;inner;schedule 2"]


def test_a_gap_stands_before_the_state() -> None:
    one = sample(thread(1), 3_000, state=State.SLEEPING, gap=Gap.SHORT_WAITS)
    assert folded(profile(one)) == ["worker;[short waits];[sleeping] 3"]
    assert folded(profile(one), state=False) == ["worker;[short waits] 3"]


def test_equal_lines_are_merged_and_sorted() -> None:
    first, second = thread(1), thread(2)
    lines = folded(
        profile(
            sample(first, 2_000, frame("b")),
            sample(first, 1_000, frame("a")),
            sample(second, 4_000, frame("b")),
        )
    )
    assert lines == ["worker;a;[running] 1", "worker;b;[running] 6"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a;b", "a_b"),
        ("a\nb\r\t\x1b[31m", "a_b___[31m"),
        ("operator new(unsigned long)", "operator new(unsigned long)"),
        ("\udcff", "_"),
        ("\u2028\u202e", "__"),
        ("naïve", "naïve"),
    ],
)
def test_names_are_made_safe(name: str, shown: str) -> None:
    one = sample(thread(1, name), 1_000, frame(name))
    assert folded(profile(one)) == [f"{shown.replace(' ', '_')};{shown};[running] 1"]


def test_a_leaf_that_ends_in_a_number_is_not_taken_for_a_value() -> None:
    one = sample(thread(1), 1_000, frame("version 12"))
    assert folded(profile(one), state=False) == ["worker;version_12 1"]


def test_addresses_in_no_code_do_not_split_stacks() -> None:
    one = thread(1)
    of = profile(*(sample(one, 1_000, frame(f"[unknown]+0x{n:x}")) for n in range(3)))
    assert folded(of) == ["worker;[unknown];[running] 3"]


def test_a_nameless_thread_shows_its_process() -> None:
    one = sample(thread(1, ""), 1_000, frame(""))
    assert folded(profile(one)) == ["app;[unnamed];[running] 1"]


def test_every_thread_keeps_its_total() -> None:
    # Three lines of 333,333.4 us each: cut one by one they would lose a microsecond.
    third = thread(1)
    of = profile(*(sample(third, SECOND // 3, frame(name)) for name in "abc"))
    assert sum(int(line.rsplit(" ", 1)[1]) for line in folded(of)) == 1_000_000


@given(st.lists(st.tuples(st.sampled_from(State), st.integers(0, 10**7)), max_size=30))
def test_every_state_keeps_its_total_to_the_microsecond(parts: list[tuple[State, int]]) -> None:
    one = thread(1)
    of = [sample(one, ns, frame(f"f{i}"), state=state) for i, (state, ns) in enumerate(parts)]
    found: dict[str, int] = {}
    for line in folded(profile(*of)):
        stack, value = line.rsplit(" ", 1)
        state = stack.rsplit(";", 1)[1]
        found[state] = found.get(state, 0) + int(value)
    for kind in State:
        exact = sum(ns for state, ns in parts if state is kind)
        assert abs(found.get(f"[{kind.name.lower()}]", 0) * 1000 - exact) < 1000
    assert abs(sum(found.values()) * 1000 - sum(ns for _, ns in parts)) <= 500


@given(st.lists(st.integers(0, 10**13), max_size=40), st.integers(1, 10**6))
def test_rounding_keeps_the_sum_and_stays_close(values: list[int], unit: int) -> None:
    parts = round_parts(values, unit)
    assert sum(parts) == (sum(values) + unit // 2) // unit
    assert all(abs(part * unit - value) < unit for part, value in zip(parts, values))


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**9),
            st.lists(st.text(max_size=8), max_size=5),
            st.integers(1, 3),
            st.sampled_from(State),
        ),
        max_size=20,
    ),
    st.booleans(),
)
def test_whatever_the_names_are_every_line_parses(
    rows: list[tuple[int, list[str], int, State]], per_thread: bool
) -> None:
    threads = {tid: thread(tid, f"t {tid};\n") for tid in (1, 2, 3)}
    of = profile(
        *(
            sample(threads[tid], value, *map(frame, names), state=state)
            for value, names, tid, state in rows
        )
    )
    stream = io.StringIO()
    write(of, stream, FoldedOptions(per_thread=per_thread))
    lines = stream.getvalue().splitlines(keepends=True)
    assert all(LINE.fullmatch(line) for line in lines)
    assert sorted(lines) == lines or len({line.rsplit(" ", 1)[0] for line in lines}) == len(lines)
    sums: dict[int, int] = {}
    for value, _, tid, _ in rows:
        sums[tid] = sums.get(tid, 0) + value
    written = sum(int(line.rsplit(" ", 1)[1]) for line in lines)
    assert written == sum((total + 500) // 1000 for total in sums.values())


def flamegraph() -> Optional[str]:
    """Brendan Gregg's script, where a Debian package brought it."""
    packaged = Path("/usr/share/perl5/Devel/NYTProf/flamegraph.pl")
    return str(packaged) if packaged.exists() else shutil.which("flamegraph.pl")


@pytest.mark.skipif(flamegraph() is None, reason="flamegraph.pl is not installed")
def test_flamegraph_draws_it() -> None:
    script = flamegraph()
    assert script is not None
    one = thread(1, "my app")
    of = profile(
        sample(one, SECOND, frame("hot loop 3"), frame("a<b>&c"), frame("main")),
        sample(one, SECOND, state=State.SLEEPING, gap=Gap.SHORT_WAITS),
    )
    text = "\n".join(folded(of)) + "\n"
    drawn = subprocess.run(
        ["perl", script, "--countname", "us", "--minwidth", "0"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Ignored" not in drawn.stderr
    titles = set(re.findall("<title>(.*) us, .*</title>", drawn.stdout))
    assert titles == {
        "all (2,000,000",
        "my_app (2,000,000",
        "main (1,000,000",
        "a(b)&amp;c (1,000,000",  # flamegraph.pl's own way with <>
        "hot loop 3 (1,000,000",
        "[running] (1,000,000",
        "[short waits] (1,000,000",
        "[sleeping] (1,000,000",
    }
