"""Try SystemScope on other kernels.

Usage: python -m tools.vm [--list] [--json FILE] [--console] [KERNEL...]

Without KERNEL every kernel is tried. Each result is one of
  passed          booted, and every case was right
  test failed     booted, but a case was wrong or the guest stopped half-way
  boot failed     the guest never reached the first case
  not obtainable  no kernel, emulator, compiler or guest packages: nothing was tried

Exit status: 0 all passed, 1 a test failed, 2 a boot failed, 3 something was not obtainable.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tools.vm.kernels import KERNELS, chosen
from tools.vm.report import Outcome, exit_status, table
from tools.vm.run import try_kernel


def main(arguments: list[str]) -> int:
    """Run what is asked for; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.vm",
        description="Try SystemScope on other kernels, in QEMU's software emulation.",
    )
    parser.add_argument("kernels", metavar="KERNEL", nargs="*", help="names; all by default")
    parser.add_argument("--list", action="store_true", help="show the kernels and stop")
    parser.add_argument("--json", metavar="FILE", help="write every result there")
    parser.add_argument("--console", action="store_true", help="show what guests printed")
    options = parser.parse_args(arguments)
    if options.list:
        for kernel in KERNELS:
            print(f"{kernel.name:<14} {kernel.suite:<10} {kernel.package}")
        return 0
    try:
        kernels = chosen(options.kernels)
    except KeyError as error:
        parser.error(f"unknown kernel {error}; --list shows them")
    outcomes: list[Outcome] = []
    for kernel in kernels:  # never two at once: emulation wants the whole machine
        outcome = try_kernel(kernel)
        outcomes.append(outcome)
        print(outcome.line(), flush=True)
        if options.console and outcome.console:
            print(outcome.console)
    print("\n" + table(outcomes))
    if options.json:
        Path(options.json).write_text(json.dumps([one.as_dict() for one in outcomes], indent=1))
    return exit_status(outcomes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
