"""The side-band on a live kernel: short processes, execs, forks, names, files that go away."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from systemscope.model import Mapping
from systemscope.processes import maps
from systemscope.processes.files import FileStore
from systemscope.processes.sideband import SideBand
from systemscope.processes.table import ProcessTable

pytestmark = pytest.mark.kernel

TRUE = os.path.realpath(shutil.which("true") or "/bin/true")


def cpus() -> list[int]:
    return sorted(os.sched_getaffinity(0))


@pytest.fixture
def table() -> ProcessTable:
    return ProcessTable()


@pytest.fixture
def sideband(table: ProcessTable) -> Iterator[SideBand]:
    with SideBand(table, cpus()) as band:
        yield band


def spawn(*argv: str) -> int:
    """posix_spawn is vfork and exec, as most programs start others."""
    return os.posix_spawn(argv[0], list(argv), {})


def files(mappings: tuple[Mapping, ...]) -> set[str]:
    return {os.path.realpath(m.path) for m in mappings if m.path.startswith("/")}


def test_two_hundred_short_processes(table: ProcessTable, sideband: SideBand) -> None:
    pids = []
    for number in range(200):
        pid = spawn(TRUE)
        os.waitpid(pid, 0)
        pids.append(pid)
        if number % 50 == 0:
            sideband.poll()
    sideband.poll(flush=True)
    assert sideband.lost == 0
    found = table.processes()
    for pid in pids:
        process = found[pid]
        assert process.comm == "true"
        inherited, own = process.images[-2:]
        assert inherited.since < own.since
        assert inherited.mappings  # ours, as it was forked
        names = files(own.mappings)
        assert TRUE in names
        assert any("libc" in os.path.basename(name) for name in names)
        assert any("ld-linux" in os.path.basename(name) for name in names)
        assert any(m.path == "[vdso]" for m in own.mappings)
        for m in own.mappings:
            assert m.path, f"unnamed mapping {m} in {pid}"
        assert list(own.mappings) == sorted(own.mappings, key=lambda m: m.start)
    assert table.losses.processes == 0


def test_a_processes_files_can_be_opened_after_its_death(
    table: ProcessTable, sideband: SideBand
) -> None:
    pid = spawn(TRUE)
    os.waitpid(pid, 0)
    sideband.poll(flush=True)
    with FileStore(table.shares_our_files) as store:
        mapping = next(m for m in table.mappings(pid) if os.path.realpath(m.path) == TRUE)
        assert mapping.file is not None
        descriptor = store.open(pid, mapping)
        assert descriptor is not None
        try:
            assert os.fstat(descriptor).st_ino == mapping.file.inode
            assert os.read(descriptor, 4) == b"\x7fELF"
        finally:
            os.close(descriptor)


def test_same_image_as_proc_shows(table: ProcessTable, sideband: SideBand) -> None:
    child = subprocess.Popen(["sleep", "100"])
    try:
        time.sleep(0.2)
        sideband.poll(flush=True)
        told = {(m.start, m.end, m.offset, m.path) for m in table.mappings(child.pid)}
        shown = {(m.start, m.end, m.offset, m.path) for m in maps.read_mappings(child.pid)}
        shown = {m for m in shown if m[3] != "[vsyscall]"}  # mapped by no process
        assert told == shown
    finally:
        child.kill()
        child.wait()


def test_renaming(table: ProcessTable, sideband: SideBand) -> None:
    pid = os.fork()
    if pid == 0:
        Path("/proc/self/comm").write_text("new;name (x)")
        os._exit(0)
    os.waitpid(pid, 0)
    sideband.poll(flush=True)
    assert table.processes()[pid].comm == "new;name (x)"


def test_a_thread_s_name_is_not_the_process_s(table: ProcessTable, sideband: SideBand) -> None:
    table.see(os.getpid(), time.monotonic_ns())
    before = table.processes()[os.getpid()].comm

    def rename() -> None:
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text("a-thread")

    thread = threading.Thread(target=rename)
    thread.start()
    thread.join()
    sideband.poll(flush=True)
    assert table.processes()[os.getpid()].comm == before


def test_fork_without_exec_has_its_parent_s_image(table: ProcessTable, sideband: SideBand) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    sideband.poll(flush=True)
    images = table.processes()[pid].images
    assert len(images) == 1
    assert images[0].mappings == table.mappings(os.getpid())
    assert files(images[0].mappings)


def test_mappings_made_later(table: ProcessTable, sideband: SideBand, tmp_path: Path) -> None:
    file = tmp_path / "two\nlines ; x"
    file.write_bytes(b"\x90" * mmap.PAGESIZE)
    table.see(os.getpid(), time.monotonic_ns())
    with open(file, "rb") as stream:
        mapped = mmap.mmap(
            stream.fileno(), mmap.PAGESIZE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC
        )
    with mapped:
        sideband.poll(flush=True)
        found = [m for m in table.mappings(os.getpid()) if m.path == str(file)]
        shown = [m for m in maps.read_mappings(os.getpid()) if m.path == str(file)]
    assert len(found) == len(shown) == 1
    assert (found[0].start, found[0].end) == (shown[0].start, shown[0].end)
    assert found[0].file is not None
    assert found[0].file.inode == file.stat().st_ino


def test_memory_made_executable(table: ProcessTable, sideband: SideBand) -> None:
    """What just-in-time compilers do: anonymous memory that becomes executable by mprotect."""
    table.see(os.getpid(), time.monotonic_ns())
    libc = ctypes.CDLL(None, use_errno=True)
    with mmap.mmap(-1, mmap.PAGESIZE) as memory:
        handle = ctypes.c_char.from_buffer(memory)
        address = ctypes.addressof(handle)
        assert libc.mprotect(ctypes.c_void_p(address), mmap.PAGESIZE, 5) == 0
        sideband.poll(flush=True)
        found = [m for m in table.mappings(os.getpid()) if m.start <= address < m.end]
        del handle
    assert len(found) == 1
    assert "zero" in found[0].path or found[0].path == ""


def test_order_across_cpus(table: ProcessTable, sideband: SideBand) -> None:
    """A chain of execs that hops between CPUs ends as the last program, images in order."""
    script = 'i=0; while [ $i -lt 5 ]; do taskset -c $((i % 2)) true; i=$((i+1)); done; exec "$0"'
    child = subprocess.Popen(["sh", "-c", script, TRUE])
    child.wait()
    sideband.poll(flush=True)
    process = table.processes()[child.pid]
    assert process.comm == "true"
    since = [image.since for image in process.images]
    assert since == sorted(since)
    assert TRUE in files(process.images[-1].mappings)


def test_young_records_wait_unless_flushed(table: ProcessTable, sideband: SideBand) -> None:
    pid = spawn(TRUE)
    os.waitpid(pid, 0)
    sideband.poll()
    sideband.poll(flush=True)
    assert table.processes()[pid].comm == "true"


def test_following_a_target_and_its_children_only() -> None:
    table = ProcessTable({os.getpid()})
    with SideBand(table, cpus()) as band:
        shell = subprocess.run(
            ["sh", "-c", f"{TRUE}; {TRUE} & wait; echo $$"], stdout=subprocess.PIPE, check=True
        )
        band.poll(flush=True)
    found = table.processes()
    assert int(shell.stdout) in found
    assert sum(process.comm == "true" for process in found.values()) == 2
    assert 1 not in found


def test_callbacks_come_in_order_and_in_time_to_pin(tmp_path: Path) -> None:
    copy = tmp_path / "short"
    shutil.copy(TRUE, copy)
    table = ProcessTable()
    events: list[tuple[str, int]] = []
    with FileStore(table.shares_our_files) as store:

        def on_mapping(tgid: int, mapping: Mapping) -> None:
            events.append(("mapping", tgid))
            store.pin(tgid, mapping)

        with SideBand(
            table,
            cpus(),
            on_process=lambda tgid: events.append(("process", tgid)),
            on_exec=lambda tgid: events.append(("exec", tgid)),
            on_mapping=on_mapping,
        ) as band:
            pid = spawn(str(copy))
            os.waitpid(pid, 0)
            band.poll(flush=True)
        copy.unlink()
        mine = [what for what, tgid in events if tgid == pid]
        assert mine[:3] == ["process", "exec", "mapping"]
        mapping = next(m for m in table.mappings(pid) if m.path == str(copy))
        descriptor = store.open(pid, mapping)
        assert descriptor is not None
        assert os.fstat(descriptor).st_nlink == 0
        os.close(descriptor)


def test_files_of_a_snapshot_are_told_too() -> None:
    table = ProcessTable()
    told: set[tuple[int, Mapping]] = set()
    with SideBand(table, cpus(), on_mapping=lambda *what: told.add(what)):
        table.see(os.getpid(), time.monotonic_ns())
    assert {(os.getpid(), mapping) for mapping in table.mappings(os.getpid())} <= told
    assert table.on_snapshot is None


@pytest.mark.parametrize("tells_lost", [True, False])
def test_a_full_ring_is_counted_and_recovered_from(tells_lost: bool) -> None:
    table = ProcessTable()
    with SideBand(table, cpus(), pages=1) as band:
        band._tells_lost = band._tells_lost and tells_lost
        for _ in range(60):
            os.waitpid(spawn(TRUE), 0)
        child = subprocess.Popen(["sleep", "100"])
        try:
            time.sleep(0.1)
            table.exec(child.pid, 1, "lost")  # as if all its mappings had been lost
            band.poll()
            for cpu in cpus():  # LOST records come with the next record on the same CPU
                subprocess.run(["taskset", "-c", str(cpu), TRUE], check=True)
            band.poll(flush=True)
            assert band.lost > 0
            table.recover(time.monotonic_ns())  # poll() does so once a second
            shown = {m.path for m in maps.read_mappings(child.pid)}
            assert {m.path for m in table.mappings(child.pid)} == shown
        finally:
            child.kill()
            child.wait()


def test_descriptors_become_readable_when_half_full() -> None:
    import select

    with SideBand(ProcessTable(()), cpus(), pages=1) as band:
        poll = select.poll()
        for descriptor in band.descriptors():
            poll.register(descriptor, select.POLLIN)
        for _ in range(20):
            os.waitpid(spawn(TRUE), 0)
        assert poll.poll(1000)


def test_nothing_is_left_open() -> None:
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with SideBand(ProcessTable(()), cpus()) as band:
            band.poll()
    assert set(os.listdir("/proc/self/fd")) == before
