"""The process table: images over time, from records and snapshots."""

from __future__ import annotations

import os
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemscope.model import FileId, Image, Mapping, Process
from systemscope.processes import maps, proc, table
from systemscope.processes.table import ProcessTable

APP = Mapping(0x1000, 0x3000, 0, "/app", FileId(8, 1, 10))
LIB = Mapping(0x10000, 0x20000, 0x1000, "/lib", FileId(8, 1, 11))
NEW = Mapping(0x5000, 0x6000, 0, "/new", FileId(8, 1, 12))
PARENT, CHILD = 2**22 + 1, 2**22 + 2  # beyond any pid_max: never in /proc


def started(follow: bool = False) -> ProcessTable:
    """A table that knows PARENT with two mappings, executed at time 10."""
    known = ProcessTable({PARENT} if follow else None)
    assert known.exec(PARENT, 10, "app")
    assert known.mmap(PARENT, 11, APP)
    assert known.mmap(PARENT, 12, LIB)
    return known


def test_exec_begins_an_image_and_mmap_fills_it() -> None:
    known = started()
    assert known.processes() == {PARENT: Process(PARENT, "app", [Image(10, (APP, LIB))])}
    known.exec(PARENT, 20, "new")
    known.mmap(PARENT, 21, NEW)
    assert known.processes()[PARENT] == Process(
        PARENT, "new", [Image(10, (APP, LIB)), Image(20, (NEW,))]
    )


def test_fork_without_exec_copies_and_then_differs() -> None:
    known = started()
    assert known.fork(PARENT, CHILD, 15)
    known.mmap(CHILD, 16, NEW)
    known.mmap(PARENT, 17, Mapping(0x8000, 0x9000, 0, "/late"))
    found = known.processes()
    assert found[CHILD].comm == "app"
    assert found[CHILD].images == [Image(15, (APP, NEW, LIB))]
    assert [m.path for m in found[PARENT].images[0].mappings] == ["/app", "/late", "/lib"]


def test_fork_then_exec() -> None:
    known = started()
    known.fork(PARENT, CHILD, 15)
    known.exec(CHILD, 16, "child")
    known.mmap(CHILD, 17, NEW)
    child = known.processes()[CHILD]
    assert child.comm == "child"
    assert child.images == [Image(15, (APP, LIB)), Image(16, (NEW,))]


def test_a_reused_number_gets_another_image() -> None:
    known = started()
    known.fork(PARENT, CHILD, 15)
    known.exec(CHILD, 16, "first")
    known.exit(CHILD, 20)
    assert known.fork(PARENT, CHILD, 30) is True
    images = known.processes()[CHILD].images
    assert [image.since for image in images] == [15, 16, 30]
    assert images[-1].mappings == (APP, LIB)


def test_following_only_targets_and_their_children() -> None:
    known = started(follow=True)
    stranger = CHILD + 10
    assert not known.exec(stranger, 20, "other")
    assert not known.mmap(stranger, 21, NEW)
    assert not known.fork(stranger, stranger + 1, 22)
    assert known.fork(PARENT, CHILD, 23)
    assert known.fork(CHILD, CHILD + 1, 24)
    assert known.follows(CHILD + 1)
    assert set(known.processes()) == {PARENT, CHILD, CHILD + 1}


def test_kernel_threads_and_what_they_start() -> None:
    known = ProcessTable()
    known.fork(table.KTHREADD, CHILD, 5)
    found = known.processes()
    assert found[CHILD].kernel
    assert found[CHILD].images == []
    known.exec(CHILD, 6, "modprobe")
    assert not known.processes()[CHILD].kernel
    assert known.mmap(CHILD, 7, APP)


def test_overlap_replaces_and_splits() -> None:
    known = started()
    hole = Mapping(0x12000, 0x14000, 0, "/hole", FileId(8, 1, 13))
    known.mmap(PARENT, 20, hole)
    image = known.processes()[PARENT].images[0]
    left = Mapping(0x10000, 0x12000, 0x1000, "/lib", LIB.file)
    right = Mapping(0x14000, 0x20000, 0x5000, "/lib", LIB.file)
    assert image.mappings == (APP, left, hole, right)
    assert image.replaced == (LIB,)


def test_the_same_again_changes_nothing() -> None:
    known = started()
    for _ in range(5):
        known.mmap(PARENT, 20, LIB)
        known.mmap(PARENT, 20, Mapping(0x11000, 0x12000, 0x2000, "/lib", LIB.file))
    image = known.processes()[PARENT].images[0]
    assert image.replaced == ()
    assert {m.path for m in image.mappings} == {"/app", "/lib"}


def test_anonymous_code_is_not_kept_when_replaced() -> None:
    known = started()
    for _ in range(100):
        known.mmap(PARENT, 20, Mapping(0x100000, 0x200000, 0, ""))
        known.mmap(PARENT, 20, Mapping(0x180000, 0x190000, 0, ""))
    image = known.processes()[PARENT].images[0]
    assert image.replaced == ()
    assert len(image.mappings) < 10


def test_replaced_is_bounded() -> None:
    known = started()
    for inode in range(table.MAX_REPLACED + 100):
        known.mmap(PARENT, 20, Mapping(0x100000, 0x200000, 0, "/x", FileId(1, 1, inode)))
    assert len(known.processes()[PARENT].images[0].replaced) == table.MAX_REPLACED


def test_a_full_table_forgets_the_dead_first() -> None:
    known = ProcessTable(max_processes=3)
    for number in range(3):
        assert known.exec(CHILD + number, 10, "x")
    assert not known.exec(CHILD + 3, 11, "x")  # all alive: refused
    known.exit(CHILD + 1, 12)
    assert known.exec(CHILD + 3, 13, "x")
    assert set(known.processes()) == {CHILD, CHILD + 2, CHILD + 3}
    assert known.losses.processes == 2


