"""Is it worth starting? Says in one sentence why not, before anything heavy is imported."""

from __future__ import annotations

import sys

from systemscope.errors import PermissionMissing, Unsupported

#: Bits of CapEff (include/uapi/linux/capability.h).
_SYS_ADMIN = 1 << 21
_PERFMON = 1 << 38
_BPF = 1 << 39


def check() -> None:
    """Raise Unsupported off Linux, PermissionMissing without the capabilities BPF needs."""
    if not sys.platform.startswith("linux"):
        raise Unsupported(f"BPF: this is {sys.platform}, not Linux", "4.9", "run it on Linux")
    have = effective_capabilities()
    if have is not None and not may_profile(have):
        raise PermissionMissing(
            "profiling with BPF",
            "run it with sudo, or grant CAP_BPF and CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8), "
            "as with setcap on the Python that runs it",
        )


def may_profile(capabilities: int) -> bool:
    """True for CAP_SYS_ADMIN, or CAP_BPF with CAP_PERFMON."""
    both = _BPF | _PERFMON
    return bool(capabilities & _SYS_ADMIN) or capabilities & both == both


def effective_capabilities(path: str = "/proc/self/status") -> int | None:
    """The CapEff mask of this process, None where /proc does not tell."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("CapEff:"):
                    return int(line.split()[1], 16)
    except (OSError, ValueError, IndexError):
        return None
    return None
