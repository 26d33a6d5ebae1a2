"""``systemscope disasm``: the BPF programs as they would be loaded here, with their source."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from systemscope.cli.usage import HelpShown, nearest, parse
from systemscope.errors import OutputError, UsageError

if TYPE_CHECKING:
    from systemscope.bpfasm.types import ProgramSpec
    from systemscope.collectors.request import Request

_USAGE = """
Show the BPF programs as they would be loaded on this machine: instructions, functions and maps,
each group of instructions under the Python line that made it.

Usage:
  systemscope disasm [options] [<program>]

Without a program's name all are shown, after a table of them. Nothing is attached.

Options:
  -l, --list        Only the table: names, hooks, sizes.
  -p, --pid         As loaded when processes are named, instead of for the whole system.
  --without LIST    As loaded without these kernel features (systemscope doctor names them).
  --no-source       Without Python lines.
  --debug           Show the traceback of an error.
  -h, --help        Show this.
"""


def run(arguments: Sequence[str]) -> int:
    """Run ``systemscope disasm ARGUMENTS``; the exit code. Raises SystemScopeError."""
    try:
        options = parse(_USAGE, "disasm", arguments).options
    except HelpShown as shown:
        return shown.code
    from systemscope.cli.preflight import check
    from systemscope.collectors.request import Request

    check()
    request = Request(pids=(1,) if options["--pid"] else ())
    specs = programs_here(request, _names(options["--without"]))
    if sys.stdout is None:
        raise OutputError("standard output is closed", "open it, or redirect it to a file")
    show(
        specs,
        sys.stdout,
        program=options["<program>"] or "",
        table_only=bool(options["--list"]),
        source=not options["--no-source"],
    )
    sys.stdout.flush()
    return 0


def programs_here(request: Request, without: Sequence[str] = ()) -> list[ProgramSpec]:
    """The programs this kernel would be given for ``request``, doing ``without`` features."""
    from dataclasses import fields

    from systemscope.collectors.plan import programs_for
    from systemscope.kernel.capabilities import Capabilities, probe

    known = {one.name for one in fields(Capabilities)}
    for name in without:
        if name not in known:
            guess = nearest(name, known)
            hint = f"did you mean '{guess}'? " if guess else ""
            raise UsageError(
                f"'{name}' is no kernel feature", f"{hint}systemscope doctor --json lists them"
            )
    return programs_for(probe().without(*without), request)


def show(
    specs: Sequence[ProgramSpec],
    stream: TextIO,
    program: str = "",
    table_only: bool = False,
    source: bool = True,
) -> None:
    """Write the listing of ``program``, or a table of all and their listings, to ``stream``.

    Raises UsageError for an unknown name.
    """
    from systemscope.bpfasm.listing import listing

    chosen = [spec for spec in specs if not program or spec.name == program]
    if not chosen:
        names = list(dict.fromkeys(spec.name for spec in specs))
        guess = nearest(program, names)
        hint = f"did you mean '{guess}'? " if guess else ""
        raise UsageError(
            f"there is no program '{program}'", f"{hint}the programs are {', '.join(names)}"
        )
    if table_only or not program:
        stream.write("\n".join(_table(chosen)) + "\n")
    if table_only:
        return
    for position, spec in enumerate(chosen):
        if position or not program:
            stream.write("\n")
        stream.write(listing(spec, slots=True, source=source))


def _table(specs: Sequence[ProgramSpec]) -> list[str]:
    """One line a program, in columns; comments to whoever reads the listing back."""
    rows = [("program", "type", "attached to", "slots", "functions", "maps")]
    for spec in specs:
        rows.append(
            (
                spec.name,
                spec.type.name.lower(),
                spec.attach_to or "-",
                str(spec.slots),
                str(len(spec.subprograms)),
                str(len(spec.maps)),
            )
        )
    total = sum(spec.slots for spec in specs)
    rows.append(("total", "", "", str(total), "", str(len({m for s in specs for m in s.maps}))))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ]
        lines.append("; " + "  ".join(cells).rstrip())
    return lines


def _names(text: object) -> list[str]:
    return [part.strip() for part in str(text).split(",") if part.strip()] if text else []
