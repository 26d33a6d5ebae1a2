"""How programs loop over the frames of a user stack: the best way a kernel has."""

from __future__ import annotations

from systemscope.kernel.capabilities import Capabilities

BPF_LOOP, BOUNDED_LOOP, TAIL_CALLS = "bpf_loop", "bounded loop", "tail calls"


def unwind_method(capabilities: Capabilities) -> tuple[str, str]:
    """(method, what it means in one line and what a better one would need).

    The methods are those of ``UnwindReport.method``.
    """
    if capabilities.bpf_loop:
        return BPF_LOOP, "the kernel's own loop, quick to load"
    if capabilities.bounded_loops:
        return (
            BOUNDED_LOOP,
            "the verifier follows every turn: slower to load (bpf_loop, Linux 5.17, is missing)",
        )
    return (
        TAIL_CALLS,
        "a chain of programs, some frames each: slower, and deep stacks may be cut "
        "(bounded loops, Linux 5.3, are missing)",
    )
