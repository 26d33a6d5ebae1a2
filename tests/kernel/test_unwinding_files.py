"""Tables of files that are not simply where their mapping says: deleted, replaced, elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.kernel.collecting import profile
from tests.kernel.test_unwinding import SOURCE, WHOLE, StackEnd, deep, ends

pytestmark = pytest.mark.kernel
__all__ = ["deep"]  # the fixture

FLAGS = ("-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls")

#: As node and others do to have their code on huge pages: it is copied to anonymous memory, which
#: then takes the place of the file's pages.
REMAPPED = "#define _GNU_SOURCE\n#include <string.h>\n#include <sys/mman.h>\n" + SOURCE.replace(
    "((noinline)) unsigned long burn",
    '((noinline, aligned(4096), section(".text.moved"))) unsigned long burn',
).replace(
    "for (;;)",
    """char *from = (char *)burn;
    int all = PROT_READ | PROT_WRITE | PROT_EXEC;
    char *copy = mmap(0, 4096, all, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(copy, from, 4096);
    if (mremap(copy, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, from) != from) return 1;
    for (;;)""",
)


def whole(pid: int, seconds: float = 1.0) -> float:
    """The share of a process's stacks that reach its entry point."""
    capture = profile(seconds, pids=(pid,), frequency=499)
    found = ends(capture)
    assert sum(found.values()) > 50
    print(found, capture.unwinding)
    return found[StackEnd.ENTRY] / sum(found.values())


def test_a_deleted_file(deep: Path, tmp_path: Path) -> None:
    program = tmp_path / "gone"
    shutil.copy(deep, program)
    with subprocess.Popen([str(program), "10"]) as process:
        time.sleep(0.1)
        program.unlink()
        share = whole(process.pid)
        process.kill()
    assert share >= WHOLE


def test_a_file_replaced_by_another(deep: Path, tmp_path: Path) -> None:
    """As package managers do: what runs is the old file, whatever the path means now."""
    program, other = tmp_path / "program", tmp_path / "other"
    shutil.copy(deep, program)
    shutil.copy(shutil.which("true") or "/bin/true", other)
    with subprocess.Popen([str(program), "10"]) as process:
        time.sleep(0.1)
        os.replace(other, program)
        share = whole(process.pid)
        process.kill()
    assert share >= WHOLE


def test_a_file_in_another_mount_namespace(deep: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    script = f"mount -t tmpfs none {tmp_path} && cp {deep} {inner} && exec {inner} 10"
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", script]) as process:
        time.sleep(0.5)
        assert not inner.exists()
        share = whole(process.pid)
        process.kill()
    assert share >= WHOLE


@pytest.mark.parametrize("flags", [("-static",), ("-static-pie",), ("-static", "-s"), ("-no-pie",)])
def test_static_and_fixed_programs(tmp_path: Path, flags: tuple[str, ...]) -> None:
    source, program = tmp_path / "deep.c", tmp_path / "deep"
    source.write_text(SOURCE)
    subprocess.run(["gcc", *FLAGS, *flags, "-o", str(program), str(source)], check=True)
    with subprocess.Popen([str(program), "10"]) as process:
        share = whole(process.pid)
        process.kill()
    assert share >= WHOLE


def test_code_moved_to_other_pages(tmp_path: Path) -> None:
    source, program = tmp_path / "moved.c", tmp_path / "moved"
    source.write_text(REMAPPED)
    subprocess.run(["gcc", *FLAGS, "-w", "-o", str(program), str(source)], check=True)
    with subprocess.Popen([str(program), "10"]) as process:
        time.sleep(0.2)
        maps = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
        assert any(" rwxp " in line and line.split()[4] == "0" for line in maps)
        share = whole(process.pid)
        process.kill()
    assert share >= WHOLE


def test_only_debug_frame(tmp_path: Path) -> None:
    """Programs built without tables for unwinding may still carry them for debuggers."""
    source, program = tmp_path / "deep.c", tmp_path / "deep"
    source.write_text(SOURCE)
    tables = ("-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-g")
    subprocess.run(["gcc", *FLAGS, *tables, "-o", str(program), str(source)], check=True)
    with subprocess.Popen([str(program), "10"]) as process:
        share = whole(process.pid)
        process.kill()
    assert share >= WHOLE
