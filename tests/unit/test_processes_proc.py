"""The /proc readers, on captured text and on hostile text."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemscope.processes import proc

TAIL = (
    b" R 5003 5003 2591 0 -1 4194304 99 0 0 0 0 0 0 0 20 0 1 0 142972 3133440 348"
    b" 18446744073709551615 93956069109760 93956069129641 140723572690208 0 0 0 0 0 0 0 0 0 17 0"
    b" 0 0 0 0 0 93956069145648 93956069147264 93956229226496 140723572693718 140723572693738"
    b" 140723572693738 140723572695019 0\n"
)


def test_stat_fields() -> None:
    parsed = proc.parse_stat(b"5006 (cat)" + TAIL, offset=1_000_000_000)
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert parsed == proc.Stat(
        5006, "cat", "R", 5003, 4194304, 142972 * tick - 1_000_000_000, False
    )


def test_stat_of_a_kernel_thread() -> None:
    line = b"2 (kthreadd) S 0 0 0 0 -1 2129984" + b" 0" * 12 + b" 30" + b" 0" * 30
    parsed = proc.parse_stat(line)
    assert parsed is not None
    assert parsed.kernel_thread
    assert parsed.state == "S"


@pytest.mark.parametrize(
    "name",
    [
        "a) R 1 (b",
        "(((",
        ")))",
        "two words",
        "line\nbreak",
        "Web Content) S 1 1",
        "",
        "\udcff\udc80",
    ],
)
def test_stat_of_odd_names(name: str) -> None:
    parsed = proc.parse_stat(b"7 (" + os.fsencode(name) + b")" + TAIL)
    assert parsed is not None
    assert (parsed.comm, parsed.state, parsed.ppid) == (name, "R", 5003)


@given(st.binary(max_size=40))
def test_stat_of_any_name(name: bytes) -> None:
    parsed = proc.parse_stat(b"7 (" + name + b")" + TAIL)
    assert parsed is not None
    assert os.fsencode(parsed.comm) == name
    assert parsed.ppid == 5003


@given(st.binary(max_size=400))
def test_parsers_survive_anything(data: bytes) -> None:
    proc.parse_stat(data)
    proc.parse_stat(b"1 (x) " + data)
    proc.parse_schedstat(data)
    proc.parse_syscall(data)
    proc.parse_cgroup(data)
    assert len(proc.parse_kernel_stack(data)) <= proc.MAX_KERNEL_FRAMES


def test_start_is_never_negative() -> None:
    assert proc.monotonic_of_boottime(0, 10**18) == 0


def test_kernel_stack_leaf_first_without_brackets_and_sizes() -> None:
    new = b"[<0>] futex_wait_queue+0x63/0x90\n[<0>] nf_hook+0x1/0x20 [nf_conntrack]\n"
    assert proc.parse_kernel_stack(new) == ("futex_wait_queue+0x63", "nf_hook+0x1")
    old = b"[<ffffffff810c5e2b>] do_wait+0x1cb/0x230\n[<ffffffffffffffff>] 0xffffffffffffffff\n"
    assert proc.parse_kernel_stack(old) == ("do_wait+0x1cb",)
    endless = b"[<0>] f+0x1/0x2\n" * 10_000
    assert len(proc.parse_kernel_stack(endless)) == proc.MAX_KERNEL_FRAMES


def test_syscall_registers() -> None:
    line = b"0 0x3 0x7fc281b7a000 0x20000 0x22 0xffffffff 0x0 0x7fffbc77c588 0x7fc281cf62ad\n"
    assert proc.parse_syscall(line) == (0x7FFFBC77C588, 0x7FC281CF62AD)
    assert proc.parse_syscall(b"-1 0x7ffe 0x401000\n") == (0x7FFE, 0x401000)
    assert proc.parse_syscall(b"running\n") is None


def test_schedstat() -> None:
    assert proc.parse_schedstat(b"89066 62006 2\n") == (89066, 62006, 2)
    assert proc.parse_schedstat(b"89066 -1 2\n") is None


@pytest.mark.parametrize(
    ("lines", "path"),
    [
        (b"0::/user.slice/a.service\n", "/user.slice/a.service"),
        (b"0::/\n", "/"),
        (b"4:memory:/jobs/1\n1:cpu,cpuacct:/\n0::/\n", "/jobs/1"),
        (b"4:memory:/m\n2:name=systemd:/s\n0::/u\n", "/u"),
        (b"4:memory:/m\n2:name=systemd:/s\n0::/\n", "/s"),
        (b"0::/with:colons in it\n", "/with:colons in it"),
        (b"", ""),
    ],
)
def test_cgroup(lines: bytes, path: str) -> None:
    assert proc.parse_cgroup(lines) == path


def test_a_name_cannot_fake_a_status_line() -> None:
    data = b"Name:\tx\\nTgid:\t1\nTgid:\t77\nNSpid:\t77\t3\nTgid:\t2\n"
    assert proc.status_fields(data, (b"Tgid", b"NSpid")) == {b"Tgid": b"77", b"NSpid": b"77\t3"}


def test_ourselves() -> None:
    own = os.getpid()
    about = proc.stat(own)
    assert about is not None
    assert about.tid == own
    assert about.ppid == os.getppid()
    assert not about.kernel_thread
    assert 0 <= time.monotonic_ns() - about.start_ns < 24 * 3600 * 10**9
    assert proc.tgid_of(own) == own
    assert own in proc.list_tgids()
    assert own in proc.list_tids(own)
    assert proc.comm(own) == about.comm
    assert proc.shares_our_files(own)
    assert proc.namespace_pid(own) > 0
    assert proc.cgroup(own).startswith("/")


def test_start_time_is_on_our_clock() -> None:
    before = time.monotonic_ns()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    about = proc.stat(pid)  # a zombie still tells
    after = time.monotonic_ns()
    os.waitpid(pid, 0)
    assert about is not None
    tick = 10**9 // os.sysconf("SC_CLK_TCK")
    assert before - 2 * tick <= about.start_ns <= after


def test_what_is_gone_is_data() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert proc.stat(pid) is None
    assert proc.schedstat(pid) is None
    assert proc.syscall_registers(pid) is None
    assert proc.tgid_of(pid) is None
    assert proc.kernel_stack(pid) == ()
    assert proc.list_tids(pid) == []
    assert (proc.cgroup(pid), proc.comm(pid), proc.namespace_pid(pid)) == ("", "", 0)
    assert not proc.shares_our_files(pid)


def test_reads_are_bounded(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * 300_000)
    assert proc.read_file(str(large), 100_000) == b"x" * 100_000
    assert proc.read_file(str(large), 10**6) == b"x" * 300_000
    assert proc.read_file(str(tmp_path / "none")) is None
    assert proc.read_file("nul\0") is None
