"""How much of the user stacks is whole, why the rest is not, and what the unwind tables took."""

from __future__ import annotations

from dataclasses import dataclass, field

from systemscope.exporters.naming import safe_text
from systemscope.model import Capture, StackEnd, UnwindReport

_POINT = 0.01  # a difference between the shares of stacks and of time worth a line
_METHOD = 40  # characters
_MIB = 1 << 20

#: How the summary calls each end but the good one, in the order in which it tells them.
_END_WORDS = {
    StackEnd.NO_TABLE: "no table",
    StackEnd.DEPTH: "truncated",
    StackEnd.UNREADABLE: "unreadable stack",
    StackEnd.UNSUPPORTED: "unsupported rule",
    StackEnd.STRAYED: "strayed",
    StackEnd.UNTOLD: "frame pointers only",
}


@dataclass
class Unwound:
    """The user stacks of a capture by how they ended: how many samples and waits carry them, and
    the nanoseconds of these. ``by_pointer`` counts those among the whole ones that pass code
    without a table."""

    counts: dict[StackEnd, int] = field(default_factory=lambda: dict.fromkeys(StackEnd, 0))
    nanoseconds: dict[StackEnd, int] = field(default_factory=lambda: dict.fromkeys(StackEnd, 0))
    by_pointer: int = 0

    @property
    def total(self) -> int:
        """How many samples and waits carry a user stack."""
        return sum(self.counts.values())

    @property
    def whole(self) -> int:
        """How many of them reached the thread's entry point."""
        return self.counts[StackEnd.ENTRY]

    @property
    def whole_share(self) -> float:
        """The part of them that is whole; 1 where there are none."""
        return self.whole / self.total if self.total else 1.0

    @property
    def whole_time_share(self) -> float:
        """The part of their time that is on whole stacks; 1 where there is none."""
        time = sum(self.nanoseconds.values())
        return self.nanoseconds[StackEnd.ENTRY] / time if time else 1.0


def unwound(capture: Capture) -> Unwound:
    """Add up the user stacks of ``capture``. One of frame pointers counts as UNTOLD; as DEPTH if
    the limit of frames cut it."""
    found = Unwound()
    ends = [(one.has_user, one.ended, one.user_by_pointer) for one in capture.stacks]
    for entry in capture.entries:
        user, end, by_pointer = ends[entry.stack]
        if not user:
            continue
        found.counts[end] += entry.count
        found.nanoseconds[end] += entry.nanoseconds
        if by_pointer and end is StackEnd.ENTRY:
            found.by_pointer += entry.count
    return found


def unwinding(capture: Capture) -> list[str]:
    """What there is to say of it, a phrase each; nothing where no unwind tables were in use."""
    report = capture.unwinding
    if report is None:
        return []
    phrases = _stacks(unwound(capture), safe_text(report.method[:_METHOD]))
    return phrases + ([_cost(report)] if report != UnwindReport(report.method) else [])


def wrapped(phrase: str, room: int) -> list[str]:
    """``phrase`` in lines of at most ``room`` columns, broken behind its commas where it can be."""
    lines: list[str] = []
    for part in phrase.split(", "):
        if lines and len(lines[-1]) + len(part) + 3 <= room:
            lines[-1] += f", {part}"
        else:
            if lines:
                lines[-1] += ","
            lines.append(part)
    return lines


def _stacks(found: Unwound, method: str) -> list[str]:
    how = f"by unwind tables ({method})" if method else "by unwind tables"
    if not found.total:
        return [f"no user stacks to unwind {how}"]
    counted = f"{found.total:,} stack{'' if found.total == 1 else 's'}"
    phrases = [f"{share(found.whole, found.total)} of {counted} whole {how}"]
    if abs(found.whole_time_share - found.whole_share) > _POINT:
        phrases.append(f"{_percent(found.whole_time_share)} of their time is on whole ones")
    rest = [
        f"{words} {found.counts[end]:,} ({share(found.counts[end], found.total)})"
        for end, words in _END_WORDS.items()
        if found.counts[end]
    ]
    phrases += [", ".join(rest)] if rest else []
    if found.by_pointer:
        phrases.append(f"{found.by_pointer:,} of the whole ones pass code without a table")
    return phrases


def _cost(report: UnwindReport) -> str:
    parts = [
        f"{report.files:,} file{'' if report.files == 1 else 's'}"
        + (f" ({report.cached:,} from the cache)" if report.cached else "")
        + (f" of {report.processes:,} processes" if report.processes > 1 else ""),
        f"{report.rows:,} rows",
        f"{_mib(report.table_bytes)} MiB of at most {_mib(report.limit_bytes)} MiB",
        f"built in {report.build_seconds:.2f} CPU s",
    ]
    for count, words in (
        (report.without, "have no usable table"),
        (report.dropped, "made room for others"),
        (report.refused, "found no room"),
    ):
        parts += [f"{count:,} {words}"] if count else []
    return ", ".join(parts)


def share(part: int, whole: int) -> str:
    """``part`` of ``whole`` with one decimal: all only if it is all, nothing only if nothing."""
    if 0 < part * 1000 < whole:
        return "< 0.1 %"
    return _percent(part / whole if whole else 1.0)


def _percent(ratio: float) -> str:
    if 0.999 < ratio < 1:
        return "99.9 %"
    return f"{100 * ratio:.1f} %"


def _mib(size: int) -> str:
    text = f"{size / _MIB:,.1f}"
    return text[:-2] if text.endswith(".0") else text
