"""A command that is started held, so that its profile begins at its first instruction."""

from __future__ import annotations

import errno
import os
import signal
import struct
import time
from collections.abc import Mapping, Sequence
from typing import NoReturn, Optional

from systemscope.errors import TargetError

#: Exit statuses by which shells tell that a command could not be run (POSIX, 2.8.2).
NOT_FOUND = 127
NOT_EXECUTABLE = 126

_ERRNO = struct.Struct("=i")
_RESET = (
    *("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGPIPE", "SIGXFSZ", "SIGCHLD", "SIGTSTP"),
    *("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGWINCH", "SIGTTIN", "SIGTTOU"),
)


class CommandError(TargetError):
    """The command could not be run. ``status`` is what a shell would exit with: 126 or 127."""

    def __init__(self, name: str, number: int) -> None:
        self.status = NOT_FOUND if number in (errno.ENOENT, errno.ENOTDIR) else NOT_EXECUTABLE
        self.errno = number
        super().__init__(f"cannot run '{name}': {os.strerror(number)}", _remedy(name, number))


def _remedy(name: str, number: int) -> str:
    if number == errno.ENOENT and os.path.isfile(name):
        return "the interpreter its first line or its header names is missing: install it"
    if number in (errno.ENOENT, errno.ENOTDIR):
        return "check its spelling, give its full path, or add its directory to PATH"
    if number == errno.EACCES:
        return "check that it is a program and that its execute permission is set (chmod +x)"
    if number == errno.ENOEXEC:
        return "check that it is a program for this machine"
    if number == errno.E2BIG:
        return "shorten its arguments or its environment"
    return ""


def find_program(name: str, path: str) -> str:
    """The file that ``name`` means, looked for along ``path`` as execvp(3) does.

    Raises CommandError: EACCES when the only files found cannot be executed, else ENOENT.
    """
    if not name:
        raise CommandError(name, errno.ENOENT)
    candidates = [name]
    if "/" not in name:
        candidates = [os.path.join(where or ".", name) for where in path.split(":")]
    denied = 0
    for candidate in candidates:
        if os.path.isfile(candidate):
            if os.access(candidate, os.X_OK):
                return candidate
            denied = errno.EACCES
        elif os.path.isdir(candidate) and "/" in name:
            denied = errno.EACCES
    raise CommandError(name, denied or errno.ENOENT)


