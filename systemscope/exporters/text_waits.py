"""The longest waits, what for, and on which stacks."""

from __future__ import annotations

from collections.abc import Sequence

from systemscope.exporters.heading import duration, share
from systemscope.exporters.palette import ANSI
from systemscope.exporters.text_page import BOLD, DIM, PLAIN, Page, columns
from systemscope.exporters.text_totals import Function, Totals, Wait
from systemscope.model import State

_WAITS = 6
_LINES = 3  # of a stack
_INDENT = 18
_NAME = 48  # columns of one function: mangled names run to hundreds
_LEAST_SHARE = 1000
_NOTHING_TO_DO = (State.IDLE, State.PARKED)


def write_waits(page: Page, totals: Totals) -> None:
    """Write the longest waits; the kernel's idle threads come last."""
    waits = sorted(
        totals.waits.values(),
        key=lambda one: (one.state in _NOTHING_TO_DO, -one.nanoseconds, one.reason, one.functions),
    )
    waits = [one for one in waits if one.nanoseconds * _LEAST_SHARE >= totals.total]
    if not waits:
        return
    page.heading("Waits", "longest first, and who waited for what")
    for wait in waits[:_WAITS]:
        _write_wait(page, wait, totals)
    rest = waits[_WAITS:]
    if rest:
        time = sum(one.nanoseconds for one in rest)
        page.line(
            (f"{duration(time):>10}{share(time, totals.total):>8}", PLAIN),
            (f"  in {len(rest):,} more", DIM),
        )


def _write_wait(page: Page, wait: Wait, totals: Totals) -> None:
    figures = f"{duration(wait.nanoseconds):>10}{share(wait.nanoseconds, totals.total):>8}  "
    who = sorted(wait.labels, key=lambda label: (-wait.labels[label], label))
    name = page.show(who[0], 24) + (f" +{len(who) - 1:,}" if len(who) > 1 else "")
    often = ""
    if wait.count > 1:
        each = duration(wait.nanoseconds // wait.count)
        often = f"  {wait.count:,} {page.times} {each}"
    room = page.layout - len(figures) - columns(name) - 2
    why = page.show(wait.reason, room)
    if columns(why) + len(often) > room:
        often = ""
    page.line((figures, PLAIN), (name, ANSI[wait.state]), ("  ", PLAIN), (why, BOLD), (often, DIM))
    for line in stack_lines(page, wait.functions, page.layout - _INDENT - 2, wait.cut):
        page.line((" " * (_INDENT + 2) + line, DIM))


def stack_lines(
    page: Page, functions: Sequence[Function], room: int, cut: bool = False, most: int = _LINES
) -> list[str]:
    """A stack, leaf first, in at most ``most`` lines of ``room`` columns; the innermost part that
    fits, then how many more there are."""
    lines: list[str] = []
    line = ""
    for position, function in enumerate(functions):
        left = len(functions) - position - 1
        more = f"{page.arrow}{page.ellipsis} {left:,}{'+' if cut else ''} more"
        name = page.show(function.name, min(_NAME, room - len(page.arrow + more)))
        if not line:
            line = name
            continue
        last = len(lines) == most - 1
        reserve = len(more) if last and (left or cut) else 0
        if columns(line) + len(page.arrow) + columns(name) + reserve <= room:
            line += page.arrow + name
        elif last:
            rest = f"{left + 1:,}{'+' if cut else ''} more"
            return [*lines, f"{line}{page.arrow}{page.ellipsis} {rest}"]
        else:
            lines.append(line)
            line = page.arrow.lstrip() + name
    if cut and line:
        line += page.arrow + page.ellipsis
    return [*lines, line] if line else lines
