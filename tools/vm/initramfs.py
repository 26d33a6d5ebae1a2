"""What a guest boots into: a small Debian Python, the project, and a workload."""

from __future__ import annotations

import gzip
import importlib.util
import io
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tools.vm.cpio import Writer
from tools.vm.packages import cache_directory, guest_tree

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = "project"
COMPILERS = {"amd64": ("x86_64-linux-gnu-gcc",), "arm64": ("aarch64-linux-gnu-gcc",)}
_SKIPPED = frozenset(
    {
        *("__pycache__", "test", "tests", "idlelib", "lib2to3", "distutils", "ensurepip"),
        *("usr/share", "usr/lib/x86_64-linux-gnu/gconv", "usr/lib/aarch64-linux-gnu/gconv"),
        *("lib/x86_64-linux-gnu/gconv", "lib/aarch64-linux-gnu/gconv"),
    }
)
#: What the guest's checks take from the other tests.
_SHARED = (
    "tests/__init__.py",
    *("tests/e2e/__init__.py", "tests/e2e/schedstat.py", "tests/e2e/support.py"),
)
_CACHES = frozenset({"__pycache__"})
_INIT = b"""#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t tmpfs tmp /tmp
/bin/busybox dmesg -n 1
echo 'SYSTEMSCOPE-VM {"booted": true}'
export PATH=/usr/bin:/bin HOME=/tmp PYTHONPATH=/project
cd /project
/usr/bin/python3.11 -m tests.vm.guest </dev/null
/bin/busybox sync
/bin/busybox reboot -f
"""
_WORKLOAD_FLAGS = ("-O2", "-g", "-static", "-pthread", "-fno-optimize-sibling-calls")
POINTERS = ("-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer")
NO_POINTERS = ("-fomit-frame-pointer",)


class NoWorkload(Exception):
    """There is no compiler for the guest's architecture."""


def initramfs(arch: str) -> bytes:
    """The whole of it: the part that never changes and the project as it is now."""
    return _base(arch) + _project(arch)


def _base(arch: str) -> bytes:
    kept = cache_directory() / f"guest-{arch}.cpio.gz"
    if kept.exists():
        return kept.read_bytes()
    with tempfile.TemporaryDirectory() as scratch:
        guest_tree(arch, Path(scratch))
        archive = io.BytesIO()
        writer = Writer(archive)
        for name in ("dev", "proc", "sys", "tmp", "run"):
            writer.directory(name)
        writer.character_device("dev/console", 5, 1)
        writer.tree(Path(scratch), skip=_SKIPPED)
        writer.end()
    partial = kept.with_suffix(f".{os.getpid()}")
    partial.write_bytes(gzip.compress(archive.getvalue(), 6))
    partial.replace(kept)
    return kept.read_bytes()


def _project(arch: str) -> bytes:
    archive = io.BytesIO()
    writer = Writer(archive)
    writer.file("init", _INIT, 0o755)
    writer.tree(REPOSITORY / "systemscope", f"{PROJECT}/systemscope", _CACHES)
    writer.tree(REPOSITORY / "tests" / "vm", f"{PROJECT}/tests/vm", _CACHES)
    for name in _SHARED:
        writer.file(f"{PROJECT}/{name}", (REPOSITORY / name).read_bytes())
    _add_docopt(writer)
    writer.file(f"{PROJECT}/workload", _workload(arch, "four.c", POINTERS), 0o755)
    handlers = _workload(arch, "unwinding/handlers.c", NO_POINTERS)
    writer.file(f"{PROJECT}/handlers", handlers, 0o755)
    writer.end()
    return gzip.compress(archive.getvalue(), 1)


def _add_docopt(writer: Writer) -> None:
    """The project's one requirement, as installed here."""
    found = importlib.util.find_spec("docopt")
    if found is None or found.origin is None:
        raise NoWorkload("docopt-ng is not installed here: the guest needs its files")
    origin = Path(found.origin)
    if origin.name == "__init__.py":
        writer.tree(origin.parent, f"{PROJECT}/docopt", _CACHES)
    else:
        writer.file(f"{PROJECT}/docopt.py", origin.read_bytes())


def _workload(arch: str, name: str, flags: tuple[str, ...]) -> bytes:
    """A workload of the end-to-end tests, linked statically."""
    compiler = next(filter(None, map(shutil.which, COMPILERS[arch])), None)
    if compiler is None:
        raise NoWorkload(f"no compiler for {arch}: install {COMPILERS[arch][0]}")
    source = REPOSITORY / "tests" / "workloads" / name
    with tempfile.TemporaryDirectory() as scratch:
        binary = Path(scratch) / "workload"
        command = [compiler, *_WORKLOAD_FLAGS, *flags, "-o", str(binary), str(source)]
        subprocess.run(command, check=True)
        return binary.read_bytes()
