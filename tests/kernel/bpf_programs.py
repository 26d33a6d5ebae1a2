"""Tiny programs for the tests of loading and attaching."""

from __future__ import annotations

from systemscope.bpfasm.assembler import Assembler
from systemscope.bpfasm.builder import Builder
from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.isa import Alu, Jmp, Reg
from systemscope.bpfasm.records import Record, u64
from systemscope.bpfasm.types import AttachType, MapSpec, MapType, ProgramSpec, ProgramType
from systemscope.kernel.btf import KernelBtf
from systemscope.kernel.btf_blob import BtfKind


class Count(Record):
    """One counter."""

    n: u64


def counts() -> MapSpec:
    """An array of one counter."""
    return MapSpec("counts", MapType.ARRAY, 4, Count.size, 1)


def returning(value: int, type: ProgramType = ProgramType.SOCKET_FILTER) -> ProgramSpec:
    """``return value``."""
    b = Builder("returning", type)
    b.exit(value)
    return b.build()


def counter(
    spec: MapSpec,
    type: ProgramType = ProgramType.SOCKET_FILTER,
    attach_to: str = "",
    attach_type: AttachType = AttachType.NONE,
) -> ProgramSpec:
    """Adds one to the counter at index 0."""
    b = Builder("counter", type)
    pointer = b.lookup_index(spec, 0, Count)
    with b.if_(b.not_null(pointer)):
        b.atomic_add(pointer.n, 1)
    b.exit(0)
    return b.build(attach_to=attach_to, attach_type=attach_type)


def tp_btf_counter(spec: MapSpec) -> ProgramSpec:
    """The counter on sched_switch by tp_btf."""
    return counter(spec, ProgramType.TRACING, "sched_switch", AttachType.TRACE_RAW_TP)


def attach_id(spec: ProgramSpec) -> int:
    """The BTF id that a tp_btf or iterator program binds to."""
    names = {
        AttachType.TRACE_RAW_TP: (f"btf_trace_{spec.attach_to}", BtfKind.TYPEDEF),
        AttachType.TRACE_ITER: (f"bpf_iter_{spec.attach_to}", BtfKind.FUNC),
    }
    kernel = KernelBtf.open()
    assert kernel is not None, "these tests need kernel BTF"
    with kernel:
        return kernel.type_id(*names[spec.attach_type])


def task_iterator() -> ProgramSpec:
    """An iterator that writes eight bytes of 1 a task."""
    asm = Assembler("each_task")
    asm.load(Reg.R6, Reg.R1, 0, 8)  # struct bpf_iter_meta *
    asm.load(Reg.R7, Reg.R1, 8, 8)  # struct task_struct *, null at the end
    asm.mov(Reg.R0, 0)
    asm.load(Reg.R1, Reg.R6, 0, 8)  # struct seq_file *
    asm.jump_if(Jmp.JEQ, Reg.R7, 0, "out")
    asm.load_imm64(Reg.R2, 0x0101010101010101)
    asm.store(Reg.R10, -8, Reg.R2, 8)
    asm.mov(Reg.R2, Reg.R10)
    asm.alu(Alu.ADD, Reg.R2, -8)
    asm.mov(Reg.R3, 8)
    asm.call(Helper.seq_write)
    asm.label("out")
    asm.mov(Reg.R0, 0)
    asm.exit()
    return asm.build(ProgramType.TRACING, "task", AttachType.TRACE_ITER)
