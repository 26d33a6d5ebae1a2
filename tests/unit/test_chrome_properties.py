"""What holds for every timeline: slices nest, times add up, memory does not grow."""

from __future__ import annotations

import io
import tracemalloc
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from systemscope.exporters.chrome import write
from systemscope.exporters.chrome_counters import Slots
from systemscope.exporters.chrome_stacks import extents
from systemscope.model import EventKind, State, Timeline
from tests.unit.chrome_reader import CPUS, FRAMES, profile_of, written
from tests.unit.test_chrome import END, named_stacks, run, thread, wait
from tests.unit.test_timeline import record, timeline

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(list(EventKind)),
        st.integers(4, 7),  # tid; 4 is no thread
        st.integers(0, 1200),
        st.integers(0, 300),
        st.integers(-50, 350),
        st.sampled_from(list(State)),
        st.integers(0, 3),  # stack
        st.integers(0, 8),  # other
        st.integers(0, 2),  # cpu
    ),
    max_size=40,
)


@given(EVENTS, st.integers(1, 4), st.sampled_from([0, 1, 20, 500]))
def test_whatever_comes_nests_and_covers_each_life(
    events: list[tuple[EventKind, int, int, int, int, State, int, int, int]],
    rounds: int,
    min_slice: int,
) -> None:
    made = [
        record(kind, tid, begin + length, begin, state,
               middle=max(0, begin + middle), kernel=stack, other=other, cpu=cpu)
        for kind, tid, begin, length, middle, state, stack, other, cpu in events
    ]  # fmt: skip
    size = -(-len(made) // rounds) or 1
    kept = timeline(*[made[at : at + size] for at in range(0, len(made), size)])
    kept.stacks = {(1, 0): 1, (2, 0): 2, (3, 0): 3}
    entries, samples, stacks = named_stacks(("a", "b"), ("b", "a"), ("b", "b", "a"))
    lives = [thread(5, end=1000), thread(6, begin=100, end=900), thread(7, end=300)]
    lives.append(thread(7, begin=400, end=1000))
    profile = profile_of(kept, lives, 1000, samples, entries, stacks=stacks)
    trace = written(profile, min_slice)
    for life, tid in zip(lives, (5, 6, 7, 100_000_007)):
        reached = life.begin
        for one in trace.states(1, tid):
            assert one.begin == reached, "a hole or an overlap"
            reached = one.end
        assert reached == life.end
        for one in trace.frames(1, tid):
            assert one.category.split(",")[0] in FRAMES
    for (pid, _), found in trace.slices.items():
        outermost = [one for one in found if one.depth == 0]
        assert pid == 1 or outermost == found
    ids = [event["id"] for event in trace.of("s")]
    assert ids == [event["id"] for event in trace.of("f")] and len(set(ids)) == len(ids)
    told = {**trace.metadata["slices"]}
    count = sum(one["ns"] for one in told.values())
    count += sum(one["ns"] for one in trace.metadata["short slices, gathered"].values())
    assert count == sum(life.end - life.begin for life in lives)


@given(st.data())
def test_times_by_state_are_the_events(data: st.DataObject) -> None:
    """Of a track without losses: drawn and gathered time is, state by state, that of its events."""
    records: list[bytes] = []
    at = 0
    expected: dict[str, int] = defaultdict(int)
    for length in data.draw(st.lists(st.integers(0, 90), max_size=30)):
        end = at + length
        if len(records) % 2:
            middle = at + length // 3
            records.append(wait(5, at, middle, end, State.DISK, cpu=0))
            expected["disk"] += middle - at
            expected["runnable"] += end - middle
        else:
            records.append(run(5, at, end, State.DISK))
            expected["running"] += length
        at = end
    life = thread(5, end=at)
    least = data.draw(st.integers(0, 60))
    trace = written(profile_of(timeline(records), [life], max(at, 1)), least)
    told: dict[str, int] = defaultdict(int)
    for one in trace.states(1, 5):
        if one.category == "short":
            for key, value in one.args.items():
                if key != "slices":
                    told[key.replace(" ns", "")] += value
        else:
            told[one.category] += one.length
    assert {key: ns for key, ns in expected.items() if ns} == told


@given(
    st.lists(st.tuples(st.integers(-5, 130), st.integers(-5, 130)), max_size=20), st.integers(1, 40)
)
def test_counters_are_exact(stretches: list[tuple[int, int]], most: int) -> None:
    slots = Slots(10, 110, most)
    for begin, end in stretches:
        slots.add(begin, end)
    rows = slots.rows()
    assert len(rows) <= most and sum(size for _, _, size in rows) == 100
    for at, covered, size in rows:
        inside = (
            max(0, min(end, at + size) - max(begin, at)) for begin, end in stretches if begin < end
        )
        assert covered == sum(inside)


@given(st.lists(st.integers(0, 100), max_size=12), st.integers(0, 60))
def test_samples_never_overlap(moments: list[int], period: int) -> None:
    ordered = [(moment, 0) for moment in sorted(moments)]
    reached = 0
    for begin, end, _ in extents(ordered, 0, 100, period):
        assert reached <= begin < end <= 100
        assert not period or end - begin <= 2 * period
        reached = end


def test_counters_in_the_trace_add_up() -> None:
    records = [run(5, 0, 2_500_000), wait(5, 2_500_000, 3_000_000, 4_000_000, cpu=0)]
    records += [run(5, 4_000_000, END), record(EventKind.SAMPLE, 5, 5_000_000)]
    trace = written(profile_of(timeline(records), [thread(5)], END))
    for name, unit, whole in (
        ("running threads", "average", 8_500_000),
        ("runnable threads", "average", 1_000_000),
        ("sampled CPU", "percent of one CPU", 100 * 1_000_000),
    ):
        points = [
            (event["ts"] * 1000, Decimal(event["args"][unit]))
            for event in trace.of("C")
            if event["name"] == name
        ]
        area = sum(
            value * (after - at) for (at, value), (after, _) in zip(points, [*points[1:], (END, 0)])
        )
        assert area == whole, name


class _Nowhere(io.RawIOBase):
    size = 0

    def write(self, data: object) -> int:
        self.size += len(data)  # type: ignore[arg-type]
        return len(data)  # type: ignore[arg-type]


def test_memory_does_not_grow_with_events(tmp_path: Path) -> None:
    """Fifteen times the events take no more memory."""
    entries, samples, stacks = named_stacks(("leaf", "mid", "main"), ("k_x", "main"))

    def peak(rounds: int) -> int:
        with open(tmp_path / str(rounds), "w+b") as file:
            made = Timeline(file, stacks={(1, 0): 1, (2, 0): 2})
            for at in range(0, rounds * 1_000_000, 1_000_000):
                batch = []
                for step in range(at, at + 1_000_000, 1000):
                    batch += [
                        record(EventKind.SAMPLE, 5, step + 100, kernel=1 + step // 1000 % 2),
                        run(5, step, step + 600),
                        record(EventKind.WAKE, 5, step + 800, other=6),
                        wait(5, step + 600, step + 800, step + 1000, cpu=0),
                        record(EventKind.STACK, 5, step + 1000, kernel=2),
                    ]
                made.append(b"".join(batch))
            end = rounds * 1_000_000
            lives = [thread(5, end=end), thread(6, end=end)]
            profile = profile_of(made, lives, end, samples, entries, stacks=stacks)
            sink = _Nowhere()
            tracemalloc.start()
            try:
                write(profile, sink)  # type: ignore[arg-type]
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    few, many = peak(2), peak(30)
    assert many < few * 1.5 + 1_000_000


def test_a_run_of_very_many_samples_is_told_in_parts() -> None:
    entries, samples, stacks = named_stacks(("leaf", "main"))
    ends = range(1, 40_001)
    events = timeline(
        *[
            [record(EventKind.SAMPLE, 5, end, kernel=1) for end in ends[at : at + 1000]]
            for at in range(0, len(ends), 1000)
        ],
        [run(5, 0, 50_000)],
    )
    events.stacks = {(1, 0): 1}
    life = thread(5, end=50_000)
    trace = written(profile_of(events, [life], 50_000, samples, entries, stacks=stacks))
    states = trace.states(1, 5)
    assert {one.name for one in states} == {"running"} and len(states) == 3
    assert sum(one.length for one in states) == 50_000
    assert sum(one.args["samples"] for one in states) == 40_000
    assert not trace.states(CPUS, CPUS + 2)
