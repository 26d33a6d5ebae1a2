"""``python -m systemscope``."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line with the process's own arguments; the exit code."""
    from systemscope.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
