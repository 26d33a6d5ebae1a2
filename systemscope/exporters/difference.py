"""Two profiles side by side: the same thing in both, with its time before and after.

Things are the same when their names are: functions by name and module, threads by name. Addresses,
ids and the scheduler's own functions do not count, so that two runs, or two builds, can be
compared.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from systemscope.exporters.text_totals import Function, Names, Totals, label_of
from systemscope.model import Gap, Profile, Sample, State

_Key = TypeVar("_Key", bound=Hashable)


@dataclass
class Change:
    """Nanoseconds before, scaled if so asked, and after."""

    before: int = 0
    after: int = 0

    @property
    def delta(self) -> int:
        return self.after - self.before


class Scale(NamedTuple):
    """By how much the times before are multiplied: a ratio of whole numbers."""

    numerator: int = 1
    denominator: int = 1

    def __call__(self, nanoseconds: int) -> int:
        """``nanoseconds`` scaled, to the nearest one."""
        return (2 * nanoseconds * self.numerator + self.denominator) // (2 * self.denominator)


class StackKey(NamedTuple):
    """One kind of time on one stack; ``functions`` are leaf first."""

    label: str
    state: State
    functions: tuple[Function, ...]
    gap: Gap | None


@dataclass
class Difference:
    """Two profiles added up. ``functions`` is own time, ``scale`` what was done to the times
    before, ``total`` the whole of the threads' time."""

    scale: Scale
    total: Change = field(default_factory=Change)
    states: dict[State, Change] = field(default_factory=dict)
    threads: dict[str, Change] = field(default_factory=dict)
    functions: dict[Function, Change] = field(default_factory=dict)
    stacks: dict[StackKey, Change] = field(default_factory=dict)


def scale_of(before: Profile, after: Profile, normalize: bool) -> Scale:
    """What makes ``before`` as long as ``after``; nothing is scaled unless ``normalize`` is set
    and both hold time."""
    old, new = total_of(before.samples), total_of(after.samples)
    return Scale(new, old) if normalize and old and new else Scale()


def total_of(samples: Iterable[Sample]) -> int:
    """Nanoseconds of all samples."""
    return sum(sample.nanoseconds for sample in samples)


def compare(before: Profile, after: Profile, normalize: bool, per_thread: bool) -> Difference:
    """Add up both profiles and put them side by side."""
    scale = scale_of(before, after, normalize)
    found = Difference(scale, Change(scale(total_of(before.samples)), total_of(after.samples)))
    for profile, is_after in ((before, False), (after, True)):
        totals = Totals(profile, per_thread, waits=False)
        _fill(found.states, totals.states, scale, is_after)
        groups = {label: group.total for label, group in totals.groups.items()}
        _fill(found.threads, groups, scale, is_after)
        own = {one: sum(times.self.values()) for one, times in totals.functions.items()}
        _fill(found.functions, own, scale, is_after)
        _fill(found.stacks, _stacks(profile, per_thread), scale, is_after)
    return found


def by_change(changes: dict[_Key, Change]) -> list[tuple[_Key, Change]]:
    """What changed, most first; equal ones as they come."""
    changed = [item for item in changes.items() if item[1].delta]
    return sorted(changed, key=lambda item: -abs(item[1].delta))


def _fill(changes: dict[_Key, Change], times: dict[_Key, int], scale: Scale, after: bool) -> None:
    for key, time in times.items():
        if not time:
            continue
        change = changes.setdefault(key, Change())
        if after:
            change.after += time
        else:
            change.before += scale(time)


def _stacks(profile: Profile, per_thread: bool) -> dict[StackKey, int]:
    names = Names()
    known: dict[int, tuple[Sample, tuple[Function, ...]]] = {}
    times: dict[StackKey, int] = {}
    for sample in profile.samples:
        found = known.get(id(sample.frames))
        if found is None:
            found = known[id(sample.frames)] = (sample, names.comparable(sample.frames))
        key = StackKey(label_of(sample, per_thread), sample.state, found[1], sample.gap)
        times[key] = times.get(key, 0) + sample.nanoseconds
    return times
