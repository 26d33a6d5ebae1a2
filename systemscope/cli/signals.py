"""Ctrl-C and SIGTERM: the first ends the window, one more cuts naming short, the next stops all."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Optional

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_INSISTENT = 3  # so many signals stop us whatever we are doing


class Interrupts:
    """Installed for the length of a command. Call it to ask whether the window is to end.

    Signals that our parent had us ignore (nohup) stay ignored.
    """

    def __init__(self) -> None:
        self.count = 0
        self._raises = False
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        return self.count > 0

    def __enter__(self) -> Interrupts:
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _handle(self, _number: int, _frame: Optional[FrameType]) -> None:
        self.count += 1
        if self._raises or self.count >= _INSISTENT:
            raise KeyboardInterrupt

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within it a signal raises KeyboardInterrupt; so does one that came since the window
        ended by a signal."""
        with self._raising():
            if self.count > 1:
                raise KeyboardInterrupt
            yield

    @contextmanager
    def interruptible_once(self) -> Iterator[None]:
        """Within it a signal raises KeyboardInterrupt, whatever came before."""
        with self._raising():
            yield

    @contextmanager
    def _raising(self) -> Iterator[None]:
        self._raises = True
        try:
            yield
        finally:
            self._raises = False
