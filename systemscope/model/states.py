"""Where a thread's wall-clock time can go.

The off-CPU names follow the kernel's task state letters (``fs/proc/array.c``,
``include/linux/sched.h``); ``RUNNABLE`` splits the kernel's R into waiting for a CPU and running.
"""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """What a thread is doing. The numbers are shared with the BPF programs."""

    UNKNOWN = 0  # before the first event; replaced by the seed when the window closes
    RUNNING = 1
    RUNNABLE = 2  # preempted, or woken and waiting for a CPU
    SLEEPING = 3  # S, TASK_INTERRUPTIBLE
    DISK = 4  # D, TASK_UNINTERRUPTIBLE
    STOPPED = 5  # T, TASK_STOPPED; frozen tasks too
    TRACED = 6  # t, TASK_TRACED
    IDLE = 7  # I, TASK_IDLE: uninterruptible, but no load
    PARKED = 8  # P, TASK_PARKED
    BLOCKED = 9  # blocked, the kernel could not say how
    DEAD = 10  # has exited


STATE_COUNT = len(State)

BLOCKED_STATES = frozenset(
    {
        State.SLEEPING,
        State.DISK,
        State.STOPPED,
        State.TRACED,
        State.IDLE,
        State.PARKED,
        State.BLOCKED,
    }
)

#: Task state letters of /proc/TID/stat field 3. R is refined by whoever reads it.
STATE_OF_LETTER = {
    "R": State.RUNNABLE,
    "S": State.SLEEPING,
    "D": State.DISK,
    "T": State.STOPPED,
    "t": State.TRACED,
    "I": State.IDLE,
    "P": State.PARKED,
    "X": State.DEAD,
    "Z": State.DEAD,
}


def state_name(state: State) -> str:
    """The lower-case word users see and type, such as ``sleeping``."""
    return state.name.lower()
