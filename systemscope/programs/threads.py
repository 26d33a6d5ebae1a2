"""When a thread's present state began."""

from __future__ import annotations

from systemscope.bpfasm.values import Pointer, Value
from systemscope.programs.common import Ground


def since_of(g: Ground, record: Pointer, start: Value) -> Value:
    """``record.last_ns``, or the window's start before the thread's first event."""
    b = g.b
    since = b.let(record.last_ns)
    with b.if_(since == 0):
        b.set(since, start)
    return since
