"""The chain of programs that unwinds where nothing loops: its size, its wiring, its readout."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Optional

import pytest

from systemscope.bpfasm.types import MapType, ProgramType
from systemscope.collectors.plan import Plan
from systemscope.collectors.readout import StackReader
from systemscope.collectors.request import Request, Unwind
from systemscope.collectors.unwind_plan import choose_unwinding
from systemscope.errors import Unsupported
from systemscope.kernel.capabilities import Capabilities
from systemscope.programs import sampler, switch, walker
from systemscope.programs.config import (
    Hook,
    Loop,
    ProgramConfig,
    Registers,
    Ring,
    StackTable,
    TracepointFields,
    UnwindConfig,
    Walk,
)
from systemscope.programs.maps import ProfilerMaps, profiler_maps
from systemscope.programs.records import (
    PIECES_ID,
    PieceKey,
    StackFlag,
    StackPiece,
)
from systemscope.programs.unwind_chain import FILE, STEPS, UNWIND, UserRegisters

OLD_LIMIT = 4095  # instructions of a program before 5.2
OLD = ProgramConfig(
    hook=Hook.TRACEPOINT,
    stack_table=StackTable.STACK_ID,
    fields=TracepointFields(24, 32, 56, 24, 24, 24, 44, 12, 16),
    state_argument=False,
    isa=1,
    bounded_loops=False,
    direct_values=False,
    value_arguments=False,
    probe_read_kernel=False,
    ring=Ring.PERF,
    unwind=UnwindConfig(
        loop=Loop.TAIL_CALLS,
        registers=Registers.STACK_POINTER,
        read_user=False,
        chunks=0,
        pages=64,
    ),
)


def plan_of(config: ProgramConfig) -> Plan:
    maps = profiler_maps(config)
    return Plan(config, maps, False, False, "finish_task_switch", False, {}, ())


@pytest.mark.parametrize("walk", [Walk.KPROBE, Walk.SWITCH_OUT])
def test_every_program_fits_an_old_kernel(walk: Walk) -> None:
    plan = plan_of(replace(OLD, walk=walk))
    for spec in plan.programs():
        assert spec.slots <= OLD_LIMIT, f"{spec.name} has {spec.slots} instructions"
        assert len(spec.subprograms) == 1, "no calls where there are tail calls"


def test_the_steps_of_all_links_reach_the_deepest_stack() -> None:
    assert 31 * STEPS >= 127


@pytest.mark.parametrize("walk", [Walk.KPROBE, Walk.SWITCH_OUT])
def test_each_caller_has_a_chain_of_its_own_type(walk: Walk) -> None:
    plan = plan_of(replace(OLD, walk=walk))
    callers = {spec.name: spec for spec in plan.counting_programs()}
    waits = callers["wait_walker" if walk is Walk.KPROBE else "sched_switch"]
    by_wait, by_sample = plan.chains()
    for chain, caller in ((by_wait, waits), (by_sample, callers["oncpu_sampler"])):
        assert chain.links.type is MapType.PROG_ARRAY
        assert chain.links.max_entries == len(chain.specs) == 2
        assert chain.links in caller.maps, "the caller enters the chain"
        unwind, file = chain.specs[UNWIND], chain.specs[FILE]
        assert unwind.type is file.type is caller.type
        assert chain.links in unwind.maps and chain.links not in file.maps
    assert by_wait.links is not by_sample.links
    shared = set(by_wait.specs[UNWIND].maps) & set(by_sample.specs[UNWIND].maps)
    scratch = {plan.maps.sampler_stack, plan.maps.walker_stack}
    assert not shared & scratch, "an interrupt may hit while the other unwinds"
    assert callers["oncpu_sampler"].type is ProgramType.PERF_EVENT


def test_programs_that_loop_by_themselves_have_no_chain() -> None:
    config = replace(OLD, unwind=UnwindConfig(loop=Loop.BOUNDED))
    assert plan_of(config).chains() == []
    maps: ProfilerMaps = profiler_maps(OLD)
    plain = replace(OLD, unwind=None, walk=Walk.KPROBE)
    for spec in (
        sampler.oncpu_sampler(plain, maps),
        walker.wait_walker(plain, maps),
        switch.sched_switch(plain, maps),
    ):
        assert not any(one.type is MapType.PROG_ARRAY for one in spec.maps)


def test_registers_lie_where_the_abi_says() -> None:
    at = {name: field.offset for name, field in UserRegisters.fields.items()}
    assert (at["ip"], at["cs"], at["sp"], at["bp"], at["bx"]) == (128, 136, 152, 32, 40)
    assert UserRegisters.size == 168


# -- the choice


def choose(request: Request, **able: object) -> tuple[Optional[UnwindConfig], list[str]]:
    notes: list[str] = []
    facts = replace(Capabilities(arch="x86_64"), **able)  # type: ignore[arg-type]
    return choose_unwinding(facts, request, None, False, notes), notes


def test_tail_calls_are_the_way_of_kernels_without_loops() -> None:
    config, notes = choose(Request(unwind_bytes=1 << 20), tail_calls=True)
    assert config is not None and not notes
    assert (config.loop, config.registers) == (Loop.TAIL_CALLS, Registers.STACK_POINTER)
    assert (config.chunks, config.pages, config.read_user) == (0, 256, False)


@pytest.mark.parametrize(
    ("able", "lacking"),
    [
        ({}, "a loop in BPF programs"),
        ({"tail_calls": True, "arch": "aarch64"}, "saved registers"),
        ({"tail_calls": True, "lockdown": "confidentiality"}, "saved registers"),
    ],
)
def test_what_lacks_is_told(able: dict[str, object], lacking: str) -> None:
    config, notes = choose(Request(), **able)
    assert config is None
    assert len(notes) == 1 and lacking in notes[0]
    with pytest.raises(Unsupported):
        choose(Request(unwind=Unwind.DWARF), **able)


# -- stacks in pieces


def piece(stack: int, number: int, depth: int, flags: int, ips: list[int]) -> tuple[bytes, bytes]:
    padded = ips + [0xDEAD] * (16 - len(ips))
    return (
        PieceKey.pack(hash=stack, piece=number),
        struct.pack("<II16Q", depth, flags, *padded),
    )


def test_pieces_make_a_stack_in_whatever_order_they_come() -> None:
    stack, ips = PIECES_ID | 77, list(range(1, 36))
    pieces = [piece(stack, n, 35, 1, ips[16 * n : 16 * n + 16]) for n in range(3)]
    reader = StackReader(StackTable.STACK_ID)
    for key, value in (pieces[2], pieces[0], pieces[1]):
        assert len(value) == StackPiece.size
        reader.add_pieces(key, value)  # as they are when the table is emptied half-way
    assert reader.addresses(stack) == tuple(ips)
    assert reader.flags(stack) & StackFlag.END == 1


@pytest.mark.parametrize("missing", [0, 1])
def test_a_stack_with_a_piece_refused_is_none(missing: int) -> None:
    reader = StackReader(StackTable.HASHED)
    stack = PIECES_ID | 5
    for number in {0, 1} - {missing}:
        reader.add_pieces(*piece(stack, number, 20, 1, [9] * 16))
    assert reader.addresses(stack) == () and reader.flags(stack) == 0


def test_a_depth_beyond_all_pieces_is_cut() -> None:
    reader = StackReader(StackTable.HASHED)
    stack = PIECES_ID | 5
    for number in range(8):
        reader.add_pieces(*piece(stack, number, 1 << 31, 1, [9] * 16))
    assert reader.addresses(stack) == (9,) * 128
