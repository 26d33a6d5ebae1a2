"""A small program with six threads whose days differ: the demo's target.

Prints its process id once all threads run, and ends when its standard input closes. Threads are
named as the kernel knows them, so the names show in any tool.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import zlib
from typing import Callable


def main() -> None:
    """Start the threads, then wait for the end of standard input."""
    lock = threading.Lock()
    reading, writing = os.pipe()
    jobs: tuple[tuple[str, Callable[[], None]], ...] = (
        ("burn-cpu", burn),
        ("half-asleep", half_asleep),
        ("holds-lock", lambda: hold(lock)),
        ("wants-lock", lambda: want(lock)),
        ("reads-pipe", lambda: read(reading)),
        ("feeds-pipe", lambda: feed(writing)),
    )
    started = threading.Barrier(len(jobs) + 1)
    for name, job in jobs:
        threading.Thread(target=named, args=(name, started, job), daemon=True).start()
    started.wait()
    print(os.getpid(), flush=True)
    sys.stdin.read()


def named(name: str, started: threading.Barrier, job: Callable[[], None]) -> None:
    """Give this thread its name in the kernel, then let it work."""
    with open(f"/proc/self/task/{threading.get_native_id()}/comm", "w", encoding="ascii") as file:
        file.write(name)
    started.wait()
    job()


def burn() -> None:
    """Nothing but CPU, outside of the interpreter's lock."""
    block = bytes(1 << 26)
    while True:
        zlib.crc32(block)


def half_asleep() -> None:
    """Ten milliseconds of work, ten of sleep."""
    while True:
        end = time.monotonic() + 0.01
        while time.monotonic() < end:
            sum(number * number for number in range(1000))
        time.sleep(0.01)


def hold(lock: threading.Lock) -> None:
    """Hold the lock nearly always, asleep."""
    while True:
        with lock:
            time.sleep(0.05)
        time.sleep(0.0001)


def want(lock: threading.Lock) -> None:
    """Wait for the lock nearly always."""
    while True:
        with lock:
            pass
        time.sleep(0.001)


def read(descriptor: int) -> None:
    """Wait for each byte."""
    while os.read(descriptor, 1):
        pass


def feed(descriptor: int) -> None:
    """A byte a hundred times a second."""
    while True:
        os.write(descriptor, b"x")
        time.sleep(0.01)


if __name__ == "__main__":
    main()
