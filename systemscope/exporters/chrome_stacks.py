"""The stacks of a timeline: names of their frames, and samples drawn as nested slices."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple, Optional, TypeVar

from systemscope.exporters.chrome_json import text
from systemscope.exporters.naming import shown_name
from systemscope.exporters.text_reasons import reason
from systemscope.model import Frame, FrameKind, Gap, Profile, State

_CACHED = 4096  # stacks whose JSON is kept
_DEEPEST = 256  # frames drawn below one slice; a trace's readers have limits of their own
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_NO_WORDS = "something"  # how reason() begins where it does not know


class Drawn(NamedTuple):
    """A frame as JSON: its name, and name and category as members of an event."""

    name: str
    members: str


class Span(NamedTuple):
    """One frame over [begin, end), ``depth`` levels below the slice it is drawn in."""

    frame: Drawn
    begin: int
    end: int
    depth: int


_NO_STACK = Drawn(text(Gap.NO_STACK.value), f'"name":{text(Gap.NO_STACK.value)},"cat":"pseudo"')
_CALLER_LIMIT = Drawn('"[deeper frames]"', '"name":"[deeper frames]","cat":"pseudo"')


class StackNames:
    """Names the stacks of events through the profile's samples, which share entries with them."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        capture = profile.capture
        self._of_thread: dict[tuple[int, int], int] = {}
        if len(capture.entries) == len(profile.samples):
            for index, entry in enumerate(capture.entries):
                if entry.stack:
                    self._of_thread.setdefault((entry.thread, entry.stack), index)
        self._of_process: Optional[dict[tuple[int, int], int]] = None
        self._drawn: OrderedDict[tuple[int, int], tuple[Drawn, ...]] = OrderedDict()
        self._listed: OrderedDict[tuple[int, int], str] = OrderedDict()
        self._frames: dict[tuple[str, FrameKind, str], Drawn] = {}
        self._reasons: OrderedDict[tuple[int, int, State], str] = OrderedDict()

    def frames(self, thread: int, stack: int) -> Sequence[Frame]:
        """The frames of ``stack``, leaf first, as seen in ``Capture.threads[thread]``."""
        capture = self._profile.capture
        index = self._of_thread.get((thread, stack))
        if index is None:
            # A stack of waits that were all shorter than others of its entry, or filtered out.
            if self._of_process is None:
                self._of_process = {
                    (capture.threads[life].tgid, one): at
                    for (life, one), at in self._of_thread.items()
                }
            index = self._of_process.get((capture.threads[thread].tgid, stack))
        if index is not None:
            return self._profile.samples[index].frames
        return self._unnamed(stack)

    def _unnamed(self, stack: int) -> Sequence[Frame]:
        """Addresses, where no sample has names for them."""
        if not 0 < stack < len(self._profile.capture.stacks):
            return ()
        raw = self._profile.capture.stacks[stack]
        named = [Frame(name, FrameKind.KERNEL) for name in raw.kernel_names]
        kernel = [Frame(f"[kernel]+{ip:#x}", FrameKind.KERNEL, ip) for ip in raw.kernel]
        user = [Frame(f"{ip:#x}", FrameKind.USER, ip) for ip in raw.user]
        mark = raw.end_mark(self._profile.capture.unwinding is not None)
        return [*named, *kernel, *user, *([Frame(mark, FrameKind.PSEUDO)] if mark else [])]

    def drawn(self, thread: int, stack: int) -> tuple[Drawn, ...]:
        """The frames of a sample, root first."""
        key = (thread, stack)
        found = self._drawn.get(key)
        if found is None:
            frames = self.frames(thread, stack)
            root_first = [self._draw(frame) for frame in reversed(frames[:_DEEPEST])]
            if len(frames) > _DEEPEST:
                root_first.insert(0, _CALLER_LIMIT)
            found = tuple(root_first) or (_NO_STACK,)
            _keep(self._drawn, key, found)
        return found

    def listed(self, thread: int, stack: int) -> str:
        """The frames of a wait, leaf first, as a JSON array; "" where there is none."""
        key = (thread, stack)
        found = self._listed.get(key)
        if found is None:
            names = [self._draw(frame).name for frame in self.frames(thread, stack)[:_DEEPEST]]
            found = f"[{','.join(names)}]" if names else ""
            _keep(self._listed, key, found)
        return found

    def reason(self, thread: int, stack: int, state: State) -> str:
        """What a wait was for, in words; "" where its stack does not tell."""
        key = (thread, stack, state)
        found = self._reasons.get(key)
        if found is None:
            found = reason(self.frames(thread, stack), state) if stack else ""
            found = "" if found.startswith(_NO_WORDS) else found
            _keep(self._reasons, key, found)
        return found

    def _draw(self, frame: Frame) -> Drawn:
        # What is called the same is drawn as one, whichever line of it was running.
        key = (shown_name(frame), frame.kind, frame.module)
        found = self._frames.get(key)
        if found is None:
            name = text(key[0])
            module = os.path.basename(frame.module).replace(",", "_")
            category = f"{frame.kind.value},{module}" if module else frame.kind.value
            found = Drawn(name, f'"name":{name},"cat":{text(category)}')
            self._frames[key] = found
        return found


def _keep(cache: OrderedDict[_Key, _Value], key: _Key, value: _Value) -> None:
    cache[key] = value
    if len(cache) > _CACHED:
        cache.popitem(last=False)


def extents(
    samples: Sequence[tuple[int, int]], begin: int, end: int, period: int
) -> list[tuple[int, int, int]]:
    """(begin, end, stack) of each sample of a run over [begin, end).

    A sample stands for the time half way to its neighbours and up to the run's ends, but never for
    more than one ``period`` each way (0: without limit): what lies further off was not sampled.
    """
    found = []
    last = len(samples) - 1
    for index, (moment, stack) in enumerate(samples):
        low, high = begin, end
        if index:
            low = (samples[index - 1][0] + moment) // 2
        if index < last:
            high = (moment + samples[index + 1][0]) // 2
        if period:
            low, high = max(low, moment - period), min(high, moment + period)
        low, high = max(low, begin), min(high, end)
        if low < high:
            found.append((low, high, stack))
    return found


def spans(stretches: Sequence[tuple[int, int, tuple[Drawn, ...]]]) -> list[Span]:
    """Stacks over stretches of time, in order, as nested spans: callers before what they call.

    Frames that stretches without a pause between them have in common, from the root on, are one
    span.
    """
    frames: list[Drawn] = []  # of each span: its frame, begin, end, depth
    begins: list[int] = []
    ends: list[int] = []
    depths: list[int] = []
    open_: list[int] = []
    reached = -1
    for begin, end, stack in stretches:
        common = 0
        if begin == reached:
            for at, frame in zip(open_, stack):
                if frames[at] is not frame:
                    break
                common += 1
        for at in open_[:common]:
            ends[at] = end
        del open_[common:]
        for depth in range(common, len(stack)):
            open_.append(len(frames))
            frames.append(stack[depth])
            begins.append(begin)
            ends.append(end)
            depths.append(depth)
        reached = end
    return [Span(*span) for span in zip(frames, begins, ends, depths)]
