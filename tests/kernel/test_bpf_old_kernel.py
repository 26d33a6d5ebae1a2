"""The floor: everything works where bpf() knows only the commands of Linux 4.9 to 4.13.

A seccomp filter in a child refuses the later commands with EINVAL, as an old kernel does.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.kernel

CHILD = """
import ctypes, struct, sys, time
from systemscope.bpf.link import Link
from systemscope.bpf.map import Map
from systemscope.bpf.perf import PerfEvent
from systemscope.bpf.program import Program
from systemscope.bpf.stats import BpfStats
from systemscope.bpfasm.types import MapSpec, MapType, ProgramType
from systemscope.errors import KernelError, SystemScopeError, VerifierError
from systemscope.kernel.tracefs import tracefs
from systemscope.syscalls.numbers import numbers
from systemscope.syscalls.perf import PerfEventAttr, PerfType, Software
from tests.kernel.bpf_programs import counter, counts
from tests.kernel.test_bpf_program import rejected

# if (nr == bpf && args[0] >= RAW_TRACEPOINT_OPEN) return EINVAL; (struct sock_filter)
steps = [(0x20, 0, 0, 0), (0x15, 0, 3, numbers().bpf), (0x20, 0, 0, 16), (0x35, 0, 1, 17),
         (0x06, 0, 0, 0x00050000 | 22), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
filter = ctypes.create_string_buffer(struct.pack("=H6xQ", len(steps), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.c_void_p(ctypes.addressof(filter)), 0, 0) == 0

number = None
try:
    with tracefs() as events:
        number = events.format("sched", "sched_switch").id
except SystemScopeError as error:
    print("no tracefs:", error)

with Map.create(MapSpec("entries", MapType.HASH, 4, 8, 5000)) as entries:
    assert entries.batch
    for i in range(5000):
        entries.update(struct.pack("=I", i), struct.pack("=Q", i))
    assert len(entries.read_all()[0]) == 20000
    assert not entries.batch
    assert len(entries.drain()[1]) == 40000
    assert entries.drain() == (b"", b"")

spec = counts()
with Map.create(spec) as map:
    def count():
        return struct.unpack("=Q", map.lookup(bytes(4)))[0]
    with Program.load(counter(spec, ProgramType.PERF_EVENT), {spec: map}) as program:
        assert program.info().btf_id == 0
        clock = PerfEventAttr(type=PerfType.SOFTWARE, config=Software.CPU_CLOCK,
                              sample_period=1000000)
        with PerfEvent.open(clock, pid=0) as event, Link.perf_event(event, program):
            end = time.monotonic() + 0.1
            while time.monotonic() < end:
                pass
        assert count() > 10
    if number is not None:
        with Program.load(counter(spec, ProgramType.TRACEPOINT), {spec: map}) as program:
            before = count()
            with Link.tracepoint(program, number):
                for _ in range(20):
                    time.sleep(0.001)
            assert count() >= before + 20
            stopped = count()
            for _ in range(20):
                time.sleep(0.001)
            assert count() == stopped
    try:
        Link.raw_tracepoint(program, "sched_switch")
    except (KernelError, ValueError):
        pass
    with BpfStats() as stats:
        assert not stats.active

program_spec, map_spec = rejected()
with Map.create(map_spec) as map:
    try:
        Program.load(program_spec, {map_spec: map})
    except VerifierError as error:
        assert "the line to be blamed" in str(error), error
    else:
        raise AssertionError("not rejected")
print("done")
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the filter is for one architecture")
def test_the_floor() -> None:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD],
        capture_output=True,
        text=True,
        cwd=root,
        timeout=120,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.splitlines()[-1] == "done"
    assert child.stderr == ""
