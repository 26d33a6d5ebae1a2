"""Unwinding by a chain of programs: on the ways of kernels without loops, as on the native one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from systemscope.collectors.plan import make_plan
from systemscope.collectors.request import Request
from systemscope.model import Capture, StackEnd, State
from systemscope.programs.config import Loop
from systemscope.symbolizer import symbolize
from tests.e2e.support import Workload
from tests.kernel.collecting import WAYS, capabilities, check_identity, profile
from tests.workloads.build import SOURCES

pytestmark = pytest.mark.kernel

#: Ways without loops, and on which each of the walks of waits is done by a chain.
CHAINED: dict[str, frozenset[str]] = {
    "4.9": WAYS["4.9"],
    "no loops": WAYS["no loops"] | {"bpf_loop", "btf"},
    "no loops, typed": WAYS["no loops"] | {"bpf_loop"},
    "no get_stack": WAYS["no get_stack"],
}
DEPTH = 60
SECONDS = 2.0
WHOLE = 0.995
#: Samples that hit an interrupt's own stack find no registers there, and the last wait, which the
#: window cuts off, may have no stack: so many may be missing of a window of a hundred samples.
FEW = 4


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    target = tmp_path_factory.mktemp("deep") / "deep"
    flags = ("-O2", "-g", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-pthread")
    source = SOURCES / "deep.c"
    subprocess.run([compiler, *flags, "-o", str(target), str(source)], check=True)
    return target


@pytest.fixture
def deep(binary: Path) -> Iterator[Workload]:
    with Workload(binary, "--depth", DEPTH) as running:
        yield running


def ends(capture: Capture, *states: State) -> Counter[StackEnd]:
    """How many of the stacks in these states ended how."""
    found: Counter[StackEnd] = Counter()
    for entry in capture.entries:
        stack = capture.stacks[entry.stack]
        if entry.state in states and (stack.user or stack.kernel):
            found[stack.user_end if stack.user else StackEnd.UNTOLD] += entry.count
    return found


def callers(capture: Capture, state: State) -> Counter[tuple[int, ...]]:
    """Return addresses of the stacks in a state: where the leaf is, is chance."""
    found: Counter[tuple[int, ...]] = Counter()
    for entry in capture.entries:
        stack = capture.stacks[entry.stack]
        if entry.state is state and stack.user:
            found[stack.user[1:]] += entry.count
    return found


@pytest.mark.parametrize("way", list(CHAINED))
def test_stacks_are_whole_and_those_of_the_native_way(deep: Workload, way: str) -> None:
    request = Request(pids=(deep.pid,), disabled=CHAINED[way])
    chosen = make_plan(capabilities().without(*CHAINED[way]), request)
    assert chosen.config.unwind is not None
    if chosen.config.unwind.loop is not Loop.TAIL_CALLS:
        pytest.skip("this machine has no tail calls")
    native = profile(SECONDS, pids=(deep.pid,))
    chained = profile(SECONDS, pids=(deep.pid,), disabled=CHAINED[way])
    check_identity(chained)
    assert chained.unwinding is not None and chained.unwinding.method == "tail calls"
    for states in ((State.RUNNING,), (State.SLEEPING, State.RUNNABLE)):
        found = ends(chained, *states)
        assert found.total() >= 10
        assert found[StackEnd.ENTRY] >= WHOLE * found.total() - FEW, (states, found)
    for state in (State.RUNNING, State.SLEEPING):
        # Both windows are of one process, so its addresses are the same.
        expected, most = callers(native, state), callers(chained, state)
        assert most.most_common(1)[0][0] == expected.most_common(1)[0][0], state
    names = [
        [frame.name for frame in sample.frames]
        for sample in symbolize(chained).samples
        if sample.state is State.SLEEPING and sample.gap is None
    ]
    recursion = max(one.count("descend_even") + one.count("descend_odd") for one in names)
    assert recursion == DEPTH + 1 and sum(one[-1] != "_start" for one in names) <= FEW


@pytest.mark.parametrize("way", ["4.9", "no loops"])
def test_a_stack_deeper_than_the_limit_says_so(binary: Path, way: str) -> None:
    with Workload(binary, "--depth", 200) as running:
        capture = profile(1.0, pids=(running.pid,), disabled=CHAINED[way])
    found = ends(capture, State.RUNNING, State.SLEEPING)
    assert found[StackEnd.DEPTH] >= WHOLE * found.total() - FEW > 0, found
    assert all(len(stack.user) <= 127 for stack in capture.stacks)
    assert any(len(stack.user) == 127 for stack in capture.stacks)
    assert capture.losses.stacks_truncated > 0
