"""python -m tools.bench: measure cost and speed, beside other tools where they are installed.

Usage:
  tools.bench [--only TABLE] [--programs LIST] [--json FILE]

Options:
  --only TABLE     This table alone: storm, cost, startup, encode or unwind.
  --programs LIST  Of the programs whose stacks are unwound these alone, separated by commas.
  --json FILE      Write the figures of unwind to FILE, too.
  -h, --help       Show this.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Callable

from tests.workloads.build import NoCompiler, build
from tools.bench import cost, encode, storm, unwind

_Report = Callable[[Path, Path], Iterable[str]]
_TABLES: dict[str, _Report] = {
    "storm": storm.report,
    "cost": cost.report_cost,
    "startup": cost.report_startup,
    "encode": encode.report,
}


def main() -> int:
    """The exit code."""
    from docopt import docopt

    options = docopt(__doc__)
    chosen = options["--only"]
    programs = [name.strip() for name in (options["--programs"] or "").split(",") if name.strip()]
    to = Path(options["--json"]) if options["--json"] else None
    last = {"unwind": partial(unwind.report, chosen=programs, to=to)}
    tables: dict[str, _Report] = {**_TABLES, **last}
    if chosen not in (None, *tables):
        print(f"bench: there is no table '{chosen}', but {', '.join(tables)}", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("the bench needs root: sudo make bench", file=sys.stderr)
        return 4
    try:
        binaries = build()
    except NoCompiler as error:
        print(f"bench: {error}", file=sys.stderr)
        return 5
    print(f"{platform.system()} {platform.release()}, {os.cpu_count()} CPUs\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="systemscope-bench-") as scratch:
        for name, report in tables.items():
            if chosen in (None, name):
                for text in report(binaries, Path(scratch)):
                    print(text, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
