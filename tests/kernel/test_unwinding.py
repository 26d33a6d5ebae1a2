"""Unwinding by tables: every way through the kernel finds the same stacks, within its limits."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from systemscope.collectors.request import Unwind
from systemscope.errors import Unsupported
from systemscope.kernel.capabilities import LEGACY_4_9
from systemscope.model import Capture, StackEnd, State
from tests.kernel.collecting import profile

pytestmark = pytest.mark.kernel

SOURCE = """
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
volatile unsigned long sink;
__attribute__((noinline)) unsigned long burn(int n) {
    for (long i = 0; i < 300000; i++) sink += i * sink;
    struct timespec pause = {0, 3000000};
    nanosleep(&pause, 0);
    return sink + n;
}
__attribute__((noinline)) unsigned long down(int n) {
    unsigned long result = n ? down(n - 1) : burn(n);
    sink += result;
    return result + sink;
}
int main(int argc, char **argv) {
    for (;;) down(atoi(argv[1]));
}
"""
DEPTH = 40
OWN_FRAMES = DEPTH + 3  # burn, down, main
WHOLE = 0.995

#: What is done without; how the programs loop then.
WAYS: dict[str, tuple[frozenset[str], str]] = {
    "all": (frozenset(), "bpf_loop"),
    "no bpf_loop": (frozenset({"bpf_loop"}), "bounded loop"),
    "no task_pt_regs": (frozenset({"task_pt_regs"}), "bpf_loop"),
    "as on 5.10": (frozenset({"bpf_loop", "task_pt_regs"}), "bounded loop"),
    "no maps of maps": (frozenset({"map_in_map"}), "bpf_loop"),
    "no raw tracepoint": (frozenset({"tp_btf", "raw_tracepoint"}), "bpf_loop"),
    "no sched_exit_tp": (frozenset({"sched_exit_tp"}), "bpf_loop"),
    "no iterators": (frozenset({"task_iterator"}), "bpf_loop"),
    "no loops": (frozenset({"bpf_loop", "bounded_loops"}), "tail calls"),
}


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program without frame pointers, its stack ``DEPTH`` calls deep."""
    directory = tmp_path_factory.mktemp("unwinding")
    source, program = directory / "deep.c", directory / "deep"
    source.write_text(SOURCE)
    options = ["-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls"]
    subprocess.run(["gcc", *options, "-o", str(program), str(source)], check=True)
    return program


@pytest.fixture
def running(deep: Path) -> Iterator[int]:
    with subprocess.Popen([str(deep), str(DEPTH)]) as process:
        yield process.pid
        process.kill()


def ends(capture: Capture) -> Counter[StackEnd]:
    """How often a stack with user frames was seen, by how its walk ended."""
    found: Counter[StackEnd] = Counter()
    for entry in capture.entries:
        stack = capture.stacks[entry.stack]
        if stack.user:
            found[stack.user_end] += entry.count
    return found


def chains(capture: Capture, program: Path, state: State) -> set[tuple[int, ...]]:
    """The addresses of whole stacks within the program, the leaf left out."""
    images = [image for process in capture.processes.values() for image in process.images]
    ranges = [(one.start, one.end) for one in images[-1].mappings if one.path == str(program)]
    found = set()
    for entry in capture.entries:
        stack = capture.stacks[entry.stack]
        if entry.state is state and stack.user_end is StackEnd.ENTRY:
            callers = stack.user[1:]
            found.add(tuple(a for a in callers if any(b <= a < e for b, e in ranges)))
    return found


@pytest.mark.parametrize("way", list(WAYS))
def test_every_way_finds_the_same_stacks(deep: Path, running: int, way: str) -> None:
    disabled, method = WAYS[way]
    capture = profile(1.5, pids=(running,), frequency=499, disabled=disabled)
    assert capture.unwinding is not None and capture.unwinding.method == method
    found = ends(capture)
    assert found[StackEnd.ENTRY] >= WHOLE * sum(found.values()), found
    assert sum(found.values()) > 100
    sleeping = chains(capture, deep, State.SLEEPING)
    assert {len(chain) for chain in sleeping} == {OWN_FRAMES + 1}  # _start too
    on_cpu = chains(capture, deep, State.RUNNING)
    assert any(chain[-OWN_FRAMES:] in {s[-OWN_FRAMES:] for s in sleeping} for chain in on_cpu)


