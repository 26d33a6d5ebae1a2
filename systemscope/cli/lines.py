"""The options --lines and --no-inlines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from systemscope.errors import UsageError

if TYPE_CHECKING:
    from systemscope.elf import ResolverFactory


@dataclass(frozen=True)
class Lines:
    """Whether user frames get source lines, and inlined functions frames of their own."""

    lines: bool = False
    inlines: bool = True

    def resolvers(self, directories: Sequence[str] = ()) -> tuple[ResolverFactory, ...]:
        """What answers for addresses; ``directories`` may hold .dwo files."""
        from systemscope.symbolizer.lines import resolvers

        return resolvers(self.lines, self.inlines, directories)


def read_lines(given: dict[str, Any], names: bool) -> Lines:
    """The options as docopt gives them; ``names`` says that the output holds names.
    Raises UsageError."""
    lines, no_inlines = bool(given.get("--lines")), bool(given.get("--no-inlines"))
    if no_inlines and not lines:
        raise UsageError(
            "--no-inlines leaves out what only --lines adds", "give both of them or none"
        )
    if lines and not names:
        raise UsageError(
            "a capture holds no names yet, so there is nothing to add --lines to",
            "give --lines to systemscope convert, which finds the names",
        )
    return Lines(lines, not no_inlines)
