"""Tables far too small: losses are counted, times stay exact, emptied tables lose nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from systemscope.collectors import tables, wallclock
from systemscope.collectors.plan import Plan
from systemscope.model import Gap, State
from systemscope.programs.config import StackTable, Storage
from systemscope.programs.maps import profiler_maps
from tests.kernel.collecting import WAYS, changed_plans, check_identity, gaps, profile

pytestmark = pytest.mark.kernel

#: Sleeps a millisecond at a time, at 4096 places: as many copies of "mov eax, 35; syscall; ret".
_MANY_STACKS = """
import ctypes, mmap, sys
stub = bytes([0xB8, 35, 0, 0, 0, 0x0F, 0x05, 0xC3]).ljust(16, b"\\xcc")
code = mmap.mmap(-1, 4096 * 16, prot=7)
code.write(stub * 4096)
base = ctypes.addressof(ctypes.c_char.from_buffer(code))
nanosleep = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
places = [nanosleep(base + 16 * i) for i in range(4096)]
time = (ctypes.c_long * 2)(0, 1_000_000)
print("ready", flush=True)
while True:
    for place in places:
        place(ctypes.addressof(time), None)
"""
_X86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="has x86-64 machine code")

_FORKS = """
import os, sys
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[1])):
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
sys.stdin.readline()
"""


@contextmanager
def child(source: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", source, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def sizes(**wanted: Any) -> Callable[[Plan], Plan]:
    """A change of plan."""

    def change(plan: Plan) -> Plan:
        config = replace(plan.config, **wanted)
        return replace(plan, config=config, maps=profiler_maps(config))

    return change


@_X86
@pytest.mark.parametrize("way", ["all", "no batch", "no sched_exit_tp"])
def test_full_tables_are_counted_and_times_exact(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Never emptied: most stacks and charges find no room."""
    monkeypatch.setattr(tables.Tables, "keep_up", lambda *_: None)
    small = sizes(counts=16, stacks=16, storage=Storage.HASH, threads=32)
    with child(_MANY_STACKS) as process, changed_plans(monkeypatch, small):
        capture = profile(1.0, pids=(process.pid,), disabled=WAYS[way])
    check_identity(capture)
    losses = capture.losses
    assert losses.counts_table_full + losses.stacks_table_full > 0
    (thread,) = capture.threads
    assert thread.elapsed == capture.end - capture.start
    # Without any stack a wait shows as such; one of its two halves may have found room.
    halves = [
        entry
        for entry in capture.entries
        if entry.gap is None and not capture.stacks[entry.stack].user
    ]
    assert gaps(capture).get(Gap.TABLE_FULL, 0) > 0 or halves


@_X86
def test_emptied_tables_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables a fraction of what the window yields: the charges sum to the threads' waits."""
    small = sizes(counts=128, stacks=128)
    drains: list[int] = []
    original = tables.Tables.keep_up

    def keep_up(self: tables.Tables, session: Any, stats: dict[str, int]) -> None:
        before = self._counts_taken, self._stacks_taken
        original(self, session, stats)
        drains.append(before != (self._counts_taken, self._stacks_taken))

    monkeypatch.setattr(tables.Tables, "keep_up", keep_up)
    monkeypatch.setattr(wallclock, "POLL_SECONDS", 0.02)
    with child(_MANY_STACKS) as process, changed_plans(monkeypatch, small) as windows:
        capture = profile(2.0, pids=(process.pid,))
    check_identity(capture)
    assert sum(drains) >= 2, "the tables were never half full: the test shows nothing"
    losses = capture.losses
    assert losses.counts_table_full == losses.stacks_table_full == 0
    (thread,) = capture.threads
    charged = sum(
        row.nanoseconds for row in windows[0].tables._totals.rows() if row.state != State.RUNNING
    )
    waited = sum(
        ns for state, ns in thread.time.items() if state in (State.SLEEPING, State.RUNNABLE)
    )
    # What is not charged: the rest of short waits (a period and a half for each of two states),
    # and the waits under way as the window opened and closed.
    assert waited - 12_000_000 <= charged <= waited
    assert Gap.TABLE_FULL not in gaps(capture)
    with_stack = sum(
        entry.nanoseconds
        for entry in capture.entries
        if entry.state is State.SLEEPING and entry.gap is None
    )
    assert with_stack >= thread.time[State.SLEEPING] - 12_000_000
    assert len(capture.stacks) > 128


@pytest.mark.parametrize("way", ["all", "no batch"])
def test_no_room_for_the_ended_is_counted(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    count, room = 120, 16
    monkeypatch.setattr(wallclock, "POLL_SECONDS", 5.0)  # too late on purpose
    with child(_FORKS, count) as process, changed_plans(monkeypatch, sizes(exits=room)):

        def start() -> None:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()

        capture = profile(1.5, start, pids=(process.pid,), disabled=WAYS[way])
    check_identity(capture)
    born = [t for t in capture.threads if t.born]
    assert len(born) + capture.losses.exits_table_full == count
    assert room <= len(born) < count


def test_no_room_for_threads_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    few = sizes(storage=Storage.HASH, threads=24)
    with changed_plans(monkeypatch, few):
        capture = profile(0.6)
    check_identity(capture)
    assert capture.losses.threads_table_full > 0
    assert not [t for t in capture.threads if t.tgid == os.getpid()]


@_X86
def test_stack_ids_count_their_collisions(monkeypatch: pytest.MonkeyPatch) -> None:
    small = sizes(stack_table=StackTable.STACK_ID, stacks=8, unwind=None)

    def without_iterators(plan: Plan) -> Plan:
        return replace(small(plan), seed_iterator=False, wait_iterator=False)

    with child(_MANY_STACKS) as process, changed_plans(monkeypatch, without_iterators):
        capture = profile(1.0, pids=(process.pid,))
    check_identity(capture)
    assert capture.losses.stack_collisions > 0
    assert gaps(capture).get(None, 0) > 0
