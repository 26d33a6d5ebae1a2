"""What every object that owns one descriptor has in common."""

from __future__ import annotations

from types import TracebackType
from typing import Optional, TypeVar

from systemscope.syscalls.fd import Fd

_Self = TypeVar("_Self", bound="Owned")


class Owned:
    """Owns one :class:`Fd`; a context manager; close() once is enough, twice is harmless."""

    def __init__(self, fd: Fd) -> None:
        self._fd = fd

    @property
    def fd(self) -> int:
        """The descriptor's number; ValueError once closed."""
        return self._fd.number

    @property
    def closed(self) -> bool:
        """True after close()."""
        return self._fd.closed

    def fileno(self) -> int:
        """As :attr:`fd`, for select and friends."""
        return self._fd.number

    def close(self) -> None:
        """Give the descriptor back."""
        self._fd.close()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()
