"""Symbol tables as compact sorted arrays, and the search for the function at an address.

A table costs about 37 bytes a function; names stay in the file until one is asked for. Which
symbol an address belongs to:

- The innermost sized symbol that covers the address: one that ends before it is not it, however
  near it lies.
- If none does, a symbol of size 0 in a `.symtab` (hand-written assembly such as `_init`, code
  between two C functions), up to the next symbol or the end of its section, and at most
  ``MAX_UNSIZED`` bytes. A `.dynsym` lists exported symbols only: there the next symbol may lie
  far behind functions it does not know, so its unsized symbols cover nothing.
- Of several symbols with one address: functions before labels, exported (global or weak) before
  local, fewer leading underscores, global before weak, the shorter name, the alphabet.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate, compress
from struct import Struct
from typing import Optional

from systemscope.elf.cache import TableCache
from systemscope.elf.header import Machine, Section
from systemscope.elf.source import MAX_READ, Source, read_string

ENTRY_SIZE = 24  # sizeof(Elf64_Sym)

#: Bounds on what a hostile file can make this cost: at the limit 7 s and 350 MB. Of the largest
#: programs people run, few list more functions (Chromium: 1.5 M symbols of all kinds).
MAX_SYMBOLS = 2_000_000
MAX_NAME = 16_384
MAX_UNSIZED = 4096
#: Smaller tables are read and sorted as quickly as they are found in a cache.
WORTH_KEEPING = 20_000 * ENTRY_SIZE
#: Changes whenever the same file would give other columns.
_FORMAT = 1
_COUNTS = Struct("<QQ")
_MAX_NESTING = 64
_MAX_ALIASES = 32
_MAX_NAMES_BYTES = 64 << 20
_ADDRESS_LIMIT = 1 << 63

_STT_NOTYPE, _STT_FUNC, _STT_GNU_IFUNC = 0, 2, 10
_STB_LOCAL, _STB_GLOBAL, _STB_WEAK, _STB_GNU_UNIQUE = 0, 1, 2, 10
_SHN_LORESERVE, _SHN_XINDEX = 0xFF00, 0xFFFF


def _type_mask() -> bytes:
    """For bytes.translate over st_info: 1 where the type can be code, else 0."""
    code = (_STT_NOTYPE, _STT_FUNC, _STT_GNU_IFUNC)
    return bytes(1 if info & 0xF in code else 0 for info in range(256))


_IS_CODE = _type_mask()


@dataclass(frozen=True)
class Symbol:
    """A function: ``address`` is an ELF virtual address, ``size`` 0 where the file has none."""

    name: str
    address: int
    size: int


class SymbolTable:
    """The functions of one .symtab or .dynsym."""

    def __init__(
        self,
        source: Source,
        table: Section,
        strings: Section,
        sections: tuple[Section, ...],
        machine: Machine,
        *,
        complete: bool,
        cache: Optional[TableCache] = None,
    ) -> None:
        """Read ``table``, whose names are in ``strings``. ``complete`` says it lists local
        symbols too, so that unsized symbols end where the next one begins. ``cache`` keeps what
        takes long to sort. Raises ElfError when the file cannot be read."""
        self._source = source
        self._strings = strings
        self._sections = sections
        self._mapping_symbols = machine == Machine.AARCH64
        self._complete = complete
        self._starts = array("Q")
        self._ends = array("Q")
        self._names = array("I")
        self._infos = array("B")
        self._reach = array("Q")  # highest end of this symbol and all before it
        self._unsized = array("Q")
        self._unsized_names = array("I")
        self._unsized_infos = array("B")
        self._unsized_sections = array("H")
        self._known: dict[int, Symbol] = {}  # symbols without aliases that were asked for
        if cache is None or table.size < WORTH_KEEPING:
            self._load(table)
        else:
            self._load_kept(table, cache)

    def __len__(self) -> int:
        return len(self._starts) + len(self._unsized)

    def find(self, address: int) -> Optional[Symbol]:
        """The function at ``address``, by the rules above, or None."""
        index = self._covering(address)
        if index >= 0:
            known = self._known.get(index)
            return known if known is not None else self._sized(index, address)
        return self._find_unsized(address) if self._complete else None

    def addresses(self) -> Iterable[int]:
        """Start addresses of the sized functions, ascending, aliases included."""
        return iter(self._starts)

    def ranges_of(self, names: Iterable[str]) -> list[tuple[int, int]]:
        """(start, end) of the sized functions called exactly so."""
        size = min(self._strings.size, _MAX_NAMES_BYTES)
        data = self._source.read(self._strings.offset, size)
        found = {data.find(b"\0" + name.encode() + b"\0") + 1 for name in names} - {0}
        columns = zip(self._starts, self._ends, self._names)
        return [(start, end) for start, end, name in columns if name in found]

    # -- reading --------------------------------------------------------------------------

    def _load_kept(self, table: Section, cache: TableCache) -> None:
        # All but the names follows from these bytes, and the names stay in the file: a forged
        # build ID gets nobody another file's names.
        digest = blake2b(digest_size=32)
        digest.update(repr([s.index for s in self._sections if s.executable]).encode())
        for piece in self._pieces(table):
            digest.update(piece)
        key = f"symbols-{_FORMAT}-{sys.byteorder}-{digest.hexdigest()}"
        kept = cache.get(key)
        if kept is None or not self._unpack(kept):
            self._load(table)
            cache.put(key, self._pack())

    def _columns(self) -> tuple[tuple[array[int], ...], tuple[array[int], ...]]:
        sized = (self._starts, self._ends, self._names, self._infos)
        bare = (self._unsized, self._unsized_names, self._unsized_infos, self._unsized_sections)
        return sized, bare

    def _pack(self) -> bytes:
        columns = [column for half in self._columns() for column in half]
        counts = _COUNTS.pack(len(self._starts), len(self._unsized))
        return counts + b"".join(column.tobytes() for column in columns)

    def _unpack(self, data: bytes) -> bool:
        """Fill the columns from what :meth:`_pack` made; False where it has another length."""
        view = memoryview(data)
        halves = self._columns()
        counts = _COUNTS.unpack_from(data) if len(data) >= _COUNTS.size else (0, 0)
        widths = [sum(column.itemsize for column in half) for half in halves]
        expected = _COUNTS.size + counts[0] * widths[0] + counts[1] * widths[1]
        if len(data) != expected:
            return False
        position = _COUNTS.size
        for half, count in zip(halves, counts):
            for column in half:
                end = position + count * column.itemsize
                column.frombytes(view[position:end])
                position = end
        self._reach = array("Q", accumulate(self._ends, max))
        return True

    def _load(self, table: Section) -> None:
        heads, starts, sizes = self._read_columns(table)
        code = {s.index for s in self._sections if s.executable}
        kept = compress(
            range(len(starts)),
            [
                head >> 48
                and start + size < _ADDRESS_LIMIT
                and (head >> 32 & 0xF or head >> 48 in code)
                for head, start, size in zip(heads, starts, sizes)
            ],
        )
        order = sorted(kept, key=starts.__getitem__)
        sized = [i for i in order if sizes[i]]
        self._starts = array("Q", [starts[i] for i in sized])
        self._ends = array("Q", [starts[i] + sizes[i] for i in sized])
        self._names = array("I", [heads[i] & 0xFFFFFFFF for i in sized])
        self._infos = array("B", [heads[i] >> 32 & 0xFF for i in sized])
        self._reach = array("Q", accumulate(self._ends, max))
        unsized = [i for i in order if not sizes[i]]
        self._unsized = array("Q", [starts[i] for i in unsized])
        self._unsized_names = array("I", [heads[i] & 0xFFFFFFFF for i in unsized])
        self._unsized_infos = array("B", [heads[i] >> 32 & 0xFF for i in unsized])
        self._unsized_sections = array("H", [heads[i] >> 48 for i in unsized])

    def _read_columns(self, table: Section) -> tuple[array[int], array[int], array[int]]:
        """The three words of each Elf64_Sym whose type can be code: name (32 bits), info (8),
        other (8) and section index (16); value; size."""
        # Strided slices and compress() keep the rows that are data from ever becoming objects.
        columns = (array("Q"), array("Q"), array("Q"))
        for data in self._pieces(table):
            words = array("Q", data)
            if sys.byteorder == "big":
                words.byteswap()
            mask = data[4::ENTRY_SIZE].translate(_IS_CODE)
            for number, column in enumerate(columns):
                column.extend(compress(words[number::3], mask))
        return columns

    def _pieces(self, table: Section) -> Iterator[bytes]:
        """The table's bytes in pieces of whole entries."""
        count = min(table.size // ENTRY_SIZE, MAX_SYMBOLS)
        step = MAX_READ // ENTRY_SIZE // 8
        for first in range(0, count, step):
            wanted = min(step, count - first) * ENTRY_SIZE
            data = self._source.read(table.offset + first * ENTRY_SIZE, wanted)
            yield data[: len(data) // ENTRY_SIZE * ENTRY_SIZE]
            if len(data) < wanted:
                break

    # -- searching ------------------------------------------------------------------------

    def _covering(self, address: int) -> int:
        """Index of the last sized symbol that starts at or before ``address`` and covers it."""
        index = bisect_right(self._starts, address) - 1
        lowest = max(-1, index - _MAX_NESTING)
        while index > lowest and self._reach[index] > address:
            if self._ends[index] > address:
                return index
            index -= 1
        return -1

    def _sized(self, index: int, address: int) -> Optional[Symbol]:
        starts = self._starts
        start = starts[index]
        found = self._best_sized(start, address)
        last = index + 1 == len(starts) or starts[index + 1] != start
        if found is not None and last and (index == 0 or starts[index - 1] != start):
            self._known[index] = found  # with aliases it may depend on the address
        return found

    def _best_sized(self, start: int, address: int) -> Optional[Symbol]:
        first = bisect_left(self._starts, start)
        last = min(bisect_right(self._starts, start), first + _MAX_ALIASES)
        covering = [i for i in range(first, last) if self._ends[i] > address]
        best = self._best((self._names[i], self._infos[i], i) for i in covering)
        if best is None:
            return None
        name, index = best
        return Symbol(name, start, self._ends[index] - start)

    def _find_unsized(self, address: int) -> Optional[Symbol]:
        index = bisect_right(self._unsized, address) - 1
        if index < 0:
            return None
        start = self._unsized[index]
        after = bisect_right(self._starts, address) - 1
        if after >= 0 and self._starts[after] > start:
            return None
        if address - start >= MAX_UNSIZED or self._covering(start) >= 0:
            return None
        if not self._in_section(self._unsized_sections[index], start, address):
            return None
        first = bisect_left(self._unsized, start)
        candidates = range(first, min(index + 1, first + _MAX_ALIASES))
        best = self._best((self._unsized_names[i], self._unsized_infos[i], i) for i in candidates)
        return None if best is None else Symbol(best[0], start, 0)

    def _in_section(self, index: int, start: int, address: int) -> bool:
        if index >= min(len(self._sections), _SHN_LORESERVE):
            return False
        section = self._sections[index]
        return section.executable and section.address <= start <= address < (
            section.address + section.size
        )

    def _best(self, candidates: Iterable[tuple[int, int, int]]) -> Optional[tuple[str, int]]:
        named = [
            (_rank(info, name), name, index)
            for offset, info, index in candidates
            for name in (self.name(offset),)
            if name and not (self._mapping_symbols and name.startswith("$"))
        ]
        if not named:
            return None
        _, name, index = min(named)
        return name, index

    def name(self, offset: int) -> str:
        """The name at ``offset`` in the string table, without a symbol version ("@@GLIBC_2")."""
        if offset == 0 or offset >= self._strings.size:
            return ""
        limit = min(MAX_NAME, self._strings.size - offset)
        text = read_string(self._source, self._strings.offset + offset, limit)
        return text.decode("utf-8", "replace").split("@", 1)[0]


def _rank(info: int, name: str) -> tuple[int, int, int, int, int]:
    binding = info >> 4
    return (
        int(info & 0xF == _STT_NOTYPE),
        int(binding == _STB_LOCAL),
        len(name) - len(name.lstrip("_")),
        int(binding == _STB_WEAK),
        len(name),
    )
