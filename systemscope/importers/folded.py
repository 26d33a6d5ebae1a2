"""Folded stacks back to a profile: ours, and what perf, bcc, inferno and others collapse to.

A line is a stack, root first, ``;`` between frames, a blank and a value. The first frame is taken
for the thread: ``comm-pid/tid``, or a name. A leaf such as ``[sleeping]`` tells the state, a frame
such as ``[short waits]`` before it the gap; flamegraph.pl's suffixes ``_[k]``, ``_[j]``, ``_[i]``
tell a frame's kind. The format has no unit: values are taken for microseconds, as we write them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, Optional

from systemscope.errors import InputError
from systemscope.model import (
    MARK_NAMES,
    Capture,
    Frame,
    FrameKind,
    Gap,
    Process,
    Profile,
    Sample,
    State,
    Thread,
    state_name,
)

#: Bounds on a file that anybody may have written. 5,000 frames of 800 characters fit a line.
MAX_BYTES = 1 << 29
MAX_LINES = 2_000_000
MAX_LINE = 4 << 20
MAX_DEPTH = 16_384
MAX_FRAMES = 1 << 25  # of all lines together
MAX_NAMES = 1 << 20  # different frames and threads
_MAX_NANOSECONDS = 1 << 64
_NANOSECONDS = 1_000  # in a microsecond
_DECIMALS = 3

_LINE = re.compile(r"(.+)[ \t](\d{1,20})(?:\.(\d*))?[ \t]*", re.ASCII)
_TWO_VALUES = re.compile(r".*[ \t]\d+(?:\.\d*)?", re.ASCII)
_LABEL = re.compile(r"(.*)-(\d{1,10})/(\d{1,10})", re.ASCII)
_STATES = {f"[{state_name(state)}]": state for state in State}
_GAPS = {gap.value: gap for gap in Gap}
_SUFFIX_LENGTH = len("_[k]")
_KINDS = {"_[k]": FrameKind.KERNEL, "_[j]": FrameKind.JIT, "_[i]": FrameKind.USER}
_UNNAMED = "[unnamed]"
_REMEDY = "give a file of lines such as 'main;work;leaf 12'"


def read(stream: BinaryIO) -> Profile:
    """The profile that the bytes of ``stream`` tell of; its notes say what was left out.

    Its capture holds threads and their times, no entries. ``Sample.count`` is the value itself
    where the file tells no states, and 1 where it does. An empty file is an empty profile.

    Raises InputError for what is not folded stacks, has two values a line (a difference), or is
    beyond the bounds above; and whatever the stream raises.
    """
    reader = _Reader()
    for line, whole in _lines(stream):
        reader.add(line, whole)
    return reader.profile()


def _lines(stream: BinaryIO) -> Iterator[tuple[Optional[str], bool]]:
    """Each line without its end, None for one that is too long; and whether it had an end."""
    size = 0
    while True:
        raw = stream.readline(MAX_LINE)
        line: Optional[bytes] = raw
        size += len(raw)
        while raw and not raw.endswith(b"\n") and len(raw) == MAX_LINE:
            line = None
            raw = stream.readline(MAX_LINE)
            size += len(raw)
            _check(size, MAX_BYTES, "bytes")
        _check(size, MAX_BYTES, "bytes")
        if line == b"":
            return
        whole = raw.endswith(b"\n")
        yield (None if line is None else _text(line)), whole


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\n").rstrip("\r").lstrip("\ufeff")


def _check(count: int, limit: int, what: str) -> None:
    if count > limit:
        raise InputError(
            f"there are more than {limit:,} {what} of folded stacks",
            "merge equal lines first, or read a part of them",
        )


class _Reader:
    """Adds up lines to threads and samples."""

    def __init__(self) -> None:
        self._threads: dict[str, Thread] = {}
        self._frames: dict[str, Frame] = {}
        self._samples: list[Sample] = []
        self._lines = 0
        self._depths = 0
        self._bad = 0
        self._two_values = 0
        self._cut = False
        self._deep = 0
        self._states = False
        self._numbered = 0

    def add(self, line: Optional[str], whole: bool) -> None:
        """One line; ``whole`` is false for a last one without its end."""
        if line is not None and not line.strip():
            return
        self._lines += 1
        _check(self._lines, MAX_LINES, "lines")
        if not whole:
            self._cut = True
            return
        found = _LINE.fullmatch(line) if line is not None and "\0" not in line else None
        value = _nanoseconds(found[2], found[3]) if found else _MAX_NANOSECONDS
        if found is None or value >= _MAX_NANOSECONDS:
            self._bad += 1
            return
        self._two_values += _TWO_VALUES.fullmatch(found[1]) is not None
        self._stack(found[1].split(";"), value)

    def _stack(self, names: list[str], value: int) -> None:
        thread = self._thread(names[0])
        state = _STATES.get(names[-1]) if len(names) > 1 else None
        if state is not None:
            self._states = True
            names.pop()
        gap = _GAPS.get(names[-1]) if len(names) > 1 else None
        if gap is not None:
            names.pop()
        if len(names) > MAX_DEPTH + 1:
            self._deep += 1
            del names[MAX_DEPTH + 1 :]
        self._depths += len(names)
        _check(self._depths, MAX_FRAMES, "frames")
        frames = tuple(map(self._frame, reversed(names[1:])))
        state = State.UNKNOWN if state is None else state
        count = value // _NANOSECONDS if state is State.UNKNOWN else 1
        thread.time[state] = thread.time.get(state, 0) + value
        thread.waits[state] = thread.waits.get(state, 0) + count
        thread.end += value
        self._samples.append(Sample(thread, thread.comm, state, frames, value, count, gap))

    def _thread(self, label: str) -> Thread:
        found = self._threads.get(label)
        if found is None:
            who = _LABEL.fullmatch(label)
            if who:
                found = Thread(int(who[3]), int(who[2]), who[1], 0, 0)
            else:
                self._numbered += 1
                found = Thread(self._numbered, 0, label, 0, 0)
            self._threads[label] = found
            self._check_names()
        return found

    def _frame(self, text: str) -> Frame:
        found = self._frames.get(text)
        if found is None:
            mark = text[-_SUFFIX_LENGTH:]
            kind = _KINDS.get(mark) if len(text) > _SUFFIX_LENGTH else None
            if kind is None:
                pseudo = text in MARK_NAMES
                found = Frame(text or _UNNAMED, FrameKind.PSEUDO if pseudo else FrameKind.USER)
            else:
                found = Frame(text[:-_SUFFIX_LENGTH], kind, inlined=mark == "_[i]")
            self._frames[text] = found
            self._check_names()
        return found

    def _check_names(self) -> None:
        _check(len(self._frames) + len(self._threads), MAX_NAMES, "names")

    def profile(self) -> Profile:
        """What the lines add up to. Raises InputError where most of them are no folded stacks."""
        good = len(self._samples)
        if good and self._two_values == good:
            raise InputError(
                "each line has two values: this is a difference of two profiles",
                "give the two profiles it was made from",
            )
        if self._bad > good or (self._cut and not good):
            raise InputError("these are not folded stacks", _REMEDY)
        threads = list(self._threads.values())
        for thread in threads:
            thread.ran = State.RUNNING in thread.time or State.UNKNOWN in thread.time
        capture = Capture(
            start=0,
            end=max((thread.end for thread in threads), default=0),
            wall_start=0.0,
            frequency=0,
            event="",
            threads=threads,
            processes=_processes(threads),
            ended_by="what was not written down",
        )
        capture.losses.stacks_truncated = self._deep
        return Profile(capture, self._samples, self._notes())

    def _notes(self) -> list[str]:
        notes = []
        if not self._lines:
            notes.append("the file of folded stacks is empty")
        elif not self._states:
            notes.append("these folded stacks tell no unit and no states: values are taken for us")
        if self._numbered:
            notes.append("the folded stacks tell no thread ids: threads of one name are one")
        if self._cut:
            notes.append("the last line of the folded stacks is cut short and left out")
        if self._bad:
            notes.append(f"lines that are no folded stacks are left out: {self._bad:,}")
        return notes


def _nanoseconds(whole: str, fraction: Optional[str]) -> int:
    decimals = (fraction or "")[:_DECIMALS].ljust(_DECIMALS, "0")
    return int(whole) * _NANOSECONDS + int(decimals)


def _processes(threads: list[Thread]) -> dict[int, Process]:
    """Processes named after their first thread, as far as it was seen."""
    found: dict[int, Process] = {}
    for thread in threads:
        if thread.tgid and (thread.tgid not in found or thread.tid == thread.tgid):
            found[thread.tgid] = Process(thread.tgid, thread.comm)
    return found
