"""Profiles the bundled workload for five seconds and shows where its threads' time went.

It does through the Python API what the commands it prints do in a shell.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

SECONDS = 5
RESULTS = {
    "demo.html": "a page to explore: open it in a browser",
    "demo.trace.json": "what happened when: open it in Perfetto",
}
WORKLOAD = Path(__file__).with_name("workload.py")


def main() -> int:
    """Run the demo; the exit code."""
    from systemscope import SystemScopeError
    from systemscope.cli.exit_codes import exit_code_for
    from systemscope.cli.report import describe

    with subprocess.Popen(
        [sys.executable, str(WORKLOAD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as workload:
        try:
            assert workload.stdout is not None
            show(int(workload.stdout.readline()))
        except SystemScopeError as error:
            print("\n".join(describe(error)), file=sys.stderr)
            return exit_code_for(error)
        finally:
            workload.kill()
    return 0


def show(pid: int) -> None:
    """Profile process ``pid``, print the page and the summary, write it in other formats."""
    import time

    import systemscope
    from systemscope.exporters.summary import summary
    from systemscope.model.filters import Hidden

    print(f"$ systemscope profile --pid {pid} --duration {SECONDS} --output text --per-thread\n")
    sys.stdout.flush()
    profile = systemscope.profile(pid=pid, duration=SECONDS, timeline=True)
    systemscope.write(profile, sys.stdout.buffer, "text", per_thread=True)
    lines = summary(profile.capture, Hidden(), profile.notes, time.process_time())
    print("\n" + "\n".join(lines))
    print("\nThe same in other formats:")
    for path, what in RESULTS.items():
        systemscope.write(profile, path)
        give_back(path)
        print(f"  {path:<16} {what}")


def give_back(path: str) -> None:
    """Under sudo the file shall belong to who called it."""
    with suppress(KeyError, ValueError, OSError):
        os.chown(path, int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"]))


if __name__ == "__main__":
    sys.exit(main())
