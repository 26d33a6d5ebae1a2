"""The options by which addresses get names, the same for all commands that name any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from systemscope.cli.lines import Lines
from systemscope.collectors.request import usual_cache_directory
from systemscope.errors import UsageError

if TYPE_CHECKING:
    from systemscope.symbolizer import SymbolizerOptions


@dataclass(frozen=True)
class Naming:
    """``servers`` are asked for debug files; ``cache_directory`` "" keeps nothing."""

    demangle: bool = True
    servers: tuple[str, ...] = ()
    cache_directory: str = ""

    def options(self, directories: Sequence[str] = (), lines: Lines = Lines()) -> SymbolizerOptions:
        """As the symbolizer takes them."""
        from systemscope.symbolizer import SymbolizerOptions

        return SymbolizerOptions(
            resolvers=lines.resolvers(directories),
            demangle=self.demangle,
            debuginfod=self.servers,
            debug_directories=tuple(directories),
            cache_directory=self.cache_directory,
        )


def read_naming(given: dict[str, Any]) -> Naming:
    """From options as docopt gives them. Raises UsageError."""
    return Naming(
        demangle=not given["--no-demangle"],
        servers=debug_servers() if given["--debuginfod"] else (),
        cache_directory="" if given["--no-cache"] else usual_cache_directory(),
    )


def debug_servers() -> tuple[str, ...]:
    """The servers that the environment names. Raises UsageError if it names none."""
    from systemscope.symbolizer.debuginfod import URLS_VARIABLE, configured_urls

    urls = configured_urls()
    if not urls:
        raise UsageError(
            f"--debuginfod needs a server, and {URLS_VARIABLE} names none",
            f"set it, as in: {URLS_VARIABLE}=https://debuginfod.elfutils.org",
        )
    return urls
