"""Any file that can be read: what it is, by its first bytes, and what is in it."""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import tempfile
import zlib
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import BinaryIO, Callable, Optional

from systemscope.errors import InputError
from systemscope.importers.capture import is_capture
from systemscope.model import Capture, Profile

_HEAD = 4096
_COPY = 1 << 20
_GZIP = b"\x1f\x8b"
#: What text does not hold. A pprof file that is not compressed has some in its first fields.
_BINARY = frozenset(range(32)) - frozenset(b"\t\n\r\x1b\f")
_READABLE = "systemscope reads capture files (.ssc), pprof files and folded stacks"

#: Files people may try, by their first bytes, and what to do with them.
_KNOWN = (
    (b"PERFILE2", "perf's own file", "fold it first: perf script | stackcollapse-perf.pl"),
    (b"\x7fELF", "a program or library", _READABLE),
    (b"{", "JSON", f"{_READABLE}; keep the capture to convert it again"),
    (b"<", "HTML or SVG", f"{_READABLE}; keep the capture to convert it again"),
)


@dataclass
class Loaded:
    """What a file holds: a ``capture`` that has no names yet, or a ``profile``.

    Owns the file, in which the capture's timeline lies: close it, or use it as a context manager.
    """

    name: str
    capture: Optional[Capture] = None
    profile: Optional[Profile] = None
    _owned: ExitStack = field(default_factory=ExitStack)

    def close(self) -> None:
        """Close the file. The timeline cannot be read any more."""
        self._owned.close()

    def __enter__(self) -> Loaded:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(path: str) -> Loaded:
    """Read the file at ``path``; "-" is standard input. Raises InputError."""
    name = "standard input" if path == "-" else f"'{path}'"
    loaded = Loaded(name)
    try:
        _fill(loaded, _open(path, loaded._owned))
    except InputError as error:
        loaded.close()
        raise InputError(f"{name}: {error.message}", error.remedy) from error
    except (OSError, EOFError, zlib.error) as error:
        loaded.close()
        told = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{name} cannot be read: {told}", _remedy(error)) from error
    except BaseException:
        loaded.close()
        raise
    return loaded


def _open(path: str, owned: ExitStack) -> BinaryIO:
    """The file, at its beginning, in a form that seeks."""
    if path == "-":
        if sys.stdin is None:
            raise InputError("it is closed", "name a file")
        source: BinaryIO = sys.stdin.buffer
    else:
        source = owned.enter_context(open(path, "rb"))  # noqa: SIM115
    if path != "-" and source.seekable():
        return source
    with suppress(OSError):
        # A redirected file seeks, but may stand anywhere; what is behind that is the input.
        if source.seekable() and source.tell() == 0:
            return source
    copy: BinaryIO = owned.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    shutil.copyfileobj(source, copy, _COPY)
    copy.seek(0)
    return copy


def _fill(loaded: Loaded, stream: BinaryIO) -> None:
    head = stream.read(_HEAD)
    stream.seek(0)
    if is_capture(head):
        from systemscope.importers.capture import read

        loaded.capture = read(stream)
        return
    packed = head.startswith(_GZIP)
    begin = _inflated(head) if packed else head
    for magic, what, remedy in _KNOWN:
        if begin.startswith(magic):
            raise InputError(f"this is {what}, which cannot be converted", remedy)
    loaded.profile = _reader(packed, begin)(stream)


def _reader(packed: bool, begin: bytes) -> Callable[[BinaryIO], Profile]:
    """What reads a file, maybe packed, whose unpacked content begins like this."""
    if packed and begin and not _BINARY.intersection(begin):
        return _read_packed_folded
    if packed or _BINARY.intersection(begin):
        from systemscope.importers.pprof import read

        return read
    from systemscope.importers.folded import read as read_folded

    return read_folded


def _inflated(head: bytes) -> bytes:
    """The first bytes of what gzip packed."""
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, _HEAD)
    except zlib.error:
        return b""


class _Salvaged:
    """The lines of a packed file up to where it is damaged, and what the damage is."""

    def __init__(self, unpacked: gzip.GzipFile) -> None:
        self._unpacked = unpacked
        self.damage = ""

    def readline(self, size: int = -1) -> bytes:
        """One line as of any file; nothing once the file is damaged."""
        if self.damage:
            return b""
        try:
            return self._unpacked.readline(size)
        except EOFError:
            self.damage = "its end is missing"
        except (zlib.error, gzip.BadGzipFile) as error:
            self.damage = str(error)
        return b""


def _read_packed_folded(stream: BinaryIO) -> Profile:
    from systemscope.importers.folded import read

    with gzip.GzipFile(fileobj=stream, mode="rb") as unpacked:
        lines = _Salvaged(unpacked)
        profile = read(lines)  # type: ignore[arg-type]
    if lines.damage and not profile.samples:
        raise InputError(f"nothing can be read of this file: {lines.damage}", "copy it anew")
    if lines.damage:
        profile.notes.append(f"the packed file is damaged ({lines.damage}); what is whole was read")
    return profile


def _remedy(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "check the name"
    if isinstance(error, IsADirectoryError):
        return "name a file in it"
    if isinstance(error, PermissionError):
        return f"you may not read it as user {os.geteuid()}"
    return _READABLE
