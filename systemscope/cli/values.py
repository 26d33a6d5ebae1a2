"""Option values: strict, and a refusal says what was expected."""

from __future__ import annotations

import math
import re

from systemscope.errors import UsageError
from systemscope.model import State, state_name

MAX_PID = 4_194_304  # PID_MAX_LIMIT of 64-bit kernels (include/linux/threads.h)
MAX_FREQUENCY = 10_000
MAX_SECONDS = 366 * 24 * 3600
MAX_CPU = 65_535
_SIZE = re.compile(r"(\d{1,12})([kmg]?)(?:(?<=[kmg])i?b)?\Z", re.ASCII | re.IGNORECASE)
_SHIFTS = {"": 0, "k": 10, "m": 20, "g": 30}
_INTEGER = re.compile(r"\d{1,18}\Z", re.ASCII)
_NUMBER = re.compile(r"(\d{1,12}(\.\d{0,9})?|\.\d{1,9})\Z", re.ASCII)


def integer(option: str, text: str, low: int, high: int) -> int:
    """A whole number in [low, high]."""
    if not _INTEGER.match(text) or not low <= int(text) <= high:
        raise UsageError(
            f"{option} {text!r} is not a whole number from {low} to {high}", "give one that is"
        )
    return int(text)


def number(option: str, text: str, low: float, high: float, unit: str) -> float:
    """A decimal number in [low, high]."""
    value = float(text) if _NUMBER.match(text) else math.nan
    if not low <= value <= high:
        raise UsageError(
            f"{option} {text!r} is not a number of {unit} from {low:.10g} to {high:.10g}",
            f"give it like {option} 5 or {option} 0.5",
        )
    return value


def duration_ns(text: str) -> int:
    """Seconds, as nanoseconds: at least a millisecond, at most a year."""
    return round(number("--duration", text, 0.001, MAX_SECONDS, "seconds") * 1_000_000_000)


def min_block_ns(text: str) -> int:
    """Microseconds, as nanoseconds, at least one. 0 gives every wait its own stack."""
    return max(1, microseconds_ns("--min-block", text))


def microseconds_ns(option: str, text: str) -> int:
    """Microseconds, up to a minute, as nanoseconds."""
    return round(number(option, text, 0, 60_000_000, "microseconds") * 1_000)


def size_bytes(option: str, text: str, low: int, high: int) -> int:
    """A size in [low, high], as bytes: ``512k``, ``64M``, ``1G``, or bytes as they are."""
    found = _SIZE.match(text)
    size = int(found[1]) << _SHIFTS[found[2].lower()] if found else -1
    if not low <= size <= high:
        raise UsageError(
            f"{option} {text!r} is not a size from {_size(low)} to {_size(high)}",
            f"give it like {option} 64M",
        )
    return size


def _size(number: int) -> str:
    for letter, shift in reversed(_SHIFTS.items()):
        if number >> shift and not number % (1 << shift):
            return f"{number >> shift}{letter.upper()}"
    return str(number)


def id_list(option: str, text: str) -> tuple[int, ...]:
    """Process or thread ids separated by commas, each once."""
    return tuple(dict.fromkeys(integer(option, part, 1, MAX_PID) for part in _parts(option, text)))


def frequency(text: str, limit: int) -> int:
    """Samples a second, at most ``limit``: the kernel's perf_event_max_sample_rate (0: unknown)."""
    value = integer("--frequency", text, 1, MAX_FREQUENCY)
    if limit and value > limit:
        raise UsageError(
            f"--frequency {value} is above this kernel's limit of {limit} samples a second",
            f"ask for {limit} or less, or raise the limit with "
            f"sysctl kernel.perf_event_max_sample_rate={value}",
        )
    return value


def cpu_list(text: str, online: tuple[int, ...]) -> tuple[int, ...]:
    """CPUs like ``0-3,7``, sorted; every one must be in ``online`` (empty: not checked)."""
    found: set[int] = set()
    for part in _parts("--cpu", text):
        first, dash, last = part.partition("-")
        low = integer("--cpu", first, 0, MAX_CPU)
        high = integer("--cpu", last, 0, MAX_CPU) if dash else low
        if high < low:
            raise UsageError(f"--cpu {part!r} runs backwards", f"write it as {high}-{low}")
        found.update(range(low, high + 1))
    missing = sorted(found.difference(online)) if online else []
    if missing:
        raise UsageError(
            f"--cpu {text!r} names CPU {missing[0]}, which is not online",
            f"online CPUs are {format_cpus(online)}",
        )
    return tuple(sorted(found))


def format_cpus(cpus: tuple[int, ...]) -> str:
    """``(0, 1, 2, 5)`` as ``0-2,5``."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and runs[-1][1] == cpu - 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def state_list(text: str) -> frozenset[State]:
    """State names separated by commas."""
    known = {state_name(state): state for state in State}
    found = set()
    for part in _parts("--state", text):
        state = known.get(part.strip("[]").lower())
        if state is None:
            raise UsageError(
                f"--state {part!r} is no thread state", f"the states are {', '.join(known)}"
            )
        found.add(state)
    return frozenset(found)


def choice(option: str, text: str, choices: tuple[str, ...]) -> str:
    """One of ``choices``."""
    if text not in choices:
        raise UsageError(f"{option} {text!r} is not known", f"use one of: {', '.join(choices)}")
    return text


def word(option: str, text: str) -> str:
    """Text that is not empty and holds no control characters."""
    if not text or any(ord(char) < 32 for char in text):
        raise UsageError(f"{option} {text!r} is empty or unreadable", f"give {option} a value")
    return text


def _parts(option: str, text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UsageError(f"{option} {text!r} has an empty item", "separate items by single commas")
    return parts
