"""Record here, name there: captures through the command line as two machines would use it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.e2e.support import Workload, parse_folded, run, through, total

SECONDS = 1.5


def convert(source: Path, *options: object) -> str:
    return run("convert", source, "--output", "folded", "--per-thread", *options).output


@pytest.fixture
def visitor(workloads: Path, tmp_path: Path) -> Path:
    """The workload's binary at a place it can be taken away from."""
    copy = tmp_path / "host" / "four"
    copy.parent.mkdir()
    shutil.copy2(workloads / "four", copy)
    return copy


def test_recorded_on_a_host_that_keeps_its_files(visitor: Path, tmp_path: Path, path: str) -> None:
    capture, debug = tmp_path / "a.ssc", tmp_path / "debug"
    with Workload(visitor) as four:
        run("profile", "-p", four.pid, "-d", SECONDS, "-o", capture, path=path)
    named = convert(capture, "-q")
    lines = parse_folded(named)
    assert through(lines, "worker_thread") and through(lines, "do_work")
    assert any("schedule" in frame for line in lines for frame in line.frames)
    # The other machine: the program is not where it was, then it is in a debug directory.
    visitor.rename(tmp_path / "elsewhere")
    away = run("convert", capture, "--output", "folded", "--per-thread")
    assert "--debug-dir" in away.errors and str(visitor) in away.errors
    assert not through(away.lines, "worker_thread")
    assert any(frame.startswith("four+0x") for line in away.lines for frame in line.frames)
    assert total(away.lines) == total(lines)
    home = debug / str(visitor).lstrip("/")
    home.parent.mkdir(parents=True)
    shutil.copy2(tmp_path / "elsewhere", home)
    assert convert(capture, "-q", "--debug-dir", debug) == named
    # A program of another build at the very same place is no help.
    shutil.copy2("/bin/true", home)
    assert convert(capture, "-q", "--debug-dir", debug) == away.output


def test_recorded_in_a_root_of_its_own(workloads: Path, tmp_path: Path) -> None:
    root, capture = tmp_path / "root", tmp_path / "a.ssc"
    (root / "opt").mkdir(parents=True)
    shutil.copy2(workloads / "four", root / "opt" / "four")
    if b"/ld-linux" in (workloads / "four").read_bytes():
        for library in _libraries(workloads / "four"):
            target = root / library.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(os.path.realpath(library), target)
    with Workload(shutil.which("chroot") or "chroot", root, "/opt/four") as four:
        run("profile", "-p", four.pid, "-d", SECONDS, "-o", capture)
    moved = root.rename(tmp_path / "moved")
    assert not through(parse_folded(convert(capture, "-q")), "worker_thread")
    found = parse_folded(convert(capture, "-q", "--debug-dir", moved / "opt"))
    assert through(found, "worker_thread")


def _libraries(program: Path) -> list[str]:
    import subprocess

    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    words = [word for line in listed.splitlines() for word in line.split()]
    return [word for word in words if word.startswith("/")]


def test_a_timeline_is_taken_along(workloads: Path, tmp_path: Path) -> None:
    plain, timed = tmp_path / "plain.ssc", tmp_path / "timed.ssc"
    with Workload(workloads / "four") as four:
        run("profile", "-p", four.pid, "-d", 1, "-o", plain)
        run("profile", "-p", four.pid, "-d", 1, "--timeline", "-o", timed)
    from systemscope.importers.reading import load

    with load(str(plain)) as loaded:
        assert loaded.capture is not None and loaded.capture.timeline is None
    with load(str(timed)) as loaded:
        assert loaded.capture is not None and loaded.capture.timeline is not None
        ran = {event.tid for event in loaded.capture.timeline.events()}
        assert {thread.tid for thread in loaded.capture.threads if thread.ran} <= ran


def test_two_windows_are_compared(workloads: Path, tmp_path: Path) -> None:
    before, after = tmp_path / "a.ssc", tmp_path / "b.ssc"
    with Workload(workloads / "four") as four:
        for target in (before, after):
            run("profile", "-p", four.pid, "-d", 1, "-o", target)
    told = run("diff", before, after)
    assert "running" in told.output and "worker" in told.output
    run("diff", before, after, "--normalize", "-qo", tmp_path / "d.svg")
    assert (tmp_path / "d.svg").stat().st_size > 1000
