"""Targets and files that need root: cgroups, mount and PID namespaces, deleted files."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from systemscope.errors import TargetError
from systemscope.model import Mapping
from systemscope.processes import maps, proc, targets
from systemscope.processes.files import FileStore
from systemscope.processes.table import ProcessTable

pytestmark = pytest.mark.kernel

SLEEP = os.path.realpath(shutil.which("sleep") or "/bin/sleep")


@contextmanager
def running(*argv: str, marker: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """A process; with ``marker``, once it has printed a line."""
    pipe = subprocess.PIPE if marker else None
    child = subprocess.Popen(argv, stdout=pipe, start_new_session=True)
    try:
        if child.stdout is not None:
            child.stdout.readline()
        else:
            time.sleep(0.1)
        yield child
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        if child.stdout is not None:
            child.stdout.close()


def mapped(tgid: int, path: str) -> Mapping:
    return next(m for m in maps.read_mappings(tgid) if m.path == path)


def content(descriptor: int | None) -> bytes:
    assert descriptor is not None
    try:
        return os.pread(descriptor, 1 << 20, 0)
    finally:
        os.close(descriptor)


def test_a_deleted_file_of_a_living_process(tmp_path: Path) -> None:
    copy = tmp_path / "app"
    shutil.copy(SLEEP, copy)
    with running(str(copy), "100") as child, FileStore() as store:
        before = mapped(child.pid, str(copy))
        copy.unlink()
        after = mapped(child.pid, str(copy))
        assert after.deleted
        for mapping in (before, after):
            assert content(store.open(child.pid, mapping)) == Path(SLEEP).read_bytes()


def test_a_replaced_file_is_read_as_it_was_mapped(tmp_path: Path) -> None:
    copy = tmp_path / "app"
    shutil.copy(SLEEP, copy)
    with running(str(copy), "100") as child, FileStore() as store:
        mapping = mapped(child.pid, str(copy))
        (tmp_path / "new").write_text("another program")
        (tmp_path / "new").replace(copy)
        assert content(store.open(child.pid, mapping)) == Path(SLEEP).read_bytes()


def test_a_deleted_file_pinned_before_its_process_died(tmp_path: Path) -> None:
    copy = tmp_path / "app"
    shutil.copy(SLEEP, copy)
    with FileStore() as store:
        with running(str(copy), "100") as child:
            mapping = mapped(child.pid, str(copy))
            copy.unlink()
            assert store.pin(child.pid, mapping)
        assert content(store.open(child.pid, mapping)) == Path(SLEEP).read_bytes()


def test_a_split_mapping_of_a_deleted_file(tmp_path: Path) -> None:
    """The record told of one mapping, /proc/PID/map_files knows two by now."""
    copy = tmp_path / "app"
    shutil.copy(SLEEP, copy)
    with running(str(copy), "100") as child, FileStore() as store:
        copy.unlink()
        real = mapped(child.pid, str(copy))
        told = Mapping(real.start - 4096, real.end, 0, real.path, real.file, True)
        assert content(store.open(child.pid, told)) == Path(SLEEP).read_bytes()


def test_another_mount_namespace(tmp_path: Path) -> None:
    """The same path means one file to the process and another, or none, to us."""
    script = (
        f"mount -t tmpfs none {tmp_path} && cp {SLEEP} {tmp_path}/app && echo up && "
        f"exec {tmp_path}/app 100"
    )
    (tmp_path / "app").write_text("ours, not theirs")
    try:
        with running("unshare", "-m", "sh", "-c", script, marker=True) as child:
            for _ in range(100):
                if proc.comm(child.pid) == "app":
                    break
                time.sleep(0.01)
            else:
                pytest.skip("mount namespaces are not to be had here")
            assert not proc.shares_our_files(child.pid)
            table = ProcessTable()
            table.see(child.pid, time.monotonic_ns())
            assert not table.shares_our_files(child.pid)
            with FileStore(table.shares_our_files) as store:
                mapping = mapped(child.pid, f"{tmp_path}/app")
                assert content(store.open(child.pid, mapping)) == Path(SLEEP).read_bytes()
                # By path alone, as where map_files is not allowed:
                odd = Mapping(1, 2, 0, mapping.path, mapping.file)
                assert content(store.open(child.pid, odd)) == Path(SLEEP).read_bytes()
                child.kill()
                child.wait()
                assert store.open(child.pid, mapping) is None
    except FileNotFoundError:
        pytest.skip("no unshare(1)")


def test_the_number_inside_a_pid_namespace() -> None:
    with running("unshare", "--pid", "--fork", "sleep", "100") as child:
        time.sleep(0.2)
        inner = [t for t in proc.list_tgids() if (s := proc.stat(t)) and s.ppid == child.pid]
        if not inner:
            pytest.skip("PID namespaces are not to be had here")
        assert proc.namespace_pid(inner[0]) == 1
        table = ProcessTable()
        table.see(inner[0], time.monotonic_ns())
        assert table.processes()[inner[0]].namespace_pid == 1


@contextmanager
def control_group(hierarchy: str) -> Iterator[Path]:
    path = Path(hierarchy) / "systemscope-test"
    try:
        (path / "inner").mkdir(parents=True)
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT):
            pytest.skip(f"no group can be made in {hierarchy}")
        raise
    try:
        yield path
    finally:
        for directory in (path / "inner", path):
            for _ in range(100):
                try:
                    directory.rmdir()
                    break
                except OSError:  # its processes are still ending
                    time.sleep(0.01)


def hierarchies() -> list[str]:
    return [
        where
        for where in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids")
        if os.path.exists(where + "/cgroup.procs")
    ]


@pytest.mark.parametrize("hierarchy", hierarchies())
def test_control_groups(hierarchy: str) -> None:
    with (
        control_group(hierarchy) as group,
        running("sleep", "100") as outer,
        running("sleep", "100") as inner,
    ):
        with pytest.raises(TargetError, match="no process is in control group"):
            targets.resolve(cgroup="systemscope-test")
        (group / "cgroup.procs").write_text(str(outer.pid))
        (group / "inner" / "cgroup.procs").write_text(str(inner.pid))
        for name in ("systemscope-test", "/systemscope-test", str(group)):
            assert targets.resolve(cgroup=name).tgids == tuple(sorted((outer.pid, inner.pid)))
        assert targets.resolve(cgroup="systemscope-test/inner").tids == (inner.pid,)
        if not hierarchy.endswith("pids"):
            assert proc.cgroup(inner.pid).endswith("/systemscope-test/inner")


def test_waiting_threads_tell_where() -> None:
    with running("sleep", "100") as child:
        assert any("nanosleep" in frame for frame in proc.kernel_stack(child.pid))
        registers = proc.syscall_registers(child.pid)
        assert registers is not None
        assert any(m.start <= registers[1] < m.end for m in maps.read_mappings(child.pid))
        about = proc.stat(child.pid)
        assert about is not None
        assert about.state == "S"
        assert proc.schedstat(child.pid) is not None


def test_kernel_threads_are_known_as_such() -> None:
    about = proc.stat(2)
    if about is None or about.comm != "kthreadd":
        pytest.skip("kernel threads are not in our PID namespace")
    table = ProcessTable()
    assert table.see(2, time.monotonic_ns())
    found = table.processes()[2]
    assert found.kernel
    assert found.images == []
