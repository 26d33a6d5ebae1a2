"""Stacks of code without frame pointers: whole, and what the programs say and gdb sees.

The programs of tests/workloads/unwinding tell in their comments which stacks they can have. Each is
profiled once, then gdb stops the same process some forty times and walks its stacks.
"""

from __future__ import annotations

import os
import platform
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from systemscope.collectors.request import Unwind
from systemscope.model.unwinding import StackEnd
from tests.e2e import debugger
from tests.e2e.spaces import Space, children
from tests.e2e.support import Workload
from tests.e2e.unwinding import (
    Place,
    Run,
    Sample,
    callers,
    canonical,
    no_calls,
    samples,
    spaces_of,
    window,
    words,
)
from tests.workloads.build import NoCompiler
from tests.workloads.unwinding.programs import build_programs, chains

SECONDS = 1.5
#: Of the samples, and of the waits, that reach the thread's entry point.
WHOLE = 0.995
#: Of them, those whose stack is one that the program says it can have. The rest is what it does
#: between burning and waiting.
MATCHING = 0.98
#: Of the waits, those that gdb saw, address by address. The others wait for a lock, say.
SAME_WAITS = 0.98
#: How often gdb is asked again for what it did not see.
MORE_STOPS = 4
#: A stack that a program says it can have is seen at least so often.
FEWEST = 1


@dataclass(frozen=True)
class Case:
    """One program: its arguments, and what is special about it.

    ``judged`` is the least share whose functions gdb saw too, 0 where it is no oracle. ``second``
    is when SIGUSR1 begins the program's second part; code that appears then is not known to the
    profiler before it has looked, so fewer stacks need be whole.
    """

    name: str
    arguments: tuple[str, ...] = ()
    source: str = ""
    whole: float = WHOLE
    matching: float = MATCHING
    judged: float = 0.9
    second: float = 0.0
    seconds: float = SECONDS
    awaited: str = ""

    @property
    def comment(self) -> str:
        return self.source or self.name + ".c"


CASES = (
    Case("callbacks"),
    Case("deep"),
    Case("varied"),
    Case("handlers"),
    Case("threads"),
    Case("static", source="threads.c"),
    Case("static_pie", source="threads.c"),
    Case("clocks"),
    # As an exception lands, the frame of the library that lets it land already returns to where it
    # lands, with the stack pointer it had before: nobody unwinds that (libgcc, uw_install_context).
    Case("throws", source="throws.cc", whole=0.95, judged=0.7),
    Case("frames"),
    Case("realigned"),
    # A debugger rarely stops a thread in a stub of one jump.
    Case("stubs", judged=0.7),
    # The library comes and goes forty times a second.
    Case("binds", ("@binds_lib.so",), whole=0.9, awaited="binds_lib.so"),
    Case("tails"),
    # A child that was made before its parent's tables were there is not known for most of its life.
    # gdb cannot catch such children.
    Case("children", whole=0.85, judged=0.3, seconds=3),
    Case("untabled"),
    # gdb takes what lies on the stack for a frame where it has no symbol to begin its search at.
    Case("jit", judged=0),
    Case("late", ("@plugin.so",), whole=0.8, judged=0.4, second=0.5),
    Case("starts", whole=0.8, second=0.5),
)
#: Frames in code without a table are left by their frame pointer.
BY_POINTER = frozenset({"untabled", "jit"})


def _refuse(reason: str) -> None:
    if os.environ.get("SYSTEMSCOPE_REQUIRE_KERNEL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def programs(_kernel: None) -> Path:
    """The directory of the compiled programs."""
    if platform.machine() != "x86_64":
        pytest.skip("the programs are for x86-64")
    try:
        return build_programs()
    except NoCompiler as error:
        _refuse(str(error))
        raise


@pytest.fixture(scope="module")
def unwinds(programs: Path) -> None:
    """Only where user stacks are unwound by tables."""
    with Workload(programs / "clocks") as workload:
        if window(workload, 0.2, Unwind.AUTO).unwinding is None:
            _refuse("user stacks are not unwound by tables here")


def _start(programs: Path, case: Case) -> Workload:
    if not (programs / case.name).exists():
        _refuse(f"{case.name} was not built: is there a C++ compiler?")
    arguments = [str(programs / word[1:]) if word[0] == "@" else word for word in case.arguments]
    return Workload(programs / case.name, *arguments)


@contextmanager
def _profiled(programs: Path, case: Case, unwind: Unwind, gdb: bool) -> Iterator[Run]:
    with _start(programs, case) as workload:
        capture = window(workload, case.seconds, unwind, case.second)
        spaces = spaces_of(capture, workload.pid, case.awaited)
        run = Run(programs / case.name, capture, samples(capture), spaces)
        if gdb and case.judged:
            for pid in children(workload.pid):
                if pid in spaces:
                    run.gdb += [(spaces[pid], chain) for chain in debugger.stacks(pid)]
        yield run


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="module")
def run(programs: Path, unwinds: None, case: Case) -> Iterator[Run]:
    """The program profiled, seen by gdb, and still running."""
    with _profiled(programs, case, Unwind.AUTO, debugger.installed()) as profiled:
        yield profiled


def _whole(sample: Sample) -> bool:
    return sample.end is StackEnd.ENTRY


def _words(run: Run, case: Case, addresses: tuple[int, ...], space: Space) -> Place:
    return words(addresses, space, run.program.parent, chains(case.comment))


def _told(stack: Place, depth: int = 12) -> str:
    shown = [f"{one:#x}" if isinstance(one, int) else str(one) for one in stack]
    return " ".join(shown if len(shown) <= depth else [*shown[:depth], f"(of {len(shown)})"])


