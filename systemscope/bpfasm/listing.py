"""The readable listing of a program, in the verifier's syntax; ``parser`` reads it back.

Every byte string has a listing: what is no instruction of ISA v1-v4 appears as ``.raw``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Optional

from systemscope.bpfasm import render
from systemscope.bpfasm.insn import Insn
from systemscope.bpfasm.isa import SLOT
from systemscope.bpfasm.syntax import map_names, name_text
from systemscope.bpfasm.types import (
    AttachType,
    MapSpec,
    ProgramSpec,
    Reloc,
    RelocKind,
    SourceLine,
    Subprogram,
)


@dataclass
class _Layout:
    """Where everything stands in the program being listed."""

    spec: ProgramSpec
    insns: dict[int, Insn] = field(default_factory=dict)
    relocs: dict[int, Reloc] = field(default_factory=dict)
    functions: dict[int, Subprogram] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)
    maps: dict[MapSpec, str] = field(default_factory=dict)


def listing(spec: ProgramSpec, *, slots: bool = False, source: bool = False) -> str:
    """The whole program as text, ending in a newline.

    ``slots`` numbers the instructions, in 8-byte slots as the verifier's log does. ``source`` puts
    each Python line, as a comment, before the instructions it made.
    """
    layout = _lay_out(spec)
    lines = [_program_line(spec)]
    lines += [_map_line(one, name) for one, name in layout.maps.items()]
    made_by = {line.index: line for line in spec.lines}
    shown: Optional[tuple[str, int]] = None
    for index, insn in layout.insns.items():
        if index in layout.functions:
            lines += ["", _function_line(layout.functions[index])]
            shown = None
        if index in layout.labels:
            lines.append(f"{layout.labels[index]}:")
        line = made_by.get(index)
        if source and line is not None and shown != (line.file, line.line):
            lines.append(_source_comment(line))
            shown = (line.file, line.line)
        number = f"{index:5d}: " if slots else "    "
        lines.append(number + _text(layout, index, insn))
    return "\n".join(lines) + "\n"


def instructions(spec: ProgramSpec) -> list[tuple[int, str]]:
    """(slot, text) of every instruction, labels left out."""
    layout = _lay_out(spec)
    return [(index, _text(layout, index, insn)) for index, insn in layout.insns.items()]


def decode(code: bytes) -> Iterator[tuple[int, Insn]]:
    """(slot, instruction) of ``code``; a trailing part of a slot is refused with ValueError."""
    if len(code) % SLOT:
        raise ValueError(f"BPF code of {len(code)} bytes is no whole number of 8-byte slots")
    index, count = 0, len(code) // SLOT
    while index < count:
        insn = render.decode_slot(code, index)
        yield index, insn
        index += insn.slots


def _lay_out(spec: ProgramSpec) -> _Layout:
    layout = _Layout(spec, dict(decode(spec.code)))
    layout.relocs = {reloc.index: reloc for reloc in spec.relocs}
    layout.functions = {function.index: function for function in spec.subprograms}
    maps = list(spec.maps)
    for reloc in spec.relocs:
        if reloc.map is not None and reloc.map not in maps:
            maps.append(reloc.map)
    layout.maps = dict(zip(maps, map_names([one.name for one in maps])))
    targets = {
        target
        for index, insn in layout.insns.items()
        for target in [_jump_target(layout, index, insn)]
        if target is not None
    }
    for number, target in enumerate(sorted(targets), 1):
        layout.labels[target] = f"L{number}"
    return layout


def _jump_target(layout: _Layout, index: int, insn: Insn) -> Optional[int]:
    """Slot a jump goes to, where a label can say it: an instruction of the same function."""
    distance = render.displacement(insn)
    if distance is None:
        return None
    target = index + 1 + distance
    low, high = sorted((index, target))
    crosses = any(low < start <= high for start in layout.functions)
    return target if target in layout.insns and not crosses else None


def _text(layout: _Layout, index: int, insn: Insn) -> str:
    reloc = layout.relocs.get(index)
    if reloc is not None:
        return _linked(layout, insn, reloc)
    target = _jump_target(layout, index, insn)
    plain = render.text(insn, "" if target is None else layout.labels[target])
    if plain.startswith("call pc") or " = func pc" in plain:
        words, distance = plain.rsplit("pc", 1)
        function = layout.functions.get(index + 1 + int(distance))
        if function is not None:
            return words + name_text(function.name)
    return plain


def _linked(layout: _Layout, insn: Insn, reloc: Reloc) -> str:
    if reloc.kind is RelocKind.KFUNC:
        return f"call kfunc {name_text(reloc.symbol)}"
    if reloc.kind is RelocKind.KSYM:
        return f"r{insn.dst} = ksym {name_text(reloc.symbol)}"
    assert reloc.map is not None
    name = f"map[{name_text(layout.maps[reloc.map])}]"
    if reloc.kind is RelocKind.MAP_VALUE:
        name += f".value+{reloc.offset}"
    return f"r{insn.dst} = {name}"


def _program_line(spec: ProgramSpec) -> str:
    words = [f".program {name_text(spec.name)} type={spec.type.name} isa={spec.isa}"]
    if spec.attach_type is not AttachType.NONE:
        words.append(f"attach_type={spec.attach_type.name}")
    if spec.attach_to:
        words.append(f"attach_to={name_text(spec.attach_to)}")
    words.append(f"flags={int(spec.flags):#x} license={json.dumps(spec.license)}")
    return " ".join(words)


def _map_line(spec: MapSpec, name: str) -> str:
    sizes = f"key={spec.key_size} value={spec.value_size} entries={spec.max_entries}"
    alias = f" name={name_text(spec.name)}" if name != spec.name else ""
    flags = int(spec.flags)
    line = f".map {name_text(name)} type={spec.type.name} {sizes} flags={flags:#x}{alias}"
    if spec.inner is not None:
        inner = spec.inner
        line += f" inner={inner.type.name} inner_key={inner.key_size}"
        line += f" inner_value={inner.value_size} inner_entries={inner.max_entries}"
    return line


def _function_line(function: Subprogram) -> str:
    kind = " callback" if function.callback else " apart" if function.apart else ""
    return f".function {name_text(function.name)} arguments={function.arguments}{kind}"


def _source_comment(line: SourceLine) -> str:
    text = "".join(c if c.isprintable() else " " for c in line.text)
    return f"; {line.file}:{line.line}  {text}".rstrip()
