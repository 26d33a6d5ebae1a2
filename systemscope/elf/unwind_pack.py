"""Packing of unwind rows into the words that a BPF program searches. Layout: unwind_table.

Millions of rows pass here, so work on single rows is left to what runs at the speed of C: strided
slices move bytes, a Counter finds the blocks.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Callable, Optional

from systemscope.elf.cfi import Functions
from systemscope.elf.cfi_program import ROW_SHIFT, RULE_MASK
from systemscope.elf.errors import ElfError

PAGE_WORDS = 1024
_PIECE = 8192
_MAX_CUTS = 16  # of one function
_MAX_PARTS = 1 << 15  # of all together
BLOCK_BITS = 8

#: How often (in functions, blocks) the caller's slice function is called.
_SLICE_EVERY = 2048


def rows_of(
    functions: Functions,
    low: int,
    most: int,
    slice: Optional[Callable[[], None]] = None,
) -> array[int]:
    """All rows of ``functions.found``, which is sorted: in order of address, as (address - low)
    << 24 | rule, each in force up to the next. The code between functions has rows of rule 0.
    Neighbours differ in rule.

    Where functions overlap, the one that begins first keeps the code; of two that begin at one
    address, the shorter one. Raises ElfError when there are more than ``most`` rows.
    """
    keys = array("Q")
    rows_by_number = functions.rows
    position, last = 0, 0  # where the function before ended, relative to low; its last rule
    for passed, packed in enumerate(functions.found, 1):
        start = (packed >> 56) - low
        size = packed >> 24 & 0xFFFFFFFF
        rows = rows_by_number[packed & RULE_MASK]
        end = start + size
        if start < position or rows[-1] >> ROW_SHIFT >= size:
            start = max(start, position)
            if start >= end:
                continue
            rows = cut(rows, start - end + size, size)
        if start > position and last:
            keys.append(position << ROW_SHIFT)
            last = 0
        base = start << ROW_SHIFT
        if rows[0] == last:
            rows = rows[1:]
        keys.extend([base + row for row in rows])
        if rows:
            last = rows[-1] & RULE_MASK
        position = end
        if passed % _SLICE_EVERY == 0:
            if len(keys) > most:
                break
            if slice is not None:
                slice()
    keys.append(position << ROW_SHIFT)
    if len(keys) > most:
        raise ElfError("more unwind rows than there is room for")
    return keys


def cut(rows: Sequence[int], begin: int, end: int) -> Sequence[int]:
    """The part of a function's rows in force in [begin, end), relative to begin."""
    base = begin << ROW_SHIFT
    limit = end << ROW_SHIFT
    inside = [row - base for row in rows if base <= row < limit]
    if not inside or inside[0] >> ROW_SHIFT:
        before = [row for row in rows if row < base]
        inside.insert(0, before[-1] & RULE_MASK)
    return inside


def uncovered(functions: Functions, covered: list[int]) -> list[int]:
    """What of ``functions.found`` lies outside the functions of ``covered``; both are sorted.
    Functions cut into very many parts, which no compiler's are, lose some of them."""
    ranges = [(packed >> 56, (packed >> 56) + (packed >> 24 & 0xFFFFFFFF)) for packed in covered]
    ranges.append((1 << 64, 1 << 64))
    added = []
    first, parts = 0, _MAX_PARTS
    for packed in functions.found:
        here = start = packed >> 56
        end = start + (packed >> 24 & 0xFFFFFFFF)
        while ranges[first][1] <= start:
            first += 1
        for begin, stop in ranges[first : first + _MAX_CUTS]:
            gap_end = min(begin, end)
            if here == start and gap_end == end:
                added.append(packed)
            elif here < gap_end and parts:
                parts -= 1
                rows = cut(functions.rows[packed & RULE_MASK], here - start, gap_end - start)
                number = functions.number(rows)
                added += [here << 56 | gap_end - here << 24 | number] if number else []
            here = max(here, stop)
            if here >= end:
                break
    return added


def pack_blocks(
    keys: array[int],
    limit: int,
    slice: Optional[Callable[[], None]] = None,
) -> tuple[array[int], bytearray, int]:
    """(index, rows, number of rows) of ``keys`` as made by :func:`rows_of`: the index has a word
    a block, whose start counts from the start of the index. Raises ElfError beyond ``limit``
    bytes."""
    words, blocks = _split(keys)
    count = (keys[-1] >> ROW_SHIFT + BLOCK_BITS) + 1
    if 4 * count > limit:
        raise ElfError("more code than an unwind table can cover")
    index = array("I")
    rows = bytearray()
    known: dict[bytes, int] = {}
    here = 0  # how many bytes of words are done
    force = b"\0\0\0"  # the rule in force
    for passed, (block, length) in enumerate(_runs(blocks)):
        if len(index) < block:
            entry = _entry(b"\0" + force, known, rows, count, limit)
            index.extend(array("I", [entry]) * (block - len(index)))
        content = words[here : here + 4 * length]
        here += 4 * length
        if content[0]:
            content = b"\0" + force + content
        force = content[-3:]
        entry = known.get(content, 0)
        index.append(entry or _entry(content, known, rows, count, limit))
        if slice is not None and passed % _SLICE_EVERY == 0:
            slice()
    return index, rows, sum(map(len, known)) // 4


def _runs(blocks: array[int]) -> Iterator[tuple[int, int]]:
    """(block, how many rows it has) of each block that has rows, a piece at a time: a block has at
    most 256 rows, so each piece holds whole ones, and one at the end that the next may go on with.
    """
    begin = 0
    while begin < len(blocks):
        counts = Counter(blocks[begin : begin + _PIECE])
        if begin + _PIECE < len(blocks):
            counts.popitem()
        yield from counts.items()
        begin += sum(counts.values())


def _split(keys: array[int]) -> tuple[bytes, array[int]]:
    """(the words of all rows, the block of each). A key's bytes are r0 r1 r2 a0 a1 a2 a3 a4 with
    r the rule and a the address; a row's are a0 r0 r1 r2, a block's number a1 a2 a3 a4."""
    raw = keys.tobytes()
    words = bytearray(len(raw) // 2)
    numbers = bytearray(len(raw) // 2)
    words[0::4] = raw[3::8]
    for place in range(3):
        words[place + 1 :: 4] = raw[place::8]
    for place in range(4):
        numbers[place::4] = raw[place + 4 :: 8]
    return bytes(words), array("I", bytes(numbers))


def _entry(
    content: bytes, known: dict[bytes, int], rows: bytearray, index_words: int, limit: int
) -> int:
    """The index word of a block with these rows, which are appended unless known."""
    found = known.get(content)
    if found is None:
        length = len(content) // 4
        at = index_words + len(rows) // 4
        room = -at % PAGE_WORDS
        if length > room > 0:
            rows += bytes(4 * room)
            at += room
        if 4 * (at + length) > limit:
            raise ElfError("more unwind rows than there is room for")
        rows += content
        found = known[content] = at << 8 | length - 1
    return found
