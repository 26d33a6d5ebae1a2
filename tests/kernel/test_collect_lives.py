"""Threads and processes that come, go and change within the window: everybody, once, in full."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from systemscope.model import Capture, Gap, State
from tests.kernel.collecting import (
    WAYS,
    check_identity,
    entries_of,
    profile,
    share,
    threads_of,
    wait_until,
)

pytestmark = pytest.mark.kernel

#: The cheapest way, the portable one, and the oldest.
MAIN_WAYS = ("all", "no batch", "4.9")


@pytest.fixture(params=MAIN_WAYS)
def way(request: pytest.FixtureRequest) -> frozenset[str]:
    return WAYS[request.param]


@contextmanager
def child(source: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A Python process that says "ready" and goes on when told to by a line."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", source, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


_THREADS = """
import sys, threading, time
print("ready", flush=True)
sys.stdin.readline()
for _ in range(40):
    one = threading.Thread(target=time.sleep, args=(0.003,))
    one.start()
    one.join()
time.sleep(60)
"""


def test_threads_born_and_ended_within(way: frozenset[str]) -> None:
    with child(_THREADS) as process:
        capture = profile(1.0, lambda: go(process), pids=(process.pid,), disabled=way)
    check_identity(capture)
    own = [t for t in capture.threads if t.tgid == process.pid]
    short = [t for t in own if t.born and t.died]
    assert len(own) == 41 and len(short) == 40
    for thread in short:
        assert thread.elapsed >= 3_000_000
    slept = [t for t in short if t.time.get(State.SLEEPING, 0) > 1_000_000]
    assert len(slept) > 20  # on a busy machine some come to sleep only when it is over
    assert any(e.gap is Gap.NEW_THREAD for t in short for e in entries_of(capture, t))


_SPAWN = """
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
def last_pid_restored() -> Iterator[None]:
    """The kernel goes on numbering where it was."""
    path = Path("/proc/sys/kernel/ns_last_pid")
    before = int(path.read_text())
    try:
        yield
    finally:
        path.write_text(str(before))


def test_forks_without_exec_are_all_there(way: frozenset[str]) -> None:
    count = 200
    with child(_SPAWN, count) as process:
        capture = profile(1.5, lambda: go(process), pids=(process.pid,), disabled=way)
    check_identity(capture)
    born = [t for t in capture.threads if t.born]
    assert len(born) == count and all(t.died for t in born)
    assert {t.tid for t in born} == {t.tgid for t in born}
    assert not capture.losses.exits_table_full


_REUSE = """
import os, sys
print("ready", flush=True)
sys.stdin.readline()
def burn(n):
    for _ in range(n * 20000): pass
last = open("/proc/sys/kernel/ns_last_pid", "r+b", buffering=0)
wanted = int(sys.argv[1])
for turn in range(6):
    for _ in range(50):
        last.seek(0)
        last.write(str(wanted - 1).encode())
        pid = os.fork()
        if not pid:
            if os.getpid() == wanted: burn(10)
            os._exit(0)
        os.waitpid(pid, 0)
        if pid == wanted: break
sys.stdin.readline()
"""


def test_one_tid_used_again_and_again_is_many_threads(way: frozenset[str]) -> None:
    wanted = 20_011
    while os.path.exists(f"/proc/{wanted}"):
        wanted += 1
    with last_pid_restored(), child(_REUSE, wanted) as process:
        capture = profile(1.5, lambda: go(process), pids=(process.pid,), disabled=way)
    check_identity(capture)
    lives = threads_of(capture, wanted)
    assert len(lives) == 6
    for before, after in zip(lives, lives[1:]):
        assert before.died and after.born and before.end <= after.begin
    assert all(life.time.get(State.RUNNING, 0) > 0 for life in lives)


_EXEC = """
import os, sys, threading, time
print("ready", flush=True)
sys.stdin.readline()
def become():
    time.sleep(0.3)
    os.execv("/bin/sleep", ["/bin/sleep", "60"])
if sys.argv[1] == "leader": become()
threading.Thread(target=become).start()
while True: time.sleep(0.001)
"""


