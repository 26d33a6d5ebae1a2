"""C++ names by the C++ runtime library's own demangler, in a process of its own.

A short mangled name can stand for gigabytes of text (each substitution may repeat the last one
twice), and older libraries overflow their stack on deep ones. Names come from files of whoever is
profiled, so the call is made in a child process: it may take little memory and little time, and if
it fails it takes nothing along.

Source: the Itanium C++ ABI, "abi::__cxa_demangle". A request is a u32 count of bytes, then names
with a newline behind each; the reply is as many lines, empty where there is nothing to tell.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Callable, Optional

_LIBRARIES = ("libstdc++.so.6", "libc++abi.so.1")
_SIZE = struct.Struct("<I")
#: The longest text taken for one name, and what the child may allocate to make it.
MAX_TEXT = 16_384
_CHILD_BYTES = 24 << 20
#: A request fits into a pipe, so that writing it cannot block.
_MAX_REQUEST = 32_768
_MAX_REPLY = 64 << 20
_CHILD = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "import systemscope.syscalls.cxxabi as m; m.serve()"
)
#: CPU time for one name, and how many may take longer before no more are asked for.
_NAME_SECONDS = 0.25
_MAX_FAILURES = 8
#: Names up to this length cannot take long: they repeat themselves 14 times at most.
_HARMLESS = 150
_NEEDED = ("LD_LIBRARY_PATH",)  # what a Python may not start without
_KNOWN, _KNOWN_TEXT = "_ZN1a1bEv", "a::b()"


class CxxDemangler:
    """Asks a child process, which starts at the first question. Close it after use.

    ``problem`` says in one line why names stay as they are, "" while they do not.
    """

    def __init__(self, patience_seconds: float = 10.0) -> None:
        """``patience_seconds`` is how long the child may take for some hundreds of names."""
        self.problem = ""
        self._patience = patience_seconds
        self._failures = 0
        self._pid = 0
        self._pipes: tuple[int, int] = (-1, -1)  # to write to, to read from

    def demangle(self, names: Sequence[str]) -> dict[str, str]:
        """{name: demangled} of those of ``names`` that are C++ names. Raises nothing."""
        found: dict[str, str] = {}
        for request in _requests(names):
            while request and (self._pid or self._start()):
                texts = self._ask(request)
                found.update((name, text) for name, text in zip(request, texts) if text)
                if len(texts) == len(request):
                    break
                self._fail()
                request = request[len(texts) + 1 :]  # without the one it died of
        return found

    def close(self) -> None:
        """End the child process."""
        for descriptor in self._pipes:
            if descriptor >= 0:
                os.close(descriptor)
        self._pipes = (-1, -1)
        if self._pid:
            with suppress(OSError):
                os.kill(self._pid, signal.SIGKILL)
            with suppress(OSError):
                os.waitpid(self._pid, 0)
        self._pid = 0

    def _fail(self) -> None:
        self.close()
        self._failures += 1
        if self._failures >= _MAX_FAILURES:
            self.problem = "some C++ names are shown as they are: their demangler fails"

    def _start(self) -> bool:
        if self.problem:
            return False
        asked, told = os.pipe(), os.pipe()
        try:
            self._pid = _spawn(asked[0], told[1])
        except (OSError, ValueError, TypeError) as error:  # TypeError: no sys.executable
            self.problem = f"C++ names are shown as they are: cannot start Python ({error})"
        finally:
            os.close(asked[0])
            os.close(told[1])
        self._pipes = (asked[1], told[0])
        if not self._pid or self._ask([_KNOWN]) != [_KNOWN_TEXT]:
            self.problem = self.problem or "C++ names are shown as they are: no usable libstdc++"
            self.close()
        return bool(self._pid)

    def _ask(self, names: list[str]) -> list[str]:
        """The texts of ``names``, "" where there is none; fewer if the child ended or took too
        long."""
        request = "".join(f"{name}\n" for name in names).encode("ascii", "replace")
        deadline = time.monotonic() + self._patience
        try:
            os.write(self._pipes[0], _SIZE.pack(len(request)) + request)
        except OSError:
            return []
        reply = bytearray()
        ends = 0
        while ends < len(names):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._pipes[1]], [], [], left)[0]:
                break
            piece = os.read(self._pipes[1], 1 << 20)
            if not piece or len(reply) > _MAX_REPLY:
                break
            ends += piece.count(b"\n")
            reply += piece
        return reply.decode("utf-8", "replace").split("\n")[:-1]


def _spawn(standard_input: int, standard_output: int) -> int:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-c", _CHILD, root],
            {name: os.environ[name] for name in _NEEDED if name in os.environ},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, standard_input, 0),
                (os.POSIX_SPAWN_DUP2, standard_output, 1),
                (os.POSIX_SPAWN_DUP2, null, 2),
            ],
            setpgroup=0,  # Ctrl-C at the terminal is not for the child
        )
    finally:
        os.close(null)


def _requests(names: Sequence[str]) -> list[list[str]]:
    """``names`` in portions for one request each."""
    portions: list[list[str]] = []
    room = 0
    for name in names:
        if len(name) >= room:
            portions.append([])
            room = _MAX_REQUEST - _SIZE.size
        portions[-1].append(name)
        room -= len(name) + 1
    return portions


def serve() -> None:
    """The child's side: answer requests until standard input ends."""
    demangle = load_demangler()
    _limit_memory()
    while demangle is not None:
        head = _take(_SIZE.size)
        if len(head) < _SIZE.size:
            return
        texts = b""
        signal.setitimer(signal.ITIMER_PROF, _NAME_SECONDS)
        for name in _take(_SIZE.unpack(head)[0]).split(b"\n")[:-1]:
            if len(name) > _HARMLESS:
                texts = _give(texts)
                # The name that takes longer is the end of this process, by SIGPROF.
                signal.setitimer(signal.ITIMER_PROF, _NAME_SECONDS)
            texts += demangle(name) + b"\n"
        _give(texts)


def _give(data: bytes) -> bytes:
    """Write all of ``data``; what is left of it, which is nothing."""
    while data:
        data = data[os.write(1, data) :]
    return data


def load_demangler() -> Optional[Callable[[bytes], bytes]]:
    """A function from a mangled name to its text, b"" where it is none; None without a library
    that has it."""
    for name in _LIBRARIES:
        try:
            function, free = ctypes.CDLL(name).__cxa_demangle, ctypes.CDLL(None).free
        except (OSError, AttributeError):
            continue
        pointer, number = ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)
        function.argtypes, function.restype = [ctypes.c_char_p, pointer, pointer, number], pointer
        free.argtypes, free.restype = [pointer], None
        return partial(_demangle, function, free)
    return None


def _demangle(function: Any, free: Any, name: bytes) -> bytes:
    status = ctypes.c_int()
    found = function(name, None, None, ctypes.byref(status)) if name else None
    if not found:
        return b""
    text = ctypes.string_at(found)
    free(found)
    return text if len(text) <= MAX_TEXT and b"\n" not in text else b""


def _limit_memory() -> None:
    import resource

    with open("/proc/self/statm", "rb") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _CHILD_BYTES, used + _CHILD_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _take(size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(0, size - len(data))
        if not piece:
            break
        data += piece
    return data
