"""Nothing stays in the kernel when the process that loaded it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from systemscope.errors import KernelError
from systemscope.syscalls import bpf

pytestmark = pytest.mark.kernel

LOADER = """
import sys, time
from systemscope.bpf.link import Link
from systemscope.bpf.map import Map
from systemscope.bpf.perf import PerfEvent
from systemscope.bpf.program import Program
from systemscope.bpfasm.types import ProgramType
from systemscope.kernel.tracefs import tracefs
from systemscope.syscalls.perf import PerfEventAttr, PerfType, Software
from tests.kernel.bpf_programs import attach_id, counter, counts, tp_btf_counter

spec = counts()
map = Map.create(spec)
raw = Program.load(counter(spec, ProgramType.RAW_TRACEPOINT), {spec: map})
btf_spec = tp_btf_counter(spec)
btf = Program.load(btf_spec, {spec: map}, attach_btf_id=attach_id(btf_spec))
sampler = Program.load(counter(spec, ProgramType.PERF_EVENT), {spec: map})
links = [Link.raw_tracepoint(raw, "sched_switch"), Link.raw_tracepoint(btf)]
clock = PerfEventAttr(type=PerfType.SOFTWARE, config=Software.CPU_CLOCK, sample_period=10**6)
events = [PerfEvent.open(clock, pid=-1, cpu=0) for _ in range(2)]
links += [Link.perf_event(e, sampler, link=l) for e, l in zip(events, (True, False))]
programs = [raw, btf, sampler]
try:
    with tracefs() as events:
        number = events.format("sched", "sched_switch").id
    for by_link in (True, False):
        # One program may hang on a tracepoint once only.
        programs.append(Program.load(counter(spec, ProgramType.TRACEPOINT), {spec: map}))
        links.append(Link.tracepoint(programs[-1], number, link=by_link))
except Exception as error:
    print(error, file=sys.stderr)
print("maps", map.info().id)
print("programs", *[p.info().id for p in programs])
print("links", *[l.info().id for l in links[:3]], flush=True)
time.sleep(60)
"""

OPENERS = {
    "maps": bpf.map_get_fd_by_id,
    "programs": bpf.prog_get_fd_by_id,
    "links": bpf.link_get_fd_by_id,
}


def alive(kind: str, number: int) -> bool:
    try:
        OPENERS[kind](number).close()
    except KernelError:
        return False
    return True


def test_nothing_outlives_sigkill() -> None:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    loader = subprocess.Popen(
        [sys.executable, "-c", LOADER], stdout=subprocess.PIPE, text=True, cwd=root
    )
    assert loader.stdout is not None
    try:
        ids = {}
        for _ in range(3):
            kind, *numbers = loader.stdout.readline().split()
            ids[kind] = [int(number) for number in numbers]
        assert len(ids["links"]) == 3 and len(ids["programs"]) >= 3
        objects = [(kind, number) for kind, numbers in ids.items() for number in numbers]
        assert all(alive(kind, number) for kind, number in objects)
    finally:
        loader.send_signal(signal.SIGKILL)
        loader.wait()
        loader.stdout.close()
    # The kernel frees them after a grace period: wait for it, with a limit.
    deadline = time.monotonic() + 20
    left = objects
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [(kind, number) for kind, number in left if alive(kind, number)]
    assert not left
