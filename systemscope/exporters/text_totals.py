"""Adding a profile up for people: by state, by thread, by function, by wait.

A function counts once a stack, however often it recurs there. Its own time ("self") is that of the
stacks it is the leaf of; the scheduler's functions, under which every wait ends, are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from systemscope.exporters.naming import is_mark, shown_name, thread_label
from systemscope.exporters.text_reasons import at_entry, base_name, in_scheduler, reason
from systemscope.model import (
    BLOCKED_STATES,
    Delay,
    DelayKind,
    Frame,
    FrameKind,
    Gap,
    Profile,
    Sample,
    State,
    Thread,
)

_WAIT_FRAMES = 24  # stacks of waits that differ further out are one
States = dict[State, int]


class Function(NamedTuple):
    """What tells one function from another: unnamed code is told apart by its module only."""

    name: str
    module: str
    kernel: bool
    named: bool


@dataclass
class Times:
    """Nanoseconds of a function by state: as the leaf, and anywhere on the stack.

    ``stacks`` is the same for functions that are on the same stacks. ``depth`` is how far from the
    leaf the function was first seen, ``last`` the number of the stack counted last.
    """

    self: States = field(default_factory=dict)
    total: States = field(default_factory=dict)
    stacks: int = 0
    depth: int = 0
    last: int = -1


@dataclass
class Known:
    """What is known of a frame. It is kept here so that its id stays its own."""

    frame: Frame
    function: Function
    skipped: bool
    mark: bool = False
    times: Times | None = None


@dataclass
class Group:
    """The threads shown in one row."""

    label: str
    threads: set[int] = field(default_factory=set)
    states: States = field(default_factory=dict)
    delays: dict[DelayKind, Delay] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.states.values())

    @property
    def busy(self) -> int:
        return self.states.get(State.RUNNING, 0) + self.states.get(State.RUNNABLE, 0)


@dataclass
class Wait:
    """Waits of one kind on one stack: ``functions`` leaf first, ``labels`` of those who waited."""

    reason: str
    state: State
    functions: tuple[Function, ...]
    nanoseconds: int = 0
    count: int = 0
    cut: bool = False
    labels: dict[str, int] = field(default_factory=dict)


class Totals:
    """Everything the page shows of ``profile``, in nanoseconds. Memory is of the order of the
    different functions and the stacks of waits, which are left out unless ``waits``."""

    def __init__(self, profile: Profile, per_thread: bool, waits: bool = True) -> None:
        self.states: States = {}
        self.gaps: dict[Gap, int] = {}
        self.groups: dict[str, Group] = {}
        self.functions: dict[Function, Times] = {}
        self.waits: dict[tuple[object, ...], Wait] = {}
        self._names = Names()
        self._per_thread = per_thread
        # Threads share stacks: each is looked at once.
        stacks: dict[int, tuple[Sample, States]] = {}
        for sample in profile.samples:
            label = label_of(sample, per_thread)
            self._group(sample, label)
            if sample.gap is not None:
                self.gaps[sample.gap] = self.gaps.get(sample.gap, 0) + sample.nanoseconds
            if waits and sample.state in BLOCKED_STATES and sample.gap is not Gap.SHORT_WAITS:
                self._wait(sample, label)
            _, times = stacks.setdefault(id(sample.frames), (sample, {}))
            _add(times, sample.state, sample.nanoseconds)
        for number, (sample, times) in enumerate(stacks.values()):
            self._stack(sample.frames, times, number)
        self._add_delays(profile.samples)

    @property
    def total(self) -> int:
        return sum(self.states.values())

    def _group(self, sample: Sample, label: str) -> None:
        group = self.groups.get(label)
        if group is None:
            group = self.groups[label] = Group(label)
        group.threads.add(id(sample.thread))
        _add(group.states, sample.state, sample.nanoseconds)
        _add(self.states, sample.state, sample.nanoseconds)

    def _wait(self, sample: Sample, label: str) -> None:
        functions = self._names.telling(sample.frames)
        why = reason(sample.frames, sample.state)
        if sample.gap is not None:
            why, functions = f"not known {sample.gap.value}", ()
        if sample.state in (State.IDLE, State.PARKED):
            functions = ()  # however many of the kernel's threads have nothing to do
        wait = self.waits.setdefault(
            (sample.state, why, functions[:_WAIT_FRAMES], label if self._per_thread else ""),
            Wait(why, sample.state, functions[:_WAIT_FRAMES]),
        )
        wait.cut = wait.cut or len(functions) > _WAIT_FRAMES or self._names.cut(sample.frames)
        wait.nanoseconds += sample.nanoseconds
        wait.count += sample.count
        wait.labels[label] = wait.labels.get(label, 0) + sample.nanoseconds

    def _stack(self, frames: tuple[Frame, ...], times: States, number: int) -> None:
        mark = _mixed(number)
        for depth, frame in enumerate(frames):
            known = self._names.known(frame)
            if known.skipped or known.mark:
                continue
            found = known.times
            if found is None:
                found = known.times = self.functions.setdefault(known.function, Times(depth=depth))
            if found.last == number:
                continue
            found.last = number
            found.stacks ^= mark
            for state, time in times.items():
                found.total[state] = found.total.get(state, 0) + time
        for state, time in times.items():
            leaf = self._names.leaf(frames, state)
            if leaf is None:
                continue
            found = self.functions.setdefault(leaf.function, Times())
            _add(found.self, state, time)
            if leaf.skipped:  # the scheduler's functions count as what they themselves took
                _add(found.total, state, time)
                found.stacks ^= mark

    def _add_delays(self, samples: Iterable[Sample]) -> None:
        threads: dict[int, tuple[Thread, str]] = {}
        for sample in samples:
            if sample.thread.delays is not None and id(sample.thread) not in threads:
                label = label_of(sample, self._per_thread)
                threads[id(sample.thread)] = (sample.thread, label)
        for thread, label in threads.values():
            sums = self.groups[label].delays
            for kind, delay in (thread.delays or {}).items():
                old = sums.get(kind, Delay(0, 0))
                sums[kind] = Delay(old.count + delay.count, old.nanoseconds + delay.nanoseconds)


class Names:
    """Turns frames into functions, each frame once."""

    def __init__(self) -> None:
        self._known: dict[int, Known] = {}

    def known(self, frame: Frame) -> Known:
        """What is known of ``frame``."""
        found = self._known.get(id(frame))
        if found is None:
            skipped = at_entry(frame) or in_scheduler(frame)
            known = Known(frame, _function(frame), skipped, is_mark(frame))
            found = self._known[id(frame)] = known
        return found

    def leaf(self, frames: tuple[Frame, ...], state: State) -> Known | None:
        """The frame whose own time a stack's time is; None for one without functions."""
        for frame in frames:
            found = self.known(frame)
            if not found.mark and (state is State.RUNNING or not found.skipped):
                return found
        first = self.known(frames[0]) if frames else None
        return None if first is None or first.mark else first

    def telling(self, frames: tuple[Frame, ...]) -> tuple[Function, ...]:
        """The functions that tell most of a wait: the kernel's innermost one, then the program's;
        all of the kernel's where there are no others. Unnamed code in a row is one."""
        kernel, others = [], []
        for frame in frames:
            known = self.known(frame)
            if known.mark:
                continue
            if not known.function.kernel:
                others.append(known.function)
            elif not known.skipped:
                kernel.append(known.function)
        return _joined(kernel[:1] + others if others else kernel)

    def cut(self, frames: tuple[Frame, ...]) -> bool:
        """Whether the root of the stack is missing."""
        return bool(frames) and self.known(frames[-1]).mark

    def comparable(self, frames: tuple[Frame, ...]) -> tuple[Function, ...]:
        """The functions in which a stack differs from another of the same program."""
        every = map(self.known, frames)
        return _joined([known.function for known in every if not known.skipped])


