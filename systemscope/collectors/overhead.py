"""What the profile costs: the programs' run time, measured a tenth of the time.

The kernel's own statistics cost about 50 ns a program run while they are on, so they are switched
on for a slice of each second only and the result is extrapolated.
"""

from __future__ import annotations

import time
from typing import Optional

from systemscope.bpf.stats import BpfStats
from systemscope.collectors.session import Session
from systemscope.errors import SystemScopeError

PERIOD_NS = 1_000_000_000
SLICE_NS = 100_000_000


class RunTimeSampler:
    """Switches the statistics on and off as told the time; a context manager."""

    def __init__(self, session: Session, available: bool) -> None:
        self._session, self._available = session, available
        self._stats: Optional[BpfStats] = None
        self._since = self._measured = 0

    def __enter__(self) -> RunTimeSampler:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def tick(self, elapsed_ns: int) -> None:
        """On in the first slice of each second, off in the rest."""
        if not self._available:
            return
        wanted = elapsed_ns % PERIOD_NS < SLICE_NS
        if wanted and self._stats is None:
            try:
                stats = BpfStats()
                stats.__enter__()
            except SystemScopeError:
                self._available = False
                return
            self._stats, self._since = stats, time.monotonic_ns()
        elif not wanted:
            self.stop()

    def stop(self) -> None:
        """Switch them off."""
        if self._stats is not None:
            self._measured += time.monotonic_ns() - self._since
            self._stats.__exit__(None, None, None)
            self._stats = None

    def totals(self, window_ns: int) -> tuple[float, int]:
        """(seconds, runs) of all programs over the window, extrapolated; (0, 0) if not measured."""
        if not self._measured:
            return 0.0, 0
        infos = [program.info() for program in self._session.programs().values()]
        scale = max(1.0, window_ns / self._measured)
        seconds = sum(info.run_time_ns for info in infos) / 1e9 * scale
        return seconds, int(sum(info.run_cnt for info in infos) * scale)
