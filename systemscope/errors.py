"""The one exception tree: what went wrong, on what, and what the user can do about it.

Only ``systemscope.cli`` turns these into words and exit codes. This module knows nothing of the
rest of the project, so every package may raise from it.
"""

from __future__ import annotations

import errno as _errno
import os


class SystemScopeError(Exception):
    """Any failure SystemScope foresees. ``remedy`` is one sentence for the user, or empty."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return self.message


class KernelError(SystemScopeError, OSError):
    """The kernel refused ``operation`` on ``subject`` with ``errno``."""

    def __init__(self, operation: str, subject: str, number: int, remedy: str = "") -> None:
        self.operation = operation
        self.subject = subject
        name = _errno.errorcode.get(number, str(number))
        text = f"{operation} of {subject} failed: {os.strerror(number)} ({name})"
        SystemScopeError.__init__(self, text, remedy)
        self.errno = number
        self.strerror = os.strerror(number)


class VerifierError(KernelError):
    """The verifier rejected a program: ``log`` is its text, ``explanation`` the Python lines."""

    def __init__(self, program: str, number: int, log: str, explanation: str = "") -> None:
        super().__init__("load", f"program '{program}'", number)
        self.program = program
        self.log = log
        self.explanation = explanation
        if explanation:
            self.message = explanation


class Unsupported(SystemScopeError):
    """This kernel lacks ``feature``, which Linux has ``since`` that version."""

    def __init__(self, feature: str, since: str = "", remedy: str = "") -> None:
        needs = f" (Linux {since} has it)" if since else ""
        super().__init__(f"this kernel does not offer {feature}{needs}", remedy)
        self.feature = feature
        self.since = since


class PermissionMissing(SystemScopeError):
    """The caller may not do ``what``; ``remedy`` says how to become allowed."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"no permission for {what}", remedy)
        self.what = what


class TargetError(SystemScopeError):
    """The process, thread, cgroup or command asked for cannot be profiled."""


class UsageError(SystemScopeError):
    """The command line asks for something that makes no sense."""


class OutputError(SystemScopeError):
    """The profile could not be written."""


class InputError(SystemScopeError):
    """A file given to be read is missing, damaged beyond use, or of no known kind."""
