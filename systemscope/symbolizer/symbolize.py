"""A Capture to a Profile."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from typing import Optional

from systemscope.elf.cache import CACHE_BYTES, TableCache
from systemscope.model import Capture, Entry, Frame, FrameKind, Profile, Sample, Stack, State
from systemscope.processes.files import FileStore
from systemscope.symbolizer.debuginfod import debug_servers
from systemscope.symbolizer.demangle import Demangler
from systemscope.symbolizer.generated import GeneratedCode, RecordedCode
from systemscope.symbolizer.kernel import KernelNamer
from systemscope.symbolizer.modules import ModuleReader
from systemscope.symbolizer.options import FileOpener, SymbolizerOptions
from systemscope.symbolizer.separate import DebugSearch
from systemscope.symbolizer.user import UserNamer


def symbolize(
    capture: Capture,
    options: Optional[SymbolizerOptions] = None,
    opener: Optional[FileOpener] = None,
) -> Profile:
    """Name every address of ``capture``: one Sample for each Entry, in the same order.

    Frames are leaf first, kernel frames before user frames; a user stack that is not whole ends in
    a pseudo-frame that says why (``model.END_MARKS``). Nanoseconds, counts and gaps are
    taken over as they are. Addresses without a symbol become frames that say so
    (``Frame.unknown``): ``module+0xaddress`` with the ELF virtual address where the file can be
    read and the file offset where it cannot, ``[anon]+0xaddress``, ``[unknown]+0xaddress`` and
    ``[kernel]+0xaddress`` with the absolute one. ``capture.losses.resolved_frames`` and
    ``unresolved_frames`` are set: frames with addresses of all samples, each stack counted as often
    as entries carry it. ``opener`` finds the files; the default one knows none of processes that
    are gone but by their paths: pass the ``open`` of the FileStore that pinned them. Where the
    capture carries facts, its kernel and vdso are named by them alone, no process of this machine
    is looked at, and ``opener`` should be the ``open`` of a debugfiles.DebugFiles.
    ``Profile.name_sources`` tells where user names came from. Never raises for what is wrong with a
    target's files.
    """
    options = options or SymbolizerOptions()
    # "Linux 6.1.0-13-amd64 x86_64": the release is one of the words.
    same_kernel = not capture.kernel or os.uname().release in capture.kernel.split()
    facts = capture.facts
    vdso = None if facts is None else facts.vdso
    opener = opener or FileStore().open
    kernel = KernelNamer(options, same_kernel=same_kernel, facts=facts)
    search = _search(options, targets=facts is None)
    with ExitStack() as owned:
        demangler = owned.enter_context(Demangler()) if options.demangle else None
        if search.cache is not None:
            owned.callback(search.cache.close)
        reader = ModuleReader(
            options,
            opener,
            same_kernel=same_kernel,
            vdso=vdso,
            search=search,
            demangler=demangler,
        )
        if options.generated_code is None:
            namer = RecordedCode(facts) if facts is not None else None
            code = namer or owned.enter_context(GeneratedCode(capture.processes, opener))
            options = replace(options, generated_code=code.name)
        profile = _named(capture, kernel, UserNamer(capture, options, reader))
        notes = [kernel.note, demangler.note if demangler is not None else ""]
        notes += [*search.notes(), *reader.notes()]
    profile.notes += [note for note in notes if note]
    profile.name_sources = dict(reader.sources)
    return profile


def _search(options: SymbolizerOptions, *, targets: bool) -> DebugSearch:
    directory = options.cache_directory
    return DebugSearch(
        targets=targets,
        directories=options.debug_directories,
        servers=debug_servers(options.debuginfod, directory),
        cache=TableCache(directory, CACHE_BYTES) if directory else None,
    )


def _named(capture: Capture, kernel: KernelNamer, user: UserNamer) -> Profile:
    stacks = _Stacks(capture, kernel, user)
    for entry in capture.entries:
        stacks.ask(entry)
    user.resolve()
    samples = [_sample(capture, entry, stacks.frames(entry)) for entry in capture.entries]
    capture.losses.unresolved_frames = stacks.unresolved
    capture.losses.resolved_frames = stacks.total - stacks.unresolved
    return Profile(capture, samples)


class _Stacks:
    """Whole stacks, each named once for every process image it was seen in."""

    def __init__(self, capture: Capture, kernel: KernelNamer, user: UserNamer) -> None:
        self._capture = capture
        self._kernel = kernel
        self._user = user
        self._named: dict[tuple[int, int, bool], tuple[tuple[Frame, ...], int, int]] = {}
        self._tables = capture.unwinding is not None
        self._marks: dict[str, Frame] = {}
        self.total = 0
        self.unresolved = 0

    def ask(self, entry: Entry) -> None:
        stack = self._capture.stacks[entry.stack]
        if stack.user:
            self._user.ask(self._space(entry), stack.user)

    def frames(self, entry: Entry) -> tuple[Frame, ...]:
        stack = self._capture.stacks[entry.stack]
        running = entry.state is State.RUNNING
        space = self._space(entry) if stack.user else -1
        key = (entry.stack, space, running)
        named = self._named.get(key)
        if named is None:
            frames = self._kernel.frames(stack, running=running)
            frames += self._user.frames(space, stack.user)
            unresolved = sum(1 for frame in frames if frame.unknown)
            whole = frames + self._mark(stack)
            named = self._named[key] = (whole, len(frames), unresolved)
        self.total += named[1]
        self.unresolved += named[2]
        return named[0]

    def _mark(self, stack: Stack) -> tuple[Frame, ...]:
        """What stands for the missing root of a user stack, if it misses."""
        name = stack.end_mark(self._tables)
        if not name:
            return ()
        return (self._marks.setdefault(name, Frame(name, FrameKind.PSEUDO)),)

    def _space(self, entry: Entry) -> int:
        return self._user.space(self._capture.threads[entry.thread].tgid, entry.time)


def _sample(capture: Capture, entry: Entry, frames: tuple[Frame, ...]) -> Sample:
    thread = capture.threads[entry.thread]
    process = capture.processes.get(thread.tgid)
    comm = process.comm if process is not None and process.comm else thread.comm
    return Sample(thread, comm, entry.state, frames, entry.nanoseconds, entry.count, entry.gap)
