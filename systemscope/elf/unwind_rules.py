"""Rules of unwinding: how the caller's registers follow from the callee's, in sixteen bytes.

One rule answers for one stretch of code. The BPF program that walks stacks reads these bytes, so
the numbers and the layout here are shared with it. Sources: DWARF 5, section 6.4 "Call Frame
Information"; the x86-64 psABI, figure 3.36 (register numbers); the AArch64 DWARF ABI, section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from struct import Struct
from typing import NamedTuple, Optional, Union

from systemscope.elf.cfi_expressions import (
    dereferenced_register,
    plt_threshold,
    register_plus_offset,
)
from systemscope.elf.errors import ElfError
from systemscope.elf.header import Machine


class CfaKind(IntEnum):
    """How the canonical frame address (CFA: sp before the call) is found. Rules of the first three
    kinds have no other fields."""

    NONE = 0  # no table for this code
    UNSUPPORTED = 1  # a rule of a kind that is not known here
    ENTRY = 2  # outermost frame: the return address is undefined
    STACK = 3  # sp + offset
    FRAME = 4  # fp + offset (rbp, x29)
    EXTRA = 5  # extra register + offset (x86-64: rbx, used by _dl_runtime_resolve)
    STACK_DEREF = 6  # *(sp + offset) + add
    FRAME_DEREF = 7  # *(fp + offset) + add (gcc's realigned stacks, OpenSSL's assembler)
    PLT = 8  # sp + offset + (((ip & 15) >= add) << 3)
    SIGNAL = 9  # saved context: sp is *(sp + offset); ra, fp, extra at sp + their offsets
    REGISTER = 10  # register number ``add`` + offset; for people, not for walking


class SaveKind(IntEnum):
    """How the caller's value of a register is found.

    In a SIGNAL rule AT_CFA means *(sp + the register's offset), and on aarch64 the extra register
    is x30: interrupted leaf functions return through it.
    """

    SAME = 0  # unchanged; the return address: in the link register (aarch64)
    AT_CFA = 1  # *(cfa + the register's offset)
    AT_FRAME = 2  # *(fp + the register's offset)
    LOST = 3  # not known in the caller
    IN_REGISTER = 4  # the return address, while vfork() runs on x86-64: in rdi


class Rule(NamedTuple):
    """The fields of one packed rule, in its order."""

    cfa: int
    fp: int
    ra: int
    extra: int
    offset: int
    add: int
    fp_offset: int
    ra_offset: int
    extra_offset: int


RULE = Struct("<BBBBihhhh")
NONE = Rule(0, 0, 0, 0, 0, 0, 0, 0, 0)
UNSUPPORTED = NONE._replace(cfa=CfaKind.UNSUPPORTED)
ENTRY = NONE._replace(cfa=CfaKind.ENTRY)

#: The signal trampoline of aarch64 kernels, at sp + these: struct rt_sigframe of
#: arch/arm64/kernel/signal.c (siginfo, 128 bytes; uc_mcontext 176 further on; regs[31] 8 into it).
#: Its own CFI leads to the interrupted function's caller, not to the function, so it is not used.
AARCH64_SIGNAL = Rule(
    CfaKind.SIGNAL, SaveKind.AT_CFA, SaveKind.AT_CFA, SaveKind.AT_CFA, 560, 0, 544, 568, 552
)

#: A register's rule while its program runs: an offset from the CFA, an expression that gives the
#: place it is saved at, or one of these.
UNDEFINED = "undefined"
SAME_VALUE = "same value"
ELSEWHERE = "elsewhere"  # a rule that is not supported
IN_REGISTER = "in a register"  # of the return address: Registers.vfork
Saved = Union[int, str, bytes, None]

#: A state of the program: CFA register and offset, CFA expression, saves of fp, ra and extra.
State = Sequence[Union[int, str, bytes, None]]
REGISTER, OFFSET, EXPRESSION, FP, RA, EXTRA = range(6)

_S16 = range(-0x8000, 0x8000)
_S32 = range(-0x80000000, 0x80000000)
MAX_RULES = 1 << 24


class Registers(NamedTuple):
    """DWARF numbers of the registers a walk follows; -1 for none. ``vfork`` is where the C
    library's vfork keeps its return address, for the child's writes would hit the stack's."""

    sp: int
    fp: int
    ra: int
    extra: int
    vfork: int


REGISTERS = {
    Machine.X86_64: Registers(sp=7, fp=6, ra=16, extra=3, vfork=5),
    Machine.AARCH64: Registers(sp=31, fp=29, ra=30, extra=-1, vfork=-1),
}


class RuleBook:
    """All rules of one table, each once, numbered from 0: the rule that says nothing."""

    def __init__(self, machine: Machine) -> None:
        self.registers = REGISTERS[machine]
        self._returns_in_register = machine is Machine.AARCH64
        self.packed: list[bytes] = []
        self._numbers: dict[bytes, int] = {}
        self.number(NONE)

    def number(self, rule: Rule) -> int:
        """The number of ``rule``, a new one if it is new. Raises ElfError at the 2^24th."""
        packed = RULE.pack(*rule)
        found = self._numbers.get(packed)
        if found is None:
            found = len(self.packed)
            if found >= MAX_RULES:
                raise ElfError("more unwind rules than any program has")
            self.packed.append(packed)
            self._numbers[packed] = found
        return found

    def number_of_state(self, state: State, signal: bool) -> int:
        """The number of the rule for ``state``; ``signal``: of a frame that a signal made."""
        return self.number(self.rule(state, signal))

    def rule(self, state: State, signal: bool) -> Rule:
        """The rule for a state of a call frame program."""
        if state[RA] == UNDEFINED:
            return ENTRY
        found = self._signal_rule(state) if signal else None
        if found is not None:
            return found
        kind, offset, add = self._cfa(state)
        if kind in (CfaKind.NONE, CfaKind.UNSUPPORTED) or offset not in _S32 or add not in _S16:
            return UNSUPPORTED
        base = offset if kind is CfaKind.FRAME else None
        fp = self._save(state[FP], base)
        ra = self._save(state[RA], base)
        extra = self._save(state[EXTRA], base)
        if state[RA] == IN_REGISTER:
            ra = (SaveKind.IN_REGISTER, 0)
        if ra[0] is SaveKind.SAME and not self._returns_in_register:
            ra = (SaveKind.LOST, 0)
        return Rule(kind, fp[0], ra[0], extra[0], offset, add, fp[1], ra[1], extra[1])

    def _cfa(self, state: State) -> tuple[CfaKind, int, int]:
        register, offset, expression = state[REGISTER], state[OFFSET], state[EXPRESSION]
        if isinstance(expression, bytes):
            return self._cfa_expression(expression)
        if not isinstance(register, int) or not isinstance(offset, int):
            return CfaKind.UNSUPPORTED, 0, 0
        return self._based(register, offset)

    def _based(self, register: int, offset: int) -> tuple[CfaKind, int, int]:
        if register == self.registers.sp:
            return CfaKind.STACK, offset, 0
        if register == self.registers.fp:
            return CfaKind.FRAME, offset, 0
        if register == self.registers.extra:
            return CfaKind.EXTRA, offset, 0
        return CfaKind.REGISTER, offset, register

    def _cfa_expression(self, code: bytes) -> tuple[CfaKind, int, int]:
        plain = register_plus_offset(code)
        if plain is not None:
            return self._based(*plain)
        if self.registers.ra == 16:
            stub = plt_threshold(code)
            if stub is not None:
                return CfaKind.PLT, stub[0], stub[1]
        loaded = dereferenced_register(code)
        if loaded is not None:
            register, offset, add = loaded
            if register == self.registers.sp:
                return CfaKind.STACK_DEREF, offset, add
            if register == self.registers.fp:
                return CfaKind.FRAME_DEREF, offset, add
        return CfaKind.UNSUPPORTED, 0, 0

    def _save(self, saved: Saved, frame_base: Optional[int]) -> tuple[SaveKind, int]:
        """``frame_base`` is the distance of the CFA from fp where that is how it is found: what
        lies too far from the CFA for its field may lie close to fp (large frames on aarch64)."""
        if saved is None or saved == SAME_VALUE:
            return SaveKind.SAME, 0
        if isinstance(saved, int):
            if saved in _S16:
                return SaveKind.AT_CFA, saved
            if frame_base is not None and saved + frame_base in _S16:
                return SaveKind.AT_FRAME, saved + frame_base
        elif isinstance(saved, bytes):
            place = register_plus_offset(saved)
            if place is not None and place[0] == self.registers.fp and place[1] in _S16:
                return SaveKind.AT_FRAME, place[1]
        return SaveKind.LOST, 0

    def _signal_rule(self, state: State) -> Optional[Rule]:
        """For a frame whose caller was interrupted, with all registers saved relative to sp (as
        __restore_rt of the x86-64 C library describes it); None when it is not of that form."""
        cfa, return_address = state[EXPRESSION], self._from_stack(state[RA])
        loaded = dereferenced_register(cfa) if isinstance(cfa, bytes) else None
        if loaded is None or return_address is None:
            return None
        register, offset, add = loaded
        if register != self.registers.sp or add or offset not in _S32:
            return None
        fp, extra = self._from_stack(state[FP]), self._from_stack(state[EXTRA])
        at, lost = SaveKind.AT_CFA, SaveKind.LOST
        return Rule(
            CfaKind.SIGNAL,
            lost if fp is None else at,
            at,
            lost if extra is None else at,
            offset,
            0,
            fp or 0,
            return_address,
            extra or 0,
        )

    def _from_stack(self, saved: Saved) -> Optional[int]:
        """The offset from sp of a register saved there."""
        place = register_plus_offset(saved) if isinstance(saved, bytes) else None
        if place is None or place[0] != self.registers.sp or place[1] not in _S16:
            return None
        return place[1]
