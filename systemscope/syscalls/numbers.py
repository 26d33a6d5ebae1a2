"""System call numbers of the two architectures SystemScope runs on.

Sources: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h (aarch64).
``tools/abi_check.py`` compares them with the installed headers.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache

from systemscope.errors import Unsupported


@dataclass(frozen=True)
class Numbers:
    """One architecture's numbers, named as the kernel names them."""

    bpf: int
    perf_event_open: int
    process_vm_readv: int
    mount: int
    umount2: int
    unshare: int
    setns: int
    membarrier: int
    pidfd_send_signal: int
    pidfd_open: int


X86_64 = Numbers(
    bpf=321,
    perf_event_open=298,
    process_vm_readv=310,
    mount=165,
    umount2=166,
    unshare=272,
    setns=308,
    membarrier=324,
    pidfd_send_signal=424,
    pidfd_open=434,
)
AARCH64 = Numbers(
    bpf=280,
    perf_event_open=241,
    process_vm_readv=270,
    mount=40,
    umount2=39,
    unshare=97,
    setns=268,
    membarrier=283,
    pidfd_send_signal=424,
    pidfd_open=434,
)

BY_MACHINE = {"x86_64": X86_64, "aarch64": AARCH64}


@lru_cache(maxsize=1)
def numbers() -> Numbers:
    """The numbers of the running machine; Unsupported on any other architecture."""
    machine = os.uname().machine
    try:
        return BY_MACHINE[machine]
    except KeyError:
        raise Unsupported(
            f"system calls of {machine}", remedy="SystemScope runs on x86_64 and aarch64."
        ) from None
