"""Words to the user: results to standard output, everything else to standard error."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Callable

from systemscope.cli.exit_codes import ExitCode, exit_code_for
from systemscope.errors import OutputError, SystemScopeError


def say(text: str) -> None:
    """One line to standard error. A closed standard error is no reason to fail."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return


def print_out(text: str) -> int:
    """``text`` to standard output; the exit code. For help and tables, not for profiles."""
    return guarded(lambda: _print_out(text), debug=False)


def _print_out(text: str) -> int:
    if sys.stdout is None:
        raise OutputError("standard output is closed", "open it, or redirect it to a file")
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write to standard output: {error.strerror}") from error
    return ExitCode.OK


def guarded(action: Callable[[], int], debug: bool) -> int:
    """Run ``action``; a failure becomes one sentence on standard error and its exit code.

    ``debug`` shows the traceback as well. Errors nobody foresaw show how to see it.
    """
    try:
        return int(action())
    except BrokenPipeError as error:
        _discard_output()
        return exit_code_for(error)
    except (SystemScopeError, KeyboardInterrupt, Exception) as error:
        if debug:
            traceback.print_exc()
        for line in describe(error):
            say(line)
        return exit_code_for(error)


def describe(error: BaseException) -> list[str]:
    """What went wrong and what to do, as lines for standard error."""
    if isinstance(error, KeyboardInterrupt):
        return ["systemscope: interrupted; nothing more was written."]
    if isinstance(error, SystemScopeError):
        text = error.message.rstrip(".")
        if "\n" in text:  # a verifier's explanation keeps its layout
            return [f"systemscope: {text}", *([f"  {error.remedy}"] if error.remedy else [])]
        return [f"systemscope: {text}{'; ' + error.remedy if error.remedy else ''}."]
    name = type(error).__name__
    return [
        f"systemscope: internal error ({name}: {error}); "
        "please report it with the traceback that --debug shows."
    ]


def _discard_output() -> None:
    """Point standard output at nothing: the interpreter's last flush must not complain."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
    except OSError:
        return
