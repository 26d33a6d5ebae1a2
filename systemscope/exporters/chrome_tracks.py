"""The tracks of a trace: one a life of a thread, and one a CPU."""

from __future__ import annotations

from typing import Optional

from systemscope.exporters.chrome_json import TraceStream, metadata, text
from systemscope.model import Capture, Event, State, Thread

#: Above every pid (PID_MAX_LIMIT of include/linux/threads.h is 4,194,304), so that no process has
#: these numbers.
CPUS_PID = 10_000_000
LATER_LIVES = 100_000_000  # added to a tid for each life but its first
_MOST_CPUS = 8192  # NR_CPUS of any kernel; more is not from a kernel


class Track:
    """One life of a thread, and all that is remembered of it between two events.

    ``reached`` is where its slices end so far. ``wait`` is held back until its stack has come.
    ``samples`` are those of the run that has not been told yet, as (time, stack).
    """

    __slots__ = (
        "arrow",
        "cpu",
        "end",
        "index",
        "number",
        "preempted",
        "reached",
        "samples",
        "short",
        "stack",
        "thread",
        "wait",
        "wake",
        "where",
        "word",
    )

    def __init__(self, index: int, thread: Thread, number: int, capture: Capture) -> None:
        self.index = index
        self.thread = thread
        self.number = number
        self.reached = min(max(thread.begin, capture.start), capture.end)
        self.end = min(max(thread.end, self.reached), capture.end)
        self.cpu = -1
        self.preempted = False  # so its last run ended
        self.wait: Optional[Event] = None
        self.stack = (-1, 0)  # when the wait it belongs to ended, and the stack
        self.wake: Optional[Event] = None
        self.arrow: Optional[Event] = None
        self.samples: list[tuple[int, int]] = []
        self.short: Optional[Short] = None
        self.word = ""  # its name among the scheduler's lines
        self.where = f'"pid":{thread.tgid},"tid":{number},"ts":'

    @property
    def label(self) -> str:
        """The thread's name as it is shown; not safe to print."""
        again = f" (tid {self.thread.tid} again)" if self.number >= LATER_LIVES else ""
        return (self.thread.comm or "[unnamed]") + again


class Short:
    """Slices too short to be drawn one by one: [begin, end), and how often and long in each
    state."""

    __slots__ = ("begin", "count", "end", "times")

    def __init__(self, begin: int) -> None:
        self.begin = begin
        self.end = begin
        self.count = 0
        self.times: dict[str, int] = {}

    def add(self, end: int, state: str, nanoseconds: int) -> None:
        """One more slice, up to ``end``."""
        self.end = end
        self.count += 1
        self.times[state] = self.times.get(state, 0) + nanoseconds

    def arguments(self) -> str:
        """What is in it, as members of a JSON object."""
        times = "".join(f',"{state} ns":{ns}' for state, ns in sorted(self.times.items()))
        return f'"slices":{self.count}{times}'


class Tracks:
    """Finds the track of a thread number at a time: numbers are used again."""

    def __init__(self, capture: Capture) -> None:
        self.all: list[Track] = []
        self._lives: dict[int, list[Track]] = {}
        order = sorted(range(len(capture.threads)), key=lambda index: capture.threads[index].begin)
        for index in order:
            thread = capture.threads[index]
            lives = self._lives.setdefault(thread.tid, [])
            number = thread.tid + LATER_LIVES * len(lives)
            lives.append(Track(index, thread, number, capture))
            self.all.append(lives[-1])

    def at(self, tid: int, moment: int) -> Optional[Track]:
        """The life of ``tid`` that ``moment`` lies in or is nearest to; None for no thread."""
        lives = self._lives.get(tid)
        if lives is None:
            return None
        if len(lives) == 1:
            return lives[0]
        return min(lives, key=lambda one: max(one.thread.begin - moment, moment - one.end, 0))


class CpuTracks:
    """One track a CPU: which thread ran."""

    def __init__(self, out: TraceStream, capture: Capture, min_slice_ns: int) -> None:
        self._out = out
        self._limit = max(min_slice_ns, 1)
        self._start = capture.start
        self._cpus: dict[int, _Cpu] = {}

    def run(self, track: Track, cpu: int, begin: int, end: int, then: str) -> Optional[int]:
        """``track``'s thread ran on ``cpu`` over [begin, end), then was what ``then`` says.

        Gives the begin of the slice that was drawn for it, None where none was."""
        if not 0 <= cpu < _MOST_CPUS:
            return None
        one = self._cpus.get(cpu)
        if one is None:
            one = self._cpus[cpu] = self._name(cpu)
        begin = max(begin, one.reached)
        if end <= begin:
            return None
        one.reached = end
        if end - begin < self._limit:
            short = one.short
            if short is None:
                short = one.short = Short(begin)
            short.add(end, "running", end - begin)
            if end - short.begin >= self._limit:
                self._flush(one)
            return None
        self._flush(one)
        thread = track.thread
        arguments = f'"tid":{thread.tid},"pid":{thread.tgid},"then":"{then}"'
        self._slice(one, text(f"{thread.comm} {thread.tid}"), begin, end, arguments)
        return begin

    def finish(self) -> None:
        """Write what is held back."""
        for one in self._cpus.values():
            self._flush(one)

    def _flush(self, one: _Cpu) -> None:
        short, one.short = one.short, None
        if short is not None:
            self._slice(one, '"[short slices]"', short.begin, short.end, short.arguments())

    def _slice(self, one: _Cpu, name: str, begin: int, end: int, arguments: str) -> None:
        time, add = self._out.time, self._out.add
        add(f'{{"ph":"B","name":{name},"cat":"cpu",{one.where}{time(begin)}}}')
        add(f'{{"ph":"E","name":{name},{one.where}{time(end)},"args":{{{arguments}}}}}')

    def _name(self, cpu: int) -> _Cpu:
        number, add = CPUS_PID + 1 + cpu, self._out.add
        if not self._cpus:
            add(metadata("process_name", CPUS_PID, 0, '"name":"CPUs"'))
            add(metadata("process_sort_index", CPUS_PID, 0, '"sort_index":-1'))
        add(metadata("thread_name", CPUS_PID, number, f'"name":"CPU {cpu}"'))
        add(metadata("thread_sort_index", CPUS_PID, number, f'"sort_index":{cpu}'))
        return _Cpu(f'"pid":{CPUS_PID},"tid":{number},"ts":', self._start)


class _Cpu:
    __slots__ = ("reached", "short", "where")

    def __init__(self, where: str, start: int) -> None:
        self.where = where
        self.reached = start
        self.short: Optional[Short] = None


#: What a thread's run ended in, in words.
THEN = {state: state.name.lower() for state in State}
THEN[State.RUNNABLE] = "preempted"
THEN[State.RUNNING] = "running"
