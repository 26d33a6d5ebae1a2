"""How much of the user stacks is whole: the numbers, and the words wherever they are shown."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemscope.exporters import speedscope, text
from systemscope.exporters.chrome_meta import facts
from systemscope.exporters.html_data import Document
from systemscope.exporters.summary import summary, summary_rows
from systemscope.exporters.unwound import share, unwinding, unwound, wrapped
from systemscope.model import Capture, Entry, Profile, Stack, StackEnd, State, UnwindReport
from systemscope.model.filters import Hidden
from tests.unit.fake_captures import capture
from tests.unit.pprof_files import back, packed

COUNTS = {
    StackEnd.UNTOLD: 40,
    StackEnd.ENTRY: 12_000,
    StackEnd.DEPTH: 3,
    StackEnd.NO_TABLE: 12,
    StackEnd.UNREADABLE: 1,
    StackEnd.UNSUPPORTED: 2,
    StackEnd.STRAYED: 287,
}


def unwound_capture() -> Capture:
    """One stack of each end, counted as in COUNTS; time is in proportion."""
    made = capture()
    made.unwinding = UnwindReport("bpf_loop", 14, 212_345, 2_411_724, 64 << 20, 0.21, 11)
    made.stacks = [Stack(), *(Stack(user=(1,), user_end=end) for end in COUNTS)]
    made.stacks.append(Stack(kernel=(1,)))
    counts = [*COUNTS.values(), 5_000]
    made.entries = [
        Entry(0, State.RUNNING, number + 1, 1000 * count, count, 1)
        for number, count in enumerate(counts)
    ]
    made.entries.append(Entry(0, State.SLEEPING, 0, 10**9, 7, 1))
    return made


def rows(of: Capture) -> list[str]:
    lines = summary(of, Hidden())
    at = next(n for n, line in enumerate(lines) if line.startswith("  unwinding "))
    end = next(n for n, line in enumerate(lines) if n > at and line[2] != " ")
    return [line[14:] for line in lines[at:end]]


def test_stacks_count_as_often_as_entries_carry_them() -> None:
    found = unwound(unwound_capture())
    assert found.counts == COUNTS
    assert found.total == 12_345, "neither kernel stacks nor gaps"
    assert found.nanoseconds == {end: 1000 * count for end, count in COUNTS.items()}
    assert found.whole == 12_000 and 0.97 < found.whole_share == found.whole_time_share < 0.98


def test_a_walk_of_frame_pointers_that_was_cut_is_truncated() -> None:
    of = unwound_capture()
    of.stacks[1] = Stack(user=(1,), user_truncated=True)
    assert unwound(of).counts[StackEnd.DEPTH] == 43


def test_the_summary_tells_all_within_80_columns() -> None:
    assert rows(unwound_capture()) == [
        "97.2 % of 12,345 stacks whole by unwind tables (bpf_loop)",
        "no table 12 (< 0.1 %), truncated 3 (< 0.1 %),",
        "unreadable stack 1 (< 0.1 %), unsupported rule 2 (< 0.1 %),",
        "strayed 287 (2.3 %), frame pointers only 40 (0.3 %)",
        "14 files (11 from the cache), 212,345 rows,",
        "2.3 MiB of at most 64 MiB, built in 0.21 CPU s",
    ]
    of = unwound_capture()
    assert of.unwinding is not None
    of.unwinding.without, of.unwinding.dropped, of.unwinding.refused = 3, 1, 2
    assert rows(of)[-1] == "3 have no usable table, 1 made room for others, 2 found no room"
    assert max(map(len, summary(of, Hidden()))) <= 80


def test_time_is_told_where_its_share_is_another() -> None:
    of = unwound_capture()
    assert not any("of their time" in row for row in rows(of))
    of.entries[6].nanoseconds *= 10
    assert "80.4 % of their time is on whole ones" in rows(of)


def test_stacks_that_pass_code_without_a_table() -> None:
    of = unwound_capture()
    of.stacks[2] = Stack(user=(1,), user_end=StackEnd.ENTRY, user_by_pointer=True)
    assert "12,000 of the whole ones pass code without a table" in rows(of)


def test_without_tables_nothing_is_said() -> None:
    of = unwound_capture()
    of.unwinding = None
    assert unwinding(of) == []
    assert "unwinding" not in dict(summary_rows(of))


def test_without_stacks_and_without_figures() -> None:
    of = unwound_capture()
    of.entries.clear()
    of.unwinding = UnwindReport("tail calls")
    assert unwinding(of) == ["no user stacks to unwind by unwind tables (tail calls)"]
    of.unwinding = UnwindReport()
    assert unwinding(of) == ["no user stacks to unwind by unwind tables"]


def test_beside_the_text_page_nothing_is_said_twice() -> None:
    of = unwound_capture()
    page = io.StringIO()
    text.write(Profile(of), page)
    assert "  unwinding: 97.2 % of 12,345 stacks whole" in page.getvalue()
    assert "14 files (11 from the cache)" in page.getvalue()
    beside = summary(of, Hidden(), beside_text=True)
    assert not any("unwind" in line or "14 files" in line for line in beside)


def test_every_format_that_tells_losses_tells_it() -> None:
    of = Profile(unwound_capture())
    phrases = unwinding(of.capture)
    assert facts(of)["unwinding"] == phrases
    assert [note.partition(": ")[2] for note in back(packed(of)).notes] == phrases
    stream = io.StringIO()
    speedscope.write(of, stream)
    assert f"unwinding: {phrases[0]}" in json.loads(stream.getvalue())["summary"]
    document = Document(text.ExportOptions())
    document.add(of)
    page = io.StringIO()
    document.write(page)
    assert ["unwinding", phrases[0]] in json.loads(page.getvalue())["sides"][0]["summary"]


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [(0, 9, "0.0 %"), (1, 9999, "< 0.1 %"), (9998, 9999, "99.9 %"), (9, 9, "100.0 %")],
)
def test_a_share_is_all_or_nothing_only_if_it_is(part: int, whole: int, words: str) -> None:
    assert share(part, whole) == words


@given(st.text(alphabet="ab, ", max_size=80), st.integers(10, 40))
def test_wrapping_loses_nothing(phrase: str, room: int) -> None:
    lines = wrapped(phrase, room)
    assert " ".join(lines) == phrase
    assert all(len(line) <= room or ", " not in line for line in lines)
