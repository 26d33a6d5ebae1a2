"""Which format to write, and how it should look where it is going."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace

from systemscope.errors import UsageError
from systemscope.exporters.formats import ExportOptions, Format, by_name, by_path

FOR_PEOPLE = "text"
FOR_PROGRAMS = "folded"
_WIDTHS = (40, 400)


def choose_format(name: str, path: str, for_programs: str = FOR_PROGRAMS) -> Format:
    """The format called ``name``; without a name that of the path's ending; where there is no
    ending to go by, text for a terminal and ``for_programs`` for anything else. ``path`` "" is
    standard output. Raises UsageError."""
    if name:
        return by_name(name)
    if path and not path.startswith("/dev/") and not is_special(path):
        return by_path(path)
    return by_name(FOR_PEOPLE if not path and is_terminal() else for_programs)


def refuse_terminal(form: Format, path: str) -> None:
    """Raise UsageError where bytes would go to a terminal."""
    if form.binary and not path and is_terminal():
        raise UsageError(
            f"{form.name} is not for terminals", "name a file with -o, or redirect the output"
        )


def refuse_states(chosen: bool, timeline: bool) -> None:
    """Raise UsageError where states were ``chosen`` and a ``timeline`` is to be written."""
    if chosen and timeline:
        raise UsageError(
            "a timeline shows every state, --state cannot choose some",
            "leave out --state, or write another format",
        )


def is_special(path: str) -> bool:
    """Whether ``path`` is a device, a pipe or a directory: it has no ending to go by."""
    return os.path.exists(path) and not os.path.isfile(path)


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def fit(export: ExportOptions, path: str) -> ExportOptions:
    """``export`` with the terminal's width and encoding, and colour unless NO_COLOR asks for none,
    where the output goes to one."""
    if path or not is_terminal():
        return export
    least, most = _WIDTHS
    columns = min(max(shutil.get_terminal_size((export.width, 24)).columns, least), most)
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return replace(export, width=columns, color=not plain, encoding=_encoding())


def _encoding() -> str:
    """What the terminal shows; characters it lacks have plain stand-ins."""
    import codecs

    try:
        return codecs.lookup(sys.stdout.encoding or "utf-8").name
    except LookupError:
        return "utf-8"
