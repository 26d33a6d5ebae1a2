"""What a collector is asked for, and what it tells while it runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from typing import Optional

DEFAULT_FREQUENCY = 99
DEFAULT_MIN_BLOCK_NS = 1_000_000
MAX_STACK_DEPTH = 127
DEFAULT_UNWIND_BYTES = 64 << 20
#: Below, the tables of a libc alone find no room; above, no host should lend that much.
MIN_UNWIND_BYTES, MAX_UNWIND_BYTES = 1 << 20, 4 << 30
#: Names the directory in which unwind tables are kept for the next run.
CACHE_VARIABLE = "SYSTEMSCOPE_CACHE"


class Unwind(Enum):
    """How user stacks are walked."""

    AUTO = "auto"  # by the files' unwind tables; by frame pointers where there are none
    DWARF = "dwarf"  # the same, and an error where this kernel cannot
    FRAME_POINTERS = "fp"  # by the kernel, along frame pointers


@dataclass(frozen=True)
class Request:
    """One window. With no pids, tids, comm, cgroup or command it is system-wide.

    ``pids`` are thread groups whose threads and later children are followed; ``tids`` single
    threads. ``comm`` is a glob on process or thread names. ``command`` is started held, profiled
    from its first instruction to its end. ``duration_ns`` None means until stopped or until the
    last target is gone. ``timeline`` streams every stretch of every thread's time, while the
    window runs, to a file in ``spool_directory`` ("" is the usual one for temporary files).
    ``unwind`` is how user stacks are walked; ``unwind_bytes`` bounds the kernel memory that its
    tables take, ``cache_directory`` ("" for none) is where they are kept for the next run.
    ``delays`` asks the kernel's delay accounting too. ``disabled`` names capabilities to do
    without (tests of fallbacks).
    """

    pids: tuple[int, ...] = ()
    tids: tuple[int, ...] = ()
    comm: str = ""
    cgroup: str = ""
    command: tuple[str, ...] = ()
    cpus: Optional[tuple[int, ...]] = None
    duration_ns: Optional[int] = None
    frequency: int = DEFAULT_FREQUENCY
    min_block_ns: int = DEFAULT_MIN_BLOCK_NS
    max_stack: int = MAX_STACK_DEPTH
    oncpu: bool = True
    offcpu: bool = True
    user_stacks: bool = True
    kernel_stacks: bool = True
    user_threads_only: bool = False
    kernel_threads_only: bool = False
    timeline: bool = False
    delays: bool = False
    spool_directory: str = ""
    unwind: Unwind = Unwind.AUTO
    unwind_bytes: int = DEFAULT_UNWIND_BYTES
    cache_directory: str = ""
    disabled: frozenset[str] = frozenset()

    @property
    def system_wide(self) -> bool:
        """True when no target is named."""
        return not (self.pids or self.tids or self.comm or self.cgroup or self.command)


def usual_cache_directory() -> str:
    """Where unwind tables are kept for the next run: where the user wants them, else where the
    user's caches are."""
    wanted = os.environ.get(CACHE_VARIABLE, "")
    if wanted:
        return os.path.abspath(wanted)
    from systemscope.elf.cache import default_directory

    return default_directory()


@dataclass(frozen=True)
class Progress:
    """A moment of a running window."""

    elapsed_ns: int
    samples: int
    threads: int
