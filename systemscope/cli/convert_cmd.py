"""``systemscope convert``: a capture, pprof or folded file in any format."""

from __future__ import annotations

from collections.abc import Sequence

from systemscope.cli.conversion import SHARED_USAGE, convert, read_conversion, report
from systemscope.cli.usage import HelpShown, parse
from systemscope.exporters.formats import formats
from systemscope.exporters.output import Output
from systemscope.importers.reading import load

_USAGE = """
Write what a file holds in another format. It may be a capture (.ssc), whose addresses get their
names now, a pprof profile, or folded stacks.

Usage:
  systemscope convert [options] [--debug-dir DIR]... <input>

The input - is standard input. Programs and libraries of a capture are looked for under DIR, as
.build-id/xx/yyyy.debug, by the paths they had and by their mere names, then at their paths on this
machine; only files with the recorded build ID are used.

Options:
  --lines              Add source files and lines to user frames of a capture, and the frames of
                       inlined functions, where files have debug information.
  --no-inlines         With --lines: no frames of inlined functions.
  --min-slice US       Gather slices of fewer microseconds in a timeline (default 0).
{shared}
"""


def run(arguments: Sequence[str]) -> int:
    """Run ``systemscope convert ARGUMENTS``; the exit code. Raises SystemScopeError."""
    names = ", ".join(one.name for one in formats())
    otherwise = "text on a terminal and folded elsewhere"
    usage = _USAGE.format(shared=SHARED_USAGE.format(formats=names, otherwise=otherwise))
    try:
        given = parse(usage, "convert", arguments, repeatable=("--debug-dir",)).options
    except HelpShown as shown:
        return shown.code
    wanted = read_conversion(given)
    with load(given["<input>"]) as loaded, Output(wanted.path) as output:
        converted = convert(loaded, wanted)
        output.write(lambda raw: wanted.format.write_bytes(converted.profile, raw, wanted.export))
        report([converted], wanted)
    return 0
