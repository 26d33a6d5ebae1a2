"""Run-time statistics of BPF programs."""

from __future__ import annotations

from types import TracebackType
from typing import Optional

from systemscope.errors import KernelError
from systemscope.syscalls import bpf
from systemscope.syscalls.fd import Fd


class BpfStats:
    """While entered, the kernel counts each program's runs and their time (5.8, CAP_SYS_ADMIN).

    It costs some 50 ns a run. ``active`` is False where the kernel refuses: the profile then has
    no figures of BPF run time, which is no reason to fail.
    """

    def __init__(self) -> None:
        self._fd: Optional[Fd] = None

    @property
    def active(self) -> bool:
        """True while counting."""
        return self._fd is not None

    def __enter__(self) -> BpfStats:
        try:
            self._fd = bpf.enable_stats()
        except KernelError:
            self._fd = None
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if self._fd is not None:
            self._fd.close()
            self._fd = None
