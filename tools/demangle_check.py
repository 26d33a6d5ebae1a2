"""Compare our demangled names with other demanglers' on the symbols of files of this machine.

    python -m tools.demangle_check /usr/bin/node /usr/lib/*/libstdc++.so.6

Prints, for each file and demangler, the share of names that agree, and how long ours took. Rust's
suffixes (".llvm.1", ".cold") are left out of the comparison: each tool writes them in its own way.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence

from systemscope.symbolizer.demangle import Demangler

MOST_NAMES = 50_000
#: (command, prefixes of the names it is an oracle for). -i: no "std::basic_string<char, ...>".
ORACLES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("c++filt", "-i"), ("_Z",)),
    (("c++filt", "-i", "-s", "rust"), ("_R",)),
    (("llvm-cxxfilt-19",), ("_Z", "_R")),
)
_SUFFIX = re.compile(r"(?: \()?(?:\.(?:llvm|cold|warm|isra|part|constprop|\d)[.\d]*)+\)?$")
_SHOWN = 3


def symbols(path: str) -> list[str]:
    """Up to MOST_NAMES mangled names of a file, always the same ones."""
    found: set[str] = set()
    for flags in ([], ["-D"]):
        ran = subprocess.run(["nm", *flags, path], capture_output=True, text=True, check=False)
        found.update(line.split()[-1].split("@")[0] for line in ran.stdout.splitlines() if line)
    names = sorted(name for name in found if name.startswith(("_Z", "_R")))
    random.Random(1).shuffle(names)
    return names[:MOST_NAMES]


def compare(names: Sequence[str], ours: dict[str, str], command: Sequence[str]) -> str:
    """The share that agrees, in words, with the shortest names that do not."""
    text = "".join(f"{name}\n" for name in names)
    ran = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    pairs = [
        (name, ours.get(name, name), said) for name, said in zip(names, ran.stdout.split("\n"))
    ]
    wrong = [row for row in pairs if _SUFFIX.sub("", row[1]) != _SUFFIX.sub("", row[2])]
    share = 100 * (1 - len(wrong) / len(names))
    lines = [f"  {' '.join(command)}: {share:.3f} % of {len(names):,} agree"]
    for row in sorted(wrong, key=lambda row: len(row[0]))[:_SHOWN]:
        lines += [f"    {text}" for text in row]
    return "\n".join(lines)


def main(paths: Sequence[str]) -> int:
    """Compare on each of ``paths``."""
    for path in paths:
        names = symbols(path)
        if not names:
            print(f"{path}: no mangled names")
            continue
        began = time.perf_counter()
        with Demangler() as demangler:
            ours = demangler.names(names)
        each = (time.perf_counter() - began) / len(names) * 1e6
        print(f"{path}: {len(names):,} names, {each:.1f} us each")
        for command, prefixes in ORACLES:
            chosen = [name for name in names if name.startswith(prefixes)]
            if chosen and shutil.which(command[0]) is not None:
                print(compare(chosen, ours, command))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
