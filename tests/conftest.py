"""Rules for every test marked ``kernel``: who may be skipped, and that nothing is left behind."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

#: What descriptors of BPF and perf objects link to in /proc/self/fd.
_KERNEL_OBJECTS = ("anon_inode:bpf", "anon_inode:[perf_event]", "anon_inode:btf")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip kernel tests without root, unless the caller insists on them."""
    if item.get_closest_marker("kernel") is None or os.geteuid() == 0:
        return
    if os.environ.get("SYSTEMSCOPE_REQUIRE_KERNEL") == "1":
        pytest.fail("SYSTEMSCOPE_REQUIRE_KERNEL=1, but this is not root")
    pytest.skip("needs root")


@pytest.fixture(autouse=True)
def no_kernel_object_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """A kernel test closes every BPF and perf descriptor it opened."""
    if request.node.get_closest_marker("kernel") is None:
        yield
        return
    before = _kernel_descriptors()
    yield
    if _kernel_descriptors() - before:
        gc.collect()  # a failed assertion's traceback keeps its frames alive
    left = _kernel_descriptors() - before
    assert not left, f"descriptors left open: {sorted(left)}"


def _kernel_descriptors() -> set[tuple[int, str]]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith(_KERNEL_OBJECTS):
            found.add((int(name), target))
    return found
