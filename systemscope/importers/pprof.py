"""pprof files back to a profile: our own, and CPU profiles of Go, perf, parca and others.

Ours give back threads, states, stacks and values; a frame without a name comes back as
``module+0xoffset`` of the file. Of other files the CPU time becomes RUNNING, the delay of Go's
block and mutex profiles BLOCKED, wall time of no told state UNKNOWN.
"""

from __future__ import annotations

import re
from typing import Any, BinaryIO, NamedTuple, Optional

from systemscope.errors import InputError
from systemscope.importers.pprof_tables import MAX_DEPTH, Stacks, Tables, read_tables, unpack
from systemscope.model import (
    Capture,
    Delay,
    DelayKind,
    Gap,
    Image,
    Mapping,
    Process,
    Profile,
    Sample,
    State,
    Thread,
)
from systemscope.wire import pprof_words as words

_Type = tuple[str, str]
_UNITS = {
    **dict.fromkeys(("nanoseconds", "nanosecond", "ns"), 1),
    **dict.fromkeys(("microseconds", "microsecond", "us"), 1_000),
    **dict.fromkeys(("milliseconds", "millisecond", "ms"), 1_000_000),
    **dict.fromkeys(("seconds", "second", "s"), 1_000_000_000),
}
_SECOND = 1_000_000_000
_STATES = {state.name.lower(): state for state in State}
_GAPS = {gap.value: gap for gap in Gap}
_DELAYS = {words.delay_frame(kind): kind for kind in DelayKind}
_EVENT = re.compile(r"(.*), (\d{1,9}) Hz", re.ASCII)
#: Label names others use for what we call pid, tid, comm and thread_comm.
_NAMES = {
    words.PID: ("pid", "process_id", "process.pid"),
    words.TID: ("tid", "thread_id", "thread id", "thread.id"),
    words.COMM: ("comm", "process_name", "process.executable.name"),
    words.THREAD_COMM: ("thread_comm", "thread_name", "thread name", "thread.name", "thread"),
}
_KEYS = {name: key for key, names in _NAMES.items() for name in names}
_MAX_ID = (1 << 31) - 1
_MAX_COMM = 256
_MAX_TYPES = 256
_MAX_COMMENTS = 4096


def read(stream: BinaryIO) -> Profile:
    """The profile that the bytes of ``stream`` hold; its notes say what was left out.

    Its capture holds threads, their processes and times, no entries. The life of a thread is as
    long as its time.

    Raises InputError for what is no pprof file, holds no time, or is larger than any profile
    should be; SystemScopeError without protobuf; and whatever the stream raises.
    """
    data, incomplete = unpack(stream)
    tables = read_tables(data)
    if tables.cut and not incomplete:
        incomplete = "the file is cut short"
    reader = _Reader(tables)
    reader.read()
    return reader.profile(incomplete)


class _Columns(NamedTuple):
    """Where among a sample's values its time is and its count (-1: nowhere), the nanoseconds of one
    unit of the time, and the state it tells of."""

    time: int
    unit: int
    samples: int
    waits: int
    state: State


