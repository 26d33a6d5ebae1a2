"""The one door to the kernel: ``syscall()``, buffers with an address, errno told with a remedy."""

from __future__ import annotations

import ctypes
import errno
import threading
from functools import lru_cache
from typing import Any, Union

from systemscope.errors import KernelError

_REMEDIES = {
    errno.EPERM: "Run as root, or with CAP_BPF and CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8); "
    "a container needs them too, and lockdown or seccomp can refuse even root.",
    errno.EACCES: "Run as root, or with CAP_BPF and CAP_PERFMON; kernel.perf_event_paranoid and "
    "kernel lockdown can refuse it as well.",
    errno.ENOSYS: "This kernel was built without it, or a seccomp filter hides it.",
    errno.EMFILE: "Raise the limit on open files (ulimit -n).",
    errno.ENFILE: "The whole system is out of file handles (fs.file-max).",
    errno.ENOMEM: "The kernel is short of memory, or the cgroup's memory limit is reached.",
}


def remedy_for(number: int) -> str:
    """What a user can do about errno ``number``, or an empty string."""
    return _REMEDIES.get(number, "")


def failure(operation: str, subject: str, number: int, remedy: str = "") -> KernelError:
    """KernelError for errno ``number``, to be raised; the usual remedy when none is given."""
    return KernelError(operation, subject, number, remedy or remedy_for(number))


@lru_cache(maxsize=1)
def _entry() -> Any:
    function = ctypes.CDLL(None, use_errno=True).syscall
    function.restype = ctypes.c_long
    function.argtypes = [ctypes.c_long] * 7
    return function


def syscall(
    number: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0, e: int = 0, f: int = 0
) -> int:
    """The raw call: its result, or minus errno. Pointers are passed as integers."""
    result: int = _entry()(number, a, b, c, d, e, f)
    if result == -1:
        return -ctypes.get_errno()
    return result


class Buffer:
    """Zeroed bytes at a fixed address, for the kernel to read or write.

    ``data`` is a bytearray of ``size`` bytes that cannot be resized while the Buffer lives;
    ``address`` is where it lies.
    """

    __slots__ = ("_pin", "address", "data", "size")

    def __init__(self, content: Union[int, bytes, bytearray]) -> None:
        self.data = bytearray(content)
        self.size = len(self.data)
        # One byte more than nothing: from_buffer refuses an empty buffer.
        self._pin = (ctypes.c_char * self.size).from_buffer(self.data) if self.size else None
        self.address = ctypes.addressof(self._pin) if self._pin is not None else 0


def c_string(text: str) -> Buffer:
    """``text`` as a NUL-terminated buffer."""
    return Buffer(text.encode() + b"\0")


_fence = threading.Lock()


def memory_barrier() -> None:
    """Order this thread's earlier memory accesses before its later ones.

    Python has no fence. A store-release followed by a load-acquire, which an unlock and a lock
    are, keeps the order on aarch64; on x86 loads and stores are ordered anyway, but for a store
    and a later load, which no reader of a ring depends on.
    """
    with _fence:
        pass
    with _fence:
        pass
