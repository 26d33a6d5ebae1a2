"""Stacks of a window, held against what a program says of itself and against gdb."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from systemscope.collectors.request import Request, Unwind
from systemscope.model import Capture, State
from systemscope.model.unwinding import StackEnd
from tests.e2e.debugger import Chain
from tests.e2e.spaces import Region, Space, children
from tests.e2e.support import Workload
from tests.workloads.unwinding.programs import ELSEWHERE, Chains

FREQUENCY = 999
#: Code that is left by no call moves from sample to sample: its function stands for it.
Place = tuple[object, ...]


@dataclass(frozen=True)
class Sample:
    """One stack of one process in one state, seen ``count`` times."""

    tgid: int
    state: State
    user: tuple[int, ...]
    end: StackEnd
    by_pointer: bool
    count: int

    @property
    def on_cpu(self) -> bool:
        """A sample of running code, not a wait."""
        return self.state is State.RUNNING

    @property
    def leaf_moves(self) -> bool:
        """Whether the thread was stopped at any instruction, not in a system call."""
        return self.state in (State.RUNNING, State.RUNNABLE)


@dataclass
class Run:
    """What one window of one program yielded."""

    program: Path
    capture: Capture
    samples: list[Sample]
    spaces: dict[int, Space]
    gdb: list[tuple[Space, Chain]] = field(default_factory=list)

    def share(self, wanted: Callable[[Sample], bool], of: Callable[[Sample], bool]) -> float:
        """The share of ``of`` that is ``wanted``, by samples and waits."""
        some = [sample for sample in self.samples if of(sample)]
        total = sum(sample.count for sample in some)
        return sum(sample.count for sample in some if wanted(sample)) / total if total else 0.0

    def ends(self) -> dict[str, int]:
        """Samples and waits by how their walk ended: what a failed test should say."""
        found: Counter[str] = Counter()
        for sample in self.samples:
            found[f"{'on' if sample.on_cpu else 'off'} CPU {sample.end.name}"] += sample.count
        return dict(found)


def window(workload: Workload, seconds: float, unwind: Unwind, signal_at: float = 0.0) -> Capture:
    """Profile it. SIGUSR1 is sent ``signal_at`` seconds after the window opened, if at all."""
    from systemscope.collectors.wallclock import collect
    from systemscope.processes.files import FileStore

    began = sent = 0.0

    def stop() -> bool:
        nonlocal began, sent
        began = began or time.monotonic()
        if signal_at and not sent and time.monotonic() - began >= signal_at:
            os.kill(workload.pid, signal.SIGUSR1)
            sent = time.monotonic()
        return False

    request = Request(
        pids=tuple(filter(None, (workload.pid, workload.ready["other"]))),
        duration_ns=int(seconds * 1e9),
        frequency=FREQUENCY,
        unwind=unwind,
    )
    with FileStore() as files:
        return collect(request, stop, files=files)


def samples(capture: Capture) -> list[Sample]:
    """Everything that has a stack, or should have one."""
    found: Counter[Sample] = Counter()
    for entry in capture.entries:
        if entry.gap is not None:
            continue
        stack, thread = capture.stacks[entry.stack], capture.threads[entry.thread]
        key = Sample(thread.tgid, entry.state, stack.user, stack.user_end, stack.user_by_pointer, 0)
        found[key] += entry.count
    return [replace(sample, count=count) for sample, count in found.items()]


def spaces_of(capture: Capture, pid: int, until: str = "") -> dict[int, Space]:
    """The address spaces of the processes that are alive, read from /proc; of those that ended, as
    the capture tells them. Looks again until ``until`` is mapped somewhere, for a while."""
    found = {process: Space.of(process) for process in children(pid)}
    deadline = time.monotonic() + 5
    while until and time.monotonic() < deadline:
        if any(until in region.path for one in found.values() for region in one.regions.values()):
            break
        found[pid].look()
    for tgid, process in capture.processes.items():
        space = found.setdefault(tgid, Space(0))
        if space.pid:
            continue
        for mapping in (m for image in process.images for m in image.mappings):
            region = Region(mapping.start, mapping.end, mapping.offset, mapping.path)
            space.regions[region.start, region.end] = region
    return found


def words(addresses: Iterable[int], space: Space, directory: Path, chains: Chains) -> Place:
    """A stack in the words of a program's comment: names that it mentions, "..." for all else.

    Code of the program that its comment does not mention keeps its name, so that it matches
    nothing; but not in programs with a whole C library in them.
    """
    named: list[object] = []
    for position, address in enumerate(addresses):
        name = space.name(address - (1 if position else 0), directory)
        own = name in chains.named or (name and "static" not in space.place(address))
        word = name if own else ELSEWHERE
        if word != ELSEWHERE or named[-1:] != [ELSEWHERE]:
            named.append(word)
    return tuple(named)


def canonical(addresses: tuple[int, ...], space: Space, directory: Path, moves: bool) -> Place:
    """The addresses, with a place instead where the same stack has another one each time."""
    found: list[object] = []
    for position, address in enumerate(addresses):
        interrupted = position > 0 and space.signal_return(addresses[position - 1])
        if (position == 0 and moves) or interrupted:
            at = address - (1 if interrupted else 0)
            found.append(space.name(at, directory) or space.place(at))
        else:
            found.append(address)
    return tuple(found)


def callers(
    chain: Place, addresses: tuple[int, ...], space: Space, directory: Path, chains: Chains
) -> Place:
    """Those of the innermost frame that the program's comment mentions: what does not depend on
    where in its function, or in a library that it called, a sample hit."""
    for position, address in enumerate(addresses):
        if space.name(address - (1 if position else 0), directory) in chains.named:
            return chain[position + 1 :]
    return chain


def no_calls(addresses: tuple[int, ...], space: Space) -> list[int]:
    """The return addresses that follow no call instruction."""
    found = []
    for position, address in enumerate(addresses[1:], 1):
        by_signal = space.signal_return(address) or space.signal_return(addresses[position - 1])
        if not by_signal and not space.after_call(address):
            found.append(address)
    return found
