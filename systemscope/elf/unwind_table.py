"""The unwind table of one image: which rule is in force at each address of its code.

``words`` is loaded verbatim into pages of kernel memory, where a BPF program searches it. It is a
whole number of 4096-byte pages of little-endian 32-bit words:

- the index: word i, for the block i of 256 bytes of code that begins at ELF virtual address
  low + 256 i, is start << 8 | count - 1: the block's rows are the ``count`` words from ``start``,
  counted from the beginning of the table;
- rows: address & 255 | rule << 8, in order of address, in force up to the next one. A block's
  first row is for its first byte. The rows of one block lie in one page; equal blocks share rows;
- from word ``rules_at`` on, the rules, 16 bytes each (unwind_rules.RULE). Rule 0 says: no table
  for this code.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Callable, Optional

from systemscope.elf.cfi import FrameReader, Functions
from systemscope.elf.errors import ElfError
from systemscope.elf.frame_sections import debug_frame, eh_frame
from systemscope.elf.header import Machine, SegmentType
from systemscope.elf.image import ElfImage
from systemscope.elf.unwind_pack import BLOCK_BITS, PAGE_WORDS, pack_blocks, rows_of, uncovered
from systemscope.elf.unwind_rules import (
    ENTRY,
    NONE,
    RULE,
    CfaKind,
    Rule,
    RuleBook,
    SaveKind,
)
from systemscope.elf.unwind_stubs import AARCH64_SIGRETURN, TRAMPOLINE_IMAGE_BYTES, add_stubs

__all__ = ["CfaKind", "Rule", "SaveKind", "UnwindTable", "build_unwind_table"]

#: A start that no description covers (musl's _start, Go's _rt0_amd64_linux) is taken to be this
#: long, if nothing else begins before.
ENTRY_BYTES = 64
#: start words of the index have 24 bits.
MAX_TABLE_BYTES = 4 << 24
_ADDRESS_LIMIT = 1 << 48
_MAX_TRAMPOLINE = 64
#: More than any program has; each function is looked for in all of them.
_MAX_EXECUTABLE = 64


@dataclass(frozen=True)
class UnwindTable:
    """See the module's text for ``words``."""

    low: int  # ELF virtual address of block 0, a multiple of 256
    blocks: int
    rows: int  # as stored, shared ones once
    rules: int
    rules_at: int  # the word at which they begin, a multiple of 4
    words: bytes
    source: str  # ".eh_frame", ".debug_frame" or ".eh_frame + .debug_frame"
    fdes: int  # descriptions used
    skipped: int  # descriptions that make no sense, or are of no code

    def rule_at(self, address: int) -> Rule:
        """The rule in force at ELF virtual address ``address``."""
        block = (address - self.low) >> BLOCK_BITS
        if not 0 <= block < self.blocks:
            return NONE
        words = memoryview(self.words).cast("I")
        start, last = words[block] >> 8, words[block] & 255
        found = 0
        for row in words[start : start + last + 1]:
            if row & 255 > address & 255:
                break
            found = row
        return self.rule(found >> 8)

    def rule(self, number: int) -> Rule:
        """The rule of that number."""
        return Rule(*RULE.unpack_from(self.words, 4 * self.rules_at + RULE.size * number))


def build_unwind_table(
    image: ElfImage,
    limit_bytes: int = 64 << 20,
    slice: Optional[Callable[[], None]] = None,
) -> Optional[UnwindTable]:
    """The table of an executable, shared object, vdso or file of debug information; None when it
    has no call frame information that can be used, nor code that is known without.

    .debug_frame serves code that .eh_frame does not cover. ``slice`` is called every few
    milliseconds of work. Damaged parts make for fewer rows; ElfError is raised when the file
    cannot be read, or when the table would be longer than ``limit_bytes``.
    """
    limit = min(limit_bytes, MAX_TABLE_BYTES)
    book = RuleBook(image.header.machine)
    functions, source = _describe(image, book, slice)
    _add_entry(image, functions, book)
    add_stubs(image, functions, book)
    if not functions.found:
        return None
    low = functions.found[0] >> 56 & -(1 << BLOCK_BITS)
    if ((functions.found[-1] >> 56) - low) >> BLOCK_BITS > limit // 4:
        raise ElfError("more code than an unwind table can cover")
    fdes, skipped = len(functions.found), functions.skipped
    keys = rows_of(functions, low, limit // 4, slice)
    del functions
    index, rows, stored = pack_blocks(keys, limit, slice)
    rules_at = (len(index) + len(rows) // 4 + 3) & -4
    rules = b"".join(book.packed)
    size = (4 * rules_at + len(rules) + 4 * PAGE_WORDS - 1) & -4 * PAGE_WORDS
    if size > limit:
        raise ElfError("a larger unwind table than there is room for")
    words = bytearray(size)
    words[: 4 * len(index)] = memoryview(index).cast("B")
    words[4 * len(index) : 4 * len(index) + len(rows)] = rows
    words[4 * rules_at : 4 * rules_at + len(rules)] = rules
    count = len(book.packed)
    return UnwindTable(
        low, len(index), stored, count, rules_at, bytes(words), source, fdes, skipped
    )


def _describe(
    image: ElfImage, book: RuleBook, slice: Optional[Callable[[], None]]
) -> tuple[Functions, str]:
    """The described functions in order of address, and which sections told of them."""
    functions = Functions(_executable(image))
    is_trampoline = _trampoline_test(image)
    sources = []
    section = eh_frame(image)
    if section is not None:
        FrameReader(section, functions, book, is_trampoline).read(slice)
        if functions.found:
            sources.append(section.name)
    functions.found.sort()
    section = debug_frame(image)
    if section is not None:
        covered, functions.found = functions.found, []
        FrameReader(section, functions, book, is_trampoline).read(slice)
        functions.found.sort()
        added = uncovered(functions, covered)
        if added:
            sources.append(section.name)
        functions.found = sorted(covered + added)
    return functions, " + ".join(sources)


def _executable(image: ElfImage) -> list[tuple[int, int]]:
    ranges = [
        (s.address, min(s.address + s.memory_size, _ADDRESS_LIMIT))
        for s in image.header.segments
        if s.type == SegmentType.LOAD and s.executable
    ]
    return ranges[:_MAX_EXECUTABLE]


def _trampoline_test(image: ElfImage) -> Optional[Callable[[int, int], bool]]:
    """A test for the trampoline of an aarch64 kernel's vdso, None for what cannot be one."""
    is_small = image.source.size <= TRAMPOLINE_IMAGE_BYTES
    if image.header.machine is not Machine.AARCH64 or not is_small:
        return None

    def is_trampoline(start: int, end: int) -> bool:
        offset = image.offset_of_address(start)
        if offset is None or end - start > _MAX_TRAMPOLINE:
            return False
        return AARCH64_SIGRETURN in image.source.read(offset, end - start)

    return is_trampoline


def _add_entry(image: ElfImage, functions: Functions, book: RuleBook) -> None:
    """Make the start of the program an outermost frame where nothing describes it."""
    entry = image.header.entry
    _, end = functions.range_of(entry)
    after = bisect_left(functions.found, entry << 56)
    if after < len(functions.found):
        end = min(end, functions.found[after] >> 56)
    before = functions.found[after - 1] if after else 0
    start = max(entry, (before >> 56) + (before >> 24 & 0xFFFFFFFF))
    end = min(end, entry + ENTRY_BYTES)
    if entry and start == entry < end:
        number = functions.number((book.number(ENTRY),))
        functions.found.insert(after, entry << 56 | end - entry << 24 | number)
