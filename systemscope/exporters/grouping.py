"""A profile's samples in groups."""

from __future__ import annotations

from systemscope.model import Profile, Sample


def by_thread(profile: Profile) -> list[list[Sample]]:
    """The samples of each thread (one life of a tid), in order of appearance."""
    groups: dict[int, list[Sample]] = {}
    for sample in profile.samples:
        groups.setdefault(id(sample.thread), []).append(sample)
    return list(groups.values())
