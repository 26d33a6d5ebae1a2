"""An independent reader of Chrome traces, strict about what viewers are lenient with."""

from __future__ import annotations

import io
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Optional

from systemscope.exporters.chrome import write
from systemscope.exporters.formats import ExportOptions
from systemscope.model import Capture, Frame, FrameKind, Process, Profile, Sample, Thread, Timeline

Key = tuple[int, int]  # pid, tid
CPUS = 10_000_000
_FTRACE = re.compile(
    r"(?P<who>\S+)-\d+ \((?:-----| *\d+)\) \[(?P<cpu>\d{3,4})\] d\.\.2 "
    r"(?P<time>\d+\.\d+): (?P<event>sched_switch|sched_waking): (?P<fields>.*)",
    re.ASCII,
)
_SWITCH = re.compile(
    r"prev_comm=[^\s=]+ prev_pid=(?P<prev>\d+) prev_prio=120 prev_state=[RSDTtIPX] ==> "
    r"next_comm=[^\s=]+ next_pid=(?P<next>\d+) next_prio=120",
    re.ASCII,
)
FRAMES = ("kernel", "user", "vdso", "jit", "pseudo")


@dataclass
class Slice:
    """One slice; times are nanoseconds since the window's start."""

    name: str
    category: str
    begin: int
    end: int
    depth: int
    args: dict[str, Any] = field(default_factory=dict)

    @property
    def length(self) -> int:
        return self.end - self.begin


@dataclass
class Trace:
    """A whole trace."""

    events: list[dict[str, Any]]
    other: dict[str, Any]
    metadata: dict[str, Any]
    slices: dict[Key, list[Slice]]
    ftrace: list[str] = field(default_factory=list)

    def states(self, pid: int, tid: int) -> list[Slice]:
        """The outermost slices of a thread."""
        return [one for one in self.slices.get((pid, tid), []) if one.depth == 0]

    def frames(self, pid: int, tid: int) -> list[Slice]:
        """The nested ones."""
        return [one for one in self.slices.get((pid, tid), []) if one.depth > 0]

    def of(self, phase: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["ph"] == phase]

    def name(self, what: str, pid: int, tid: Optional[int] = None) -> str:
        """process_name or thread_name."""
        [found] = [
            event["args"]["name"]
            for event in self.of("M")
            if event["name"] == what and event["pid"] == pid and tid in (None, event["tid"])
        ]
        return str(found)


def nanoseconds(time: Decimal) -> int:
    assert isinstance(time, Decimal), "a time without decimals"
    scaled = time * 1000
    assert scaled == int(scaled) >= 0
    return int(scaled)


def read(data: bytes) -> Trace:
    """Parse; B and E of one track must nest, in the order of the file and of time."""
    document = json.loads(data.decode("utf-8"), parse_float=Decimal)
    assert document["displayTimeUnit"] == "ns"
    slices: dict[Key, list[Slice]] = defaultdict(list)
    open_: dict[Key, list[Slice]] = defaultdict(list)
    reached: dict[Key, int] = defaultdict(int)
    for event in document["traceEvents"]:
        if event["ph"] not in "BE":
            assert event["ph"] in "MCisf", "nothing else is drawn everywhere"
            continue
        key = (event["pid"], event["tid"])
        moment = nanoseconds(event["ts"])
        assert moment >= reached[key], "a track goes back in time"
        reached[key] = moment
        if event["ph"] == "B":
            one = Slice(event["name"], event["cat"], moment, moment, len(open_[key]))
            slices[key].append(one)
            open_[key].append(one)
        else:
            one = open_[key].pop()
            assert one.name == event["name"], "the wrong slice ends"
            one.end, one.args = moment, event.get("args", {})
            assert one.end > one.begin, "a slice of no length"
    assert not any(open_.values()), "a slice does not end"
    found = dict(slices)
    lines = check_ftrace(document.get("systemTraceEvents", ""))
    other, metadata = document["otherData"], document["metadata"]
    return Trace(document["traceEvents"], other, metadata, found, lines)


def check_ftrace(text: str) -> list[str]:
    """The lines of ftrace's text. On each CPU threads follow one another, in order of time."""
    lines = [line for line in text.split("\n") if line and not line.startswith("#")]
    running: dict[str, str] = {}
    reached: dict[str, Decimal] = {}
    for line in lines:
        matched = _FTRACE.fullmatch(line)
        assert matched, line
        if matched["event"] == "sched_waking":
            continue
        cpu, switch = matched["cpu"], _SWITCH.fullmatch(matched["fields"])
        assert switch, line
        assert running.get(cpu, switch["prev"]) == switch["prev"], "somebody else ran there"
        assert Decimal(matched["time"]) >= reached.get(cpu, 0), "a CPU goes back in time"
        running[cpu], reached[cpu] = switch["next"], Decimal(matched["time"])
    assert set(running.values()) <= {"0"}, "a CPU's last run does not end"
    return lines


def frame(name: str, kind: FrameKind = FrameKind.USER, module: str = "/bin/app") -> Frame:
    return Frame(name, kind, module=module)


def profile_of(
    timeline: Timeline,
    threads: Sequence[Thread],
    end: int,
    samples: Sequence[Sample] = (),
    entries: Sequence[Any] = (),
    **about: Any,
) -> Profile:
    """A profile of a window [0, end) at 1000 Hz."""
    capture = Capture(0, end, 0.0, 1000, "cpu-clock", threads=list(threads), timeline=timeline)
    capture.entries = list(entries)
    capture.processes = {one.tgid: Process(one.tgid, f"p{one.tgid}") for one in threads}
    for name, value in about.items():
        setattr(capture, name, value)
    return Profile(capture, list(samples))


def written(profile: Profile, min_slice_ns: int = 0) -> Trace:
    """Export and read back."""
    stream = io.BytesIO()
    write(profile, stream, ExportOptions(min_slice_ns=min_slice_ns))
    return read(stream.getvalue())
