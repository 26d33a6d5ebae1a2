"""Keeps the in-kernel tables from filling up: what is in them moves here in time.

Counts lie in two tables of which one takes charges at a time, so the other can be emptied without
losing any. A stack that is taken out is here for good: should it come up again it is put in again.
"""

from __future__ import annotations

from systemscope.collectors.readout import CountRow, CountTotals, StackReader
from systemscope.collectors.session import Session
from systemscope.programs.config import StackTable


class Tables:
    """Totals and stacks of a whole window."""

    def __init__(self, session: Session) -> None:
        config = session.plan.config
        self._totals = CountTotals()
        self._stacks = StackReader(config.stack_table)
        self._hashed = config.stack_table is StackTable.HASHED
        self._pieces = config.chained
        self._count_limit, self._stack_limit = config.counts // 2, config.stacks // 2
        self._counts_taken = self._stacks_taken = 0

    def keep_up(self, session: Session, stats: dict[str, int]) -> None:
        """Empty what is half full, judging by how much is new in it."""
        if stats["new_counts"] - self._counts_taken > self._count_limit:
            self._counts_taken = stats["new_counts"]
            self._totals.add(*session.switch_counts().drain())
        if stats["new_stacks"] - self._stacks_taken > self._stack_limit:
            self._stacks_taken = stats["new_stacks"]
            if self._hashed:
                self._stacks.add(*session.map("stacks").drain())
            if self._pieces:
                self._stacks.add_pieces(*session.map("stack_pieces").drain())

    def counts(self, session: Session) -> list[CountRow]:
        """All charges of the window."""
        self._totals.add(*session.map("counts").read_all())
        self._totals.add(*session.map("counts_second").read_all())
        return self._totals.rows()

    def stacks(self, session: Session, wanted: set[int]) -> StackReader:
        """All stacks of the window."""
        self._stacks.read(session.map("stacks"), wanted)
        if self._pieces:
            self._stacks.add_pieces(*session.map("stack_pieces").read_all())
        return self._stacks
