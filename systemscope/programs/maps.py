"""The maps the programs share."""

from __future__ import annotations

from dataclasses import dataclass

from systemscope.bpfasm.types import MapSpec, MapType
from systemscope.programs.config import ProgramConfig, Ring, StackTable, Storage, UnwindConfig
from systemscope.programs.records import (
    CHUNK_PAGES,
    ChainState,
    Control,
    CountKey,
    CountValue,
    ExitKey,
    Interrupts,
    Pending,
    PieceKey,
    PoolWords,
    StackKey,
    StackPiece,
    StackRecord,
    Stats,
    ThreadRecord,
    UnwindSpace,
    WalkScratch,
    WantedCount,
)

WANTED_ENTRIES = 4096
PIECES_A_STACK = 2  # most stacks are not deeper


@dataclass(frozen=True)
class ChainMaps:
    """What the programs of one chain share; ``programs`` are they themselves."""

    scratch: MapSpec
    state: MapSpec
    programs: MapSpec


@dataclass(frozen=True)
class ProfilerMaps:
    """One set for one window. All hash maps are preallocated: a sampling program may run in NMI
    context, where nothing can be allocated, and programs before 5.x refuse others there."""

    control: MapSpec
    threads: MapSpec
    counts: MapSpec
    counts_second: MapSpec
    stacks: MapSpec
    exits: MapSpec
    pending: MapSpec
    stats: MapSpec
    sampler_stack: MapSpec
    walker_stack: MapSpec
    iterator_stack: MapSpec
    timeline: MapSpec
    interrupts: MapSpec
    unwind_pool: MapSpec
    unwind_spaces: MapSpec
    unwind_wanted: MapSpec
    stack_pieces: MapSpec
    sampler_chain: ChainMaps
    walker_chain: ChainMaps


def profiler_maps(config: ProgramConfig) -> ProfilerMaps:
    """The maps for ``config``."""
    if config.storage is Storage.ARRAY:
        threads = MapSpec("threads", MapType.ARRAY, 4, ThreadRecord.size, config.pid_max)
    else:
        threads = MapSpec("threads", MapType.HASH, 4, ThreadRecord.size, config.threads)
    if config.stack_table is StackTable.HASHED:
        stacks = MapSpec("stacks", MapType.HASH, StackKey.size, StackRecord.size, config.stacks)
    else:
        stacks = MapSpec("stacks", MapType.STACK_TRACE, 4, 8 * config.max_stack, config.stacks)

    def counts(name: str) -> MapSpec:
        return MapSpec(name, MapType.HASH, CountKey.size, CountValue.size, config.counts)

    def per_cpu(name: str, size: int) -> MapSpec:
        return MapSpec(name, MapType.PERCPU_ARRAY, 4, size, 1)

    sampler_stack = per_cpu("sampler_stack", WalkScratch.size)
    walker_stack = per_cpu("walker_stack", WalkScratch.size)

    def chain(name: str, scratch: MapSpec) -> ChainMaps:
        state = per_cpu(name, ChainState.size)
        return ChainMaps(scratch, state, MapSpec(f"{name}_links", MapType.PROG_ARRAY, 4, 4, 2))

    return ProfilerMaps(
        control=MapSpec("control", MapType.ARRAY, 4, Control.size, 1),
        threads=threads,
        counts=counts("counts"),
        counts_second=counts("counts_second"),
        stacks=stacks,
        exits=MapSpec("exits", MapType.HASH, ExitKey.size, ThreadRecord.size, config.exits),
        pending=per_cpu("pending", Pending.size),
        stats=per_cpu("stats", Stats.size),
        sampler_stack=sampler_stack,
        walker_stack=walker_stack,
        iterator_stack=per_cpu("iterator_stack", WalkScratch.size),
        timeline=_timeline(config),
        interrupts=per_cpu("interrupts", Interrupts.size),
        unwind_pool=_pool(config.unwind or UnwindConfig()),
        unwind_spaces=MapSpec(
            "unwind_spaces",
            MapType.HASH,
            4,
            UnwindSpace.size,
            (config.unwind or UnwindConfig()).spaces,
        ),
        unwind_wanted=MapSpec("unwind_wanted", MapType.HASH, 4, WantedCount.size, WANTED_ENTRIES),
        stack_pieces=MapSpec(
            "stack_pieces",
            MapType.HASH,
            PieceKey.size,
            StackPiece.size,
            PIECES_A_STACK * config.stacks,
        ),
        sampler_chain=chain("sampler", sampler_stack),
        walker_chain=chain("walker", walker_stack),
    )


def _pool(unwind: UnwindConfig) -> MapSpec:
    if not unwind.chunks:
        return MapSpec("unwind_pool", MapType.ARRAY, 4, PoolWords.size, unwind.pages)
    chunk = MapSpec("unwind_chunk", MapType.ARRAY, 4, PoolWords.size, CHUNK_PAGES)
    return MapSpec("unwind_pool", MapType.ARRAY_OF_MAPS, 4, 4, unwind.chunks, inner=chunk)


def _timeline(config: ProgramConfig) -> MapSpec:
    if config.ring is Ring.PERF:
        return MapSpec("timeline", MapType.PERF_EVENT_ARRAY, 4, 4, config.cpus)
    return MapSpec("timeline", MapType.RINGBUF, 0, 0, config.ring_bytes)
