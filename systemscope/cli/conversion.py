"""From a file that was read to a profile that can be written: what convert and diff share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from systemscope.cli import values
from systemscope.cli.destination import (
    FOR_PROGRAMS,
    choose_format,
    fit,
    refuse_states,
    refuse_terminal,
)
from systemscope.cli.lines import Lines, read_lines
from systemscope.cli.naming import Naming, read_naming
from systemscope.cli.report import say
from systemscope.errors import InputError, UsageError
from systemscope.exporters.formats import ExportOptions, Format
from systemscope.exporters.summary import summary
from systemscope.importers.reading import Loaded
from systemscope.model import Profile
from systemscope.model.filters import Hidden, IdleThreads, Selection, select

#: The lines of the usage texts that both commands have.
SHARED_USAGE = """\
  --debug-dir DIR      Look for programs and libraries here first, by build ID or path. May be
                       given several times.
  --state LIST         Only time in these states: running, runnable, sleeping, disk, stopped,
                       traced, idle, parked, blocked.
  --idle-threads WHAT  Threads that never ran in the window: show (the default), hide or only.
  --per-thread         Tell threads apart: comm-pid/tid instead of comm.
  --no-demangle        Show C++ and Rust functions by their symbols.
  --debuginfod         Ask the servers in DEBUGINFOD_URLS for debug files this host lacks.
  --no-cache           Neither read nor keep symbol tables and debug files on disk.
  --no-state           No pseudo-frame for the state at the leaf.
  -a, --annotate       Mark kernel frames _[k], JIT frames _[j], inlined frames _[i].
  --output FORMAT      {formats}.
                       Without it the ending of FILE decides; without that,
                       {otherwise}.
  -o FILE              Write to FILE: whole or not at all.
  -q, --quiet          No notes and no summary.
  -v, --verbose        The whole summary.
  --debug              Show the traceback of an error.
  -h, --help           Show this."""


@dataclass(frozen=True)
class Conversion:
    """How a file is to be turned into a profile and written."""

    format: Format
    export: ExportOptions
    selection: Selection
    directories: tuple[str, ...]
    naming: Naming
    path: str  # "" is standard output
    quiet: bool
    verbose: bool
    lines: Lines = Lines()


@dataclass
class Converted:
    """A profile, and what the options left out of it."""

    profile: Profile
    whole: Loaded
    hidden: Hidden


def read_conversion(given: dict[str, Any], for_programs: str = FOR_PROGRAMS) -> Conversion:
    """The options as docopt gives them; ``for_programs`` is the format of an output that is neither
    a terminal nor has an ending. Raises UsageError."""
    if given["--quiet"] and given["--verbose"]:
        raise UsageError("--quiet and --verbose exclude each other", "give one of them or none")
    path = "" if given["-o"] in (None, "-") else values.word("-o", given["-o"])
    form = choose_format(given["--output"] or "", path, for_programs)
    refuse_terminal(form, path)
    states = given["--state"]
    refuse_states(states is not None, form.timeline)
    idle = given["--idle-threads"] or IdleThreads.SHOW.value
    slice_us = given.get("--min-slice")
    export = ExportOptions(
        per_thread=given["--per-thread"],
        state=not given["--no-state"],
        annotate=given["--annotate"],
        min_slice_ns=0 if slice_us is None else values.microseconds_ns("--min-slice", slice_us),
        normalize=bool(given.get("--normalize")),
    )
    return Conversion(
        format=form,
        export=fit(export, path),
        selection=Selection(
            states=None if states is None else values.state_list(states),
            idle=IdleThreads(
                values.choice("--idle-threads", idle, tuple(one.value for one in IdleThreads))
            ),
        ),
        directories=tuple(values.word("--debug-dir", one) for one in given["--debug-dir"]),
        naming=read_naming(given),
        path=path,
        quiet=given["--quiet"],
        verbose=given["--verbose"],
        lines=read_lines(given, form.names),
    )


def convert(loaded: Loaded, wanted: Conversion) -> Converted:
    """The profile in what was loaded, named if the format needs names.

    Raises InputError where the format needs a timeline and there is none, UsageError where states
    were chosen of a capture with a timeline that is to stay a capture.
    """
    if wanted.format.timeline and (loaded.capture is None or loaded.capture.timeline is None):
        raise InputError(
            f"{loaded.name} holds no timeline, which {wanted.format.name} shows",
            "record with: systemscope profile --timeline -o FILE.ssc",
        )
    if loaded.capture is None:
        assert loaded.profile is not None
        return Converted(_chosen(loaded.profile, wanted.selection), loaded, Hidden())
    keeps_timeline = not wanted.format.names and loaded.capture.timeline is not None
    refuse_states(wanted.selection.states is not None, keeps_timeline)
    capture, hidden = select(loaded.capture, wanted.selection)
    if not wanted.format.names:
        return Converted(Profile(capture), loaded, hidden)
    from systemscope.symbolizer import symbolize
    from systemscope.symbolizer.debugfiles import DebugFiles
    from systemscope.symbolizer.debuginfod import debug_servers

    assert capture.facts is not None
    naming = wanted.naming
    servers = debug_servers(naming.servers, naming.cache_directory)
    files = DebugFiles(capture.facts, wanted.directories, servers)
    profile = symbolize(capture, naming.options(wanted.directories, wanted.lines), files.open)
    profile.notes += files.notes()
    return Converted(profile, loaded, hidden)


def report(converted: Sequence[Converted], wanted: Conversion) -> None:
    """Tell on standard error what was read and written, unless asked to be quiet."""
    if wanted.quiet:
        return
    for one in converted:
        if len(converted) > 1:
            say(f"{one.whole.name}:")
        capture = one.whole.capture or one.profile.capture
        sources = one.profile.name_sources
        lines = summary(
            capture, one.hidden, one.profile.notes, verbose=wanted.verbose, sources=sources
        )
        # The window's own figures were told when it was recorded.
        brief = [line for line in lines if line.startswith(("  names ", "  losses ", "  note "))]
        for line in lines if wanted.verbose else brief:
            say(line)
    if wanted.path:
        say(f"  {'written':<12}{wanted.path}")


def _chosen(profile: Profile, selection: Selection) -> Profile:
    """What of an imported profile was asked for."""
    states, idle = selection.states, selection.idle
    wanted = {True, False} if idle is IdleThreads.SHOW else {idle is IdleThreads.HIDE}
    samples = [
        sample
        for sample in profile.samples
        if sample.thread.ran in wanted and (states is None or sample.state in states)
    ]
    return replace(profile, samples=samples)
