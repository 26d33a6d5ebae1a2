"""Waits still open as the window closes: where those threads sleep."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from systemscope.collectors.readout import ThreadRow
from systemscope.collectors.seed import (
    ThreadSnapshot,
    every_tid,
    from_iterator,
    from_proc,
    with_missing,
)
from systemscope.collectors.session import Session
from systemscope.model.states import State
from systemscope.processes import proc

#: /proc/TID/stack takes about 150 µs: at most this many are read.
MAX_PROC_STACKS = 20_000


def open_waits(
    session: Session, rows: Iterable[ThreadRow], known: Iterable[int]
) -> dict[int, ThreadSnapshot]:
    """Every thread now, those off the CPU with their stacks.

    ``rows`` are the records just before (for the count of switches that says whether a wait is
    still the same one), ``known`` the threads seeded.
    """
    config = session.plan.config
    if session.has("open_waits"):
        found = from_iterator(session.iterate("open_waits"))
        return with_missing(found, known)
    switches = {row.tid: row.switches for row in rows}
    if session.has("task_seed"):
        found = from_iterator(session.iterate("task_seed"))
    else:
        found = from_proc(every_tid() if config.every_thread else {*switches, *known})
    if not config.offcpu:
        return found
    for number, (tid, snapshot) in enumerate(found.items()):
        if snapshot.state in (State.DEAD, State.RUNNABLE) or number >= MAX_PROC_STACKS:
            continue
        found[tid] = _with_stack(snapshot, switches.get(tid, 0), config.kernel_stacks)
    return found


def _with_stack(snapshot: ThreadSnapshot, switches: int, kernel: bool) -> ThreadSnapshot:
    names = proc.kernel_stack(snapshot.tid) if kernel else ()
    registers = None if snapshot.kernel_thread else proc.syscall_registers(snapshot.tid)
    return dataclasses.replace(
        snapshot,
        switches=switches,
        kernel_names=names,
        user_ip=registers[1] if registers else 0,
    )
