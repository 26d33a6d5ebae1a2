"""gdb as the oracle of stacks: it unwinds by the same tables with other people's code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

STOPS = 40
PAUSE_SECONDS = 0.011  # no divisor of the programs' rounds
_TIMEOUT_SECONDS = 90


@dataclass(frozen=True)
class Chain:
    """One stack as gdb walked it: addresses as a Capture has them, leaf first."""

    addresses: tuple[int, ...]
    names: tuple[str, ...]


def installed() -> bool:
    """Whether there is a gdb that runs Python."""
    if shutil.which("gdb") is None:
        return False
    done = subprocess.run(
        ["gdb", "-nx", "-batch", "-ex", "python print('python')"], capture_output=True, text=True
    )
    return done.stdout.strip() == "python"


def stacks(pid: int, stops: int = STOPS) -> list[Chain]:
    """What gdb sees of all threads of ``pid`` in ``stops`` stops; nothing if it has ended."""
    done = subprocess.run(
        _command(pid, stops),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [row[6:] for row in done.stdout.splitlines() if row.startswith("stack ")]
    return [_chain(json.loads(row)) for row in rows]


def _command(pid: int, stops: int) -> list[str]:
    here = str(Path(__file__).resolve().parent)
    lines = (
        "import sys",
        "sys.dont_write_bytecode = True",
        f"sys.path.insert(0, {here!r})",
        "import gdb_walk",
        f"gdb_walk.walk({pid}, {stops}, {PAUSE_SECONDS})",
    )
    words = ["gdb", "-nx", "-batch"]
    for line in lines:
        words += ["-ex", f"python {line}"]
    return words


def _chain(rows: list[list[object]]) -> Chain:
    """In a Capture the frame of a signal and the one it interrupted are stored one too high."""
    addresses, names, interrupted = [], [], False
    for pc, name, signal in rows:
        leaf = not addresses
        higher = (bool(signal) or interrupted) and not leaf
        addresses.append(int(str(pc)) + (1 if higher else 0))
        names.append(str(name))
        interrupted = bool(signal)
    return Chain(tuple(addresses), tuple(names))


if __name__ == "__main__":
    for chain in stacks(int(sys.argv[1]), 3):
        print(*(f"{a:#x} {n}" for a, n in zip(chain.addresses, chain.names)), sep="\n", end="\n\n")
