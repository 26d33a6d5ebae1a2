"""Is it worth starting? Says in one sentence why not, before anything heavy is imported."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from systemscope.errors import PermissionMissing, Unsupported

if TYPE_CHECKING:
    from systemscope.kernel.privileges import Privileges


def check() -> None:
    """Raise Unsupported off Linux, PermissionMissing without the capabilities BPF needs."""
    if not sys.platform.startswith("linux"):
        raise Unsupported(f"BPF: this is {sys.platform}, not Linux", "4.9", "run it on Linux")
    from systemscope.kernel.privileges import privileges

    require(privileges())


def require(have: Privileges) -> None:
    """Raise PermissionMissing unless ``have`` holds CAP_SYS_ADMIN, or CAP_BPF and CAP_PERFMON."""
    from systemscope.kernel.privileges import Capability

    if have.has(Capability.SYS_ADMIN):
        return
    if have.has(Capability.BPF) and have.has(Capability.PERFMON):
        return
    if not have.initial_user_namespace:
        raise PermissionMissing(
            "profiling from within a user namespace", "run it outside of the container, as root"
        )
    raise PermissionMissing(
        "profiling with BPF",
        "run it with sudo, or grant CAP_BPF and CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8) to "
        "the Python that runs it",
    )
