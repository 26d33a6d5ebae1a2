"""Where the profile goes: standard output, or a file that appears whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import suppress
from typing import BinaryIO, Callable, Optional

from systemscope.errors import OutputError

#: Names of our own open descriptors: opening them anew could truncate what they point at.
_DESCRIPTORS = re.compile(r"/dev/(?:std(?:out|err)|fd/(?P<number>\d{1,6}))$", re.ASCII)
_NAMED = {"/dev/stdout": 1, "/dev/stderr": 2}


class Output:
    """The destination of one profile, opened before the window so that a bad one fails at once.

    A regular file is written without a name in its own directory (under a temporary name where the
    file system knows no such files) and appears by :meth:`write`; leaving the context without that,
    however it happens, leaves nothing. Devices, pipes and standard output are written directly.
    """

    def __init__(self, path: str) -> None:
        """Open ``path`` ('' is standard output). Raises OutputError."""
        self.path = path
        self._temporary: Optional[str] = None  # a name to remove again
        self._unnamed = False
        self._stream: Optional[BinaryIO] = None
        descriptor = _DESCRIPTORS.match(path)
        try:
            if descriptor or not path:
                number = int(descriptor["number"] or _NAMED[path]) if descriptor else 1
                self._stream = os.fdopen(os.dup(number), "wb")
            else:
                self._stream = self._open_path()
        except OSError as error:
            raise _failure(self._name, error) from error

    @property
    def _name(self) -> str:
        return f"'{self.path}'" if self.path else "standard output"

    def _open_path(self) -> BinaryIO:
        # A link keeps pointing at what is written.
        path = os.path.realpath(self.path)
        with suppress(FileNotFoundError):
            mode = os.stat(path).st_mode
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(mode):
                return open(path, "wb")
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        descriptor = _open_unnamed(os.path.dirname(path))
        if descriptor is not None:
            self._unnamed = True
            return os.fdopen(descriptor, "wb")
        temporary = _free_name(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        stream = os.fdopen(os.open(temporary, flags, 0o666), "wb")
        self._temporary = temporary
        return stream

    def write(self, writer: Callable[[BinaryIO], None]) -> None:
        """Let ``writer`` write the profile, then make it the file.

        Raises OutputError; BrokenPipeError when the reader of standard output has gone.
        """
        stream = self._stream
        assert stream is not None
        try:
            writer(stream)
            stream.flush()
            if self._unnamed:
                self._give_name(stream)
            self._stream = None
            stream.close()
            self._appear()
        except BrokenPipeError:
            raise
        except OSError as error:
            if error.filename is not None:
                raise  # a file of ours: what is written to has a descriptor, and no name
            raise _failure(self._name, error) from error

    def _give_name(self, stream: BinaryIO) -> None:
        """A link cannot replace a file, a rename can: so it gets a name to be renamed from."""
        temporary = _free_name(os.path.realpath(self.path))
        try:
            # Only with a directory's descriptor does Python follow the link in /proc.
            os.link(_own(stream.fileno()), temporary, src_dir_fd=stream.fileno())
        except OSError as error:
            raise _failure(self._name, error) from error
        self._temporary = temporary

    def _appear(self) -> None:
        if self._temporary is None:
            return
        try:
            os.replace(self._temporary, os.path.realpath(self.path))
        except OSError as error:
            raise _failure(self._name, error) from error
        self._temporary = None

    def close(self) -> None:
        """Close, and remove what is not finished."""
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(OSError):  # a full disk or closed pipe says so again at close
                stream.close()
        temporary, self._temporary = self._temporary, None
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open_unnamed(directory: str) -> Optional[int]:
    """A descriptor of a new file without a name; None where there are none, or no /proc to give it
    a name by. A process that is killed leaves nothing of it."""
    try:
        descriptor = os.open(directory, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in _NO_UNNAMED:
            return None
        raise
    if os.path.exists(_own(descriptor)):
        return descriptor
    os.close(descriptor)
    return None


def _own(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


def _free_name(path: str) -> str:
    """A hidden name beside ``path``; a file left there by a killed run with our number goes."""
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name[:200]}.{os.getpid()}.tmp")
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    return temporary


#: What opening says where the file system, or the kernel, has no files without a name.
_NO_UNNAMED = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS})

_REMEDIES = {
    errno.ENOSPC: "free some space or write elsewhere with -o",
    errno.EDQUOT: "your quota is used up: free some space or write elsewhere with -o",
    errno.ENOENT: "create the directory first or choose another with -o",
    errno.ENOTDIR: "choose another directory with -o",
    errno.EISDIR: "name a file in it",
    errno.EACCES: "choose a place you may write to with -o",
    errno.EPERM: "choose a place you may write to with -o",
    errno.EROFS: "choose a place you may write to with -o",
    errno.EBADF: "open it, or write to a file with -o",
}


def _failure(name: str, error: OSError) -> OutputError:
    number = error.errno or errno.EIO
    remedy = _REMEDIES.get(number, "write to another place with -o")
    return OutputError(f"cannot write the profile to {name}: {os.strerror(number)}", remedy)
