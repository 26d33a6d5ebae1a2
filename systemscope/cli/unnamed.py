"""A profile without symbols, for a user who will not wait for names."""

from __future__ import annotations

from bisect import bisect_right
from typing import Optional

from systemscope.model import Capture, Entry, Frame, FrameKind, Mapping, Process, Profile, Sample

_REASON = "naming was interrupted"


def unnamed(capture: Capture) -> Profile:
    """``capture`` with frames named ``module+0xoffset`` only. Quick, reads no files."""
    samples = []
    frames_of: dict[tuple[int, int], tuple[Frame, ...]] = {}
    for entry in capture.entries:
        thread = capture.threads[entry.thread]
        process = capture.processes.get(thread.tgid)
        key = (entry.stack, thread.tgid)
        frames = frames_of.get(key)
        if frames is None:
            frames = frames_of[key] = _frames(capture, entry, process)
        comm = process.comm if process is not None else thread.comm
        samples.append(
            Sample(thread, comm, entry.state, frames, entry.nanoseconds, entry.count, entry.gap)
        )
    return Profile(capture, samples, [f"frames have no names: {_REASON}"])


def _frames(capture: Capture, entry: Entry, process: Process | None) -> tuple[Frame, ...]:
    stack = capture.stacks[entry.stack]
    frames = [Frame(name, FrameKind.KERNEL) for name in stack.kernel_names if name]
    frames += [_frame(f"[kernel]+0x{ip:x}", FrameKind.KERNEL, ip) for ip in stack.kernel]
    mappings = _mappings(process, entry.time)
    starts = [mapping.start for mapping in mappings]
    for position, ip in enumerate(stack.user):
        inside = ip - (position > 0)  # the call lies before the address it returns to
        index = bisect_right(starts, inside) - 1
        if index >= 0 and inside < mappings[index].end:
            mapping = mappings[index]
            module = mapping.path.rsplit("/", 1)[-1] or "[anon]"
            offset = ip - mapping.start + mapping.offset
            frames.append(_frame(f"{module}+0x{offset:x}", FrameKind.USER, ip, mapping))
        else:
            frames.append(_frame(f"[unmapped]+0x{ip:x}", FrameKind.USER, ip))
    mark = stack.end_mark(capture.unwinding is not None)
    return (*frames, *([Frame(mark, FrameKind.PSEUDO)] if mark else []))


def _frame(name: str, kind: FrameKind, address: int, mapping: Optional[Mapping] = None) -> Frame:
    # With its mapping, another tool can still find the name.
    return Frame(name, kind, address, unknown=_REASON, mapping=mapping)


def _mappings(process: Process | None, time: int) -> tuple[Mapping, ...]:
    """The mappings of the image that was in force at ``time``."""
    if process is None or not process.images:
        return ()
    current = process.images[0]
    for image in process.images:
        if image.since <= time:
            current = image
    return current.mappings
