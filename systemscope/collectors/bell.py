"""Waiting until there is something to do: new mappings want their unwind tables soon."""

from __future__ import annotations

import select
import time
from collections.abc import Iterable

#: Between two answers to the bell: mappings come in bursts, and answering costs.
_REST_SECONDS = 0.005
#: A machine that forks without end gets at most this share of our attention.
_SHARE = 30
_SETTLE_SECONDS = 0.002  # records younger than a millisecond wait for the next look


class Bell:
    """Sleeps, but not through what ``descriptors`` have to tell. ``rung`` says why it ended."""

    def __init__(self, descriptors: Iterable[int]) -> None:
        self._poll = select.poll()
        self._any = False
        for number in descriptors:
            self._poll.register(number, select.POLLIN)
            self._any = True
        self._rest = _REST_SECONDS
        self.rung = False

    def busy(self, nanoseconds: int) -> None:
        """Answering took so long: the next answer comes so much later."""
        self._rest = max(_REST_SECONDS, nanoseconds / 1e9 * _SHARE)

    def wait(self, seconds: float) -> None:
        """Return after so many seconds, or soon after a ring."""
        self.rung = False
        if not self._any:
            time.sleep(seconds)
            return
        quiet = min(seconds, self._rest)
        time.sleep(quiet)
        if seconds > quiet:
            self.rung = bool(self._poll.poll((seconds - quiet) * 1000))
            if self.rung:
                time.sleep(min(_SETTLE_SECONDS, seconds))
