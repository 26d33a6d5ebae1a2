"""Finding the rule for an address: the process's mapping, the table's block, its row, its rule.

Tables lie in pages of a pool as ``elf.unwind_table`` packs them: an index of blocks of 256 bytes
of code, the rows of each block (which never cross a page), the rules. Every search has a fixed
number of steps, every index is masked to its page: whatever the tables hold, a lookup ends and
stays inside the pool.
"""

from __future__ import annotations

from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.records import Record, RecordType, u32
from systemscope.bpfasm.values import All, Expr, Pointer, Value
from systemscope.programs.common import Ground
from systemscope.programs.records import (
    CHUNK_PAGES,
    MAPPINGS_A_PAGE,
    MAX_UNWIND_MAPPINGS,
    PAGE_WORDS,
    PoolQuads,
    PoolWords,
    UnwindMapping,
)

_CHUNK_SHIFT = CHUNK_PAGES.bit_length() - 1
_PAGE_SHIFT = 10  # words of a page
_MAPPING_QUADS = UnwindMapping.size // 8


class _PageKey(Record):
    chunk: u32
    page: u32


class PoolReader:
    """Emits lookups in the pool of tables."""

    def __init__(self, ground: Ground) -> None:
        self.g, self.b = ground, ground.b

    def page(self, number: Expr, record: RecordType) -> Pointer:
        """Page ``number`` of the pool, null where there is none."""
        b, pool = self.b, self.g.maps.unwind_pool
        unwind = self.g.config.unwind
        assert unwind is not None
        if not unwind.chunks:
            found = b.lookup_index(pool, number, PoolWords)
            return b.cast(found._base, record)
        result = b.let(0)
        with b.block():
            key = b.stack(_PageKey, zero=False)
            key.page = number & (CHUNK_PAGES - 1)
            key.chunk = number >> _CHUNK_SHIFT
            chunk = b.call(Helper.map_lookup_elem, pool, b.address(key, "chunk"))
            with b.if_(b.not_null(chunk)):
                b.set(result, b.call(Helper.map_lookup_elem, chunk, b.address(key, "page")))
        return b.cast(result, record)

    def find_mapping(self, scratch: Pointer, lookup: Expr) -> None:
        """Make ``scratch.start`` to ``.rules`` those of the mapping ``lookup`` lies in; an empty
        range where it lies in none."""
        b = self.b
        scratch.start = 0
        scratch.end = 0
        base, left = b.let(scratch.first), b.let(scratch.count)
        with b.if_(left > MAPPINGS_A_PAGE):
            self._choose_page(scratch, lookup, base, left)
        with b.if_(left != 0):
            page = self.page(base >> _PAGE_SHIFT, PoolQuads)
            with b.if_(b.not_null(page)):
                # From here on ``base`` counts double words.
                b.set(base, (base & (PAGE_WORDS - 1)) >> 1)
                b.set(left, left - 1)
                step = MAPPINGS_A_PAGE // 2
                while step:
                    ahead = page.quads[base + step * _MAPPING_QUADS]
                    self._advance(base, left, step, _MAPPING_QUADS, ahead, lookup)
                    step //= 2
                within = All(page.quads[base] <= lookup, lookup < page.quads[base + 1])
                with b.if_(within):
                    for number, name in enumerate(("start", "end", "delta")):
                        setattr(scratch, name, page.quads[base + number])
                    scratch.table = page.quads[base + 3]
                    scratch.rules = page.quads[base + 3] >> 32

    def _advance(
        self, at: Value, left: Value, step: int, width: int, ahead: Expr, limit: Expr
    ) -> None:
        """Go ``step`` entries of ``width`` on if there are as many ``left`` and the one ``ahead``
        is not above ``limit``. Without a branch: the verifier would follow both ways of each, and
        the processor guess wrong every second time. Operands are below 2**63."""
        b = self.b
        with b.block():
            take = b.let(ahead - limit - 1, signed=True)
            b.set(take, take >> 63)
            with b.block():
                enough = b.let(step - left - 1, signed=True)
                b.set(take, take & (enough >> 63))
            b.set(left, left - (take & step))
            b.set(at, at + (take & step * width))

    def _choose_page(self, scratch: Pointer, lookup: Expr, base: Value, left: Value) -> None:
        """Tables of more than a page begin on one: go to the last whose first mapping is not
        above ``lookup``. The choice goes through memory, so that the verifier forgets it."""
        b = self.b
        scratch.table = base
        scratch.rules = left
        step = MAX_UNWIND_MAPPINGS // MAPPINGS_A_PAGE // 2
        while step:
            with b.if_(scratch.rules > step * MAPPINGS_A_PAGE):
                page = self.page((scratch.table >> _PAGE_SHIFT) + step, PoolQuads)
                with b.if_(b.not_null(page)), b.if_(page.quads[0] <= lookup):
                    scratch.table = scratch.table + (step << _PAGE_SHIFT)
                    scratch.rules = scratch.rules - step * MAPPINGS_A_PAGE
            step //= 2
        with b.if_(scratch.rules > MAPPINGS_A_PAGE):
            scratch.rules = MAPPINGS_A_PAGE
        b.set(base, scratch.table)
        b.set(left, scratch.rules)

    def find_rule(self, scratch: Pointer, lookup: Expr, low: Value, high: Value) -> None:
        """Set the two halves of the rule in force at ``lookup``, which lies in the mapping found
        last; they stay as they are where a page is missing."""
        b = self.b
        offset = b.let(lookup - scratch.delta)
        word = b.let(0)
        with b.block():
            page = self.page(scratch.table + (offset >> (_PAGE_SHIFT + 8)), PoolWords)
            with b.if_(b.not_null(page)):
                b.set(word, page.words[offset >> 8])
        with b.if_(word != 0):
            with b.block():
                self._find_row(scratch, offset & 0xFF, word)
            b.set(word, scratch.rules + ((word >> 8) << 2))
            page = self.page(scratch.table + (word >> _PAGE_SHIFT), PoolQuads)
            with b.if_(b.not_null(page)):
                b.set(low, page.quads[word >> 1])
                b.set(high, page.quads[(word >> 1) + 1])

    def _find_row(self, scratch: Pointer, within: Expr, word: Value) -> None:
        """``word`` is the block's index entry, then the last of its rows not above ``within``."""
        b = self.b
        page = self.page(scratch.table + (word >> (_PAGE_SHIFT + 8)), PoolWords)
        with b.if_(b.is_null(page)):
            b.set(word, 0)
        with b.else_():
            at = b.let(word >> 8)
            left = b.let(word & 0xFF)
            for steps in ((128, 64, 32, 16), (8, 4, 2, 1)):
                with b.if_(left >= steps[-1]):
                    for step in steps:
                        self._advance(at, left, step, 1, page.words[at + step] & 0xFF, within)
            b.set(word, page.words[at])
