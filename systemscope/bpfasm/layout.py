"""From functions with labels to one ProgramSpec: displacements, relocations, source lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from systemscope.bpfasm.insn import Insn
from systemscope.bpfasm.isa import Class, Jmp
from systemscope.bpfasm.types import (
    AttachType,
    MapSpec,
    ProgramFlag,
    ProgramSpec,
    ProgramType,
    Reloc,
    RelocKind,
    SourceLine,
    Subprogram,
)

if TYPE_CHECKING:
    from systemscope.bpfasm.assembler import Function


def lay_out(
    name: str,
    functions: dict[str, Function],
    type: ProgramType,
    attach_to: str,
    attach_type: AttachType,
    flags: ProgramFlag,
    isa: int,
) -> ProgramSpec:
    """Place the functions one after the other, resolve every label and reference."""
    starts, slot = {}, 0
    for function in functions.values():
        starts[function.name] = slot
        slot += sum(insn.slots for insn in function.insns)
    code: list[bytes] = []
    relocs: list[Reloc] = []
    lines: list[SourceLine] = []
    maps: dict[int, MapSpec] = {}
    for function in functions.values():
        slots = _slots(function.insns, starts[function.name])
        for position, insn in enumerate(function.insns):
            at = slots[position]
            _resolve(insn, at, function, slots, starts)
            code.append(insn.encode())
            where = insn.location
            lines.append(SourceLine(at, where.file, where.line, where.text))
            if insn.link is not None:
                link = insn.link
                relocs.append(Reloc(at, link.kind, link.map, link.symbol, link.offset))
                if link.kind in (RelocKind.MAP_FD, RelocKind.MAP_VALUE) and link.map is not None:
                    maps[id(link.map)] = link.map
    subprograms = tuple(
        Subprogram(starts[f.name], f.name, f.arguments, f.callback, f.apart)
        for f in functions.values()
    )
    return ProgramSpec(
        name=name,
        type=type,
        code=b"".join(code),
        relocs=tuple(relocs),
        lines=tuple(lines),
        subprograms=subprograms,
        maps=tuple(maps.values()),
        attach_to=attach_to,
        attach_type=attach_type,
        flags=flags,
        isa=isa,
    )


def _slots(insns: list[Insn], start: int) -> list[int]:
    slots = []
    for insn in insns:
        slots.append(start)
        start += insn.slots
    slots.append(start)
    return slots


def _resolve(
    insn: Insn, at: int, function: Function, slots: list[int], starts: dict[str, int]
) -> None:
    if insn.function:
        if insn.function not in starts:
            raise insn.fail(f"there is no BPF function '{insn.function}'")
        insn.immediate = starts[insn.function] - at - 1
        if insn.wide:
            # Two halves: only the low one carries the displacement (kernel: check_ld_imm).
            insn.immediate &= 0xFFFFFFFF
    if insn.target:
        if insn.target not in function.labels:
            raise insn.fail(f"label '{insn.target}' is nowhere in function '{function.name}'")
        distance = slots[function.labels[insn.target]] - at - 1
        if insn.opcode == Class.JMP32 | Jmp.JA:
            insn.immediate = distance
        elif -0x8000 <= distance <= 0x7FFF:
            insn.offset = distance
        else:
            raise insn.fail(f"label '{insn.target}' is {distance} slots away: 16 bits reach 32767")
