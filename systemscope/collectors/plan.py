"""Which programs to run on this kernel: the cheapest that its capabilities allow."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

from systemscope.bpfasm.types import MapSpec, ProgramSpec
from systemscope.collectors.request import MAX_STACK_DEPTH, Request
from systemscope.collectors.unwind_plan import choose_unwinding
from systemscope.errors import Unsupported
from systemscope.kernel.btf import KernelBtf
from systemscope.kernel.capabilities import Capabilities
from systemscope.programs import (
    iterators,
    lifecycle,
    sampler,
    switch,
    switch_chain,
    timeline,
    wakeup,
    walker,
)
from systemscope.programs.config import (
    Hook,
    KernelLayout,
    ProgramConfig,
    Ring,
    StackTable,
    StateBits,
    Storage,
    TracepointFields,
    Walk,
)
from systemscope.programs.maps import ProfilerMaps, profiler_maps

#: Up to this pid_max an array by tid (344 bytes each) costs less than it saves.
ARRAY_PID_MAX = 32768
#: Entries of the hash of threads: 344 bytes and some 64 of overhead each.
HASH_THREADS = 16384
TARGET_THREADS = 8192
#: The programs add up shorter waits, to at most two and a half times this, in 32 bits.
LONGEST_MIN_BLOCK_NS = 1_500_000_000

_EVENTS = (
    "sched_switch",
    "sched_wakeup",
    "sched_process_fork",
    "sched_process_exec",
    "sched_process_exit",
)


@dataclass(frozen=True)
class ProgramChain:
    """Programs that are called through ``links``, by their place in it."""

    links: MapSpec
    specs: tuple[ProgramSpec, ...]


@dataclass(frozen=True)
class Plan:
    """Programs and maps of one window, and how each part is attached.

    ``tracepoint_ids`` is filled where tracepoint programs are used. ``notes`` tell the fallbacks.
    """

    config: ProgramConfig
    maps: ProfilerMaps
    seed_iterator: bool
    wait_iterator: bool
    kprobe_symbol: str
    perf_link: bool
    tracepoint_ids: dict[str, int]
    notes: tuple[str, ...]

    def programs(self) -> list[ProgramSpec]:
        """All specs, in the order in which they are attached."""
        chained = [spec for chain in self.chains() for spec in chain.specs]
        return [
            *self.counting_programs(),
            *chained,
            *self.seed_programs(),
            *self.closing_programs(),
        ]

    def seed_programs(self) -> list[ProgramSpec]:
        """What lists the threads as the window opens."""
        if not self.seed_iterator:
            return []
        return [iterators.task_snapshot(self.config, self.maps, stacks=False)]

    def closing_programs(self) -> list[ProgramSpec]:
        """What finds the stacks of waits still open as the window closes."""
        if not self.wait_iterator:
            return []
        return [iterators.task_snapshot(self.config, self.maps, stacks=True)]

    def chains(self) -> list[ProgramChain]:
        """The programs that others call last, to unwind user stacks."""
        config, maps = self.config, self.maps
        chains: list[ProgramChain] = []
        if not config.chained:
            return chains
        if config.walk in (Walk.SCHED_EXIT, Walk.KPROBE):
            specs = walker.wait_chain(config, maps)
            chains.append(ProgramChain(maps.walker_chain.programs, specs))
        elif config.walk is Walk.SWITCH_OUT:
            specs = switch_chain.switch_chain(config, maps)
            chains.append(ProgramChain(maps.walker_chain.programs, specs))
        if config.oncpu:
            specs = sampler.sampler_chain(config, maps)
            chains.append(ProgramChain(maps.sampler_chain.programs, specs))
        return chains

    def counting_programs(self) -> list[ProgramSpec]:
        """The specs that hang on events."""
        config, maps = self.config, self.maps
        specs = [
            lifecycle.sched_process_fork(config, maps),
            lifecycle.sched_process_exec(config, maps),
            lifecycle.sched_process_exit(config, maps),
        ]
        if config.offcpu and config.walk in (Walk.SCHED_EXIT, Walk.KPROBE):
            specs.append(walker.wait_walker(config, maps))
        if config.wakeups:
            specs.append(wakeup.sched_wakeup(config, maps))
        if config.ring is not Ring.NONE:
            specs.append(timeline.sched_waking(config, maps))
            specs += timeline.interrupt_marks(config, maps)
        specs.append(switch.sched_switch(config, maps))
        if config.oncpu:
            specs.append(sampler.oncpu_sampler(config, maps))
        return specs


def programs_for(capabilities: Capabilities, request: Request) -> list[ProgramSpec]:
    """The programs as they would be loaded on this kernel."""
    return make_plan(capabilities, request).programs()


def make_plan(capabilities: Capabilities, request: Request) -> Plan:
    """Choose strategies. Raises Unsupported when the kernel has no way at all."""
    notes: list[str] = []
    hook = _hook(capabilities)
    layout = _layout(capabilities)
    if hook is not Hook.TRACEPOINT and layout is None:
        raise Unsupported("a readable description of its types (BTF)", "5.4")
    hashed = capabilities.get_stack and capabilities.map_value_arguments
    if not capabilities.bounded_loops and capabilities.max_instructions < 10_000:
        hashed = False  # the hash, unrolled, would not fit
    walk, symbol = _walk(capabilities, hook, request, notes)
    fields, ids = _tracepoints(request) if hook is Hook.TRACEPOINT else (None, {})
    if not hashed:
        notes.append(
            "stacks are kept in the kernel's stack-id table, whose collisions lose some "
            "(they are counted): bpf_get_stack is missing"
        )
    if request.offcpu and request.min_block_ns > LONGEST_MIN_BLOCK_NS:
        notes.append("waits of 1.5 s carry their own stack, however long --min-block is")
    config = ProgramConfig(
        hook=hook,
        walk=walk,
        storage=_storage(capabilities),
        stack_table=StackTable.HASHED if hashed else StackTable.STACK_ID,
        layout=layout or KernelLayout(),
        fields=fields or TracepointFields(),
        state_bits=_state_bits(fields, ids),
        state_argument=capabilities.sched_switch_state_argument,
        isa=capabilities.isa,
        bounded_loops=capabilities.bounded_loops,
        functions=capabilities.bpf_calls and capabilities.bounded_loops,
        direct_values=capabilities.map_value_address,
        value_arguments=capabilities.map_value_arguments,
        probe_read_kernel=capabilities.probe_read_kernel,
        nmi_sampler=_nmi_sampler(capabilities, hook),
        every_thread=request.system_wide,
        oncpu=request.oncpu,
        offcpu=request.offcpu,
        kernel_stacks=request.kernel_stacks,
        user_stacks=request.user_stacks,
        max_stack=min(request.max_stack, _max_stack(), MAX_STACK_DEPTH),
        min_block_ns=min(request.min_block_ns, LONGEST_MIN_BLOCK_NS),
        cpu_ranges=_ranges(request.cpus or ()),
        unwind=choose_unwinding(capabilities, request, layout, hashed, notes),
        pid_max=capabilities.pid_max + 1,
        threads=HASH_THREADS if request.system_wide else TARGET_THREADS,
        ring=_ring(capabilities, request),
        cpus=max(capabilities.possible_cpus) + 1,
        hash_seed=int.from_bytes(os.urandom(8), "little"),
    )
    iterates = capabilities.task_iterator and layout is not None and hashed
    waits = iterates and capabilities.sleepable_iterator and capabilities.get_task_stack
    waits = waits and capabilities.task_pt_regs and capabilities.copy_from_user_task
    waits = waits and capabilities.bpf_loop
    if not waits and request.offcpu:
        notes.append(
            "threads that sleep through the whole window show their kernel stack only "
            "(from /proc): sleepable task iterators are missing"
        )
    return Plan(
        config=config,
        maps=profiler_maps(config),
        seed_iterator=iterates,
        wait_iterator=waits and request.offcpu,
        kprobe_symbol=symbol,
        perf_link=capabilities.perf_link,
        tracepoint_ids=ids,
        notes=tuple(notes),
    )


def _ranges(cpus: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Runs of consecutive numbers: (first, last)."""
    found: list[tuple[int, int]] = []
    for cpu in sorted(set(cpus)):
        if found and found[-1][1] == cpu - 1:
            found[-1] = (found[-1][0], cpu)
        else:
            found.append((cpu, cpu))
    return tuple(found)


