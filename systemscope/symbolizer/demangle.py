"""Names as their programmers wrote them: C++ and Rust symbols demangled, all others as they are."""

from __future__ import annotations

import re
from collections.abc import Iterable

from systemscope.symbolizer.rust_legacy import demangle_legacy
from systemscope.symbolizer.rust_v0 import demangle_v0
from systemscope.syscalls.cxxabi import CxxDemangler

#: Longer names are shown as they are. None of the 127,000 C++ names of Node.js and LLVM is.
_MAX_NAME = 4_096
#: A nested name, or code around static objects, which demanglers know by this form.
_CXX = re.compile(r"_(?:Z|GLOBAL__)[!-~]+")


class Demangler:
    """Demangles names in bulk. Close it after use, or use it as a context manager."""

    def __init__(self) -> None:
        self._cxx = CxxDemangler()

    @property
    def note(self) -> str:
        """Why C++ names are shown as they are, in one line; "" where they are not."""
        return self._cxx.problem

    def names(self, names: Iterable[str]) -> dict[str, str]:
        """{name: what it stands for} of those that are mangled. Raises nothing."""
        found: dict[str, str] = {}
        cxx: list[str] = []
        for name in dict.fromkeys(names):
            if not name.startswith("_") or len(name) > _MAX_NAME:
                continue
            rust = demangle_v0(name) or demangle_legacy(name)
            if rust:
                found[name] = rust
            elif _CXX.fullmatch(name):
                cxx.append(name)
        found.update(self._cxx.demangle(cxx))
        return found

    def close(self) -> None:
        """End the helper process."""
        self._cxx.close()

    def __enter__(self) -> Demangler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
