"""Reads threads' /proc/TID/schedstat over and over until its standard input closes; then prints
what it read, one line each: tid, CLOCK_MONOTONIC ns, ns on CPU, ns on the run queue.

A process of its own at real-time priority: the readings come in time however busy the CPUs are.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time

PERIOD_SECONDS = 0.004


def main(tids: list[int]) -> None:
    with contextlib.suppress(PermissionError):  # then readings come late under load
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    files = {tid: os.open(f"/proc/{tid}/schedstat", os.O_RDONLY) for tid in tids}
    readings: list[tuple[int, int, bytes]] = []
    print("ready", flush=True)
    while not select.select([0], [], [], PERIOD_SECONDS)[0]:
        for tid, file in files.items():
            before = time.monotonic_ns()
            try:
                text = os.pread(file, 100, 0)
            except ProcessLookupError:
                continue
            readings.append((tid, (before + time.monotonic_ns()) // 2, text))
    for tid, at, text in readings:
        run, wait, _ = text.split()
        print(tid, at, int(run), int(wait))


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]])
