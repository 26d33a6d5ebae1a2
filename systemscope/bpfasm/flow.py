"""Control flow over one function's instructions: what is reached, and what is set when it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from systemscope.bpfasm.errors import AssemblyError
from systemscope.bpfasm.insn import Insn
from systemscope.bpfasm.isa import Class, Jmp


def successors(insns: list[Insn], labels: dict[str, int], index: int) -> list[int]:
    """Instruction numbers that may run after ``index``; len(insns) means falling off the end."""
    insn = insns[index]
    result = []
    if insn.target:
        if insn.target not in labels:
            raise insn.fail(f"label '{insn.target}' is nowhere in the function")
        result.append(labels[insn.target])
    if not insn.ends:
        result.append(index + 1)
    return result


def reachable(insns: list[Insn], labels: dict[str, int]) -> set[int]:
    """Instruction numbers that control can reach from the first one."""
    seen: set[int] = set()
    todo = [0]
    while todo:
        index = todo.pop()
        if index in seen or index >= len(insns):
            continue
        seen.add(index)
        todo += successors(insns, labels, index)
    return seen


def drop_unreachable(insns: list[Insn], labels: dict[str, int]) -> None:
    """Remove what control never reaches, and jumps to the next instruction, in place."""
    while True:
        live = reachable(insns, labels)
        dead = [i for i in range(len(insns)) if i not in live or _is_idle_jump(insns, labels, i)]
        if not dead:
            return
        gone = set(dead)
        moved = []
        kept = 0
        for index in range(len(insns) + 1):
            moved.append(kept)
            kept += index not in gone
        for name, position in labels.items():
            labels[name] = moved[position]
        insns[:] = [insn for i, insn in enumerate(insns) if i not in gone]


def _is_idle_jump(insns: list[Insn], labels: dict[str, int], index: int) -> bool:
    insn = insns[index]
    return insn.opcode == Class.JMP | Jmp.JA and labels.get(insn.target) == index + 1


def check_registers(
    name: str,
    insns: list[Insn],
    labels: dict[str, int],
    arguments: int,
    callees: Mapping[str, int],
) -> None:
    """Raise when an instruction may read a register nothing has set, or control falls off the end.

    ``callees`` are the program's functions with their numbers of arguments: a call reads those.
    Forward data flow: a register is set where it is set on every path (bit masks, to a fixpoint).
    """
    if not insns:
        raise AssemblyError(f"function '{name}' has no instructions")
    entry = 1 << 10
    for argument in range(1, arguments + 1):
        entry |= 1 << argument
    state: dict[int, int] = {0: entry}
    effects: list[Optional[tuple[int, int, int]]] = [None] * len(insns)
    todo = [0]
    while todo:
        index = todo.pop()
        insn = insns[index]
        have = state[index]
        called = 0 if insn.wide or not insn.function else callees.get(insn.function, 0)
        effect = effects[index]
        if effect is None:
            effect = effects[index] = _effect(insn, called)
        reads, keeps, writes = effect
        if reads & ~have:
            missing = (reads & ~have).bit_length() - 1
            raise insn.fail(f"r{missing} is read before it is set")
        after = have & keeps | writes
        for following in successors(insns, labels, index):
            if following >= len(insns):
                raise insn.fail(f"control falls off the end of function '{name}'")
            known = state.get(following)
            merged = after if known is None else known & after
            if merged != known:
                state[following] = merged
                todo.append(following)


def _effect(insn: Insn, called: int) -> tuple[int, int, int]:
    """Masks of the registers it reads, leaves alone and sets."""
    reads = _mask(insn.reads()) | (1 << called + 1) - 2
    return reads, ~_mask(insn.clobbers()), _mask(insn.writes())


def _mask(registers: set[int]) -> int:
    mask = 0
    for register in registers:
        mask |= 1 << register
    return mask
