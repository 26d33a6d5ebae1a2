"""What the unwinder's parts share: kinds of rules, and what is handed from step to step."""

from __future__ import annotations

from enum import IntEnum
from typing import Callable

from systemscope.bpfasm.records import Record, u64
from systemscope.bpfasm.values import Expr, Pointer, Value
from systemscope.programs.common import Ground

#: ``read(to, size, address)`` copies the target's memory and answers 0 when it could.
ReadUser = Callable[[Expr, int, Expr], Value]

STEP = "unwind_step"
NO_WINDOW = 1 << 63  # no user address is near it
_MULTIPLIER = 0xFF51AFD7ED558CCD  # MurmurHash3's 64-bit finalizer


class Cfa(IntEnum):
    """How the canonical frame address is found, as ``elf.unwind_table.CfaKind``."""

    NONE = 0
    UNSUPPORTED = 1
    ENTRY = 2
    STACK = 3
    FRAME = 4
    EXTRA = 5
    STACK_DEREF = 6
    FRAME_DEREF = 7
    PLT = 8
    SIGNAL = 9


class Save(IntEnum):
    """Where the caller's register is, as ``elf.unwind_table.SaveKind``."""

    SAME = 0
    AT_CFA = 1
    AT_FRAME = 2
    LOST = 3
    IN_REGISTER = 4


class WalkContext(Record):
    """What bpf_loop hands to each step; lies on the stack of the program."""

    scratch: u64
    task: u64


def mix(g: Ground, scratch: Pointer, value: Expr) -> None:
    """Take ``value`` into the hash of the stack."""
    b = g.b
    hashed = b.let((scratch.hash ^ value) * _MULTIPLIER)
    scratch.hash = hashed ^ (hashed >> 29)
