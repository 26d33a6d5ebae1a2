"""speedscope's own file format: one profile of all threads, then one of each.

JSON as https://www.speedscope.app/file-format-schema.json describes it. Weights are exact integers
of nanoseconds; a reader that keeps numbers as doubles, as speedscope does, rounds those above 2^53
(104 days of thread time). Written as a stream: what is kept in memory is the table of frames,
the merged stacks of a bounded part of one profile, and that profile's weights as text.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Iterable, Iterator
from typing import TextIO

from systemscope.exporters.formats import ExportOptions
from systemscope.exporters.grouping import by_thread
from systemscope.exporters.naming import (
    safe_comm,
    safe_text,
    shown_name,
    state_frame,
    suffix,
    thread_label,
)
from systemscope.exporters.summary import losses, summary_rows
from systemscope.model import Capture, Frame, Profile, Sample, State
from systemscope.version import VERSION

_SCHEMA = "https://www.speedscope.app/file-format-schema.json"
_ALL = "all threads"
_UNNAMED = "[unnamed]"
#: Profiles of single threads. Speedscope builds every profile's tree when it opens a file and
#: lists them all in one menu: the busiest have their own, the others share the last one.
MAX_THREADS = 1_000
#: Bytes of stacks that are merged at a time; equal ones further apart are added up by the viewer.
_MERGE_BYTES = 16 << 20
_ENTRY_BYTES = 200  # of a dictionary's entry, its key's header and its value
_REMEMBERED = 1 << 16
_MAX_TITLE = 300
_SWAPPED = sys.byteorder == "little"


class _Frames:
    """The shared table: every different function once, numbered as they come.

    The viewer draws what has another number as another function, so lines do not tell frames
    apart: of each function the first line that was seen is written.
    """

    def __init__(self, options: ExportOptions) -> None:
        self._annotate = options.annotate
        self._numbers: dict[tuple[str, str], int] = {}
        self._lines: list[int] = []
        self._recent: dict[int, int] = {}

    def number(self, frame: Frame) -> int:
        """The number of a frame of the profile, which outlives this table."""
        recent = self._recent
        found = recent.get(id(frame))
        if found is None:
            name = shown_name(frame) + (suffix(frame) if self._annotate else "")
            found = self.named(name, frame.file or frame.module, frame.line if frame.file else 0)
            if len(recent) >= _REMEMBERED:
                recent.clear()
            recent[id(frame)] = found
        return found

    def named(self, name: str, file: str = "", line: int = 0) -> int:
        """The number of the frame with this name."""
        number = self._numbers.setdefault((name, file), len(self._numbers))
        if number == len(self._lines):
            self._lines.append(line)
        elif line > 0:
            self._lines[number] = min(line, self._lines[number] or line)
        return number

    def texts(self) -> Iterator[str]:
        """The frames as JSON, in order of their numbers."""
        for (name, file), line in zip(self._numbers, self._lines):
            about: dict[str, object] = {"name": safe_text(name) or _UNNAMED}
            if file:
                about["file"] = safe_text(file)
            if line > 0:
                about["line"] = line
            yield json.dumps(about, separators=(",", ":"))


class _Stacks:
    """Samples as stacks of frame numbers, root first."""

    def __init__(self, options: ExportOptions) -> None:
        self.frames = _Frames(options)
        self._options = options

    def merged(self, samples: Iterable[Sample], threads: bool) -> Iterator[tuple[bytes, int]]:
        """Stacks and their nanoseconds, each part of the samples merged and sorted.

        Sorted, stacks with the same callers lie side by side in the viewer's view over time.
        ``threads`` puts the thread's name below each stack.
        """
        totals: dict[bytes, int] = {}
        size = 0
        for sample in samples:
            if not sample.nanoseconds:
                continue
            stack = self._stack(sample, threads)
            before = totals.get(stack)
            if before is None:
                size += len(stack) + _ENTRY_BYTES
            totals[stack] = (before or 0) + sample.nanoseconds
            if size > _MERGE_BYTES:
                yield from sorted(totals.items())
                totals.clear()
                size = 0
        yield from sorted(totals.items())

    def _stack(self, sample: Sample, threads: bool) -> bytes:
        """Frame numbers as big-endian u32, so that they compare as they nest."""
        number = self.frames.number
        stack = array("I", [self._thread(sample)] if threads else [])
        stack.extend([number(frame) for frame in reversed(sample.frames)])
        if sample.gap is not None:
            stack.append(self.frames.named(sample.gap.value))
        if self._options.state:
            stack.append(self._state(sample.state))
        if _SWAPPED:
            stack.byteswap()
        return stack.tobytes()

    def _thread(self, sample: Sample) -> int:
        if self._options.per_thread:
            return self.frames.named(thread_label(sample.thread))
        return self.frames.named(safe_comm(sample.thread.comm or sample.process_comm))

    def _state(self, state: State) -> int:
        return self.frames.named(state_frame(state))


def write(profile: Profile, stream: TextIO, options: ExportOptions = ExportOptions()) -> None:
    """Write ``profile`` to the text stream ``stream``. Raises whatever the stream raises."""
    stacks = _Stacks(options)
    groups = _busiest_first(profile)
    capture = profile.capture
    stream.write(f'{{"$schema":{json.dumps(_SCHEMA)},"exporter":"systemscope@{VERSION}"')
    stream.write(f',"name":{json.dumps(_title(capture))},"activeProfileIndex":0')
    rows = summary_rows(capture, notes=profile.notes)
    notes = [f"{what}: {words}" if what else words for what, words in rows]
    stream.write(f',"summary":{json.dumps(notes)}')
    stream.write(',"profiles":[\n')
    everything = (sample for group in groups for sample in group)
    _write_profile(stream, _whole(capture), stacks.merged(everything, True))
    for group in groups[:MAX_THREADS]:
        stream.write(",\n")
        _write_profile(stream, thread_label(group[0].thread), stacks.merged(group, False))
    rest = groups[MAX_THREADS:]
    if rest:
        others = (sample for group in rest for sample in group)
        stream.write(",\n")
        _write_profile(stream, f"{len(rest):,} other threads", stacks.merged(others, True))
    stream.write('],\n"shared":{"frames":[')
    for index, text in enumerate(stacks.frames.texts()):
        stream.write(f",\n{text}" if index else f"\n{text}")
    stream.write("\n]}}\n")


def _write_profile(stream: TextIO, name: str, stacks: Iterator[tuple[bytes, int]]) -> None:
    """One sampled profile. Its weights follow its stacks, so they are kept until then."""
    stream.write(f'{{"type":"sampled","name":{json.dumps(name)},"unit":"nanoseconds"')
    stream.write(',"startValue":0,"samples":[')
    weights: list[str] = []
    batch: list[str] = []
    total = 0
    separator = ""
    for stack, nanoseconds in stacks:
        numbers = array("I", stack)
        if _SWAPPED:
            numbers.byteswap()
        stream.write(f"{separator}[{','.join(map(str, numbers))}]")
        separator = ","
        total += nanoseconds
        batch.append(str(nanoseconds))
        if len(batch) == 1024:
            weights.append(",".join(batch))
            batch.clear()
    if batch:
        weights.append(",".join(batch))
    stream.write('],"weights":[')
    for index, text in enumerate(weights):
        stream.write(f",{text}" if index else text)
    stream.write(f'],"endValue":{total}}}')


def _busiest_first(profile: Profile) -> list[list[Sample]]:
    """The samples of each thread (one life of a tid) that took time, the busiest thread first."""
    groups = ([one for one in group if one.nanoseconds] for group in by_thread(profile))
    return sorted(filter(None, groups), key=_idleness)


def _idleness(group: list[Sample]) -> tuple[int, int, str]:
    busy = sum(one.nanoseconds for one in group if one.state is State.RUNNING)
    return -busy, -sum(one.nanoseconds for one in group), thread_label(group[0].thread)


def _title(capture: Capture) -> str:
    return safe_text(capture.command or capture.hostname)[:_MAX_TITLE] or "systemscope"


def _whole(capture: Capture) -> str:
    """The first profile's name, the only words of ours the viewer shows: so it tells of losses."""
    lost = losses(capture.losses)
    return _ALL + (f" (losses: {'; '.join(lost)})"[:_MAX_TITLE] if lost else "")
