"""The kernel's delay accounting beside our own: the same waits counted twice."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

import pytest

from systemscope.collectors import delays as collector
from systemscope.errors import SystemScopeError
from systemscope.kernel.btf import KernelBtf
from systemscope.model import Capture, DelayKind, State, Thread
from systemscope.processes import proc, taskstats
from systemscope.processes.taskstats import TaskStats
from systemscope.processes.taskstats_abi import TASKSTATS, TASKSTATS_15, fields_of
from tests.kernel.collecting import profile, share, threads_of, wait_until

pytestmark = pytest.mark.kernel

SWITCH = Path("/proc/sys/kernel/task_delayacct")
REPOSITORY = Path(__file__).resolve().parents[2]
TOLERANCE = 0.01  # of the window
LEAVING_NS = 100_000  # from the decision to block to sched_switch, at most
MEMORY_LIMIT = 32 << 20

#: Write and read back past the page cache.
DIRECT = """
import mmap, os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_DIRECT)
page = mmap.mmap(-1, 1 << 20)
while True:
    os.pwrite(file, page, 0)
    os.fsync(file)
    os.preadv(file, [page], 0)
"""
#: Copy pages that a child shares.
COPY = """
import mmap, os
memory = mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
while True:
    child = os.fork()
    if child == 0:
        os._exit(0)
    for at in range(0, len(memory), 4096):
        memory[at] = 1
    os.waitpid(child, 0)
"""
#: More page cache than the control group may hold, all of it charged to the group.
RECLAIM = """
import os, sys
open(sys.argv[2], "w").write(str(os.getpid()))
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
chunk = os.urandom(1 << 20)
while True:
    for at in range(96):
        os.pwrite(file, chunk, at << 20)
    os.fsync(file)
    for at in range(96):
        os.pread(file, 1 << 20, at << 20)
"""


@pytest.fixture(autouse=True)
def accounts() -> None:
    """Skip, or fail where the kernel is insisted on, without delay accounts."""
    try:
        with TaskStats() as stats:
            missing = "" if stats.counts else "this kernel keeps no delay accounts"
    except SystemScopeError as error:
        missing = str(error)
    if missing:
        refuse(missing)


def refuse(reason: str) -> None:
    if os.environ.get("SYSTEMSCOPE_REQUIRE_KERNEL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def switched(value: str) -> Iterator[None]:
    """kernel.task_delayacct as ``value`` for a while; left alone before Linux 5.14."""
    before = SWITCH.read_text() if SWITCH.exists() else None
    try:
        if before is not None:
            SWITCH.write_text(value)
        yield
    finally:
        if before is not None:
            SWITCH.write_text(before)


@pytest.fixture
def counting() -> Iterator[None]:
    with switched("1"):
        yield


@contextmanager
def running(code: str, *arguments: object) -> Iterator[int]:
    """A Python program; yields its pid."""
    child = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)])
    try:
        time.sleep(0.3)
        assert child.poll() is None, "the workload ended early"
        yield child.pid
    finally:
        child.kill()
        child.wait()


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A file on a block device."""
    for directory in (Path("/var/tmp"), REPOSITORY, Path.home()):
        number = os.stat(directory).st_dev
        if Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").exists():
            path = directory / f"systemscope-delays-{os.getpid()}"
            yield path
            path.unlink(missing_ok=True)
            return
    refuse("there is no file system on a block device here")


def ns(thread: Thread, kind: DelayKind) -> int:
    assert thread.delays is not None
    return thread.delays[kind].nanoseconds


def only(capture: Capture, tid: int) -> Thread:
    (found,) = threads_of(capture, tid)
    assert found.delays is not None, capture.notes
    return found


# -- the struct


def test_the_struct_lies_as_the_running_kernel_says() -> None:
    btf = KernelBtf.open()
    if btf is None:
        pytest.skip("this kernel has no BTF")
    with btf, TaskStats() as stats:
        ((version, length),) = stats._fields
        layout = TASKSTATS_15 if version == 15 else TASKSTATS
        compared = 0
        for name, field in layout.fields.items():
            member = btf.member("taskstats", name)
            if member is not None:
                assert (member.offset, member.size) == (field.offset, field.size), name
                compared += 1
        assert btf.size("taskstats") == length
        fields = fields_of(version, length)
    assert compared >= 40
    assert fields is not None
    assert DelayKind.CPU in fields.kinds


def test_the_scheduler_sums_are_those_of_schedstat() -> None:
    """Read of a thread that sleeps, so that they stand still."""
    with subprocess.Popen(["sleep", "60"]) as child, TaskStats() as stats:
        time.sleep(0.1)
        account = stats.read([child.pid])[child.pid]
        expected = proc.schedstat(child.pid)
        child.kill()
    assert expected is not None
    assert (account.values[1], account.values[0]) == (expected[1], expected[2])
    assert account.age > 0


