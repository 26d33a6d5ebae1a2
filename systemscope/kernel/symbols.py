"""Looking for single kernel symbols without reading the whole table.

``/proc/kallsyms`` takes the kernel 100 ms and more to write out, so a search stops at its hit.
The table a profile needs to name addresses is the symbolizer's affair.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

FINISH_TASK_SWITCH = "finish_task_switch"
_KALLSYMS = "/proc/kallsyms"
_CHUNK = 1 << 18
_MAX_READS = 100_000  # a read gives a page or more
_LONGEST_LINE = 1024


def find_symbol(name: str, path: str = _KALLSYMS) -> str:
    """The kernel's spelling of function ``name``: itself, or with the suffixes a compiler adds to
    a copy it has changed (``.isra.0``, ``.constprop.0``, ``.part.1``, ``.llvm.123``).

    A ``.cold`` part is not the function. Modules are left out. Empty when there is none. The
    first match in address order is taken, which for a plain name is the only one.
    """
    pattern = re.compile(
        rb"^[0-9a-fA-F]+ [tTwW] ("
        + re.escape(name.encode())
        + rb"(?:\.(?:isra|constprop|part|llvm)\.[0-9]+)*)$",
        re.MULTILINE,
    )
    needle = b" " + name.encode()
    for block in _blocks(path):
        # The plain search is several times as fast as the pattern, and nearly always says no.
        if needle in block:
            match = pattern.search(block)
            if match is not None:
                return match[1].decode("ascii")
    return ""


def kallsyms_readable(path: str = _KALLSYMS) -> bool:
    """True when addresses are shown; kptr_restrict and missing CAP_SYSLOG make them zero."""
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(4096)
    except OSError:
        return False
    return any(line.split(b" ", 1)[0].strip(b"0") for line in head.split(b"\n")[:-1])


def _blocks(path: str) -> Iterator[bytes]:
    """The file in blocks of whole lines, each read when it is asked for."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rest = b""
        for _ in range(_MAX_READS):
            data = os.read(fd, _CHUNK)
            if not data:
                break
            whole, newline, tail = (rest + data).rpartition(b"\n")
            yield whole + newline
            rest = tail[:_LONGEST_LINE]
    except OSError:
        return
    finally:
        os.close(fd)
