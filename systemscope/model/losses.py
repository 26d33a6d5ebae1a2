"""What could not be seen, counted. A profile that hides a loss is a bug."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass
class Losses:
    """Every count is of events, unless its name ends in ``_ns``."""

    samples_missing: int = 0  # fewer than the measured running time makes likely
    stacks_table_full: int = 0
    counts_table_full: int = 0
    threads_table_full: int = 0
    exits_table_full: int = 0
    walks_failed: int = 0
    stacks_truncated: int = 0
    stack_collisions: int = 0
    updates_refused: int = 0  # a table refused an update (-EBUSY in NMI context)
    sideband_lost: int = 0
    processes_forgotten: int = 0  # processes or images for which there was no room
    mappings_dropped: int = 0
    files_not_pinned: int = 0  # their names may be missing if their process has ended
    recursion_missed: int = 0
    switches_missed: int = 0  # a thread came back that had not been seen to leave
    clock_backwards: int = 0
    timeline_events_lost: int = 0  # did not fit into the ring, or onto the disk
    delays_lost: int = 0  # exits whose delay accounts did not arrive
    unresolved_frames: int = 0  # filled in by the symbolizer
    resolved_frames: int = 0
    unaccounted_ns: int = 0

    def items(self) -> list[tuple[str, int]]:
        """(name, count) in declaration order."""
        return [(f.name, int(getattr(self, f.name))) for f in fields(self)]

    def add(self, other: Losses) -> None:
        """Add ``other``'s counts to this one's."""
        for name, count in other.items():
            setattr(self, name, getattr(self, name) + count)
