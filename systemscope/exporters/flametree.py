"""A flame graph's boxes: stacks with a common beginning share their boxes, from the root on.

The tree is split from the root downwards and only where a box is wide enough to be seen: however
many stacks there are, memory is that of a list of them and of the boxes drawn. What is too narrow
is added up in one box beside its siblings, so that nothing is lost from the total.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from systemscope.exporters.naming import shown_name, state_frame
from systemscope.exporters.palette import World, world_of
from systemscope.exporters.text_totals import label_of
from systemscope.model import FrameKind, Profile, Sample, State

_NAME = 400  # characters: mangled names run to thousands


class Kind(Enum):
    """What a box stands for."""

    ROOT = "root"
    THREAD = "thread"
    FRAME = "frame"
    GAP = "gap"
    STATE = "state"
    SMALL = "small"  # siblings too narrow to be drawn
    DEEPER = "deeper"  # callees beyond the greatest depth


class Key(NamedTuple):
    """What tells a box from its siblings."""

    name: str
    kind: Kind
    world: World


class Item(NamedTuple):
    """One stack's time: ``before`` is 0 unless two profiles are compared."""

    sample: Sample
    label: str
    before: int
    after: int


@dataclass
class Box:
    """A box of the graph. ``weight`` is its width: before and after together. ``count`` is how many
    siblings a SMALL one stands for, or how many frames deeper the deepest stack of a DEEPER one
    goes."""

    key: Key
    depth: int
    before: int = 0
    after: int = 0
    states: dict[State, int] = field(default_factory=dict)
    children: list[Box] = field(default_factory=list)
    count: int = 0

    @property
    def weight(self) -> int:
        return self.before + self.after

    def add(self, item: Item) -> None:
        """Count ``item`` in."""
        self.before += item.before
        self.after += item.after
        state = item.sample.state
        self.states[state] = self.states.get(state, 0) + item.before + item.after


class Tree:
    """The boxes of ``items``. Those with less than ``least`` of the whole are merged; none is
    deeper than ``most`` levels below the root."""

    def __init__(self, items: Sequence[Item], least: float, most: int, state: bool) -> None:
        self._frames: dict[int, tuple[object, Key]] = {}
        self._state = state
        self._most = most
        self.root = Box(Key("all", Kind.ROOT, World.PROGRAM), 0)
        for item in items:
            self.root.add(item)
        self._least = least * self.root.weight
        pending = [(self.root, list(items))]
        while pending:
            box, inside = pending.pop()
            if box.depth == most:
                self._cut(box, inside)
            else:
                pending += self._split(box, inside)

    def _split(self, box: Box, inside: list[Item]) -> list[tuple[Box, list[Item]]]:
        """Give ``box`` its children; those that are to be split further, with what is in them."""
        groups: dict[Key, list[Item]] = {}
        for item in inside:
            key = self._key(item, box.depth)
            if key is not None:
                groups.setdefault(key, []).append(item)
        small = Box(Key("", Kind.SMALL, World.PROGRAM), box.depth + 1)
        wide = []
        for key, members in groups.items():
            child = Box(key, box.depth + 1)
            for item in members:
                child.add(item)
            if child.weight and child.weight >= self._least:
                box.children.append(child)
                wide.append((child, members))
            elif child.weight:
                for item in members:
                    small.add(item)
                small.count += 1
        box.children.sort(key=lambda one: (-one.weight, one.key.name, one.key.kind.value))
        if small.count:
            box.children.append(small)
        return wide

    def _cut(self, box: Box, inside: list[Item]) -> None:
        """Turn a child at the greatest depth into one that says how much is missing."""
        deepest = max((self._length(item) - box.depth for item in inside), default=0)
        if deepest > 0:
            box.count = deepest + 1
            box.key = Key("", Kind.DEEPER, box.key.world)

    def _length(self, item: Item) -> int:
        sample = item.sample
        return 1 + len(sample.frames) + (sample.gap is not None) + self._state

    def _key(self, item: Item, depth: int) -> Key | None:
        """The box of ``item`` at ``depth`` (0: the thread's); None past the leaf."""
        sample = item.sample
        if not depth:
            return Key(item.label[:_NAME], Kind.THREAD, World.PROGRAM)
        frames = sample.frames
        if depth <= len(frames):
            frame = frames[-depth]
            known = self._frames.get(id(frame))
            if known is None:
                kind = Kind.GAP if frame.kind is FrameKind.PSEUDO else Kind.FRAME
                key = Key(shown_name(frame)[:_NAME], kind, world_of(frame))
                # The frame is kept with it: an id may be used again only after that.
                known = self._frames[id(frame)] = (frame, key)
            return known[1]
        position = depth - len(frames)
        if sample.gap is not None:
            if position == 1:
                return Key(sample.gap.value, Kind.GAP, World.PROGRAM)
            position -= 1
        if self._state and position == 1:
            return Key(state_frame(sample.state), Kind.STATE, World.PROGRAM)
        return None


def items_of(profile: Profile, per_thread: bool) -> list[Item]:
    """The stacks of one profile."""
    return [
        Item(sample, label_of(sample, per_thread), 0, sample.nanoseconds)
        for sample in profile.samples
    ]


def height(root: Box) -> int:
    """Levels of boxes, the root's included."""
    deepest, pending = 0, [root]
    while pending:
        box = pending.pop()
        deepest = max(deepest, box.depth)
        pending += box.children
    return deepest + 1
