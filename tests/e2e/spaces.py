"""A process's address space, read by the tests themselves: /proc/PID/maps and pyelftools."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Optional

#: What memory that is no file's and stubs of procedure linkage tables are called.
ANONYMOUS, STUB = "[anon]", "[plt]"
#: mov $__NR_rt_sigreturn, %rax; syscall: what a signal handler of x86-64 returns to.
_SIGRETURN = bytes.fromhex("48c7c00f0000000f05")


@dataclass(frozen=True)
class Region:
    """One executable mapping."""

    start: int
    end: int
    offset: int
    path: str


@dataclass(frozen=True)
class Symbols:
    """The functions of a file: what each loaded segment shows, and who is where in it."""

    segments: tuple[tuple[int, int, int], ...]  # (file offset, size, address)
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    names: tuple[str, ...]

    def name(self, offset: int) -> str:
        """The function at ``offset`` of the file, "" for none. Parts that the compiler split off
        ("f.cold") are their function."""
        for begin, size, address in self.segments:
            if begin <= offset < begin + size:
                at = address + offset - begin
                i = bisect_right(self.starts, at) - 1
                if i >= 0 and at < self.ends[i]:
                    return self.names[i].split(".")[0]
        return ""


@cache
def symbols(path: str) -> Symbols:
    """Those of ``path``, of its unstripped twin ``path.full`` where there is one."""
    from elftools.elf.elffile import ELFFile

    full = path + ".full"
    with open(full if os.path.exists(full) else path, "rb") as stream:
        elf = ELFFile(stream)
        loaded = [one for one in elf.iter_segments() if one["p_type"] == "PT_LOAD"]
        found = {}
        for section in elf.iter_sections():
            if section.name.startswith(".plt"):
                found[section["sh_addr"]] = (section["sh_size"], STUB)
        table = elf.get_section_by_name(".symtab")
        for symbol in table.iter_symbols() if table is not None else ():
            if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_size"]:
                found[symbol["st_value"]] = (symbol["st_size"], symbol.name)
        segments = tuple((one["p_offset"], one["p_filesz"], one["p_vaddr"]) for one in loaded)
    starts = tuple(sorted(found))
    ends = tuple(start + found[start][0] for start in starts)
    return Symbols(segments, starts, ends, tuple(found[start][1] for start in starts))


@dataclass
class Space:
    """The executable mappings of one process, as far as they have been seen; its memory too."""

    pid: int
    regions: dict[tuple[int, int], Region] = field(default_factory=dict)
    _known: dict[tuple[str, int], bool] = field(default_factory=dict)

    @classmethod
    def of(cls, pid: int) -> Space:
        """As it is now. Raises FileNotFoundError when the process is gone."""
        space = cls(pid)
        space.look()
        return space

    def look(self) -> None:
        """Take in what is mapped now; what went in the meantime is remembered."""
        for row in Path(f"/proc/{self.pid}/maps").read_text().splitlines():
            words = row.split(maxsplit=5)
            if "x" in words[1]:
                start, end = (int(word, 16) for word in words[0].split("-"))
                path = words[5] if len(words) > 5 else ""
                self.regions[start, end] = Region(start, end, int(words[2], 16), path)

    def at(self, address: int) -> Optional[Region]:
        """The mapping that ``address`` lies in."""
        return next((r for r in self.regions.values() if r.start <= address < r.end), None)

    def name(self, address: int, directory: Path) -> str:
        """The function at ``address`` if it is one of the files in ``directory``, [anon] in memory
        that is no file's, else ""."""
        region = self.at(address)
        if region is None:
            return ""
        if not region.path:
            return ANONYMOUS
        if Path(region.path).parent != directory:
            return ""
        return symbols(region.path).name(address - region.start + region.offset)

    def place(self, address: int) -> str:
        """What maps ``address``: a stand-in for the name of a function that moves."""
        region = self.at(address)
        return region.path if region is not None else "?"

    def read(self, address: int, size: int) -> bytes:
        """Code, from its file or from memory; b"" where it cannot be read."""
        region = self.at(address)
        try:
            if region is not None and os.path.isfile(region.path):
                with open(region.path, "rb", buffering=0) as file:
                    return os.pread(file.fileno(), size, address - region.start + region.offset)
            with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
                memory.seek(address)
                return memory.read(size) or b""
        except OSError:
            return b""

    def signal_return(self, address: int) -> bool:
        """Whether ``address`` is where a signal handler returns to, stored one too high."""
        key = ("signal return", address)
        if key not in self._known:
            self._known[key] = self.read(address - 1, len(_SIGRETURN)) == _SIGRETURN
        return self._known[key]

    def after_call(self, address: int) -> bool:
        """Whether the instruction before ``address`` is a call."""
        key = ("after call", address)
        if key not in self._known:
            self._known[key] = self._after_call(address)
        return self._known[key]

    def _after_call(self, address: int) -> bool:
        from capstone import CS_ARCH_X86, CS_MODE_64, Cs

        decoder = Cs(CS_ARCH_X86, CS_MODE_64)
        for size in range(2, 9):
            code = self.read(address - size, size)
            decoded = list(decoder.disasm(code, address - size))
            if len(decoded) == 1 and decoded[0].size == size and decoded[0].mnemonic == "call":
                return True
        return False


def children(pid: int) -> list[int]:
    """``pid`` and its descendants that are alive."""
    found, left = [], [pid]
    while left:
        found.append(left.pop())
        left += [one for task in _tasks(found[-1]) for one in _children(task)]
    return found


def _tasks(pid: int) -> Iterable[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def _children(task: Path) -> list[int]:
    try:
        return [int(word) for word in (task / "children").read_text().split()]
    except OSError:
        return []
