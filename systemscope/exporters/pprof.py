"""pprof: the gzipped profile.proto that ``go tool pprof``, parca, Pyroscope and others read.

Sample types are those the run measured, of samples/count, wall, cpu, runnable and blocked
nanoseconds and waits/count; with ``--delays`` also delays/count and delay/nanoseconds. The state is
a label, so are process and thread, control group and container. What a thread's delays come to is
in samples of its own, one for each kind: their time is part of the other samples' too, and a label
repeated on each of those would count it again and again.

Format: https://github.com/google/pprof/blob/main/proto/profile.proto
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from typing import BinaryIO, Optional

from systemscope.errors import OutputError
from systemscope.exporters.containers import container_id
from systemscope.exporters.formats import ExportOptions
from systemscope.exporters.pprof_tables import Locations, Mappings, Records, Strings
from systemscope.exporters.summary import losses
from systemscope.exporters.unwound import unwinding
from systemscope.model import Mapping, Process, Profile, Sample, State, Thread
from systemscope.version import VERSION
from systemscope.wire import pprof_words as words
from systemscope.wire.pprof import INT64_MAX, SAMPLE, messages

_Type = tuple[str, str]
_COMPRESSION = 6  # of 1 to 9: less makes the file larger and saves little
_SECOND = 1_000_000_000


def write(profile: Profile, stream: BinaryIO, options: ExportOptions = ExportOptions()) -> None:
    """Write ``profile`` to the byte stream ``stream``; the same profile gives the same bytes.

    Memory beyond the profile's own grows with the number of different frames. Raises OutputError
    for values that do not fit the format's 64-bit integers, SystemScopeError without protobuf, and
    whatever the stream raises.
    """
    _refuse_overflow(profile)
    messages()
    with gzip.GzipFile("", "wb", _COMPRESSION, stream, mtime=0) as packed:
        _Writer(profile, Records(packed)).write()  # type: ignore[arg-type]


def _refuse_overflow(profile: Profile) -> None:
    """Readers add values up in 64 bits: the sum must fit as well as its parts."""
    for what, whole in (
        ("nanoseconds", sum(abs(sample.nanoseconds) for sample in profile.samples)),
        ("events", sum(abs(sample.count) for sample in profile.samples)),
    ):
        if whole > INT64_MAX:
            raise OutputError(
                f"{whole:,} {what} do not fit into a pprof file, whose numbers end at 2^63 - 1",
                "write another format, such as folded",
            )


def sample_types(profile: Profile) -> list[_Type]:
    """The sample types that the run of ``profile`` measured. An on-CPU profile has those of Go's
    CPU profiles; what has time off the CPU too has wall first of its times."""
    states = {sample.state for sample in profile.samples}
    on = profile.capture.frequency > 0 or State.RUNNING in states or not states
    off = bool(states - {State.RUNNING}) or not states or _never_waited(profile)
    types = [words.SAMPLES] if on else [words.WAITS]
    types += [words.WALL] if off else []
    types += [words.CPU] if on else []
    types += [words.RUNNABLE, words.BLOCKED] if off else []
    types += [words.WAITS] if on and off else []
    if any(thread.delays is not None for thread in profile.capture.threads):
        types += [words.DELAYS, words.DELAY]
    return types


def _never_waited(profile: Profile) -> bool:
    """Waits were looked for, and there were none. Where they were not, threads have them in their
    time all the same."""
    capture = profile.capture
    spent = [state for thread in capture.threads for state, time in thread.time.items() if time]
    return bool(capture.entries) and all(state is State.RUNNING for state in spent)


class _Writer:
    def __init__(self, profile: Profile, records: Records) -> None:
        self._profile = profile
        self._capture = profile.capture
        self._messages = messages()
        self._records = records
        self._strings = Strings(records)
        self._mappings = Mappings(_main_mapping(profile), profile.capture.facts)
        self._locations = Locations(records, self._strings, self._mappings, self._messages)
        self._types = sample_types(profile)
        self._columns = {state: self._columns_of(state) for state in State}
        self._labels: dict[tuple[int, Optional[State], str], bytes] = {}

    def write(self) -> None:
        self._records.put_fields(self._head())
        for sample in self._profile.samples:
            self._sample(sample)
        if words.DELAY in self._types:
            for thread in self._capture.threads:
                self._delays(thread)
        self._mappings.write(self._records, self._strings, self._messages)
        self._records.flush()

    def _head(self) -> bytes:
        """Everything but the tables and samples."""
        index, capture = self._strings.index, self._capture
        value_type = self._messages.ValueType
        sampled = words.CPU in self._types
        # Waits are not sampled: every nanosecond of them is counted.
        period = round(_SECOND / capture.frequency) if sampled and capture.frequency > 0 else 1
        kind, unit = words.CPU if sampled else words.WALL
        default = words.WALL if words.WALL in self._types else words.CPU
        head = self._messages.Profile(
            sample_type=[value_type(type=index(t), unit=index(u)) for t, u in self._types],
            time_nanos=_clamped(round(capture.wall_start * _SECOND)),
            duration_nanos=_clamped(capture.end - capture.start),
            period_type=value_type(type=index(kind), unit=index(unit)),
            period=max(period, 1),
            comment=[index(line) for line in _comments(self._profile)],
            default_sample_type=index(default[0]),
        )
        return bytes(head.SerializeToString())

    def _sample(self, sample: Sample) -> None:
        frames = self._locations.stack(sample.frames, sample.state is State.RUNNING)
        if sample.gap is not None:
            frames.insert(0, self._locations.pseudo(sample.gap.value))
        elif not frames:
            frames.append(self._locations.pseudo(words.NO_FRAMES))
        values = [0] * len(self._types)
        counts, times = self._columns[sample.state]
        for column in counts:
            values[column] = sample.count
        for column in times:
            values[column] = sample.nanoseconds
        key = (id(sample.thread), sample.state, sample.process_comm)
        labels = self._labels.get(key)
        if labels is None:
            labels = self._labels[key] = self._label(sample.thread, sample.process_comm, key[1])
        message = self._messages.Sample(location_id=frames, value=values)
        self._records.put(SAMPLE, message.SerializeToString(), labels)

    def _columns_of(self, state: State) -> tuple[list[int], list[int]]:
        """Where among the values a sample's count goes, and where its time."""
        count = words.SAMPLES if state is State.RUNNING else words.WAITS
        times = {words.WALL, words.time_type(state)}
        return (
            [column for column, kind in enumerate(self._types) if kind == count],
            [column for column, kind in enumerate(self._types) if kind in times],
        )

    def _delays(self, thread: Thread) -> None:
        process = self._capture.processes.get(thread.tgid)
        comm = process.comm if process is not None else ""
        labels = self._label(thread, comm, None)
        for kind, delay in (thread.delays or {}).items():
            if not delay.count and not delay.nanoseconds:
                continue
            values = [0] * len(self._types)
            values[self._types.index(words.DELAYS)] = _clamped(delay.count)
            values[self._types.index(words.DELAY)] = _clamped(delay.nanoseconds)
            frames = [self._locations.pseudo(words.delay_frame(kind))]
            message = self._messages.Sample(location_id=frames, value=values)
            self._records.put(SAMPLE, message.SerializeToString(), labels)

    def _label(self, thread: Thread, comm: str, state: Optional[State]) -> bytes:
        """The labels of a sample, serialized: they follow its other fields."""
        index = self._strings.index
        process = self._capture.processes.get(thread.tgid)
        cgroup = process.cgroup if process is not None else ""
        message = self._messages.Sample()
        for key, number in ((words.PID, thread.tgid), (words.TID, thread.tid)):
            message.label.add(key=index(key), num=_clamped(number))
        for key, text in (
            (words.COMM, comm),
            (words.THREAD_COMM, thread.comm),
            (words.STATE, state.name.lower() if state is not None else ""),
            (words.CGROUP, cgroup),
            (words.CONTAINER, container_id(cgroup)),
        ):
            if text:
                message.label.add(key=index(key), str=index(text))
        return bytes(message.SerializeToString())


