"""What a program may be made of."""

from __future__ import annotations

from dataclasses import replace

from systemscope.errors import KernelError
from systemscope.kernel.probes import tiny
from systemscope.kernel.probing import Finding, Prober, probe
from systemscope.syscalls import bpf

_ALU64_MOV = 0xB7
_ISA_SAMPLES = (
    (2, tiny.insn(_ALU64_MOV) + tiny.insn(0xA5, imm=1) + tiny.EXIT),  # if r0 < 1
    (3, tiny.insn(_ALU64_MOV) + tiny.insn(0x16, imm=1) + tiny.EXIT),  # if w0 == 1
    (
        4,  # r0 = (s8)r0; r0 = bswap16 r0; gotol +0
        tiny.insn(_ALU64_MOV)
        + tiny.insn(0xBF, off=8)
        + tiny.insn(0xD7, imm=16)
        + tiny.insn(0x06)
        + tiny.EXIT,
    ),
)
SHORT = 4095  # slots every kernel takes: before 5.2 a program of 4096 was one too long
LONG = 1_000_000
_LOOKUP = 1


@probe(
    "instruction set level",
    since="6.6 for level 4",
    missing="programs are longer and slower for want of newer instructions",
)
def isa(p: Prober) -> Finding:
    """Levels are cumulative; the first refusal ends the climb."""
    level = 1
    plain = p.verify(tiny.program(tiny.SOCKET_FILTER))
    if not plain.available:
        return Finding(plain.state, 1, plain.detail)
    for candidate, code in _ISA_SAMPLES:
        if not p.verify(tiny.program(tiny.SOCKET_FILTER, code)).available:
            break
        level = candidate
    return Finding.yes(level) if level == 4 else Finding.no(f"level {level} of 4", level)


@probe(
    "programs of more than 4096 instructions",
    since="5.2",
    missing="stacks are walked less deep in one program",
)
def max_instructions(p: Prober) -> Finding:
    """Before 5.2, and without privilege ever since, 4096 is the end."""
    code = tiny.insn(_ALU64_MOV) * 4096 + tiny.EXIT
    finding = p.verify(tiny.program(tiny.SOCKET_FILTER, code))
    return Finding(finding.state, LONG if finding.available else SHORT, finding.detail)


@probe("bounded loops", since="5.3", missing="loops are unrolled: longer programs, shorter walks")
def bounded_loops(p: Prober) -> Finding:
    """Count r0 from 0 to 10."""
    code = tiny.insn(_ALU64_MOV) + tiny.insn(0x07, imm=1) + tiny.insn(0x55, off=-2, imm=10)
    return p.verify(tiny.program(tiny.SOCKET_FILTER, code + tiny.EXIT))


@probe("calls between BPF functions", since="4.16", missing="functions are inlined")
def bpf_calls(p: Prober) -> Finding:
    """Call the function that follows the exit."""
    code = tiny.insn(0x85, src=1, imm=1) + tiny.EXIT + tiny.RETURN_0
    return p.verify(tiny.program(tiny.SOCKET_FILTER, code))


@probe(
    "fetching atomic operations",
    since="5.12",
    missing="periods of short waits are drawn per CPU instead of per thread",
)
def fetch_atomics(p: Prober) -> Finding:
    """Fetch-and-add on the stack; just-in-time compilers learnt it at different times."""
    code = (
        tiny.insn(_ALU64_MOV, 1, imm=1)
        + tiny.insn(0x7A, 10, off=-8)
        + tiny.insn(0xDB, 10, 1, -8, 1)
        + tiny.RETURN_0
    )
    return p.verify(tiny.program(tiny.SOCKET_FILTER, code))


@probe("addresses of map values", since="5.2", missing="a lookup for each use of a table")
def map_value_address(p: Prober) -> Finding:
    """A 64-bit immediate of pseudo source BPF_PSEUDO_MAP_VALUE."""
    return _with_array(p, lambda fd: tiny.map_value(1, fd) + tiny.RETURN_0)


@probe("map values as helper arguments", since="4.18", missing="keys and values are copied first")
def map_value_arguments(p: Prober) -> Finding:
    """Look up a key that lies in the value found by a lookup before."""
    return _with_array(p, _nested_lookup)


def _nested_lookup(fd: int) -> bytes:
    return (
        tiny.insn(0x62, 10, off=-4)  # *(u32 *)(r10 - 4) = 0
        + tiny.insn(0xBF, 2, 10)
        + tiny.insn(0x07, 2, imm=-4)
        + tiny.map_fd(1, fd)
        + tiny.call(_LOOKUP)
        + tiny.insn(0x15, 0, off=4)  # if r0 == 0 goto the end
        + tiny.insn(0xBF, 2, 0)
        + tiny.map_fd(1, fd)
        + tiny.call(_LOOKUP)
        + tiny.RETURN_0
    )


def _with_array(p: Prober, code: object) -> Finding:
    assert callable(code)
    try:
        array = bpf.map_create(2, 4, 8, 1)
    except KernelError as error:
        return Finding.refused(error.errno or 0, "no array map")
    with array:
        return p.verify(tiny.program(tiny.SOCKET_FILTER, code(array.number)))


@probe(
    "function types of programs",
    since="5.0",
    missing="no bpf_loop, and functions are nameless in the kernel's own listings",
)
def func_info(p: Prober) -> Finding:
    """A program that says which BTF function it is."""
    return _with_btf(p, False)


@probe(
    "source lines of programs",
    since="5.0",
    missing="a rejected program is told with fewer hints",
)
def line_info(p: Prober) -> Finding:
    """A program that says which line its first instruction came from."""
    return _with_btf(p, True)


def _with_btf(p: Prober, lines: bool) -> Finding:
    try:
        types = bpf.btf_load(tiny.BTF)
    except KernelError as error:
        return Finding.refused(error.errno or 0, "BTF is not taken")
    with types:
        request = replace(
            tiny.program(tiny.SOCKET_FILTER),
            btf_fd=types.number,
            func_info=tiny.FUNC_INFO,
            func_info_rec_size=8,
        )
        if lines:
            request = replace(request, line_info=tiny.LINE_INFO, line_info_rec_size=16)
        return p.verify(request)
