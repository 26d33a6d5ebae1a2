"""Runs inside gdb: stops a process over and over and tells the stacks of its threads.

Prints one line of JSON per stop and thread: ``[[pc, name, is a signal's frame], ...]``, leaf first.
Frames of inlined functions, and those that gdb makes up for functions that were left by a jump, are
left out: they are no frames of the machine's.
"""

from __future__ import annotations

import json
import random
import time

import gdb  # type: ignore[import-not-found]

_PREPARATION = (
    "set pagination off",
    "set confirm off",
    "set debuginfod enabled off",
    "set auto-load off",
    "set backtrace past-main on",
    "set backtrace past-entry on",
    "set detach-on-fork on",
)


def _frames() -> list[list[object]]:
    rows: list[list[object]] = []
    frame = gdb.newest_frame()
    while frame is not None and frame.is_valid():
        if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
            rows.append([frame.pc(), frame.name() or "", frame.type() == gdb.SIGTRAMP_FRAME])
        try:
            frame = frame.older()
        except gdb.error:  # memory that cannot be read
            break
    return rows


def _stop_once(pid: int) -> None:
    gdb.execute(f"attach {pid}", to_string=True)
    try:
        for thread in gdb.selected_inferior().threads():
            thread.switch()
            print("stack " + json.dumps(_frames()), flush=True)
    finally:
        gdb.execute("detach", to_string=True)


def walk(pid: int, stops: int, pause: float) -> None:
    """``stops`` times, ``pause`` seconds apart on average."""
    for command in _PREPARATION:
        gdb.execute(command, to_string=True)
    for _ in range(stops):
        try:
            _stop_once(pid)
        except gdb.error as error:  # gone, or between two programs
            print(f"refused {error}", flush=True)
        time.sleep(random.uniform(0, 2 * pause))
