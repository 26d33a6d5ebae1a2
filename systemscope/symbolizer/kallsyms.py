"""/proc/kallsyms: the kernel's own symbols, its modules', and those of loaded BPF programs.

Format: ``kernel/kallsyms.c``, s_show(): 16 hex digits, the type letter of nm, the name, and for
all but the core kernel a tab and the module in brackets. Symbols carry no size: each ends where
the next begins.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Optional

#: nm's letters of code. Data, read-only data and the __ksymtab entries have others.
_CODE = frozenset({b"t", b"T", b"w", b"W"})
_MAX_MODULES = 65_536
_BLOCK_BYTES = 1 << 19

#: Linker-script marks (include/asm-generic/vmlinux.lds.h) that stand where code ends: what lies
#: behind them is data until the next symbol.
_ENDS = frozenset({"_etext", "_einittext", "_end", "__end_rodata", "_eexittext", "__bss_stop"})

#: How far a symbol reaches that no other follows within its module: a BPF program, a trampoline.
_LAST_SYMBOL_BYTES = 0x10000


HIDDEN = "the kernel hides its addresses (kptr_restrict, or no CAP_SYSLOG)"
MISSING = "this kernel has no /proc/kallsyms"
EMPTY = "/proc/kallsyms is empty here, as in a container that hides it"


@dataclass(frozen=True)
class KernelSymbol:
    """A kernel function. ``module`` is "[kernel]", or as kallsyms shows it: "[ext4]", "[bpf]"."""

    name: str
    start: int
    module: str


class KernelSymbols:
    """The code symbols of the running kernel. ``hidden`` says the kernel showed no addresses
    (kptr_restrict, or no CAP_SYSLOG); ``missing`` that there is no such file to read; ``problem``
    is why there are no names, "" where there are some."""

    def __init__(
        self, data: bytes, modules: bytes = b"", *, missing: bool = False, problem: str = ""
    ) -> None:
        """Parse the contents of /proc/kallsyms and /proc/modules. Never raises."""
        starts, offsets, texts = array("Q"), array("Q"), []
        length = 0
        for block in _blocks(data):
            # Block by block, because a table takes many times its size as separate lines.
            lines = [line for line in block.split(b"\n") if line[17:18] in _CODE]
            if not lines:
                continue
            starts.extend(_addresses(lines))
            names = [line[19:] for line in lines]
            offsets.extend(accumulate(map(_with_newline, names[:-1]), initial=length))
            texts.append(b"\n".join(names) + b"\n")
            length += len(texts[-1])
        order = sorted(range(len(starts)), key=starts.__getitem__)
        self._starts = array("Q", [starts[i] for i in order])
        self._offsets = array("Q", [offsets[i] for i in order])
        self._text = b"".join(texts)
        self._regions = _module_regions(modules)
        self.missing = missing
        self.hidden = bool(self._starts) and self._starts[-1] == 0
        if missing:
            self.problem = problem or MISSING
        elif self.hidden:
            self.problem = HIDDEN
        else:
            self.problem = "" if self._starts else EMPTY

    @classmethod
    def read(cls, path: str = "/proc/kallsyms", modules: str = "/proc/modules") -> KernelSymbols:
        """The running kernel's symbols; an empty table when the file cannot be read."""
        try:
            with open(path, "rb", buffering=0) as file:
                data = file.readall()
        except FileNotFoundError:
            return cls(b"", missing=True)
        except OSError as error:
            return cls(b"", missing=True, problem=f"/proc/kallsyms: {error.strerror}")
        try:
            with open(modules, "rb", buffering=0) as file:
                regions = file.readall()
        except OSError:
            regions = b""
        return cls(data, regions)

    def __len__(self) -> int:
        return len(self._starts)

    def find(self, address: int) -> Optional[KernelSymbol]:
        """The function at ``address``, or None when it lies in no code we know of.

        Of symbols with one address the first listed wins, as in the kernel's own traces:
        scripts/kallsyms.c puts them in order of preference.
        """
        if self.hidden:
            return None
        last = bisect_right(self._starts, address) - 1
        if last < 0:
            return None
        start = self._starts[last]
        name, module = self._split(bisect_left(self._starts, start))
        if name in _ENDS or address >= self._limit(last, start, module):
            return None
        return KernelSymbol(name, start, module)

    def end_of(self, address: int) -> int:
        """Where the function that :meth:`find` gives for ``address`` ends at the latest."""
        last = bisect_right(self._starts, address) - 1
        _, module = self._split(bisect_left(self._starts, self._starts[last]))
        limit = self._limit(last, self._starts[last], module)
        following = self._starts[last + 1] if last + 1 < len(self._starts) else limit
        return min(limit, following)

    def _split(self, index: int) -> tuple[str, str]:
        begin = self._offsets[index]
        text = self._text[begin : self._text.index(b"\n", begin)]
        name, _, module = text.decode("ascii", "replace").partition("\t")
        return name, module or "[kernel]"

    def _limit(self, last: int, start: int, module: str) -> int:
        """Where the symbol ends at the latest; the next symbol's start is known to lie behind."""
        if module == "[kernel]":
            return start + _LAST_SYMBOL_BYTES if last + 1 == len(self._starts) else 1 << 64
        base, size = self._regions.get(module, (0, 0))
        if base <= start < base + size:
            return base + size
        return start + _LAST_SYMBOL_BYTES


def _blocks(data: bytes) -> Iterator[bytes]:
    """``data`` in pieces of whole lines."""
    begin = 0
    while begin < len(data):
        end = data.find(b"\n", begin + _BLOCK_BYTES)
        end = len(data) if end < 0 else end
        yield data[begin:end]
        begin = end + 1


def _with_newline(name: bytes) -> int:
    return len(name) + 1


def _addresses(lines: list[bytes]) -> list[int]:
    try:
        return [int(line[:16], 16) for line in lines]
    except ValueError:
        # Not a kernel's table. Keep the numbering, drop the sense: address 0 is never asked for.
        return [_number(line[:16]) for line in lines]


def _number(text: bytes) -> int:
    try:
        return max(int(text, 16), 0)
    except ValueError:
        return 0


def _module_regions(data: bytes) -> dict[str, tuple[int, int]]:
    """{"[name]": (base, size)} from /proc/modules (kernel/module/procfs.c, m_show())."""
    regions = {}
    for line in data.split(b"\n")[:_MAX_MODULES]:
        fields = line.split()
        if len(fields) >= 6 and fields[1].isdigit():
            name = fields[0].decode("ascii", "replace")
            regions[f"[{name}]"] = (_number(fields[5]), int(fields[1][:18]))
    return regions
