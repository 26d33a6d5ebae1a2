"""Folded stacks: one line a stack, root first, ``;`` between frames, a space, microseconds.

The format of Brendan Gregg's flamegraph.pl and of every flame-graph viewer since. Frame suffixes
``_[k]``, ``_[j]``, ``_[i]`` are flamegraph.pl's. Each thread's lines add up to its time rounded to
the nearest microsecond, and those of each of its states to within one of that state's.
"""

from __future__ import annotations

import re
from typing import TextIO

from systemscope.exporters.formats import ExportOptions
from systemscope.exporters.grouping import by_thread
from systemscope.exporters.naming import (
    safe_comm,
    safe_frame,
    shown_name,
    state_frame,
    suffix,
    thread_label,
)
from systemscope.exporters.rounding import round_parts
from systemscope.model import FrameKind, Profile, Sample, State

FoldedOptions = ExportOptions
_NANOSECONDS = 1_000  # in a microsecond

#: flamegraph.pl takes a number before the value for the first half of a difference.
_ENDS_IN_NUMBER = re.compile(r"\s(?=\d+(?:\.\d*)?$)")


class _Lines:
    """Turns samples into the part of a line before the value, remembering frame names."""

    def __init__(self, options: FoldedOptions) -> None:
        self._options = options
        self._names: dict[tuple[str, FrameKind, bool], str] = {}

    def stack(self, sample: Sample) -> str:
        parts = [self._prefix(sample)]
        names = self._names
        for frame in reversed(sample.frames):
            key = (frame.name, frame.kind, frame.inlined)
            name = names.get(key)
            if name is None:
                name = safe_frame(shown_name(frame))
                if self._options.annotate:
                    name += suffix(frame)
                names[key] = name
            parts.append(name)
        if sample.gap is not None:
            parts.append(sample.gap.value)
        if self._options.state:
            parts.append(state_frame(sample.state))
        return _ENDS_IN_NUMBER.sub("_", ";".join(parts))

    def _prefix(self, sample: Sample) -> str:
        if self._options.per_thread:
            return thread_label(sample.thread)
        return safe_comm(sample.thread.comm or sample.process_comm)


def write(profile: Profile, stream: TextIO, options: FoldedOptions = FoldedOptions()) -> None:
    """Write ``profile`` to the text stream ``stream``, lines merged and sorted.

    Values are microseconds. Lines that round to nothing are left out. Raises whatever the stream
    raises.
    """
    totals: dict[str, int] = {}
    lines = _Lines(options)
    for samples in by_thread(profile):
        # Merged first: what rounds is the line a user sees, not the entries it came from.
        states: dict[State, dict[str, int]] = {}
        for sample in samples:
            merged = states.setdefault(sample.state, {})
            stack = lines.stack(sample)
            merged[stack] = merged.get(stack, 0) + sample.nanoseconds
        sums = round_parts([sum(merged.values()) for merged in states.values()], _NANOSECONDS)
        for merged, total in zip(states.values(), sums):
            for stack, value in zip(
                merged, round_parts(list(merged.values()), _NANOSECONDS, total)
            ):
                if value:
                    totals[stack] = totals.get(stack, 0) + value
    for stack in sorted(totals):
        stream.write(f"{stack} {totals[stack]}\n")