def test_many_queries_at_once_and_threads_that_are_gone() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    tids = [tid for tgid in proc.list_tgids() for tid in proc.list_tids(tgid)]
    with TaskStats() as stats:
        found = stats.read([*tids, child.pid, *tids])
    assert child.pid not in found
    assert os.getpid() in found
    assert len(found) >= len(set(tids)) * 0.9
    assert all(account.tid == tid for tid, account in found.items())


# -- beside our own clock


def test_waits_for_a_cpu_agree_with_ours_and_schedstat() -> None:
    """Three burners on one CPU. schedstat is read around the window, so it bounds from above."""
    burner = "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nwhile True: pass"
    with switched("0"), running(burner) as a, running(burner) as b, running(burner) as c:
        before = {pid: proc.schedstat(pid) for pid in (a, b, c)}
        capture = profile(3, pids=(a, b, c), delays=True)
        after = {pid: proc.schedstat(pid) for pid in (a, b, c)}
    window = capture.end - capture.start
    for pid in (a, b, c):
        thread = only(capture, pid)
        first, last = before[pid], after[pid]
        assert first is not None
        assert last is not None
        told, ours = ns(thread, DelayKind.CPU), thread.time[State.RUNNABLE]
        print(f"delay {told / window:.4f}, runnable {ours / window:.4f} of the window")
        assert share(thread, State.RUNNABLE) > 0.2
        # Each of both ends may cut a wait that the kernel adds as it is over.
        assert abs(told - ours) <= 2 * TOLERANCE * window
        assert told <= last[1] - first[1]
        assert thread.delays is not None
        assert thread.delays[DelayKind.CPU].count <= last[2] - first[2]
        assert set(thread.delays) == {DelayKind.CPU}
    assert any("kernel.task_delayacct=1" in note for note in capture.notes) == SWITCH.exists()


def test_block_io_is_most_of_the_time_in_disk_sleep(counting: None, on_disk: Path) -> None:
    with running(DIRECT, on_disk) as pid:
        capture = profile(2, pids=(pid,), delays=True)
    thread = only(capture, pid)
    told, disk = ns(thread, DelayKind.BLOCK_IO), thread.time.get(State.DISK, 0)
    print(f"block I/O {told / 1e6:.1f} ms, disk sleep {disk / 1e6:.1f} ms, {thread.delays}")
    assert thread.delays is not None
    waits = thread.delays[DelayKind.BLOCK_IO].count
    assert waits > 10
    # Journal locks are disk sleep too, but no I/O of the thread's own. The kernel starts its clock
    # before it looks for the next thread to run, which may take longer than the switch itself.
    leaving = min(thread.time[State.RUNNING], waits * LEAVING_NS)
    assert 0.3 * disk <= told <= disk + leaving + TOLERANCE * thread.elapsed
    assert not any("task_delayacct" in note for note in capture.notes)


def test_page_copies_are_counted(counting: None) -> None:
    with running(COPY) as pid:
        capture = profile(1, pids=(pid,), delays=True)
    thread = only(capture, pid)
    assert thread.delays is not None
    if DelayKind.COPY not in thread.delays:
        pytest.skip("this kernel does not count page copies (before 5.19)")
    copies = thread.delays[DelayKind.COPY]
    assert copies.count > 1000
    assert 0 < copies.nanoseconds < thread.time[State.RUNNING]


def test_reclaim_shows_under_a_memory_limit(counting: None, on_disk: Path) -> None:
    with memory_limit(MEMORY_LIMIT) as group, running(RECLAIM, on_disk, group) as pid:
        capture = profile(3, pids=(pid,), delays=True)
    thread = only(capture, pid)
    assert thread.delays is not None
    reclaim = thread.delays[DelayKind.RECLAIM]
    print(f"{thread.delays}")
    assert reclaim.count > 10
    assert 0 < reclaim.nanoseconds <= thread.elapsed


@contextmanager
def memory_limit(limit: int) -> Iterator[Path]:
    """A control group of either version; yields the file that a process joins it by."""
    for root, file in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
        group = Path("/sys/fs/cgroup", root, f"systemscope-delays-{os.getpid()}")
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / file).exists():
            break
        group.rmdir()
    else:
        refuse("there is no memory controller here")
    try:
        (group / file).write_text(str(limit))
        yield group / "cgroup.procs"
    finally:
        _remove(group)


