"""A whole run of a profiling command with a collector that needs no kernel."""

from __future__ import annotations

import os
import signal
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Optional

import pytest

from systemscope.cli import preflight
from systemscope.cli.exit_codes import ExitCode
from systemscope.cli.main import main
from systemscope.collectors.request import Progress, Request
from systemscope.errors import KernelError, TargetError, VerifierError
from systemscope.model import Capture, Profile, Sample
from systemscope.symbolizer import SymbolizerOptions
from systemscope.symbolizer.lines import resolvers
from tests.unit.fake_captures import capture, frame

assert resolvers  # loaded before stage() stands in for the package it is in

Collect = Callable[..., Capture]


def fake_collect(
    request: Request,
    stop: Callable[[], bool],
    progress: Optional[Callable[[Progress], None]] = None,
    command: object = None,
    files: object = None,
) -> Capture:
    assert files is not None
    if progress is not None:
        progress(Progress(500_000_000, 10, 3))
    if command is not None:
        command.release()  # type: ignore[attr-defined]
        command.wait()  # type: ignore[attr-defined]
    return capture()


def fake_symbolize(of: Capture) -> Profile:
    samples = [
        Sample(
            of.threads[entry.thread], "app", entry.state, (frame(f"f{entry.stack}"),),
            entry.nanoseconds, entry.count, entry.gap,
        )
        for entry in of.entries
    ]  # fmt: skip
    of.losses.resolved_frames += len(samples)
    return Profile(of, samples)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Stand-ins for what needs root: set ``collect`` and ``symbolize`` on it to change them."""
    parts = types.SimpleNamespace(collect=fake_collect, symbolize=fake_symbolize)
    collector = types.ModuleType("systemscope.collectors.wallclock")
    collector.collect = lambda *given: parts.collect(*given)  # type: ignore[attr-defined]
    symbolizer = types.ModuleType("systemscope.symbolizer")
    given = lambda of, *_: parts.symbolize(of)  # noqa: E731
    symbolizer.symbolize = given  # type: ignore[attr-defined]
    symbolizer.SymbolizerOptions = SymbolizerOptions  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "systemscope.collectors.wallclock", collector)
    monkeypatch.setitem(sys.modules, "systemscope.symbolizer", symbolizer)
    monkeypatch.setattr(preflight, "require", lambda have: None)
    return parts


EXPECTED = [
    "idler;f2;[sleeping] 1000000",
    "kworker/0:1;f0;[no stack];[idle] 1000000",
    "main_app;f1;[running] 750000",
    "main_app;f2;[sleeping] 250000",
]


def test_the_profile_alone_goes_to_standard_output(
    stage: types.SimpleNamespace, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", "-p", "100", "-d", "1"]) == ExitCode.OK
    out, err = capfd.readouterr()
    assert out.splitlines() == EXPECTED
    assert "profiling process 100, for 1 s" in err
    assert "3 in 2 processes, 1 never ran" in err
    assert "100.00 % of thread time, every thread to the microsecond" in err
    assert "losses      none" in err
    assert "\x1b" not in err  # no live line where there is no terminal


def test_quiet_is_quiet(stage: types.SimpleNamespace, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "-qd", "1"]) == ExitCode.OK
    out, err = capfd.readouterr()
    assert err == ""
    # System-wide: the thread that never ran is hidden.
    assert out.splitlines() == EXPECTED[1:]


def test_hidden_threads_are_counted(
    stage: types.SimpleNamespace, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["offcpu", "-d", "1", "--user-threads-only"]) == ExitCode.OK
    out, err = capfd.readouterr()
    assert out.splitlines() == EXPECTED[3:]
    assert "1 that never ran are left out, 1 s of thread time" in err
    assert "1 other thread not asked for" in err
    assert "750 ms in states not asked for" in err


def test_a_file_appears_whole(
    stage: types.SimpleNamespace, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "a.folded"
    target.write_text("old")
    seen: list[list[str]] = []

    def symbolize(of: Capture) -> Profile:
        seen.append([target.read_text(), *sorted(os.listdir(tmp_path))])
        return fake_symbolize(of)

    stage.symbolize = symbolize
    assert main(["profile", "-p", "1", "-o", str(target)]) == ExitCode.OK
    assert target.read_text().splitlines() == EXPECTED
    assert os.listdir(tmp_path) == ["a.folded"]
    assert seen[0][0] == "old"
    out, err = capfd.readouterr()
    assert out == ""
    assert str(target) in err


def test_a_failed_run_leaves_the_old_file(stage: types.SimpleNamespace, tmp_path: Path) -> None:
    target = tmp_path / "a.folded"
    target.write_text("old")

    def collect(*given: object) -> Capture:
        raise TargetError("process 1 does not exist", "name another")

    stage.collect = collect
    assert main(["profile", "-p", "1", "-o", str(target)]) == ExitCode.TARGET
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.folded"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk(stage: types.SimpleNamespace, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "-p", "1", "-o", "/dev/full"]) == ExitCode.OUTPUT
    assert "No space left on device; free some space" in capfd.readouterr().err


def test_an_unwritable_output_fails_before_the_window(
    stage: types.SimpleNamespace, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stage.collect = lambda *given: pytest.fail("the window was opened")
    assert main(["profile", "-o", str(tmp_path / "none" / "a.txt")]) == ExitCode.OUTPUT
    assert "create the directory" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KernelError("load", "program 'x'", 1), ExitCode.PERMISSION),
        (KernelError("load", "program 'x'", 22), ExitCode.KERNEL),
        (VerifierError("x", 13, "log", "a\n  b"), ExitCode.KERNEL),
        (RuntimeError("oops"), ExitCode.INTERNAL),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
    ],
)
def test_errors_become_words_and_codes(
    stage: types.SimpleNamespace,
    error: BaseException,
    code: int,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def collect(*given: object) -> Capture:
        raise error

    stage.collect = collect
    assert main(["profile", "-d", "1"]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert "systemscope: " in err
    assert main(["profile", "-d", "1", "--debug", "--verifier-log"]) == code
    err = capfd.readouterr().err
    assert "Traceback" in err
    assert ("log\n" in err) is isinstance(error, VerifierError)


def test_a_signal_ends_the_window_and_the_profile_is_written(
    stage: types.SimpleNamespace, capfd: pytest.CaptureFixture[str]
) -> None:
    def collect(request: Request, stop: Callable[[], bool], *rest: object) -> Capture:
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        return capture()

    stage.collect = collect
    before = signal.getsignal(signal.SIGTERM)
    assert main(["profile", "-qp", "1"]) == ExitCode.OK
    assert capfd.readouterr().out.splitlines() == EXPECTED
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_signal_gives_up_names_only(
    stage: types.SimpleNamespace, capfd: pytest.CaptureFixture[str]
) -> None:
    def symbolize(of: Capture) -> Profile:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not reached")

    stage.symbolize = symbolize
    assert main(["profile", "-p", "1"]) == ExitCode.OK
    out, err = capfd.readouterr()
    assert out.splitlines()[2:] == [
        "main_app;app+0x10;app+0x500;[running] 750000",
        "main_app;app+0x600;[kernel]+0xffff0001;[sleeping] 250000",
    ]
    assert "without names" in err


def test_a_command_runs_and_gives_its_status(
    stage: types.SimpleNamespace, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["--", "sh", "-c", "echo hello; exit 7"]
    assert main(["profile", "-q", *words]) == 7
    out, err = capfd.readouterr()
    assert out.splitlines() == EXPECTED
    assert err == "hello\n"
    # With a file for the profile, standard output is the command's own.
    assert main(["profile", "-q", "-o", str(tmp_path / "a.txt"), *words]) == 7
    assert capfd.readouterr().out == "hello\n"


def test_a_command_that_outlives_the_window_is_waited_for(
    stage: types.SimpleNamespace, capfd: pytest.CaptureFixture[str]
) -> None:
    def collect(
        request: Request, stop: object, progress: object, command: object, files: object
    ) -> Capture:
        command.release()  # type: ignore[attr-defined]
        return capture()

    stage.collect = collect
    assert main(["profile", "-d", "1", "--", "sh", "-c", "sleep 0.1; exit 3"]) == 3
    assert "waiting for 'sh' to end" in capfd.readouterr().err


def test_commands_that_cannot_run(
    stage: types.SimpleNamespace, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", "--", "no-such-program-here"]) == ExitCode.NOT_FOUND
    assert main(["profile", "--", "/etc/passwd"]) == ExitCode.NOT_EXECUTABLE


def test_a_closed_pipe(stage: types.SimpleNamespace, capfd: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    saved = os.dup(1)
    os.dup2(writing, 1)
    os.close(writing)
    try:
        assert main(["profile", "-qp", "1"]) == ExitCode.PIPE
    finally:
        os.dup2(saved, 1)
        os.close(saved)
    assert capfd.readouterr().err == ""
