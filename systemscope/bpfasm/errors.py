"""Errors of the assembler: each names the Python line that asked for the impossible."""

from __future__ import annotations

from systemscope.errors import SystemScopeError


class AssemblyError(SystemScopeError):
    """A program cannot be assembled. ``file`` and ``line`` are the Python source's."""

    def __init__(self, problem: str, file: str = "", line: int = 0) -> None:
        where = f"{file}:{line}: " if file else ""
        super().__init__(f"{where}{problem}", "this is a defect of SystemScope: please report it")
        self.problem = problem
        self.file = file
        self.line = line
