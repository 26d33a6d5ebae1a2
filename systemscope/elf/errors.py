"""The one error of this package."""

from __future__ import annotations

from systemscope.errors import SystemScopeError


class ElfError(SystemScopeError):
    """The bytes are no ELF file, one of a kind that is not supported, or a damaged one."""
