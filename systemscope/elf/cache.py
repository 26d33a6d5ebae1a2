"""Byte blobs kept on disk between runs, for results that take longer to make than to read.

A cache never fails: what cannot be read or written is as if it were not there, and ``problem`` says
why in one line. Files are trusted because of who owns them: the directory and each file must belong
to the effective user and be writable by nobody else, or they are not read. A checksum over key and
contents finds files that were cut short or damaged; files appear under their names only when whole,
so any number of processes may share one directory.
"""

from __future__ import annotations

import os
import stat
import time
import weakref
from contextlib import suppress
from hashlib import blake2b
from struct import Struct
from typing import Optional

#: Changes when the files' form does: older files are not understood and age away.
_MAGIC = b"SySc\0\0\0\1"
_HEADER = Struct("<8sQ32s")  # magic, length of the contents, checksum
#: What all tables of one directory may take, for whoever has no better idea.
CACHE_BYTES = 256 << 20
_SUFFIX = ".blob"
_TEMPORARY = ".part"
#: A temporary file this old was left by a process that died.
_STALE_SECONDS = 3600
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: A FIFO in the place of a file must not keep its reader waiting.
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def default_directory() -> str:
    """$SYSTEMSCOPE_CACHE, else /var/cache/systemscope for root, else the user's cache directory as
    the XDG base directory specification has it; "" when there is none.

    Root does not look at HOME or XDG_CACHE_HOME: under sudo they may be another user's.
    """
    chosen = os.environ.get("SYSTEMSCOPE_CACHE", "")
    if chosen:
        return chosen
    if os.geteuid() == 0:
        return "/var/cache/systemscope"
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        home = os.environ.get("HOME", "")
        base = os.path.join(home, ".cache") if os.path.isabs(home) else ""
    return os.path.join(base, "systemscope") if base else ""


def open_directory(path: str) -> tuple[Optional[int], str]:
    """(descriptor, "") of a cache's directory, made if need be; (None, why it does not serve)."""
    try:
        os.makedirs(path, 0o700, exist_ok=True)
        descriptor = os.open(path, _DIRECTORY_FLAGS)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        return None, f"cannot use the cache {path}: {reason}"
    if is_ours(os.fstat(descriptor)):
        return descriptor, ""
    os.close(descriptor)
    return None, f"the cache {path} belongs to, or can be written by, others"


class TableCache:
    """Blobs by key in one directory, the longest unused ones removed beyond ``limit_bytes``.

    Raises nothing. The directory is made when first needed and stays open until :meth:`close` or
    the end of the object.
    """

    def __init__(self, directory: str, limit_bytes: int) -> None:
        self.directory = directory
        self.limit_bytes = limit_bytes
        #: Why the cache does not serve, in one line; "" while it does.
        self.problem = ""
        self._descriptor: Optional[int] = None
        self._closer: Optional[weakref.finalize[[int], TableCache]] = None

    def close(self) -> None:
        """Give the directory back. The cache may be used again."""
        if self._closer is not None:
            self._closer()
        self._descriptor = self._closer = None

    def get(self, key: str) -> Optional[bytes]:
        """What was put under ``key``, or None."""
        directory = self._open()
        if directory is None:
            return None
        try:
            descriptor = os.open(_file_name(key), _READ_FLAGS, dir_fd=directory)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._note("cannot read", error)
            return None
        try:
            return self._read(descriptor, key)
        except OSError as error:
            self._note("cannot read", error)
            return None
        finally:
            os.close(descriptor)

    def put(self, key: str, data: bytes) -> None:
        """Keep ``data`` under ``key``, in the place of what was there."""
        size = _HEADER.size + len(data)
        directory = self._open() if size <= self.limit_bytes else None
        if directory is None:
            return
        name = os.urandom(16).hex() + _TEMPORARY
        try:
            self._trim(directory, size)
            descriptor = os.open(name, _WRITE_FLAGS, 0o600, dir_fd=directory)
        except OSError as error:
            self._note("cannot write to", error)
            return
        try:
            try:
                _write(descriptor, _HEADER.pack(_MAGIC, len(data), _checksum(key, data)))
                _write(descriptor, data)
            finally:
                os.close(descriptor)
            os.rename(name, _file_name(key), src_dir_fd=directory, dst_dir_fd=directory)
        except OSError as error:
            self._note("cannot write to", error)
            _remove(name, directory)

    def _note(self, what: str, error: OSError) -> None:
        self.problem = f"{what} the cache {self.directory}: {error.strerror}"

    def _open(self) -> Optional[int]:
        """The directory's descriptor, or None. A directory that did not serve is not tried again
        until :meth:`close`."""
        if self._descriptor is not None or self.problem or not self.directory:
            return self._descriptor
        descriptor, self.problem = open_directory(self.directory)
        if descriptor is None:
            return None
        self._descriptor = descriptor
        self._closer = weakref.finalize(self, os.close, descriptor)
        return descriptor

    def _read(self, descriptor: int, key: str) -> Optional[bytes]:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not is_ours(status):
            self.problem = f"a file of the cache {self.directory} belongs to others"
            return None
        if not _HEADER.size <= status.st_size <= self.limit_bytes:
            return None
        content = bytearray()
        while len(content) < status.st_size:
            piece = os.read(descriptor, status.st_size - len(content))
            if not piece:
                return None
            content += piece
        magic, length, checksum = _HEADER.unpack_from(content)
        data = bytes(memoryview(content)[_HEADER.size :])
        if magic != _MAGIC or length != len(data) or checksum != _checksum(key, data):
            return None
        with suppress(OSError):  # a read-only file system
            os.utime(descriptor)  # its last use, for _trim: many keep no access times
        return data

    def _trim(self, directory: int, wanted: int) -> None:
        """Make room for ``wanted`` bytes: remove what was not used for longest, and leavings."""
        files = []
        now = time.time()
        with os.scandir(directory) as entries:
            for entry in entries:
                if not entry.name.endswith((_SUFFIX, _TEMPORARY)):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # another process was faster
                if entry.name.endswith(_SUFFIX):
                    files.append((status.st_mtime_ns, status.st_size, entry.name))
                elif status.st_mtime < now - _STALE_SECONDS:
                    _remove(entry.name, directory)
        held = sum(size for _, size, _ in files)
        for _, size, name in sorted(files):
            if held + wanted <= self.limit_bytes:
                break
            _remove(name, directory)
            held -= size


def is_ours(status: os.stat_result) -> bool:
    """Whether nobody but the effective user can have written, or can write, the file."""
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _file_name(key: str) -> str:
    return blake2b(key.encode("utf-8", "surrogateescape"), digest_size=20).hexdigest() + _SUFFIX


def _checksum(key: str, data: bytes) -> bytes:
    digest = blake2b(data, digest_size=32)
    digest.update(key.encode("utf-8", "surrogateescape"))
    return digest.digest()


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _remove(name: str, directory: int) -> None:
    with suppress(OSError):  # gone already, or not ours to remove
        os.unlink(name, dir_fd=directory)