class HeldCommand:
    """A child process that waits before its exec until :meth:`release`.

    It is our child, in our process group, with our standard streams, as under perf and strace:
    Ctrl-C at the terminal reaches it and us, so the owner should take SIGINT as a wish to end the
    window, not to die before the command has. Its signals are at their defaults, whatever we
    ignore. Should we die before releasing it, it ends without having run anything; leaving the
    context before the release kills it. Once released it is never killed behind its back.

    Raises CommandError (a TargetError) when there is no such program: at once where that can be
    seen from here, else from :meth:`release`.
    """

    def __init__(self, argv: Sequence[str], env: Optional[Mapping[str, str]] = None) -> None:
        if not argv:
            raise TargetError("no command given", "put it after '--', as in: -- sleep 1")
        environment = dict(os.environ if env is None else env)
        program = find_program(argv[0], environment.get("PATH", os.defpath))
        self.argv = tuple(argv)
        self.program = program
        self._status: Optional[int] = None
        # gate: a byte lets the child go, end-of-file ends it. verdict: an errno, or closed by exec
        gate_read, self._gate = os.pipe()
        self._verdict, verdict_write = os.pipe()
        try:
            # Nothing is allocated between here and the exec that the parent's other threads could
            # hold a lock on but the interpreter's own, which fork looks after.
            self.pid = os.fork()
            if self.pid == 0:
                _become(program, self.argv, environment, (gate_read, verdict_write, self._gate))
        except OSError as error:
            self._close_pipes()
            raise TargetError(
                f"cannot start '{argv[0]}': {error.strerror}",
                "check the limits on processes and memory (ulimit -u)",
            ) from error
        finally:
            os.close(gate_read)
            os.close(verdict_write)

    @property
    def released(self) -> bool:
        """True once the command was let go."""
        return self._gate < 0

    def release(self) -> None:
        """Let the child execute its program, and return when it has. Raises CommandError when the
        kernel will not execute it; the child is then gone."""
        if self.released:
            return
        gate, self._gate = self._gate, -1
        try:
            os.write(gate, b"x")
        except BrokenPipeError:
            pass  # killed while held: wait() tells
        finally:
            os.close(gate)
        verdict, self._verdict = self._verdict, -1
        try:
            answer = os.read(verdict, _ERRNO.size)
        finally:
            os.close(verdict)
        if len(answer) == _ERRNO.size:
            self.wait()
            raise CommandError(self.program, _ERRNO.unpack(answer)[0])

    def poll(self) -> Optional[int]:
        """The exit status if the command has ended, else None. Killed by signal N is 128 + N, as
        in a shell."""
        if self._status is None:
            self._reap(os.WNOHANG)
        return self._status

    def wait(self, timeout: Optional[float] = None) -> Optional[int]:
        """Wait for the end and give the exit status; None after ``timeout`` seconds without."""
        if self._status is not None or timeout is None:
            while self._status is None:
                self._reap(0)
            return self._status
        deadline = time.monotonic() + timeout
        pause = 0.001
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(pause * 2, 0.05)
        return self._status

    def _reap(self, options: int) -> None:
        try:
            pid, status = os.waitpid(self.pid, options)
        except ChildProcessError:  # someone else reaped it, or SIGCHLD is ignored
            self._status = 0
            return
        if pid == self.pid:
            code = os.waitstatus_to_exitcode(status)
            self._status = code if code >= 0 else 128 - code

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended already."""
        if self.poll() is None:
            # Not reaped, so the number is still its own.
            os.kill(self.pid, number)

    def _close_pipes(self) -> None:
        for descriptor in (self._gate, self._verdict):
            if descriptor >= 0:
                os.close(descriptor)
        self._gate = self._verdict = -1

    def close(self) -> None:
        """Kill the child if it was never released; reap it if it has ended."""
        if not self.released:
            self.send_signal(signal.SIGKILL)
            self._close_pipes()
            self.wait()
        self.poll()

    def __enter__(self) -> HeldCommand:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _become(
    program: str, argv: tuple[str, ...], env: dict[str, str], pipes: tuple[int, int, int]
) -> NoReturn:
    """The child: wait at the gate, then turn into the program. Never returns."""
    gate, verdict, other_end = pipes
    status = NOT_EXECUTABLE
    try:
        os.close(other_end)  # else our own copy would keep the gate open when the parent dies
        _default_signals()
        if os.read(gate, 1):
            try:
                os.execve(program, argv, env)
            except OSError as error:
                if error.errno != errno.ENOEXEC:
                    raise
                # A script without "#!": execvp(3) hands it to the shell.
                os.execve("/bin/sh", ("sh", program, *argv[1:]), env)
    except (OSError, ValueError) as error:  # ValueError: a NUL in an argument
        number = getattr(error, "errno", 0) or errno.EINVAL
        status = NOT_FOUND if number == errno.ENOENT else NOT_EXECUTABLE
        os.write(verdict, _ERRNO.pack(number))
    finally:
        os._exit(status)


def _default_signals() -> None:
    """Python ignores SIGPIPE and catches SIGINT; the command shall find what a shell gives it."""
    for name in _RESET:
        number = getattr(signal, name)
        # What our own parent had us ignore (nohup) stays ignored, but for Python's own doing.
        inherited = signal.getsignal(number) == signal.SIG_IGN
        if not inherited or name in ("SIGPIPE", "SIGXFSZ"):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
