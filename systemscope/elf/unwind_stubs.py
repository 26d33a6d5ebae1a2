"""Code that nobody describes, but everybody runs.

x86-64's _init and _fini are put together by linkers, from the halves in glibc's crti.S and crtn.S.
They run as a program or library is loaded and left; the first of them is where a library's code is
read from disk. aarch64's vdso has no description of the code that signal handlers return to since
Linux 5.8 (87676cfca141), for fear of unwinders that misread it: libgcc knows it by its
instructions, and so do we.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from systemscope.elf.cfi import Functions
from systemscope.elf.header import Machine
from systemscope.elf.image import ElfImage
from systemscope.elf.unwind_rules import AARCH64_SIGNAL, ENTRY, CfaKind, Rule, RuleBook, SaveKind

_ENDBR64 = bytes.fromhex("f30f1efa")
_BEGIN = bytes.fromhex("4883ec08")  # sub $8, %rsp
_END = bytes.fromhex("4883c408c3")  # add $8, %rsp; ret
_MAX_BYTES = 256
_GO_NOTE = ".note.go.buildid"
_GO_BOTTOMS = tuple(
    f"runtime.{name}"
    for name in ("goexit", "mstart", "mcall", "morestack", "rt0_go", "asmcgocall", "systemstack")
)
#: mov x8, #139 (__NR_rt_sigreturn); svc #0: how libgcc knows aarch64's trampoline too.
AARCH64_SIGRETURN = bytes.fromhex("681180d2010000d4")
AARCH64_NOP = bytes.fromhex("1f2003d5")
#: The largest image whose code is searched for it: a vdso, in pages of up to 64 kB.
TRAMPOLINE_IMAGE_BYTES = 256 << 10
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


def go_bottoms(image: ElfImage) -> list[tuple[int, int]]:
    """(start, end) of the functions of a Go program below which no stack goes on. What lies there
    is another stack's, left in the middle of a function: Go's own traceback stops there too
    (runtime/traceback.go), but the tables do not tell."""
    if image.section(_GO_NOTE) is None or image.symtab is None:
        return []
    return image.symtab.ranges_of([*_GO_BOTTOMS, *(f"{name}.abi0" for name in _GO_BOTTOMS)])


def add_stubs(image: ElfImage, functions: Functions, book: RuleBook) -> None:
    """Describe them, where nothing does, in ``functions.found``, which stays sorted."""
    for start, end in go_bottoms(image):
        at = bisect_left(functions.found, start << 56)
        if at < len(functions.found) and functions.found[at] >> 56 == start:
            functions.found[at] &= -1 << _ROW_SHIFT
            functions.found[at] |= functions.number([book.number(ENTRY)])
        else:
            _add(functions, start, end - start, [book.number(ENTRY)])
    for _, start, code in linker_stubs(image):
        _add(functions, start, len(code), _rows(code, book))
    for start, size in _trampolines(image, functions):
        _add(functions, start, size, [book.number(AARCH64_SIGNAL)])


def _add(functions: Functions, start: int, size: int, rows: list[int]) -> None:
    begin, end = functions.range_of(start)
    after = bisect_left(functions.found, start << 56)
    before = functions.found[after - 1] if after else 0
    free = (before >> 56) + (before >> 24 & 0xFFFFFFFF) <= start
    if after < len(functions.found):
        free = free and start + size <= functions.found[after] >> 56
    if free and begin <= start and start + size <= end:
        functions.found.insert(after, start << 56 | size << 24 | functions.number(rows))


def _trampolines(image: ElfImage, functions: Functions) -> Iterator[tuple[int, int]]:
    """(address, size) of the first such code of an aarch64 vdso. The instruction before it, to
    which the return address minus one belongs, is a nop put there for that purpose."""
    if image.header.machine is not Machine.AARCH64 or image.source.size > TRAMPOLINE_IMAGE_BYTES:
        return
    for begin, end in functions.executable:
        offset = image.offset_of_address(begin)
        if offset is None:
            continue
        code = image.source.read(offset, min(end - begin, TRAMPOLINE_IMAGE_BYTES))
        at = code.find(AARCH64_NOP + AARCH64_SIGRETURN)
        if at >= 0 and at % 4 == 0:
            yield begin + at, len(AARCH64_NOP + AARCH64_SIGRETURN)
            return


def _rows(code: bytes, book: RuleBook) -> list[int]:
    outside, inside = (book.number(_rule(distance)) for distance in (8, 16))
    begin = code.index(_BEGIN) + len(_BEGIN)
    end = len(code) - 1
    return [outside, begin << _ROW_SHIFT | inside, end << _ROW_SHIFT | outside]


def _rule(distance: int) -> Rule:
    at = SaveKind.AT_CFA
    return Rule(CfaKind.STACK, SaveKind.SAME, at, SaveKind.SAME, distance, 0, 0, -8, 0)
