"""What a profile is of, in words for titles."""

from __future__ import annotations

import time

from systemscope.exporters.naming import safe_text
from systemscope.model import Profile

_PROCESSES = 3  # more are counted, not named
_COMMAND = 300  # characters of a command line
_HOST = 64  # of a host's name (HOST_NAME_MAX)
_YEAR_3000 = 32_503_680_000.0
_UNITS = (("d", 86_400_000_000_000), ("h", 3_600_000_000_000), ("s", 1_000_000_000))
_SMALL_UNITS = (("ms", 1_000_000), ("us", 1_000))
_LONG_SECONDS = 100_000


def target(profile: Profile) -> str:
    """The command, or the processes; safe to print, on one line."""
    command = profile.capture.command
    if command:
        return safe_text(" ".join(command[:_COMMAND].split()))
    names: dict[int, str] = {}
    for sample in profile.samples:
        names.setdefault(sample.thread.tgid, sample.process_comm or sample.thread.comm)
        if len(names) > _PROCESSES:
            break
    if not names:
        return "nothing"
    if len(names) > _PROCESSES:
        count = len({sample.thread.tgid for sample in profile.samples})
        return f"{count:,} processes"
    return ", ".join(f"{safe_text(name[:_COMMAND])} ({tgid})" for tgid, name in names.items())


def window(profile: Profile) -> str:
    """How many threads are shown, of how long, where and when, as far as known."""
    capture = profile.capture
    threads = len({id(sample.thread) for sample in profile.samples})
    words = f"{threads:,} thread{'' if threads == 1 else 's'}"
    if capture.end > capture.start:
        words += f" over {(capture.end - capture.start) / 1e9:,.3f} s"
    if capture.hostname:
        words += f" on {capture.hostname[:_HOST]}"
    if 0 < capture.wall_start < _YEAR_3000:
        words += time.strftime(", %Y-%m-%d %H:%M:%S UTC", time.gmtime(capture.wall_start))
    return safe_text(words)


def origin(profile: Profile) -> str:
    """The kernel and how it was sampled, as far as known."""
    capture = profile.capture
    parts = [capture.kernel[:_HOST]] if capture.kernel else []
    if capture.event:
        event = f"{capture.event}, {capture.frequency} Hz"
        parts.append(f"{capture.samples:,} samples ({event})")
    return safe_text("; ".join(parts))


def duration(nanoseconds: int) -> str:
    """A length of time with three digits, the same number of columns wherever it can be."""
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    units = _UNITS if rest >= _LONG_SECONDS * _UNITS[-1][1] else (_UNITS[-1], *_SMALL_UNITS)
    for unit, size in units:
        value = rest / size
        if value >= 0.9995:
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{sign}{value:,.{digits}f} {unit}"
    return f"{sign}{rest} ns"


def share(part: int, whole: int) -> str:
    """``part`` of ``whole`` in percent with one decimal; "-" for nothing."""
    return f"{100 * part / whole:.1f} %" if whole and part else "-"
