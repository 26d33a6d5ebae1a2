"""The public API: lazy, checked, and its example runs."""

from __future__ import annotations

import doctest
import io
import subprocess
import sys
from pathlib import Path

import pytest

import systemscope
from systemscope import api
from systemscope.collectors.request import Request, Unwind
from systemscope.errors import OutputError, UsageError
from tests.unit.fake_captures import SECOND, frame, profile, sample, thread

FOLDED = "worker;main;[running] 1000000\n"


def one() -> systemscope.Profile:
    return profile(sample(thread(1), SECOND, frame("main")))


def test_every_public_name_is_there() -> None:
    for name in systemscope.__all__:
        assert getattr(systemscope, name) is not None
    assert dir(systemscope) == sorted(systemscope.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        systemscope.nothing  # noqa: B018


def test_importing_it_loads_nothing() -> None:
    code = "import systemscope, sys; print([m for m in sys.modules if 'systemscope.' in m])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "['systemscope.version']"


def test_windows_that_make_no_sense() -> None:
    for arguments in (
        {},
        {"duration": 0},
        {"pid": []},
        {"pid": 1, "command": ["true"]},
        {"duration": 1, "frequency": 0},
        {"duration": 1, "idle_threads": "sometimes"},
        {"duration": 1, "unwind": "magic"},
        {"duration": 1, "unwind": "dwarf", "user_stacks": False},
        {"duration": 1, "unwind_bytes": 1000},
        {"duration": 1, "unwind_bytes": 5 << 30},
        {"duration": 1, "max_stack": 0},
        {"duration": 1, "max_stack": 128},
    ):
        with pytest.raises(UsageError):
            systemscope.profile(**arguments)  # type: ignore[arg-type]


def test_how_stacks_are_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Request] = []

    def run(request: Request, *rest: object) -> systemscope.Profile:
        asked.append(request)
        return one()

    monkeypatch.setattr(api, "_run", run)
    monkeypatch.setenv("SYSTEMSCOPE_CACHE", "/cache")
    systemscope.profile(duration=1)
    assert asked[-1] == Request(duration_ns=SECOND, cache_directory="/cache")
    systemscope.profile(duration=1, unwind=Unwind.DWARF, unwind_bytes=1 << 20, cache_directory="")
    expected = Request(duration_ns=SECOND, unwind=Unwind.DWARF, unwind_bytes=1 << 20)
    assert asked[-1] == expected
    systemscope.profile(duration=1, unwind="fp", cache_directory=Path("/elsewhere"))
    assert asked[-1].unwind is Unwind.FRAME_POINTERS
    assert asked[-1].cache_directory == "/elsewhere"


def test_writing_to_a_path_and_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "a.folded"
    systemscope.write(one(), path)
    assert path.read_text() == FOLDED
    stream = io.BytesIO()
    systemscope.write(one(), stream)
    assert stream.getvalue().decode() == FOLDED
    systemscope.write(one(), str(tmp_path / "b"), "folded", state=False, per_thread=True)
    assert (tmp_path / "b").read_text() == "worker-100/1;main 1000000\n"
    with pytest.raises(UsageError):
        systemscope.write(one(), tmp_path / "a.bmp")
    with pytest.raises(OutputError):
        systemscope.write(one(), tmp_path / "none" / "a.txt")
    assert {path.name for path in tmp_path.iterdir()} == {"a.folded", "b"}


def test_a_link_keeps_pointing_and_a_mode_is_the_users(tmp_path: Path) -> None:
    link = tmp_path / "link.folded"
    link.symlink_to(tmp_path / "real.folded")
    systemscope.write(one(), link)
    assert link.is_symlink()
    assert (tmp_path / "real.folded").read_text() == FOLDED
    (tmp_path / "plain").touch()
    made = (tmp_path / "real.folded").stat().st_mode
    assert made == (tmp_path / "plain").stat().st_mode


@pytest.mark.kernel
def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = doctest.testmod(api, verbose=False)
    assert ran.attempted >= 6
    assert ran.failed == 0
    assert "sleep;" in (tmp_path / "sleep.folded").read_text()
