"""Programs: relocation, BTF, the verifier's refusals in Python lines."""

from __future__ import annotations

import errno
import re
from dataclasses import replace

import pytest

from systemscope.bpf.map import Map
from systemscope.bpf.program import Program, kernel_version_code, relocate
from systemscope.bpf.stats import BpfStats
from systemscope.bpfasm.assembler import Assembler
from systemscope.bpfasm.builder import Builder
from systemscope.bpfasm.isa import Reg
from systemscope.bpfasm.types import MapSpec, MapType, ProgramSpec, ProgramType
from systemscope.errors import KernelError, Unsupported, VerifierError
from systemscope.syscalls import bpf
from tests.kernel.bpf_programs import (
    Count,
    attach_id,
    counter,
    counts,
    returning,
    task_iterator,
    tp_btf_counter,
)

pytestmark = pytest.mark.kernel

PACKET = bytes(64)


def rejected() -> tuple[ProgramSpec, MapSpec]:
    """Writes through a map value that was not compared with null."""
    spec = MapSpec("entries", MapType.HASH, 8, 8, 16)
    b = Builder("forgetful", ProgramType.SOCKET_FILTER)
    key = b.stack(Count)
    pointer = b.lookup(spec, b.address(key), Count)
    b.store(pointer.n, 1)  # the line to be blamed
    b.exit(0)
    return b.build(), spec


def test_load_and_run_with_a_map() -> None:
    spec = counts()
    with Map.create(spec) as map, Program.load(counter(spec), {spec: map}) as program:
        program.run(PACKET, repeat=5)
        assert map.lookup(bytes(4)) == (5).to_bytes(8, "little")
        info = program.info()
        assert info.name == "counter"
        assert info.map_count == 1
        assert info.jited_bytes > 0
        assert info.btf_id > 0
        assert program.memory_bytes() > 0


def test_map_value_relocation() -> None:
    spec = MapSpec("cells", MapType.ARRAY, 4, 16, 1)
    asm = Assembler("direct")
    asm.load_map_value(Reg.R1, spec, 8)
    asm.load(Reg.R0, Reg.R1, 0, 8)
    asm.exit()
    program_spec = asm.build(ProgramType.SOCKET_FILTER)
    with Map.create(spec) as map:
        map.update(bytes(4), (1).to_bytes(8, "little") + (99).to_bytes(8, "little"))
        with Program.load(program_spec, {spec: map}) as program:
            assert program.run(PACKET).retval == 99


def test_a_map_that_was_not_given_is_named() -> None:
    spec = counts()
    with pytest.raises(ValueError, match="'counts'"):
        Program.load(counter(spec), {})


def test_kernel_symbols() -> None:
    asm = Assembler("symbols")
    asm.load_kernel_symbol(Reg.R1, "bpf_prog_active")
    asm.mov(Reg.R0, 0)
    asm.exit()
    spec = asm.build(ProgramType.SOCKET_FILTER)
    with pytest.raises(Unsupported, match="bpf_prog_active"):
        Program.load(spec, {}, symbols=lambda name: 0)
    code = relocate(spec, {}, symbols=lambda name: {"bpf_prog_active": 77}[name])
    assert code[1] == 0x31 and code[4] == 77


@pytest.mark.parametrize("with_btf", [True, False])
def test_functions_and_callbacks(with_btf: bool) -> None:
    b = Builder("looping", ProgramType.SOCKET_FILTER)
    context = b.stack(Count)
    b.bpf_loop(10, "step", b.address(context))
    b.exit(context.n)
    with b.function("step", 2, callback=True) as (index, passed):
        here = b.cast(passed, Count)
        b.store(here.n, here.n + index)
        b.exit(0)
    spec = b.build()
    if not with_btf:
        # A callback is found by its function information: the kernel wants it.
        with pytest.raises(KernelError):
            Program.load(spec, {}, with_btf=False)
        return
    with Program.load(spec, {}) as program:
        assert program.run(PACKET).retval == sum(range(10))