@pytest.mark.parametrize("wide", [False, True], ids=["pid", "system"])
@pytest.mark.parametrize("who", ["leader", "thread"])
def test_exec(way: frozenset[str], who: str, wide: bool) -> None:
    with child(_EXEC, who) as process:
        pids = () if wide else (process.pid,)
        capture = profile(1.5, lambda: go(process), pids=pids, disabled=way)
    check_identity(capture)
    own = [t for t in capture.threads if t.tgid == process.pid]
    lives = threads_of(capture, process.pid)
    if who == "leader":
        assert len(own) == len(lives) == 1
    else:
        assert len(own) == 3 and len(lives) == 2
        assert lives[0].died and lives[0].end <= lives[1].begin
        assert not lives[1].died
        other = next(t for t in own if t.tid != process.pid)
        assert other.born and other.died
        assert other.time.get(State.SLEEPING, 0) >= 290_000_000
    assert lives[-1].comm == "sleep" and lives[-1].end == capture.end
    assert capture.processes[process.pid].comm == "sleep"
    _check_images(capture, process.pid)


def _check_images(capture: Capture, tgid: int) -> None:
    """Addresses are valid in the image that lived at their entry's time."""
    images = capture.processes[tgid].images
    assert len(images) == 2, images
    seen = set()
    for entry in capture.entries:
        stack = capture.stacks[entry.stack]
        if capture.threads[entry.thread].tgid != tgid or not stack.user:
            continue
        number = 1 if entry.time >= images[1].since else 0
        mappings = images[number].mappings + images[number].replaced
        found = [m for m in mappings if m.start <= stack.user[0] < m.end]
        assert found, (number, hex(stack.user[0]))
        seen.add(number)
    assert 1 in seen, "the new image's sleep has a user stack"


_COMMAND = """
import subprocess, sys
print("ready", flush=True)
sys.stdin.readline()
subprocess.run(["/bin/sleep", "0.2"], close_fds=False)
sys.stdin.readline()
"""


def test_a_command_started_within_is_followed(way: frozenset[str]) -> None:
    with child(_COMMAND) as process:
        capture = profile(1.5, lambda: go(process), pids=(process.pid,), disabled=way)
    check_identity(capture)
    (sleeper,) = (t for t in capture.threads if t.comm == "sleep")
    assert sleeper.born and sleeper.died
    assert 200_000_000 <= sleeper.time[State.SLEEPING] <= sleeper.elapsed
    assert capture.processes[sleeper.tgid].images


_PAUSED = """
import sys, time
print("ready", flush=True)
if sys.argv[1] == "burn":
    while True: pass
time.sleep(60)
"""


def test_a_process_killed_within(way: frozenset[str]) -> None:
    with child(_PAUSED, "burn") as process:

        def kill() -> None:
            threading.Timer(0.3, process.kill).start()

        capture = profile(5, kill, pids=(process.pid,), disabled=way)
    check_identity(capture)
    assert capture.ended_by == "exit of the last target"
    (thread,) = threads_of(capture, process.pid)
    assert thread.died and thread.time[State.RUNNING] > 0
    assert share(thread, State.RUNNING, State.RUNNABLE) > 0.95


_ZOMBIE = """
import sys, threading, time, ctypes
def stay():
    print("ready", flush=True)
    time.sleep(60)
threading.Thread(target=stay).start()
ctypes.CDLL(None).syscall(60, 0)
"""


def test_a_zombie_leader_is_no_thread_but_its_threads_are(way: frozenset[str]) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the workload calls exit by its x86-64 number")
    with child(_ZOMBIE) as process:
        status = Path(f"/proc/{process.pid}/stat")
        wait_until(lambda: ") Z " in status.read_text())
        capture = profile(0.5, pids=(process.pid,), disabled=way)
    check_identity(capture)
    (thread,) = (t for t in capture.threads if t.tgid == process.pid)
    assert thread.tid != process.pid and share(thread, State.SLEEPING) == 1


def test_a_stopped_thread(way: frozenset[str]) -> None:
    with child(_PAUSED, "burn") as process:
        process.send_signal(signal.SIGSTOP)
        capture = profile(0.5, pids=(process.pid,), disabled=way)
        (thread,) = threads_of(capture, process.pid)
        assert share(thread, State.STOPPED) == 1

        def stop() -> None:
            threading.Timer(0.3, process.send_signal, (signal.SIGSTOP,)).start()

        process.send_signal(signal.SIGCONT)
        capture = profile(0.9, stop, pids=(process.pid,), disabled=way)
    check_identity(capture)
    (thread,) = threads_of(capture, process.pid)
    assert share(thread, State.STOPPED) > 0.3
    assert share(thread, State.STOPPED, State.RUNNING, State.RUNNABLE) > 0.98


