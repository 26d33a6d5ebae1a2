"""A Capture: what the kernel saw over one window. Addresses and nanoseconds, nothing named.

All times are CLOCK_MONOTONIC nanoseconds. A capture is plain data (but for its timeline, which may
lie in an open file): it can be saved and symbolized on another machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Optional

from systemscope.model.delays import Delay, DelayKind
from systemscope.model.host import HostFacts
from systemscope.model.losses import Losses
from systemscope.model.states import State
from systemscope.model.timeline import Timeline
from systemscope.model.unwinding import END_MARKS, StackEnd, UnwindReport


@dataclass(frozen=True)
class FileId:
    """The file behind a mapping, as the kernel identifies it."""

    major: int
    minor: int
    inode: int
    generation: int = 0


@dataclass(frozen=True)
class Mapping:
    """One executable mapping of a process: [start, end) shows ``path`` from ``offset`` on.

    ``path`` is as the target sees it (its own root and mount namespace), without the kernel's
    " (deleted)" suffix, which becomes ``deleted``. Pseudo mappings keep their brackets: "[vdso]",
    "[heap]"; anonymous ones have an empty path.
    """

    start: int
    end: int
    offset: int
    path: str
    file: Optional[FileId] = None
    deleted: bool = False


@dataclass(frozen=True)
class Image:
    """A process's address space from ``since`` on: a new one begins at each exec.

    ``mappings`` are sorted by start. Mappings that were replaced while the image lived are kept
    after the newer ones in ``replaced``.
    """

    since: int
    mappings: tuple[Mapping, ...]
    replaced: tuple[Mapping, ...] = ()


@dataclass
class Process:
    """A thread group seen in the window. ``images`` are in time order, at least one if known.

    ``uid`` (-1: unknown) and ``host_files``, which says that its paths are ours, help to find its
    files here; they are not part of a capture file."""

    tgid: int
    comm: str = ""
    images: list[Image] = field(default_factory=list)
    cgroup: str = ""
    namespace_pid: int = 0
    kernel: bool = False
    uid: int = field(default=-1, compare=False)
    host_files: bool = field(default=False, compare=False)


@dataclass
class Thread:
    """One thread and how its time in the window splits.

    ``begin`` and ``end`` bound its life inside the window. ``time`` and ``elsewhere`` sum to
    ``end - begin``.
    ``waits`` counts the periods spent in each state. ``delays`` is what the kernel's own delay
    accounting says of the same time; None where it was not asked.
    """

    tid: int
    tgid: int
    comm: str
    begin: int
    end: int
    time: dict[State, int] = field(default_factory=dict)
    waits: dict[State, int] = field(default_factory=dict)
    born: bool = False
    died: bool = False
    ran: bool = True  # switched in or out, or running, at least once within the window
    preemptions: int = 0
    elsewhere: int = 0  # ns left out: on CPUs not asked for, or in waits that ended there
    delays: Optional[dict[DelayKind, Delay]] = None

    @property
    def elapsed(self) -> int:
        """Nanoseconds of the window this thread was alive."""
        return self.end - self.begin

    @property
    def accounted(self) -> int:
        """Nanoseconds whose state is known."""
        known = sum(ns for state, ns in self.time.items() if state is not State.UNKNOWN)
        return known + self.elsewhere


class Gap(Enum):
    """Why an amount of time carries no stack."""

    NOT_SAMPLED = "[not sampled]"  # on-CPU time of a thread no sample hit
    SHORT_WAITS = "[short waits]"  # rest of the waits under the threshold
    NO_STACK = "[no stack]"  # the walk failed or there was no way to walk
    TABLE_FULL = "[table full]"  # an in-kernel table was full
    MISSED = "[missed events]"  # the kernel did not run our program when the thread switched
    NEW_THREAD = "[new thread]"  # waiting for its first CPU: it has no stack yet


@dataclass(frozen=True)
class Stack:
    """Return addresses leaf first; user[0] is an instruction pointer. ``kernel_names`` is set
    instead of ``kernel`` where only /proc/TID/stack was to be had: frames already named by the
    kernel, as "symbol+0xoff".
    ``*_truncated`` says the walk stopped at the depth limit. ``user_end`` is how a walk by unwind
    tables ended; ``user_by_pointer`` says that some of its frames lie in code without a table and
    were left by their frame pointer. Code that a signal interrupted, and the code that signal
    handlers return to, was not left by a call: there the address is one too high, so that the
    byte before it is always the one to look up."""

    kernel: tuple[int, ...] = ()
    user: tuple[int, ...] = ()
    kernel_names: tuple[str, ...] = ()
    kernel_truncated: bool = False
    user_truncated: bool = False
    user_end: StackEnd = StackEnd.UNTOLD
    user_by_pointer: bool = False

    @property
    def ended(self) -> StackEnd:
        """Where the user stack ends: DEPTH too for a walk by frame pointers, or one that never
        began, which the limit cut short."""
        if self.user_end is StackEnd.UNTOLD and self.user_truncated:
            return StackEnd.DEPTH
        return self.user_end

    @property
    def has_user(self) -> bool:
        """Whether there is a user stack, even one of which nothing could be read."""
        return bool(self.user) or self.user_end is not StackEnd.UNTOLD

    def end_mark(self, tables: bool) -> str:
        """The frame that says why the user stack is not whole, "" where there is nothing to say.
        ``tables`` says that unwind tables were in use; without them only a walk by tables has
        one."""
        if not self.has_user or (self.user_end is StackEnd.UNTOLD and not tables):
            return ""
        return END_MARKS.get(self.ended, "")


@dataclass
class Entry:
    """``nanoseconds`` of one thread in one state with one stack (or the gap that stands for it).

    ``thread`` and ``stack`` index ``Capture.threads`` and ``Capture.stacks``. ``time`` is a moment
    at which the stack's addresses were valid: it picks the process image. ``count`` is samples for
    RUNNING, waits otherwise.
    """

    thread: int
    state: State
    stack: int
    nanoseconds: int
    count: int
    time: int
    gap: Optional[Gap] = None


@dataclass
class Overhead:
    """What profiling cost. Zero where the kernel does not tell."""

    cpu_seconds: float = 0.0
    bpf_run_seconds: float = 0.0
    bpf_runs: int = 0
    bpf_memory_bytes: int = 0
    first_event_seconds: float = 0.0


@dataclass
class Capture:
    """Everything one window yielded. ``stacks[0]`` is the empty stack.

    ``timeline`` is there when one was recorded. ``facts`` is what another machine needs to know of
    this one to name the addresses; None while they are named where they were seen. ``unwinding``
    tells what the tables that user stacks were unwound by took.
    """

    start: int
    end: int
    wall_start: float  # seconds since the epoch
    frequency: int
    event: str  # the sampling event: "cycles", "cpu-clock", or "" when nothing was sampled
    command: str = ""
    kernel: str = ""
    hostname: str = ""
    threads: list[Thread] = field(default_factory=list)
    processes: dict[int, Process] = field(default_factory=dict)
    stacks: list[Stack] = field(default_factory=lambda: [Stack()])
    entries: list[Entry] = field(default_factory=list)
    losses: Losses = field(default_factory=Losses)
    overhead: Overhead = field(default_factory=Overhead)
    notes: list[str] = field(default_factory=list)  # one line each: fallbacks taken and their cost
    samples: int = 0
    ended_by: str = "duration"
    timeline: Optional[Timeline] = None
    facts: Optional[HostFacts] = None
    unwinding: Optional[UnwindReport] = None  # None where no tables were used
