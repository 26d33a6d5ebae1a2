"""Reading folded stacks: ours back to the letter, others' too, and nothing that is none."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemscope.errors import InputError
from systemscope.exporters.folded import FoldedOptions, write
from systemscope.importers import folded
from systemscope.model import FrameKind, Gap, Profile, State, state_name
from tests.unit.fake_captures import frame, profile, sample, thread


def read(text: str) -> Profile:
    return folded.read(io.BytesIO(text.encode("utf-8", "surrogatepass")))


def written(of: Profile, options: FoldedOptions) -> str:
    stream = io.StringIO()
    write(of, stream, options)
    return stream.getvalue()


def test_a_line_of_ours() -> None:
    got = read("my_app-5/7;main;inl_[i];jit_[j];schedule_[k];[short waits];[disk] 12\n")
    [one] = got.samples
    assert (one.thread.comm, one.thread.tgid, one.thread.tid) == ("my_app", 5, 7)
    assert (one.state, one.gap, one.nanoseconds, one.count) == (
        State.DISK,
        Gap.SHORT_WAITS,
        12_000,
        1,
    )
    assert [(x.name, x.kind, x.inlined) for x in one.frames] == [
        ("schedule", FrameKind.KERNEL, False),
        ("jit", FrameKind.JIT, False),
        ("inl", FrameKind.USER, True),
        ("main", FrameKind.USER, False),
    ]
    assert got.notes == []
    assert got.capture.processes[5].comm == "my_app"


def test_threads_live_as_long_as_their_lines_say() -> None:
    got = read("a-1/1;f;[running] 3\na-1/1;g;[sleeping] 4\na-1/2;f;[sleeping] 5\n")
    one, two = got.capture.threads
    assert one.time == {State.RUNNING: 3_000, State.SLEEPING: 4_000}
    assert (one.elapsed, one.accounted, two.elapsed) == (7_000, 7_000, 5_000)
    assert (one.ran, two.ran) == (True, False)
    assert (got.capture.start, got.capture.end) == (0, 7_000)


def test_counts_of_other_tools() -> None:
    got = read("swapper;start_kernel_[k];idle_[k] 120\r\njava;[libc.so.6];x y(int, char) 7\r\n")
    first, second = got.samples
    assert (first.count, first.nanoseconds, first.state) == (120, 120_000, State.UNKNOWN)
    assert [x.name for x in second.frames] == ["x y(int, char)", "[libc.so.6]"]
    assert {one.tgid for one in got.capture.threads} == {0}
    assert len({one.tid for one in got.capture.threads}) == 2
    assert "no unit and no states" in got.notes[0]
    assert "no thread ids" in got.notes[1]


def test_blanks_tabs_and_fractions() -> None:
    got = read("\ufeffa;b\t3\n\n  \na;c 2.5 \nd 1\na;;e 1\n")
    assert [one.nanoseconds for one in got.samples] == [3_000, 2_500, 1_000, 1_000]
    assert [x.name for x in got.samples[3].frames] == ["e", "[unnamed]"]
    assert got.samples[2].frames == ()


def test_a_line_cut_short_is_left_out_and_told() -> None:
    for end in ("a;b", "a;b 1", "a;b 12"):
        got = read(f"a;b 7\n{end}")
        assert [one.nanoseconds for one in got.samples] == [7_000]
        assert "the last line of the folded stacks is cut short and left out" in got.notes


def test_an_empty_file_is_an_empty_profile() -> None:
    got = read("")
    assert (got.samples, got.capture.threads) == ([], [])
    assert got.notes == ["the file of folded stacks is empty"]


@pytest.mark.parametrize(
    "text",
    [
        "<!DOCTYPE html>\n<html>\n",
        '{"traceEvents": []}\n',
        "a;b",
        "one two\nthree four\na;b 3\n",
        "\x7fELF\x02\x01 1\0\n",
        "a;b -3\na;b 0x10\na;c 99999999999999999999999\n",
    ],
)
def test_what_is_not_folded_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="these are not folded stacks") as caught:
        read(text)
    assert "main;work;leaf 12" in caught.value.remedy


def test_a_difference_of_two_profiles_is_refused() -> None:
    with pytest.raises(InputError, match="each line has two values"):
        read("a;b 10 12\na;c 0 3\n")
    assert len(read("a;operator 5 12\na;c 3\n").samples) == 2


def test_a_few_lines_that_are_none_are_left_out_and_told() -> None:
    got = read("# comment\na;b 1\na;c 2\n")
    assert len(got.samples) == 2
    assert got.notes[-1] == "lines that are no folded stacks are left out: 1"


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = read("a;" + "f;" * (folded.MAX_DEPTH + 100) + "[sleeping] 5\n")
    assert len(deep.samples[0].frames) == folded.MAX_DEPTH
    assert deep.samples[0].state is State.SLEEPING
    assert deep.capture.losses.stacks_truncated == 1
    for name, limit, words in (
        ("MAX_LINES", 2, "2 lines"),
        ("MAX_BYTES", 10, "10 bytes"),
        ("MAX_FRAMES", 5, "5 frames"),
        ("MAX_NAMES", 3, "3 names"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(folded, name, limit)
            with pytest.raises(InputError, match=f"more than {words}"):
                read("a;b 1\na;c 2\na;d 3\n")


def test_a_line_without_an_end_is_not_kept_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folded, "MAX_LINE", 16)
    got = read("a;b 1\n" + "x" * 100 + " 5\na;c 2\n" + "y" * 16)
    assert [one.nanoseconds for one in got.samples] == [1_000, 2_000]
    assert "left out: 1" in got.notes[-1]


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        got = folded.read(io.BytesIO(data))
    except InputError:
        return
    assert all(0 <= one.nanoseconds < 1 << 64 for one in got.samples)
    assert sum(x.elapsed for x in got.capture.threads) == sum(x.nanoseconds for x in got.samples)


#: Names a folded file keeps apart from its own words: no states, marks or numbered threads.
_OURS = {f"[{state_name(state)}]" for state in State} | {gap.value for gap in Gap}
_NAMES = st.text(min_size=1, max_size=12).filter(
    lambda text: (
        text not in _OURS
        and not re.search(r"_\[.\]$|\+0x", text)
        and not re.search(r"-\d+/\d+$", text)
    )
)
_FRAMES = st.builds(frame, _NAMES, st.sampled_from(FrameKind), st.booleans())
_THREADS = st.builds(thread, st.integers(1, 1 << 22), _NAMES, st.integers(1, 1 << 22))


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    threads = draw(st.lists(_THREADS, min_size=1, max_size=4))
    return profile(
        *[
            sample(
                draw(st.sampled_from(threads)),
                draw(st.integers(0, 10**9)) * 1_000,
                *draw(st.lists(_FRAMES, max_size=5)),
                state=draw(st.sampled_from(State)),
                gap=draw(st.one_of(st.none(), st.sampled_from(Gap))),
            )
            for _ in range(draw(st.integers(0, 8)))
        ]
    )


@given(profiles(), st.booleans(), st.booleans(), st.booleans())
def test_ours_come_back_to_the_letter(
    of: Profile, per_thread: bool, state: bool, annotate: bool
) -> None:
    options = FoldedOptions(per_thread=per_thread, state=state, annotate=annotate)
    text = written(of, options)
    back = read(text)
    if per_thread or not text:
        assert written(back, options) == text
    again = FoldedOptions(state=state, annotate=annotate)
    assert written(back, again) == written(of, again) or per_thread
    assert sum(one.nanoseconds for one in back.samples) == sum(x.nanoseconds for x in of.samples)