def _clamped(number: int) -> int:
    return min(max(number, -INT64_MAX), INT64_MAX)


def _comments(profile: Profile) -> Iterable[str]:
    capture = profile.capture
    yield f"{words.OWN}{VERSION}"
    if capture.command:
        yield f"{words.COMMAND}{capture.command}"
    if capture.kernel:
        yield f"{words.KERNEL}{capture.kernel}"
    if capture.hostname:
        yield f"{words.HOST}{capture.hostname}"
    if capture.event:
        yield f"{words.EVENT}{capture.event}, {capture.frequency} Hz"
    yield f"{words.ENDED_BY}{capture.ended_by}"
    for phrase in unwinding(capture):
        yield f"{words.UNWINDING}{phrase}"
    for phrase in losses(capture.losses):
        yield f"{words.LOSS}{phrase}"
    for note in (*capture.notes, *profile.notes):
        yield f"{words.NOTE}{note}"


def _main_mapping(profile: Profile) -> Optional[Mapping]:
    """The program whose threads the profile has most time of, as pprof titles its views by it."""
    times: dict[int, int] = {}
    for sample in profile.samples:
        tgid = sample.thread.tgid
        times[tgid] = times.get(tgid, 0) + sample.nanoseconds
    for tgid in sorted(times, key=lambda one: (-times[one], one)):
        found = _program(profile.capture.processes.get(tgid))
        if found is not None:
            return found
    return None


def _program(process: Optional[Process]) -> Optional[Mapping]:
    """The mapping of the program itself: it lies below its libraries."""
    if process is None or not process.images:
        return None
    for mapping in process.images[-1].mappings:
        if mapping.path.startswith("/") and not mapping.path.startswith("//"):
            return mapping
    return None
