"""What every thread was doing when the window opened and when it closed.

From a task iterator where the kernel has it (tens of microseconds a thread at most), else from
/proc (about 150 µs a thread with its stack).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from systemscope.collectors.session import Session
from systemscope.model.states import STATE_OF_LETTER, State
from systemscope.processes import proc
from systemscope.programs.records import TaskSnapshot

PF_KTHREAD = 0x00200000
_STATE_BITS = (
    (0x1, State.SLEEPING),
    (0x2, State.DISK),
    (0x4, State.STOPPED),
    (0x8, State.TRACED),
    (0x40, State.PARKED),
    (0x80, State.DEAD),
    (0x8000, State.STOPPED),
    (0x1000, State.DISK),
)


@dataclass(frozen=True)
class ThreadSnapshot:
    """One thread at one moment. ``state`` RUNNABLE means on a CPU or waiting for one.

    ``kernel``, ``user`` are stack ids of this session; ``kernel_names``, ``user_ip`` what /proc
    told instead. ``switches`` is the record's count when the stack was taken, ``run_ns`` the time
    on a CPU so far, where /proc says of a runnable thread no more.
    """

    tid: int
    tgid: int
    comm: str
    state: State
    kernel_thread: bool
    start_ns: int
    kernel: int = 0
    user: int = 0
    switches: int = 0
    on_cpu: bool = False
    kernel_names: tuple[str, ...] = ()
    user_ip: int = 0
    run_ns: int = 0
    waiting_ns: int = 0  # queued for a CPU, as far as an iterator tells


def from_iterator(data: bytes) -> dict[int, ThreadSnapshot]:
    """Decode the records a task iterator wrote."""
    found = {}
    whole = len(data) // TaskSnapshot.size * TaskSnapshot.size
    for row in TaskSnapshot.iter_unpack(data[:whole]):
        (
            start,
            kernel,
            user,
            tid,
            tgid,
            bits,
            flags,
            switches,
            on_cpu,
            exit_state,
            _,
            waiting,
            comm,
        ) = row
        state = State.DEAD if exit_state else state_of_bits(bits)
        found[tid] = ThreadSnapshot(
            tid,
            tgid,
            comm.split(b"\0")[0].decode(errors="replace"),
            state,
            bool(flags & PF_KTHREAD),
            start,
            kernel,
            user,
            switches,
            bool(on_cpu),
            waiting_ns=waiting,
        )
    return found


def state_of_bits(bits: int) -> State:
    """task_struct.__state in the model's terms (include/linux/sched.h)."""
    if bits & 0x402 == 0x402:
        return State.IDLE
    for bit, state in _STATE_BITS:
        if bits & bit:
            return state
    return State.RUNNABLE


def from_proc(tids: Iterable[int]) -> dict[int, ThreadSnapshot]:
    """Read ``tids`` from /proc; threads that are gone are left out."""
    found = {}
    for tid in tids:
        about = proc.stat(tid)
        if about is None:
            continue
        state = STATE_OF_LETTER.get(about.state, State.BLOCKED)
        usage = proc.schedstat(tid) if state is State.RUNNABLE else None
        found[tid] = ThreadSnapshot(
            tid,
            proc.tgid_of(tid) or 0,
            about.comm,
            state,
            about.kernel_thread,
            about.start_ns,
            run_ns=usage[0] if usage else 0,
        )
    return found


def every_tid() -> list[int]:
    """All threads that /proc lists."""
    return [tid for tgid in proc.list_tgids() for tid in proc.list_tids(tgid)]


def seed(session: Session, tids: Iterable[int]) -> dict[int, ThreadSnapshot]:
    """The threads as the window opens: ``tids``, or all of them when system-wide."""
    listed = every_tid() if session.plan.config.every_thread else list(tids)
    if not session.has("task_seed"):
        return from_proc(listed)
    return with_missing(from_iterator(session.iterate("task_seed")), listed)


def with_missing(
    found: dict[int, ThreadSnapshot], listed: Iterable[int]
) -> dict[int, ThreadSnapshot]:
    """Add from /proc the threads that an iterator did not show (some kernels hide some)."""
    found.update(from_proc(tid for tid in listed if tid not in found))
    return found
