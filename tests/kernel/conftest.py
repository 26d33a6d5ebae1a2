"""Tests on a real kernel: skipped where there is none, and no descriptor left open by any."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from systemscope.errors import SystemScopeError
from systemscope.syscalls import bpf
from tests.e2e.support import Workload
from tests.workloads.build import NoCompiler, build


def _missing() -> str:
    """Why kernel tests cannot run here, or nothing."""
    if os.geteuid() != 0:
        return "needs root"
    try:
        bpf.map_create(2, 4, 8, 1).close()
    except SystemScopeError as error:
        return f"needs BPF: {error}"
    return ""


@pytest.fixture(scope="session")
def kernel_missing() -> str:
    """Asked once a session."""
    return _missing()


@pytest.fixture(autouse=True)
def on_a_kernel_and_nothing_left(kernel_missing: str) -> Iterator[None]:
    """Skip, or fail where SYSTEMSCOPE_REQUIRE_KERNEL=1 insists; then compare descriptors."""
    if kernel_missing:
        if os.environ.get("SYSTEMSCOPE_REQUIRE_KERNEL") == "1":
            pytest.fail(f"SYSTEMSCOPE_REQUIRE_KERNEL=1, but this test {kernel_missing}")
        pytest.skip(kernel_missing)
    gc.collect()  # what an earlier failure left behind is not this test's
    before = open_descriptors()
    yield
    if open_descriptors() != before:
        gc.collect()  # an expected exception's traceback may keep its frames alive
    left = {fd: what for fd, what in open_descriptors().items() if before.get(fd) != what}
    assert not left, f"descriptors left open: {left}"


def open_descriptors() -> dict[int, str]:
    """Number -> what it is open on, of this process."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the listing's own descriptor
    return found


@pytest.fixture(scope="session")
def binaries() -> Path:
    """The workloads, compiled."""
    try:
        return build()
    except NoCompiler as error:
        if os.environ.get("SYSTEMSCOPE_REQUIRE_KERNEL") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture
def four(binaries: Path) -> Iterator[Workload]:
    """The four-thread workload, running."""
    with Workload(binaries / "four") as running:
        yield running
