"""The tables of an HTML page: strings, frames, and all stacks as one tree.

Everything is kept as numbers in arrays. Stacks are told apart by the bytes of their frame numbers,
root first; sorting these puts every stack behind the ones it shares its root with, so that the tree
comes out in preorder without ever being built from objects.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple, Optional

from systemscope.exporters.naming import safe_text, shown_name
from systemscope.model import Frame, FrameKind, Gap

#: Longer names are cut: they come from the target and may be megabytes.
MAX_TEXT = 4000
_UNNAMED = "[unnamed]"
_SHARED_OBJECT = re.compile(r"\.so(?:\.|$)|^ld-linux")


class FrameClass(IntEnum):
    """Whose code a frame is, as the page colours it. The numbers index the page's own names."""

    PROGRAM = 0
    LIBRARY = 1
    KERNEL = 2
    JIT = 3
    PSEUDO = 4


class Tree(NamedTuple):
    """All stacks as a tree in preorder; node 0 is the root and is not listed.

    ``up[i]`` is how far before node ``i + 1`` its parent lies, ``frame[i]`` its frame. ``node_of``
    gives each stack's node.
    """

    up: array[int]
    frame: array[int]
    node_of: array[int]


def bounded_text(text: str, limit: int = MAX_TEXT) -> str:
    """``text``, safe to show and not longer than ``limit`` characters and an ellipsis."""
    return safe_text(text if len(text) <= limit else text[:limit] + "\u2026")


class Strings:
    """Distinct texts by number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {"": 0}

    def number(self, text: str) -> int:
        """The number of ``text``, made safe to show and cut to ``MAX_TEXT``."""
        return self._numbers.setdefault(bounded_text(text), len(self._numbers))

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)


class Frames:
    """Distinct functions by number, as columns; ``name``, ``module``, ``file`` and ``unknown`` are
    numbers of strings. Frames that differ in their line alone are one, with a range of lines.

    Frame objects are recognised by identity first: whoever adds them must keep them alive.
    """

    def __init__(self, strings: Strings) -> None:
        self._strings = strings
        self._numbers: dict[tuple[int, int, int, int, bool], int] = {}
        self._seen: dict[int, int] = {}
        self._gaps: dict[Gap, int] = {}
        self.columns = {
            name: array("Q")
            for name in ("name", "kind", "module", "file", "first", "last", "inlined", "unknown")
        }

    def number(self, frame: Frame) -> int:
        """The number of ``frame``."""
        number = self._seen.get(id(frame))
        if number is None:
            name = shown_name(frame) or _UNNAMED
            kind = _classify(frame)
            unknown = frame.unknown
            number = self._add(
                name, kind, frame.module, frame.file, frame.line, frame.inlined, unknown
            )
            self._seen[id(frame)] = number
        return number

    def gap(self, gap: Gap) -> int:
        """The number of the pseudo-frame that stands for ``gap``."""
        number = self._gaps.get(gap)
        if number is None:
            number = self._gaps[gap] = self._add(gap.value, FrameClass.PSEUDO)
        return number

    def _add(
        self,
        name: str,
        kind: FrameClass,
        module: str = "",
        file: str = "",
        line: int = 0,
        inlined: bool = False,
        unknown: str = "",
    ) -> int:
        of = self._strings.number
        line = line if 0 < line < 1 << 31 else 0
        key = (of(name), int(kind), of(module), of(file), inlined)
        columns = self.columns
        number = self._numbers.setdefault(key, len(self._numbers))
        if number == len(columns["name"]):
            row = (key[0], key[1], key[2], key[3], line, line, int(inlined), of(unknown))
            for column, value in zip(columns.values(), row):
                column.append(value)
        elif line:
            columns["first"][number] = min(columns["first"][number] or line, line)
            columns["last"][number] = max(columns["last"][number], line)
        return number


class Stacks:
    """Distinct stacks by number."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._numbers: dict[bytes, int] = {}

    def number(self, frames: Iterable[Frame], gap: Optional[Gap]) -> int:
        """The number of a stack given root first; the gap that stands for its rest is its leaf."""
        numbers = array("I", map(self._frames.number, frames))
        if gap is not None:
            numbers.append(self._frames.gap(gap))
        return self._numbers.setdefault(numbers.tobytes(), len(self._numbers))

    def tree(self) -> Tree:
        """All stacks so far as one tree."""
        tree = Tree(array("I"), array("I"), array("I", bytes(4 * len(self._numbers))))
        path, nodes = array("I"), array("I", [0])
        for key in sorted(self._numbers):
            stack = array("I", key)
            shared = _shared(path, stack)
            del nodes[shared + 1 :]
            for frame in stack[shared:]:
                node = len(tree.up) + 1
                tree.up.append(node - nodes[-1])
                tree.frame.append(frame)
                nodes.append(node)
            tree.node_of[self._numbers[key]] = nodes[-1]
            path = stack
        return tree


def _shared(one: array[int], other: array[int]) -> int:
    """How many leading numbers are the same."""
    count = 0
    for left, right in zip(one, other):
        if left != right:
            break
        count += 1
    return count


def _classify(frame: Frame) -> FrameClass:
    if frame.kind is FrameKind.KERNEL:
        return FrameClass.KERNEL
    if frame.kind is FrameKind.PSEUDO:
        return FrameClass.PSEUDO
    if frame.kind is FrameKind.JIT:
        return FrameClass.JIT
    if frame.kind is FrameKind.VDSO or _SHARED_OBJECT.search(frame.module):
        return FrameClass.LIBRARY
    return FrameClass.PROGRAM
