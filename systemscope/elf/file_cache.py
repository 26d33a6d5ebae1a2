"""Whole files kept on disk between runs, in a directory that only its owner may change.

The rules of ownership are those of :mod:`systemscope.elf.cache`. Whoever takes a file out checks
that it is what it should be.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from contextlib import suppress
from typing import Optional

from systemscope.elf.cache import is_ours, open_directory

_TEMPORARY = ".part"
_STALE_SECONDS = 3600
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_WRITE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class FileCache:
    """Files by name in one directory, those unused for longest removed beyond ``limit_bytes``.
    Raises nothing; ``problem`` says in one line why it does not serve."""

    def __init__(self, directory: str, limit_bytes: int) -> None:
        self.directory = directory
        self.limit_bytes = limit_bytes
        self.problem = ""

    def open(self, name: str) -> Optional[int]:
        """A descriptor to read the file ``name``, which the caller closes; None if there is none
        that is ours."""
        directory = self._open()
        if directory is None:
            return None
        try:
            descriptor = os.open(name, _READ_FLAGS, dir_fd=directory)
        except OSError:
            return None
        finally:
            os.close(directory)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not is_ours(status):
            os.close(descriptor)
            return None
        with suppress(OSError):
            os.utime(descriptor)  # its last use
        return descriptor

    def create(self) -> Optional[tuple[int, str]]:
        """(descriptor to write a new file to, its temporary name), for :meth:`keep` or
        :meth:`drop`; None where there is no room."""
        directory = self._open()
        if directory is None:
            return None
        name = secrets.token_hex(16) + _TEMPORARY
        try:
            self._trim(directory)
            return os.open(name, _WRITE_FLAGS, 0o600, dir_fd=directory), name
        except OSError as error:
            self.problem = f"cannot write to the cache {self.directory}: {error.strerror}"
            return None
        finally:
            os.close(directory)

    def keep(self, temporary: str, name: str) -> None:
        """Give a new file its name."""
        directory = self._open()
        if directory is not None:
            with suppress(OSError):
                os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            os.close(directory)

    def drop(self, name: str) -> None:
        """Remove a file."""
        directory = self._open()
        if directory is not None:
            with suppress(OSError):
                os.unlink(name, dir_fd=directory)
            os.close(directory)

    def _open(self) -> Optional[int]:
        descriptor, problem = open_directory(self.directory)
        self.problem = problem or self.problem
        return descriptor

    def _trim(self, directory: int) -> None:
        files = []
        now = time.time()
        with os.scandir(directory) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    stale = entry.name.endswith(_TEMPORARY) and (
                        status.st_mtime < now - _STALE_SECONDS
                    )
                    if stale:
                        os.unlink(entry.name, dir_fd=directory)
                    else:
                        files.append((status.st_mtime_ns, status.st_size, entry.name))
        held = sum(size for _, size, _ in files)
        for _, size, name in sorted(files):
            if held <= self.limit_bytes:
                break
            with suppress(OSError):
                os.unlink(name, dir_fd=directory)
            held -= size