def test_stacks_reach_the_entry_point(run: Run, case: Case) -> None:
    on_cpu = run.share(_whole, lambda sample: sample.on_cpu)
    waits = run.share(_whole, lambda sample: not sample.on_cpu)
    print(f"whole: {on_cpu:.4f} on CPU, {waits:.4f} of the waits; {run.ends()}")
    broken: Counter[str] = Counter()
    for sample in run.samples:
        if not _whole(sample):
            stack = _words(run, case, sample.user, run.spaces[sample.tgid])
            broken[f"{sample.state.name} {sample.end.name}: {_told(stack)}"] += sample.count
    assert min(on_cpu, waits) >= case.whole, (run.ends(), broken.most_common(12))


def test_stacks_are_those_that_the_program_says(run: Run, case: Case) -> None:
    expected = chains(case.comment)
    seen: Counter[Place] = Counter()
    strange: Counter[str] = Counter()
    total = 0
    for sample in run.samples:
        if not _whole(sample):
            continue
        stack = _words(run, case, sample.user, run.spaces[sample.tgid])
        known = expected.any if sample.leaf_moves else expected.sleeping | expected.rarely
        seen[stack] += sample.count
        total += sample.count
        if stack not in known:
            strange[f"{sample.state.name}: {_told(stack)}"] += sample.count
    assert sum(strange.values()) <= (1 - case.matching) * total, strange.most_common(12)
    missing = [one for one in expected.running | expected.sleeping if seen[one] < FEWEST]
    assert not missing, ([_told(one) for one in missing], strange.most_common(12))


def test_return_addresses_follow_calls(run: Run) -> None:
    wrong: Counter[str] = Counter()
    for sample in run.samples:
        space = run.spaces[sample.tgid]
        if _whole(sample):
            known = tuple(a for a in sample.user if space.at(a) is not None)
            for address in no_calls(known, space):
                wrong[f"{address:#x} in {space.place(address)}"] += sample.count
    assert not wrong, wrong.most_common(12)


def test_frames_left_by_pointer_are_told(run: Run, case: Case) -> None:
    by_pointer = run.share(lambda sample: sample.by_pointer, _whole)
    if case.name in BY_POINTER:
        assert by_pointer > 0.5
    else:
        assert by_pointer <= 1 - MATCHING, f"{by_pointer:.3f} of what is whole"


@dataclass
class Judgement:
    """Whole stacks by whether gdb saw the same: ``judged`` of ``total`` have functions that it saw;
    of their ``waits``, ``same`` have every address. ``wrong`` have other callers."""

    total: int = 0
    judged: int = 0
    waits: int = 0
    same: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    other: Counter[str] = field(default_factory=Counter)

    def __bool__(self) -> bool:
        return not self.wrong and self.same >= SAME_WAITS * self.waits


def _judge(run: Run, case: Case) -> Judgement:
    directory, told = run.program.parent, chains(case.comment)
    whole: defaultdict[Place, set[Place]] = defaultdict(set)
    outer: defaultdict[Place, set[Place]] = defaultdict(set)
    for space, chain in run.gdb:
        functions = _words(run, case, chain.addresses, space)
        for moves in (True, False):
            stack = canonical(chain.addresses, space, directory, moves)
            whole[functions].add(stack)
            outer[functions].add(callers(stack, chain.addresses, space, directory, told))
    found = Judgement()
    for sample in (one for one in run.samples if _whole(one)):
        space = run.spaces[sample.tgid]
        functions = _words(run, case, sample.user, space)
        found.total += sample.count
        if functions not in whole:
            continue
        found.judged += sample.count
        stack = canonical(sample.user, space, directory, sample.leaf_moves)
        if callers(stack, sample.user, space, directory, told) not in outer[functions]:
            found.wrong[_told(stack, 40)] += sample.count
        if not sample.leaf_moves:
            found.waits += sample.count
            if stack in whole[functions]:
                found.same += sample.count
            else:
                found.other[_told(stack, 40)] += sample.count
    return found


def test_stacks_are_those_that_gdb_sees(run: Run, case: Case) -> None:
    """What gdb did not see in the first stops it is asked for again: a program has a dozen stacks,
    and few stops may miss one."""
    if not case.judged:
        pytest.skip("gdb does not unwind this code")
    if not run.gdb:
        _refuse("no gdb with Python is installed")
    found = _judge(run, case)
    for _ in range(MORE_STOPS):
        if found and found.judged >= case.judged * found.total:
            break
        for space in {id(space): space for space, _ in run.gdb}.values():
            run.gdb += [(space, chain) for chain in debugger.stacks(space.pid)]
        found = _judge(run, case)
    print(f"gdb saw {found.judged} of {found.total}, {found.same} of {found.waits} waits exactly")
    assert not found.wrong, found.wrong.most_common(5)
    assert found.judged >= case.judged * found.total
    assert found.same >= SAME_WAITS * found.waits, found.other.most_common(5)


def test_frame_pointers_lose_the_callers(programs: Path) -> None:
    """What user stacks were before: without frame pointers the walk ends where it begins, or
    follows whatever the register holds."""
    case = next(one for one in CASES if one.name == "callbacks")
    known = chains(case.comment).any
    with _profiled(programs, case, Unwind.FRAME_POINTERS, gdb=False) as run:
        assert all(sample.end is StackEnd.UNTOLD for sample in run.samples)

        def as_told(sample: Sample) -> bool:
            return _words(run, case, sample.user, run.spaces[sample.tgid]) in known

        on_cpu = run.share(as_told, lambda sample: sample.on_cpu)
        waits = run.share(as_told, lambda sample: not sample.on_cpu)
        print(f"right by frame pointers: {on_cpu:.3f} on CPU, {waits:.3f} of the waits")
        assert max(on_cpu, waits) < 0.05
