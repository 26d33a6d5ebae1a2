"""Helpers of the tests that run whole windows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Optional

import pytest

from systemscope.collectors import wallclock
from systemscope.collectors.plan import Plan, make_plan
from systemscope.collectors.request import Request
from systemscope.collectors.wallclock import Window, collect
from systemscope.kernel.capabilities import LEGACY_4_9, Capabilities, probe
from systemscope.model import Capture, Entry, Gap, State, Thread

_CAPABILITIES: list[Capabilities] = []
#: Ways through the kernel by what is done without.
WAYS: dict[str, frozenset[str]] = {
    "all": frozenset(),
    "no sched_exit_tp": frozenset({"sched_exit_tp"}),
    "no tp_btf": frozenset({"tp_btf"}),
    "no raw tracepoint": frozenset({"tp_btf", "raw_tracepoint"}),
    "no batch": frozenset({"batch"}),
    "no sleepable iterator": frozenset({"sleepable_iterator"}),
    "no iterator": frozenset({"task_iterator"}),
    "no loops": frozenset({"bounded_loops", "map_value_address", "isa>2"}),
    "no get_stack": frozenset({"get_stack"}),
    "no perf link": frozenset({"perf_link"}),
    "4.9": LEGACY_4_9,
}


def capabilities() -> Capabilities:
    """Probed once a session."""
    if not _CAPABILITIES:
        _CAPABILITIES.append(probe())
    return _CAPABILITIES[0]


def profile(
    seconds: float,
    during: Optional[Callable[[], Any]] = None,
    until: Optional[Callable[[], bool]] = None,
    **request: Any,
) -> Capture:
    """One window, with ``during()`` called once it is open; over early when ``until()``."""
    began: list[bool] = []

    def stop() -> bool:
        if not began:
            began.append(True)
            if during is not None:
                during()
        return until is not None and until()

    wanted = Request(duration_ns=int(seconds * 1e9), **request)
    return collect(wanted, stop, capabilities=capabilities())


def threads_of(capture: Capture, tid: int) -> list[Thread]:
    """The lives of ``tid`` in time order."""
    return sorted((t for t in capture.threads if t.tid == tid), key=lambda t: t.begin)


def entries_of(capture: Capture, thread: Thread) -> list[Entry]:
    """The entries of one thread."""
    number = next(i for i, one in enumerate(capture.threads) if one is thread)
    return [entry for entry in capture.entries if entry.thread == number]


def check_identity(capture: Capture) -> None:
    """For every thread: its states' times sum to its time in the window, its entries to those."""
    entries: dict[int, int] = {}
    for entry in capture.entries:
        entries[entry.thread] = entries.get(entry.thread, 0) + entry.nanoseconds
    for number, thread in enumerate(capture.threads):
        assert capture.start <= thread.begin <= thread.end <= capture.end, thread
        assert sum(thread.time.values()) + thread.elsewhere == thread.elapsed, thread
        alive = sum(ns for state, ns in thread.time.items() if state is not State.DEAD)
        assert entries.get(number, 0) == alive, thread


def gaps(capture: Capture) -> dict[Optional[Gap], int]:
    """Nanoseconds by gap; None for time with a stack."""
    found: dict[Optional[Gap], int] = {}
    for entry in capture.entries:
        found[entry.gap] = found.get(entry.gap, 0) + entry.nanoseconds
    return found


def share(thread: Thread, *states: State) -> float:
    """How much of its time a thread spent in these states."""
    return sum(thread.time.get(state, 0) for state in states) / max(thread.elapsed, 1)


@contextmanager
def changed_plans(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Plan], Plan]
) -> Iterator[list[Window]]:
    """Every window runs by ``change`` of its plan; yields the windows."""
    windows: list[Window] = []

    def plan(able: Capabilities, request: Request) -> Plan:
        return change(make_plan(able, request))

    monkeypatch.setattr(wallclock, "make_plan", plan)
    original = Window.prepare

    def prepare(self: Window) -> None:
        windows.append(self)
        original(self)

    monkeypatch.setattr(Window, "prepare", prepare)
    yield windows


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Fail unless ``condition()`` comes true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)
