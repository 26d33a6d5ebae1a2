"""Code that linkers put together and nobody describes: _init and _fini of x86-64.

They are run as a program or library is loaded and left, and the first of them is where a library's
code is read from disk. Their halves come from glibc's crti.S and crtn.S.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from systemscope.elf.cfi import Functions
from systemscope.elf.header import Machine
from systemscope.elf.image import ElfImage
from systemscope.elf.unwind_rules import CfaKind, Rule, RuleBook, SaveKind

_ENDBR64 = bytes.fromhex("f30f1efa")
_BEGIN = bytes.fromhex("4883ec08")  # sub $8, %rsp
_END = bytes.fromhex("4883c408c3")  # add $8, %rsp; ret
_MAX_BYTES = 256
_ROW_SHIFT = 24


def linker_stubs(image: ElfImage) -> Iterator[tuple[str, int, bytes]]:
    """(section, ELF virtual address, code) of each that is of the known form."""
    if image.header.machine is not Machine.X86_64:
        return
    for name in (".init", ".fini"):
        section = image.section(name)
        if section is None or not section.executable or not 0 < section.size <= _MAX_BYTES:
            continue
        code = image.source.read(section.offset, section.size)
        inner = code[len(_ENDBR64) :] if code.startswith(_ENDBR64) else code
        if inner.startswith(_BEGIN) and code.endswith(_END):
            yield name, section.address, code


def add_linker_stubs(image: ElfImage, functions: Functions, book: RuleBook) -> None:
    """Describe them, where nothing does, in ``functions.found``, which stays sorted."""
    for _, start, code in linker_stubs(image):
        begin, end = functions.range_of(start)
        after = bisect_left(functions.found, start << 56)
        before = functions.found[after - 1] if after else 0
        free = (before >> 56) + (before >> 24 & 0xFFFFFFFF) <= start
        if after < len(functions.found):
            free = free and start + len(code) <= functions.found[after] >> 56
        if free and begin <= start and start + len(code) <= end:
            number = functions.number(_rows(code, book))
            functions.found.insert(after, start << 56 | len(code) << 24 | number)


def _rows(code: bytes, book: RuleBook) -> list[int]:
    outside, inside = (book.number(_rule(distance)) for distance in (8, 16))
    begin = code.index(_BEGIN) + len(_BEGIN)
    end = len(code) - 1
    return [outside, begin << _ROW_SHIFT | inside, end << _ROW_SHIFT | outside]


def _rule(distance: int) -> Rule:
    at = SaveKind.AT_CFA
    return Rule(CfaKind.STACK, SaveKind.SAME, at, SaveKind.SAME, distance, 0, 0, -8, 0)
