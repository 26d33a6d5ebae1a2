"""The unwinder's step in a form that fits where nothing loops: several, in line, in one program.

Kernels before 5.3 take 4096 instructions and follow no loop, and their verifiers forget little:
until 4.14 two ways through a program only become one where all registers and all of the stack hold
the same. So variables that differ from way to way lie on the stack, where numbers are just numbers,
and ``Builder.forget`` empties the registers where ways meet.
"""

from __future__ import annotations

from typing import Callable

from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.types import MapSpec
from systemscope.bpfasm.values import All, Any_, Expr, Pointer, Value
from systemscope.model.unwinding import StackEnd
from systemscope.programs.common import Ground
from systemscope.programs.records import (
    MAPPINGS_A_PAGE,
    PAGE_WORDS,
    RULE_CACHE_BITS,
    CachedRule,
    Pair,
    PoolQuads,
    PoolWords,
)
from systemscope.programs.unwind_pool import PoolReader
from systemscope.programs.unwind_step import GOLDEN, Step

_PAGE_SHIFT = PAGE_WORDS.bit_length() - 1
_MAPPING_QUADS = PAGE_WORDS // 2 // MAPPINGS_A_PAGE


class ShortReader(PoolReader):
    """The same searches with branches, which take fewer instructions than sums."""

    def find_mapping(self, scratch: Pointer, lookup: Expr) -> None:
        b = self.b
        scratch.start = 0
        scratch.end = 0
        at, last = b.let(scratch.first, spill=True), b.let(scratch.count, spill=True)
        with b.if_(last > MAPPINGS_A_PAGE):
            self._choose_page(scratch, lookup, at, last)
        b.forget()
        with b.if_(last != 0):
            page = self.page(at >> _PAGE_SHIFT, PoolQuads)
            with b.if_(b.not_null(page)):
                # From here on they count double words.
                b.set(at, (at & (PAGE_WORDS - 1)) >> 1)
                b.set(last, at + (last - 1) * _MAPPING_QUADS)
                step = MAPPINGS_A_PAGE // 2
                while step:
                    self._try(at, last, step * _MAPPING_QUADS, lambda to: page.quads[to], lookup)
                    step //= 2
                within = All(page.quads[at] <= lookup, lookup < page.quads[at + 1])
                with b.if_(within):
                    for number, name in enumerate(("start", "end", "delta")):
                        setattr(scratch, name, page.quads[at + number])
                    scratch.table = page.quads[at + 3]
                    scratch.rules = page.quads[at + 3] >> 32
        b.forget()

    def _try(
        self, at: Value, last: Value, step: int, value: Callable[[Expr], Expr], limit: Expr
    ) -> None:
        """Go ``step`` on if that is not beyond ``last`` and the value there not above ``limit``."""
        b = self.b
        with b.block():
            ahead = b.let(at + step)
            with b.if_(ahead <= last), b.if_(value(ahead) <= limit):
                b.set(at, ahead)
        b.forget()

    def find_rule(self, scratch: Pointer, lookup: Expr, low: Value, high: Value) -> None:
        b = self.b
        offset, word = b.let(lookup - scratch.delta, spill=True), b.let(0, spill=True)
        with b.block():
            page = self.page(scratch.table + (offset >> (_PAGE_SHIFT + 8)), PoolWords)
            with b.if_(b.not_null(page)):
                b.set(word, page.words[offset >> 8])
        b.forget()
        with b.if_(word != 0):
            with b.block():
                b.set(offset, offset & 0xFF)
                self._find_row(scratch, offset, word)
            b.forget()
            b.set(word, scratch.rules + ((word >> 8) << 2))
            page = self.page(scratch.table + (word >> _PAGE_SHIFT), PoolQuads)
            with b.if_(b.not_null(page)):
                b.set(low, page.quads[word >> 1])
                b.set(high, page.quads[(word >> 1) + 1])

    def _find_row(self, scratch: Pointer, within: Expr, word: Value) -> None:
        b = self.b
        page = self.page(scratch.table + (word >> (_PAGE_SHIFT + 8)), PoolWords)
        with b.if_(b.is_null(page)):
            b.set(word, 0)
        with b.else_():
            at = b.let(word >> 8, spill=True)
            last = b.let(at + (word & 0xFF), spill=True)
            for step in (128, 64, 32, 16, 8, 4, 2, 1):
                self._try(at, last, step, lambda to: page.words[to] & 0xFF, within)
            b.set(word, page.words[at])


class ShortStep(Step):
    """Emits a step in line. ``first``: it looks for the mapping where that is another than the
    last; other steps go to ``again`` then. A walk that is over goes to ``over`` with ``how``."""

    def __init__(self, ground: Ground, scratch_map: MapSpec, scratch: Pointer, how: Value) -> None:
        super().__init__(ground, scratch_map, lambda _: self._read_current)
        self._read = self._read_current
        self._scratch, self._how = scratch, how
        self._first = True

    def emit_here(self, over: str, again: str) -> None:
        """The next step: falls through to what follows when the caller was found."""
        b = self.b
        self._over, self._again = over, again
        self._next = b.asm.fresh_label("next")
        with b.block():
            self._body(b.let(0))
        b.asm.label(self._next)
        b.forget()
        self._first = False

    def _read_current(self, to: Expr, size: int, address: Expr) -> Value:
        unwind = self.g.config.unwind
        assert unwind is not None
        helper = Helper.probe_read_user if unwind.read_user else Helper.probe_read
        return self.b.call(helper, to, size, address, signed=True)

    def _go_on(self) -> None:
        self.b.asm.jump(self._next)

    def _end(self, how: StackEnd) -> None:
        self.b.set(self._how, int(how))
        self.b.asm.jump(self._over)

    def _meet(self) -> None:
        self.b.forget()

    def _find(self, lookup: Value) -> None:
        b, scratch, pool = self.b, self._scratch, ShortReader(self.g)
        with b.block():
            cached = self._cached(lookup)
            with b.if_(All(cached.lookup == lookup, cached.tag == scratch.tag)):
                b.set(self._low, cached.low)
                b.set(self._high, cached.high)
        with b.else_():
            with b.block(), b.if_(Any_(lookup < scratch.start, lookup >= scratch.end)):
                if self._first:
                    pool.find_mapping(scratch, lookup)
                else:
                    b.asm.jump(self._again)
            with b.block(), b.if_(lookup < scratch.end):
                pool.find_rule(scratch, lookup, self._low, self._high)
            with b.block():
                cached = self._cached(lookup)
                cached.lookup = lookup
                cached.tag = scratch.tag
                cached.low = self._low
                cached.high = self._high

    def _cached(self, lookup: Value) -> Pointer:
        b = self.b
        slot = ((lookup * GOLDEN) >> (64 - RULE_CACHE_BITS)) & ((1 << RULE_CACHE_BITS) - 1)
        base = b.address(self._scratch, "cache")
        return b.cast(b.let(base + slot * CachedRule.size), CachedRule)

    def _load(self, address: Expr) -> None:
        """Just the two words: before 4.11 memory is only read to the stack."""
        pair = self.b.address(self._pair)
        with self.b.if_(self._read(pair, Pair.size, address) != 0):
            self._end(StackEnd.UNREADABLE)
