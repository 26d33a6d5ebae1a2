"""Compile the workloads: small C programs whose split of time is known.

Every function that burns or waits keeps its frame pointer (see keep_frame in workload.h), so that
a frame-pointer walk can be judged against the truth.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
BINARIES = SOURCES / "bin"
NAMES = ("split", "four", "hog", "storm", "short", "swarm")
#: Linked statically: a stripped C library has no symbols for its own local functions, not even for
#: the one that calls main, so whether every frame of a short life gets its name needs this.
STATIC = frozenset({"short"})
FLAGS = (
    "-O2",
    "-g",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fno-omit-frame-pointer",
    "-fno-optimize-sibling-calls",
    "-pthread",
)


class NoCompiler(Exception):
    """There is no C compiler to build the workloads with."""


def build(directory: Path = BINARIES) -> Path:
    """Compile what is missing or older than its source into ``directory``; returns it.

    Raises NoCompiler without a compiler, subprocess.CalledProcessError when it fails.
    """
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise NoCompiler("no C compiler found: install gcc to build tests/workloads")
    directory.mkdir(parents=True, exist_ok=True)
    header_time = max((SOURCES / "workload.h").stat().st_mtime, Path(__file__).stat().st_mtime)
    for name in NAMES:
        source, binary = SOURCES / f"{name}.c", directory / name
        newest = max(source.stat().st_mtime, header_time)
        if binary.exists() and binary.stat().st_mtime >= newest:
            continue
        partial = directory / f".{name}.{os.getpid()}"  # two builders never see half a binary
        extra = ["-static"] if name in STATIC else []
        subprocess.run([compiler, *FLAGS, *extra, "-o", str(partial), str(source)], check=True)
        partial.replace(binary)
    return directory
