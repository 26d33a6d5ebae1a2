"""A held command: nothing runs before its release, and its end is told as a shell tells it."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from systemscope.errors import TargetError
from systemscope.processes import proc
from systemscope.processes.command import CommandError, HeldCommand


def executable(path: Path, content: str) -> str:
    path.write_text(content)
    path.chmod(0o755)
    return str(path)


def test_nothing_runs_before_the_release(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with HeldCommand(["touch", str(mark)]) as command:
        time.sleep(0.05)
        assert command.poll() is None
        assert not mark.exists()
        assert proc.comm(command.pid) == proc.comm(os.getpid())
        command.release()
        assert command.released
        assert proc.comm(command.pid) in ("touch", "")
        command.release()  # once is enough
        assert command.wait() == 0
    assert mark.exists()


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill $$", 143)]
)
def test_status_as_in_a_shell(script: str, status: int) -> None:
    with HeldCommand(["sh", "-c", script]) as command:
        command.release()
        assert command.wait() == status
        assert command.poll() == status
        assert command.wait(0.0) == status


def test_wait_with_a_limit() -> None:
    with HeldCommand(["sleep", "100"]) as command:
        command.release()
        assert command.wait(0.02) is None
        command.send_signal(signal.SIGTERM)
        assert command.wait(10) == 143
        command.send_signal(signal.SIGTERM)  # gone: nothing happens


def test_arguments_and_environment(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with HeldCommand(
        ["sh", "-c", f'printf "%s|%s|%s" "$1" "$2" "$X" >{out}', "sh", "a b", "\udcff"],
        env={"X": "y"},
    ) as command:
        command.release()
        assert command.wait() == 0
    assert out.read_bytes() == b"a b|\xff|y"


def test_missing_and_unusable_programs(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("x")
    script = executable(tmp_path / "script", "#!/no/such/interpreter\n")
    for argv0, status, cause in (
        ("no-such-program-here", 127, "No such file or directory"),
        (str(tmp_path / "none"), 127, "No such file or directory"),
        (str(plain), 126, "Permission denied"),
        (str(tmp_path), 126, "Permission denied"),
        ("", 127, "No such file or directory"),
        (script, 127, "No such file or directory"),
    ):
        with (
            pytest.raises(CommandError, match="cannot run") as caught,
            HeldCommand([argv0]) as command,
        ):
            command.release()
        assert caught.value.status == status
        assert cause in str(caught.value)
        assert caught.value.remedy
        assert isinstance(caught.value, TargetError)
    with pytest.raises(TargetError, match="no command"):
        HeldCommand([])


def test_a_missing_interpreter_is_told_at_the_release(tmp_path: Path) -> None:
    script = executable(tmp_path / "script", "#!/no/such/interpreter\n")
    with HeldCommand([script]) as command:
        with pytest.raises(CommandError) as caught:
            command.release()
        assert "interpreter" in caught.value.remedy
        assert command.poll() == 127


def test_too_long_an_argument_list() -> None:
    with (
        HeldCommand(["true", "x" * (1 << 20)]) as command,
        pytest.raises(CommandError, match="Argument list too long"),
    ):
        command.release()


def test_a_nul_in_an_argument_is_an_error_not_a_success() -> None:
    with HeldCommand(["true", "a\0b"]) as command, pytest.raises(CommandError):
        command.release()


def test_a_script_without_an_interpreter_line(tmp_path: Path) -> None:
    script = executable(tmp_path / "script", 'exit "$1"\n')
    with HeldCommand([script, "7"]) as command:
        command.release()
        assert command.wait() == 7


def test_relative_to_the_path_as_execvp_does(tmp_path: Path) -> None:
    executable(tmp_path / "prog", "#!/bin/sh\nexit 5\n")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "prog").write_text("not executable")
    path = f"{tmp_path}/none:{tmp_path}/dir:{tmp_path}:/usr/bin:/bin"
    with HeldCommand(["prog"], env={"PATH": path}) as command:
        command.release()
        assert command.wait() == 5


def test_leaving_before_the_release_kills_it(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with HeldCommand(["touch", str(mark)]) as command:
        pass
    assert command.poll() == 128 + signal.SIGKILL
    assert proc.stat(command.pid) is None
    assert not mark.exists()


def test_killed_while_held() -> None:
    with HeldCommand(["true"]) as command:
        os.kill(command.pid, signal.SIGKILL)
        os.waitid(os.P_PID, command.pid, os.WEXITED | os.WNOWAIT)
        command.release()
        assert command.wait() == 137


def test_it_ends_with_us_while_held(tmp_path: Path) -> None:
    """Killed before the release, the profiler leaves no waiting child behind."""
    mark = tmp_path / "mark"
    code = (
        "import os,sys,time\n"
        "from systemscope.processes.command import HeldCommand\n"
        f"c = HeldCommand(['touch', {str(mark)!r}])\n"
        "print(c.pid, flush=True)\n"
        "time.sleep(100)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    owner.kill()
    owner.wait()
    owner.stdout.close()
    for _ in range(500):
        about = proc.stat(pid)
        if about is None or about.state == "Z":
            break
        time.sleep(0.01)
    else:
        pytest.fail("the held child is still there")
    assert not mark.exists()


def test_signals_are_at_their_defaults() -> None:
    """Python ignores SIGPIPE; a command must not inherit that, nor a blocked signal."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        read, write = os.pipe()
        saved = os.dup(1)
        os.dup2(write, 1)
        try:
            command = HeldCommand(["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"])
        finally:
            os.dup2(saved, 1)
            os.close(saved)
            os.close(write)
        with command:
            command.release()
            assert command.wait() == 0
        with open(read, "rb") as stream:
            masks = dict(line.split() for line in stream.read().splitlines())
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    assert int(masks[b"SigBlk:"], 16) == 0
    assert not int(masks[b"SigIgn:"], 16) >> (signal.SIGPIPE - 1) & 1


def test_same_process_group() -> None:
    with HeldCommand(["sleep", "100"]) as command:
        command.release()
        assert os.getpgid(command.pid) == os.getpgid(0)
        command.send_signal(signal.SIGINT)
        assert command.wait(10) == 130


def test_no_descriptor_is_left() -> None:
    gc.collect()
    before = set(os.listdir("/proc/self/fd"))
    for argv in (["true"], ["no-such-program-here"], ["true", "\0"]):
        try:
            with HeldCommand(argv) as command:
                command.release()
                command.wait()
        except CommandError:
            pass
        with HeldCommand(["true"]):
            pass
    assert set(os.listdir("/proc/self/fd")) == before
