"""Captures and profiles built by hand, small enough to check with pencil and paper."""

from __future__ import annotations

from typing import Optional

from systemscope.model import (
    Capture,
    Entry,
    Frame,
    FrameKind,
    Gap,
    Image,
    Losses,
    Mapping,
    Overhead,
    Process,
    Profile,
    Sample,
    Stack,
    State,
    Thread,
)

SECOND = 1_000_000_000


def thread(tid: int, comm: str = "worker", tgid: int = 100, **about: object) -> Thread:
    """A thread alive for one second."""
    made = Thread(tid=tid, tgid=tgid, comm=comm, begin=0, end=SECOND)
    for name, value in about.items():
        setattr(made, name, value)
    return made


def capture() -> Capture:
    """Process 100 with a busy and an idle thread, kernel thread 2; all accounted for."""
    busy = thread(
        100, "main app", time={State.RUNNING: 3 * SECOND // 4, State.SLEEPING: SECOND // 4}
    )
    idle = thread(101, "idler", time={State.SLEEPING: SECOND}, ran=False)
    kernel = thread(2, "kworker/0:1", 2, time={State.IDLE: SECOND})
    return Capture(
        start=0,
        end=SECOND,
        wall_start=0.0,
        frequency=99,
        event="cpu-clock",
        kernel="Linux 6.1.0 x86_64",
        hostname="host",
        threads=[busy, idle, kernel],
        processes={
            100: Process(100, "app", [Image(0, (Mapping(0x1000, 0x3000, 0, "/bin/app"),))]),
            2: Process(2, "kworker/0:1", kernel=True),
        },
        stacks=[Stack(), Stack(user=(0x1500, 0x1010)), Stack(kernel=(0xFFFF0001,), user=(0x1600,))],
        entries=[
            Entry(0, State.RUNNING, 1, 3 * SECOND // 4, 74, 10),
            Entry(0, State.SLEEPING, 2, SECOND // 4, 5, 10),
            Entry(1, State.SLEEPING, 2, SECOND, 1, 10),
            Entry(2, State.IDLE, 0, SECOND, 1, 10, Gap.NO_STACK),
        ],
        losses=Losses(),
        overhead=Overhead(cpu_seconds=0.1, bpf_run_seconds=0.002, bpf_runs=1200),
        samples=74,
    )


def frame(name: str, kind: FrameKind = FrameKind.USER, inlined: bool = False) -> Frame:
    return Frame(name, kind, inlined=inlined)


def sample(
    of: Thread,
    nanoseconds: int,
    *frames: Frame,
    state: State = State.RUNNING,
    gap: Optional[Gap] = None,
) -> Sample:
    """A sample whose ``frames`` are leaf first."""
    return Sample(of, "app", state, tuple(frames), nanoseconds, 1, gap)


def profile(*samples: Sample) -> Profile:
    return Profile(capture(), list(samples))
