"""Where a profile goes: whole or not at all, and nothing beside it, however the run ends."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from systemscope.errors import OutputError
from systemscope.exporters.output import Output

_HELD = """
import sys, time
from systemscope.exporters.output import Output
with Output(sys.argv[1]) as output:
    def write(stream):
        stream.write(b"x" * 100_000)
        stream.flush()
        print("ready", flush=True)
        time.sleep(60)
    output.write(write)
"""


def _new(raw: BinaryIO) -> None:
    raw.write(b"new")


@pytest.fixture(params=["unnamed", "named"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With files that have no name, and as on file systems that know none."""
    if request.param == "named":
        real = os.open

        def refuse(path: Any, flags: int, *more: Any) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            return real(path, flags, *more)

        monkeypatch.setattr(os, "open", refuse)
    return str(request.param)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("existing", [False, True])
def test_it_appears_when_written(tmp_path: Path, existing: bool) -> None:
    target = tmp_path / "a.folded"
    if existing:
        target.write_text("old")
    mask = os.umask(0o027)
    try:
        with Output(str(target)) as output:
            output.write(_new)
    finally:
        os.umask(mask)
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640
    assert target.stat().st_nlink == 1
    assert os.listdir(tmp_path) == ["a.folded"]


@pytest.mark.usefixtures("way")
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.folded"
    target.write_text("old")

    def fail(raw: Any) -> None:
        raw.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OutputError, match="No space"), Output(str(target)) as output:
        output.write(fail)
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.folded"]


@pytest.mark.usefixtures("way")
def test_a_link_keeps_pointing_at_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to("there/a")
    with Output(str(link)) as output:
        output.write(_new)
    assert link.is_symlink() and (tmp_path / "there" / "a").read_text() == "new"
    assert os.listdir(tmp_path / "there") == ["a"]


@pytest.mark.usefixtures("way")
def test_a_name_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Output("a") as output:
        output.write(_new)
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.usefixtures("way")
def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file") as caught:
        Output(str(tmp_path / "none" / "a"))
    assert "directory" in caught.value.remedy


def test_a_killed_run_leaves_nothing(tmp_path: Path) -> None:
    try:
        os.close(os.open(tmp_path, os.O_WRONLY | os.O_TMPFILE))
    except OSError as error:
        pytest.skip(f"this file system has no files without a name: {error}")
    running = subprocess.Popen(
        [sys.executable, "-c", _HELD, str(tmp_path / "a")], stdout=subprocess.PIPE, text=True
    )
    assert running.stdout is not None and running.stdout.readline() == "ready\n"
    running.kill()
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path) == []
