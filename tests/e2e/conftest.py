"""End-to-end tests need root, a kernel with BPF and a C compiler.

Without them they are skipped; with SYSTEMSCOPE_REQUIRE_KERNEL=1 they fail instead.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.support import LEGACY, NATIVE, kernel_objects, wait_for
from tests.workloads.build import NoCompiler, build

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory is a test of the kernel kind."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.kernel)


def _refuse(reason: str) -> None:
    if os.environ.get("SYSTEMSCOPE_REQUIRE_KERNEL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def _kernel() -> None:
    if os.geteuid() != 0:
        _refuse("needs root")
    try:
        kernel_objects()
    except OSError as error:
        _refuse(f"bpf() does not work here: {error}")


@pytest.fixture(scope="session")
def workloads(_kernel: None) -> Path:
    """The directory of the compiled workloads."""
    try:
        return build()
    except NoCompiler as error:
        _refuse(str(error))
        raise


@pytest.fixture(params=[NATIVE, LEGACY], ids=["native", "legacy"])
def path(request: pytest.FixtureRequest) -> str:
    """Both ways through the kernel: all it offers, and what Linux 4.9 offers."""
    return str(request.param)


@pytest.fixture(autouse=True)
def _nothing_left(_kernel: None) -> object:
    """No test leaves a program or a link in the kernel."""
    before = kernel_objects()
    yield
    left = [now - then for now, then in zip(kernel_objects(), before)]

    def clean() -> bool:  # others may use BPF too: what is there now must go, not all there is
        return not any(mine & now for mine, now in zip(left, kernel_objects()))

    assert wait_for(clean), "BPF programs or links were left in the kernel"
