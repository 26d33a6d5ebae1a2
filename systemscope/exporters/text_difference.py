"""What changed between two profiles, as a page for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from systemscope.exporters.difference import Change, StackKey, by_change, compare
from systemscope.exporters.formats import ExportOptions
from systemscope.exporters.heading import duration, target, window
from systemscope.exporters.palette import ANSI, ANSI_LESS, ANSI_MORE
from systemscope.exporters.text_functions import function_cells
from systemscope.exporters.text_page import BOLD, DIM, PLAIN, Cell, Page
from systemscope.exporters.text_waits import stack_lines
from systemscope.model import Profile, State, state_name

_LABEL = 20
_TIME = 10
_PERCENT = 9
_FIGURES = 2 + 3 * _TIME + _PERCENT + 2
_THREADS = 10
_FUNCTIONS = 12
_STACKS = 8
_LEAST_SHARE = 1000  # of the longer profile
_FAR = 10  # times as much: percent say no more than that


def write_changes(before: Profile, after: Profile, stream: TextIO, options: ExportOptions) -> None:
    """Write the page. Raises whatever the stream raises."""
    page = Page(stream, options)
    found = compare(before, after, options.normalize, options.per_thread)
    for word, profile in (("before", before), ("after", after)):
        text = f"{target(profile)}, {window(profile)}"
        page.line((f"{word:<8}", DIM), (page.show(text, page.layout - 8), BOLD))
    if options.normalize:
        factor = found.scale.numerator / found.scale.denominator
        text = f"times before are multiplied by {factor:.4g}: both profiles are of one length"
        page.line((page.show(text, page.layout), DIM))
    least = max(found.total.before, found.total.after) // _LEAST_SHARE
    page.heading("Time")
    _write_head(page, _LABEL)
    _write_bars(page, [("all", PLAIN, found.total)])
    states = sorted(found.states.items(), key=lambda item: -item[1].before - item[1].after)
    _write_bars(page, [(state_name(state), ANSI[state], change) for state, change in states])
    threads = [item for item in by_change(found.threads) if _counts(item[1], least)]
    if threads:
        page.heading("Threads", "that changed most, by name" if not options.per_thread else "")
        _write_head(page, _LABEL)
        _write_bars(page, [(label, PLAIN, change) for label, change in threads[:_THREADS]])
        _write_rest(page, len(threads) - _THREADS)
    functions = [item for item in by_change(found.functions) if _counts(item[1], least)]
    if functions:
        page.heading("Functions", "whose own time changed most")
        _write_head(page, 0)
        for function, change in functions[:_FUNCTIONS]:
            cells = function_cells(page, [function], page.layout - _FIGURES)
            page.line(*_figures(change), *cells)
        _write_rest(page, len(functions) - _FUNCTIONS)
    _write_stacks(page, [item for item in by_change(found.stacks) if _counts(item[1], least)])


def _counts(change: Change, least: int) -> bool:
    return abs(change.delta) > least


def _write_head(page: Page, label: int) -> None:
    heads = "".join(f"{head:>{_TIME}}" for head in ("before", "after", "change"))
    page.line((" " * (label + (2 if label else 0)) + heads, DIM))


def _write_rest(page: Page, count: int) -> None:
    if count > 0:
        page.line((f"  and {count:,} more", DIM))


def _write_stacks(page: Page, stacks: Sequence[tuple[StackKey, Change]]) -> None:
    page.heading("Stacks", "that changed most" if stacks else "none changed by a thousandth")
    if stacks:
        _write_head(page, 0)
    for key, change in stacks[:_STACKS]:
        page.line(
            *_figures(change),
            (page.show(key.label, 24), PLAIN),
            ("  ", PLAIN),
            (state_name(key.state), ANSI[key.state]),
            (f"  {key.gap.value}" if key.gap is not None else "", DIM),
        )
        for line in stack_lines(page, key.functions, page.layout - _TIME - 2, most=2):
            page.line((" " * (_TIME + 2) + line, DIM))
    _write_rest(page, len(stacks) - _STACKS)


def _figures(change: Change) -> list[Cell]:
    """Before, after, change and percent, ``_FIGURES`` columns."""
    style = _style(change)
    return [
        (f"{_time(change.before):>{_TIME}}{_time(change.after):>{_TIME}}", PLAIN),
        (f"{_signed(change.delta):>{_TIME}}{_percent(change):>{_PERCENT}}    ", style),
    ]


def _write_bars(page: Page, rows: Sequence[tuple[str, str, Change]]) -> None:
    """Rows with a bar that grows to the right for more and to the left for less."""
    most = max((abs(change.delta) for _, _, change in rows), default=0)
    side = max(1, (page.layout - 2 - _LABEL - _FIGURES - 1) // 2)
    glyph, axis = page.glyph(State.RUNNING), "│" if page.unicode else "|"
    for label, style, change in rows:
        length = (abs(change.delta) * side + most // 2) // most if most else 0
        less, more = (length, 0) if change.delta < 0 else (0, length)
        page.line(
            ("  ", PLAIN),
            page.cell(label, _LABEL, style),
            *_figures(change),
            (" " * (side - less), PLAIN),
            (glyph * less, ANSI_LESS),
            (axis, DIM),
            (glyph * more, ANSI_MORE),
        )


def _style(change: Change) -> str:
    return ANSI_MORE if change.delta > 0 else ANSI_LESS if change.delta < 0 else PLAIN


def _time(nanoseconds: int) -> str:
    return duration(nanoseconds) if nanoseconds else "-"


def _signed(nanoseconds: int) -> str:
    return ("+" if nanoseconds > 0 else "") + duration(nanoseconds) if nanoseconds else "="


def _percent(change: Change) -> str:
    if not change.before:
        return "new" if change.after else ""
    if not change.after:
        return "gone"
    ratio = change.after / change.before
    if ratio >= _FAR:
        return f"x {ratio:,.0f}" if ratio < 1e6 else "x > 1e6"
    return f"{100 * (ratio - 1):+.1f} %"
