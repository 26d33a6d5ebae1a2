"""What a user sees while the window runs: a live line on a terminal, one plain line elsewhere."""

from __future__ import annotations

import sys
from typing import Optional, TextIO

from systemscope.cli.report import say
from systemscope.collectors.request import Progress, Request

_EVERY_NS = 200_000_000
_CLEAR = "\r\x1b[K"


class ProgressLine:
    """Call it with each Progress; :meth:`done` clears the live line."""

    def __init__(self, quiet: bool, stream: Optional[TextIO] = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._quiet = quiet or self._stream is None
        self._live = not self._quiet and self._stream.isatty()
        self._next_ns = 0
        self._shown = False
        self._announcement = ""

    def announce(self, request: Request) -> None:
        """Remember what to say once the window is seen to run: not before, for a target that does
        not exist needs no announcement."""
        self._announcement = (
            f"systemscope: profiling {describe_target(request)}, {describe_end(request)}"
        )

    def __call__(self, progress: Progress) -> None:
        """Show a moment of the window; at most five a second are written."""
        if self._announcement and not self._quiet:
            say(self._announcement)
        self._announcement = ""
        if not self._live or progress.elapsed_ns < self._next_ns:
            return
        self._next_ns = progress.elapsed_ns + _EVERY_NS
        self._write(
            f"{_CLEAR}{progress.elapsed_ns / 1e9:.1f} s  samples {progress.samples:,}  "
            f"threads {progress.threads:,}"
        )
        self._shown = True

    def step(self, text: str) -> None:
        """Replace the live line by ``text``: what is being done after the window."""
        if self._live:
            self._write(_CLEAR + text)
            self._shown = True

    def done(self) -> None:
        """Clear the live line."""
        if self._shown:
            self._write(_CLEAR)
            self._shown = False

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._live = False


def describe_target(request: Request) -> str:
    """``process 12 and threads named 'a*'``, or ``the whole system``."""
    parts = []
    if request.pids:
        parts.append(_ids("process", "processes", request.pids))
    if request.tids:
        parts.append(_ids("thread", "threads", request.tids))
    if request.comm:
        parts.append(f"what is named '{request.comm}'")
    if request.cgroup:
        parts.append(f"control group '{request.cgroup}'")
    if request.command:
        parts.append(f"'{request.command[0]}'")
    return " and ".join(parts) if parts else "the whole system"


def describe_end(request: Request) -> str:
    """When the window ends, in words."""
    if request.duration_ns is not None:
        return f"for {request.duration_ns / 1e9:g} s (Ctrl-C ends it sooner)"
    if request.system_wide:
        return "until Ctrl-C"
    return "until it ends or Ctrl-C"


def _ids(one: str, many: str, ids: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
    return f"{one if len(ids) == 1 else many} {shown}"
