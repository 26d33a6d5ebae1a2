"""One instruction, before its labels are known."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Optional

from systemscope.bpfasm.errors import AssemblyError
from systemscope.bpfasm.isa import CLASSES, Alu, Class, Jmp, Mode, Pseudo
from systemscope.bpfasm.source import Location
from systemscope.bpfasm.types import MapSpec, RelocKind

_SLOT = struct.Struct("<BBhi")


@dataclass(frozen=True)
class Link:
    """What is filled into an instruction when the program is loaded."""

    kind: RelocKind
    map: Optional[MapSpec] = None
    symbol: str = ""
    offset: int = 0


@dataclass
class Insn:
    """``struct bpf_insn`` in the making. ``immediate`` is 64 bits wide for LD_IMM64 only.

    ``target`` names the label a jump goes to, ``function`` the BPF function a call or a function
    address refers to.
    """

    opcode: int
    dst: int = 0
    src: int = 0
    offset: int = 0
    immediate: int = 0
    location: Location = Location("", 0)
    target: str = ""
    function: str = ""
    link: Optional[Link] = None

    @property
    def wide(self) -> bool:
        """True for the 64-bit immediate load, which takes two slots."""
        return self.opcode == 0x18

    @property
    def slots(self) -> int:
        """How many 8-byte slots it takes."""
        return 2 if self.wide else 1

    @property
    def ends(self) -> bool:
        """True when control never falls through."""
        return self.opcode in (Class.JMP | Jmp.EXIT, Class.JMP | Jmp.JA, Class.JMP32 | Jmp.JA)

    def fail(self, problem: str) -> AssemblyError:
        """The error to raise for this instruction."""
        return AssemblyError(problem, self.location.file, self.location.line)

    def encode(self) -> bytes:
        """Little-endian bytes; every field is checked, none is masked."""
        if not -0x8000 <= self.offset <= 0x7FFF:
            raise self.fail(f"offset {self.offset} does not fit in 16 bits")
        registers = self.dst | self.src << 4
        if self.wide:
            value = self.immediate
            if not -(1 << 63) <= value < 1 << 64:
                raise self.fail(f"immediate {value:#x} does not fit in 64 bits")
            low, high = struct.unpack("<ii", struct.pack("<Q", value & 0xFFFFFFFFFFFFFFFF))
            first = _SLOT.pack(self.opcode, registers, self.offset, low)
            return first + _SLOT.pack(0, 0, 0, high)
        if not -(1 << 31) <= self.immediate < 1 << 31:
            raise self.fail(f"immediate {self.immediate:#x} does not fit in 32 signed bits")
        return _SLOT.pack(self.opcode, registers, self.offset, self.immediate)

    def reads(self) -> set[int]:
        """Registers whose value it needs (a call's arguments are not known here)."""
        kind, high = CLASSES[self.opcode & 7], self.opcode & 0xF0
        by_register = bool(self.opcode & 8)
        if kind in (Class.ALU, Class.ALU64):
            if high == Alu.END or high == Alu.NEG:
                return {self.dst}
            source = {self.src} if by_register else set()
            return source if high == Alu.MOV else source | {self.dst}
        if kind in (Class.JMP, Class.JMP32):
            if high == Jmp.EXIT:
                return {0}
            if high in (Jmp.JA, Jmp.CALL, Jmp.JCOND):
                return set()
            return {self.dst, self.src} if by_register else {self.dst}
        if kind is Class.LDX:
            return {self.src}
        if kind is Class.ST:
            return {self.dst}
        if kind is Class.STX:
            compares = self.opcode & 0xE0 == Mode.ATOMIC and self.immediate == 0xF1
            return {self.dst, self.src} | ({0} if compares else set())
        legacy = {6} if self.opcode & 0xE0 in (Mode.ABS, Mode.IND) else set()
        return legacy | {self.src} if self.opcode & 0xE0 == Mode.IND else legacy

    def writes(self) -> set[int]:
        """Registers that hold a value of its making afterwards."""
        kind, high = CLASSES[self.opcode & 7], self.opcode & 0xF0
        if kind in (Class.ALU, Class.ALU64, Class.LDX):
            return {self.dst}
        if kind is Class.LD:
            return {self.dst} if self.wide else {0}
        if kind is Class.JMP and high == Jmp.CALL:
            return {0}
        if kind is Class.STX and self.opcode & 0xE0 == Mode.ATOMIC and self.immediate & 1:
            return {0} if self.immediate == 0xF1 else {self.src}
        return set()

    def clobbers(self) -> set[int]:
        """Registers whose value is gone afterwards."""
        is_call = self.opcode == Class.JMP | Jmp.CALL
        is_legacy = self.opcode & 7 == Class.LD and not self.wide
        return {1, 2, 3, 4, 5} if is_call or is_legacy else set()


def function_address(dst: int, name: str, location: Location) -> Insn:
    """LD_IMM64 of a BPF function's address, for callbacks."""
    return Insn(0x18, dst, Pseudo.FUNC, location=location, function=name)
