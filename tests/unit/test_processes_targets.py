"""Finding targets: every wrong one has its own sentence and remedy."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from systemscope.errors import TargetError
from systemscope.processes import proc, targets
from systemscope.processes.targets import Targets, TargetWatch, resolve


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(["sleep", "100"])
    # exec closes our pipe, which lets Popen return, a moment before it sets the name.
    deadline = time.monotonic() + 10
    while proc.comm(child.pid) != "sleep" and time.monotonic() < deadline:
        time.sleep(0.001)
    yield child
    child.kill()
    child.wait()


@pytest.fixture
def own_thread() -> Iterator[int]:
    done = threading.Event()
    ready = threading.Event()
    tids: list[int] = []

    def wait() -> None:
        tids.append(threading.get_native_id())
        ready.set()
        done.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    ready.wait()
    yield tids[0]
    done.set()
    thread.join()


def test_a_process_and_a_thread(sleeper: subprocess.Popen[bytes]) -> None:
    pid = sleeper.pid
    assert resolve(pids=[pid]) == Targets((pid,), (pid,), ())
    assert resolve(tids=[pid]) == Targets((), (pid,), (pid,))
    assert resolve(pids=[pid], tids=[pid]) == Targets((pid,), (pid,), ())
    assert resolve() == Targets()


def test_no_such_process() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    for pid in (child.pid, 0, -5, 2**31):
        with pytest.raises(TargetError, match=f"process {pid} does not exist") as caught:
            resolve(pids=[pid])
        assert "ps" in caught.value.remedy
        with pytest.raises(TargetError, match=f"thread {pid} does not exist"):
            resolve(tids=[pid])


def test_a_zombie_has_ended() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    try:
        with pytest.raises(TargetError, match="has ended"):
            resolve(pids=[child.pid])
    finally:
        child.wait()


def test_a_thread_is_no_process(own_thread: int) -> None:
    with pytest.raises(TargetError, match=f"{own_thread} is a thread of process") as caught:
        resolve(pids=[own_thread])
    assert f"--tid {own_thread}" in caught.value.remedy
    assert f"--pid {os.getpid()}" in caught.value.remedy


def test_not_ourselves(own_thread: int) -> None:
    with pytest.raises(TargetError, match="SystemScope itself"):
        resolve(pids=[os.getpid()])
    with pytest.raises(TargetError, match="SystemScope's own"):
        resolve(tids=[own_thread])


def test_by_name(sleeper: subprocess.Popen[bytes]) -> None:
    assert sleeper.pid in resolve(comm="sle?p").tgids
    assert sleeper.pid in resolve(comm="slee[op]").tgids
    with pytest.raises(TargetError, match="no process or thread is named 'no such name'"):
        resolve(comm="no such name")


def test_a_thread_by_its_name() -> None:
    code = (
        "import threading,time,sys\n"
        "t=threading.Thread(target=time.sleep,args=(100,),daemon=True); t.start()\n"
        "open(f'/proc/self/task/{t.native_id}/comm','w').write('odd-thread-7')\n"
        "print(t.native_id, flush=True); time.sleep(100)\n"
    )
    child = subprocess.Popen(["python3", "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    try:
        tid = int(child.stdout.readline())
        assert resolve(comm="odd-thread-*") == Targets((), (tid,), (tid,))
        assert resolve(pids=[child.pid]).tids == (child.pid, tid)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


@pytest.fixture
def cgroups(tmp_path: Path) -> Path:
    """A cgroup v1 file system as files: two hierarchies, one with nested groups."""
    for directory, procs in {
        "unified": "",
        "unified/jobs": "",
        "cpu": "",
        "cpu/web": "11\n12\n",
        "cpu/web/inner": "13\n0\n",
    }.items():
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "cgroup.procs").write_text(procs)
    (tmp_path / "outside").symlink_to("/etc")
    return tmp_path


def test_cgroup_paths(cgroups: Path) -> None:
    root = str(cgroups)
    web = f"{root}/cpu/web"
    for path in (web, "cpu/web", "/cpu/web", "web", "/web", "web/", f"{web}/inner/.."):
        assert targets.cgroup_directory(path, root) == web
    assert targets.cgroup_directory("jobs", root) == f"{root}/unified/jobs"
    for path in ("nope", "../../etc", "outside", "/etc", "web/../../../.."):
        with pytest.raises(TargetError, match="no control group"):
            targets.cgroup_directory(path, root)
    with pytest.raises(TargetError, match="not mounted"):
        targets.cgroup_directory("web", root + "/none")


def test_cgroup_members_with_those_below(cgroups: Path) -> None:
    assert targets.cgroup_members(f"{cgroups}/cpu/web") == {11, 12, 13}
    assert targets.cgroup_members(f"{cgroups}/unified") == set()


def test_a_missing_cgroup() -> None:
    with pytest.raises(TargetError, match=r"control group"):
        resolve(cgroup="systemscope-has-no-such-group")


@pytest.mark.parametrize("descriptors", [0, 256])
def test_watch_until_the_last_is_gone(
    descriptors: int, monkeypatch: pytest.MonkeyPatch, sleeper: subprocess.Popen[bytes]
) -> None:
    monkeypatch.setattr(TargetWatch, "MAX_DESCRIPTORS", descriptors)
    other = subprocess.Popen(["sleep", "100"])
    with TargetWatch([sleeper.pid], [other.pid]) as watch:
        assert not watch.all_gone()
        sleeper.kill()
        sleeper.wait()
        assert not watch.all_gone()
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert watch.all_gone()  # a zombie is gone
        other.wait()
        assert watch.all_gone()
        assert not watch.add(other.pid)
    assert watch.descriptors() == ()


def test_watch_of_nothing() -> None:
    with TargetWatch() as watch:
        assert watch.all_gone()


@pytest.mark.parametrize("descriptors", [0, 256])
def test_a_process_outlives_its_first_thread(
    descriptors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TargetWatch, "MAX_DESCRIPTORS", descriptors)
    code = (
        "import ctypes,threading,time\n"
        "threading.Thread(target=time.sleep,args=(100,)).start()\n"
        "print('up', flush=True); ctypes.CDLL(None).pthread_exit(None)\n"
    )
    child = subprocess.Popen(["python3", "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    try:
        with TargetWatch([child.pid]) as watch:
            for _ in range(200):
                about = proc.stat(child.pid)
                if about is not None and about.state == "Z":
                    break
                threading.Event().wait(0.01)
            assert not watch.all_gone()
            child.kill()
            child.wait()
            assert watch.all_gone()
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
