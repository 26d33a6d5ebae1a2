"""Leaving out of a capture what the user does not want to see, and counting what was left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Optional

from systemscope.model.capture import Capture, Entry, Thread
from systemscope.model.states import State


class IdleThreads(Enum):
    """What to do with threads that never ran in the window."""

    SHOW = "show"
    HIDE = "hide"
    ONLY = "only"


class ThreadKind(Enum):
    """Whose threads to keep."""

    ALL = "all"
    USER = "user"
    KERNEL = "kernel"


@dataclass(frozen=True)
class Selection:
    """What to keep. ``states`` None keeps all states."""

    states: Optional[frozenset[State]] = None
    idle: IdleThreads = IdleThreads.SHOW
    kind: ThreadKind = ThreadKind.ALL


@dataclass(frozen=True)
class Hidden:
    """What was left out: threads that never ran, threads that did run or were of the wrong kind,
    and nanoseconds of kept threads in states not asked for."""

    idle_threads: int = 0
    idle_ns: int = 0
    other_threads: int = 0
    other_ns: int = 0
    state_ns: int = 0


def select(capture: Capture, selection: Selection) -> tuple[Capture, Hidden]:
    """A capture of the chosen threads and states, and what was hidden.

    The result shares stacks, processes, losses and notes with ``capture``; ``Thread.time`` of kept
    threads stays whole, whatever states were chosen.
    """
    keeps = _kind_filter(capture, selection.kind)
    new_index: dict[int, int] = {}
    threads: list[Thread] = []
    idle: list[Thread] = []
    other: list[Thread] = []
    for index, thread in enumerate(capture.threads):
        if not keeps(thread) or (selection.idle is IdleThreads.ONLY and thread.ran):
            other.append(thread)
        elif selection.idle is IdleThreads.HIDE and not thread.ran:
            idle.append(thread)
        else:
            new_index[index] = len(threads)
            threads.append(thread)
    entries, state_ns = _entries(capture, new_index, selection.states)
    hidden = Hidden(
        idle_threads=len(idle),
        idle_ns=sum(thread.elapsed for thread in idle),
        other_threads=len(other),
        other_ns=sum(thread.elapsed for thread in other),
        state_ns=state_ns,
    )
    return replace(capture, threads=threads, entries=entries), hidden


def _entries(
    capture: Capture, new_index: dict[int, int], states: Optional[frozenset[State]]
) -> tuple[list[Entry], int]:
    """Entries of kept threads in kept states, and the nanoseconds of the other states."""
    entries = []
    dropped = 0
    for entry in capture.entries:
        index = new_index.get(entry.thread)
        if index is None:
            continue
        if states is not None and entry.state not in states:
            dropped += entry.nanoseconds
            continue
        entries.append(entry if index == entry.thread else replace(entry, thread=index))
    return entries, dropped


def _kind_filter(capture: Capture, kind: ThreadKind) -> Callable[[Thread], bool]:
    if kind is ThreadKind.ALL:
        return lambda thread: True
    wanted = kind is ThreadKind.KERNEL

    def keeps(thread: Thread) -> bool:
        process = capture.processes.get(thread.tgid)
        return (process is not None and process.kernel) is wanted

    return keeps