def _nmi_sampler(capabilities: Capabilities, hook: Hook) -> bool:
    """Whether hardware's event may sample. It interrupts updates of the maps it updates itself:
    the kernel keeps tracepoint programs apart from it (bpf_prog_active), raw ones it does not, and
    a bucket's lock would be taken twice. 5.11 refuses that (20b6cc34ea74); task storage came with
    it."""
    return capabilities.perf_cycles and (hook is Hook.TRACEPOINT or capabilities.task_storage)


def _hook(capabilities: Capabilities) -> Hook:
    if capabilities.tp_btf and capabilities.btf:
        return Hook.TP_BTF
    # Raw tracepoints hand out pointers that only helpers can read through.
    readable = capabilities.probe_read_kernel or capabilities.lockdown != "confidentiality"
    if capabilities.raw_tracepoint and capabilities.btf and readable:
        return Hook.RAW_TRACEPOINT
    if capabilities.tracepoint:
        return Hook.TRACEPOINT
    raise Unsupported(
        "a way to follow the scheduler: neither BTF tracepoints, raw tracepoints nor tracefs",
        "4.9",
        "run 'systemscope doctor' to see what is missing",
    )


def _walk(
    capabilities: Capabilities, hook: Hook, request: Request, notes: list[str]
) -> tuple[Walk, str]:
    if not request.offcpu:
        return Walk.NONE, ""
    if capabilities.sched_exit_tp and hook is not Hook.TRACEPOINT:
        return Walk.SCHED_EXIT, ""
    if capabilities.kprobe and capabilities.finish_task_switch:
        return Walk.KPROBE, capabilities.finish_task_switch
    notes.append(
        "stacks of waits are taken as threads leave the CPU, a bounded number a second, and "
        "stand for the rest: neither sched_exit_tp nor kprobes are there"
    )
    return Walk.SWITCH_OUT, ""


