"""Where names came from, in words."""

from __future__ import annotations

from collections.abc import Mapping

from systemscope.exporters.naming import safe_text

#: More files than these are counted, not listed.
_MOST_FILES = 8
_UNTOLD = "somewhere else"


def name_sources(found: Mapping[tuple[str, str], int]) -> list[str]:
    """Phrases for ``Profile.name_sources``: one for each file, or for each table where there are
    many files."""
    files: dict[str, dict[str, int]] = {}
    for (name, source), count in found.items():
        files.setdefault(name, {})[source or _UNTOLD] = count
    if len(files) > _MOST_FILES:
        return _by_table(files)
    phrases = []
    for name in sorted(files):
        tables = sorted(files[name].items(), key=lambda item: (-item[1], item[0]))
        if len(tables) == 1:
            words = tables[0][0]
        else:
            words = ", ".join(f"{table} ({count:,})" for table, count in tables)
        phrases.append(f"{safe_text(name)} from {words}")
    return phrases


def _by_table(files: Mapping[str, Mapping[str, int]]) -> list[str]:
    totals: dict[str, list[int]] = {}
    for tables in files.values():
        for table, count in tables.items():
            total = totals.setdefault(table, [0, 0])
            total[0] += 1
            total[1] += count
    return [
        f"{count:,} from {table} in {number:,} file{'' if number == 1 else 's'}"
        for table, (number, count) in sorted(totals.items(), key=lambda item: -item[1][1])
    ]