class _Reader:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._stacks = Stacks(tables)
        head, text = tables.head, tables.text
        if len(head.sample_type) > _MAX_TYPES:
            raise InputError("this pprof file has more sample types than any profile would")
        self._types = [(text(one.type), text(one.unit)) for one in head.sample_type]
        self._comments = [text(index) for index in head.comment[:_MAX_COMMENTS]]
        self.own = bool(self._comments) and self._comments[0].startswith(words.OWN)
        self._columns = _own_columns(self._types) if self.own else self._foreign_columns()
        self._threads: dict[tuple[int, int, str, str], Thread] = {}
        self._processes: dict[int, Process] = {}
        self._mappings: dict[int, dict[Mapping, None]] = {}
        self._samples: list[Sample] = []
        self._left_out = 0

    def read(self) -> None:
        """Read all samples."""
        for raw in self._tables.samples():
            if len(raw.value) == len(self._types):
                self._sample(raw)
            else:
                self._left_out += 1

    def _sample(self, raw: Any) -> None:
        labels = self._labels(raw)
        thread, comm = self._thread(labels)
        ids = tuple(raw.location_id)
        word = self._stacks.own_word(ids[0]) if self.own and ids else ""
        if word in _DELAYS and words.DELAY in self._types:
            self._delay(thread, _DELAYS[word], raw)
            return
        columns = self._columns
        state = columns.state
        if self.own:
            state = _STATES.get(str(labels.get(words.STATE, "")), State.UNKNOWN)
        gap = _GAPS.get(word)
        if gap is not None or word == words.NO_FRAMES:
            ids = ids[1:]
        nanoseconds = raw.value[columns.time] * columns.unit
        where = columns.samples if state is State.RUNNING else columns.waits
        count = raw.value[where] if where >= 0 else 0
        if nanoseconds < 0 or count < 0:
            self._left_out += 1  # of a difference
            return
        if not nanoseconds and not count:
            return
        frames = self._stacks.frames(ids, state is State.RUNNING)
        mappings = self._mappings[thread.tgid]
        for frame in frames:
            if frame.mapping is not None:
                mappings[frame.mapping] = None
        thread.time[state] = thread.time.get(state, 0) + nanoseconds
        if state is not State.RUNNING:
            thread.waits[state] = thread.waits.get(state, 0) + count
        self._samples.append(Sample(thread, comm, state, frames, nanoseconds, count, gap))

    def _delay(self, thread: Thread, kind: DelayKind, raw: Any) -> None:
        count = raw.value[self._types.index(words.DELAYS)] if words.DELAYS in self._types else 0
        nanoseconds = raw.value[self._types.index(words.DELAY)]
        if thread.delays is None:
            thread.delays = {}
        thread.delays[kind] = Delay(max(count, 0), max(nanoseconds, 0))

    def _labels(self, raw: Any) -> dict[str, object]:
        """The labels we know, under our names: text, or a number."""
        text = self._tables.text
        found: dict[str, object] = {}
        for label in raw.label:
            key = text(label.key)
            if not self.own:
                key = _KEYS.get(key, key)
            found.setdefault(key, text(label.str) if label.str else label.num)
        return found

    def _thread(self, labels: dict[str, object]) -> tuple[Thread, str]:
        pid, tid = _number(labels.get(words.PID)), _number(labels.get(words.TID))
        comm = _comm(labels.get(words.COMM))
        thread_comm = _comm(labels.get(words.THREAD_COMM))
        if not self.own:
            comm = comm or thread_comm or self._program()
            thread_comm = thread_comm or comm
        key = (pid, tid, comm, thread_comm)
        thread = self._threads.get(key)
        if thread is None:
            thread = self._threads[key] = Thread(tid, pid, thread_comm, 0, 0)
            process = self._processes.setdefault(pid, Process(pid, comm))
            process.cgroup = process.cgroup or str(labels.get(words.CGROUP) or "")
            self._mappings.setdefault(pid, {})
        return thread, comm

    def _program(self) -> str:
        """The name of the main binary, which is the first mapping."""
        first = next(iter(self._tables.mappings.values()), None)
        return _comm(first.name.rsplit("/", 1)[-1]) if first is not None else ""

    def _foreign_columns(self) -> _Columns:
        """Which value of a file that is not ours is time. Raises InputError when none is."""
        types, head, text = self._types, self._tables.head, self._tables.text
        counts = [index for index, (_, unit) in enumerate(types) if unit == "count"]
        count = counts[0] if counts else -1
        times = [index for index, (_, unit) in enumerate(types) if unit in _UNITS]
        default = text(head.default_sample_type)
        for state, fits in (
            (State.RUNNING, lambda name: "cpu" in name or name == "samples"),
            (State.BLOCKED, lambda name: name in ("delay", "contention", "block", "offcpu")),
            (State.UNKNOWN, lambda name: "wall" in name or name == default),
            (State.UNKNOWN, lambda name: True),
        ):
            for index in times:
                name, unit = types[index]
                if fits(name.lower()):
                    return _Columns(index, _UNITS[unit], count, count, state)
        kind, unit = text(head.period_type.type), text(head.period_type.unit)
        # parca's agent tells the number of samples, and their distance in time.
        if count >= 0 and unit in _UNITS and 0 < head.period < _SECOND * 3600:
            state = State.RUNNING if kind == "cpu" else State.UNKNOWN
            return _Columns(count, _UNITS[unit] * head.period, count, count, state)
        told = ", ".join("/".join(one) for one in types[:8]) or "nothing"
        raise InputError(
            f"this pprof file holds no time, but {told[:300]}",
            "give a CPU or wall-clock profile",
        )

    def profile(self, incomplete: str) -> Profile:
        """All that was read, as a profile."""
        capture = self._capture()
        for thread in self._threads.values():
            thread.end = sum(thread.time.values())
        for tgid, mappings in self._mappings.items():
            ordered = tuple(sorted(mappings, key=lambda one: (one.start, one.end)))
            self._processes[tgid].images = [Image(0, ordered)] if ordered else []
        capture.threads = list(self._threads.values())
        capture.processes = self._processes
        return Profile(capture, self._samples, self._notes(incomplete))

    def _capture(self) -> Capture:
        head = self._tables.head
        unit = _UNITS.get(self._tables.text(head.period_type.unit), 0)
        period = head.period * unit
        duration = max(head.duration_nanos, 0)
        running = [sample for sample in self._samples if sample.state is State.RUNNING]
        frequency = round(_SECOND / period) if running and 1 < period < _SECOND * 3600 else 0
        samples = sum(sample.count for sample in running)
        capture = Capture(
            start=0,
            end=duration or sum(sample.nanoseconds for sample in self._samples),
            wall_start=max(head.time_nanos, 0) / _SECOND,
            frequency=frequency,
            event=self._tables.text(head.period_type.type) if frequency else "",
            samples=samples,
            ended_by="the end of the file",
        )
        if self.own:
            self._restore(capture)
        return capture

    def _restore(self, capture: Capture) -> None:
        """Take back what our comments tell."""
        for line in self._comments:
            if line.startswith(words.COMMAND):
                capture.command = line[len(words.COMMAND) :]
            elif line.startswith(words.KERNEL):
                capture.kernel = line[len(words.KERNEL) :]
            elif line.startswith(words.HOST):
                capture.hostname = line[len(words.HOST) :]
            elif line.startswith(words.ENDED_BY):
                capture.ended_by = line[len(words.ENDED_BY) :]
            elif line.startswith(words.EVENT):
                told = _EVENT.fullmatch(line, len(words.EVENT))
                if told:
                    capture.event, capture.frequency = told[1], int(told[2])

    def _notes(self, incomplete: str) -> list[str]:
        notes = []
        if incomplete:
            notes.append(f"{incomplete}: what could be read of it is here")
        for count, what in (
            (self._tables.damaged, "damaged records"),
            (self._left_out, "samples whose values make no sense"),
        ):
            if count:
                notes.append(f"{count:,} {what} of the file were left out")
        if self._stacks.missing:
            notes.append(f"locations missing in the file: {len(self._stacks.missing):,}")
        if self._stacks.cut:
            notes.append(f"stacks of the file cut at {MAX_DEPTH:,} frames: {self._stacks.cut:,}")
        for line in self._comments if self.own else ():
            if line.startswith(words.NOTE):
                notes.append(line[len(words.NOTE) :])
            elif line.startswith(words.LOSS):
                notes.append(f"lost when it was recorded: {line[len(words.LOSS) :]}")
            elif line.startswith(words.UNWINDING):
                notes.append(f"of the recording's user stacks: {line[len(words.UNWINDING) :]}")
        return notes


def _own_columns(types: list[_Type]) -> _Columns:
    """Our own values. Raises InputError when the types are none we write."""
    time = words.WALL if words.WALL in types else words.CPU
    if time not in types:
        raise InputError("this pprof file says it is SystemScope's, but holds no time of ours")
    samples = types.index(words.SAMPLES) if words.SAMPLES in types else -1
    waits = types.index(words.WAITS) if words.WAITS in types else -1
    return _Columns(types.index(time), 1, samples, waits, State.UNKNOWN)


def _number(value: Optional[object]) -> int:
    """A process or thread number; some write it as text. 0 when it is none."""
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdigit() and len(value) <= 10 else 0
    return value if isinstance(value, int) and 0 <= value <= _MAX_ID else 0


def _comm(value: Optional[object]) -> str:
    return value[:_MAX_COMM] if isinstance(value, str) else ""
