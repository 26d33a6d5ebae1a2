"""The programs whose stacks only unwind tables show, and the stacks they say they have."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from tests.workloads.build import (
    BINARIES,
    FRAME_POINTER,
    SOURCES,
    NoCompiler,
    Program,
    build,
    compiler,
)

DIRECTORY = BINARIES / "unwinding"
NO_FRAME_POINTER = ("-fomit-frame-pointer",)
#: An object without tables is left by its frame pointer.
UNTABLED = (
    *("-g0", "-fno-omit-frame-pointer"),
    *("-fno-asynchronous-unwind-tables", "-fno-unwind-tables"),
)
SHARED = (*NO_FRAME_POINTER, "-fPIC")

_LINE = re.compile(r"^ \* (running|sleeping|rarely): +(\S.*?)(?: \*/)?$", re.M)
_TIMES = re.compile(r"^(\w+)\*(\d+)$")
#: What stands for code that no line names.
ELSEWHERE = "..."


def _program(name: str, *link: str) -> Program:
    return Program(name, (f"unwinding/{name}.c",), NO_FRAME_POINTER, link=link)


def _static(name: str, *flags: str, link: str) -> Program:
    source = "unwinding/threads.c"
    return Program(name, (source,), (*NO_FRAME_POINTER, *flags), link=(link,), strip=True)


def _library(name: str, *link: str) -> Program:
    return Program(name + ".so", (f"unwinding/{name}.c",), SHARED, link=("-shared", *link))


_LIBRARIES = (_library("plugin"), _library("stubs_lib"), _library("binds_lib", "-Wl,-z,lazy"))
_PROGRAMS = (
    *map(_program, ("callbacks", "deep", "handlers", "threads", "late", "clocks", "starts")),
    *map(_program, ("varied", "frames", "realigned", "binds", "tails", "children", "jit")),
    _program("stubs", "@stubs_lib.so", "-Wl,-z,lazy", "-Wl,-rpath,$ORIGIN"),
    replace(_program("deep"), name="deep_fp", flags=FRAME_POINTER),
    replace(_program("untabled"), special=(("unwinding/untabled_part.c", UNTABLED),)),
    _static("static", link="-static"),
    _static("static_pie", "-fPIE", link="-static-pie"),
)
_CPLUSPLUS = Program("throws", ("unwinding/throws.cc", "unwinding/throws_c.c"), NO_FRAME_POINTER)


@dataclass(frozen=True)
class Chains:
    """The stacks of a program, leaf first, by state; see unwinding/rounds.h."""

    running: frozenset[tuple[str, ...]]
    sleeping: frozenset[tuple[str, ...]]
    rarely: frozenset[tuple[str, ...]] = frozenset()

    @property
    def any(self) -> frozenset[tuple[str, ...]]:
        """All of them."""
        return self.running | self.sleeping | self.rarely

    @property
    def named(self) -> frozenset[str]:
        """Every function that they name."""
        return frozenset(name for chain in self.any for name in chain)


def build_programs(directory: Path = DIRECTORY) -> Path:
    """Compile them all; without a C++ compiler all but one. Raises NoCompiler without one for C."""
    build(directory, _LIBRARIES)
    build(directory, _PROGRAMS)
    try:
        compiler("CXX", "g++", "c++")
    except NoCompiler:
        return directory
    return build(directory, (_CPLUSPLUS,))


def chains(name: str) -> Chains:
    """What the first comment of ``unwinding/name`` says. Raises ValueError if it says nothing."""
    text = (SOURCES / "unwinding" / name).read_text()
    comment = text[: text.index("*/") + 2]
    found: dict[str, set[tuple[str, ...]]] = {"running": set(), "sleeping": set(), "rarely": set()}
    for state, words in _LINE.findall(comment):
        found[state].add(tuple(frame for word in words.split() for frame in _repeated(word)))
    if not found["running"] or not found["sleeping"]:
        raise ValueError(f"{name} does not say what its stacks are")
    return Chains(**{state: frozenset(some) for state, some in found.items()})


def _repeated(word: str) -> list[str]:
    times = _TIMES.match(word)
    return [times[1]] * int(times[2]) if times else [word]