def _remove(group: Path) -> None:
    for _ in range(100):  # its last process may still be on its way out
        try:
            return group.rmdir()
        except OSError:
            time.sleep(0.05)
    return group.rmdir()


# -- threads that come and go


@contextmanager
def short_lives(count: int) -> Iterator[int]:
    """A shell that soon starts ``count`` processes one after the other, then sleeps; its pid."""
    loop = f"i=0; while [ $i -lt {count} ]; do /bin/true; i=$((i+1)); done"
    child = subprocess.Popen(["sh", "-c", f"sleep 0.7; {loop}; exec sleep 60"])
    try:
        yield child.pid
    finally:
        child.kill()
        child.wait()


def test_threads_that_ended_have_theirs() -> None:
    with short_lives(300) as pid:
        capture = profile(4, pids=(pid,), delays=True)
    died = [thread for thread in capture.threads if thread.died]
    assert len(died) >= 300
    assert capture.losses.delays_lost <= len(died) * 0.01
    told = [thread for thread in died if thread.delays is not None]
    assert len(told) == len(died) - capture.losses.delays_lost
    waited = sum(ns(thread, DelayKind.CPU) for thread in told)
    ours = sum(thread.time.get(State.RUNNABLE, 0) for thread in told)
    print(f"delays {waited / 1e6:.1f} ms, runnable {ours / 1e6:.1f} ms of {len(told)} threads")
    assert abs(waited - ours) <= 0.25 * max(waited, ours) + 5_000_000


def test_accounts_without_room_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the smallest buffer and few looks at it the kernel must drop some."""
    monkeypatch.setattr(taskstats, "EXIT_BUFFER", 2304)
    with short_lives(300) as pid:
        capture = profile(3, pids=(pid,), delays=True)
    died = [thread for thread in capture.threads if thread.died]
    missing = sum(thread.delays is None for thread in died)
    assert capture.losses.delays_lost == missing > 0


def test_system_wide_every_living_thread_has_theirs() -> None:
    capture = profile(1, delays=True)
    living = [thread for thread in capture.threads if not thread.died]
    told = [thread for thread in living if thread.delays is not None]
    assert len(told) >= 0.98 * len(living)


def test_late_targets_begin_when_they_are_found() -> None:
    """A process that begins to match in mid-window does not bring its past along."""
    code = (
        "import os, time\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "name = open('/proc/self/comm', 'w')\nend = time.time() + 2\n"
        "while time.time() < end: pass\nname.write('late-one'); name.flush()\nwhile True: pass"
    )
    idle = "import time\nopen('/proc/self/comm', 'w').write('late-zero')\ntime.sleep(60)"
    with running(code) as a, running(code) as b, running(idle) as c:
        wait_until(lambda: proc.comm(c) == "late-zero")
        capture = profile(4, comm="late-*", delays=True)
    for pid in (a, b):
        thread = only(capture, pid)
        assert thread.begin > capture.start
        assert abs(ns(thread, DelayKind.CPU) - thread.time[State.RUNNABLE]) <= 0.05 * thread.elapsed


# -- where it cannot be had


def run_apart(*wrapper: str) -> list[str]:
    """The notes of a short window under ``wrapper``, and whether our sleeping target told."""
    code = (
        "import os, subprocess\nfrom tests.kernel.collecting import profile\n"
        "child = subprocess.Popen(['sleep', '9'])\n"
        "capture = profile(0.3, pids=(child.pid,), delays=True)\nchild.kill(); child.wait()\n"
        "print(capture.threads[0].delays is not None)\nprint(*capture.notes, sep='\\n')\n"
    )
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=REPOSITORY,
    )
    if done.returncode:
        refuse(f"{wrapper[0]} does not work here: {done.stderr[-300:]}")
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_without_the_capability_one_line_says_so() -> None:
    told, *notes = run_apart("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    assert told == "False"
    assert [n for n in notes if "no permission for taskstats" in n and "CAP_NET_ADMIN" in n]


def test_in_a_network_namespace_the_living_or_a_clear_line() -> None:
    told, *notes = run_apart("unshare", "--net")
    lines = [note for note in notes if "network namespace" in note]
    assert len(lines) == 1, notes
    assert told == "True" or "no delays" in lines[0]


def test_nothing_is_left_open_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: TaskStats) -> Optional[bool]:
        raise SystemScopeError("no")

    monkeypatch.setattr(TaskStats, "_hears", fail)
    with collector.Delays(True) as delays:
        assert any("threads that ended" in note for note in delays.notes)
    monkeypatch.setattr(TaskStats, "_find_family", fail)
    with collector.Delays(True) as delays:
        assert delays.notes == ["no delays: no"]
