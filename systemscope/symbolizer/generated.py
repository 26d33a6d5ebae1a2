"""Names of code in no file, by what just-in-time compilers say of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Optional, Union

from systemscope.errors import SystemScopeError
from systemscope.model import Frame, FrameKind, Process
from systemscope.processes.generated import open_perf_map
from systemscope.symbolizer.jitdump import MARKER, JitDump
from systemscope.symbolizer.options import FileOpener
from systemscope.symbolizer.perf_map import PerfMap

_MODULE = "[jit]"
_MAX_DUMPS = 4

_Teller = Union[PerfMap, JitDump]


class GeneratedCode:
    """A CodeNamer by perf maps and jitdumps, each opened when the first address of its process is
    asked for, and read on when it has grown. Owns descriptors: close it."""

    def __init__(self, processes: Mapping[int, Process], opener: FileOpener) -> None:
        self._processes = processes
        self._opener = opener
        self._tellers: dict[int, list[_Teller]] = {}
        self._owned: list[int] = []

    def __enter__(self) -> GeneratedCode:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        while self._owned:
            os.close(self._owned.pop())
        self._tellers.clear()

    def name(self, tgid: int, address: int) -> tuple[Frame, ...]:
        """The frame at ``address`` of process ``tgid``, () when nothing is said of it."""
        tellers = self._tellers.get(tgid)
        if tellers is None:
            tellers = self._tellers[tgid] = list(self._open(tgid))
        found = self._find(tellers, address)
        if found is None:
            grown = [teller.grow() for teller in tellers]  # all of them, not up to the first
            found = self._find(tellers, address) if any(grown) else None
        return () if found is None else (found,)

    def _find(self, tellers: list[_Teller], address: int) -> Optional[Frame]:
        for teller in tellers:
            code = teller.table.find(address)
            if code is not None:
                offset = address - code.start
                return Frame(code.name, FrameKind.JIT, address, _MODULE, offset=offset)
        return None

    def _open(self, tgid: int) -> Iterator[_Teller]:
        process = self._processes.get(tgid)
        if process is None:
            return
        descriptor = open_perf_map(process)
        if descriptor is not None:
            self._owned.append(descriptor)
            yield PerfMap(descriptor)
        markers = {
            mapping.file: mapping
            for image in process.images
            for mapping in (*image.mappings, *image.replaced)
            if MARKER.search(mapping.path)
        }
        for mapping in list(markers.values())[:_MAX_DUMPS]:
            try:
                opened = self._opener(tgid, mapping)
            except (OSError, SystemScopeError):
                continue
            if opened is not None:
                descriptor = opened if isinstance(opened, int) else os.dup(opened.fileno())
                if not isinstance(opened, int):
                    opened.close()
                self._owned.append(descriptor)
                yield JitDump(descriptor)
