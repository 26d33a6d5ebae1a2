"""What an output format is, and how the formats are found.

A format is an entry here and a module with ``write(profile, stream, options)``, imported when it is
written.
"""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, BinaryIO

from systemscope.errors import UsageError
from systemscope.model import Profile


@dataclass(frozen=True)
class ExportOptions:
    """How a profile is to be written. A format that cannot use an option ignores it.

    ``per_thread`` tells threads apart (``comm-pid/tid``) where stacks are otherwise merged by
    thread name. ``state`` ends each stack in what the thread was doing. ``annotate`` marks kernel,
    JIT and inlined frames. ``min_slice_ns`` leaves shorter slices out of a timeline. ``color``,
    ``width`` (columns) and ``encoding`` are for text. ``normalize`` scales a difference's first
    profile to the second one's total.
    """

    per_thread: bool = False
    state: bool = True
    annotate: bool = False
    min_slice_ns: int = 0
    color: bool = False
    width: int = 80
    encoding: str = "utf-8"
    normalize: bool = False


@dataclass(frozen=True)
class Format:
    """One output format. ``extensions`` are lower case with their dot, the usual one first.

    A ``binary`` format writes bytes, any other one text (UTF-8). ``names`` says that addresses must
    have names first, ``timeline`` that the capture must hold a timeline. Where ``differences`` is
    true the module has ``write_difference(before, after, stream, options)`` too.
    """

    name: str
    extensions: tuple[str, ...]
    summary: str
    binary: bool
    module: str
    names: bool = True
    timeline: bool = False
    differences: bool = False

    def write(self, profile: Profile, stream: IO[Any], options: ExportOptions) -> None:
        """Write ``profile`` to ``stream``, which takes bytes if ``binary`` and text otherwise."""
        importlib.import_module(self.module).write(profile, stream, options)

    def write_bytes(self, profile: Profile, raw: BinaryIO, options: ExportOptions) -> None:
        """Write ``profile`` to the byte stream ``raw`` and flush it. ``raw`` stays open."""
        with self._stream(raw, options) as stream:
            self.write(profile, stream, options)

    def write_difference(
        self, before: Profile, after: Profile, raw: BinaryIO, options: ExportOptions
    ) -> None:
        """Write how ``after`` differs from ``before`` to the byte stream ``raw`` and flush it.

        Raises UsageError where the format cannot show differences.
        """
        if not self.differences:
            able = ", ".join(one.name for one in formats() if one.differences)
            raise UsageError(f"{self.name} cannot show a difference", f"use one of: {able}")
        with self._stream(raw, options) as stream:
            module = importlib.import_module(self.module)
            module.write_difference(before, after, stream, options)

    @contextmanager
    def _stream(self, raw: BinaryIO, options: ExportOptions) -> Iterator[IO[Any]]:
        if self.binary:
            yield raw
            raw.flush()
            return
        text = io.TextIOWrapper(
            raw, encoding=options.encoding, errors="backslashreplace", newline="\n"
        )
        try:
            yield text
            text.flush()
        finally:
            text.detach()


#: All of them, by name. They are declared here so that listing them imports none.
_FORMATS = (
    Format(
        name="capture",
        extensions=(".ssc",),
        summary="addresses and times as recorded, to be named elsewhere by systemscope convert",
        binary=True,
        module="systemscope.exporters.capture",
        names=False,
    ),
    Format(
        name="chrome",
        extensions=(".trace.json", ".json"),
        summary="a timeline of every thread and CPU, for Perfetto, chrome://tracing and speedscope",
        binary=True,
        module="systemscope.exporters.chrome",
        timeline=True,
    ),
    Format(
        name="chromegz",
        extensions=(".trace.json.gz", ".json.gz"),
        summary="the same timeline compressed with gzip, which viewers open as it is",
        binary=True,
        module="systemscope.exporters.chrome_gzip",
        timeline=True,
    ),
    Format(
        name="folded",
        extensions=(".folded", ".collapsed"),
        summary="one line a stack and its microseconds, for flamegraph.pl and other viewers",
        binary=False,
        module="systemscope.exporters.folded",
    ),
    Format(
        name="html",
        extensions=(".html", ".htm"),
        summary="one page to explore in a browser: flame graph, functions, threads, waits",
        binary=False,
        module="systemscope.exporters.html",
        differences=True,
    ),
    Format(
        name="pprof",
        extensions=(".pb.gz", ".pprof"),
        summary="profile.proto for go tool pprof, parca, Pyroscope and speedscope",
        binary=True,
        module="systemscope.exporters.pprof",
    ),
    Format(
        name="speedscope",
        extensions=(".speedscope.json",),
        summary="one profile a thread and one of all, for speedscope.app",
        binary=False,
        module="systemscope.exporters.speedscope",
    ),
    Format(
        name="svg",
        extensions=(".svg",),
        summary="a static flame graph, coloured by state, for documents",
        binary=False,
        module="systemscope.exporters.svg",
        differences=True,
    ),
    Format(
        name="text",
        extensions=(".txt",),
        summary="a page to read: states, threads, functions and waits",
        binary=False,
        module="systemscope.exporters.text",
        differences=True,
    ),
)


def formats() -> tuple[Format, ...]:
    """All formats, by name."""
    return _FORMATS


def by_name(name: str) -> Format:
    """The format called ``name``. Raises UsageError, listing the formats, when there is none."""
    known = formats()
    for one in known:
        if one.name == name:
            return one
    raise UsageError(f"there is no output format '{name}'", f"use one of: {_listing(known)}")


def by_path(path: str) -> Format:
    """The format whose extension ``path`` has. Raises UsageError listing the extensions."""
    known = formats()
    lowered = os.path.basename(path).lower()
    fitting = [
        (len(extension), one)
        for one in known
        for extension in one.extensions
        if lowered.endswith(extension)
    ]
    if fitting:  # ".speedscope.json" before ".json"
        return max(fitting, key=lambda pair: pair[0])[1]
    raise UsageError(
        f"the name '{path}' does not tell which format to write",
        f"give it one of these endings, or name the format with --output: {_listing(known)}",
    )


def _listing(known: tuple[Format, ...]) -> str:
    return ", ".join(f"{one.name} ({' '.join(one.extensions)})" for one in known)
