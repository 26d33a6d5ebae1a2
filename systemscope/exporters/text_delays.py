"""The kernel's own delay accounting, a row for each thread."""

from __future__ import annotations

from collections.abc import Iterable

from systemscope.exporters.heading import duration
from systemscope.exporters.text_page import DIM, PLAIN, Page
from systemscope.exporters.text_totals import Group
from systemscope.model import Delay, DelayKind

_ROWS = 8
_LABEL = 20
_TITLES = {DelayKind.COPY: "fault copy"}
_NONE = Delay(0, 0)


def write_delays(page: Page, groups: Iterable[Group]) -> None:
    """Write what the kernel says threads waited for; nothing where it was not asked."""
    asked = [group for group in groups if group.delays]
    if not asked:
        return
    page.heading("Delays", "by the kernel's own accounts")
    kinds = [kind for kind in DelayKind if any(_time(group, kind) for group in asked)]
    asked.sort(key=lambda group: (-sum(_time(group, kind) for kind in kinds), group.label))
    if not kinds:
        page.line(("  none", PLAIN))
        return
    widths = [max(len(_title(kind)), 8) + 2 for kind in kinds]
    left = []
    while len(kinds) > 1 and 2 + _LABEL + sum(widths) > page.layout:
        least = min(range(len(kinds)), key=lambda i: sum(_time(one, kinds[i]) for one in asked))
        left.append(kinds.pop(least))
        widths.pop(least)
    heads = "".join(f"{_title(kind):>{width}}" for kind, width in zip(kinds, widths))
    page.line((" " * (2 + _LABEL) + heads, DIM))
    for group in asked[:_ROWS]:
        cells = (
            f"{duration(_time(group, kind)) if _time(group, kind) else '-':>{width}}"
            for kind, width in zip(kinds, widths)
        )
        page.line(("  ", PLAIN), page.cell(group.label, _LABEL), ("".join(cells), PLAIN))
    if len(asked) > _ROWS:
        page.line((f"  and {len(asked) - _ROWS:,} more with less", DIM))
    for kind in left:
        time = sum(_time(group, kind) for group in asked)
        page.line((f"  {_title(kind)}: {duration(time)} in all", DIM))


def _time(group: Group, kind: DelayKind) -> int:
    return group.delays.get(kind, _NONE).nanoseconds


def _title(kind: DelayKind) -> str:
    return _TITLES.get(kind, kind.value)
