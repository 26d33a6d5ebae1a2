"""Names of procedure linkage stubs: ``read@plt`` for the stub that jumps to ``read``.

A stub is recognised by the instruction that loads its slot of the global offset table; the slot's
relocation names the symbol. Sources: the x86-64 psABI and the AArch64 ELF ABI, "Procedure Linkage
Table"; Intel SDM (FF /4, jmp r/m64); Arm ARM (ADRP; LDR immediate, unsigned offset).
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from struct import Struct
from typing import Callable, Optional

from systemscope.elf.header import Header, Machine, Section, SectionType
from systemscope.elf.source import Source
from systemscope.elf.symbols import ENTRY_SIZE, Symbol

_RELA = Struct("<QQq")
_MAX_RELOCATIONS = 65_536
_MAX_STUB_BYTES = 1 << 20
_PLT_SECTIONS = frozenset({".plt", ".plt.sec", ".plt.got", ".iplt"})

_GLOB_DAT_AND_JUMP_SLOT = {Machine.X86_64: (6, 7), Machine.AARCH64: (1025, 1026)}


class PltTable:
    """The stubs of one image, sorted by address."""

    def __init__(
        self,
        source: Source,
        header: Header,
        section_name: Callable[[Section], str],
        symbol_name: Callable[[int], str],
    ) -> None:
        """``symbol_name`` turns a string-table offset of .dynsym into a name.
        Raises ElfError when the file cannot be read."""
        self._symbol_name = symbol_name
        slots = _read_slots(source, header)
        stubs: list[tuple[int, int, int]] = []
        for section in header.sections[1:]:
            if slots and section.executable and section_name(section) in _PLT_SECTIONS:
                code = source.read(section.offset, min(section.size, _MAX_STUB_BYTES))
                found = STUBS[header.machine](code, section.address)
                stubs += [(start, end, slots[slot]) for start, end, slot in found if slot in slots]
        stubs.sort()
        self._starts = array("Q", [start for start, _, _ in stubs])
        self._ends = array("Q", [end for _, end, _ in stubs])
        self._names = array("I", [name for _, _, name in stubs])

    def __len__(self) -> int:
        return len(self._starts)

    def find(self, address: int) -> Optional[Symbol]:
        """The stub at ``address``, or None."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or self._ends[index] <= address:
            return None
        name = self._symbol_name(self._names[index])
        start = self._starts[index]
        return Symbol(f"{name}@plt", start, self._ends[index] - start) if name else None


def _read_slots(source: Source, header: Header) -> dict[int, int]:
    """Address of each GOT slot that holds a function: offset of the function's name."""
    dynsym = next((s for s in header.sections if s.type == SectionType.DYNSYM), None)
    if dynsym is None:
        return {}
    symbols = source.read(dynsym.offset, min(dynsym.size, _MAX_RELOCATIONS * ENTRY_SIZE))
    kinds = _GLOB_DAT_AND_JUMP_SLOT[header.machine]
    slots: dict[int, int] = {}
    for section in header.sections:
        if section.type != SectionType.RELA or section.link != dynsym.index:
            continue
        data = source.read(section.offset, min(section.size, _MAX_RELOCATIONS * _RELA.size))
        for where, info, _ in _RELA.iter_unpack(data[: len(data) // _RELA.size * _RELA.size]):
            entry = (info >> 32) * ENTRY_SIZE
            if info & 0xFFFFFFFF in kinds and 0 < entry <= len(symbols) - ENTRY_SIZE:
                slots[where] = int.from_bytes(symbols[entry : entry + 4], "little")
    return slots


def _x86_stubs(code: bytes, base: int) -> list[tuple[int, int, int]]:
    """(start, end, slot address) of each stub: an indirect jmp in a cell of 16 or 8 bytes."""
    # .plt.got of code without CET has cells of 8 bytes; those start with the jump itself.
    cell = 8 if code[8:10] == b"\xff\x25" == code[:2] else 16
    stubs = []
    for start in range(0, len(code), cell):
        at = code.find(b"\xff\x25", start, min(start + cell, len(code)))
        if 0 <= at <= len(code) - 6:
            step = int.from_bytes(code[at + 2 : at + 6], "little", signed=True)
            stubs.append((base + start, base + start + cell, base + at + 6 + step))
    return stubs


def _arm_stubs(code: bytes, base: int) -> list[tuple[int, int, int]]:
    """(start, end, slot address) of each stub: adrp x16, page; ldr x17, [x16, #offset]."""
    words = [int.from_bytes(code[i : i + 4], "little") for i in range(0, len(code) // 4 * 4, 4)]
    found = []
    for index in range(len(words) - 1):
        first, second = words[index], words[index + 1]
        if first & 0x9F00001F != 0x90000010 or second & 0xFFC003FF != 0xF9400211:
            continue
        pages = (first >> 5 & 0x7FFFF) << 2 | first >> 29 & 3
        pages -= (pages & 0x100000) << 1
        page = (base + index * 4 & ~0xFFF) + (pages << 12)
        # `bti c` (0xd503245f) opens the stub where branch targets are enforced.
        start = index - 1 if index and words[index - 1] == 0xD503245F else index
        found.append((base + start * 4, base + index * 4 + 16, page + (second >> 10 & 0xFFF) * 8))
    return found


#: What finds (start, end, slot address) of each stub in (code, its address).
STUBS: dict[Machine, Callable[[bytes, int], list[tuple[int, int, int]]]] = {
    Machine.X86_64: _x86_stubs,
    Machine.AARCH64: _arm_stubs,
}
