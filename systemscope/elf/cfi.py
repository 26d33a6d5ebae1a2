"""Common information entries (CIEs) and frame description entries (FDEs), read in bulk.

Sources: DWARF 5, section 6.4.1; the LSB, "Exception Frames" and "DWARF Extensions".
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from struct import Struct, error
from typing import Callable, NamedTuple, Optional

from systemscope.elf.cfi_program import MAX_PROGRAM_BYTES, Programs
from systemscope.elf.errors import ElfError
from systemscope.elf.frame_sections import FrameSection
from systemscope.elf.leb128 import read_sleb128, read_uleb128
from systemscope.elf.unwind_rules import AARCH64_SIGNAL, RuleBook

MAX_DESCRIPTIONS = 2 << 20
#: Rows of all programs together, each counted once.
MAX_PROGRAM_ROWS = 8 << 20
_MAX_AUGMENTATION = 32
MAX_FUNCTION_BYTES = 0xFFFFFFFF
_MAX_CIES = 1 << 16
_MAX_OTHERS = 1 << 18  # CIEs that are passed by, and terminators
_MAX_CIE_BYTES = 4096
_MAX_PROGRAMS = 4096

_HEAD = Struct("<II")
_LENGTH64 = Struct("<Q")
_EXTENDED = 0xFFFFFFFF
_RESERVED = 0xFFFFFFF0
_DEBUG_CIE = 0xFFFFFFFF
_DEBUG_CIE64 = 0xFFFFFFFFFFFFFFFF

#: DW_EH_PE_* formats of fixed size, the number's and the length's (which has no sign).
_FORMATS = {0: "QQ", 2: "HH", 3: "II", 4: "QQ", 8: "qQ", 0xA: "hH", 0xB: "iI", 0xC: "qQ"}
_PCREL = 0x10

#: How often (in FDEs) the caller's slice function is called.
SLICE_EVERY = 256


class Cie(NamedTuple):
    """What one CIE says about its FDEs."""

    programs: Programs
    location: Struct  # where the function begins, and its length
    is_relative: bool  # to the place of the pointer
    augmented: bool  # its FDEs have augmentation data
    signal: bool


class Functions:
    """The functions described so far. ``found`` holds start << 56 | size << 24 | number of the
    function's rows in ``rows``; so it sorts by address."""

    def __init__(self, executable: Sequence[tuple[int, int]]) -> None:
        """``executable``: the address ranges of code; what lies outside is not taken."""
        self.executable = executable
        self.found: list[int] = []
        self.rows: list[Sequence[int]] = [()]  # number 0 is for programs that make no sense
        self.skipped = 0
        self._budget = MAX_PROGRAM_ROWS

    def number(self, rows: Sequence[int]) -> int:
        """A number for ``rows``; 0 when there is no room for more."""
        if not rows or len(rows) > self._budget:
            return 0
        self._budget -= len(rows)
        self.rows.append(array("Q", rows) if len(rows) > 32 else tuple(rows))
        return len(self.rows) - 1

    def range_of(self, address: int) -> tuple[int, int]:
        """The code range that holds ``address``, an empty one if none does."""
        return next((r for r in self.executable if r[0] <= address < r[1]), (0, 0))


