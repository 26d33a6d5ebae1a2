"""The verifier reads every instruction as our listing does.

Each instruction is put in a program of its own and loaded with ``log_level=2``: the verifier prints
an instruction before it judges it, so it need not be acceptable, only be reached.
"""

from __future__ import annotations

import random
import re

import pytest

from systemscope.bpf.map import Map
from systemscope.bpf.program import Program
from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.listing import instructions
from systemscope.bpfasm.parser import parse
from systemscope.bpfasm.types import MapSpec, MapType, ProgramSpec
from systemscope.syscalls import bpf
from tests.unit.asm_oracles import Case, common, corpus, from_verifier
from tests.unit.asm_random import random_slot

pytestmark = pytest.mark.kernel

_PRINTED = re.compile(r"^(\d+): \(([0-9a-f]{2})\) (.*?)(?:\s*;.*)?$", re.MULTILINE)

#: Registers with values, stack with bytes, then a branch that makes both of the next two slots
#: reachable whatever the instruction under test does.
_BEFORE = """
r6 = r1
r0 = 0
r2 = 3
r3 = 9
r4 = 5
r5 = 5
r7 = 1
r8 = 1
r9 = 0
*(u64 *)(r10 -8) = 0
*(u64 *)(r10 -16) = 0
if r9 == 77 goto pc+{length}
"""
_AFTER = """
r0 = 1
r0 = 0
exit
"""
_FUNCTION = """
r0 = 0
exit
"""
_SLOT = 12  # where the instruction under test stands

#: The kernel looks these up before it prints anything; others of their kind are tested below.
_RESOLVED_FIRST = re.compile(r"call kfunc#|r\d+ = (map_fd|map_value|btf_id|func) ")


def _within(text: str) -> str:
    """The instruction with its jump going over one slot, its call to a function at the end."""
    text = re.sub(r"(goto|gotol) pc[+-]\d+", r"\1 pc+1", text)
    return re.sub(r"call pc[+-]\d+", "call pc+3", text)


def _printed(text: str) -> tuple[int, str]:
    """Opcode and text as the verifier prints the instruction."""
    wide = 2 if text.endswith(" ll") else 1
    program = _BEFORE.format(length=wide) + _within(text) + _AFTER
    if text.startswith("call pc"):
        program += _FUNCTION
    spec = parse(program, check=False)
    log = Program.verify_log(spec, {}, with_btf=False)
    printed = {int(slot): (int(code, 16), words) for slot, code, words in _PRINTED.findall(log)}
    assert _SLOT in printed, f"{text!r} was never reached:\n{log}"
    return printed[_SLOT]


@pytest.mark.parametrize(
    "case",
    [case for case in corpus() if not _RESOLVED_FIRST.match(case.text)],
    ids=lambda c: c.text,
)
def test_the_verifier_reads_every_encoding_alike(case: Case) -> None:
    opcode, words = _printed(case.text)
    assert opcode == case.code[0]
    assert from_verifier(words) == common(_within(case.text))


@pytest.mark.parametrize("seed", range(3))
def test_the_verifier_reads_random_instructions_alike(seed: int) -> None:
    rng = random.Random(seed)
    wrong = []
    for _ in range(150):
        code = random_slot(rng)
        spec = ProgramSpec("random", parse("exit", check=False).type, code)
        ((_, text),) = instructions(spec)
        text = re.sub(r"\bL1$", "pc+1", text)
        opcode, words = _printed(text)
        if opcode != code[0] or from_verifier(words) != common(_within(text)):
            wrong.append((text, words))
    assert wrong == []


def test_every_helper_has_the_verifiers_name() -> None:
    wrong = []
    for helper in Helper:
        _, words = _printed(f"call {helper.name}#{int(helper)}")
        # Helpers this kernel was built without print as unknown, with their number.
        if words not in (f"call bpf_{helper.name}#{int(helper)}", f"call unknown#{int(helper)}"):
            wrong.append((helper, words))
    assert wrong == []


def test_linked_instructions_are_accepted() -> None:
    """Map, map value and function addresses: the kernel takes what the listing says."""
    values = MapSpec("values", MapType.ARRAY, 4, 16, 1)
    text = """
.map values type=ARRAY key=4 value=16 entries=1
.function linked arguments=1
r1 = map[values]
r2 = r10
r2 += -4
*(u32 *)(r2 +0) = 0
call map_lookup_elem#1
if r0 == 0x0 goto none
r6 = *(u64 *)(r0 +8)
r7 = map[values].value+8
r8 = *(u64 *)(r7 +0)
r6 += r8
none:
r1 = 10
r2 = func step
r3 = r10
r3 += -16
*(u64 *)(r3 +0) = 5
r4 = 0
call loop#181
r1 = *(u64 *)(r10 -16)
call twice
if r6 != 0x2a goto end
r0 += 1000
end:
exit
.function step arguments=2 callback
r1 = 1
lock *(u64 *)(r2 +0) += r1
r0 = 0
exit
.function twice arguments=1
r0 = r1
r0 <<= 1
exit
"""
    text = text.replace("r1 = map[values]\n", "r6 = 0\nr1 = map[values]\n", 1)
    spec = parse(text, maps={"values": values})
    with Map.create(values) as table:
        value = bytes(8) + (21).to_bytes(8, "little")
        table.update(bytes(4), value)
        with Program.load(spec, {values: table}) as program:
            # 21, read through the helper and directly, makes 42; 10 rounds make 5 into 15.
            assert bpf.prog_test_run(program.fd, bytes(64)).retval == 1000 + (5 + 10) * 2
        log = Program.verify_log(spec, {values: table})
    printed = {int(slot): words for slot, _, words in _PRINTED.findall(log)}
    slots = {text: slot for slot, text in instructions(spec)}
    assert printed[slots["call twice"]] == f"call pc+{_distance(spec, 'twice', slots)}"
    assert re.match(r"r2 = (func|0x)", printed[slots["r2 = func step"]])


def _distance(spec: ProgramSpec, name: str, slots: dict[str, int]) -> int:
    (start,) = (one.index for one in spec.subprograms if one.name == name)
    return start - slots["call twice"] - 1
