"""perf_event_open, its attr and its ioctls."""

from __future__ import annotations

import errno
import struct
import time

import pytest

from systemscope.bpf.perf import PerfEvent, PerfRing
from systemscope.errors import KernelError
from systemscope.syscalls.perf import (
    AttrFlag,
    PerfEventAttr,
    PerfType,
    RecordType,
    SampleType,
    Software,
)

pytestmark = pytest.mark.kernel

CLOCK = PerfEventAttr(type=PerfType.SOFTWARE, config=Software.TASK_CLOCK)


def burn(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_an_event_counts_while_it_is_enabled() -> None:
    attr = PerfEventAttr(
        type=PerfType.SOFTWARE, config=Software.TASK_CLOCK, flags=AttrFlag.DISABLED
    )
    with PerfEvent.open(attr, pid=0) as event:
        burn(0.005)
        assert event.count() == 0
        event.enable()
        burn(0.005)
        event.disable()
        counted = event.count()
        assert counted > 1_000_000
        burn(0.005)
        assert event.count() == counted
        assert event.id > 0


def test_a_sampling_event_fills_its_ring() -> None:
    attr = PerfEventAttr(
        type=PerfType.SOFTWARE,
        config=Software.TASK_CLOCK,
        sample_period=100_000,
        sample_type=SampleType.IP | SampleType.TID | SampleType.TIME,
        flags=AttrFlag.DISABLED | AttrFlag.USE_CLOCKID,
        clockid=time.CLOCK_MONOTONIC,
    )
    with PerfEvent.open(attr, pid=0) as event, PerfRing(event, 4) as ring:
        assert ring.read() == []
        begin = time.monotonic_ns()
        event.enable()
        burn(0.05)
        event.disable()
        records = ring.read()
        end = time.monotonic_ns()
        assert ring.read() == []
    samples = [data for kind, data in records if kind == RecordType.SAMPLE]
    assert len(samples) > 20
    times = [struct.unpack_from("=QIIQ", data, 8)[3] for data in samples]
    assert times == sorted(times)
    assert begin <= times[0] and times[-1] <= end


def test_a_ring_that_wraps_and_overflows_tells_its_losses() -> None:
    attr = PerfEventAttr(
        type=PerfType.SOFTWARE,
        config=Software.TASK_CLOCK,
        sample_period=20_000,
        sample_type=SampleType.IP | SampleType.TID | SampleType.TIME | SampleType.CALLCHAIN,
        flags=AttrFlag.DISABLED,
    )
    with PerfEvent.open(attr, pid=0) as event, PerfRing(event, 1) as ring:
        event.enable()
        total = 0
        for _ in range(40):  # many times round the ring, read in time or not
            burn(0.002)
            total += len(ring.read())
        burn(0.05)  # longer than a page of records takes
        event.disable()
        ring.read()
        event.enable()
        burn(0.002)
        event.disable()
        ring.read()
        assert total > 100
        assert ring.lost > 0


def test_an_impossible_event_is_told_with_its_type() -> None:
    with pytest.raises(KernelError) as caught:
        PerfEvent.open(PerfEventAttr(type=12345), pid=0)
    assert caught.value.errno == errno.ENOENT
    assert "12345" in str(caught.value)


def test_a_period_can_be_changed() -> None:
    attr = PerfEventAttr(
        type=PerfType.SOFTWARE,
        config=Software.CPU_CLOCK,
        sample_period=99,
        flags=AttrFlag.FREQ | AttrFlag.DISABLED,
    )
    with PerfEvent.open(attr, pid=-1, cpu=0) as event:
        event.set_period(49)


def test_output_can_be_redirected() -> None:
    one = PerfEvent.open(CLOCK, pid=0, cpu=0)
    two = PerfEvent.open(CLOCK, pid=0, cpu=0)
    with one, two, PerfRing(two, 1):
        one.set_output(two)


def test_ring_size_must_be_a_power_of_two() -> None:
    with PerfEvent.open(CLOCK, pid=0) as event, pytest.raises(ValueError, match="power of two"):
        PerfRing(event, 3)


def test_closing_a_ring_twice_is_harmless() -> None:
    with PerfEvent.open(CLOCK, pid=0) as event:
        ring = PerfRing(event, 1)
        ring.close()
        ring.close()
