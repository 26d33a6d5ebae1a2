"""``systemscope diff``: two inputs of any kind, one answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from systemscope.cli.exit_codes import ExitCode
from systemscope.cli.main import main
from systemscope.exporters.formats import formats

BEFORE = "app-1/2;main;work;[running] 1000000\napp-1/2;main;wait;[sleeping] 1000000\n"
AFTER = "app-1/2;main;work;[running] 3000000\napp-1/2;main;wait;[sleeping] 1000000\n"
ABLE = [one.name for one in formats() if one.differences]


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    before, after = tmp_path / "before.folded", tmp_path / "after.folded"
    before.write_text(BEFORE)
    after.write_text(AFTER)
    return str(before), str(after)


def test_the_text_tells_what_grew(
    files: tuple[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", *files, "--output", "text"]) == ExitCode.OK
    out, err = capfd.readouterr()
    running = next(line for line in out.splitlines() if line.strip().startswith("running"))
    assert "1.00 s" in running and "3.00 s" in running
    assert err.index(files[0]) < err.index(files[1])


def test_scaled_to_the_later_total(
    files: tuple[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", *files, "--output", "text", "-q"]) == ExitCode.OK
    plain = capfd.readouterr()
    assert main(["diff", *files, "--output", "text", "-q", "--normalize"]) == ExitCode.OK
    scaled = capfd.readouterr()
    assert plain.err == scaled.err == ""
    running = next(line for line in scaled.out.splitlines() if line.strip().startswith("running"))
    assert "2.00 s" in running, "half of the two seconds before, of four after"
    assert plain.out != scaled.out


@pytest.mark.parametrize("name", ABLE)
def test_every_format_that_can(files: tuple[str, str], tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    assert main(["diff", *files, "--output", name, "-qo", str(out)]) == ExitCode.OK
    assert out.stat().st_size > 100


def test_refusals(files: tuple[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    for words, code, text in (
        ([*files, "--output", "capture"], ExitCode.USAGE, "capture cannot show a difference"),
        ([files[0]], ExitCode.USAGE, "--help"),
        (["-", "-"], ExitCode.USAGE, "standard input cannot be both"),
        ([files[0], files[1] + "x"], ExitCode.INPUT, "No such file"),
        ([*files, "--min-slice", "5"], ExitCode.USAGE, "no option --min-slice"),
    ):
        assert main(["diff", *words]) == code, words
        assert text in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "BEFORE and AFTER are missing"),
        (["a"], "AFTER is missing"),
        (["a", "-q", "b", "c"], "'c' is one argument too many"),
        (["a", "--output", "text"], "AFTER is missing"),
    ],
)
def test_too_few_and_too_many_arguments(
    words: list[str], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", *words]) == ExitCode.USAGE
    assert capfd.readouterr().err == f"systemscope: {told}; see systemscope diff --help.\n"
