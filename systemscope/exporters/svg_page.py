"""The elements of a static picture: escaped, in two colour schemes, without script.

SVG 1.1 with CSS for fills only, so that it can be shown through ``<img>``, where nothing may run
and nothing may be loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TextIO

from systemscope.exporters.naming import safe_text
from systemscope.exporters.palette import BACKGROUND, MUTED_TEXT, TEXT, Shade
from systemscope.exporters.text_page import clip, columns, displayable, shorten

WIDTH = 1200
MARGIN = 12
INNER = WIDTH - 2 * MARGIN
FONT = 12
LINE = 18
#: Of the fonts named below the widest has an advance of 0.602 em; fallbacks of 0.61.
CELL = 0.612 * FONT
_PAD = 3
_NARROW = 16  # columns
_FONTS = "ui-monospace,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"
#: Characters XML 1.0 forbids that are no control characters (section 2.2).
_FORBIDDEN = re.compile("[\ufffe\uffff]")
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}
_ESCAPED = re.compile('[&<>"]')


def escaped(text: str) -> str:
    """``text`` for XML: as character data or as an attribute's value."""
    clean = _FORBIDDEN.sub("_", safe_text(text))
    return _ESCAPED.sub(lambda found: _ESCAPES[found[0]], clean)


def number(value: float) -> str:
    """``value`` in user units, to a hundredth, as short as can be."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


class Sheet:
    """Writes one picture to ``stream``. ``fills`` are the classes boxes can have."""

    def __init__(self, stream: TextIO, height: int, title: str, fills: Mapping[str, Shade]) -> None:
        self._stream = stream
        stream.write(
            f'<?xml version="1.0" encoding="UTF-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" '
            f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img">\n'
            f"<title>{escaped(title)}</title>\n<style>\n{_style(fills)}</style>\n"
            f'<rect class="page" width="{WIDTH}" height="{height}"/>\n'
        )

    def close(self) -> None:
        """Write the end of the picture."""
        self._stream.write("</svg>\n")

    def text(self, x: float, y: float, words: str, kind: str = "", room: float = INNER) -> None:
        """Words whose baseline is at ``y``, shortened to ``room``."""
        size = CELL * (4 / 3 if kind == "title" else 1)
        shown = shorten(displayable(words), int(room / size))
        named = f' class="{kind}"' if kind else ""
        self._stream.write(
            f'<text{named} x="{number(x)}" y="{number(y)}">{escaped(shown)}</text>\n'
        )

    def swatch(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        """A rectangle that says nothing by itself."""
        self._stream.write(
            f'<rect class="{fill}" x="{number(x)}" y="{number(y)}" width="{number(width)}" '
            f'height="{number(height)}"/>\n'
        )

    def box(
        self, x: float, y: float, width: float, fill: str, name: str, about: Sequence[str]
    ) -> None:
        """A box one line high that says its ``name``, as far as it fits, and ``about`` it when
        pointed at."""
        text = _label(x, y, width, name)
        title = "\n".join(map(escaped, about))
        wide = " w" if width >= _PAD else ""
        self._stream.write(
            f'<g class="{fill}{wide}"><title>{title}</title><rect x="{number(x)}" '
            f'y="{number(y)}" width="{width:.4f}" height="{LINE - 1}"/>{text}</g>\n'
        )


def _label(x: float, y: float, width: float, name: str) -> str:
    room = int((width - 2 * _PAD) / CELL)
    if room < 3:
        return ""
    shown = displayable(name)
    if columns(shown) > room:
        # Of a narrow box the beginning says most.
        narrow = room < _NARROW
        shown = clip(shown, room - 1) + "…" if narrow else shorten(shown, room)
    # Fonts for other scripts keep to no grid: the text is then fitted to its columns.
    fitted = "" if shown.replace("…", "").isascii() else _fitted(shown)
    place = f'x="{number(x + _PAD)}" y="{number(y + LINE - 5.5)}"'
    return f"<text {place}{fitted}>{escaped(shown)}</text>"


def _fitted(shown: str) -> str:
    return f' textLength="{number(columns(shown) * CELL)}" lengthAdjust="spacingAndGlyphs"'


def _style(fills: Mapping[str, Shade]) -> str:
    light = "".join(f".{name}{{fill:{shade.light}}}" for name, shade in fills.items())
    dark = "".join(f".{name}{{fill:{shade.dark}}}" for name, shade in fills.items())
    return (
        f"text{{font:{FONT}px {_FONTS};white-space:pre;fill:{TEXT.light}}}\n"
        f".title{{font-size:{FONT * 4 // 3}px;font-weight:bold}}\n"
        f".quiet{{fill:{MUTED_TEXT.light}}}\n.page{{fill:{BACKGROUND.light}}}\n{light}\n"
        f".w rect{{stroke:{BACKGROUND.light};stroke-width:.6}}\n"
        f"g:hover rect{{stroke:{TEXT.light};stroke-width:1}}\n"
        f"@media(prefers-color-scheme:dark){{\ntext{{fill:{TEXT.dark}}}\n"
        f".quiet{{fill:{MUTED_TEXT.dark}}}\n.page{{fill:{BACKGROUND.dark}}}\n{dark}\n"
        f".w rect{{stroke:{BACKGROUND.dark}}}\ng:hover rect{{stroke:{TEXT.dark}}}\n}}\n"
    )
