"""The exit codes users may rely on. ``docs/usage.md`` lists them; a test keeps the two together."""

from __future__ import annotations

import errno
from enum import IntEnum

from systemscope.errors import (
    InputError,
    KernelError,
    OutputError,
    PermissionMissing,
    SystemScopeError,
    TargetError,
    Unsupported,
    UsageError,
    VerifierError,
)


class ExitCode(IntEnum):
    """What an exit status means. A profiled COMMAND's own status replaces OK."""

    OK = 0  # the profile was written
    INTERNAL = 1  # an error SystemScope did not foresee
    USAGE = 2  # the command line makes no sense
    TARGET = 3  # the process, thread, cgroup or command cannot be profiled
    PERMISSION = 4  # not root, a capability missing, lockdown
    KERNEL = 5  # the kernel lacks or refuses something indispensable
    OUTPUT = 6  # the profile could not be written
    INPUT = 7  # a file given to be read is missing, damaged or of no known kind
    NOT_EXECUTABLE = 126  # COMMAND was found but cannot be executed
    NOT_FOUND = 127  # COMMAND was not found
    INTERRUPTED = 130  # interrupted before there was anything to write
    PIPE = 141  # the reader of standard output went away


def exit_code_for(error: BaseException) -> ExitCode:
    """The exit code of an exception that reached the top."""
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return ExitCode.PIPE
    if isinstance(error, KernelError):
        denied = error.errno in (errno.EPERM, errno.EACCES) and not isinstance(error, VerifierError)
        return ExitCode.PERMISSION if denied else ExitCode.KERNEL
    status = getattr(error, "status", None)  # a command that could not be run, as shells tell it
    if isinstance(error, TargetError) and status in (ExitCode.NOT_EXECUTABLE, ExitCode.NOT_FOUND):
        return ExitCode(status)
    return next(
        (code for kind, code in _CODES if isinstance(error, kind)),
        ExitCode.INTERNAL,
    )


_CODES: tuple[tuple[type[SystemScopeError], ExitCode], ...] = (
    (UsageError, ExitCode.USAGE),
    (TargetError, ExitCode.TARGET),
    (PermissionMissing, ExitCode.PERMISSION),
    (Unsupported, ExitCode.KERNEL),
    (OutputError, ExitCode.OUTPUT),
    (InputError, ExitCode.INPUT),
)
