"""``systemscope profile``, ``oncpu``, ``offcpu``: one window, from options to written profile."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Optional

from systemscope.cli.destination import FOR_PEOPLE, is_terminal, refuse_terminal
from systemscope.cli.options import Options, read_options
from systemscope.cli.preflight import check
from systemscope.cli.progress import ProgressLine
from systemscope.cli.report import say
from systemscope.cli.signals import Interrupts
from systemscope.cli.usage import HelpShown
from systemscope.errors import VerifierError
from systemscope.exporters.output import Output
from systemscope.exporters.summary import summary
from systemscope.model import Capture, HostFacts, Profile
from systemscope.model.filters import Hidden, select

if TYPE_CHECKING:
    from systemscope.processes.command import HeldCommand
    from systemscope.processes.files import FileStore


def run(command: str, arguments: Sequence[str]) -> int:
    """Run ``systemscope COMMAND ARGUMENTS``; the exit code. Raises SystemScopeError."""
    try:
        options = read_options(command, arguments)
    except HelpShown as shown:
        return shown.code
    refuse_terminal(options.format, options.path)
    check()
    progress = ProgressLine(options.quiet)
    with Interrupts() as stop, _opened(options.path, stop) as output, _held(options) as held:
        try:
            _run_window(options, stop, progress, output, held)
        except VerifierError as error:
            if options.verifier_log:
                say(error.log)
            raise
        finally:
            progress.done()
        return _command_status(held, stop) if held is not None else 0


def _opened(path: str, stop: Interrupts) -> Output:
    """The destination. A pipe opens only when somebody reads it, which may be never."""
    with stop.interruptible_once():
        return Output(path)


def _run_window(
    options: Options,
    stop: Interrupts,
    progress: ProgressLine,
    output: Output,
    held: Optional[HeldCommand],
) -> None:
    from systemscope.collectors.wallclock import collect
    from systemscope.processes.files import FileStore

    progress.announce(options.request)
    # The store keeps the files of processes that end before their addresses have names.
    with FileStore() as files:
        capture = collect(options.request, stop, progress, held, files)
        selected, hidden = select(capture, options.selection)
        if options.format.names:
            progress.step("finding names ...")
            profile = _named(selected, options, files, stop)
        else:
            progress.step("gathering what names will need ...")
            profile = Profile(_with_facts(selected, hidden, files, stop))
    progress.done()  # the profile may go to the same terminal
    with stop.interruptible_once():
        output.write(lambda raw: options.format.write_bytes(profile, raw, options.export))
    if not options.quiet:
        _summarize(capture, hidden, profile, options)


def _named(capture: Capture, options: Options, files: FileStore, stop: Interrupts) -> Profile:
    """The capture with names; without them when the user will not wait."""
    from systemscope.symbolizer import symbolize

    try:
        with stop.interruptible():
            return symbolize(capture, options.naming.options((), options.lines), files.open)
    except KeyboardInterrupt:
        from systemscope.cli.unnamed import unnamed

        say("systemscope: interrupted, writing the profile without names")
        return unnamed(capture)


def _with_facts(capture: Capture, hidden: Hidden, files: FileStore, stop: Interrupts) -> Capture:
    """The capture as another machine can name it; without facts when the user will not wait."""
    from systemscope.symbolizer.facts import gather_facts

    notes = list(capture.notes)
    if hidden.idle_threads:
        notes.append(f"{hidden.idle_threads:,} threads that never ran were not recorded")
    try:
        with stop.interruptible():
            facts = gather_facts(capture, files.open)
    except KeyboardInterrupt:
        say("systemscope: interrupted, writing the capture without build IDs and kernel names")
        facts = HostFacts(notes=["recording was interrupted"])
    return replace(capture, facts=facts, notes=notes)


def _summarize(capture: Capture, hidden: Hidden, profile: Profile, options: Options) -> None:
    told = options.format.name == FOR_PEOPLE and not options.path and is_terminal()
    spent = time.process_time()
    lines = summary(
        capture,
        hidden,
        profile.notes,
        spent,
        options.verbose,
        beside_text=told,
        sources=profile.name_sources,
    )
    if options.path:
        lines.append(f"  {'written':<12}{options.path}")
    for line in lines:
        say(line)


@contextmanager
def _held(options: Options) -> Iterator[Optional[HeldCommand]]:
    """The command to profile, started and held; None when there is none."""
    if not options.request.command:
        yield None
        return
    from systemscope.processes.command import HeldCommand

    with _output_to_stderr(not options.path):
        command = HeldCommand(options.request.command)
    with command:
        yield command


@contextmanager
def _output_to_stderr(wanted: bool) -> Iterator[None]:
    """Children started within write to standard error what is meant for standard output."""
    if not wanted:
        yield
        return
    saved = os.dup(1)
    try:
        try:
            os.dup2(2, 1)
        except OSError:  # no standard error either
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.close(null)
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def _command_status(held: HeldCommand, stop: Interrupts) -> int:
    """The command's exit status; waits for it when the window ended first.

    When it was a signal that ended the window, the command is asked to end too, as perf does.
    """
    seen = 0
    status = held.poll()
    if status is None and not stop():
        say(f"systemscope: the window has ended; waiting for '{held.argv[0]}' to end")
    while status is None:
        if stop.count > seen:
            seen = stop.count
            held.send_signal(signal.SIGTERM)
        status = held.wait(0.1)
    return status
