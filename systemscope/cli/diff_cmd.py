"""``systemscope diff``: how one profile differs from another."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from systemscope.cli.conversion import SHARED_USAGE, convert, read_conversion, report
from systemscope.cli.destination import FOR_PEOPLE
from systemscope.cli.usage import HelpShown, parse
from systemscope.errors import UsageError
from systemscope.exporters.formats import formats
from systemscope.exporters.output import Output
from systemscope.importers.reading import load

_USAGE = """
Show how AFTER differs from BEFORE. Each may be a capture (.ssc), a pprof profile or folded stacks.

Usage:
  systemscope diff [options] [--debug-dir DIR]... <before> <after>

One of the two may be - for standard input. Times are compared as they are, unless --normalize is
given: use it where the two windows, or the loads in them, were not equally long.

Options:
  --normalize          Scale BEFORE to the total of AFTER.
{shared}
"""


def run(arguments: Sequence[str]) -> int:
    """Run ``systemscope diff ARGUMENTS``; the exit code. Raises SystemScopeError."""
    able = ", ".join(one.name for one in formats() if one.differences)
    usage = _USAGE.format(shared=SHARED_USAGE.format(formats=able, otherwise="text"))
    try:
        given = parse(usage, "diff", arguments, repeatable=("--debug-dir",)).options
    except HelpShown as shown:
        return shown.code
    if given["<before>"] == given["<after>"] == "-":
        raise UsageError("standard input cannot be both files", "name one of them")
    wanted = read_conversion(given, FOR_PEOPLE)
    form = wanted.format
    if not form.differences:
        raise UsageError(f"{form.name} cannot show a difference", f"use one of: {able}")
    with ExitStack() as opened:
        old = opened.enter_context(load(given["<before>"]))
        new = opened.enter_context(load(given["<after>"]))
        output = opened.enter_context(Output(wanted.path))
        before, after = convert(old, wanted), convert(new, wanted)
        output.write(
            lambda raw: form.write_difference(before.profile, after.profile, raw, wanted.export)
        )
        report([before, after], wanted)
    return 0
