"""The frames of a timeline's stacks, and the slices that samples become."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

from systemscope.exporters.naming import safe_text, shown_name
from systemscope.model import Frame, Profile, Thread

_MOST_LISTED = 64  # frames in the arguments of a wait

#: begin, end, name, category, arguments (a JSON object's text)
FrameSlice = tuple[int, int, str, str, str]


class StackNames:
    """Finds the frames that the profile's samples have for a thread and a stack.

    Every stack of a timeline was also charged to its thread. Where that charge was lost, a thread
    of the same process may have it: their addresses mean the same.
    """

    def __init__(self, profile: Profile) -> None:
        capture = profile.capture
        self._exact: dict[tuple[int, int], tuple[Frame, ...]] = {}
        self._process: dict[tuple[int, int], tuple[Frame, ...]] = {}
        for entry, sample in zip(capture.entries, profile.samples):
            if sample.frames:
                self._exact[id(sample.thread), entry.stack] = sample.frames
                self._process[sample.thread.tgid, entry.stack] = sample.frames
        self._listings: dict[int, str] = {}

    def frames(self, thread: Thread, stack: int) -> tuple[Frame, ...]:
        """Leaf first; empty when there are none."""
        if not stack:
            return ()
        exact = self._exact.get((id(thread), stack))
        return exact if exact is not None else self._process.get((thread.tgid, stack), ())

    def listing(self, thread: Thread, stack: int) -> str:
        """The names as a JSON array, leaf first, or ""."""
        frames = self.frames(thread, stack)
        if not frames:
            return ""
        known = self._listings.get(id(frames))
        if known is None:
            names = [safe_text(shown_name(frame)) for frame in frames[:_MOST_LISTED]]
            if len(frames) > _MOST_LISTED:
                names.append(f"... {len(frames) - _MOST_LISTED} more")
            known = self._listings[id(frames)] = json.dumps(names)
        return known


def sample_slices(
    samples: Sequence[tuple[int, int]],
    begin: int,
    end: int,
    frames_of: Callable[[int], tuple[Frame, ...]],
) -> Iterator[FrameSlice]:
    """What ``samples`` ((time, stack), in order) say of a run over [begin, end).

    Each one lasts until the next, the first one from the beginning, the last one to the end.
    Frames that stay are one slice. Parents come before their children.
    """
    found: list[tuple[int, int, int, Frame]] = []  # begin, depth, end, frame
    path: list[tuple[Frame, int]] = []
    moments = [begin, *(max(begin, min(time, end)) for time, _ in samples[1:])]
    for moment, (_, stack) in zip(moments, samples):
        frames = tuple(reversed(frames_of(stack)))
        same = 0
        while (
            same < len(path)
            and same < len(frames)
            and path[same][0].name == frames[same].name
            and path[same][0].kind is frames[same].kind
        ):
            same += 1
        found += _closed(path, same, moment)
        path += [(frame, moment) for frame in frames[same:]]
    found += _closed(path, 0, end)
    found.sort(key=lambda one: (one[0], one[1]))
    for since, _, until, frame in found:
        yield since, until, safe_text(shown_name(frame)), frame.kind.value, _about(frame)


def _closed(
    path: list[tuple[Frame, int]], depth: int, moment: int
) -> list[tuple[int, int, int, Frame]]:
    """The frames from ``depth`` on end at ``moment``."""
    ended = [
        (since, depth + index, moment, frame)
        for index, (frame, since) in enumerate(path[depth:])
        if moment > since
    ]
    del path[depth:]
    return ended


def _about(frame: Frame) -> str:
    about: dict[str, object] = {}
    if frame.module:
        about["module"] = safe_text(frame.module)
    if frame.file:
        about["source"] = f"{safe_text(frame.file)}:{frame.line}"
    return json.dumps(about) if about else ""
