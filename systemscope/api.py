"""Profiling from one's own code. Import these names from ``systemscope``.

    >>> import systemscope
    >>> profile = systemscope.profile(command=["sleep", "0.2"])
    >>> len(profile.capture.threads)
    1
    >>> thread = profile.capture.threads[0]
    >>> round(thread.accounted / thread.elapsed, 2)
    1.0
    >>> max(thread.time, key=thread.time.get).name
    'SLEEPING'
    >>> systemscope.write(profile, "sleep.folded")
    >>> systemscope.write(profile, "sleep.ssc")
    >>> len(systemscope.load("sleep.ssc").samples) == len(profile.samples)
    True

Needs root, or CAP_BPF and CAP_PERFMON. Every failure that is foreseen is a ``SystemScopeError``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, BinaryIO, Callable, Optional, TypeVar, Union

from systemscope.collectors.request import (
    DEFAULT_FREQUENCY,
    DEFAULT_MIN_BLOCK_NS,
    DEFAULT_UNWIND_BYTES,
    MAX_STACK_DEPTH,
    MAX_UNWIND_BYTES,
    MIN_UNWIND_BYTES,
    Request,
    Unwind,
    usual_cache_directory,
)
from systemscope.errors import UsageError
from systemscope.model import Profile
from systemscope.model.filters import IdleThreads, Selection, select
from systemscope.model.states import State

if TYPE_CHECKING:
    from systemscope.symbolizer import SymbolizerOptions

Ids = Union[int, Iterable[int], None]
_Choice = TypeVar("_Choice", bound=Enum)


def profile(
    pid: Ids = None,
    command: Optional[Sequence[str]] = None,
    duration: Optional[float] = None,
    *,
    tid: Ids = None,
    comm: str = "",
    cgroup: str = "",
    cpus: Optional[Iterable[int]] = None,
    frequency: int = DEFAULT_FREQUENCY,
    min_block_us: float = DEFAULT_MIN_BLOCK_NS / 1000,
    max_stack: int = MAX_STACK_DEPTH,
    user_stacks: bool = True,
    kernel_stacks: bool = True,
    unwind: Union[Unwind, str] = Unwind.AUTO,
    unwind_bytes: int = DEFAULT_UNWIND_BYTES,
    cache_directory: Union[str, os.PathLike[str], None] = None,
    states: Optional[Iterable[State]] = None,
    idle_threads: Union[IdleThreads, str, None] = None,
    timeline: bool = False,
    delays: bool = False,
    names: bool = True,
    lines: bool = False,
    inlines: bool = True,
    demangle: bool = True,
    debuginfod: bool = False,
    stop: Optional[Callable[[], bool]] = None,
    without: Iterable[str] = (),
) -> Profile:
    """Profile one window of wall-clock time and return it with names.

    ``pid``, ``tid`` (one or several), ``comm`` (a glob) and ``cgroup`` choose the targets and add
    up; without any the whole system is profiled. ``command`` is started, profiled from its first
    instruction to its end, and waited for. The window lasts ``duration`` seconds, or until
    ``stop()`` is true, or until the last target has ended; a window that nothing would end is
    refused. ``frequency`` is samples a second and CPU; waits of ``min_block_us`` microseconds or
    more carry their own stacks. ``max_stack`` frames are kept of a kernel and of a user stack, from
    the leaf on. ``unwind`` is how user stacks are walked, "auto", "dwarf" or "fp", as on the
    command line; at most ``unwind_bytes`` of kernel memory hold the unwind tables, and
    ``cache_directory`` keeps them for the next window (None: where SYSTEMSCOPE_CACHE says, else
    among the user's caches; "": nowhere). ``states`` keeps only these states' samples.
    ``idle_threads`` is "show", "hide" or "only", as on the command line. ``timeline`` records the
    order of things too (``profile.capture.timeline``), ``delays`` the kernel's own delay accounting
    (``Thread.delays``). With ``names`` False nothing is named: the result has no samples, and is to
    be written as a capture, for :func:`load` elsewhere. ``lines`` adds source files and lines to
    user frames, by the debug information of their files, and with ``inlines`` the frames of inlined
    functions. C++ and Rust functions have the names that were written, with ``demangle`` False
    their symbols. ``debuginfod`` asks the servers in DEBUGINFOD_URLS for debug files. ``without``
    names kernel features not to use.

    Times in the result are nanoseconds, frames are leaf first. Raises SystemScopeError: UsageError
    for arguments that make no sense, TargetError for a target that does not exist,
    PermissionMissing without root, Unsupported and KernelError for what the kernel refuses.
    """
    request = Request(
        pids=_ids(pid),
        tids=_ids(tid),
        comm=comm,
        cgroup=cgroup,
        command=tuple(command) if command is not None else (),
        cpus=tuple(sorted(set(cpus))) if cpus is not None else None,
        duration_ns=None if duration is None else round(duration * 1_000_000_000),
        frequency=frequency,
        min_block_ns=max(1, round(min_block_us * 1000)),
        max_stack=max_stack,
        user_stacks=user_stacks,
        kernel_stacks=kernel_stacks,
        timeline=timeline,
        delays=delays,
        unwind=_choice("unwind", unwind, Unwind),
        unwind_bytes=unwind_bytes,
        cache_directory=_cache(cache_directory),
        disabled=frozenset(without),
    )
    _check(request, stop)
    selection = Selection(
        states=frozenset(states) if states is not None else None,
        idle=_idle(idle_threads, request.system_wide),
    )
    cache = request.cache_directory
    naming = _naming(lines, inlines, demangle, debuginfod, cache) if names else None
    return _run(request, selection, stop or (lambda: False), naming)


def load(
    path: Union[str, os.PathLike[str]],
    debug_dirs: Iterable[Union[str, os.PathLike[str]]] = (),
    *,
    lines: bool = False,
    inlines: bool = True,
    demangle: bool = True,
    debuginfod: bool = False,
    cache_directory: Union[str, os.PathLike[str], None] = None,
) -> Profile:
    """The profile in a capture file, a pprof file or a file of folded stacks.

    Addresses of a capture get their names now: programs and libraries are looked for under
    ``debug_dirs``, then at their paths, and used if they have the recorded build ID. ``lines`` and
    ``inlines`` are those of :func:`profile`, and do nothing for other files. What could not
    be read or found is told in the notes of the profile and its capture. A capture's timeline lies
    in the file, which stays open as long as the profile lives. The other arguments are those of
    :func:`profile`. Raises InputError.
    """
    from systemscope.importers.reading import load as read
    from systemscope.model import HostFacts
    from systemscope.symbolizer import symbolize
    from systemscope.symbolizer.debugfiles import DebugFiles
    from systemscope.symbolizer.debuginfod import debug_servers

    loaded = read(os.fspath(path))
    capture = loaded.capture
    if capture is None or capture.timeline is None:
        loaded.close()
    if capture is None:
        assert loaded.profile is not None
        return loaded.profile
    directories = tuple(os.fspath(one) for one in debug_dirs)
    naming = _naming(lines, inlines, demangle, debuginfod, _cache(cache_directory), directories)
    servers = debug_servers(naming.debuginfod, naming.cache_directory)
    files = DebugFiles(capture.facts or HostFacts(), directories, servers)
    named = symbolize(capture, naming, files.open)
    named.notes += files.notes()
    return named


def write(
    profile: Profile,
    target: Union[str, os.PathLike[str], BinaryIO],
    output: str = "",
    *,
    per_thread: bool = False,
    state: bool = True,
    annotate: bool = False,
) -> None:
    """Write ``profile`` to a path or a binary stream.

    ``output`` names the format; without it a path's extension decides, and a stream gets folded
    stacks. A file appears whole or not at all. Raises UsageError for an unknown format and
    OutputError when the file cannot be written; what a stream raises is passed on.
    """
    from systemscope.exporters.formats import ExportOptions, by_name, by_path
    from systemscope.exporters.output import Output

    options = ExportOptions(per_thread=per_thread, state=state, annotate=annotate)
    if isinstance(target, (str, os.PathLike)):
        path = os.fspath(target)
        form = by_name(output) if output else by_path(path)
        with Output(path) as destination:
            destination.write(lambda raw: form.write_bytes(profile, raw, options))
    else:
        by_name(output or "folded").write_bytes(profile, target, options)


def _naming(
    lines: bool,
    inlines: bool,
    demangle: bool,
    debuginfod: bool,
    cache_directory: str,
    directories: tuple[str, ...] = (),
) -> SymbolizerOptions:
    from systemscope.symbolizer import SymbolizerOptions
    from systemscope.symbolizer.debuginfod import configured_urls
    from systemscope.symbolizer.lines import resolvers

    return SymbolizerOptions(
        resolvers=resolvers(lines, inlines, directories),
        demangle=demangle,
        debuginfod=configured_urls() if debuginfod else (),
        debug_directories=directories,
        cache_directory=cache_directory,
    )


def _run(
    request: Request,
    selection: Selection,
    stop: Callable[[], bool],
    naming: Optional[SymbolizerOptions],
) -> Profile:
    """``naming`` is how to find names, None to find none."""
    from systemscope.collectors.wallclock import collect
    from systemscope.processes.command import HeldCommand
    from systemscope.processes.files import FileStore
    from systemscope.symbolizer import symbolize
    from systemscope.symbolizer.facts import gather_facts

    held_command = HeldCommand(request.command) if request.command else nullcontext()
    with held_command as held, FileStore() as files:
        capture = collect(request, stop, None, held, files)
        selected, _ = select(capture, selection)
        if naming is not None:
            named = symbolize(selected, naming, files.open)
        else:
            facts = gather_facts(selected, files.open)
            named = Profile(replace(selected, facts=facts))
        if held is not None:
            held.wait()
        return named


def _ids(given: Ids) -> tuple[int, ...]:
    if given is None:
        return ()
    ids = (given,) if isinstance(given, int) else tuple(dict.fromkeys(given))
    if not ids:
        # An empty list must not turn into a profile of the whole system.
        raise UsageError("an empty list of ids names nothing", "leave it out, or name some")
    return ids


def _cache(given: Union[str, os.PathLike[str], None]) -> str:
    return usual_cache_directory() if given is None else os.fspath(given)


def _idle(given: Union[IdleThreads, str, None], system_wide: bool) -> IdleThreads:
    if given is None:
        return IdleThreads.HIDE if system_wide else IdleThreads.SHOW
    return _choice("idle_threads", given, IdleThreads)


def _choice(argument: str, given: Union[_Choice, str], choices: type[_Choice]) -> _Choice:
    try:
        return choices(given)
    except ValueError:
        known = ", ".join(str(one.value) for one in choices)
        raise UsageError(f"{argument} {given!r} is not known", f"use {known}") from None


def _check(request: Request, stop: Optional[Callable[[], bool]]) -> None:
    """Raise UsageError for a request that makes no sense."""
    if request.command and (request.pids or request.tids or request.comm or request.cgroup):
        raise UsageError("a command and other targets exclude each other", "name one of them")
    if request.duration_ns is None and stop is None and request.system_wide:
        raise UsageError("nothing would end this window", "give a duration, or a stop function")
    if request.duration_ns is not None and request.duration_ns <= 0:
        raise UsageError("the duration is not positive", "give it in seconds")
    if request.frequency < 1:
        raise UsageError("the frequency is not positive", "give it in samples a second")
    if not 1 <= request.max_stack <= MAX_STACK_DEPTH:
        raise UsageError("max_stack is out of range", f"give 1 to {MAX_STACK_DEPTH}")
    if not MIN_UNWIND_BYTES <= request.unwind_bytes <= MAX_UNWIND_BYTES:
        limits = f"{MIN_UNWIND_BYTES:,} to {MAX_UNWIND_BYTES:,}"
        raise UsageError("unwind_bytes is out of range", f"give {limits} bytes")
    if request.unwind is Unwind.DWARF and not request.user_stacks:
        raise UsageError(
            "unwind 'dwarf' and user_stacks False exclude each other", "leave one of them out"
        )
