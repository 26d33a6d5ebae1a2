"""The capture itself, unnamed: what another machine turns into any other format."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import BinaryIO

from systemscope.errors import OutputError, UsageError
from systemscope.exporters.formats import ExportOptions
from systemscope.model import Frame, FrameKind, HostFacts, KernelSymbol, Profile


def write(profile: Profile, stream: BinaryIO, options: ExportOptions = ExportOptions()) -> None:
    """Write the profile's capture as a capture file; ``options`` do not matter.

    A profile that was named where it was recorded is written with the facts that its names tell:
    all but the vdso's.

    Raises UsageError for a profile that was never a capture, OutputError for one that the format
    cannot hold, and what the stream raises.
    """
    from systemscope.wire.capture_columns import ColumnError
    from systemscope.wire.capture_encode import write_capture
    from systemscope.wire.capture_sections import SectionError

    if profile.samples and not profile.capture.entries:
        raise UsageError(
            "a profile of another tool holds no capture", "convert it to another format"
        )
    capture = profile.capture
    if capture.facts is None and profile.samples:
        capture = replace(capture, facts=_facts(profile))
    try:
        write_capture(capture, stream)
    except (ColumnError, SectionError) as error:
        raise OutputError(f"the capture cannot be written: {error}") from error


def _facts(profile: Profile) -> HostFacts:
    """What the frames of a named profile tell of the machine."""
    facts = HostFacts()
    symbols: dict[tuple[int, str, str], int] = {}
    for frame in _frames(profile):
        if frame.kind is FrameKind.KERNEL:
            if not frame.unknown and frame.address:
                module = frame.module.strip("[]")
                start = frame.address - frame.offset
                key = (start, frame.name, "" if module == "kernel" else module)
                symbols[key] = max(symbols.get(key, 0), frame.address + 1)
        elif frame.build_id and frame.mapping is not None:
            file = frame.mapping.file
            numbers = (file.major, file.minor, file.inode, file.generation) if file else (0,) * 4
            facts.build_ids[frame.mapping.path, numbers] = frame.build_id
    facts.kernel_symbols = [
        KernelSymbol(start, end, name, module)
        for (start, name, module), end in sorted(symbols.items())
        if start >= 0
    ]
    return facts


def _frames(profile: Profile) -> Iterable[Frame]:
    """Every frame, those of a stack that several samples share once."""
    seen: set[int] = set()
    for sample in profile.samples:
        if id(sample.frames) not in seen:
            seen.add(id(sample.frames))
            yield from sample.frames
