"""The program interpreter for call frame information: instructions in, rows of rules out.

The same few thousand programs describe most functions, so each is run once per set of initial
rules. Sources: DWARF 5, sections 6.4.2 to 6.4.4 and 7.24; the LSB, "Exception Frames"; binutils'
include/dwarf2.def for the GNU and AArch64 operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional, Union

from systemscope.elf.cfi_expressions import MAX_EXPRESSION_BYTES
from systemscope.elf.errors import ElfError
from systemscope.elf.leb128 import read_sleb128, read_uleb128
from systemscope.elf.unwind_rules import (
    ELSEWHERE,
    EXPRESSION,
    EXTRA,
    FP,
    IN_REGISTER,
    OFFSET,
    RA,
    REGISTER,
    SAME_VALUE,
    UNDEFINED,
    RuleBook,
)

#: Longer programs than these are no compiler's (node's longest has 1,500 bytes).
MAX_PROGRAM_BYTES = 1 << 18
MAX_REMEMBERED = 64
_MAX_FACTOR = 1 << 16

#: Rows are (offset into the function) << ROW_SHIFT | rule number.
ROW_SHIFT = 24
RULE_MASK = (1 << ROW_SHIFT) - 1
_TOO_FAR = 1 << 32 + ROW_SHIFT  # no function is that long

#: Operands are read without a look at the end: beyond it are zeros, which are no-ops as well.
_PADDING = bytes(32)

_ADVANCE = {0x1D: 8, 0x02: 1, 0x03: 2, 0x04: 4}  # DW_CFA_MIPS_advance_loc8 and advance_loc1..4

_State = list[Union[int, str, bytes, None]]


class Programs:
    """Runs the programs of all FDEs whose CIEs agree in what matters to rows."""

    def __init__(
        self,
        book: RuleBook,
        code_factor: int,
        data_factor: int,
        initial: bytes,
        signal: bool,
        usual: bool = True,
    ) -> None:
        """``initial`` are the CIE's instructions, the factors its alignment factors; ``signal``
        says that a signal made such frames, ``usual`` that they return through the usual register
        (aarch64's rawmemchr does not). Raises ElfError when they make no sense."""
        if not 0 < code_factor <= _MAX_FACTOR or not -_MAX_FACTOR <= data_factor <= _MAX_FACTOR:
            raise ElfError("an unlikely alignment factor")
        self._book = book
        self._signal = signal
        self._numbers: dict[tuple[Union[int, str, bytes, None], ...], int] = {}
        self._step = code_factor << ROW_SHIFT
        self._factor = data_factor
        registers = book.registers
        self._slots = [0] * 64
        for register, slot in ((registers.fp, FP), (registers.ra, RA), (registers.extra, EXTRA)):
            if register >= 0:
                self._slots[register] = slot
        self._initial: _State = [None] * 6
        if not usual:
            self._slots[registers.ra] = 0
            self._initial[RA] = ELSEWHERE
        self._run(initial, self._initial)
        #: Instructions without trailing no-ops -> number of their rows, kept by the reader.
        self.known: dict[bytes, int] = {}

    def rows(self, code: bytes) -> Sequence[int]:
        """The rows of an FDE with these instructions, from offset 0 on, in order of offset, no
        two of one offset, no neighbours with one rule. Raises ElfError."""
        rows = self._run(code, list(self._initial))
        while rows and rows[-1] >= _TOO_FAR:
            rows.pop()
        return rows

    def _run(self, code: bytes, state: _State) -> list[int]:
        # The hot loop. ``state`` is changed in place (that is how a CIE's instructions count),
        # tests are in order of how common operations are.
        if len(code) > MAX_PROGRAM_BYTES:
            raise ElfError("a call frame program of unlikely length")
        end = len(code)
        code += _PADDING
        slots, factor, step = self._slots, self._factor, self._step
        numbers, rows = self._numbers, []
        stack: list[_State] = []
        place, last, at = 0, -1, 0
        while at < end:
            operation = code[at]
            at += 1
            if operation >= 0x80:
                slot = slots[operation & 0x3F]
                if operation >= 0xC0:  # DW_CFA_restore
                    if slot:
                        state[slot] = self._initial[slot]
                    continue
                number = code[at]  # DW_CFA_offset
                at += 1
                if number >= 0x80:
                    number, at = read_uleb128(code, at - 1)
                if slot:
                    state[slot] = number * factor
                continue
            if operation == 0x0E:  # DW_CFA_def_cfa_offset
                number = code[at]
                at += 1
                if number >= 0x80:
                    number, at = read_uleb128(code, at - 1)
                state[OFFSET] = number
                continue
            if operation >= 0x40:  # DW_CFA_advance_loc
                number = operation & 0x3F
            elif operation == 0x02:  # DW_CFA_advance_loc1
                number = code[at]
                at += 1
            elif operation in _ADVANCE:
                size = _ADVANCE[operation]
                number = int.from_bytes(code[at : at + size], "little")
                at += size
            else:
                at = self._rare(operation, code, at, end, state, stack)
                continue
            if number:
                key = tuple(state)
                rule = numbers.get(key)
                if rule is None:
                    rule = numbers[key] = self._book.number_of_state(key, self._signal)
                if rule != last:
                    rows.append(place | rule)
                    last = rule
                place += number * step
        rule = self._book.number_of_state(state, self._signal)
        if rule != last:
            rows.append(place | rule)
        return rows

    def _rare(
        self, operation: int, code: bytes, at: int, end: int, state: _State, stack: list[_State]
    ) -> int:
        """Run one operation that is not of the hot loop; where the next one is."""
        if operation == 0x0A:  # DW_CFA_remember_state
            if len(stack) >= MAX_REMEMBERED:
                raise ElfError("too many remembered states")
            stack.append(list(state))
        elif operation == 0x0B:  # DW_CFA_restore_state
            if not stack:
                raise ElfError("no state to restore")
            state[:] = stack.pop()
        elif operation in (0x0C, 0x12):  # DW_CFA_def_cfa, DW_CFA_def_cfa_sf
            state[REGISTER], at = read_uleb128(code, at)
            state[OFFSET], at = self._number(code, at, signed=operation == 0x12)
            state[EXPRESSION] = None
        elif operation == 0x0D:  # DW_CFA_def_cfa_register
            state[REGISTER], at = read_uleb128(code, at)
            state[EXPRESSION] = None
        elif operation == 0x13:  # DW_CFA_def_cfa_offset_sf
            state[OFFSET], at = self._number(code, at, signed=True)
        elif operation == 0x0F:  # DW_CFA_def_cfa_expression
            state[EXPRESSION], at = _block(code, at, end)
        elif operation == 0x2E:  # DW_CFA_GNU_args_size
            _, at = read_uleb128(code, at)
        elif operation not in (0x00, 0x2D):
            # DW_CFA_nop; DW_CFA_AARCH64_negate_ra_state (or GNU_window_save, of SPARC): the walker
            # strips authentication codes from every return address.
            return self._register_rule(operation, code, at, end, state)
        return at

    def _register_rule(self, operation: int, code: bytes, at: int, end: int, state: _State) -> int:
        """Run one operation that begins with a register's number."""
        register, at = read_uleb128(code, at)
        slot = self._slots[register] if register < 64 else 0
        saved: Union[int, str, bytes, None]
        if operation == 0x05:  # DW_CFA_offset_extended
            saved, at = self._number(code, at, factored=True)
        elif operation == 0x11:  # DW_CFA_offset_extended_sf
            saved, at = self._number(code, at, signed=True)
        elif operation == 0x2F:  # DW_CFA_GNU_negative_offset_extended
            number, at = self._number(code, at, factored=True)
            saved = -number
        elif operation == 0x06:  # DW_CFA_restore_extended
            saved = self._initial[slot] if slot else None
        elif operation == 0x07:  # DW_CFA_undefined
            saved = UNDEFINED
        elif operation == 0x08:  # DW_CFA_same_value
            saved = SAME_VALUE
        elif operation == 0x09:  # DW_CFA_register
            number, at = read_uleb128(code, at)
            saved = ELSEWHERE
            if slot == RA and number == self._book.registers.vfork:
                saved = IN_REGISTER
        elif operation in (0x14, 0x15):  # DW_CFA_val_offset, val_offset_sf
            _, at = read_uleb128(code, at)
            saved = ELSEWHERE
        elif operation == 0x10:  # DW_CFA_expression
            saved, at = _block(code, at, end)
        elif operation == 0x16:  # DW_CFA_val_expression
            _, at = _block(code, at, end)
            saved = ELSEWHERE
        else:  # among them DW_CFA_set_loc, which no producer in use emits
            raise ElfError("an unknown call frame instruction")
        if slot:
            state[slot] = saved
        return at

    def _number(
        self, code: bytes, at: int, signed: bool = False, factored: bool = False
    ) -> tuple[int, int]:
        """A number and where it ends; signed ones always count in units of the data factor."""
        if signed:
            number, at = read_sleb128(code, at)
        else:
            number, at = read_uleb128(code, at)
        return (number * self._factor if signed or factored else number), at


def _block(code: bytes, at: int, end: int) -> tuple[Optional[bytes], int]:
    """An expression and where it ends. Those too long to be of a known form come out empty."""
    length, at = read_uleb128(code, at)
    if length > end + len(_PADDING) - at:
        raise ElfError("an expression cut short")
    return code[at : at + min(length, MAX_EXPRESSION_BYTES + 1)], at + length
