"""Names that came from processes, made safe to print; and the words for states and gaps.

A thread may call itself anything, and so may a symbol: nothing of it may break a line-based format
or reach a terminal as an escape sequence.
"""

from __future__ import annotations

import re

from systemscope.model import MARK_NAMES, Frame, FrameKind, State, Thread, state_name

#: C0 and C1 controls, line and paragraph separators, bidirectional overrides, lone surrogates.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSAFE_OR_SEMICOLON = re.compile("(?:" + _UNSAFE.pattern + "|;)")
_SUFFIX = {FrameKind.KERNEL: "_[k]", FrameKind.JIT: "_[j]"}
_UNNAMED = "[unnamed]"
_ASTRAY = "[unknown]"


def safe_text(text: str) -> str:
    """``text`` with everything that could move a cursor or end a line replaced by ``_``."""
    return _UNSAFE.sub("_", text)


def shown_name(frame: Frame) -> str:
    """The frame's name, without the address where that lies in no executable mapping: a walk that
    went astray picks up other words each time, and stacks that differ in them alone are one."""
    return _ASTRAY if frame.name.startswith(_ASTRAY + "+0x") else frame.name


def is_mark(frame: Frame) -> bool:
    """Whether ``frame`` is no function, but says why a stack has no root."""
    return frame.kind is FrameKind.PSEUDO and frame.name in MARK_NAMES


def safe_frame(name: str) -> str:
    """A frame name for a format in which ``;`` separates frames."""
    return _UNSAFE_OR_SEMICOLON.sub("_", name) or _UNNAMED


def safe_comm(comm: str) -> str:
    """A thread name as the first word of a folded line: no spaces either."""
    return _UNSAFE_OR_SEMICOLON.sub("_", comm).replace(" ", "_") or _UNNAMED


def suffix(frame: Frame) -> str:
    """flamegraph.pl's mark of a frame's kind: ``_[k]``, ``_[j]``, ``_[i]`` or nothing."""
    return "_[i]" if frame.inlined else _SUFFIX.get(frame.kind, "")


def state_frame(state: State) -> str:
    """The pseudo-frame that tells a state: ``[running]``, ``[sleeping]``."""
    return f"[{state_name(state)}]"


def thread_label(thread: Thread) -> str:
    """``comm-pid/tid``: tells any two threads apart."""
    return f"{safe_comm(thread.comm)}-{thread.tgid}/{thread.tid}"
