"""Counters over a window: exact averages in slots of time, in memory that does not grow."""

from __future__ import annotations

from systemscope.exporters.chrome_json import TraceStream
from systemscope.exporters.chrome_tracks import CPUS_PID
from systemscope.model import Capture

_SLOTS = 2000
_SAMPLES_A_SLOT = 10  # of one busy CPU: fewer make the share of sampled time jump about
_SECOND = 1_000_000_000


class Slots:
    """The time that stretches cover, by slot of ``width`` ns from ``start`` on."""

    def __init__(self, start: int, end: int, most: int) -> None:
        self.start = start
        self.length = max(end - start, 1)
        self.width = -(-self.length // most)
        self.count = -(-self.length // self.width)
        self._part = [0] * self.count  # ns in slots covered in part
        self._whole = [0] * (self.count + 1)  # +1 where whole coverage begins, -1 where it ends

    def add(self, begin: int, end: int) -> None:
        """One more stretch. Constant cost, however long it is."""
        begin, end = max(begin - self.start, 0), min(end - self.start, self.length)
        if end <= begin:
            return
        first, last = begin // self.width, (end - 1) // self.width
        if first == last:
            self._part[first] += end - begin
            return
        self._part[first] += (first + 1) * self.width - begin
        self._part[last] += end - last * self.width
        self._whole[first + 1] += 1
        self._whole[last] -= 1

    def rows(self) -> list[tuple[int, int, int]]:
        """(begin, ns covered, ns there are) of each slot; times are the capture's."""
        found = []
        whole = 0
        for index in range(self.count):
            whole += self._whole[index]
            at = index * self.width
            size = min(self.width, self.length - at)
            found.append((self.start + at, whole * size + self._part[index], size))
        return found


class Counters:
    """How many threads ran and how many waited for a CPU, and the share of time sampled."""

    def __init__(self, capture: Capture) -> None:
        start, end = capture.start, capture.end
        self.running = Slots(start, end, _SLOTS)
        self.runnable = Slots(start, end, _SLOTS)
        self._period = _SECOND // capture.frequency if capture.frequency > 0 else 0
        slots = (end - start) // (self._period * _SAMPLES_A_SLOT) if self._period else 1
        self._sampled = Slots(start, end, max(1, min(_SLOTS, slots)))
        self._hits = [0] * self._sampled.count
        self._end = end

    def sample(self, moment: int) -> None:
        """One sample was taken."""
        sampled = self._sampled
        index = (moment - sampled.start) // sampled.width
        if 0 <= index < sampled.count:
            self._hits[index] += 1

    def write(self, out: TraceStream) -> None:
        """Write all counters: a value where it changes."""
        for name, slots in (("running threads", self.running), ("runnable threads", self.runnable)):
            rows = [(at, _decimal(time, size)) for at, time, size in slots.rows()]
            self._counter(out, name, "average", rows)
        if self._period:
            shares = [
                (at, _decimal(100 * hits * self._period, size))
                for (at, _, size), hits in zip(self._sampled.rows(), self._hits)
            ]
            self._counter(out, "sampled CPU", "percent of one CPU", shares)

    def _counter(self, out: TraceStream, name: str, unit: str, rows: list[tuple[int, str]]) -> None:
        last = ""
        head = f'{{"ph":"C","name":"{name}","pid":{CPUS_PID},"ts":'
        for at, value in rows:
            if value != last:
                out.add(f'{head}{out.time(at)},"args":{{"{unit}":{value}}}}}')
                last = value
        if last != "0.000":
            out.add(f'{head}{out.time(self._end)},"args":{{"{unit}":0}}}}')
        out.flush_if_full()


def _decimal(part: int, whole: int) -> str:
    """part / whole to three decimals, rounded, without a float on the way."""
    thousandths = (2000 * part + whole) // (2 * whole)
    return f"{thousandths // 1000}.{thousandths % 1000:03d}"
