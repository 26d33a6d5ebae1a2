"""What the kernel's own delay accounting says a thread waited for.

The kinds are those of ``struct taskstats`` (``include/uapi/linux/taskstats.h``); see also
``Documentation/accounting/delay-accounting.rst``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class DelayKind(Enum):
    """A reason to wait. The value is the word users see."""

    CPU = "cpu"  # waiting for a CPU while runnable
    BLOCK_IO = "block I/O"
    SWAP_IN = "swap-in"
    RECLAIM = "reclaim"  # freeing memory directly
    THRASHING = "thrashing"  # waiting for pages evicted a moment ago
    COMPACT = "compaction"
    COPY = "page-fault copy"  # write-protect faults that copy a page
    INTERRUPTS = "interrupts"  # time its CPU spent in hard and soft interrupts meanwhile


@dataclass(frozen=True)
class Delay:
    """How often and how long, within the window."""

    count: int
    nanoseconds: int
