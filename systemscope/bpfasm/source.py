"""Which Python line emitted an instruction."""

from __future__ import annotations

import linecache
import os
import sys
from functools import lru_cache
from typing import NamedTuple

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_PACKAGE = os.path.dirname(os.path.dirname(_HERE)) + os.sep


class Location(NamedTuple):
    """An absolute file and a line in it."""

    path: str
    line: int

    @property
    def file(self) -> str:
        """The path as shown: relative to the package where it lies inside."""
        return self.path[len(_PACKAGE) :] if self.path.startswith(_PACKAGE) else self.path

    @property
    def text(self) -> str:
        """The source line, stripped; empty where the source is not at hand."""
        return _text(self.path, self.line)


@lru_cache(maxsize=4096)
def _text(path: str, line: int) -> str:
    return linecache.getline(path, line).strip()


def here() -> Location:
    """The nearest caller outside the assembler and the context manager machinery."""
    frame = sys._getframe(1)
    while True:
        path = frame.f_code.co_filename
        inside = _inside.get(path)
        if inside is None:
            inside = path.startswith(_HERE) or path.endswith("contextlib.py")
            _inside[path] = inside
        if not inside or frame.f_back is None:
            return Location(path, frame.f_lineno)
        frame = frame.f_back


#: Whether a source file belongs to the assembler, by path.
_inside: dict[str, bool] = {}
