"""Delays of each thread within a window, out of accounts that a kernel might give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Optional

import pytest

from systemscope.collectors import delays as module
from systemscope.collectors.delays import Delays
from systemscope.collectors.readout import ThreadRow
from systemscope.errors import KernelError, PermissionMissing, SystemScopeError, Unsupported
from systemscope.model import Capture, Delay, DelayKind, Thread
from systemscope.processes import taskstats
from systemscope.processes.taskstats import Account
from tests.unit.test_collectors_lives import thread_row

START, END = 100_000_000_000, 101_000_000_000
MS = 1_000_000
CPU, IO = DelayKind.CPU, DelayKind.BLOCK_IO


class FakeStats:
    """A kernel with two kinds of delay. Tests set what it answers."""

    kinds = (CPU, IO)
    refused: Optional[SystemScopeError] = None
    deaf: Optional[SystemScopeError] = None
    counts = True

    def __init__(self) -> None:
        if self.refused is not None:
            raise self.refused
        self.now: dict[int, Account] = {}
        self.ended: list[Account] = []
        self.closed = False

    def listen(self, cpus: str) -> None:
        assert cpus == "0-1"
        if self.deaf is not None:
            raise self.deaf

    def ask(self, tids: Iterable[int]) -> dict[int, Account]:
        return {tid: self.now[tid] for tid in tids if tid in self.now}

    def account(self, reading: Account) -> Account:
        return reading

    def exits(self, limit: int) -> list[Account]:
        taken, self.ended = self.ended[:limit], self.ended[limit:]
        return taken

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeStats]]:
    monkeypatch.setattr(taskstats, "TaskStats", FakeStats)
    monkeypatch.setattr(module, "sysctl", lambda name: 1)
    monkeypatch.setattr(module.time, "monotonic_ns", lambda: START - MS)
    yield FakeStats
    FakeStats.refused = FakeStats.deaf = None
    FakeStats.counts = True


def account(tid: int, *values: int, at: int = START - MS, born: int = 1_000_000_000) -> Account:
    """An account at ``at`` of a thread born at ``born``."""
    return Account(tid, at, at - born, values)


def thread(tid: int = 5, begin: int = START, end: int = END, **rest: Any) -> Thread:
    return Thread(tid, tid, "it", begin, end, **rest)


def row(tid: int, ended: int, born: int = 0) -> ThreadRow:
    return thread_row(tid=tid, ended_ns=ended, born_ns=born, last_ns=ended)


def fake(delays: Delays) -> FakeStats:
    assert isinstance(delays._stats, FakeStats)
    return delays._stats


def capture_of(*threads: Thread) -> Capture:
    return Capture(START, END, 0.0, 99, "cpu-clock", threads=list(threads))


def test_the_difference_of_two_readings() -> None:
    with Delays(True, "0-1") as delays:
        stats = fake(delays)
        stats.now[5] = account(5, 10, 1000, 3, 5 * MS)
        delays.begin([5, 6])
        stats.now[5] = account(5, 14, 1900, 3, 5 * MS, at=END)
        delays.end([5], [])
        capture = capture_of(thread())
        delays.attach(capture, [])
    assert capture.threads[0].delays == {CPU: Delay(4, 900), IO: Delay(0, 0)}
    assert capture.losses.delays_lost == 0
    assert stats.closed


def test_a_delay_that_began_before_the_window_is_cut_to_it() -> None:
    with Delays(True, "0-1") as delays:
        fake(delays).now[5] = account(5, 1, 0, 9, 800)
        delays.begin([5])
        fake(delays).now[5] = account(5, 2, 50_000_000_000, 1, 700, at=END)
        delays.end([5], [])
        capture = capture_of(thread())
        delays.attach(capture, [])
    assert capture.threads[0].delays == {CPU: Delay(1, END - START), IO: Delay(0, 0)}


def test_a_thread_born_within_begins_at_zero_and_tells_as_it_ends() -> None:
    born, died = START + 10 * MS, START + 40 * MS
    with Delays(True, "0-1") as delays:
        delays.begin([])
        fake(delays).ended = [account(5, 3, 300, 0, 0, at=died, born=born)]
        rows = [row(5, died, born)]
        delays.poll(rows)
        capture = capture_of(thread(begin=born, end=died, born=True, died=True))
        delays.attach(capture, rows)
    assert capture.threads[0].delays == {CPU: Delay(3, 300), IO: Delay(0, 0)}


def test_a_number_used_again_belongs_to_both() -> None:
    first_end, born, died = START + 5 * MS, START + 10 * MS, START + 40 * MS
    with Delays(True, "0-1") as delays:
        stats = fake(delays)
        stats.now[5] = account(5, 10, 1000, 0, 0)
        delays.begin([5])
        stats.ended = [
            account(5, 11, 1500, 0, 0, at=first_end),
            account(5, 3, 300, 0, 0, at=died, born=born),
        ]
        rows = [row(5, died, born), row(5, first_end)]
        delays.poll(rows)
        stats.now[5] = account(5, 7, 70, 0, 0, at=END, born=died + MS)
        delays.end([5], rows)
        capture = capture_of(
            thread(begin=died + MS, born=True),
            thread(begin=born, end=died, born=True, died=True),
            thread(end=first_end, died=True),
        )
        delays.attach(capture, rows)
    found = [one.delays[CPU] for one in capture.threads if one.delays is not None]
    assert found == [Delay(7, 70), Delay(3, 300), Delay(1, 500)]


def test_a_target_that_came_late_begins_when_it_was_found() -> None:
    found_at = START + 500 * MS
    with Delays(True, "0-1") as delays:
        delays.begin([])
        fake(delays).now[5] = account(5, 100, 9000, 0, 0, at=found_at + MS)
        delays.begin([5])
        fake(delays).now[5] = account(5, 101, 9500, 0, 0, at=END)
        delays.end([5], [])
        capture = capture_of(thread(begin=found_at, born=True))
        delays.attach(capture, [])
    assert capture.threads[0].delays == {CPU: Delay(1, 500), IO: Delay(0, 0)}


def test_a_thread_of_unknown_beginning_has_none() -> None:
    with Delays(True, "0-1") as delays:
        delays.begin([])
        fake(delays).now[5] = account(5, 100, 9000, 0, 0, at=END)
        delays.end([5], [])
        capture = capture_of(thread())
        delays.attach(capture, [])
    assert capture.threads[0].delays is None


def test_one_born_between_the_reading_and_the_window_begins_at_zero() -> None:
    with Delays(True, "0-1") as delays:
        delays.begin([])
        fake(delays).now[5] = account(5, 2, 90, 0, 0, at=END, born=START - MS // 2)
        delays.end([5], [])
        capture = capture_of(thread())
        delays.attach(capture, [])
    assert capture.threads[0].delays == {CPU: Delay(2, 90), IO: Delay(0, 0)}


def test_one_that_ended_after_the_window_tells_by_its_exit() -> None:
    with Delays(True, "0-1") as delays:
        fake(delays).now[5] = account(5, 1, 10, 0, 0)
        delays.begin([5])
        fake(delays).now.clear()
        fake(delays).ended = [account(5, 2, 30, 0, 0, at=END + MS)]
        delays.end([5], [])
        capture = capture_of(thread())
        delays.attach(capture, [])
    assert capture.threads[0].delays == {CPU: Delay(1, 20), IO: Delay(0, 0)}


def test_accounts_that_never_came_are_counted() -> None:
    with Delays(True, "0-1") as delays:
        delays.begin([])
        rows = [row(5, START + MS), row(6, START + MS)]
        delays.poll(rows)
        died = {"end": START + MS, "died": True}
        capture = capture_of(thread(5, **died), thread(6, **died), thread(7))
        delays.attach(capture, rows)
    assert capture.losses.delays_lost == 2


def test_accounts_of_others_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PENDING", 100)
    with Delays(True, "0-1") as delays:
        for look in range(50):
            fake(delays).ended = [account(look * 100 + i, 1, 1, 0, 0) for i in range(100)]
            delays.poll([])
            assert len(delays._pending) <= 100
        fake(delays).ended = [account(1, 1, 1, 0, 0, at=START + module.PENDING_NS)]
        delays.poll([])
        assert list(delays._pending) == [1]


def test_without_the_option_nothing_is_asked(kernel: type[FakeStats]) -> None:
    kernel.refused = Unsupported("taskstats")
    with Delays(False) as delays:
        delays.begin([5])
        delays.poll([])
        delays.end([5], [])
        capture = capture_of(thread(died=True))
        delays.attach(capture, [])
    assert capture.notes == []
    assert capture.threads[0].delays is None
    assert capture.losses.delays_lost == 0


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (Unsupported("taskstats", remedy="it needs this"), "does not offer taskstats (it needs"),
        (PermissionMissing("taskstats", "run as root"), "no permission for taskstats (run as root"),
        (SystemScopeError("no pyroute2", "pip install it"), "no pyroute2 (pip install it)"),
        (KernelError("query", "taskstats", 22), "EINVAL"),
    ],
)
def test_what_is_missing_is_one_line(
    kernel: type[FakeStats], refused: SystemScopeError, words: str
) -> None:
    kernel.refused = refused
    with Delays(True, "0-1") as delays:
        delays.begin([5])
        delays.end([5], [])
        capture = capture_of(thread())
        delays.attach(capture, [])
    assert len(capture.notes) == 1
    assert words in capture.notes[0]
    assert "\n" not in capture.notes[0]


def test_a_kernel_that_keeps_no_accounts(kernel: type[FakeStats]) -> None:
    kernel.counts = False
    with Delays(True, "0-1") as delays:
        assert "TASK_DELAY_ACCT" in delays.notes[0]
        assert delays._stats is None


def test_with_accounting_off_there_is_what_the_scheduler_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "sysctl", lambda name: 0)
    with Delays(True, "0-1") as delays:
        fake(delays).now[5] = account(5, 1, 0, 9, 800)
        delays.begin([5])
        fake(delays).now[5] = account(5, 2, 70, 9, 900, at=END)
        delays.end([5], [])
        capture = capture_of(thread())
        delays.attach(capture, [])
    assert capture.threads[0].delays == {CPU: Delay(1, 70)}
    assert "kernel.task_delayacct=1" in capture.notes[0]


def test_where_no_exits_are_told_the_living_still_are(kernel: type[FakeStats]) -> None:
    kernel.deaf = KernelError("query", "taskstats", 22)
    with Delays(True, "0-1") as delays:
        fake(delays).now[5] = account(5, 1, 10, 0, 0)
        delays.begin([5])
        delays.end([5], [])
        capture = capture_of(thread(5), thread(6, died=True))
        delays.attach(capture, [])
    assert capture.threads[0].delays is not None
    assert capture.losses.delays_lost == 1
    assert "namespaces" in capture.notes[0]


def test_readings_far_from_the_window_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with Delays(True, "0-1") as delays:
        delays.begin([])
        monkeypatch.setattr(module.time, "monotonic_ns", lambda: END + 30 * MS)
        delays.end([], [])
        capture = capture_of()
        delays.attach(capture, [])
    assert (delays.skew_before, delays.skew_after) == (MS, 30 * MS)
    assert capture.notes == [
        "delays are of a time from 1.0 ms before the window to 30.0 ms after it"
    ]