def test_mappings_are_bounded_in_total() -> None:
    known = ProcessTable(max_mappings=10)
    known.exec(PARENT, 10, "x")
    for index in range(20):
        known.mmap(PARENT, 11, Mapping(index << 12, (index + 1) << 12, 0, "/x"))
    assert len(known.processes()[PARENT].images[0].mappings) == 10
    assert known.losses.mappings == 10
    known.exit(PARENT, 12)
    known.exec(CHILD, 13, "y")
    assert known.mmap(CHILD, 14, APP)  # the room of the dead


def test_an_exec_loop_is_bounded() -> None:
    known = started()
    for moment in range(20, 20 + 3 * table.MAX_IMAGES):
        known.exec(PARENT, moment, "loop")
    images = known.processes()[PARENT].images
    assert len(images) == table.MAX_IMAGES
    assert images[0].since == 10
    assert known.losses.images == 2 * table.MAX_IMAGES + 1


class TestSnapshots:
    def test_see_reads_proc_once(self) -> None:
        known = ProcessTable(())
        own = os.getpid()
        assert known.see(own, time.monotonic_ns())
        process = known.processes()[own]
        assert process.comm == proc.comm(own)
        assert process.cgroup == proc.cgroup(own)
        assert process.namespace_pid == proc.namespace_pid(own)
        assert set(process.images[0].mappings) <= set(maps.read_mappings(own))
        assert process.images[0].since == 0
        assert known.shares_our_files(own)
        assert known.follows(own)

    def test_what_is_gone_is_not_known(self) -> None:
        child = subprocess.Popen(["true"])
        child.wait()
        known = ProcessTable()
        assert not known.see(child.pid, time.monotonic_ns())
        assert not known.see(0, 0)
        assert not known.see(-1, 0)
        assert len(known) == 0

    def test_older_mmaps_are_in_the_snapshot(self) -> None:
        known = ProcessTable()
        now = time.monotonic_ns()
        own = os.getpid()
        known.see(own, now)
        before = known.mappings(own)
        assert not known.mmap(own, now - 1, NEW)
        assert known.mappings(own) == before
        assert known.mmap(own, now + 1, NEW)
        assert NEW in known.mappings(own)

    def test_an_older_exec_only_dates_the_snapshot(self) -> None:
        known = ProcessTable()
        now = time.monotonic_ns()
        own = os.getpid()
        known.see(own, now)
        known.exec(own, now - 100, "x")
        unknown, snapshot = known.processes()[own].images
        assert unknown == Image(0, ())
        assert snapshot.since == now - 100
        assert snapshot.mappings
        assert known.processes()[own].comm == proc.comm(own)

    def test_an_older_fork_puts_the_parent_s_image_in_front(self) -> None:
        known = started()
        now = time.monotonic_ns()
        own = os.getpid()
        known.see(own, now)
        known.fork(PARENT, own, now - 100)
        inherited, snapshot = known.processes()[own].images
        assert inherited == Image(now - 100, (APP, LIB))
        assert snapshot.since == now
        known.exec(own, now - 50, "x")
        assert [image.since for image in known.processes()[own].images] == [now - 100, now - 50]

    def test_an_unknown_parent_is_read_at_the_fork(self) -> None:
        known = ProcessTable()
        own = os.getpid()
        known.fork(own, CHILD, time.monotonic_ns())
        found = known.processes()
        assert own in found
        assert found[CHILD].images[0].mappings == found[own].images[0].mappings
        assert found[CHILD].namespace_pid in (0, CHILD)

    def test_recovery_reads_what_differs(self) -> None:
        known = ProcessTable()
        own = os.getpid()
        known.exec(own, 10, "lost")
        known.recover(1000)
        known.recover(2000)
        images = known.processes()[own].images
        assert [image.since for image in images[:2]] == [10, 1000]
        assert images[1].mappings


TGIDS = st.integers(PARENT, PARENT + 5)
STEP = st.one_of(
    st.tuples(st.just("fork"), TGIDS, TGIDS),
    st.tuples(st.just("exec"), TGIDS, st.just(0)),
    st.tuples(st.just("exit"), TGIDS, st.just(0)),
    st.tuples(st.just("mmap"), TGIDS, st.tuples(st.integers(0, 40), st.integers(1, 10))),
)


@pytest.mark.parametrize("limit", [30, 10_000])
@given(steps=st.lists(STEP, max_size=60))
def test_any_history(limit: int, steps: list[tuple[str, int, object]]) -> None:
    """Whatever the records say, mappings stay sorted and disjoint, and counts stay true."""
    known = ProcessTable(max_processes=4, max_mappings=limit)
    for moment, (what, tgid, argument) in enumerate(steps, 1):
        if what == "fork" and isinstance(argument, int):
            known.fork(tgid, argument, moment)
        elif what == "exec":
            known.exec(tgid, moment, "x")
        elif what == "exit":
            known.exit(tgid, moment)
        elif isinstance(argument, tuple):
            start, length = argument
            file = FileId(1, 1, moment)
            known.mmap(tgid, moment, Mapping(start, start + length, moment, "/f", file))
    held = 0
    found = known.processes()
    assert len(found) <= 4
    for process in found.values():
        for image in process.images:
            held += len(image.mappings) + len(image.replaced)
            for left, right in zip(image.mappings, image.mappings[1:]):
                assert left.end <= right.start
    assert known._held == held  # the account by which memory is bounded
    assert held <= limit + 3  # one mmap may split one mapping and keep the old one
