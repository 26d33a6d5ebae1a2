"""Attachments: they run the program, and closing them ends that."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from systemscope.bpf import kprobe_events
from systemscope.bpf.link import Link
from systemscope.bpf.map import Map
from systemscope.bpf.perf import PerfEvent
from systemscope.bpf.program import Program
from systemscope.bpf.ring_buffer import RingBuffer
from systemscope.bpf.stats import BpfStats
from systemscope.bpfasm.builder import Builder
from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.types import MapSpec, MapType, ProgramSpec, ProgramType
from systemscope.errors import KernelError, SystemScopeError
from systemscope.kernel.tracefs import tracefs
from systemscope.syscalls import bpf
from systemscope.syscalls.perf import AttrFlag, PerfEventAttr, PerfType, Software
from tests.kernel.bpf_programs import (
    Count,
    attach_id,
    counter,
    counts,
    task_iterator,
    tp_btf_counter,
)

pytestmark = pytest.mark.kernel

CLOCK = PerfEventAttr(
    type=PerfType.SOFTWARE,
    config=Software.CPU_CLOCK,
    sample_period=1000,
    flags=AttrFlag.FREQ | AttrFlag.DISABLED,
)


def switch() -> None:
    for _ in range(20):
        time.sleep(0.001)


def burn(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def counted(map: Map) -> int:
    value = map.lookup(bytes(4))
    assert value is not None
    return int.from_bytes(value, "little")


@contextmanager
def loaded(make, type: ProgramType) -> Iterator[tuple[Map, Program]]:  # type: ignore[no-untyped-def]
    spec = counts()
    with ExitStack() as stack:
        map = stack.enter_context(Map.create(spec))
        program_spec: ProgramSpec = make(spec, type)
        identity = attach_id(program_spec) if program_spec.attach_to else 0
        program = stack.enter_context(
            Program.load(program_spec, {spec: map}, attach_btf_id=identity)
        )
        yield map, program


def assert_counts_then_stops(link: Link, map: Map) -> None:
    with link:
        switch()
        assert counted(map) > 10
    stopped = counted(map)
    switch()
    assert counted(map) == stopped


def test_raw_tracepoint() -> None:
    with loaded(counter, ProgramType.RAW_TRACEPOINT) as (map, program):
        assert_counts_then_stops(Link.raw_tracepoint(program, "sched_switch"), map)


def test_tp_btf() -> None:
    with loaded(lambda spec, _: tp_btf_counter(spec), ProgramType.TRACING) as (map, program):
        assert_counts_then_stops(Link.raw_tracepoint(program), map)


@pytest.mark.parametrize("link", [True, False], ids=["link", "ioctl"])
def test_tracepoint(link: bool) -> None:
    with ExitStack() as stack:
        try:
            events = stack.enter_context(tracefs())
        except SystemScopeError as error:
            pytest.skip(str(error))
        number = events.format("sched", "sched_switch").id
        map, program = stack.enter_context(loaded(counter, ProgramType.TRACEPOINT))
        attached = Link.tracepoint(program, number, link=link)
        assert_counts_then_stops(attached, map)


def test_a_tracepoint_covers_all_cpus() -> None:
    with ExitStack() as stack:
        try:
            events = stack.enter_context(tracefs())
        except SystemScopeError as error:
            pytest.skip(str(error))
        number = events.format("sched", "sched_switch").id
        map, program = stack.enter_context(loaded(counter, ProgramType.TRACEPOINT))
        for cpu in sorted(os.sched_getaffinity(0)):
            with Link.tracepoint(program, number, cpu=cpu):
                before = counted(map)
                for pinned in sorted(os.sched_getaffinity(0)):
                    worker = threading.Thread(target=_switch_on, args=(pinned,))
                    worker.start()
                    worker.join()
                    now = counted(map)
                    assert now >= before + 20, f"event on CPU {cpu}, thread on CPU {pinned}"
                    before = now


def _switch_on(cpu: int) -> None:
    os.sched_setaffinity(threading.get_native_id(), {cpu})
    switch()


@pytest.mark.parametrize("link", [True, False], ids=["link", "ioctl"])
def test_perf_event(link: bool) -> None:
    with ExitStack() as stack:
        map, program = stack.enter_context(loaded(counter, ProgramType.PERF_EVENT))
        event = stack.enter_context(PerfEvent.open(CLOCK, pid=0))
        with Link.perf_event(event, program, link=link):
            event.enable()
            burn(0.1)
            assert counted(map) > 10
        stopped = counted(map)
        burn(0.02)
        assert counted(map) == stopped


def test_the_event_may_close_before_its_link() -> None:
    with loaded(counter, ProgramType.PERF_EVENT) as (_, program):
        for by_link in (True, False):
            event = PerfEvent.open(CLOCK, pid=0)
            link = Link.perf_event(event, program, link=by_link)
            event.close()
            link.close()
            link.close()


def test_iterator_over_all_and_over_some() -> None:
    spec = task_iterator()
    release = threading.Event()
    with Program.load(spec, {}, attach_btf_id=attach_id(spec)) as program:
        threads = [threading.Thread(target=release.wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            with Link.iterator(program, pid=os.getpid()) as mine:
                assert len(mine.read_all()) == 8 * threading.active_count()
            with Link.iterator(program, tid=threading.get_native_id()) as me:
                assert len(me.read_all()) == 8
                assert len(me.read_all()) == 8  # each read runs it anew
            with Link.iterator(program) as everyone:
                tasks = sum(
                    1 for name in os.listdir("/proc") if name.isdigit()
                )  # processes: fewer than tasks
                assert len(everyone.read_all()) // 8 >= tasks // 2
                assert len(everyone.read_all(limit=1)) > 0
        finally:
            release.set()
            for thread in threads:
                thread.join()


def test_ring_buffer() -> None:
    spec = MapSpec("ring", MapType.RINGBUF, 0, 0, 4096)
    b = Builder("writer", ProgramType.SOCKET_FILTER)
    record = b.stack(Count)
    b.store(record.n, b.call(Helper.ktime_get_ns))
    result = b.call(Helper.ringbuf_output, spec, b.address(record), 8, 0, signed=True)
    with b.if_(result < 0):
        b.exit(1)
    b.exit(0)
    with ExitStack() as stack:
        map = stack.enter_context(Map.create(spec))
        program = stack.enter_context(Program.load(b.build(), {spec: map}))
        with RingBuffer(map) as ring:
            assert ring.read() == []
            seen = 0
            for _ in range(30):  # many times round the ring
                program.run(bytes(64), repeat=100)
                assert ring.pending() == 1600
                some = ring.read(limit=60)
                rest = ring.read()
                assert (len(some), len(rest)) == (60, 40)
                times = [int.from_bytes(item, "little") for item in some + rest]
                assert times == sorted(times)
                seen += len(times)
            assert seen == 3000
            assert program.run(bytes(64), repeat=1000).retval == 1  # full: the program is told
            assert len(ring.read()) == 255  # of 256 places: the kernel never fills it whole
            ring.close()


def test_ring_buffer_of_another_map_is_refused() -> None:
    with Map.create(counts()) as map, pytest.raises(ValueError, match="ring buffer"):
        RingBuffer(map)


def test_statistics_count_runs() -> None:
    with loaded(counter, ProgramType.RAW_TRACEPOINT) as (map, program), BpfStats() as stats:
        assert stats.active
        with Link.raw_tracepoint(program, "sched_switch"):
            switch()
        info = program.info()
        assert 0 < info.run_cnt <= counted(map)
        assert info.run_time_ns > 0


def test_kprobe_or_why_not() -> None:
    with loaded(counter, ProgramType.KPROBE) as (map, program):
        if kprobe_events.pmu() is None:
            with pytest.raises(KernelError) as caught:
                Link.kprobe(program, "schedule")
            assert caught.value.errno == errno.ENODEV
            assert "KPROBE" in caught.value.remedy
            return
        assert_counts_then_stops(Link.kprobe(program, "schedule"), map)
        with pytest.raises(KernelError, match="no_such_function"):
            Link.kprobe(program, "no_such_function")


def test_the_old_ways_are_taken_where_links_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise KernelError("BPF_LINK_CREATE", "link", errno.EINVAL)

    monkeypatch.setattr(bpf, "link_create_perf_event", refuse)
    with ExitStack() as stack:
        _, program = stack.enter_context(loaded(counter, ProgramType.PERF_EVENT))
        event = stack.enter_context(PerfEvent.open(CLOCK, pid=0))
        assert not stack.enter_context(Link.perf_event(event, program)).closed
