"""Compile the workloads: small programs whose split of time, or whose stacks, are known.

Every function of the first ones that burns or waits keeps its frame pointer (see keep_frame in
workload.h), so that a frame-pointer walk can be judged against the truth. Those in unwinding/ have
none.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
BINARIES = SOURCES / "bin"
COMMON = ("-O2", "-g", "-Wall", "-Wextra", "-Werror", "-fno-optimize-sibling-calls", "-pthread")
FRAME_POINTER = ("-fno-omit-frame-pointer",)


class NoCompiler(Exception):
    """There is no compiler to build the workloads with."""


@dataclass(frozen=True)
class Program:
    """One binary. ``sources`` are relative to this directory; C++ by their name's end.

    ``flags`` are for all of them, ``special`` for one more source each, compiled apart. ``link``
    is added at the end; ``@NAME`` there is another program of the same directory. With ``strip``
    the program has no symbols, and NAME.full is the same with them.
    """

    name: str
    sources: tuple[str, ...]
    flags: tuple[str, ...] = FRAME_POINTER
    special: tuple[tuple[str, tuple[str, ...]], ...] = ()
    link: tuple[str, ...] = ()
    strip: bool = False

    @property
    def cplusplus(self) -> bool:
        """Whether it takes a C++ compiler."""
        return any(source.endswith(".cc") for source in self.sources)

    def newest(self) -> float:
        """When the last of what it is made of was changed."""
        files = [SOURCES / source for source in (*self.sources, *(one for one, _ in self.special))]
        headers = [header for file in files for header in file.parent.glob("*.h")]
        times = [*files, *headers, SOURCES / "workload.h", Path(__file__)]
        return max(file.stat().st_mtime for file in times)


def _plain(name: str, *link: str) -> Program:
    return Program(name, (f"{name}.c",), link=link)


#: ``short`` is linked statically: a stripped C library has no symbols for its own local functions,
#: not even for the one that calls main, so whether every frame of a short life gets its name needs
#: this.
PROGRAMS = (
    _plain("split"),
    _plain("four"),
    _plain("hog"),
    _plain("storm"),
    _plain("short", "-static"),
    _plain("swarm"),
)


def build(directory: Path = BINARIES, programs: Iterable[Program] = PROGRAMS) -> Path:
    """Compile what is missing or older than its source into ``directory``; returns it.

    Raises NoCompiler without a compiler, subprocess.CalledProcessError when it fails.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for program in programs:
        binary = directory / program.name
        if not binary.exists() or binary.stat().st_mtime < program.newest():
            _compile(program, directory)
    return directory


def _compile(program: Program, directory: Path) -> None:
    partial = directory / f".{program.name}.{os.getpid()}"  # two builders never see half a binary
    c = compiler("CC", "gcc", "cc")
    driver = compiler("CXX", "g++", "c++") if program.cplusplus else c
    objects = []
    for number, (source, flags) in enumerate(_units(program)):
        objects.append(partial.with_name(f"{partial.name}.{number}.o"))
        own = driver if source.endswith(".cc") else c
        _run(own, *COMMON, *flags, "-c", "-o", objects[-1], SOURCES / source)
    link = [str(directory / word[1:]) if word.startswith("@") else word for word in program.link]
    _run(driver, "-pthread", "-o", partial, *objects, *link)
    for file in objects:
        file.unlink()
    if program.strip:
        full = directory / f"{program.name}.full"
        partial.replace(full)
        _run(compiler("STRIP", "strip"), "-o", partial, full)
    partial.replace(directory / program.name)


def _units(program: Program) -> list[tuple[str, tuple[str, ...]]]:
    return [*((source, program.flags) for source in program.sources), *program.special]


def compiler(variable: str, *names: str) -> str:
    """The compiler that the environment or the path names. Raises NoCompiler."""
    found = os.environ.get(variable) or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise NoCompiler(f"no {names[0]} found: install it to build tests/workloads")
    return found


def _run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True)
