"""python -m tools.bench: measure cost and speed, beside other tools where they are installed.

Usage:
  tools.bench [--only TABLE]

Options:
  --only TABLE  This table alone: storm, cost, startup or encode.
  -h, --help    Show this.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from pathlib import Path

from tests.workloads.build import NoCompiler, build
from tools.bench import cost, encode, storm

_TABLES = {
    "storm": storm.report,
    "cost": cost.report_cost,
    "startup": cost.report_startup,
    "encode": encode.report,
}


def main() -> int:
    """The exit code."""
    from docopt import docopt

    chosen = docopt(__doc__)["--only"]
    if chosen not in (None, *_TABLES):
        print(f"bench: there is no table '{chosen}', but {', '.join(_TABLES)}", file=sys.stderr)
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
        for name, report in _TABLES.items():
            if chosen in (None, name):
                for text in report(binaries, Path(scratch)):
                    print(text, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
