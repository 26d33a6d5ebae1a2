"""The functions that took most wall-clock, CPU and blocked time.

In lists by total time, functions that are on the very same stacks share a row, callee first: else a
chain of callers would fill the list with one figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, NamedTuple

from systemscope.exporters.heading import duration, share
from systemscope.exporters.text_page import DIM, PLAIN, Cell, Page, columns
from systemscope.exporters.text_totals import Function, States, Times, Totals
from systemscope.model import BLOCKED_STATES, State

_ROWS = 7
_LEAST_SHARE = 1000
_TIME = 8
_PERCENT = 8
_GAP = 2
_LEAST_MODULE = 6  # columns below which a module's name says nothing
_NOTHING_TO_DO = frozenset({State.IDLE, State.PARKED})


class Row(NamedTuple):
    """Functions shown together, callee first, their own time and their time in all."""

    functions: tuple[Function, ...]
    own: int
    total: int


class _List(NamedTuple):
    title: str
    remark: str
    value: Callable[[States], int]
    by_total: bool


def _wall(states: States) -> int:
    return sum(time for state, time in states.items() if state not in _NOTHING_TO_DO)


def _cpu(states: States) -> int:
    return states.get(State.RUNNING, 0)


def _blocked(states: States) -> int:
    waits = BLOCKED_STATES - _NOTHING_TO_DO
    return sum(time for state, time in states.items() if state in waits)


_LISTS = (
    _List("Functions by wall-clock time", "running or waiting, with what they call", _wall, True),
    _List("Functions by CPU time", "running, by themselves", _cpu, False),
    _List("Functions by blocked time", "waiting, but not for a CPU", _blocked, True),
)


def write_functions(page: Page, totals: Totals) -> None:
    """Write the three lists; those that would say the same again are left out."""
    shown: list[list[Row]] = []
    for one in _LISTS:
        ranked = _by_total if one.by_total else _by_self
        whole = one.value(totals.states)
        rows = [
            row
            for row in ranked(totals.functions, one.value)
            if (row.total if one.by_total else row.own) * _LEAST_SHARE >= whole
        ][:_ROWS]
        if rows and rows not in shown:
            shown.append(rows)
            _write_list(page, one, rows, whole)


def _by_self(functions: dict[Function, Times], value: Callable[[States], int]) -> list[Row]:
    rows = [Row((one,), value(times.self), value(times.total)) for one, times in functions.items()]
    return sorted((row for row in rows if row.own), key=lambda row: (-row.own, row))


def _by_total(functions: dict[Function, Times], value: Callable[[States], int]) -> list[Row]:
    chains: dict[int, list[tuple[int, Function, int]]] = {}
    totals: dict[int, int] = {}
    for one, times in functions.items():
        own, total = value(times.self), value(times.total)
        # Whatever passes a wait on would stand above what waits: unnamed code, and functions of
        # the kernel that do little themselves.
        if not total or not one.named or (one.kernel and own * 2 < total):
            continue
        chains.setdefault(times.stacks, []).append((times.depth, one, own))
        totals[times.stacks] = total
    rows = []
    for stacks, chain in chains.items():
        chain.sort()
        names = tuple(one for _, one, _ in chain)
        rows.append(Row(names, sum(own for _, _, own in chain), totals[stacks]))
    return sorted(rows, key=lambda row: (-row.total, -row.own, row))


def _write_list(page: Page, one: _List, rows: Sequence[Row], whole: int) -> None:
    page.heading(one.title, one.remark)
    width = _TIME + _PERCENT + _GAP
    heads = ("self", f"total {page.down}") if one.by_total else (f"self {page.down}", "total")
    page.line(("".join(f"{head:>{width}}" for head in heads), DIM))
    for row in rows:
        figures = "".join(
            f"{duration(time) if time else '-':>{_TIME + _GAP}}{share(time, whole):>{_PERCENT}}"
            for time in (row.own, row.total)
        )
        room = page.layout - len(figures) - _GAP
        page.line((figures + " " * _GAP, PLAIN), *function_cells(page, row.functions, room))


def function_cells(page: Page, functions: Sequence[Function], room: int) -> list[Cell]:
    """The first function's name, then its module or those of its callers there is room for."""
    name = page.show(functions[0].name, room)
    left = room - columns(name)
    if len(functions) == 1:
        module = "kernel" if functions[0].module == "[kernel]" else functions[0].module
        if module and left >= _GAP + _LEAST_MODULE:
            return [(name, PLAIN), (" " * _GAP + page.show(module, left - _GAP), DIM)]
        return [(name, PLAIN)]
    callers = ""
    for function in functions[1:]:
        more = page.arrow + page.show(function.name, room)
        if columns(callers + more) > left:
            break
        callers += more
    return [(name, PLAIN), (callers, DIM)]
