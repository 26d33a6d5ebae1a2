"""Any profile can be drawn and told: well-formed, of the right totals, within its columns."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from systemscope.exporters import folded, svg, text
from systemscope.exporters.formats import ExportOptions
from systemscope.model import Frame, FrameKind, Gap, Profile, Sample, State
from tests.unit.fake_captures import profile, thread
from tests.unit.test_text import wide

NAMES = st.one_of(st.sampled_from(["main", "read", "__schedule", "do_futex"]), st.text(max_size=9))
TIMES = st.one_of(st.integers(0, 10**10), st.integers(0, 2**63))
FRAMES = st.builds(
    Frame,
    name=NAMES.map(lambda name: name or "?"),
    kind=st.sampled_from(list(FrameKind)),
    module=NAMES,
    unknown=st.sampled_from(["", "no symbol"]),
)
THREADS = st.builds(thread, st.integers(1, 4), NAMES, st.integers(1, 2))
SAMPLES = st.builds(
    Sample,
    thread=THREADS,
    process_comm=NAMES,
    state=st.sampled_from(list(State)),
    frames=st.lists(FRAMES, max_size=6).map(tuple),
    nanoseconds=TIMES,
    count=st.integers(0, 9),
    gap=st.one_of(st.none(), st.sampled_from(list(Gap))),
)
PROFILES = st.lists(SAMPLES, max_size=8).map(lambda samples: profile(*samples))
NS = "{http://www.w3.org/2000/svg}"
OPTIONS = st.builds(ExportOptions, per_thread=st.booleans(), state=st.booleans())


@settings(deadline=None)
@given(PROFILES, PROFILES, OPTIONS)
def test_pictures_are_well_formed(one: Profile, two: Profile, options: ExportOptions) -> None:
    alone, beside = io.StringIO(), io.StringIO()
    svg.write(one, alone, options)
    svg.write_difference(one, two, beside, options)
    for stream in (alone, beside):
        root = ElementTree.fromstring(stream.getvalue())
        width = float(root.get("width", ""))
        for rect in root.iter(f"{NS}rect"):
            assert float(rect.get("x", 0)) + float(rect.get("width", "")) <= width + 0.02


@settings(deadline=None)
@given(PROFILES, PROFILES, st.integers(1, 120), st.booleans())
def test_pages_fit(one: Profile, two: Profile, width: int, normalize: bool) -> None:
    options = ExportOptions(width=width, normalize=normalize)
    stream = io.StringIO()
    text.write(one, stream, options)
    text.write_difference(one, two, stream, options)
    assert all(wide(line) <= width for line in stream.getvalue().split("\n"))


@settings(deadline=None)
@given(st.lists(st.integers(1, 10**10), min_size=1, max_size=20))
def test_a_threads_time_is_the_one_in_folded_stacks(times: list[int]) -> None:
    frames = [Frame(f"f{i}", FrameKind.USER) for i in range(len(times))]
    samples = []
    one = thread(1, "solo")
    for i, time in enumerate(times):
        state = State.RUNNING if i % 2 else State.SLEEPING
        samples.append(Sample(one, "app", state, (frames[i],), time, 1))
    of = profile(*samples)
    stacks, picture = io.StringIO(), io.StringIO()
    folded.write(of, stacks)
    svg.write(of, picture)
    microseconds = sum(int(line.rsplit(" ", 1)[1]) for line in stacks.getvalue().splitlines())
    drawn = re.search(r"<title>solo\n([\d,.]+) ms, 100.00 %", picture.getvalue())
    assert drawn is not None
    assert int(re.sub("[,.]", "", drawn[1])) == microseconds
