"""Every program in every configuration a kernel can ask for passes this kernel's verifier."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from systemscope.bpf.map import Map
from systemscope.bpf.program import Program
from systemscope.bpfasm.types import MapSpec, ProgramSpec, ProgramType
from systemscope.collectors.plan import Plan, make_plan
from systemscope.collectors.request import Request
from systemscope.kernel.btf import BtfKind, KernelBtf
from systemscope.kernel.capabilities import Capabilities, probe
from systemscope.programs.config import (
    Hook,
    Loop,
    ProgramConfig,
    Registers,
    StackTable,
    Storage,
    UnwindConfig,
    Walk,
)
from systemscope.programs.maps import profiler_maps

pytestmark = pytest.mark.kernel

#: How user stacks are unwound where nothing loops.
CHAINED = UnwindConfig(
    loop=Loop.TAIL_CALLS, registers=Registers.STACK_POINTER, chunks=0, pages=64, read_user=False
)
#: What older kernels lack, one step after the other.
LANGUAGES: dict[str, dict[str, Any]] = {
    "newest": {},
    "no direct values": {
        "isa": 2,
        "direct_values": False,
        "unwind": UnwindConfig(Loop.BOUNDED, Registers.TASK_STACK, chunks=0, pages=64),
    },
    "no loops": {
        "isa": 2,
        "direct_values": False,
        "bounded_loops": False,
        "functions": False,
        "unwind": CHAINED,
    },
    "4.9": {
        "isa": 1,
        "direct_values": False,
        "bounded_loops": False,
        "functions": False,
        "value_arguments": False,
        "probe_read_kernel": False,
        "stack_table": StackTable.STACK_ID,
        "state_argument": False,
        "unwind": CHAINED,
    },
}
OLD_LIMIT = 4095  # instructions of a program before 5.2


@pytest.fixture(scope="module")
def capabilities() -> Capabilities:
    return probe()


@pytest.fixture(scope="module")
def base(capabilities: Capabilities) -> Plan:
    """The plan with every hook's offsets filled in."""
    native = make_plan(capabilities, Request())
    by_tracepoint = make_plan(capabilities.without("tp_btf", "raw_tracepoint"), Request())
    config = replace(
        native.config,
        fields=by_tracepoint.config.fields,
        state_bits=by_tracepoint.config.state_bits,
        threads=64,
        stacks=64,
        counts=64,
        exits=64,
        pid_max=1024,
    )
    return _plan(native, config)


def _plan(plan: Plan, config: ProgramConfig) -> Plan:
    return replace(plan, config=config, maps=profiler_maps(config))


@pytest.fixture(scope="module")
def btf() -> Iterator[KernelBtf]:
    opened = KernelBtf.open()
    if opened is None:
        pytest.skip("this kernel has no BTF")
    with opened:
        yield opened


def load(specs: list[ProgramSpec], btf: KernelBtf) -> None:
    """Load them all; what the verifier refuses raises."""
    with ExitStack() as stack:
        maps: dict[MapSpec, Map] = {}
        for spec in specs:
            for wanted in spec.maps:
                if wanted not in maps:
                    maps[wanted] = stack.enter_context(Map.create(wanted))
            number = 0
            if spec.type is ProgramType.TRACING:
                iterates = spec.name in ("open_waits", "task_seed")
                prefix = "bpf_iter_" if iterates else "btf_trace_"
                kind = BtfKind.FUNC if iterates else BtfKind.TYPEDEF
                number = btf.type_id(prefix + spec.attach_to, kind)
            stack.enter_context(Program.load(spec, maps, attach_btf_id=number))


def on_events(plan: Plan) -> list[ProgramSpec]:
    """The programs on events, and those they call last."""
    return [*plan.counting_programs(), *(one for chain in plan.chains() for one in chain.specs)]


def loadable(capabilities: Capabilities, hook: Hook, walk: Walk) -> bool:
    """Whether this kernel can have that program at all."""
    if hook is Hook.TP_BTF and not capabilities.tp_btf:
        return False
    if walk is Walk.SCHED_EXIT and (hook is Hook.TRACEPOINT or not capabilities.sched_exit_tp):
        return False
    return capabilities.raw_tracepoint or hook is not Hook.RAW_TRACEPOINT