def test_frame_pointers_are_followed_where_asked(running: int) -> None:
    capture = profile(1, pids=(running,), unwind=Unwind.FRAME_POINTERS)
    assert capture.unwinding is None
    assert set(ends(capture)) <= {StackEnd.UNTOLD}


def test_tables_that_cannot_be_had() -> None:
    """Insisted on they are an error, otherwise a line says what is missing."""
    without = LEGACY_4_9 | {"tail_calls"}
    with pytest.raises(Unsupported):
        profile(1, unwind=Unwind.DWARF, disabled=without)
    capture = profile(0.3, disabled=without)
    assert capture.unwinding is None
    assert any("frame pointers" in note for note in capture.notes)


def test_depth_is_limited(running: int) -> None:
    capture = profile(1, pids=(running,), max_stack=17)
    assert set(ends(capture)) == {StackEnd.DEPTH}
    assert all(len(stack.user) <= 17 for stack in capture.stacks)
    assert capture.losses.stacks_truncated > 0


def test_what_does_not_fit_is_told(running: int) -> None:
    """libc's table and the program's take some 150 kB."""
    capture = profile(1, pids=(running,), unwind_bytes=64 << 10)
    report = capture.unwinding
    assert report is not None
    assert report.refused > 0 and report.table_bytes <= 64 << 10
    found = ends(capture)
    assert found[StackEnd.ENTRY] < sum(found.values())


def test_the_least_used_tables_make_room(deep: Path, running: int) -> None:
    """A process that is gone leaves its tables to those that come."""
    other = ["perl", "-e", "select undef, undef, undef, 0.2"]

    def during() -> None:
        subprocess.run(other, check=True)

    limit = 400 << 10
    capture = profile(2, during=during, pids=(running,), unwind_bytes=limit)
    report = capture.unwinding
    assert report is not None and report.table_bytes <= limit
    found = ends(capture)
    assert found[StackEnd.ENTRY] >= WHOLE * sum(found.values()), found


def test_the_second_time_tables_come_from_the_cache(running: int, tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    first = profile(0.5, pids=(running,), cache_directory=str(directory)).unwinding
    second = profile(0.5, pids=(running,), cache_directory=str(directory)).unwinding
    assert first is not None and second is not None
    assert first.cached == 0 and second.cached == second.files == first.files
    assert second.rows == first.rows
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_forked_child_is_unwound_at_once(deep: Path, tmp_path: Path) -> None:
    """Children that live for 30 ms: the kernel hands them their parent's tables."""
    source, program = tmp_path / "forks.c", tmp_path / "forks"
    source.write_text(
        SOURCE.replace("int main(", "int run(").replace("for (;;) down", "down")
        + """
#include <sys/wait.h>
int main(int argc, char **argv) {
    for (;;) {
        if (!fork()) { for (int i = 0; i < 5; i++) run(argc, argv); _exit(0); }
        wait(0);
    }
}
"""
    )
    options = ["-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls"]
    subprocess.run(["gcc", *options, "-o", str(program), str(source)], check=True)
    with subprocess.Popen([str(program), "5"]) as process:
        capture = profile(2, pids=(process.pid,), frequency=499)
        process.kill()
    subprocess.run(["pkill", "-f", str(program)], check=False)
    found = ends(capture)
    assert len(capture.processes) > 10
    # Of an exiting process the memory goes first: its last moments have a leaf and no more.
    assert found[StackEnd.ENTRY] >= 0.97 * sum(found.values()), found


def test_nothing_is_left_of_other_programs_when_one_executes(deep: Path) -> None:
    """A fixed address means something else after exec: no stack is unwound by old tables."""
    script = f"import os; input(); os.execv({str(deep)!r}, ['deep', '5'])"
    command = ["python3", "-S", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as process:

        def during() -> None:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()

        capture = profile(2, during=during, pids=(process.pid,), frequency=499)
        process.kill()
    assert len(capture.processes[process.pid].images) == 2
    found = ends(capture)
    told = found[StackEnd.ENTRY] + found[StackEnd.UNTOLD]
    # Libraries are mapped one after the other: for a moment there is a table for some only.
    assert told >= 0.95 * sum(found.values()), found
    assert found[StackEnd.ENTRY] > 50


def test_the_command_is_unwound_from_early_on(deep: Path) -> None:
    from systemscope.api import profile as api_profile

    done = api_profile(command=["timeout", "1", str(deep), "5"])
    found = ends(done.capture)
    assert found[StackEnd.ENTRY] >= 0.7 * sum(found.values()), found