def test_a_traced_thread(way: frozenset[str]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    seize, interrupt = 0x4206, 0x4207

    def ptrace(request: int, pid: int) -> None:
        assert libc.ptrace(request, pid, None, None) == 0, os.strerror(ctypes.get_errno())

    with child(_PAUSED, "burn") as process:
        ptrace(seize, process.pid)
        ptrace(interrupt, process.pid)
        os.waitpid(process.pid, 0x40000000)  # __WALL
        capture = profile(0.5, pids=(process.pid,), disabled=way)
        check_identity(capture)
        (thread,) = threads_of(capture, process.pid)
        assert share(thread, State.TRACED) == 1


_UNINTERRUPTIBLE = """
import ctypes, os, sys, threading, time
os.write(1, b"ready\\n")
libc = ctypes.CDLL(None)
os.posix_spawn  # vfork's child holds its parent in an uninterruptible sleep until it execs
os.mkfifo(sys.argv[1])
actions = [(os.POSIX_SPAWN_OPEN, 9, sys.argv[1], os.O_RDONLY, 0)]
os.posix_spawn("/bin/true", ["/bin/true"], {}, file_actions=actions)
time.sleep(60)
"""


def test_a_vforks_parent_sleeps_uninterruptibly(way: frozenset[str], tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    with child(_UNINTERRUPTIBLE, fifo) as process:
        status = Path(f"/proc/{process.pid}/stat")
        wait_until(lambda: ") D " in status.read_text())
        capture = profile(0.5, pids=(process.pid,), disabled=way)
        os.close(os.open(fifo, os.O_WRONLY))
    check_identity(capture)
    (parent,) = threads_of(capture, process.pid)
    assert share(parent, State.DISK) == 1
    (entry,) = entries_of(capture, parent)
    assert entry.gap is None


def test_kernel_threads_and_ourselves(way: frozenset[str]) -> None:
    """System-wide: the kernel's threads are there, this process, newborn threads too, is not."""
    done = threading.Event()

    def start() -> None:
        threading.Thread(target=done.wait, args=(5,)).start()

    try:
        capture = profile(0.6, start, disabled=way)
    finally:
        done.set()
    check_identity(capture)
    assert not [t for t in capture.threads if t.tgid == os.getpid()]
    kernel = {p.tgid for p in capture.processes.values() if p.kernel}
    (kthreadd,) = threads_of(capture, 2)
    assert kthreadd.tgid in kernel and kthreadd.comm == "kthreadd"
    assert len({t.tid for t in capture.threads if not t.died}) == len(
        [t for t in capture.threads if not t.died]
    )


_BURN = """
import os, sys, time
print("ready", flush=True)
sys.stdin.readline()
for _ in range(100):
    pid = os.fork()
    if not pid:
        end = time.process_time() + 0.005
        while time.process_time() < end: pass
        os._exit(0)
    os.waitpid(pid, 0)
print("done", flush=True)
sys.stdin.readline()
"""


def test_short_processes_lose_no_time(way: frozenset[str]) -> None:
    with child(_BURN) as process:
        done: list[Any] = []

        def start() -> None:
            go(process)
            assert process.stdout is not None
            done.append(threading.Thread(target=process.stdout.readline))
            done[0].start()

        capture = profile(
            60, start, lambda: not done[0].is_alive(), pids=(process.pid,), disabled=way
        )
    check_identity(capture)
    born = [t for t in capture.threads if t.born and t.died]
    assert len(born) == 100
    for thread in born:
        missed = thread.time.get(State.UNKNOWN, 0)  # shown as such, never dropped
        assert thread.time.get(State.RUNNING, 0) + missed >= 4_500_000
        assert not missed or capture.losses.switches_missed
    assert time.monotonic_ns() > capture.end


@pytest.mark.parametrize("chosen", [True, False])
def test_only_the_cpus_asked_for(way: frozenset[str], chosen: bool) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("needs two CPUs")
    with child(_PAUSED, "burn") as process:
        os.sched_setaffinity(process.pid, {cpus[0]})
        time.sleep(0.05)
        wanted = (cpus[0] if chosen else cpus[1],)
        capture = profile(0.8, pids=(process.pid,), cpus=wanted, disabled=way)
    check_identity(capture)
    (thread,) = threads_of(capture, process.pid)
    if chosen:
        assert share(thread, State.RUNNING, State.RUNNABLE, State.UNKNOWN) > 0.98
    else:
        assert thread.time.get(State.RUNNING, 0) == 0 and capture.samples == 0
