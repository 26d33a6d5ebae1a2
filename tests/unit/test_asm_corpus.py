"""Every encoding of the ISA: text, bytes and the explicit level agree, with one another and with
llvm-objdump."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from systemscope.bpfasm import render
from systemscope.bpfasm.assembler import Assembler
from systemscope.bpfasm.errors import AssemblyError
from systemscope.bpfasm.isa import level_of
from systemscope.bpfasm.layout import lay_out
from systemscope.bpfasm.listing import decode, instructions
from systemscope.bpfasm.parser import parse
from systemscope.bpfasm.types import AttachType, ProgramFlag, ProgramSpec, ProgramType
from tests.unit.asm_emitters import emitters
from tests.unit.asm_oracles import Case, as_llvm, corpus, from_llvm, objdump, require_objdump
from tests.unit.asm_random import random_code

CASES = corpus()
EMITTERS = emitters()


def _id(case: Case) -> str:
    return case.text


def _spec(code: bytes) -> ProgramSpec:
    return ProgramSpec("corpus", ProgramType.SOCKET_FILTER, code)


def _emitted(case: Case, isa: int = 4) -> bytes:
    """What the explicit level makes of the case, without whatever its jump needs around it."""
    asm = Assembler("corpus", isa)
    EMITTERS[case.text](asm)
    spec = lay_out(
        "corpus",
        asm.functions,
        ProgramType.SOCKET_FILTER,
        "",
        AttachType.NONE,
        ProgramFlag(0),
        isa,
    )
    if "pc-" in case.text:
        return spec.code[-len(case.code) :]
    return spec.code[: len(case.code)]


def test_the_corpus_is_whole() -> None:
    texts = [case.text for case in CASES]
    assert len(texts) == len(set(texts)) == 169
    assert set(texts) == set(EMITTERS)
    # One case for every opcode, and for what its fields decide beyond the opcode.
    assert len({case.code[0] for case in CASES}) == 126


@pytest.mark.parametrize("case", CASES, ids=_id)
def test_text_gives_bytes(case: Case) -> None:
    assert parse(case.text, check=False).code.hex() == case.code.hex()


@pytest.mark.parametrize("case", CASES, ids=_id)
def test_bytes_give_text(case: Case) -> None:
    assert instructions(_spec(case.code)) == [(0, case.text)]


@pytest.mark.parametrize("case", CASES, ids=_id)
def test_the_explicit_level_gives_bytes(case: Case) -> None:
    assert _emitted(case).hex() == case.code.hex()


@pytest.mark.parametrize("case", [case for case in CASES if case.level > 1], ids=_id)
def test_a_lower_level_refuses_it(case: Case) -> None:
    (_, insn), *_rest = decode(case.code)
    assert level_of(insn.opcode, insn.offset, insn.immediate) == case.level
    with pytest.raises(AssemblyError, match=f"needs ISA v{case.level}, .* v{case.level - 1}"):
        _emitted(case, case.level - 1)
    if "pc" not in case.text:
        with pytest.raises(AssemblyError, match=r"listing:2: the instruction needs ISA"):
            parse(f".program x isa={case.level - 1}\n{case.text}\n")


def test_levels_count_as_the_isa_does() -> None:
    """RFC 9669 and LLVM: v2 adds 4 comparisons, v3 JMP32 and atomics, v4 the rest."""
    levels = [case.level for case in CASES]
    assert [levels.count(level) for level in (1, 2, 3, 4)] == [100, 8, 40, 21]


def test_llvm_reads_every_encoding_alike(tmp_path: Path) -> None:
    require_objdump()
    _compare(b"".join(case.code for case in CASES), tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_llvm_reads_random_instructions_alike(seed: int, tmp_path: Path) -> None:
    require_objdump()
    _compare(random_code(random.Random(seed), 2000), tmp_path)


def _compare(code: bytes, directory: Path) -> None:
    theirs = objdump(code, directory)
    assert theirs.keys() == {slot for slot, _ in decode(code)}
    wrong = [
        (slot, text, theirs[slot])
        for slot, text in ((slot, render.text(insn)) for slot, insn in decode(code))
        if as_llvm(text) != from_llvm(theirs[slot])
    ]
    assert wrong == []


def test_a_jump_to_itself_has_a_label() -> None:
    assert instructions(_spec(bytes.fromhex("0500ffff00000000"))) == [(0, "goto L1")]
