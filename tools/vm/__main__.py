"""python -m tools.vm: try SystemScope on other kernels, in QEMU's software emulation.

Usage:
  tools.vm [options] [<kernel>...]

Without a kernel every one is tried. Each result is one of
  passed          booted, and every case was right
  test failed     booted, but a case was wrong or the guest stopped half-way
  boot failed     the guest never reached the first case
  not obtainable  no kernel, emulator, compiler or guest packages: nothing was tried

Options:
  --list       Show the kernels and stop.
  --json FILE  Write every result there.
  --console    Show what guests printed.
  -h, --help   Show this.

Exit status: 0 all passed, 1 a test failed, 2 a boot failed, 3 something was not obtainable.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tools.vm.kernels import KERNELS, chosen
from tools.vm.report import Outcome, exit_status, table
from tools.vm.run import try_kernel


def main(arguments: list[str]) -> int:
    """Run what is asked for; the exit status."""
    from docopt import docopt

    given = docopt(__doc__, argv=arguments)
    if given["--list"]:
        for kernel in KERNELS:
            print(f"{kernel.name:<14} {kernel.suite:<10} {kernel.package}")
        return 0
    try:
        kernels = chosen(given["<kernel>"])
    except KeyError as error:
        print(f"unknown kernel {error}; --list shows them", file=sys.stderr)
        return 2
    outcomes: list[Outcome] = []
    for kernel in kernels:  # never two at once: emulation wants the whole machine
        outcome = try_kernel(kernel)
        outcomes.append(outcome)
        print(outcome.line(), flush=True)
        if given["--console"] and outcome.console:
            print(outcome.console)
    print("\n" + table(outcomes))
    if given["--json"]:
        Path(given["--json"]).write_text(json.dumps([one.as_dict() for one in outcomes], indent=1))
    return exit_status(outcomes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
