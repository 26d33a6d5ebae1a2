"""How a window ends: commands with children, deaths, signals, broken outputs."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.support import (
    LEGACY,
    Workload,
    command_line,
    environment,
    kernel_objects,
    objects_of,
    parse_folded,
    run,
    started,
    through,
    total,
    wait_for,
)

EXIT_TARGET, EXIT_OUTPUT, EXIT_PIPE, EXIT_PERMISSION = 3, 6, 141, 4
EXIT_NO_COMMAND = 127  # as a shell says it
LIFE_TOLERANCE = 0.1  # seconds by which a window may outlive its target


def _one_sentence(errors: str) -> None:
    """A failure is told in one sentence, not by a traceback."""
    told = [line for line in errors.splitlines() if line.startswith("systemscope: ")]
    assert len(told) == 1, errors


def test_command_with_children(workloads: Path, tmp_path: Path) -> None:
    split = f"{workloads / 'split'} --seconds 1 >/dev/null"
    output = tmp_path / "children.folded"
    run(
        "profile", "-q", "--per-thread", "--output", "folded", "-o", output, "--",
        "sh", "-c", f"{split} & {split} & wait; exit 7", status=7,
    )  # fmt: skip
    lines = parse_folded(output.read_text())
    burning = through([line for line in lines if line.state == "running"], "burn_major")
    assert len({line.pid for line in burning}) == 2
    shell = [line for line in lines if line.comm == "sh" and line.state == "sleeping"]
    assert total(shell) > 500_000  # it waited for its children
    assert len({line.pid for line in lines}) == 3


def test_command_killed_by_a_signal_gives_its_status() -> None:
    run("profile", "-q", "--", "sh", "-c", "kill -TERM $$", status=128 + signal.SIGTERM)


def test_target_killed_mid_window(workloads: Path) -> None:
    with Workload(workloads / "split") as workload:
        arguments = ("profile", "-q", "--per-thread", "-p", workload.pid, "-d", 30)
        with started(*arguments) as profiler:
            assert wait_for(lambda: _attached(profiler.pid)), "it never attached"
            time.sleep(2)
            os.kill(workload.pid, signal.SIGKILL)
            workload.process.wait()
            output, errors = profiler.communicate(timeout=15)
    assert profiler.returncode == 0, errors
    lines = parse_folded(output)
    burnt = total(through(lines, "burn_major")) + total(through(lines, "burn_minor"))
    assert burnt / total(lines) > 0.95
    assert total(lines) > 1_500_000


def _attached(pid: int) -> bool:
    """Whether process ``pid`` holds a BPF program."""
    try:
        return bool(objects_of(pid)[0])
    except OSError:
        return False


@pytest.mark.parametrize("target", ["pid", "system"])
def test_profiler_killed_leaves_nothing(workloads: Path, path: str, target: str) -> None:
    with Workload(workloads / "four") as workload:
        which = ("-p", workload.pid) if target == "pid" else ()
        with started("profile", "-q", "-d", 60, *which, path=path) as profiler:
            assert wait_for(lambda: _attached(profiler.pid)), "it never attached"
            time.sleep(1)
            programs, links = objects_of(profiler.pid)
            assert programs
            # Linux 4.9 has no links: everything hangs on perf events there.
            assert not links if path == LEGACY else links
            every_program, every_link = kernel_objects()
            assert programs <= every_program and links <= every_link
            profiler.kill()
            profiler.wait()
        assert workload.process.poll() is None

        def gone() -> bool:
            every_program, every_link = kernel_objects()
            return not (programs & every_program or links & every_link)

        assert wait_for(gone), "something is still in the kernel"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_window(workloads: Path, number: signal.Signals) -> None:
    with ExitStack() as stack:
        workload = stack.enter_context(Workload(workloads / "split"))
        profiler = stack.enter_context(started("profile", "-q", "--per-thread", "-p", workload.pid))
        assert wait_for(lambda: _attached(profiler.pid)), "it never attached"
        time.sleep(1.5)
        profiler.send_signal(number)
        output, errors = profiler.communicate(timeout=15)
    assert profiler.returncode == 0, errors
    assert through(parse_folded(output), "burn_major")


def test_closed_pipe(workloads: Path) -> None:
    with Workload(workloads / "four") as workload:
        profiler = subprocess.Popen(
            command_line("profile", "-q", "-p", workload.pid, "-d", 1),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert profiler.stdout is not None and profiler.stderr is not None
        profiler.stdout.close()
        errors = profiler.stderr.read().decode()
        assert profiler.wait(timeout=30) == EXIT_PIPE, errors
        profiler.stderr.close()
    assert "Traceback" not in errors and "Exception ignored" not in errors


def test_head_takes_one_byte(workloads: Path) -> None:
    with Workload(workloads / "four") as workload:
        words = " ".join(command_line("profile", "-q", "-p", workload.pid, "-d", 1))
        done = subprocess.run(
            ["bash", "-c", f"{words} | head -c 1"],
            env=environment(), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert len(done.stdout) == 1
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for one page."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_full_disk(workloads: Path, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(b"x" * 4096)
    with Workload(workloads / "four") as workload:
        result = run(
            "profile", "-q", "-p", workload.pid, "-d", 1, "-o", small_disk / "out.folded",
            status=EXIT_OUTPUT,
        )  # fmt: skip
    _one_sentence(result.errors)
    assert "space" in result.errors
    assert sorted(p.name for p in small_disk.iterdir()) == ["filler"]


def test_full_standard_output(workloads: Path) -> None:
    with Workload(workloads / "four") as workload, open("/dev/full", "wb") as full:
        done = subprocess.run(
            command_line("profile", "-q", "-p", workload.pid, "-d", 1),
            env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
            check=False,
        )  # fmt: skip
    assert done.returncode == EXIT_OUTPUT
    _one_sentence(done.stderr)
    assert "Exception ignored" not in done.stderr


def test_unwritable_output_is_told_before_the_window(workloads: Path) -> None:
    with Workload(workloads / "hog") as workload:
        result = run(
            "profile", "-p", workload.pid, "-d", 20, "-o", "/nonexistent/out.folded",
            status=EXIT_OUTPUT, timeout=15,
        )  # fmt: skip
    _one_sentence(result.errors)


def test_interrupted_before_anybody_reads_the_pipe(workloads: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with (
        Workload(workloads / "hog") as workload,
        started("profile", "-p", workload.pid, "-d", 1, "-o", pipe) as process,
    ):
        waits = Path(f"/proc/{process.pid}/stack")
        assert wait_for(lambda: "fifo_open" in waits.read_text())
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    _one_sentence(errors)


def _no_pid() -> int:
    """A process id that nobody has."""
    highest = int(Path("/proc/sys/kernel/pid_max").read_text())
    return next(pid for pid in range(highest - 1, 0, -1) if not Path(f"/proc/{pid}").exists())


def test_pid_that_does_not_exist() -> None:
    result = run("profile", "-p", _no_pid(), "-d", 20, status=EXIT_TARGET, timeout=15)
    _one_sentence(result.errors)


def test_command_that_does_not_exist() -> None:
    result = run("profile", "--", "/nonexistent/program", status=EXIT_NO_COMMAND, timeout=15)
    _one_sentence(result.errors)


def test_without_root() -> None:
    if not os.access("/usr/bin/setpriv", os.X_OK):
        pytest.skip("needs setpriv")
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all",
         *command_line("profile", "-p", 1, "-d", 20)],
        env=environment(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    if "Permission denied" in done.stderr and "systemscope:" not in done.stderr:
        pytest.skip("the project's files are not readable by others")
    assert done.returncode == EXIT_PERMISSION, done.stderr
    _one_sentence(done.stderr)
