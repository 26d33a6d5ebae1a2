"""How the programs of a plan go over the frames of a user stack, in words."""

from __future__ import annotations

from typing import Optional

from systemscope.programs.config import Loop, UnwindConfig

_MEANING = {
    Loop.CALLBACK: "the kernel's own loop, quick to load",
    Loop.BOUNDED: "the verifier follows every turn: slower to load "
    "(bpf_loop, Linux 5.17, is missing)",
    Loop.TAIL_CALLS: "a chain of programs, some frames each: slower "
    "(a loop, Linux 5.3, or what it would need is missing)",
}


def unwind_method(unwind: Optional[UnwindConfig]) -> str:
    """What is done and, in one line, what a better way would need. Why nothing is done by tables
    is told by the plan's notes."""
    if unwind is None:
        return "by frame pointers only"
    return f"by unwind tables ({unwind.loop.value}): {_MEANING[unwind.loop]}"
