"""How user stacks were unwound: where each walk ended, and what the tables took."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class StackEnd(IntEnum):
    """Why the walk of a user stack ended. The numbers are shared with the BPF programs."""

    UNTOLD = 0  # the kernel followed frame pointers, or there is no user stack
    ENTRY = 1  # the entry point of the thread: the stack is whole
    DEPTH = 2  # the limit of frames
    NO_TABLE = 3  # code without a table, and the frame pointer leads nowhere
    UNREADABLE = 4  # the stack's memory could not be read
    UNSUPPORTED = 5  # the table's rule is of a kind that is not supported
    STRAYED = 6  # the rule led to a frame that is not above the last one


#: The frame that stands at the root of a user stack that is not whole. UNTOLD has one only where
#: tables were in use: there, frame pointers are what was left.
END_MARKS = {
    StackEnd.UNTOLD: "[frame pointers only]",
    StackEnd.DEPTH: "[truncated stack]",
    StackEnd.NO_TABLE: "[no unwind table]",
    StackEnd.UNREADABLE: "[unreadable stack]",
    StackEnd.UNSUPPORTED: "[unsupported unwind rule]",
    StackEnd.STRAYED: "[strayed stack]",
}
MARK_NAMES = frozenset(END_MARKS.values())


@dataclass
class UnwindReport:
    """What unwinding by tables took in one window.

    ``method`` is how the programs loop ("bpf_loop", "bounded loop", "tail calls").
    ``table_bytes`` of at most ``limit_bytes`` lie in kernel memory as the window closes.
    ``build_seconds`` is CPU time of ours. ``cached`` of the ``files`` came from the disk cache;
    ``dropped`` had to go for others, ``refused`` found no room; ``without`` have no usable table.
    """

    method: str = ""
    files: int = 0
    rows: int = 0
    table_bytes: int = 0
    limit_bytes: int = 0
    build_seconds: float = 0.0
    cached: int = 0
    dropped: int = 0
    refused: int = 0
    without: int = 0
    processes: int = 0
