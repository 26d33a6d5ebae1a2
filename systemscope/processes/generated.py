"""Files in which just-in-time compilers tell what code they made: /tmp/perf-PID.map.

The path is the process's own: its mount namespace, and the number it has in its PID namespace.
Anybody may make files in /tmp, so a map counts only if the process's user, or root, owns it.
Source: tools/perf/Documentation/jit-interface.txt.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Optional

from systemscope.model import Process
from systemscope.processes import proc
from systemscope.processes.files import regular_readable
from systemscope.processes.rooted import open_in_root


def open_perf_map(process: Process) -> Optional[int]:
    """A descriptor to read the process's map, which the caller closes; None if it has none.

    Of a process that ended, the map is found only if it shared our files."""
    owners = {0, process.uid, proc.effective_uid(process.tgid)}
    numbers = dict.fromkeys(n for n in (process.namespace_pid, process.tgid) if n > 0)
    for root in _roots(process):
        for number in numbers:
            found = open_in_root(root, f"/tmp/perf-{number}.map", follow=False)
            descriptor = _owned_by(found, owners) if found is not None else None
            if descriptor is not None:
                return descriptor
    return None


def _roots(process: Process) -> Iterator[int]:
    """Root directories to look in, as descriptors that are closed behind the caller's back."""
    paths = [f"/proc/{process.tgid}/root"] + (["/"] if process.host_files else [])
    for path in paths:
        with suppress(OSError):
            root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield root
            finally:
                os.close(root)


def _owned_by(found: int, owners: set[int]) -> Optional[int]:
    """A descriptor to read the regular file behind ``found``, which is closed, if it is owned by
    one of ``owners``."""
    try:
        return regular_readable(found) if os.fstat(found).st_uid in owners else None
    finally:
        os.close(found)
