"""A static flame graph of wall-clock time, for documents: one SVG file without script.

The root is at the bottom, a box's width is the time of the stacks that go through it, the heaviest
of siblings comes first. A box has the colour of the state in which most of its time was spent.
Hovering over a box where the picture is opened by itself shows its exact time.

A difference shows the time of both profiles: a box is as wide as its time before and after
together, red where it is more after, blue where it is less.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from systemscope.exporters.difference import scale_of, total_of
from systemscope.exporters.flametree import Box, Item, Kind, Tree, height, items_of
from systemscope.exporters.formats import ExportOptions
from systemscope.exporters.heading import duration, origin, share, target, window
from systemscope.exporters.palette import Shade, World, change, fill, group, mixed
from systemscope.exporters.summary import losses
from systemscope.exporters.svg_page import CELL, INNER, LINE, MARGIN, WIDTH, Sheet
from systemscope.exporters.text_page import columns, wrap
from systemscope.model import Profile, State, state_name
from systemscope.version import VERSION

_LEAST = 0.5  # of a pixel: what is narrower is merged
_MOST_LEVELS = 128
_MOST_LINES = 8  # of losses and notes
_STEPS = 5  # of colour, for more and for less
_DOMINANT = 0.6  # of a box's time in one state gives it its colour
_WORLD_LETTERS = {World.PROGRAM: "p", World.LIBRARY: "l", World.KERNEL: "k"}


def write(profile: Profile, stream: TextIO, options: ExportOptions = ExportOptions()) -> None:
    """Write ``profile`` to the text stream ``stream``. Raises whatever the stream raises."""
    tree = Tree(items_of(profile, options.per_thread), _LEAST / INNER, _MOST_LEVELS, options.state)
    total = tree.root.weight
    states = sorted(tree.root.states.items(), key=lambda item: -item[1])
    legend = [
        (_fill_name(state, World.PROGRAM), f"{state_name(state)} {share(time, total)}", time)
        for state, time in states
        if time
    ]
    lines = [window(profile), origin(profile)]
    foot = [
        f"{duration(total)} of thread time; a box's width is its time, its colour the state "
        "it was mostly in: darker in the kernel, lighter in libraries"
    ]
    _draw(stream, tree.root, target(profile), lines, legend, [*foot, *_footnotes(profile)], False)


def write_difference(
    before: Profile,
    after: Profile,
    stream: TextIO,
    options: ExportOptions = ExportOptions(),
) -> None:
    """Write how ``after`` differs from ``before`` to ``stream``; with ``options.normalize`` the
    times before are scaled to the total after."""
    scale = scale_of(before, after, options.normalize)
    items = [
        Item(item.sample, item.label, scale(item.after), 0)
        for item in items_of(before, options.per_thread)
    ]
    items += items_of(after, options.per_thread)
    tree = Tree(items, _LEAST / INNER, _MOST_LEVELS, options.state)
    legend = [(_change_name(step), _step_words(step), 0) for step in range(-_STEPS, _STEPS + 1)]
    lines = [
        f"before: {target(before)}, {window(before)}",
        f"after:  {target(after)}, {window(after)}",
    ]
    foot = [
        f"before {duration(scale(total_of(before.samples)))}, "
        f"after {duration(total_of(after.samples))} of thread time; a box's width is both, "
        "its colour the change: red for more, blue for less"
    ]
    if options.normalize:
        factor = scale.numerator / scale.denominator
        foot.append(f"times before are multiplied by {factor:.4g}: both are of one length")
    foot += [f"before: {words}" for words in _footnotes(before)]
    foot += [f"after: {words}" for words in _footnotes(after)]
    _draw(stream, tree.root, "What changed", lines, legend, foot, True)


def _footnotes(profile: Profile) -> list[str]:
    lost = losses(profile.capture.losses)
    notes = list(dict.fromkeys([*profile.capture.notes, *profile.notes]))
    return [f"losses: {'; '.join(lost) or 'none'}", *notes]


def _draw(
    stream: TextIO,
    root: Box,
    title: str,
    lines: Sequence[str],
    legend: Sequence[tuple[str, str, int]],
    foot: Sequence[str],
    differs: bool,
) -> None:
    """The picture from top to bottom. ``legend`` is (fill, words, share of the bar)."""
    foot = _bounded(foot)
    entries = _places([words for _, words, _ in legend])
    rows = 1 + (entries[-1][1] if entries else 0)
    bar = any(part for _, _, part in legend)
    top = 34 + LINE * len(lines) + (14 if bar else 0) + LINE * rows + 10
    levels = height(root)
    bottom = top + levels * LINE
    high = bottom + 10 + LINE * (len(foot) + 1)
    sheet = Sheet(stream, high, f"{title}: wall-clock flame graph", _fills(root, differs))
    sheet.text(MARGIN, 26, title, "title")
    y = 26.0
    for words in lines:
        y += LINE
        sheet.text(MARGIN, y, words, "quiet")
    y += 8
    if bar:
        _draw_bar(sheet, y, legend)
        y += 14
    for (x, row), (name, words, _) in zip(entries, legend):
        sheet.swatch(MARGIN + x, y + row * LINE + 3, 11, 11, name)
        sheet.text(MARGIN + x + 16, y + row * LINE + 13, words)
    _draw_boxes(sheet, root, bottom, differs)
    for index, words in enumerate(foot):
        sheet.text(MARGIN, bottom + LINE * (index + 1), words, "quiet")
    sheet.text(MARGIN, bottom + LINE * (len(foot) + 1), f"SystemScope {VERSION}", "quiet")
    sheet.close()


def _draw_bar(sheet: Sheet, y: float, legend: Sequence[tuple[str, str, int]]) -> None:
    whole = sum(part for _, _, part in legend)
    begin = 0
    for name, _, part in legend:
        x = INNER * begin / whole
        sheet.swatch(MARGIN + x, y, INNER * part / whole, 9, name)
        begin += part


def _places(words: Sequence[str]) -> list[tuple[float, int]]:
    """(x, row) of each entry of the legend, as many in a row as fit."""
    places = []
    x, row = 0.0, 0
    for text in words:
        need = 16 + columns(text) * CELL + 18
        if x and x + need > INNER:
            x, row = 0.0, row + 1
        places.append((x, row))
        x += need
    return places


def _draw_boxes(sheet: Sheet, root: Box, bottom: float, differs: bool) -> None:
    whole = root.weight
    # Positions are whole nanoseconds until they are drawn: no error adds up.
    pending = [(root, 0)]
    while pending:
        box, begin = pending.pop()
        x = MARGIN + INNER * begin / whole if whole else MARGIN
        width = INNER * box.weight / whole if whole else INNER
        name = _name(box)
        about = [name, *(_change_words(box) if differs else _time_words(box, whole))]
        y = bottom - (box.depth + 1) * LINE
        sheet.box(x, y, width, _fill_of(box, differs), name, about)
        places = []
        for child in box.children:
            places.append((child, begin))
            begin += child.weight
        pending += reversed(places)


def _name(box: Box) -> str:
    if box.key.kind is Kind.SMALL:
        return f"{box.count:,} too narrow"
    if box.key.kind is Kind.DEEPER:
        return f"… {box.count:,} levels not drawn"
    return box.key.name


def _time_words(box: Box, whole: int) -> list[str]:
    lines = [f"{_milliseconds(box.after)} ms, {_percent(box.after, whole)}"]
    if box.key.kind is not Kind.STATE:
        states = sorted(box.states.items(), key=lambda item: (-item[1], item[0]))
        parts = [f"{state_name(one)} {_percent(time, box.weight)}" for one, time in states if time]
        lines.append(", ".join(parts))
    return lines


def _change_words(box: Box) -> list[str]:
    delta = box.after - box.before
    ratio = f" ({100 * delta / box.before:+,.1f} %)" if box.before else ""
    word = " (new)" if not box.before else " (gone)" if not box.after else ratio
    return [
        f"{_milliseconds(box.before)} ms before, {_milliseconds(box.after)} ms after",
        f"{'+' if delta > 0 else ''}{_milliseconds(delta)} ms{word}",
    ]


def _milliseconds(nanoseconds: int) -> str:
    """To the microsecond, exact however large."""
    whole = (abs(nanoseconds) + 500) // 1000
    return f"{'-' if nanoseconds < 0 and whole else ''}{whole // 1000:,}.{whole % 1000:03d}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "0 %"


def _fills(root: Box, differs: bool) -> dict[str, Shade]:
    if differs:
        steps = range(-_STEPS, _STEPS + 1)
        return {**{_change_name(step): change(step / _STEPS) for step in steps}, "g": group()}
    fills = {"g": group()}
    for world, letter in _WORLD_LETTERS.items():
        fills[f"m{letter}"] = mixed(world)
        for state in sorted(root.states):
            fills[_fill_name(state, world)] = fill(state, world)
    return fills


def _fill_of(box: Box, differs: bool) -> str:
    if box.key.kind is Kind.SMALL:
        return "g"
    if differs:
        larger = max(box.before, box.after)
        return _change_name(round(_STEPS * (box.after - box.before) / larger) if larger else 0)
    if box.key.kind is Kind.ROOT or not box.states:
        return "g"
    state, time = max(box.states.items(), key=lambda item: (item[1], -item[0]))
    if time >= _DOMINANT * box.weight:
        return _fill_name(state, box.key.world)
    return "m" + _WORLD_LETTERS[box.key.world]


def _fill_name(state: State, world: World) -> str:
    return f"s{int(state)}{_WORLD_LETTERS[world]}"


def _change_name(step: int) -> str:
    return f"d{step + _STEPS}"


def _step_words(step: int) -> str:
    if not step:
        return "as before"
    if abs(step) == _STEPS:
        return "new" if step > 0 else "gone"
    # A step is a share of the longer time; people reckon from the time before.
    ratio = step / _STEPS
    return f"{100 * (ratio if ratio < 0 else ratio / (1 - ratio)):+.0f} %"


def _bounded(foot: Sequence[str]) -> list[str]:
    """Lines that fit, no more than there is room for."""
    lines: list[str] = []
    width = int((WIDTH - 2 * MARGIN) / CELL)
    for words in foot:
        lines += wrap(words[: 4 * width], width)
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES - 1 :] = [f"and {len(lines) - _MOST_LINES + 1} more lines"]
    return lines
