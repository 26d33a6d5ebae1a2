"""probe() against what the running kernel does, and the private tracefs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest

from systemscope.kernel.capabilities import LEGACY_4_9, Capabilities, examine, probe
from systemscope.kernel.probing import State
from systemscope.kernel.tracefs import mount_privately, mounted, tracefs
from systemscope.syscalls import bpf

pytestmark = pytest.mark.kernel

# Prints the capabilities of a process that may not ask for newer bpf() commands.
COARSE = """
import ctypes, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
NR = {nr}
RET = lambda value: struct.pack("HBBI", 0x06, 0, 0, value)
JUMP = lambda code, k, yes, no: struct.pack("HBBI", code, yes, no, k)
code = (
    struct.pack("HBBI", 0x20, 0, 0, 0)      # A = system call number
    + JUMP(0x15, NR, 0, 3)                  # bpf, else allow
    + struct.pack("HBBI", 0x20, 0, 0, 16)   # A = low word of the first argument
    + JUMP(0x35, {first}, 0, 1)             # a command of {first} or more?
    + RET(0x00050000 | 22)                  # EINVAL, as a kernel that does not know it
    + RET(0x7FFF0000)
)
buffer = ctypes.create_string_buffer(code)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
program = Program(len(code) // 8, ctypes.addressof(buffer))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
from systemscope.kernel.capabilities import probe
from dataclasses import asdict
import json
print(json.dumps(asdict(probe())))
"""


def _open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_everything_is_answered_and_nothing_left_open() -> None:
    before = _open_descriptors()
    examination = examine()
    assert _open_descriptors() == before
    for name, finding in examination.findings.items():
        assert finding.state in State
        if finding.available:
            assert finding.value, name
        assert getattr(examination.capabilities, name) == finding.value


def test_root_gets_conclusive_answers() -> None:
    examination = examine()
    if not examination.capabilities.cap_sys_admin:
        pytest.skip("not fully privileged")
    unsure = [n for n, f in examination.findings.items() if f.state is State.INCONCLUSIVE]
    assert unsure == []


def test_the_answer_is_the_same_again() -> None:
    assert probe() == probe()


def test_facts_agree_with_proc() -> None:
    facts = probe()
    assert facts.pid_max == int(Path("/proc/sys/kernel/pid_max").read_text())
    assert facts.release == Path("/proc/sys/kernel/osrelease").read_text().strip()
    assert len(facts.online_cpus) == os.cpu_count()
    assert set(facts.online_cpus) <= set(facts.possible_cpus)
    assert facts.root == (os.geteuid() == 0)
    assert facts.btf == os.path.exists("/sys/kernel/btf/vmlinux")


def test_what_is_seen_can_be_used() -> None:
    """Map features by other means than the probes'."""
    facts = probe()
    if facts.ring_buffer:
        with bpf.map_create(27, 0, 0, 1 << 16) as ring:
            assert bpf.map_info(ring.number).type == 27
    if facts.batch:
        with bpf.map_create(1, 4, 8, 16) as table:
            elements = bpf.MapElements(table.number, 4, 8)
            elements.update(b"\1\0\0\0", b"\2" * 8)
            count, _, keys, values = bpf.MapBatch(table.number, 4, 8, 16).next()
            assert (count, bytes(keys), bytes(values)) == (1, b"\1\0\0\0", b"\2" * 8)
    if facts.sched_switch_state_argument and facts.raw_tracepoint:
        _attach_reading_argument(3, works=True)
    if facts.raw_tracepoint:
        _attach_reading_argument(11, works=False)


def _attach_reading_argument(index: int, works: bool) -> None:
    import struct

    code = struct.pack(
        "<BBhiBBhiBBhi",
        *(0x79, 0x10, 8 * index, 0),
        *(0xB7, 0, 0, 0),
        *(0x95, 0, 0, 0),
    )
    result = bpf.prog_load(bpf.LoadRequest(type=17, code=code))
    assert result.fd is not None
    with result.fd:
        if works:
            bpf.raw_tracepoint_open(result.fd.number, "sched_switch").close()
        else:
            with pytest.raises(OSError):
                bpf.raw_tracepoint_open(result.fd.number, "sched_switch")


def _coarse(first: int) -> Capabilities:
    import json

    nr = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
    done = subprocess.run(
        [sys.executable, "-c", COARSE.format(nr=nr, first=first)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    for name in ("possible_cpus", "online_cpus"):
        values[name] = tuple(values[name])
    return Capabilities(**values)


def test_a_kernel_without_newer_commands() -> None:
    """bpf() refuses all from BPF_RAW_TRACEPOINT_OPEN on, as a kernel before 4.17 does."""
    whole, coarse = probe(), _coarse(17)
    for name in ("batch", "func_info", "line_info", "bpf_loop", "perf_link", "task_storage"):
        assert not getattr(coarse, name), name
    for name in ("isa", "bounded_loops", "get_stack", "ring_buffer", "tracepoint", "tracefs"):
        assert getattr(coarse, name) == getattr(whole, name), name


def test_a_kernel_without_bpf() -> None:
    coarse = _coarse(0)
    assert coarse.isa == 1
    assert not coarse.tracepoint
    assert coarse.perf_cpu_clock == probe().perf_cpu_clock
    assert coarse.btf == probe().btf


def test_4_9_is_a_part_of_any_kernel() -> None:
    whole = probe()
    left = whole.without(*LEGACY_4_9)
    for field in fields(Capabilities):
        new, old = getattr(left, field.name), getattr(whole, field.name)
        assert new == old or not new or field.name in ("isa", "max_instructions"), field.name


# The private tracefs.


def _mount_table() -> str:
    return Path("/proc/self/mountinfo").read_text()


def test_a_private_tracefs_is_seen_by_nobody_else() -> None:
    if not probe().cap_sys_admin:
        pytest.skip("mounting needs CAP_SYS_ADMIN")
    before, threads = _mount_table(), os.listdir("/proc/self/task")
    root = mount_privately()
    with root:
        assert os.path.isdir(f"/proc/self/fd/{root.number}/events/sched")
        assert _mount_table() == before
    assert _mount_table() == before
    deadline = time.monotonic() + 10
    while set(os.listdir("/proc/self/task")) - set(threads):  # join() returns a moment too early
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert os.readlink("/proc/self/ns/mnt") == os.readlink("/proc/thread-self/ns/mnt")


def test_a_killed_process_leaves_no_mount() -> None:
    before = _mount_table()
    script = (
        "from systemscope.kernel.tracefs import mount_privately\n"
        "import time\n"
        "root = mount_privately()\n"
        "print('mounted', flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "mounted\n"
        assert _mount_table() == before
        process.kill()
        assert process.wait(10) == -signal.SIGKILL
    assert _mount_table() == before


def test_formats_of_the_running_kernel() -> None:
    with tracefs() as files:
        assert files.private == (mounted() == "")
        for category, event in (
            *(("sched", name) for name in ("sched_switch", "sched_wakeup", "sched_process_exit")),
            ("raw_syscalls", "sys_enter"),
        ):
            parsed = files.format(category, event)
            assert parsed.id > 0
            assert parsed.fields["common_type"].offset == 0
            end = 0
            for field in parsed.fields.values():
                assert field.offset >= end, "fields do not overlap"
                end = field.offset + field.size
