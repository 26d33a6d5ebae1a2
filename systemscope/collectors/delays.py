"""What the kernel's delay accounting adds to a window: read at its ends and as threads end.

A thread's delays within the window are its sums at the end less those at the begin; a thread born
within it begins at zero. The kernel adds a delay as it ends, so one under way as the window opens
counts whole: what exceeds a thread's time in the window is cut off.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Optional

from systemscope.collectors.readout import ThreadRow
from systemscope.errors import KernelError, SystemScopeError
from systemscope.kernel.privileges import read_text, sysctl
from systemscope.model import Capture, Delay, DelayKind, Thread

if TYPE_CHECKING:
    from systemscope.processes.taskstats import Account, Reading, TaskStats

#: Accounts of ended threads taken in at one look.
MOST_AT_ONCE = 20_000
#: Accounts kept until the thread's record comes (it may free much memory first), and how long.
MOST_PENDING = 16_384
PENDING_NS = 10_000_000_000
_BIRTH_SLACK_NS = 10_000_000  # ages are whole microseconds, and read a moment later
_NOTABLE_SKEW = 0.01  # of the window
_NONE = Delay(0, 0)


class _Ended(NamedTuple):
    ended_ns: int
    account: Account


class Delays:
    """The steps of a window, in order: constructor, begin, poll, end, attach, close.

    Without ``wanted`` each of them does nothing. A kernel or a privilege that is missing becomes a
    line of :attr:`notes`, never an error. ``cpus`` is the list of possible CPUs as sysfs has it.
    """

    def __init__(self, wanted: bool, cpus: str = "") -> None:
        self.notes: list[str] = []
        self.skew_before = self.skew_after = 0  # ns between a reading and the window's end it is of
        self._opened = self._closed = 0
        self._begin: dict[int, Reading] = {}
        self._end: dict[int, Reading] = {}
        self._pending: OrderedDict[int, list[Account]] = OrderedDict()
        self._ended: dict[int, list[_Ended]] = {}
        self._rows_seen = 0
        self._stats: Optional[TaskStats] = None
        self._only_cpu = False
        if wanted:
            self._open(cpus or read_text("/sys/devices/system/cpu/possible").strip())

    def _open(self, cpus: str) -> None:
        from systemscope.processes.taskstats import TaskStats

        try:
            stats = TaskStats()
        except SystemScopeError as error:
            remedy = f" ({error.remedy})" if error.remedy else ""
            self.notes.append(f"no delays: {error}{remedy}")
            return
        if not stats.counts:
            stats.close()
            self.notes.append("no delays: this kernel keeps no delay accounts (TASK_DELAY_ACCT)")
            return
        self._stats = stats
        self._only_cpu = sysctl("kernel/task_delayacct") == 0
        if self._only_cpu:
            self.notes.append(
                "delays: only waiting for a CPU is known, for delay accounting is off; 'sysctl "
                "kernel.task_delayacct=1' counts the others, of threads started from then on"
            )
        try:
            stats.listen(cpus)
        except SystemScopeError as error:
            self.notes.append(
                "delays of threads that ended are missing: the kernel tells of them only in the "
                f"host's user, PID and network namespaces ({error})"
            )

    def close(self) -> None:
        """Give the sockets back."""
        if self._stats is not None:
            self._stats.close()
            self._stats = None

    def __enter__(self) -> Delays:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- during the window

    def begin(self, tids: Iterable[int]) -> None:
        """Read where ``tids`` start: just before the window opens, or as they become targets."""
        self._opened = self._opened or time.monotonic_ns()
        self._begin.update(self._ask(tids))

    def poll(self, rows: Sequence[ThreadRow]) -> None:
        """Take in the accounts of threads that ended. ``rows`` are the records of all threads
        that did so far; each account is kept only once its thread is among them."""
        if self._stats is None:
            return
        try:
            accounts = self._stats.exits(MOST_AT_ONCE)
        except KernelError:
            return  # they will be missed, and counted
        for account in accounts:
            self._pending.setdefault(account.tid, []).append(account)
            self._pending.move_to_end(account.tid)
        fresh = sorted(rows[self._rows_seen :], key=lambda row: row.ended_ns)
        self._rows_seen = len(rows)
        for row in fresh:
            waiting = self._pending.get(row.tid)
            if waiting:
                ended = _Ended(row.ended_ns, waiting.pop(0))
                self._ended.setdefault(row.tid, []).append(ended)
                if not waiting:
                    del self._pending[row.tid]
        if accounts:
            self._forget(accounts[-1].time)

    def _forget(self, now: int) -> None:
        """Drop accounts of threads that are no targets: their records never come."""
        while self._pending:
            tid, waiting = next(iter(self._pending.items()))
            if len(self._pending) <= MOST_PENDING and now - waiting[-1].time < PENDING_NS:
                return
            del self._pending[tid]

    def end(self, tids: Iterable[int], rows: Sequence[ThreadRow]) -> None:
        """Read where ``tids`` are as the window has just closed."""
        if self._stats is None:
            return
        self.poll(rows)
        gone = {row.tid for row in rows}
        self._end = self._ask({*tids, *self._begin.keys() - gone})
        self._closed = time.monotonic_ns()

    def _ask(self, tids: Iterable[int]) -> dict[int, Reading]:
        if self._stats is None:
            return {}
        try:
            return self._stats.ask(tids)
        except KernelError:
            return {}

    def _account(self, reading: Optional[Reading]) -> Optional[Account]:
        if self._stats is None or reading is None:
            return None
        return self._stats.account(reading)

    # -- after it

    def attach(self, capture: Capture, rows: Sequence[ThreadRow]) -> None:
        """Give each thread of ``capture`` its delays; count the ended ones that have none."""
        if self._stats is not None:
            self.poll(rows)
            self._read_late(capture.threads)
            for thread in sorted(capture.threads, key=lambda thread: thread.begin):
                self._give(thread, capture)
            self._note_skew(capture)
        capture.notes += self.notes

    def _read_late(self, threads: Iterable[Thread]) -> None:
        """Threads born so late that they were on no list as the window closed. Read later, they
        may have waited more since; no more than their short time in the window is taken."""
        late = [t.tid for t in threads if not t.died and t.tid not in self._end]
        self._end.update(self._ask(late))

    def _give(self, thread: Thread, capture: Capture) -> None:
        account, when = self._last(thread)
        if account is None:
            capture.losses.delays_lost += thread.died
            return
        base = self._base(thread, when - account.age)
        if base is None:
            return
        thread.delays = self._between(base, account.values, thread.elapsed)

    def _last(self, thread: Thread) -> tuple[Optional[Account], int]:
        """The account at the end of a thread's time in the window, and when that was."""
        if thread.died:
            ended = self._ended.get(thread.tid, ())
            for at, one in enumerate(ended):
                if one.ended_ns >= thread.end:
                    return ended[at].account, one.ended_ns
            return None, 0
        account = self._account(self._end.get(thread.tid))
        if account is None:  # it ended between the window's end and the reading
            waiting = self._pending.get(thread.tid)
            account = waiting[-1] if waiting else None
        return account, account.time if account is not None else 0

    def _base(self, thread: Thread, birth: int) -> Optional[tuple[int, ...]]:
        """The sums the thread came with: read while it lived already, or zero if it was born
        after the first reading. A number of a thread may be another's, or a process's that its
        exec gave to another thread: then nothing is known."""
        known = self._account(self._begin.get(thread.tid))
        if known is not None and (not thread.born or known.time >= thread.begin):
            return known.values
        if birth >= self._opened - _BIRTH_SLACK_NS:
            return (0,) * (2 * len(self._kinds()))
        return None

    def _kinds(self) -> tuple[DelayKind, ...]:
        return self._stats.kinds if self._stats is not None else ()

    def _between(
        self, base: tuple[int, ...], last: tuple[int, ...], most: int
    ) -> dict[DelayKind, Delay]:
        found = {}
        for at, kind in enumerate(self._kinds()):
            if self._only_cpu and kind is not DelayKind.CPU:
                continue
            count = max(0, last[2 * at] - base[2 * at])
            ns = min(max(0, last[2 * at + 1] - base[2 * at + 1]), most)
            found[kind] = Delay(count, ns) if count or ns else _NONE
        return found

    def _note_skew(self, capture: Capture) -> None:
        self.skew_before = max(0, capture.start - self._opened)
        self.skew_after = max(0, self._closed - capture.end)
        window = max(1, capture.end - capture.start)
        if max(self.skew_before, self.skew_after) > _NOTABLE_SKEW * window:
            self.notes.append(
                f"delays are of a time from {self.skew_before / 1e6:.1f} ms before the window to "
                f"{self.skew_after / 1e6:.1f} ms after it"
            )