def test_line_information_reaches_the_kernel() -> None:
    log = Program.verify_log(returning(3), {})
    assert re.search(r"; b\.exit\(value\) @ bpf_programs\.py:\d+", log), log


def test_line_information_can_be_left_out() -> None:
    log = Program.verify_log(returning(3), {}, with_btf=False)
    assert "bpf_programs.py" not in log
    assert "exit" in log


def test_a_rejection_is_told_in_python_lines() -> None:
    program_spec, spec = rejected()
    with Map.create(spec) as map, pytest.raises(VerifierError) as caught:
        Program.load(program_spec, {spec: map})
    error = caught.value
    assert error.errno == errno.EACCES
    lines = str(error).splitlines()
    assert lines[0].startswith("the kernel rejected program 'forgetful' (EACCES): R")
    assert "map_value_or_null" in lines[0]
    assert "the line to be blamed" in lines[1]
    assert re.match(r"  \S*test_bpf_program\.py:\d+   b\.store", lines[1])
    assert re.match(r"    insn \d+: \(7[ab3]\) ", lines[2])
    assert re.match(r"  \(\d+ verifier lines omitted; --verifier-log shows them\)", lines[3])
    assert "map_value_or_null" in error.log


def test_a_rejection_without_btf_is_told_too() -> None:
    program_spec, spec = rejected()
    with Map.create(spec) as map, pytest.raises(VerifierError) as caught:
        Program.load(program_spec, {spec: map}, with_btf=False)
    assert "the line to be blamed" in str(caught.value)


def test_control_flow_errors_name_their_instruction() -> None:
    spec = replace(returning(0), code=bytes.fromhex("05000100000000009500000000000000"))
    with pytest.raises(VerifierError) as caught:
        Program.load(spec, {})
    assert "insn" in caught.value.explanation


def test_what_is_not_the_verifiers_refusal_is_a_kernel_error() -> None:
    spec = replace(returning(0), code=b"")
    with pytest.raises(KernelError) as caught:
        Program.load(spec, {})
    assert not isinstance(caught.value, VerifierError)


def test_broken_information_does_not_cost_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(blob: bytes) -> None:
        raise KernelError("BPF_BTF_LOAD", "BTF", errno.EINVAL)

    monkeypatch.setattr(bpf, "btf_load", refuse)
    with Program.load(returning(9), {}) as program:
        assert program.run(PACKET).retval == 9
        assert program.info().btf_id == 0


def test_information_the_kernel_dislikes_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real = bpf.prog_load

    def old_kernel(request: bpf.LoadRequest) -> bpf.LoadResult:
        if request.btf_fd or request.name:
            return bpf.LoadResult(None, errno.E2BIG, "")
        return real(request)

    monkeypatch.setattr(bpf, "prog_load", old_kernel)
    with Program.load(returning(9), {}) as program:
        assert program.run(PACKET).retval == 9
        assert program.info().name == ""


def test_eagain_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = bpf.prog_load, []

    def busy(request: bpf.LoadRequest) -> bpf.LoadResult:
        calls.append(request)
        return bpf.LoadResult(None, errno.EAGAIN, "") if len(calls) < 3 else real(request)

    monkeypatch.setattr(bpf, "prog_load", busy)
    Program.load(returning(9), {}).close()
    assert len(calls) == 3


@pytest.mark.parametrize("type", [ProgramType.PERF_EVENT, ProgramType.TRACEPOINT])
def test_other_types_load(type: ProgramType) -> None:
    spec = counts()
    with Map.create(spec) as map:
        Program.load(counter(spec, type), {spec: map}).close()


def test_tracing_programs_load() -> None:
    spec = counts()
    with Map.create(spec) as map:
        for program_spec in (tp_btf_counter(spec), task_iterator()):
            identity = attach_id(program_spec)
            with Program.load(program_spec, {spec: map}, attach_btf_id=identity) as program:
                assert program.info().attach_btf_id == identity


def test_run_time_statistics() -> None:
    with BpfStats() as stats:
        assert stats.active
    assert not stats.active


def test_kernel_version_code() -> None:
    assert kernel_version_code() >= 4 << 16