class FrameReader:
    """Reads one section into ``functions``. Entries that make no sense are counted as skipped."""

    def __init__(
        self,
        section: FrameSection,
        functions: Functions,
        book: RuleBook,
        is_trampoline: Optional[Callable[[int, int], bool]] = None,
    ) -> None:
        """``is_trampoline`` tells whether the code of a signal frame from one address to another
        is aarch64's; only that machine has it."""
        self._section = section
        self._data = section.data
        self._functions = functions
        self._book = book
        self._is_trampoline = is_trampoline
        self._cies: dict[int, Optional[Cie]] = {}
        self._programs: dict[tuple[int, int, bytes, bool, bool], Programs] = {}

    def read(self, slice: Optional[Callable[[], None]] = None) -> None:
        """Read every FDE. ``slice`` is called every few milliseconds. Raises nothing but what
        ``slice`` does, and ElfError when there are more rules than a table can number."""
        data, base, functions = self._data, self._section.address, self._functions
        low = high = passed = 0
        for body, stop, cie in self._entries():
            passed += 1
            if slice is not None and passed % SLICE_EVERY == 0:
                slice()
            functions.skipped += 1
            if cie is None or body + cie.location.size + cie.augmented > stop:
                continue
            start, size = cie.location.unpack_from(data, body)
            if cie.is_relative:
                start = start + base + body & 0xFFFFFFFFFFFFFFFF
            body += cie.location.size
            if cie.augmented:
                length = data[body]  # longer than 127 bytes: nothing known needs that
                body += 1 + length
                if body > stop or length > 0x7F:
                    continue
            code = data[body:stop].rstrip(b"\0")
            number = cie.programs.known.get(code)
            if number is None:
                number = self._run(cie, code)
            if not low <= start < high:
                low, high = functions.range_of(start)
            size = min(size, high - start, MAX_FUNCTION_BYTES)
            if cie.signal and self._is_trampoline and self._is_trampoline(start, start + size):
                number = self._trampoline()
            if number and size > 0 and low <= start:
                functions.found.append(start << 56 | size << 24 | number)
                functions.skipped -= 1

    def _entries(self) -> Iterator[tuple[int, int, Optional[Cie]]]:
        """(where the body begins, where it ends, its CIE) of every FDE."""
        data, is_debug, cies, head = self._data, self._section.is_debug, self._cies, _HEAD
        end, left, others = len(data), self._most(), _MAX_OTHERS
        cie_mark = _DEBUG_CIE if is_debug else 0
        at = 0
        while at + 8 <= end and left > 0 and others > 0:
            length, pointer = head.unpack_from(data, at)
            body, stop = at + 8, at + 4 + length
            cie_at = pointer if is_debug else at + 4 - pointer
            if length >= _RESERVED or length < 4:
                if not length and self._section.descriptions is None:
                    others -= 1
                    at += 4  # a terminator; linkers leave some between the parts of a section
                    continue
                body, stop, cie_at, pointer = self._extended(at)
            at = stop
            if stop > end or not body:
                break
            if pointer == cie_mark:
                others -= 1
                continue
            left -= 1
            yield body, stop, cies[cie_at] if cie_at in cies else self._cie(cie_at)

    def _most(self) -> int:
        counted = self._section.descriptions
        room = MAX_DESCRIPTIONS - len(self._functions.found)
        return room if counted is None else min(counted, room)

    def _extended(self, at: int) -> tuple[int, int, int, int]:
        """(where the body is, the end, where its CIE is, the mark of a CIE) of an entry with a
        64-bit length; body 0 for lengths that make no sense."""
        data = self._data
        if data[at : at + 4] != b"\xff\xff\xff\xff" or at + 20 > len(data):
            return 0, 0, 0, 0
        (length,) = _LENGTH64.unpack_from(data, at + 4)
        stop = at + 12 + length
        if not self._section.is_debug:  # only the length has 64 bits there
            pointer = int.from_bytes(data[at + 12 : at + 16], "little")
            return (at + 16 if length >= 4 else 0), stop, at + 12 - pointer, pointer
        (pointer,) = _LENGTH64.unpack_from(data, at + 12)
        mark = _DEBUG_CIE if pointer == _DEBUG_CIE64 else 0
        return (at + 20 if length >= 8 else 0), stop, pointer, mark

    def _run(self, cie: Cie, code: bytes) -> int:
        functions = self._functions
        try:
            number = functions.number(cie.programs.rows(code))
        except ElfError:
            number = 0
        if len(code) <= MAX_PROGRAM_BYTES:
            cie.programs.known[code] = number
        return number

    def _trampoline(self) -> int:
        return self._functions.number((self._book.number(AARCH64_SIGNAL),))

    def _cie(self, at: int) -> Optional[Cie]:
        """The CIE at ``at``, parsed once; None if it makes no sense."""
        try:
            found = self._parse_cie(at) if len(self._cies) < _MAX_CIES else None
        except (ElfError, IndexError, error):
            found = None
        self._cies[at] = found
        return found

    def _parse_cie(self, at: int) -> Optional[Cie]:
        data = self._cie_body(at)
        version = data[0]
        name_end = data.find(0, 1, 1 + _MAX_AUGMENTATION)
        if version not in (1, 3, 4) or name_end < 0:
            return None
        augmentation = data[1:name_end]
        at = name_end + 1
        if version == 4:
            if data[at : at + 2] != b"\x08\0":  # address size, segment selector size
                return None
            at += 2
        code_factor, at = read_uleb128(data, at)
        data_factor, at = read_sleb128(data, at)
        return_address, at = (data[at], at + 1) if version == 1 else read_uleb128(data, at)
        encoding, at = _augmentation(data, augmentation, at)
        layout = _FORMATS.get(encoding & 0x0F)
        if layout is None or encoding & 0xF0 not in (0, _PCREL):
            return None
        signal, usual = b"S" in augmentation, return_address == self._book.registers.ra
        programs = self._shared(code_factor, data_factor, data[at:].rstrip(b"\0"), signal, usual)
        augmented = augmentation[:1] == b"z"
        return Cie(programs, Struct("<" + layout), bool(encoding & _PCREL), augmented, signal)

    def _cie_body(self, at: int) -> bytes:
        """What follows the mark of the CIE at ``at``; b"" if there is none."""
        if not 0 <= at <= len(self._data) - 8:
            return b""
        length, mark = _HEAD.unpack_from(self._data, at)
        body, stop = at + 8, at + 4 + length
        if length >= _RESERVED:
            body, stop, _, mark = self._extended(at)
        if not body or stop > len(self._data):
            return b""
        if mark != (_DEBUG_CIE if self._section.is_debug else 0):
            return b""
        return self._data[body : min(stop, body + _MAX_CIE_BYTES)]

    def _shared(
        self, code_factor: int, data_factor: int, code: bytes, signal: bool, usual: bool
    ) -> Programs:
        key = code_factor, data_factor, code, signal, usual
        found = self._programs.get(key)
        if found is None:
            if len(self._programs) >= _MAX_PROGRAMS:
                raise ElfError("more kinds of frame than any program has")
            found = self._programs[key] = Programs(self._book, *key)
        return found


def _augmentation(data: bytes, letters: bytes, at: int) -> tuple[int, int]:
    """(encoding of pointers to code, where the instructions begin). Raises ElfError when the
    letters do not tell."""
    if not letters:
        return 0, at
    if letters[:1] != b"z":
        raise ElfError("an augmentation of unknown length")
    length, at = read_uleb128(data, at)
    end, encoding = at + length, 0
    for letter in letters[1:].decode("latin-1"):
        if letter in "LR":
            encoding = data[at] if letter == "R" else encoding
            at += 1
        elif letter == "P":
            layout = _FORMATS.get(data[at] & 0x0F)
            if layout is None or data[at] & 0x70 == 0x50:
                raise ElfError("a personality of unknown length")
            at += 1 + Struct("<" + layout[0]).size
        elif letter not in "SBG":  # a signal's frame; keys and tags of aarch64
            raise ElfError("an unknown augmentation")
    if at > end or end > len(data):
        raise ElfError("augmentation data beyond its end")
    return encoding, end
