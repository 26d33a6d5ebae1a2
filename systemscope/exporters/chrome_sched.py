"""The scheduler's part of a trace: switches and wake-ups as lines of ftrace.

Perfetto and chrome://tracing read the member ``systemTraceEvents`` as ftrace's text (format of
``Documentation/trace/ftrace.rst``; fields of ``include/trace/events/sched.h``) and draw their own
CPU scheduling and thread state tracks from it. Only what was seen can be told: while no thread of
the profile runs on a CPU, number 0 does. Priorities are not recorded: all are 120, the usual one.
"""

from __future__ import annotations

import json
import tempfile
import zlib
from collections.abc import Iterator
from types import TracebackType
from typing import Optional

from systemscope.exporters.chrome_tracks import Track
from systemscope.exporters.naming import safe_text
from systemscope.model import State

_HELD = 2048  # lines before they are compressed
_PIECE = 1 << 16
_IN_MEMORY = 1 << 20
_SECOND = 1_000_000_000
_LONGEST_NAME = 100
#: Perfetto takes names from here and ends them at a blank: a no-break space looks the same.
_ONE_WORD = str.maketrans({" ": "\u00a0", "=": "_"})
#: Letters of prev_state; what has none here sleeps.
_LETTERS = {
    State.RUNNING: "R",
    State.RUNNABLE: "R",
    State.DISK: "D",
    State.STOPPED: "T",
    State.TRACED: "t",
    State.IDLE: "I",
    State.PARKED: "P",
    State.DEAD: "X",
}


class SchedLines:
    """Gathers lines, compressed and in a file once there are many, until they are written.

    Lines of one CPU come in order of time, those of different CPUs in any: readers sort.
    """

    def __init__(self, start: int) -> None:
        self._start = start
        self._lines: list[str] = []
        # Gone however this process ends.
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115
        self._pack = zlib.compressobj(1)
        #: By CPU: since when it is idle, and the two parts of the line that says so.
        self._last: dict[int, tuple[int, str, str]] = {}

    def __enter__(self) -> SchedLines:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self._file.close()

    def run(self, track: Track, cpu: int, begin: int, end: int, then: State) -> None:
        """``track``'s thread ran on ``cpu`` over [begin, end) and was ``then`` afterwards."""
        last, who, before = self._last.get(cpu, (-1, "", ""))
        if last != begin:
            if who:
                self._switch(cpu, last, who, before, _TO_IDLE)
            who, before = _IDLE, _FROM_IDLE
        name = _name(track)
        self._switch(cpu, begin, who, before, f"next_comm={name} next_pid={track.number}")
        before = f"prev_comm={name} prev_pid={track.number} prev_prio=120 prev_state="
        self._last[cpu] = (end, _who(track), before + _LETTERS.get(then, "S"))

    def wake(self, track: Track, waker: Optional[Track], cpu: int, moment: int) -> None:
        """``track``'s thread was made runnable by ``waker`` (None: an interrupt) on ``cpu``."""
        who = _IDLE if waker is None else _who(waker)
        cpu = max(cpu, 0)
        self._lines.append(
            f"{who} [{cpu:03d}] d..2 {self._time(moment)}: sched_waking: comm={_name(track)} "
            f"pid={track.number} prio=120 target_cpu={cpu:03d}\\n"
        )
        self._pack_if_full()

    def pieces(self) -> Iterator[bytes]:
        """All of it as the inside of a JSON string."""
        for cpu, (end, who, before) in self._last.items():
            self._switch(cpu, end, who, before, _TO_IDLE)
        self._last.clear()
        self._pack_lines()
        self._file.write(self._pack.flush())
        self._file.seek(0)
        unpack = zlib.decompressobj()
        yield b"# tracer: nop\\n#\\n"
        while True:
            packed = self._file.read(_PIECE)
            if not packed:
                break
            while packed:
                yield unpack.decompress(packed, _PIECE)
                packed = unpack.unconsumed_tail
        yield unpack.flush()

    def _switch(self, cpu: int, moment: int, who: str, before: str, after: str) -> None:
        self._lines.append(
            f"{who} [{cpu:03d}] d..2 {self._time(moment)}: sched_switch: {before} ==> {after} "
            "next_prio=120\\n"
        )
        self._pack_if_full()

    def _time(self, moment: int) -> str:
        seconds, rest = divmod(moment - self._start, _SECOND)
        # A quarter of a nanosecond more: readers compute with floats and round down or to nearest.
        return f"{seconds}.{rest:09d}25"

    def _pack_if_full(self) -> None:
        if len(self._lines) >= _HELD:
            self._pack_lines()

    def _pack_lines(self) -> None:
        self._file.write(self._pack.compress("".join(self._lines).encode("utf-8")))
        self._lines.clear()


_IDLE = "<idle>-0 (-----)"
_NOBODY = "[idle\u00a0or\u00a0not\u00a0profiled]"
#: Not R, which would make the idle task count as one that waits for a CPU.
_FROM_IDLE = f"prev_comm={_NOBODY} prev_pid=0 prev_prio=120 prev_state=S"
_TO_IDLE = f"next_comm={_NOBODY} next_pid=0"


def _who(track: Track) -> str:
    return f"{_name(track)}-{track.number} ({track.thread.tgid:5})"


def _name(track: Track) -> str:
    """The thread's name as one word, as it stands in a JSON string."""
    if not track.word:
        word = safe_text(track.label[:_LONGEST_NAME]).translate(_ONE_WORD)
        track.word = json.dumps(word, ensure_ascii=False)[1:-1]
    return track.word