def _storage(capabilities: Capabilities) -> Storage:
    small = capabilities.pid_max <= ARRAY_PID_MAX
    return Storage.ARRAY if small and capabilities.batch else Storage.HASH


def _layout(capabilities: Capabilities) -> Optional[KernelLayout]:
    btf = KernelBtf.open() if capabilities.btf else None
    if btf is None:
        return None
    with btf:

        def offset(struct: str, *paths: str) -> int:
            for path in paths:
                member = btf.member(struct, path)
                if member is not None:
                    return member.offset
            return -1

        on_cpu = btf.member("task_struct", "on_cpu")
        if on_cpu is not None and on_cpu.bit_size:
            on_cpu = None  # no whole bytes to load
        state = btf.member("task_struct", "__state") or btf.member("task_struct", "state")
        arm = capabilities.arch == "aarch64"
        return KernelLayout(
            task_pid=offset("task_struct", "pid"),
            task_tgid=offset("task_struct", "tgid"),
            task_state=state.offset if state else -1,
            task_state_size=state.size if state else 4,
            task_flags=offset("task_struct", "flags"),
            task_comm=offset("task_struct", "comm"),
            task_start_time=offset("task_struct", "start_time"),
            task_on_cpu=on_cpu.offset if on_cpu else -1,
            task_on_cpu_size=on_cpu.size if on_cpu else 4,
            task_exit_state=offset("task_struct", "exit_state"),
            run_delay=offset("task_struct", "sched_info.run_delay"),
            last_queued=offset("task_struct", "sched_info.last_queued"),
            task_cfs_rq=offset("task_struct", "se.cfs_rq"),
            cfs_rq_rq=offset("cfs_rq", "rq"),
            rq_clock=offset("rq", "clock"),
            regs_ip=offset("pt_regs", "pc" if arm else "ip"),
            regs_sp=offset("pt_regs", "sp"),
            regs_fp=offset("pt_regs", "regs[29]" if arm else "bp"),
            regs_extra=offset("pt_regs", "regs[30]" if arm else "bx"),
            regs_rdi=-1 if arm else offset("pt_regs", "di"),
            regs_mode=offset("pt_regs", "pstate" if arm else "cs"),
            regs_size=btf.size("pt_regs") or -1,
            task_stack=offset("task_struct", "stack"),
        )


def _ring(capabilities: Capabilities, request: Request) -> Ring:
    if not request.timeline:
        return Ring.NONE
    return Ring.BPF if capabilities.ring_buffer else Ring.PERF


def _tracepoints(request: Request) -> tuple[TracepointFields, dict[str, int]]:
    from systemscope.kernel.tracefs import tracefs

    events = dict.fromkeys(_EVENTS, "sched")
    if request.timeline:
        events["sched_waking"] = "sched"
        events.update({name: about[0] for name, about in timeline.INTERRUPT_EVENTS.items()})
    with tracefs() as files:
        formats = {name: files.format(category, name) for name, category in events.items()}

    def at(event: str, field: str) -> int:
        return formats[event].fields[field].offset if event in formats else -1

    fields = TracepointFields(
        switch_prev_pid=at("sched_switch", "prev_pid"),
        switch_prev_state=at("sched_switch", "prev_state"),
        switch_next_pid=at("sched_switch", "next_pid"),
        wakeup_pid=at("sched_wakeup", "pid"),
        waking_pid=at("sched_waking", "pid"),
        fork_parent_pid=at("sched_process_fork", "parent_pid"),
        fork_child_pid=at("sched_process_fork", "child_pid"),
        exec_pid=at("sched_process_exec", "pid"),
        exec_old_pid=at("sched_process_exec", "old_pid"),
    )
    return fields, {name: format.id for name, format in formats.items()}


def _state_bits(fields: Optional[TracepointFields], ids: dict[str, int]) -> StateBits:
    """How prev_state reads here. Raw hooks see task_struct's own bits: TASK_DEAD is 0x80 since
    4.14 and 64 before; they come with BTF, so with a kernel that has 0x80."""
    if fields is None:
        return StateBits(dead=0x80)
    from systemscope.collectors.calibrate import tracepoint_state_bits

    return tracepoint_state_bits(ids["sched_switch"], fields.switch_prev_state)


def _max_stack() -> int:
    """The kernel's own limit on the depth of a walk."""
    try:
        with open("/proc/sys/kernel/perf_event_max_stack") as file:
            return max(1, int(file.read()))
    except (OSError, ValueError):
        return MAX_STACK_DEPTH
