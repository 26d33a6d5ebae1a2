"""Whether and how user stacks are unwound by tables on this kernel."""

from __future__ import annotations

import resource
from typing import Optional

from systemscope.collectors.request import Request, Unwind
from systemscope.errors import Unsupported
from systemscope.kernel.capabilities import Capabilities
from systemscope.programs.config import KernelLayout, Loop, Registers, UnwindConfig
from systemscope.programs.records import CHUNK_PAGES

_PAGE_BYTES = 4096
#: Without maps of maps the pool is taken whole, as the window begins.
_WHOLE_BYTES = 16 << 20
_THREAD_BYTES = 16384


def choose_unwinding(
    capabilities: Capabilities,
    request: Request,
    layout: Optional[KernelLayout],
    hashed: bool,
    notes: list[str],
) -> Optional[UnwindConfig]:
    """The unwinder's configuration, or None where user stacks are walked by frame pointers:
    because that was asked for, or for want of what a note then tells. Raises Unsupported when
    tables are insisted on."""
    if request.unwind is Unwind.FRAME_POINTERS or not request.user_stacks:
        return None
    lacking = _lacking(capabilities, layout, hashed)
    if lacking and not lacks_for_chain(capabilities):
        return _chained(capabilities, request)
    if lacking:
        lacking = lacks_for_chain(capabilities)
        if request.unwind is Unwind.DWARF:
            raise Unsupported(f"{lacking}, which unwinding by tables needs", "5.4")
        notes.append(f"user stacks are walked by frame pointers only: {lacking} is missing")
        return None
    chunks = max(1, request.unwind_bytes // (CHUNK_PAGES * _PAGE_BYTES))
    return UnwindConfig(
        loop=Loop.CALLBACK if capabilities.bpf_loop else Loop.BOUNDED,
        registers=Registers.HELPER if capabilities.task_pt_regs else Registers.TASK_STACK,
        thread_size=_thread_size(capabilities.arch),
        arch=capabilities.arch,
        read_user=capabilities.probe_read_user,
        chunks=chunks if capabilities.map_in_map else 0,
        pages=min(request.unwind_bytes, _WHOLE_BYTES) // _PAGE_BYTES,
    )


def _chained(capabilities: Capabilities, request: Request) -> UnwindConfig:
    """By tail calls. The pool is one array: with maps of maps fewer steps would fit a program."""
    return UnwindConfig(
        loop=Loop.TAIL_CALLS,
        registers=Registers.STACK_POINTER,
        thread_size=_thread_size(capabilities.arch),
        arch=capabilities.arch,
        read_user=capabilities.probe_read_user,
        chunks=0,
        pages=min(request.unwind_bytes, _WHOLE_BYTES) // _PAGE_BYTES,
    )


def lacks_for_chain(capabilities: Capabilities) -> str:
    """What a chain of programs cannot do without, or nothing. It finds registers where x86-64
    keeps them on every kernel; aarch64's lie elsewhere in each (struct pt_regs grew in 4.14 and
    5.0), and only BTF (5.4) would tell."""
    if not capabilities.tail_calls:
        return "a loop in BPF programs, and calls from one to another,"
    if capabilities.arch != "x86_64":
        return "a description of saved registers (BTF)"
    if not capabilities.probe_read_kernel and capabilities.lockdown == "confidentiality":
        return "a way to the saved registers"
    return ""


def _lacking(capabilities: Capabilities, layout: Optional[KernelLayout], hashed: bool) -> str:
    """What unwinding cannot do without, or nothing."""
    if not hashed:
        return "room for stacks of our own (bpf_get_stack)"
    if not (capabilities.bpf_loop or (capabilities.bounded_loops and capabilities.bpf_calls)):
        return "a loop in BPF programs"
    if layout is None or min(layout.regs_ip, layout.regs_sp, layout.regs_fp) < 0:
        return "a description of saved registers (BTF)"
    readable = capabilities.probe_read_kernel or capabilities.lockdown != "confidentiality"
    if not capabilities.task_pt_regs and (layout.task_stack < 0 or not readable):
        return "a way to the saved registers"
    if not capabilities.probe_read_user and capabilities.lockdown == "confidentiality":
        return "a way to read user memory"
    return ""


def _thread_size(arch: str) -> int:
    """Bytes of a kernel stack (THREAD_SIZE): a whole page at least, on aarch64."""
    return max(_THREAD_BYTES, resource.getpagesize()) if arch == "aarch64" else _THREAD_BYTES
