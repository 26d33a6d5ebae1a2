"""Turns the events of a timeline into the slices, stacks and arrows of threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from systemscope.exporters.chrome_counters import Counters
from systemscope.exporters.chrome_json import TraceStream, text
from systemscope.exporters.chrome_sched import SchedLines
from systemscope.exporters.chrome_stacks import Span, StackNames, extents, spans
from systemscope.exporters.chrome_tracks import THEN, CpuTracks, Short, Track, Tracks
from systemscope.exporters.naming import thread_label
from systemscope.model import Event, EventKind, Gap, State, state_name

_MOST_SAMPLES = 16_384  # of one run: then it is told in parts
_SECOND = 1_000_000_000
_RUNNING = ("running", "running")
_RUNNABLE = ("runnable", "runnable")
_MISSED = (Gap.MISSED.value, "missed")
#: Nothing is missing there: the thread was on CPUs that were not asked for.
_ELSEWHERE = ("[other CPUs]", "elsewhere")
_SHORT = ("[short slices]", "short")
#: chrome://tracing's own names for colours; others ignore them.
_COLOURS = {
    "running": "thread_state_running",
    "runnable": "thread_state_runnable",
    "disk": "thread_state_uninterruptible",
    "missed": "thread_state_unknown",
    "unknown": "thread_state_unknown",
}
_INTERRUPTS = ((1, "a timer"), (2, "a soft interrupt"), (4, "a device"))


class Slices:
    """Takes events in their order and writes what is finished. ``drawn`` and ``short`` hold the
    (count, ns) of slices by state: those written, and those too short to be; ``hidden`` counts
    events of threads that the profile leaves out, ``misplaced`` those outside their thread's life
    or told twice."""

    def __init__(
        self,
        out: TraceStream,
        tracks: Tracks,
        cpus: CpuTracks,
        counters: Counters,
        names: StackNames,
        frequency: int,
        min_slice_ns: int,
        sched: Optional[SchedLines] = None,
    ) -> None:
        self._out = out
        self._tracks = tracks
        self._cpus = cpus
        self._sched = sched
        self._counters = counters
        self._names = names
        self._period = _SECOND // frequency if frequency > 0 else 0
        self._limit = max(min_slice_ns, 1)
        self._heads: dict[tuple[str, str], tuple[str, str]] = {}
        self.arrows = 0
        self.samples = 0
        self.hidden = 0
        self.misplaced = 0
        self.drawn: dict[str, tuple[int, int]] = {}
        self.short: dict[str, tuple[int, int]] = {}

    def take(self, event: Event) -> None:
        """The next event."""
        kind = event.kind
        moment = event.end
        if kind is EventKind.RUN or kind is EventKind.WAIT:
            moment = (event.begin + event.end) // 2
        track = self._tracks.at(event.tid, moment)
        if track is None:
            self.hidden += 1
        elif kind is EventKind.RUN:
            self._run(track, event)
        elif kind is EventKind.WAIT:
            self._settle(track)
            track.wait = event
        elif kind is EventKind.WAKE:
            track.wake = event
        elif kind is EventKind.STACK:
            track.stack = (event.end, event.stack)
        else:
            self._sample(track, event)

    def finish(self) -> None:
        """No more events: write what is held back, and what is missing up to the threads' ends."""
        for track in self._tracks.all:
            self._settle(track)
            self._gap(track, track.end)
            self._flush(track)
            self._out.flush_if_full()

    def _sample(self, track: Track, event: Event) -> None:
        self._counters.sample(event.end)
        self.samples += 1
        track.samples.append((event.end, event.stack))
        if len(track.samples) >= _MOST_SAMPLES:
            # Its run goes on; so much of it is told already.
            begin = track.wait.end if track.wait is not None else track.reached
            part = (event.tid, event.cpu, begin, 0, event.end, State.RUNNING, 0, 0)
            self._run(track, Event(EventKind.RUN, *part))

    def _run(self, track: Track, event: Event) -> None:
        self._settle(track)
        begin, end = max(event.begin, track.reached), min(event.end, track.end)
        if end <= begin:
            self.misplaced += event.end > event.begin
            track.arrow = None
            return
        self._gap(track, begin)
        cpu = event.cpu if event.cpu >= 0 else track.cpu
        track.cpu = cpu
        track.preempted = event.state is State.RUNNABLE
        then = THEN[event.state]
        self._counters.running.add(begin, end)
        shown = self._cpus.run(track, cpu, begin, end, then)
        if shown is not None and self._sched is not None:
            self._sched.run(track, cpu, shown, end, event.state)
        samples = self._samples(track, begin, end)
        arguments = f'"cpu":{cpu},"then":"{then}"'
        if samples:
            arguments += f',"samples":{len(samples)}'
        arrow, track.arrow = track.arrow, None
        drawn = self._slice(track, begin, end, _RUNNING, arguments, samples)
        if drawn and arrow is not None:
            self._arrow(track, arrow, begin)
        self._out.flush_if_full()

    def _settle(self, track: Track) -> None:
        """Write the wait that was held back."""
        wait, track.wait = track.wait, None
        if wait is None:
            return
        begin, end = max(wait.begin, track.reached), min(wait.end, track.end)
        if end <= begin:
            self.misplaced += wait.end > wait.begin
            return
        self._gap(track, begin)
        middle = begin if wait.state is State.RUNNABLE else min(max(wait.middle, begin), end)
        stack = track.stack[1] if track.stack[0] == wait.end else wait.stack
        if wait.cpu >= 0:
            track.cpu = wait.cpu
        wake = track.wake
        if wake is not None and not wait.begin <= wake.end <= wait.end:
            wake = None
        track.arrow = wake if wake is not None and wake.other else None
        by = self._waker(wake)
        if self._sched is not None and middle > begin and (middle < end or wait.cpu >= 0):
            waker = self._tracks.at(wake.other, wake.end) if wake and wake.other else None
            self._sched.wake(track, waker, wake.cpu if wake else wait.cpu, middle)
        if middle > begin:
            self._blocked(track, wait, begin, middle, stack, by)
        if end > middle:
            self._counters.runnable.add(middle, end)
            self._runnable(track, wait, middle, end, 0 if middle > begin else stack, by)
        self._out.flush_if_full()

    def _blocked(
        self, track: Track, wait: Event, begin: int, end: int, stack: int, by: str
    ) -> None:
        why = self._names.reason(track.index, stack, wait.state) if stack else ""
        word = state_name(wait.state)
        parts = [by, self._listed(track, stack)]
        arguments = ",".join(part for part in parts if part)
        self._slice(track, begin, end, (f"{word}: {why}" if why else word, word), arguments)

    def _runnable(
        self, track: Track, wait: Event, begin: int, end: int, stack: int, by: str
    ) -> None:
        since = by or ('"since":"preempted"' if track.preempted and begin == wait.begin else "")
        onto = f'"switched in on cpu":{wait.cpu}' if wait.cpu >= 0 else ""
        arguments = ",".join(part for part in (since, onto, self._listed(track, stack)) if part)
        self._slice(track, begin, end, _RUNNABLE, arguments)

    def _listed(self, track: Track, stack: int) -> str:
        listed = self._names.listed(track.index, stack) if stack else ""
        return f'"stack":{listed}' if listed else ""

    def _waker(self, wake: Optional[Event]) -> str:
        if wake is None:
            return ""
        if wake.other:
            waker = self._tracks.at(wake.other, wake.end)
            who = thread_label(waker.thread) if waker is not None else f"thread {wake.other}"
        else:
            kinds = [word for bit, word in _INTERRUPTS if wake.middle & bit]
            who = ", ".join(kinds) or "an interrupt"
        on = f',"woken on cpu":{wake.cpu}' if wake.cpu >= 0 else ""
        return f'"woken by":{text(who)}{on}'

    def _gap(self, track: Track, end: int) -> None:
        """Fill what nothing was told of, up to ``end``."""
        begin = track.reached
        if end <= begin:
            return
        track.preempted = False  # as far as anyone knows
        what = _ELSEWHERE if track.thread.elsewhere else _MISSED
        self._slice(track, begin, end, what, "", self._samples(track, begin, end))

    def _samples(self, track: Track, begin: int, end: int) -> list[tuple[int, int]]:
        """The samples of [begin, end]; earlier ones have missed their slice."""
        if not track.samples:
            return []
        found = [one for one in track.samples if begin <= one[0] <= end]
        track.samples = [one for one in track.samples if one[0] > end]
        return found

    def _slice(
        self,
        track: Track,
        begin: int,
        end: int,
        what: tuple[str, str],
        arguments: str,
        samples: Sequence[tuple[int, int]] = (),
    ) -> bool:
        """Draw [begin, end) as ``what`` (name and category); False where it is too short for it."""
        track.reached = end
        length = end - begin
        if length < self._limit:
            _add(self.short, what[1], length)
            if track.short is None:
                track.short = Short(begin)
            track.short.add(end, what[1], length)
            if end - track.short.begin >= self._limit:
                self._flush(track)
            return False
        self._flush(track)
        _add(self.drawn, what[1], length)
        head = self._heads.get(what) or self._head(what)
        add, where = self._out.add, track.where
        add(f'{{"ph":"B",{head[1]},{where}{self._out.time(begin)}}}')
        if samples:
            self._stacks(track, begin, end, samples)
        finish = f'{{"ph":"E","name":{head[0]},{where}{self._out.time(end)}'
        add(f'{finish},"args":{{{arguments}}}}}' if arguments else finish + "}")
        return True

    def _head(self, what: tuple[str, str]) -> tuple[str, str]:
        name, category = what
        colour = _COLOURS.get(category, "thread_state_sleeping")
        quoted = text(name)
        head = quoted, f'"name":{quoted},"cat":"{category}","cname":"{colour}"'
        self._heads[what] = head
        return head

    def _stacks(
        self, track: Track, begin: int, end: int, samples: Sequence[tuple[int, int]]
    ) -> None:
        """Draw the stacks of ``samples`` below the slice [begin, end)."""
        add, time, where = self._out.add, self._out.time, track.where
        stretches = [
            (low, high, self._names.drawn(track.index, stack))
            for low, high, stack in extents(samples, begin, end, self._period)
        ]
        open_: list[Span] = []
        for span in spans(stretches):
            if span.end - span.begin < self._limit:
                continue  # and so are those below it
            _close(open_, span.depth, span.frame.name, self._out, where)
            open_.append(span)
            add(f'{{"ph":"B",{span.frame.members},{where}{time(span.begin)}}}')
        _close(open_, 0, "", self._out, where)

    def _flush(self, track: Track) -> None:
        """Write the short slices that were gathered as one."""
        short, track.short = track.short, None
        if short is not None:
            head = self._heads.get(_SHORT) or self._head(_SHORT)
            add, time, where = self._out.add, self._out.time, track.where
            add(f'{{"ph":"B",{head[1]},{where}{time(short.begin)}}}')
            finish = f'{{"ph":"E","name":{head[0]},{where}{time(short.end)}'
            add(f'{finish},"args":{{{short.arguments()}}}}}')

    def _arrow(self, track: Track, wake: Event, begin: int) -> None:
        """Draw an arrow from the waker, as it woke, to where the woken thread runs."""
        waker = self._tracks.at(wake.other, wake.end)
        if waker is None or waker is track or not self._out.start <= wake.end <= begin:
            return
        self.arrows += 1
        head = f'"name":"wake-up","cat":"wake-up","id":{self.arrows}'
        time, add = self._out.time, self._out.add
        add(f'{{"ph":"s",{head},{waker.where}{time(wake.end)}}}')
        add(f'{{"ph":"f","bp":"e",{head},{track.where}{time(begin)}}}')


def _close(open_: list[Span], depth: int, following: str, out: TraceStream, where: str) -> None:
    """End the open spans from ``depth`` on, the innermost first."""
    while len(open_) > depth:
        span = open_.pop()
        # speedscope begins a slice before it ends one of the same name and time, unless their
        # arguments differ.
        differ = ',"args":{}' if span.frame.name == following else ""
        time = out.time(span.end)
        out.add(f'{{"ph":"E","name":{span.frame.name},{where}{time}{differ}}}')


def _add(totals: dict[str, tuple[int, int]], state: str, nanoseconds: int) -> None:
    count, before = totals.get(state, (0, 0))
    totals[state] = (count + 1, before + nanoseconds)
