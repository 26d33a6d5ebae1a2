"""Names of real processes: stripped programs, replaced ones, other roots, JavaScript."""

from __future__ import annotations

import lzma
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

import pytest

import systemscope
from systemscope.model import FrameKind, Profile

pytestmark = pytest.mark.kernel

needs_binutils = pytest.mark.skipif(
    shutil.which("cc") is None or shutil.which("objcopy") is None, reason="needs cc and binutils"
)
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")

PROGRAM = """
static volatile long sum;
static void __attribute__((noinline)) @NAME@(void) { for (int i = 0; i < @STEPS@; i++) sum += i; }
int main(void) { for (;;) @NAME@(); }
"""
SCRIPT = """
function fibonacciOfTests(n) {
  return n < 2 ? n : fibonacciOfTests(n - 1) + fibonacciOfTests(n - 2);
}
const until = Date.now() + @MS@;
let sum = 0;
while (Date.now() < until) sum += fibonacciOfTests(20);
"""


def run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


def build(directory: Path, name: str, *flags: str, steps: int = 1000) -> tuple[Path, Path]:
    """(a stripped program that runs in function ``name``, the file of what was stripped)."""
    source, program = directory / f"{name}.c", directory / name
    source.write_text(PROGRAM.replace("@NAME@", name).replace("@STEPS@", str(steps)))
    run("cc", "-O1", "-Wl,--build-id=sha1", *flags, "-o", program, source)
    debug = directory / f"{name}.debug"
    run("objcopy", "--only-keep-debug", program, debug)
    run("strip", program)
    return program, debug


@contextmanager
def running(*words: object) -> Iterator[int]:
    child = subprocess.Popen([str(word) for word in words])
    try:
        time.sleep(0.3)
        yield child.pid
    finally:
        child.kill()
        child.wait()


def names(profile: Profile) -> set[str]:
    return {frame.name for sample in profile.samples for frame in sample.frames}


def source_of(profile: Profile, module: str) -> set[str]:
    return {source for (name, source) in profile.name_sources if name == module}


@needs_binutils
def test_stripped_program_with_a_linked_debug_file(tmp_path: Path) -> None:
    program, debug = build(tmp_path, "linked_work")
    run("objcopy", f"--add-gnu-debuglink={debug}", program)
    with running(program) as pid:
        profile = systemscope.profile(pid, duration=0.5)
        assert "linked_work" in names(profile)
        assert ".symtab of its debug file" in source_of(profile, "linked_work")
        debug.rename(tmp_path / "away")
        assert "linked_work" not in names(systemscope.profile(pid, duration=0.3))


@needs_binutils
def test_stripped_program_with_mini_debug_info(tmp_path: Path) -> None:
    program, debug = build(tmp_path, "mini_work")
    packed = tmp_path / "packed"
    packed.write_bytes(lzma.compress(debug.read_bytes()))
    debug.unlink()
    run("objcopy", "--add-section", f".gnu_debugdata={packed}", program)
    with running(program) as pid:
        profile = systemscope.profile(pid, duration=0.5)
    assert "mini_work" in names(profile)
    assert "MiniDebugInfo" in source_of(profile, "mini_work")


@needs_binutils
def test_a_replaced_program_keeps_its_names(tmp_path: Path) -> None:
    """The new file at the path, and its debug file, are of another build."""
    program, debug = build(tmp_path, "old_work")
    run("objcopy", f"--add-gnu-debuglink={debug}", program)
    with running(program) as pid:
        old_debug = debug.read_bytes()
        (tmp_path / "new").mkdir()
        newer, newer_debug = build(tmp_path / "new", "new_work", steps=999)
        os.replace(newer, program)
        os.replace(newer_debug, debug)
        profile = systemscope.profile(pid, duration=0.4)
        assert "new_work" not in names(profile) and "old_work" not in names(profile)
        assert any("of another build" in note for note in profile.notes)
        debug.write_bytes(old_debug)
        assert "old_work" in names(systemscope.profile(pid, duration=0.4))
        program.unlink()
        assert "old_work" in names(systemscope.profile(pid, duration=0.4))


@needs_binutils
def test_debug_files_of_another_root(tmp_path: Path) -> None:
    try:
        program, debug = build(tmp_path, "rooted_work", "-static")
    except subprocess.CalledProcessError:
        pytest.skip("needs a static C library")
    root = tmp_path / "root"
    place = root / "usr/lib/debug/.build-id"
    place.mkdir(parents=True)
    shown = subprocess.run(["readelf", "-n", str(program)], capture_output=True, text=True)
    build_id = shown.stdout.split("Build ID: ")[1].split()[0]
    (place / build_id[:2]).mkdir()
    os.replace(debug, place / build_id[:2] / f"{build_id[2:]}.debug")
    os.replace(program, root / "rooted_work")
    with running("chroot", root, "/rooted_work") as pid:
        profile = systemscope.profile(pid, duration=0.5)
    assert "rooted_work" in names(profile)


def text(milliseconds: int) -> str:
    return SCRIPT.replace("@MS@", str(milliseconds))


def javascript(profile: Profile) -> int:
    """Nanoseconds on a CPU within functions of the script."""
    return sum(
        sample.nanoseconds
        for sample in profile.samples
        if any(f.kind is FrameKind.JIT and "fibonacciOfTests" in f.name for f in sample.frames)
    )


@needs_node
@pytest.mark.parametrize("option", ["--perf-basic-prof", "--perf-prof"])
def test_javascript(tmp_path: Path, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process has ended when its functions get their names, as with any command."""
    monkeypatch.chdir(tmp_path)  # where --perf-prof writes
    path = tmp_path / "busy.js"
    path.write_text(text(1500))
    began = time.time()
    profile = systemscope.profile(command=["node", option, str(path)])
    assert javascript(profile) > 300_000_000
    unnamed = systemscope.profile(command=["node", option, str(path)], names=False)
    systemscope.write(unnamed, "a.ssc")
    for leftover in (*Path().glob("jit-*.dump"), *Path("/tmp").glob("perf-*.map")):
        if os.stat(leftover).st_mtime > began:
            leftover.unlink()
    assert javascript(systemscope.load("a.ssc")) > 300_000_000


@needs_node
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_javascript_in_namespaces_of_its_own(tmp_path: Path) -> None:
    work = f"mount -t tmpfs none /tmp && exec node --perf-basic-prof -e '{text(4000)}'"
    words = ["unshare", "--pid", "--fork", "--mount", "--mount-proc", "sh", "-c", work]
    child = subprocess.Popen(words, cwd=tmp_path)  # where node leaves a log
    try:
        time.sleep(1.0)
        pid = inner(child.pid)
        if pid is None:
            pytest.skip("cannot make namespaces here")
        assert innermost_pid(pid) == 1
        profile = systemscope.profile(pid, duration=1.0)
        assert javascript(profile) > 200_000_000
        assert not Path("/tmp/perf-1.map").exists()
    finally:
        kill_tree(child)


def inner(parent: int) -> Optional[int]:
    """The process that unshare forked."""
    with open(f"/proc/{parent}/task/{parent}/children") as file:
        words = file.read().split()
    return int(words[0]) if words else None


def innermost_pid(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        line = next(line for line in file if line.startswith("NSpid:"))
    return int(line.split()[-1])


def kill_tree(child: subprocess.Popen[bytes]) -> None:
    pid = inner(child.pid)
    if pid is not None:
        os.kill(pid, 9)
    child.kill()
    child.wait()
