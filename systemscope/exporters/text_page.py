"""Lines for a terminal: cut to its columns, coloured if asked, in characters its encoding has.

Widths follow Unicode Standard Annex 11 (East Asian wide and full-width take two columns) and count
combining marks as nothing. What a terminal may show in more than one way is replaced.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import TextIO

from systemscope.exporters.formats import ExportOptions
from systemscope.exporters.naming import safe_text
from systemscope.exporters.palette import ANSI
from systemscope.model import State

BOLD = "1"
DIM = "2"
PLAIN = ""

#: (text, SGR parameters)
Cell = tuple[str, str]

_DEFAULT_WIDTH = 80
_LEAST_WIDTH = 48  # narrower pages are laid out for this, then cut
_GREATEST_WIDTH = 160
_MOST_MARKS = 4  # for each column: a name may be a megabyte of combining marks
_VARIATION = frozenset(map(chr, range(0xFE00, 0xFE10)))

_GLYPHS = {
    State.RUNNING: "█",
    State.RUNNABLE: "▓",
    State.SLEEPING: "░",
    State.DISK: "▒",
    State.IDLE: "·",
    State.PARKED: "·",
}
_ASCII_GLYPHS = {
    State.RUNNING: "#",
    State.RUNNABLE: "+",
    State.SLEEPING: ".",
    State.DISK: "D",
    State.IDLE: "_",
    State.PARKED: "_",
}
_OTHER_GLYPH = "\u00d7"
_ASCII_OTHER_GLYPH = "x"
_PROBE = "█▓░▒·\u00d7…←▼"


class Page:
    """Writes lines of at most ``width`` columns; ``layout`` is the width to arrange for."""

    def __init__(self, stream: TextIO, options: ExportOptions) -> None:
        self._stream = stream
        self._color = options.color
        self.width = options.width if options.width > 0 else _DEFAULT_WIDTH
        self.layout = min(max(self.width, _LEAST_WIDTH), _GREATEST_WIDTH)
        self.encoding = getattr(stream, "encoding", None) or "utf-8"
        self.unicode = _can_encode(_PROBE, self.encoding)
        self.ellipsis = "…" if self.unicode else "..."
        self.arrow = " ← " if self.unicode else " < "
        self.down = "▼" if self.unicode else "v"
        self.times = "\u00d7" if self.unicode else "x"
        self._empty = True

    def line(self, *cells: Cell) -> None:
        """One line of ``cells``, whose texts are already shown ones."""
        room = self.width
        parts = []
        for text, style in cells:
            cut = text if len(text) <= room and text.isascii() else clip(text, room)
            room -= columns(cut)
            parts.append((cut, style))
        while parts and not parts[-1][0].rstrip():
            parts.pop()
        if parts:
            parts[-1] = (parts[-1][0].rstrip(), parts[-1][1])
        self._stream.write("".join(self._styled(*part) for part in parts) + "\n")
        self._empty = False

    def heading(self, title: str, remark: str = "") -> None:
        """An empty line, then ``title`` and what it needs to be understood."""
        if not self._empty:
            self.line()
        self.line((title, BOLD), (f"  {remark}" if remark else "", DIM))

    def show(self, name: str, room: int) -> str:
        """``name`` made safe and at most ``room`` columns wide, shortened in its middle."""
        limit = max(1, room) * (1 + _MOST_MARKS)
        if len(name) > 2 * limit:
            name = name[:limit] + self.ellipsis + name[-limit:]
        return shorten(self._safe(name), room, self.ellipsis)

    def cell(self, name: str, room: int, style: str = PLAIN) -> Cell:
        """``name`` shown and filled up with blanks to ``room`` columns."""
        shown = self.show(name, room)
        return (shown + " " * (room - columns(shown)), style)

    def bar(self, parts: Mapping[State, int], whole: int, room: int) -> list[Cell]:
        """``parts`` of ``whole`` as ``room`` columns, or fewer where they do not fill it."""
        order = [state for state in _BAR_ORDER if parts.get(state)]
        cells = apportion([parts[state] for state in order], whole, room)
        return [(self.glyph(state) * cells[i], ANSI[state]) for i, state in enumerate(order)]

    def glyph(self, state: State) -> str:
        if self.unicode:
            return _GLYPHS.get(state, _OTHER_GLYPH)
        return _ASCII_GLYPHS.get(state, _ASCII_OTHER_GLYPH)

    def _safe(self, name: str) -> str:
        if name.isascii() and name.isprintable():
            return name
        shown = displayable(name)
        if not self.unicode:
            shown = shown.encode(self.encoding, "replace").decode(self.encoding, "replace")
        return shown

    def _styled(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._color and style and text else text


#: Busy first, so that bars under one another can be compared.
_BAR_ORDER = (
    State.RUNNING,
    State.RUNNABLE,
    State.DISK,
    State.SLEEPING,
    State.BLOCKED,
    State.STOPPED,
    State.TRACED,
    State.IDLE,
    State.PARKED,
    State.DEAD,
    State.UNKNOWN,
)


def apportion(values: Sequence[int], whole: int, room: int) -> list[int]:
    """How many of ``room`` columns each value gets, by largest remainders."""
    if whole <= 0:
        return [0] * len(values)
    total = min(room, (sum(values) * room + whole // 2) // whole)
    cells = [min(room, value * room // whole) for value in values]
    order = sorted(range(len(values)), key=lambda i: -(values[i] * room % whole))
    for index in order[: max(0, total - sum(cells))]:
        cells[index] += 1
    return cells


def displayable(name: str) -> str:
    """``name`` without what moves a cursor or is not the same width everywhere."""
    return "".join(map(_shown, safe_text(name)))


def columns(text: str) -> int:
    """How many columns of a terminal ``text`` takes."""
    return len(text) if text.isascii() else sum(map(_column, text))


def clip(text: str, room: int) -> str:
    """The beginning of ``text`` that fits into ``room`` columns."""
    used = 0
    for position, char in enumerate(text):
        used += _column(char)
        if used > room:
            return text[:position]
    return text


def shorten(text: str, room: int, ellipsis: str = "…") -> str:
    """``text`` in ``room`` columns; an ellipsis takes the place of its middle."""
    if columns(text) <= room:
        return text
    room -= len(ellipsis)
    if room < 1:
        return clip(text, room + len(ellipsis))
    tail = clip(text[::-1], room // 3)[::-1]
    while tail and not _column(tail[0]):
        tail = tail[1:]  # a mark without the letter it belonged to
    return clip(text, room - columns(tail)) + ellipsis + tail


def wrap(text: str, room: int) -> list[str]:
    """``text`` in lines of at most ``room`` columns, broken at blanks; longer words stay whole."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        if line and columns(line) + 1 + columns(word) > room:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line]


def _column(char: str) -> int:
    if char < "\u0300":
        return 1
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me"):
        return 0
    if "\u1160" <= char <= "\u11ff" or "\ud7b0" <= char <= "\ud7ff":
        return 0  # Hangul vowels and finals join the consonant before them
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _shown(char: str) -> str:
    """``char``, or what stands for one whose width terminals do not agree on."""
    if char.isascii():
        return char
    if char in _VARIATION:
        return ""
    return "_" if unicodedata.category(char) in ("Cc", "Cf", "Cn", "Cs", "Co", "Zl", "Zp") else char


def _can_encode(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
