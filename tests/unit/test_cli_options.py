"""From words to a request: options, their conflicts, and how refusals read."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemscope.cli import options as module
from systemscope.cli.exit_codes import ExitCode
from systemscope.cli.main import main
from systemscope.cli.options import read_options
from systemscope.cli.usage import HelpShown
from systemscope.collectors.request import Request, Unwind, usual_cache_directory
from systemscope.errors import UsageError
from systemscope.model import State
from systemscope.model.filters import IdleThreads, ThreadKind

CACHE = "/var/cache/of tests"


@pytest.fixture(autouse=True)
def known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_sample_rate_limit", lambda: 5000)
    monkeypatch.setattr(module, "_online_cpus", lambda: (0, 1, 2, 3))
    monkeypatch.setenv("SYSTEMSCOPE_CACHE", CACHE)


def test_defaults() -> None:
    options = read_options("profile", [])
    assert options.request == Request(cache_directory=CACHE)
    assert options.format.name == "folded"
    assert options.path == ""
    assert options.selection.idle is IdleThreads.HIDE
    assert options.selection.states is None
    assert options.export.state
    assert not options.export.per_thread


def test_everything_at_once() -> None:
    words = "-p 1,2 -t 7 --comm a* --cgroup /x --cpu 0-1,3 -d 2.5 -F 199 -m 500 -U -av --per-thread"
    options = read_options(
        "profile",
        [*words.split(), "--no-state", "--user-threads-only", "--idle-threads=only", "-o", "x.txt"],
    )
    assert options.request == Request(
        pids=(1, 2),
        tids=(7,),
        comm="a*",
        cgroup="/x",
        cpus=(0, 1, 3),
        duration_ns=2_500_000_000,
        frequency=199,
        min_block_ns=500_000,
        kernel_stacks=False,
        user_threads_only=True,
        cache_directory=CACHE,
    )
    assert options.selection.idle is IdleThreads.ONLY
    assert options.selection.kind is ThreadKind.USER
    assert options.export.annotate
    assert options.export.per_thread
    assert not options.export.state
    assert options.verbose
    assert options.path == "x.txt"


def test_how_stacks_are_walked() -> None:
    for command in ("profile", "oncpu", "offcpu"):
        words = "--unwind dwarf --unwind-memory 1G --max-stack 12 --no-cache"
        request = read_options(command, words.split()).request
        assert request.unwind is Unwind.DWARF
        assert request.unwind_bytes == 1 << 30
        assert request.max_stack == 12
        assert request.cache_directory == ""
    assert read_options("profile", ["--unwind=auto", "-K"]).request.unwind is Unwind.AUTO
    pointers = read_options("profile", ["--unwind", "fp", "--no-cache"]).request
    assert pointers.unwind is Unwind.FRAME_POINTERS


def test_tables_are_kept_where_the_user_wants_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert read_options("profile", []).request.cache_directory == CACHE
    for words in (["--no-cache"], ["--unwind", "fp"], ["-K"]):
        assert read_options("profile", words).request.cache_directory == ""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYSTEMSCOPE_CACHE", "here")
    assert usual_cache_directory() == str(tmp_path / "here")
    monkeypatch.setenv("SYSTEMSCOPE_CACHE", "")
    assert Path(usual_cache_directory()).is_absolute()


def test_a_command_keeps_its_own_options() -> None:
    options = read_options("profile", ["-d", "1", "--", "ls", "--pid", "-x", "--", "y"])
    assert options.request.command == ("ls", "--pid", "-x", "--", "y")
    assert not options.request.system_wide
    assert options.selection.idle is IdleThreads.SHOW


def test_oncpu_and_offcpu() -> None:
    oncpu = read_options("oncpu", [])
    assert (oncpu.request.oncpu, oncpu.request.offcpu) == (True, False)
    assert oncpu.selection.states == {State.RUNNING}
    offcpu = read_options("offcpu", [])
    assert (offcpu.request.oncpu, offcpu.request.offcpu) == (False, True)
    assert offcpu.selection.states is not None
    assert State.RUNNING not in offcpu.selection.states
    assert State.RUNNABLE in offcpu.selection.states
    assert read_options("offcpu", ["--state", "disk"]).selection.states == {State.DISK}


def test_the_default_frequency_bows_to_the_kernels_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_sample_rate_limit", lambda: 50)
    assert read_options("profile", []).request.frequency == 50
    with pytest.raises(UsageError, match="limit of 50"):
        read_options("profile", ["-F", "99"])


def test_output_formats() -> None:
    assert read_options("profile", ["-o", "A.FOLDED"]).format.name == "folded"
    assert read_options("profile", ["-o", "a.txt"]).format.name == "text"
    assert read_options("profile", ["-o", "a.svg", "--output", "folded"]).path == "a.svg"
    assert read_options("profile", ["-o", "/dev/null"]).format.name == "folded"
    assert read_options("profile", ["-o", "-"]).path == ""
    assert read_options("profile", ["-o", "/dev/stdout"]).format.name == "folded"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--pdi", "3"], "did you mean --pid?"),
        (["-z"], "no option -z"),
        (["-qz"], "no option -z (in -qz)"),
        (["33"], "put it after --"),
        (["-d"], "--duration needs a value"),
        (["-p", "1", "--pid=2"], "--pid is given twice"),
        (["--quiet=1"], "takes no value"),
        (["--"], "no command after '--'"),
        (["-U", "-K"], "exclude each other"),
        (["-q", "-v"], "exclude each other"),
        (["--user-threads-only", "--kernel-threads-only"], "exclude each other"),
        (["-p", "1", "--", "ls"], "exclude each other"),
        (["--comm", "x", "--", "ls"], "exclude each other"),
        (["--output", "gif"], "there is no output format 'gif'"),
        (["-o", "x.bmp"], ".folded .collapsed"),
        (["--idle-threads", "no"], "show, hide, only"),
        (["--state", "x"], "the states are"),
        (["--cpu", "7"], "not online"),
        (["--unwind", "magic"], "auto, dwarf, fp"),
        (
            ["--unwind", "dwarf", "-K"],
            "--kernel-stacks-only, which leaves user stacks out, exclude",
        ),
        (["--unwind", "fp", "--kernel-threads-only"], "--kernel-threads-only, which leaves user"),
        (["--unwind", "fp", "--unwind-memory", "8M"], "--unwind fp, which needs no unwind tables"),
        (["-K", "--unwind-memory", "8M"], "needs no unwind tables, exclude each other"),
        (["--unwind-memory", "512k"], "not a size from 1M to 4G"),
        (["--max-stack", "0"], "from 1 to 127"),
        (["--max-stack", "128"], "from 1 to 127"),
    ],
)
def test_refusals_are_one_sentence(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", *words]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1
    assert err.startswith("systemscope: ")
    assert ";" in err  # what is wrong; what to do


def test_oncpu_has_no_waits_to_show() -> None:
    with pytest.raises(UsageError, match="does not show"):
        read_options("oncpu", ["--state", "sleeping"])


def test_help_of_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("profile", "oncpu", "offcpu"):
        assert main([command, "--help"]) == ExitCode.OK
        assert main(["help", command]) == ExitCode.OK
        out, err = capsys.readouterr()
        assert f"systemscope {command} [options] -- COMMAND" in out
        assert err == ""
        assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["profil"], ExitCode.USAGE, "did you mean 'profile'?"),
        (["--pid", "3"], ExitCode.USAGE, "put the command first"),
        (["xyzzy"], ExitCode.USAGE, "there is no command 'xyzzy'"),
    ],
)
def test_first_words(
    words: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == code
    assert says in capsys.readouterr().err


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == ExitCode.OK
    assert capsys.readouterr().out.startswith("systemscope 0.")
    assert main([]) == main(["-h"]) == ExitCode.OK
    assert "offcpu" in capsys.readouterr().out


WORD = st.one_of(
    st.sampled_from(["-p", "-t", "-d", "-F", "-m", "-U", "-K", "-q", "-v", "-a", "-o", "-h", "-"]),
    st.sampled_from(["--pid", "--state", "--cpu", "--output", "--no-state", "--", "--=", "--p=1"]),
    st.sampled_from(["1", "0", "-1", "running", "folded", "x.txt", "0-3", "ls"]),
    st.text(max_size=6),
)


@given(st.lists(WORD, max_size=6))
def test_garbage_is_refused_or_read_but_never_crashes(words: list[str]) -> None:
    with contextlib.suppress(UsageError, HelpShown):
        read_options("profile", words)


def test_every_exit_code_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "usage.md").read_text()
    for code in ExitCode:
        assert f"| {code.value} |" in text, f"docs/usage.md does not tell of {code!r}"


def test_every_option_is_documented() -> None:
    import docopt

    from systemscope.cli.profile_usage import usage

    text = (Path(__file__).parents[2] / "docs" / "usage.md").read_text()
    for option in docopt.parse_options(
        docopt.parse_docstring_sections(usage("profile", ("folded",))).after_usage
    ):
        assert f"`{option.name}" in text or f"`{option.short}" in text, option.name


@pytest.mark.parametrize("words", [["--output", "chrome"], ["--timeline", "-o", "x.ssc"]])
def test_states_of_a_timeline_cannot_be_chosen(words: list[str]) -> None:
    with pytest.raises(UsageError, match="a timeline shows every state"):
        read_options("profile", [*words, "--state", "running"])
    assert read_options("oncpu", words).request.timeline
    assert read_options("profile", ["--timeline", "--state", "running"]).request.timeline
