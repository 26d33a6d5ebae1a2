"""A Profile: a capture with names, ready for an exporter to write."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Optional

from systemscope.model.capture import Capture, Gap, Mapping, Thread
from systemscope.model.states import State


class FrameKind(Enum):
    """Which world a frame belongs to."""

    KERNEL = "kernel"
    USER = "user"
    VDSO = "vdso"
    JIT = "jit"
    PSEUDO = "pseudo"  # SystemScope's own words: "[sleeping]", "[short waits]"


@dataclass(frozen=True)
class Frame:
    """One named frame. ``name`` is never empty: unresolved ones read ``module+0xoffset``.

    ``offset`` counts from the function's start. ``unknown`` tells why there is no symbol.
    ``inlined`` marks a frame that shares its address with the caller frame after it.
    """

    name: str
    kind: FrameKind
    address: int = 0
    module: str = ""
    file: str = ""
    line: int = 0
    offset: int = 0
    inlined: bool = False
    unknown: str = ""
    build_id: str = ""
    mapping: Optional[Mapping] = None


@dataclass(frozen=True)
class Sample:
    """One weighted stack. ``frames`` are leaf first, pseudo-frames of state not included."""

    thread: Thread
    process_comm: str
    state: State
    frames: tuple[Frame, ...]
    nanoseconds: int
    count: int
    gap: Optional[Gap] = None


@dataclass
class Profile:
    """Samples with names, over the capture they came from (window, threads, losses, overhead).

    ``name_sources`` tells where names came from: (file's name, the table that had them, in words)
    -> how many addresses it named."""

    capture: Capture
    samples: list[Sample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    name_sources: dict[tuple[str, str], int] = field(default_factory=dict)
