"""One kernel from its package to its outcome."""

from __future__ import annotations

import subprocess
from typing import Any

from tools.vm.initramfs import NoWorkload, initramfs
from tools.vm.kernels import Kernel
from tools.vm.machine import Boot, NoEmulator, boot
from tools.vm.packages import NotObtainable, kernel_image
from tools.vm.report import Outcome, Result

TIMEOUT_SECONDS = 420.0


def try_kernel(kernel: Kernel, timeout: float = TIMEOUT_SECONDS) -> Outcome:
    """Fetch, boot and judge one kernel. Never raises for what a kernel or the network does."""
    try:
        image, release = kernel_image(kernel)
        archive = initramfs(kernel.arch)
        booted = boot(kernel.arch, image, archive, timeout, kernel.append)
    except (NotObtainable, NoEmulator, NoWorkload, subprocess.CalledProcessError) as error:
        return Outcome(kernel.name, "", Result.NOT_OBTAINABLE, reason=str(error))
    return _judge(kernel, release, booted)


def _judge(kernel: Kernel, release: str, booted: Boot) -> Outcome:
    outcome = Outcome(
        kernel.name,
        release,
        Result.PASSED,
        seconds=booted.seconds,
        cases=[message for message in booted.messages if "case" in message],
        console="\n".join(booted.console),
    )
    begun = any("booted" in message for message in booted.messages)
    ended = any("end" in message for message in booted.messages)
    if not begun:
        outcome.result, outcome.reason = Result.BOOT_FAILED, booted.tail(5) or "nothing was said"
    elif not ended:
        how = "took too long" if booted.timed_out else "stopped half-way"
        outcome.result, outcome.reason = Result.TEST_FAILED, f"the guest {how}: {booted.tail(5)}"
    else:
        for case in outcome.cases:
            _check_walk(kernel, case)
        if any(case["problems"] for case in outcome.cases):
            outcome.result = Result.TEST_FAILED
            outcome.reason = "see below"
    return outcome


def _check_walk(kernel: Kernel, case: dict[str, Any]) -> None:
    """The profiler must not have settled for less than this kernel offers."""
    if case["case"] != "native" or case["problems"]:
        return
    if "impossible" in case:
        case["problems"].append(f"refused: {case['impossible']}")
    elif case["walk"] != kernel.walk:
        case["problems"].append(f"stacks are taken by {case['walk']}, not {kernel.walk}")
