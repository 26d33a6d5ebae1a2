"""Wrappers about processes, memory, limits and mounts."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import select
import signal
import subprocess
import sys

import pytest

from systemscope.errors import KernelError
from systemscope.syscalls.memory import MAX_READ_BYTES, process_vm_readv
from systemscope.syscalls.proc import (
    CLONE_NEWNS,
    MembarrierCommand,
    MountFlag,
    UmountFlag,
    membarrier,
    mount,
    pidfd_open,
    pidfd_send_signal,
    raise_memlock,
    setns,
    umount2,
    unshare,
)

pytestmark = pytest.mark.kernel


def test_process_vm_readv_reads_what_is_there() -> None:
    text = ctypes.create_string_buffer(b"a known text", 64)
    assert process_vm_readv(os.getpid(), ctypes.addressof(text), 12) == b"a known text"
    assert process_vm_readv(os.getpid(), ctypes.addressof(text), 0) == b""


def test_process_vm_readv_stops_at_the_end_of_a_mapping() -> None:
    with open("/proc/self/maps", encoding="ascii") as stream:
        spans = [line.split()[0].split("-") for line in stream if "r" in line.split()[1]]
    ends = {int(end, 16) for _, end in spans}
    starts = {int(start, 16) for start, _ in spans}
    end = min(ends - starts)
    assert len(process_vm_readv(os.getpid(), end - 100, 4096)) == 100


def test_process_vm_readv_errors() -> None:
    with pytest.raises(KernelError) as caught:
        process_vm_readv(os.getpid(), 8, 8)
    assert caught.value.errno == errno.EFAULT
    with pytest.raises(ValueError, match="at most"):
        process_vm_readv(os.getpid(), 0, MAX_READ_BYTES + 1)
    with subprocess.Popen(["true"]) as child:
        child.wait()
        with pytest.raises(KernelError) as caught:
            process_vm_readv(child.pid, 4096, 8)
        assert caught.value.errno == errno.ESRCH


def test_pidfd() -> None:
    with subprocess.Popen(["sleep", "60"]) as child, pidfd_open(child.pid) as fd:
        assert not select.select([fd], [], [], 0)[0]
        assert pidfd_send_signal(fd.number, signal.SIGKILL)
        assert select.select([fd], [], [], 10)[0]
        child.wait()
        assert not pidfd_send_signal(fd.number, signal.SIGKILL)


def test_pidfd_of_a_dead_process() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()
        with pytest.raises(KernelError) as caught:
            pidfd_open(child.pid)
        assert caught.value.errno == errno.ESRCH


def test_membarrier() -> None:
    assert membarrier(MembarrierCommand.QUERY) & MembarrierCommand.GLOBAL


def in_child(body) -> None:  # type: ignore[no-untyped-def]
    """Run ``body`` in a forked child, whose namespaces and limits are its own."""
    child = os.fork()
    if child == 0:
        try:
            body()
            os._exit(0)
        except BaseException as error:  # the parent sees the exit status
            print(error, file=sys.stderr)
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_private_mounts(tmp_path) -> None:  # type: ignore[no-untyped-def]
    def body() -> None:
        unshare(CLONE_NEWNS)
        mount("none", "/", "", MountFlag.REC | MountFlag.PRIVATE)
        mount("none", str(tmp_path), "tmpfs", MountFlag.NOSUID, "size=64k")
        (tmp_path / "inside").write_text("here")
        umount2(str(tmp_path), UmountFlag.DETACH)
        assert not (tmp_path / "inside").exists()
        namespace = os.open(f"/proc/{os.getppid()}/ns/mnt", os.O_RDONLY)
        setns(namespace, CLONE_NEWNS)
        os.close(namespace)

    in_child(body)


def test_mount_errors_name_the_place() -> None:
    with pytest.raises(KernelError) as caught:
        mount("none", "/no/such/place", "tmpfs")
    assert caught.value.errno == errno.ENOENT
    assert "/no/such/place" in str(caught.value)
    with pytest.raises(KernelError):
        umount2("/no/such/place")
    with pytest.raises(KernelError):
        setns(0)
    with pytest.raises(KernelError):
        unshare(-1)


def test_raise_memlock() -> None:
    def body() -> None:
        hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, hard))
        assert raise_memlock()
        # Beyond the hard limit only with CAP_SYS_RESOURCE.
        assert resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] in (hard, resource.RLIM_INFINITY)
        assert not raise_memlock()

    in_child(body)
