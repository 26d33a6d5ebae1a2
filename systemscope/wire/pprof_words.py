"""The words in our pprof files that have a meaning: what writer and reader must agree on."""

from __future__ import annotations

from systemscope.model import BLOCKED_STATES, DelayKind, State

#: A file whose first comment begins so is ours; the version follows.
OWN = "SystemScope "
COMMAND = "command: "
KERNEL = "kernel: "
HOST = "host: "
EVENT = "event: "
ENDED_BY = "ended by: "
UNWINDING = "unwinding: "
LOSS = "loss: "
NOTE = "note: "

#: Sample types as (type, unit). samples/count and cpu/nanoseconds are those of Go's and parca's
#: CPU profiles: one is the other times the period. Waits are counted apart, so that it stays so.
SAMPLES = ("samples", "count")
WALL = ("wall", "nanoseconds")
CPU = ("cpu", "nanoseconds")
RUNNABLE = ("runnable", "nanoseconds")
BLOCKED = ("blocked", "nanoseconds")
WAITS = ("waits", "count")
#: The kernel's own delay accounting, of the same time as the others and in samples of its own;
#: named after the contentions/count and delay/nanoseconds of Go's block profile.
DELAYS = ("delays", "count")
DELAY = ("delay", "nanoseconds")

PID = "pid"
TID = "tid"
COMM = "comm"  # of the process
THREAD_COMM = "thread_comm"
STATE = "state"
CGROUP = "cgroup"
CONTAINER = "container_id"

NO_FRAMES = "[no frames]"
KERNEL_MAPPING = "[kernel.kallsyms]"  # as perf and pprof's own converters call it
ANONYMOUS_MAPPING = "[anon]"
VDSO_MAPPING = "[vdso]"
JIT_MAPPING = "[jit]"  # code of a just-in-time compiler, where its memory is not known
#: The upper half of the address space is the kernel's on every 64-bit machine.
KERNEL_START = 1 << 63


def time_type(state: State) -> tuple[str, str]:
    """The sample type that time in ``state`` has besides WALL; WALL when there is none."""
    if state is State.RUNNING:
        return CPU
    if state is State.RUNNABLE:
        return RUNNABLE
    return BLOCKED if state in BLOCKED_STATES else WALL


def delay_frame(kind: DelayKind) -> str:
    """The pseudo function that carries a thread's delays of one kind."""
    return f"[delay: {kind.value}]"
