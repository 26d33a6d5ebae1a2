"""The profiler on other kernels, in QEMU: minutes a kernel, so only when asked for.

SYSTEMSCOPE_VM=1 runs every kernel, SYSTEMSCOPE_VM=6.1-amd64,6.12-amd64 these.
"""

from __future__ import annotations

import os

import pytest

from tools.vm.kernels import KERNELS, Kernel
from tools.vm.report import Result
from tools.vm.run import TIMEOUT_SECONDS, try_kernel

_ASKED = os.environ.get("SYSTEMSCOPE_VM", "")


@pytest.mark.timeout(TIMEOUT_SECONDS + 600)  # downloads come on top
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_profiles_right_on_another_kernel(kernel: Kernel) -> None:
    """Every case is right inside the guest; what cannot be had is skipped, and says so."""
    if not _ASKED:
        pytest.skip("boots other kernels in QEMU for minutes: set SYSTEMSCOPE_VM=1")
    if _ASKED != "1" and kernel.name not in _ASKED.split(","):
        pytest.skip(f"SYSTEMSCOPE_VM names {_ASKED}")
    outcome = try_kernel(kernel)
    if outcome.result is Result.NOT_OBTAINABLE:
        pytest.skip(f"not obtainable: {outcome.reason}")
    assert outcome.result is Result.PASSED, outcome.line()
