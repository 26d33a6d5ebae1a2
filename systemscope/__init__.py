"""SystemScope: where the wall-clock time of every Linux thread goes.

The public API is what this module names; it is loaded at first use, so importing it costs nothing.
See ``systemscope.api`` for an example.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from systemscope.version import VERSION

if TYPE_CHECKING:
    from systemscope.api import load, profile, write
    from systemscope.errors import (
        InputError,
        KernelError,
        OutputError,
        PermissionMissing,
        SystemScopeError,
        TargetError,
        Unsupported,
        UsageError,
    )
    from systemscope.model import Capture, Frame, FrameKind, Gap, Losses, Profile, Sample, State
    from systemscope.model import Thread as Thread

__version__ = VERSION

__all__ = [
    "Capture",
    "Frame",
    "FrameKind",
    "Gap",
    "InputError",
    "KernelError",
    "Losses",
    "OutputError",
    "PermissionMissing",
    "Profile",
    "Sample",
    "State",
    "SystemScopeError",
    "TargetError",
    "Thread",
    "Unsupported",
    "UsageError",
    "__version__",
    "load",
    "profile",
    "write",
]


_ERRORS = frozenset(name for name in __all__ if name.endswith("Error")) | {
    "PermissionMissing",
    "Unsupported",
}


def __getattr__(name: str) -> Any:
    """Load a public name at first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'systemscope' has no attribute '{name}'")
    from importlib import import_module

    if name in ("load", "profile", "write"):
        home = "systemscope.api"
    else:
        home = "systemscope.errors" if name in _ERRORS else "systemscope.model"
    found = globals()[name] = getattr(import_module(home), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
