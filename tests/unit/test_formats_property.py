"""Any profile is written by every format or refused with an error of ours, never another one."""

from __future__ import annotations

import io
import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from systemscope.errors import SystemScopeError
from systemscope.exporters.formats import ExportOptions, Format, formats
from systemscope.model import (
    END_MARKS,
    Entry,
    Frame,
    FrameKind,
    Gap,
    Process,
    Profile,
    Sample,
    Stack,
    StackEnd,
    State,
    Thread,
    UnwindReport,
)
from tests.unit.fake_captures import capture, frame, profile, sample, thread

EVERY = pytest.mark.parametrize("form", formats(), ids=lambda one: one.name)
HOSTILE = 'a"\\\x1b[2J\n\r\0\u2028\u202e\ud800;</script><!--&\U0001f600 12'
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

#: hypothesis leaves surrogates out of text() unless told.
_NAMES = st.one_of(
    st.text(st.characters(), max_size=12),
    st.sampled_from([HOSTILE, "", " ", ";", "-1/2", "[running]", "a 1", "\ud800", "x" * 5_000]),
)
_TIMES = st.one_of(
    st.integers(0, 10**10), st.sampled_from([0, 1, 499, 500, (1 << 53) + 1, (1 << 63) - 1])
)
_FRAMES = st.builds(
    Frame,
    _NAMES.map(lambda text: text or "x"),
    st.sampled_from(FrameKind),
    st.integers(0, (1 << 64) - 1),
    _NAMES,
    _NAMES,
    st.integers(0, 1 << 31),
    inlined=st.booleans(),
)
_MARKS = st.lists(
    st.builds(Frame, st.sampled_from(list(END_MARKS.values())), st.just(FrameKind.PSEUDO)),
    max_size=1,
)
_COUNTS = st.integers(0, (1 << 64) - 1)
_REPORTS = st.builds(UnwindReport, _NAMES, *[_COUNTS] * 4, st.floats(0), *[_COUNTS] * 5)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    threads = [
        Thread(draw(st.integers(0, 1 << 22)), draw(st.integers(0, 1 << 22)), draw(_NAMES), 0, 0)
        for _ in range(draw(st.integers(1, 3)))
    ]
    samples = []
    for _ in range(draw(st.integers(0, 5))):
        one = Sample(
            draw(st.sampled_from(threads)),
            draw(_NAMES),
            draw(st.sampled_from(State)),
            tuple(draw(st.lists(_FRAMES, max_size=4)) + draw(_MARKS)),
            draw(_TIMES),
            draw(st.integers(0, 1 << 40)),
            draw(st.one_of(st.none(), st.sampled_from(Gap))),
        )
        samples.append(one)
        one.thread.time[one.state] = one.thread.time.get(one.state, 0) + one.nanoseconds
        one.thread.end += one.nanoseconds
    of = Profile(capture(), samples, [draw(_NAMES)])
    of.capture.threads = threads
    of.capture.entries = []
    of.capture.unwinding = draw(st.none() | _REPORTS)
    if draw(st.booleans()):  # else a profile that was read from a file
        of.capture.stacks = [Stack(), *(Stack(user=(1,), user_end=end) for end in StackEnd)]
        for one in samples:
            of.capture.entries.append(
                Entry(
                    threads.index(one.thread),
                    one.state,
                    draw(st.integers(0, len(StackEnd))),
                    one.nanoseconds,
                    one.count,
                    0,
                )
            )
    of.capture.processes = {x.tgid: Process(x.tgid, draw(_NAMES)) for x in threads}
    of.capture.command = draw(_NAMES)
    of.capture.end = max(x.end for x in threads)
    return of


_OPTIONS = st.builds(
    ExportOptions,
    per_thread=st.booleans(),
    state=st.booleans(),
    annotate=st.booleans(),
    color=st.booleans(),
    width=st.integers(20, 200),
)


def written(form: Format, of: Profile, options: ExportOptions = ExportOptions()) -> bytes:
    """What the format writes; nothing where it refuses with an error of ours."""
    raw = io.BytesIO()
    try:
        form.write_bytes(of, raw, options)
    except SystemScopeError as error:
        assert str(error) and "\n" not in str(error)
        return b""
    return raw.getvalue()


def assert_readable(form: Format, data: bytes, options: ExportOptions) -> None:
    """Text stays text: no control character, no broken line, no broken document."""
    if form.binary or not data:
        return
    text = data.decode("utf-8")
    if not options.color:
        assert not _CONTROL.search(text.replace("\t", "")), form.name
    if form.name == "folded":
        for line in text.splitlines():
            assert re.fullmatch(r"[^ ;][^\n]* [1-9][0-9]*", line), line
    elif form.name == "speedscope":
        read = json.loads(text)
        for one in read["profiles"]:
            assert len(one["samples"]) == len(one["weights"])
            assert sum(one["weights"]) == one["endValue"]
    elif form.name == "svg":
        from xml.etree import ElementTree

        ElementTree.fromstring(text)
    elif form.name == "html":
        assert text.lower().count("<script") == text.lower().count("</script>")


@EVERY
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(of=profiles(), options=_OPTIONS)
def test_any_profile(form: Format, of: Profile, options: ExportOptions) -> None:
    assert_readable(form, written(form, of, options), options)


def _giant() -> Profile:
    frames = [frame(f"f{index}") for index in range(5_000)]
    return profile(sample(thread(1), 5_000_000, *frames))


def _many() -> Profile:
    threads = [thread(tid + 1, f"t{tid}", tid + 1) for tid in range(10_000)]
    of = profile(*[sample(one, 1_000 * one.tid, frame("f"), frame("main")) for one in threads])
    of.capture.threads = threads
    return of


def _hostile() -> Profile:
    of = profile(sample(thread(1, HOSTILE), 5_000, frame(HOSTILE), frame("m" * (1 << 20))))
    of.capture.command = of.capture.hostname = of.capture.kernel = HOSTILE
    of.capture.notes.append(HOSTILE)
    return of


@EVERY
@pytest.mark.parametrize(
    "of",
    [
        profile(),
        profile(sample(thread(1), 0, frame("f"))),
        profile(sample(thread(1), 1 << 63, frame("f"))),
        profile(*[sample(thread(tid), (1 << 63) - 1, frame("f")) for tid in range(3)]),
        _giant(),
        _many(),
        _hostile(),
    ],
    ids=["empty", "zero", "2^63", "sum over 2^64", "5,000 frames", "10,000 threads", "hostile"],
)
def test_the_far_ends(form: Format, of: Profile) -> None:
    assert_readable(form, written(form, of), ExportOptions())
