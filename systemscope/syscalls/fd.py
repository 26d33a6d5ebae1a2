"""An owned file descriptor."""

from __future__ import annotations

import fcntl
import os
import warnings
from types import TracebackType
from typing import Optional

_LOWEST = 3


class Fd:
    """Owns one descriptor and closes it once.

    Never 0, because the BPF interface reads descriptor 0 as "none", and never 1 or 2, so that
    what is printed cannot land in a kernel object: a low number is moved up. Always close-on-exec.
    A forgotten one gives a ResourceWarning and is closed all the same.
    """

    __slots__ = ("_number", "what")

    def __init__(self, number: int, what: str = "descriptor") -> None:
        self._number = -1
        self.what = what
        if number < 0:
            raise ValueError(f"not a descriptor: {number}")
        if number < _LOWEST:
            moved = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _LOWEST)
            os.close(number)
            number = moved
        elif os.get_inheritable(number):
            os.set_inheritable(number, False)
        self._number = number

    @property
    def number(self) -> int:
        """The descriptor; ValueError once it is closed."""
        if self._number < 0:
            raise ValueError(f"{self.what} is closed")
        return self._number

    def fileno(self) -> int:
        """As :attr:`number`, for select and friends."""
        return self.number

    @property
    def closed(self) -> bool:
        """True after close() or detach()."""
        return self._number < 0

    def close(self) -> None:
        """Close it; closing again does nothing."""
        number, self._number = self._number, -1
        if number >= 0:
            os.close(number)

    def detach(self) -> int:
        """Give the descriptor away: the caller closes it."""
        number = self.number
        self._number = -1
        return number

    def __enter__(self) -> Fd:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Fd({self._number}, {self.what!r})"

    def __del__(self) -> None:
        if getattr(self, "_number", -1) >= 0:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()
