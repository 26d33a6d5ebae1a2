"""``systemscope``: finds the command, runs it, and turns failures into one sentence and a code."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Optional

#: Command -> (module, what it does). A command's module has ``run(arguments) -> int``.
COMMANDS = {
    "profile": ("systemscope.cli.profile_cmd", "where every thread's wall-clock time goes"),
    "oncpu": ("systemscope.cli.profile_cmd", "where CPU time goes"),
    "offcpu": ("systemscope.cli.profile_cmd", "where threads wait, and for how long"),
    "convert": ("systemscope.cli.convert_cmd", "a capture or profile in another format"),
    "diff": ("systemscope.cli.diff_cmd", "how one profile differs from another"),
    "doctor": (
        "systemscope.cli.doctor_cmd",
        "what this kernel offers, what is missing, what to do",
    ),
    "disasm": ("systemscope.cli.disasm_cmd", "the BPF programs as they would be loaded here"),
}


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run ``systemscope`` with ``arguments`` (default: the process's own). Returns the exit code.

    Nothing is imported for ``--version`` and ``--help``: they answer at once.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    first = words[0] if words else "--help"
    if first in ("--version", "-V"):
        from systemscope.version import VERSION

        return _print(f"systemscope {VERSION}")
    if first in ("--help", "-h", "help") and not (first == "help" and words[1:]):
        return _print(_help())
    if first == "help":
        words = [words[1], "--help"]
    from systemscope.cli.report import guarded

    return guarded(lambda: _dispatch(words), debug="--debug" in _own_words(words))


def _own_words(words: Sequence[str]) -> Sequence[str]:
    """The words before ``--``: what follows belongs to the profiled command."""
    return words[: words.index("--")] if "--" in words else words


def _dispatch(words: Sequence[str]) -> int:
    name = words[0]
    if name not in COMMANDS:
        _refuse(name)
    module = importlib.import_module(COMMANDS[name][0])
    if COMMANDS[name][0].endswith("profile_cmd"):
        return int(module.run(name, words[1:]))
    return int(module.run(words[1:]))


def _refuse(name: str) -> None:
    """Raise UsageError for a first word that is no command."""
    from systemscope.cli.usage import nearest
    from systemscope.errors import UsageError

    if name.startswith("-"):
        raise UsageError(
            f"'{name}' stands before the command",
            "put the command first: systemscope profile [options]; see systemscope --help",
        )
    guess = nearest(name, COMMANDS)
    hint = f"did you mean '{guess}'? " if guess else ""
    raise UsageError(
        f"there is no command '{name}'", f"{hint}the commands are {', '.join(COMMANDS)}"
    )


def _print(text: str) -> int:
    from systemscope.cli.report import print_out

    return print_out(text)


def _help() -> str:
    lines = ["systemscope: where the wall-clock time of Linux threads goes.", "", "Usage:"]
    lines += [
        "  systemscope COMMAND [options]",
        "  systemscope profile [options] -- COMMAND ARG...",
        "",
        "Commands:",
    ]
    lines += [f"  {name:<8}  {what}" for name, (_, what) in COMMANDS.items()]
    lines += [
        "",
        "Options:",
        "  -h, --help     Show this, or with a command its options.",
        "  -V, --version  Show the version.",
        "",
        "Try: sudo systemscope profile --pid 1234 --duration 5 --output text",
    ]
    return "\n".join(lines)