@pytest.mark.parametrize("language", list(LANGUAGES))
@pytest.mark.parametrize("storage", list(Storage), ids=lambda s: s.name)
@pytest.mark.parametrize("walk", list(Walk), ids=lambda w: w.name)
@pytest.mark.parametrize("hook", list(Hook), ids=lambda h: h.name)
def test_loads(
    capabilities: Capabilities,
    base: Plan,
    btf: KernelBtf,
    hook: Hook,
    walk: Walk,
    storage: Storage,
    language: str,
) -> None:
    if not loadable(capabilities, hook, walk):
        pytest.skip("not on this kernel")
    config = replace(base.config, hook=hook, walk=walk, storage=storage, **LANGUAGES[language])
    specs = on_events(_plan(base, config))
    load(specs, btf)
    if language == "4.9" and hook is Hook.TRACEPOINT:
        longest = max(specs, key=lambda spec: len(spec.code))
        assert len(longest.code) // 8 <= OLD_LIMIT, f"{longest.name} is too long for 4.9"


OPTIONS: dict[str, dict[str, Any]] = {
    "targets": {"every_thread": False},
    "targets, 4.9": {"every_thread": False, **LANGUAGES["4.9"]},
    "on-CPU only": {"offcpu": False, "walk": Walk.NONE},
    "off-CPU only": {"oncpu": False},
    "user stacks": {"kernel_stacks": False},
    "kernel stacks": {"user_stacks": False},
    "shallow": {"max_stack": 1},
    "odd depth": {"max_stack": 17},
    "every wait": {"min_block_ns": 1},
    "longest wait": {"min_block_ns": 1_500_000_000},
    "CPUs": {"cpu_ranges": ((0, 0), (2, 5), (7, 4095))},
    "shifted states": {"state_bits": None},
    "NMI": {"nmi_sampler": True},
    "stack ids": {"stack_table": StackTable.STACK_ID, "unwind": CHAINED},
    "chain, shallow": {"max_stack": 1, "unwind": CHAINED},
    "frame pointers": {"unwind": None},
    "bounded loop": {"unwind": UnwindConfig(Loop.BOUNDED)},
    "old user reads": {"unwind": UnwindConfig(read_user=False)},
    "wake-ups": {"layout": None},
}


@pytest.mark.parametrize("name", list(OPTIONS))
@pytest.mark.parametrize("hook", list(Hook), ids=lambda h: h.name)
def test_options_load(
    capabilities: Capabilities, base: Plan, btf: KernelBtf, hook: Hook, name: str
) -> None:
    walk = Walk.SWITCH_OUT if hook is Hook.TRACEPOINT else base.config.walk
    if not loadable(capabilities, hook, walk):
        pytest.skip("not on this kernel")
    changes = dict(OPTIONS[name])
    if "state_bits" in changes:
        changes["state_bits"] = replace(base.config.state_bits, shift=1)
    if "layout" in changes:  # a kernel whose scheduler does not tell who waits how long
        changes["layout"] = replace(base.config.layout, last_queued=-1)
    for storage in Storage:
        config = replace(base.config, hook=hook, walk=walk, storage=storage)
        load(on_events(_plan(base, replace(config, **changes))), btf)


def test_the_threshold_fits_the_programs_fields(capabilities: Capabilities) -> None:
    plan = make_plan(capabilities, Request(min_block_ns=60_000_000_000))
    assert plan.config.min_block_ns * 5 // 2 < 1 << 32 and plan.notes


def test_iterators_load(base: Plan, btf: KernelBtf, capabilities: Capabilities) -> None:
    if not (base.seed_iterator and base.wait_iterator):
        pytest.skip("no sleepable task iterators here")
    for storage, everyone, user in product(Storage, (True, False), (True, False)):
        config = replace(base.config, storage=storage, every_thread=everyone, user_stacks=user)
        plan = _plan(base, config)
        load([*plan.seed_programs(), *plan.closing_programs()], btf)
