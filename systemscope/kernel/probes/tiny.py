"""The few instructions that probe programs are made of, encoded by hand.

A probe must not stand or fall with an assembler, and importing one would cost more than all the
questions. Opcodes are those of Documentation/bpf/standardization/instruction-set.rst.
"""

from __future__ import annotations

import struct

from systemscope.syscalls.bpf import LoadRequest

_INSN = struct.Struct("<BBhi")
_BTF_HEADER = struct.Struct("=HBBIIIII")

SOCKET_FILTER = 1
KPROBE = 2
TRACEPOINT = 5
PERF_EVENT = 7
RAW_TRACEPOINT = 17
TRACING = 26

TRACE_RAW_TP = 23
TRACE_ITER = 28
ATTACH_PERF_EVENT = 41

SLEEPABLE = 1 << 4


def insn(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    """One 8-byte instruction slot."""
    return _INSN.pack(code, dst | src << 4, off, imm)


def map_fd(dst: int, number: int) -> bytes:
    """rDST = the map behind a descriptor."""
    return insn(0x18, dst, 1, 0, number) + insn(0)


def map_value(dst: int, number: int) -> bytes:
    """rDST = the address of the first byte of an array map."""
    return insn(0x18, dst, 2, 0, number) + insn(0)


def call(helper: int) -> bytes:
    """Call a helper by number."""
    return insn(0x85, imm=helper)


EXIT = insn(0x95)
RETURN_0 = insn(0xB7) + EXIT


def program(kind: int, code: bytes = RETURN_0) -> LoadRequest:
    """A nameless program; names are a question of their own."""
    return LoadRequest(type=kind, code=code)


# The smallest types: id 1 int, id 2 a function that returns it, id 3 that function's name.
_STRINGS = b"\0int\0probe\0probe.py\0return 0\0"
_TYPES = struct.pack("=4I", 1, 1 << 24, 4, 1 << 24 | 32)
_TYPES += struct.pack("=3I", 0, 13 << 24, 1)
_TYPES += struct.pack("=3I", 5, 12 << 24, 2)
BTF_INT = 1
BTF_FUNCTION = 3
BTF = (
    _BTF_HEADER.pack(0xEB9F, 1, 0, 24, 0, len(_TYPES), len(_TYPES), len(_STRINGS))
    + _TYPES
    + _STRINGS
)
FUNC_INFO = struct.pack("=II", 0, BTF_FUNCTION)
LINE_INFO = struct.pack("=4I", 0, _STRINGS.index(b"probe.py"), _STRINGS.index(b"return"), 1 << 10)
