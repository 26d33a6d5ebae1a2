"""Which CPUs there are.

Possible CPUs size the kernel's per-CPU values; online ones can be sampled. Source:
``/sys/devices/system/cpu`` (Documentation/admin-guide/cputopology.rst).
"""

from __future__ import annotations

import os

from systemscope.errors import SystemScopeError

MAX_CPUS = 65_536
_SYSFS = "/sys/devices/system/cpu"


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """``"0-2,5"`` as ``(0, 1, 2, 5)``: ascending, without repeats. Blank text is no CPU.

    Raises ValueError for anything else, or for a CPU number of MAX_CPUS or more.
    """
    found: set[int] = set()
    text = text.strip()
    if len(text) > 8 * MAX_CPUS:
        raise ValueError("the CPU list is too long")
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        low, high = _number(first, text), _number(last if dash else first, text)
        if low > high or high >= MAX_CPUS:
            raise ValueError(f"{part!r} is no range of CPUs")
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def possible_cpus() -> tuple[int, ...]:
    """CPUs that can ever appear while this kernel runs; per-CPU map values have one slot for each.

    Raises SystemScopeError when the kernel does not tell: a guess would misread every value.
    """
    try:
        with open(f"{_SYSFS}/possible", encoding="ascii") as file:
            found = parse_cpu_list(file.read(8 * MAX_CPUS))
    except (OSError, ValueError) as error:
        raise SystemScopeError(
            f"the number of possible CPUs cannot be read from {_SYSFS}: {error}",
            "mount sysfs at /sys",
        ) from error
    if not found:
        raise SystemScopeError(f"{_SYSFS}/possible names no CPU", "mount sysfs at /sys")
    return found


def online_cpus() -> tuple[int, ...]:
    """CPUs that run threads now."""
    try:
        with open(f"{_SYSFS}/online", encoding="ascii") as file:
            found = parse_cpu_list(file.read(8 * MAX_CPUS))
    except (OSError, ValueError):
        found = ()
    # Without sysfs, the CPUs this process may run on are the best that is known.
    return found or tuple(sorted(os.sched_getaffinity(0)))


def _number(text: str, whole: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise ValueError(f"{whole!r} is no list of CPUs")
    return int(text)
