"""The vdso: an ELF image the kernel maps into every process, in no file.

All 64-bit processes of one kernel see the same image, so our own memory has it.
"""

from __future__ import annotations

import re
from typing import Optional

_MAX_VDSO = 1 << 20
_VDSO = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) r\S+ .* \[vdso\]$", re.MULTILINE)


def read_vdso() -> Optional[bytes]:
    """The bytes of this process's vdso, or None if it has none."""
    try:
        with open("/proc/self/maps", "rb", buffering=0) as file:
            match = _VDSO.search(file.readall())
        if match is None:
            return None
        start, end = (int(text, 16) for text in match.groups())
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            memory.seek(start)
            return memory.read(min(end - start, _MAX_VDSO))
    except (OSError, OverflowError):
        return None