def _joined(functions: list[Function]) -> tuple[Function, ...]:
    """``functions`` with unnamed code in a row as one."""
    kept = []
    before = None
    for function in functions:
        if function.named or function != before:
            kept.append(function)
        before = function
    return tuple(kept)


def label_of(sample: Sample, per_thread: bool) -> str:
    """The row a sample's thread is shown in."""
    if per_thread:
        return thread_label(sample.thread)
    return sample.thread.comm or sample.process_comm or "[unnamed]"


def _function(frame: Frame) -> Function:
    kernel = frame.kind is FrameKind.KERNEL
    module = frame.module.rsplit("/", 1)[-1]
    name = shown_name(frame)
    if frame.unknown or (module and name.startswith(module + "+0x")):
        # The address says nothing to a person, and there may be thousands of them.
        bare = name.partition("+0x")[0].strip("[]")
        return Function(f"[{bare or 'unknown'}]", "", kernel, False)
    return Function(base_name(name) if kernel else name, module, kernel, True)


def _mixed(number: int) -> int:
    """64 bits that look random but are the same in every run: marks of sets of stacks are their
    members' bits combined by exclusive or. (The finalizer of MurmurHash3, by Austin Appleby.)"""
    mixed = number + 1
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53, 1):
        mixed = ((mixed ^ (mixed >> 33)) * factor) & 0xFFFFFFFFFFFFFFFF
    return mixed


def _add(sums: States, state: State, time: int) -> None:
    sums[state] = sums.get(state, 0) + time
