"""A page for people: who spent how much time in which state, and on which stacks.

Threads are merged by name unless asked to be told apart; those that were busiest come first.
Stacks read from the leaf outwards, the kernel's part shortened, cut to fit a line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TextIO

from systemscope.exporters.formats import ExportOptions, Format
from systemscope.exporters.naming import safe_text, shown_name, suffix, thread_label
from systemscope.model import Frame, FrameKind, Profile, Sample, State, state_name

FORMAT = Format(
    name="top",
    extensions=(".top",),
    summary="a page to read: the busiest threads, their states and their heaviest stacks",
    binary=False,
    module=__name__,
)
_GROUPS = 20
_STACKS = 5
_STACK_WIDTH = 75
_DEPTH = 12
_ARROW = " < "
#: Functions of kernel/sched/core.c and kernel/time/ through which every wait goes.
_SCHEDULER = frozenset(
    {
        "__schedule",
        "schedule",
        "schedule_idle",
        "schedule_preempt_disabled",
        "schedule_timeout",
        "schedule_hrtimeout_range",
        "schedule_hrtimeout_range_clock",
        "preempt_schedule",
        "preempt_schedule_irq",
        "preempt_schedule_common",
        "io_schedule",
        "io_schedule_timeout",
        "__cond_resched",
    }
)
_BUSY = (State.RUNNING, State.RUNNABLE)


@dataclass
class _Group:
    """The threads shown under one heading. Times are nanoseconds."""

    label: str
    threads: set[int] = field(default_factory=set)
    states: dict[State, int] = field(default_factory=dict)
    stacks: dict[tuple[State, str], int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.states.values())

    @property
    def busy(self) -> int:
        return sum(self.states.get(state, 0) for state in _BUSY)


def write(profile: Profile, stream: TextIO, options: ExportOptions = ExportOptions()) -> None:
    """Write ``profile`` to the text stream ``stream``. Raises whatever the stream raises."""
    groups = sorted(_groups(profile, options), key=lambda one: (-one.busy, -one.total, one.label))
    if not groups:
        stream.write("no thread time to show\n")
    for number, group in enumerate(groups[:_GROUPS]):
        if number:
            stream.write("\n")
        _write_group(group, stream, options)
    rest = groups[_GROUPS:]
    if rest:
        spent = _seconds(sum(group.total for group in rest))
        stream.write(f"\nand {len(rest)} more, less busy, {spent} of thread time in all\n")


def _groups(profile: Profile, options: ExportOptions) -> list[_Group]:
    groups: dict[str, _Group] = {}
    for sample in profile.samples:
        thread = sample.thread
        if options.per_thread:
            label = thread_label(thread)
        else:
            label = safe_text(thread.comm or sample.process_comm)
        group = groups.get(label)
        if group is None:
            group = groups[label] = _Group(label)
        group.threads.add(id(thread))
        group.states[sample.state] = group.states.get(sample.state, 0) + sample.nanoseconds
        key = (sample.state, _stack(sample, options))
        group.stacks[key] = group.stacks.get(key, 0) + sample.nanoseconds
    return list(groups.values())


def _stack(sample: Sample, options: ExportOptions) -> str:
    """Where the kernel was, in one frame, then the user's own frames; as many as fit."""
    names = [sample.gap.value] if sample.gap is not None else []
    for frame in _telling(sample):
        name = safe_text(shown_name(frame)) + (suffix(frame) if options.annotate else "")
        if not (frame.unknown and names and name == names[-1]):
            names.append(name)
    text = _ARROW.join(names) or "[no stack]"
    return text if len(text) <= _STACK_WIDTH else text[: _STACK_WIDTH - 3] + "..."


def _telling(sample: Sample) -> list[Frame]:
    """The frames that tell most. The scheduler's own are the same under every wait; where user
    code is below, the kernel's innermost frame that is not one of them says what it waits for."""
    kernel = [frame for frame in sample.frames if frame.kind is FrameKind.KERNEL]
    others = [frame for frame in sample.frames if frame.kind is not FrameKind.KERNEL]
    if sample.state is not State.RUNNING:
        kernel = [frame for frame in kernel if frame.name not in _SCHEDULER] or kernel
    return (kernel[:1] + others if others else kernel)[:_DEPTH]


def _write_group(group: _Group, stream: TextIO, options: ExportOptions) -> None:
    count = len(group.threads)
    threads = "" if options.per_thread else f", {count} thread{'' if count == 1 else 's'}"
    states = sorted(group.states.items(), key=lambda item: -item[1])
    split = ", ".join(f"{state_name(state)} {_share(time, group)}" for state, time in states)
    stream.write(f"{group.label}{threads}, {_seconds(group.total)}: {split}\n")
    heaviest = sorted(group.stacks.items(), key=lambda item: (-item[1], item[0]))
    for (state, stack), time in heaviest[:_STACKS]:
        if time * 1000 >= group.total:  # a tenth of a percent
            stream.write(f"  {_share(time, group):>7}  {state_name(state):<9} {stack}\n")


def _share(time: int, group: _Group) -> str:
    return f"{100 * time / max(1, group.total):.1f} %"


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e9:.3f} s"
