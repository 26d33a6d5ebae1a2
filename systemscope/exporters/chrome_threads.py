"""The tracks of a timeline: one a thread, found by number and time (numbers are reused)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Optional

from systemscope.exporters.naming import safe_text
from systemscope.model import Capture, Event, Thread

MAX_PID = 4_194_304  # PID_MAX_LIMIT of 64-bit kernels (include/linux/threads.h)


@dataclass
class Track:
    """A thread and the one stretch of it that is not written yet."""

    thread: Thread
    label: str
    reached: int  # up to here its time is told
    cpu: int = -1  # the last one known
    wait: Optional[Event] = None
    wait_stack: int = 0
    wake: Optional[Event] = None
    flow: Optional[Event] = None  # the wake-up that leads to the next run
    samples: list[tuple[int, int]] = field(default_factory=list)  # of the run under way

    @property
    def pid(self) -> int:
        """The thread group."""
        return self.thread.tgid

    @property
    def tid(self) -> int:
        """The thread's own number."""
        return self.thread.tid


class Threads:
    """All tracks of a capture."""

    def __init__(self, capture: Capture) -> None:
        self._tracks: dict[int, list[Track]] = {}
        for thread in sorted(capture.threads, key=lambda thread: (thread.tid, thread.begin)):
            label = f"{safe_text(thread.comm)} {thread.tid}"
            track = Track(thread, label, thread.begin)
            self._tracks.setdefault(thread.tid, []).append(track)

    def at(self, tid: int, moment: int) -> Optional[Track]:
        """The track of the thread that had this number then; None for one left out."""
        tracks = self._tracks.get(tid)
        if not tracks:
            return None
        for track in tracks:
            if moment <= track.thread.end:
                return track
        return tracks[-1]

    def all(self) -> Iterator[Track]:
        """Every one, by number and time."""
        for tracks in self._tracks.values():
            yield from tracks
