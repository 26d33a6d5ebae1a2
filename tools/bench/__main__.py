"""``python -m tools.bench [--only storm|cost|startup]``: print the tables."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from pathlib import Path

from tests.workloads.build import NoCompiler, build
from tools.bench import cost, storm

_TABLES = {"storm": storm.report, "cost": cost.report_cost, "startup": cost.report_startup}


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("--only", choices=list(_TABLES), help="this table alone")
    chosen = parser.parse_args().only
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
