"""Debug files by build ID from debuginfod servers, kept on disk. Only for users who ask for it.

Source: debuginfod(8), "Webapi": GET /buildid/BUILDID/debuginfo; debuginfod-find(1) for
DEBUGINFOD_URLS. A server, and who is between, can send anything: what arrives is bounded in size
and time, and counts only if it has the build ID.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Optional

from systemscope.elf import ElfError, ElfImage
from systemscope.elf.file_cache import FileCache
from systemscope.version import VERSION

URLS_VARIABLE = "DEBUGINFOD_URLS"
MAX_FILE_BYTES = 2 << 30
_CACHE_BYTES = 4 << 30
_PIECE = 1 << 18
_CONNECT_SECONDS = 10.0
_FILE_SECONDS = 120.0
_MAX_URLS = 8
_MAX_FAILURES = 2


def configured_urls() -> tuple[str, ...]:
    """The servers that DEBUGINFOD_URLS names."""
    words = os.environ.get(URLS_VARIABLE, "").split()
    return tuple(url for url in words if url.startswith(("http://", "https://")))[:_MAX_URLS]


def debug_servers(urls: Sequence[str], cache_directory: str) -> Optional[DebugServers]:
    """Who asks ``urls``, and keeps files below ``cache_directory`` ("" for nowhere); None where
    there are none to ask."""
    directory = os.path.join(cache_directory, "debuginfod") if cache_directory else ""
    return DebugServers(urls, directory) if urls else None


class DebugServers:
    """Asks servers in turn. Raises nothing: what failed is one note."""

    def __init__(
        self,
        urls: Sequence[str],
        directory: str = "",
        *,
        max_bytes: int = MAX_FILE_BYTES,
        seconds: float = _CONNECT_SECONDS,
        file_seconds: float = _FILE_SECONDS,
    ) -> None:
        """``directory`` keeps the files, "" for nowhere. ``seconds`` is how long a server may be
        silent, ``file_seconds`` how long one file may take."""
        self._urls = tuple(urls)
        self._cache = FileCache(directory, _CACHE_BYTES) if directory else None
        self._max_bytes = max_bytes
        self._seconds, self._file_seconds = seconds, file_seconds
        self._failures: dict[str, int] = {}
        self._problem = ""
        self._absent: set[str] = set()
        self._client: Any = None
        self.fetched = 0

    def open(self, build_id: str) -> Optional[int]:
        """A descriptor of the debug file of ``build_id`` (hex), which the caller closes; None if
        no server has it."""
        if not build_id.isalnum() or not build_id.isascii() or build_id in self._absent:
            return None
        name = f"{build_id}.debug"
        kept = self._cache.open(name) if self._cache is not None else None
        if kept is not None:
            if _has_build_id(kept, build_id):
                return kept
            os.close(kept)
        for url in self._urls:
            if self._failures.get(url, 0) < _MAX_FAILURES:
                descriptor = self._fetch(url, build_id, name)
                if descriptor is not None:
                    return descriptor
        self._absent.add(build_id)
        return None

    def notes(self) -> list[str]:
        """One line about what failed, if anything did."""
        problem = self._problem or (self._cache.problem if self._cache is not None else "")
        return [f"debuginfod: {problem}"] if problem else []

    def _fetch(self, url: str, build_id: str, name: str) -> Optional[int]:
        made = self._cache.create() if self._cache is not None else None
        if made is None:
            with suppress(OSError), tempfile.TemporaryFile() as file:
                made = os.dup(file.fileno()), ""
        if made is None:
            return None
        descriptor, temporary = made
        found = False
        try:
            found = self._download(f"{url.rstrip('/')}/buildid/{build_id}/debuginfo", descriptor)
            if found and not _has_build_id(descriptor, build_id):
                found = False
                self._fail(url, "sent a file of another build")
        except Exception as error:  # http.client, ssl and urllib raise a zoo of them
            self._fail(url, str(error) or type(error).__name__)
        finally:
            if temporary and self._cache is not None:
                self._cache.keep(temporary, name) if found else self._cache.drop(temporary)
            if not found:
                os.close(descriptor)
        self.fetched += found
        return descriptor if found else None

    def _download(self, url: str, descriptor: int) -> bool:
        """Write what ``url`` holds to ``descriptor``; False where it does not exist."""
        import urllib.error
        import urllib.request

        request = urllib.request.Request(url, headers={"User-Agent": f"systemscope/{VERSION}"})
        deadline = time.monotonic() + self._file_seconds
        try:
            reply = self._opener().open(request, timeout=self._seconds)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                return False
            raise
        size = 0
        with reply:
            while True:
                piece = reply.read1(_PIECE)
                if not piece:
                    break
                size += len(piece)
                if size > self._max_bytes:
                    raise ValueError(f"a file of more than {self._max_bytes:,} bytes")
                if time.monotonic() > deadline:
                    raise ValueError("the transfer takes too long")
                while piece:
                    piece = piece[os.write(descriptor, piece) :]
        return size > 0

    def _opener(self) -> Any:
        """An opener for http and https only: a redirection must not lead to local files."""
        if self._client is None:
            from urllib import request

            self._client = request.OpenerDirector()
            for handler in (
                request.ProxyHandler(),
                request.HTTPHandler(),
                *([request.HTTPSHandler()] if hasattr(request, "HTTPSHandler") else []),
                request.HTTPRedirectHandler(),
                request.HTTPErrorProcessor(),
                request.HTTPDefaultErrorHandler(),
                request.UnknownHandler(),
            ):
                self._client.add_handler(handler)
        return self._client

    def _fail(self, url: str, why: str) -> None:
        self._failures[url] = self._failures.get(url, 0) + 1
        from urllib.parse import urlsplit

        # Not the whole URL: it may carry a password.
        server = urlsplit(url).hostname or "server"
        self._problem = self._problem or f"{server}: {' '.join(why.split())[:200]}"


def _has_build_id(descriptor: int, build_id: str) -> bool:
    try:
        return ElfImage.from_descriptor(descriptor, relocatable=True).build_id == build_id
    except ElfError:
        return False
