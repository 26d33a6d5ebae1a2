"""Verifier logs of several kernels, told in Python lines."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemscope.bpf.verifier_log import explain, parse, source_line
from systemscope.bpfasm.types import ProgramSpec, ProgramType, SourceLine

NULL_ACCESS = """\
0: R1=ctx() R10=fp0
; b = Builder("forgetful") @ oncpu.py:29
0: (bf) r6 = r1                       ; R1=ctx() R6=ctx()
6: (85) call bpf_map_lookup_elem#1
mark_precise: frame0: last_idx 6 first_idx 0 subseq_idx -1
mark_precise: frame0: regs= stack=-8 before 5: (07) r2 += -8
7: R0=map_value_or_null(id=1,map=entries,ks=8,vs=8)
; b.store(pointer.n, 1) @ oncpu.py:41
8: (7a) *(u64 *)(r7 +0) = 1
R7 invalid mem access 'map_value_or_null'
processed 8 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""

OLD_KERNEL = """\
0: (b7) r0 = 0
1: (7b) *(u64 *)(r10 -8) = r0
2: (85) call bpf_get_stack#67
unknown func bpf_get_stack#67
"""

LEVEL_2 = """\
func#0 @0
Live regs before insn:
      0: .......... (95) exit
0: R1=ctx() R10=fp0
0: (95) exit
R0 !read_ok
verification time 33 usec
stack depth 0
processed 1 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""

UNREACHABLE = "unreachable insn 3\nprocessed 0 insns (limit 1000000)\n"
BACK_EDGE = "back-edge from insn 7 to 2\n"
TOO_COMPLEX = """\
12: (07) r1 += 1
from 12 to 8: R0=0 R1=5 R10=fp0
8: (a5) if r1 < 0xffffff goto pc+3
BPF program is too large. Processed 1000001 insn
processed 1000001 insns (limit 1000000)
"""
BTF_REFUSED = "missing bpf_line_info for func#1\nprocessed 0 insns (limit 1000000)\n"
CALL_CHAIN = """\
caller:
 R6=ctx() R10=fp0
callee:
 frame1: R1=scalar() R10=fp0
21: (79) r0 = *(u64 *)(r1 +0)
R1 invalid mem access 'scalar'
"""


@pytest.mark.parametrize(
    ("log", "message", "instruction", "text"),
    [
        (
            NULL_ACCESS,
            "R7 invalid mem access 'map_value_or_null'",
            8,
            "(7a) *(u64 *)(r7 +0) = 1",
        ),
        (OLD_KERNEL, "unknown func bpf_get_stack#67", 2, "(85) call bpf_get_stack#67"),
        (LEVEL_2, "R0 !read_ok", 0, "(95) exit"),
        (UNREACHABLE, "unreachable insn 3", 3, ""),
        (BACK_EDGE, "back-edge from insn 7 to 2", 7, ""),
        (
            TOO_COMPLEX,
            "BPF program is too large. Processed 1000001 insn",
            8,
            "(a5) if r1 < 0xffffff goto pc+3",
        ),
        (BTF_REFUSED, "missing bpf_line_info for func#1", None, ""),
        (CALL_CHAIN, "R1 invalid mem access 'scalar'", 21, "(79) r0 = *(u64 *)(r1 +0)"),
        ("", "", None, ""),
    ],
)
def test_reason_and_instruction(log: str, message: str, instruction: int, text: str) -> None:
    rejection = parse(log)
    assert (rejection.message, rejection.instruction, rejection.text) == (
        message,
        instruction,
        text,
    )
    shown = bool(message) + bool(text)
    assert rejection.omitted == len([line for line in log.splitlines() if line.strip()]) - shown


def spec() -> ProgramSpec:
    return ProgramSpec(
        name="oncpu_sampler",
        type=ProgramType.PERF_EVENT,
        code=bytes.fromhex("b700000000000000") * 30,
        lines=(
            SourceLine(0, "programs/oncpu.py", 29, "b = Builder()"),
            SourceLine(7, "programs/oncpu.py", 41, "    b.store(pointer.n, 1)"),
            SourceLine(9, "programs/oncpu.py", 42, "b.exit(0)"),
        ),
    )


def test_the_whole_explanation() -> None:
    assert explain(spec(), errno.EACCES, NULL_ACCESS) == (
        "the kernel rejected program 'oncpu_sampler' (EACCES): "
        "R7 invalid mem access 'map_value_or_null'\n"
        "  programs/oncpu.py:41   b.store(pointer.n, 1)\n"
        "    insn 8: (7a) *(u64 *)(r7 +0) = 1\n"
        "  (9 verifier lines omitted; --verifier-log shows them)"
    )


def test_an_instruction_that_is_only_named_is_shown_by_its_bytes() -> None:
    told = explain(spec(), errno.EINVAL, UNREACHABLE)
    assert "  programs/oncpu.py:29   b = Builder()" in told
    assert "    insn 3: (b7) bytes b700000000000000" in told
    assert "(1 verifier line omitted" in told


def test_an_empty_log_is_said() -> None:
    told = explain(spec(), errno.EINVAL, "")
    assert told.splitlines() == [
        "the kernel rejected program 'oncpu_sampler' (EINVAL): the verifier gave no reason"
    ]


def test_a_program_without_lines() -> None:
    bare = ProgramSpec(name="bare", type=ProgramType.KPROBE, code=b"")
    assert source_line(bare, 3) is None
    assert "insn 3: (beyond the program's end)" in explain(bare, 22, "unreachable insn 3")


@given(st.text(max_size=300) | st.just("insn " + "9" * 5000) | st.just("9" * 5000 + ": (95) x"))
def test_any_text_is_survived(log: str) -> None:
    assert explain(spec(), 22, log).startswith("the kernel rejected")
