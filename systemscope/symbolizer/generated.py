"""Names of code in no file, by what just-in-time compilers say of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Optional, Union

from systemscope.errors import SystemScopeError
from systemscope.model import Frame, FrameKind, GeneratedSymbol, HostFacts, Process
from systemscope.processes.generated import open_perf_map
from systemscope.symbolizer.code_table import Code, CodeTable
from systemscope.symbolizer.jitdump import MARKER, JitDump
from systemscope.symbolizer.options import FileOpener
from systemscope.symbolizer.perf_map import PerfMap

_MODULE = "[jit]"
_MAX_DUMPS = 4

_Teller = Union[PerfMap, JitDump]


class RecordedCode:
    """A CodeNamer by what a capture tells of the processes of another machine."""

    def __init__(self, facts: HostFacts) -> None:
        self._tables: dict[int, CodeTable] = {}
        # Of several at one address the smallest: what was seen of it lies within the others.
        for one in sorted(facts.generated, key=_size, reverse=True):
            table = self._tables.setdefault(one.tgid, CodeTable())
            table.extend([one.start], [_size(one)], [one.name.encode("utf-8", "replace")])

    def name(self, tgid: int, address: int) -> tuple[Frame, ...]:
        """As GeneratedCode.name."""
        table = self._tables.get(tgid)
        return _frames(table.find(address) if table is not None else None, address)


def _size(symbol: GeneratedSymbol) -> int:
    return symbol.end - symbol.start


def _frames(code: Optional[Code], address: int) -> tuple[Frame, ...]:
    if code is None:
        return ()
    return (Frame(code.name, FrameKind.JIT, address, _MODULE, offset=address - code.start),)


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
        return _frames(self.find(tgid, address), address)

    def find(self, tgid: int, address: int) -> Optional[Code]:
        """The code there, None when nothing is said of it."""
        tellers = self._tellers.get(tgid)
        if tellers is None:
            tellers = self._tellers[tgid] = list(self._open(tgid))
        found = self._find(tellers, address)
        if found is None:
            grown = [teller.grow() for teller in tellers]  # all of them, not up to the first
            found = self._find(tellers, address) if any(grown) else None
        return found

    def _find(self, tellers: list[_Teller], address: int) -> Optional[Code]:
        for teller in tellers:
            code = teller.table.find(address)
            if code is not None:
                return code
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
