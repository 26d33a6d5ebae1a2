"""What this kernel offers, asked once and kept in one frozen value.

:func:`probe` asks every question and gives :class:`Capabilities`; :func:`examine` gives the
findings behind it as well, for people. Nothing else in SystemScope knows a kernel version.

Capabilities can be switched off by name (:meth:`Capabilities.without`), to try a fallback or to
step around a kernel's defect:

- ``"ring_buffer"``: a feature that is then off, together with all that rests on it: without
  ``btf`` there is no ``tp_btf`` and no iterator either (:data:`RESTS_ON`);
- ``"tracefs"``, ``"finish_task_switch"``: a name that is then empty;
- ``"isa>1"``, ``"max_instructions>4095"``: a number that is then at most that.

:data:`LEGACY_4_9` names what to switch off to have no more than Linux 4.9 has.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Optional, Union

from systemscope.errors import SystemScopeError
from systemscope.kernel.btf import KernelBtf
from systemscope.kernel.cpus import online_cpus, possible_cpus
from systemscope.kernel.privileges import Capability, Privileges, lockdown, privileges, sysctl
from systemscope.kernel.probing import Finding, Probe, Prober

_DEFAULT_PID_MAX = 4_194_304  # PID_MAX_LIMIT of 64-bit kernels


@dataclass(frozen=True)
class Capabilities:
    """Facts about the running kernel and this process's rights.

    A feature is True only when the kernel was seen to have it: "cannot tell" is False. The
    defaults are a kernel that offers nothing.
    """

    isa: int = 1  # highest instruction set level, 1 to 4
    max_instructions: int = 4095  # slots of a program
    bounded_loops: bool = False
    bpf_calls: bool = False
    tail_calls: bool = False
    bpf_loop: bool = False
    map_value_address: bool = False
    map_value_arguments: bool = False
    get_stack: bool = False
    get_task_stack: bool = False
    task_pt_regs: bool = False
    copy_from_user_task: bool = False
    probe_read_kernel: bool = False
    probe_read_user: bool = False
    fetch_atomics: bool = False
    func_info: bool = False
    line_info: bool = False
    object_names: bool = False
    # Attachments.
    btf: bool = False
    tp_btf: bool = False
    raw_tracepoint: bool = False
    tracepoint: bool = False
    tracefs: str = ""  # where it is mounted, "private" if only a private mount serves, or empty
    sched_exit_tp: bool = False
    sched_switch_state_argument: bool = False  # raw args[3] is prev_state
    kprobe: bool = False
    finish_task_switch: str = ""  # the symbol to probe
    task_iterator: bool = False
    sleepable_iterator: bool = False
    perf_link: bool = False
    perf_cycles: bool = False
    perf_cpu_clock: bool = False
    bpf_stats: bool = False
    # Maps.
    task_storage: bool = False
    batch: bool = False
    ring_buffer: bool = False
    mmapable_array: bool = False
    map_in_map: bool = False
    memlock_charged: bool = False  # BPF memory counts against RLIMIT_MEMLOCK
    # The system. -1 and "" mean that it does not tell.
    kallsyms: bool = False
    lockdown: str = ""
    perf_event_paranoid: int = -1
    kptr_restrict: int = -1
    possible_cpus: tuple[int, ...] = (0,)
    online_cpus: tuple[int, ...] = (0,)
    pid_max: int = _DEFAULT_PID_MAX
    arch: str = ""
    release: str = ""
    # This process.
    root: bool = False
    cap_bpf: bool = False  # CAP_BPF, or CAP_SYS_ADMIN, which includes it
    cap_perfmon: bool = False  # CAP_PERFMON, or CAP_SYS_ADMIN, which includes it
    cap_sys_admin: bool = False
    cap_sys_ptrace: bool = False
    cap_syslog: bool = False  # CAP_SYSLOG, or CAP_SYS_ADMIN, which includes it

    def without(self, *names: str) -> Capabilities:
        """A copy in which the named capabilities, and what rests on them, are off.

        Names are described above. ValueError for a name that is not a capability one can do
        without.
        """
        changes: dict[str, Union[bool, int, str]] = {}
        off: set[str] = set()
        for name in names:
            field, limit = _parse(name)
            if limit is None:
                off.add(field)
            else:
                changes[field] = min(changes.get(field, getattr(self, field)), limit)
        for field in _closure(off):
            changes[field] = _FLOOR[field]
        return replace(self, **changes)  # type: ignore[arg-type]


# What cannot be had without what: a feature is off when any of these is.
RESTS_ON: Mapping[str, tuple[str, ...]] = {
    "bpf_loop": ("func_info", "bpf_calls"),
    "line_info": ("func_info",),
    "tp_btf": ("btf",),
    "sched_exit_tp": ("tp_btf",),
    "get_task_stack": ("tp_btf",),
    "task_pt_regs": ("tp_btf",),
    "task_storage": ("tp_btf", "func_info"),
    "task_iterator": ("btf",),
    "sleepable_iterator": ("task_iterator",),
    "copy_from_user_task": ("sleepable_iterator",),
    "tracepoint": ("tracefs",),
    "finish_task_switch": ("kprobe",),
}

# Facts that are not features: nobody can do without them.
_FACTS = frozenset(
    (
        *("memlock_charged", "lockdown", "perf_event_paranoid", "kptr_restrict", "possible_cpus"),
        *("online_cpus", "pid_max", "arch", "release", "root", "cap_bpf", "cap_perfmon"),
        *("cap_sys_admin", "cap_sys_ptrace", "cap_syslog"),
    )
)
_NOTHING = Capabilities()
_FLOOR: Mapping[str, Union[bool, int, str]] = {
    f.name: getattr(_NOTHING, f.name) for f in fields(Capabilities) if f.name not in _FACTS
}

# Linux 4.9 follows the scheduler by tracepoint programs found through tracefs, samples by perf
# events attached by ioctl, and keeps stacks in a stack-id map. It has kprobes as well; they are
# off here so that stacks of waits are taken at switch-out, the last resort.
LEGACY_4_9: frozenset[str] = frozenset(
    _FLOOR.keys()
    - {"isa", "max_instructions", "tracefs", "tracepoint"}
    - {"perf_cycles", "perf_cpu_clock", "kallsyms", "tail_calls"}
) | {"isa>1", "max_instructions>4095"}


def switchable() -> tuple[str, ...]:
    """The names :meth:`Capabilities.without` takes, the limits such as ``isa>1`` aside."""
    return tuple(sorted(_FLOOR))


def _parse(name: str) -> tuple[str, Optional[int]]:
    """(field, None) or (field, highest value)."""
    field, sign, number = name.partition(">")
    known = field in _FLOOR
    is_number = known and type(_FLOOR[field]) is int
    if known and not sign:
        return field, None
    if is_number and number.isascii() and number.isdecimal():
        return field, max(int(number), int(_FLOOR[field]))
    raise ValueError(
        f"{name!r} is not a capability one can do without; there are: {', '.join(switchable())}"
    )


def _closure(off: set[str]) -> set[str]:
    """``off`` and all that rests on it."""
    grown = set(off)
    while True:
        more = {name for name, needs in RESTS_ON.items() if grown.intersection(needs)} - grown
        if not more:
            return grown
        grown |= more


@dataclass(frozen=True)
class Examination:
    """Capabilities with the findings they were made of, in the order asked."""

    capabilities: Capabilities
    findings: Mapping[str, Finding]
    privileges: Privileges


def probes() -> tuple[Probe, ...]:
    """Every question, in the order asked: later ones may build on earlier ones' findings."""
    from systemscope.kernel.probes import attach, helpers, language, maps

    return (
        maps.memlock_charged,
        language.isa,
        language.max_instructions,
        language.bounded_loops,
        language.bpf_calls,
        language.fetch_atomics,
        language.map_value_address,
        language.map_value_arguments,
        language.func_info,
        language.line_info,
        maps.object_names,
        maps.tail_calls,
        attach.btf,
        attach.tp_btf,
        attach.raw_tracepoint,
        attach.tracefs,
        attach.tracepoint,
        attach.sched_exit_tp,
        attach.sched_switch_state_argument,
        attach.kprobe,
        attach.finish_task_switch,
        attach.task_iterator,
        attach.sleepable_iterator,
        helpers.get_stack,
        helpers.probe_read_kernel,
        helpers.probe_read_user,
        helpers.get_task_stack,
        helpers.task_pt_regs,
        helpers.task_storage,
        helpers.bpf_loop,
        helpers.copy_from_user_task,
        maps.batch,
        maps.ring_buffer,
        maps.mmapable_array,
        maps.map_in_map,
        attach.perf_cycles,
        attach.perf_cpu_clock,
        attach.perf_link,
        attach.bpf_stats,
        attach.kallsyms,
    )


def probe(btf: Optional[KernelBtf] = None) -> Capabilities:
    """Ask the kernel everything; some tens of milliseconds.

    ``btf`` is the kernel's BTF when the caller has it open already: it stays open, and what was
    found in it stays found. Raises SystemScopeError only when the CPUs cannot be counted.
    """
    return examine(btf).capabilities


def examine(btf: Optional[KernelBtf] = None) -> Examination:
    """As :func:`probe`, with every finding."""
    rights = privileges()
    own = None if btf is not None else _open_btf()
    try:
        prober = Prober(rights, btf if btf is not None else own)
        for question in probes():
            prober.findings[question.field] = question.ask(prober)
    finally:
        if own is not None:
            own.close()
    values = {name: finding.value for name, finding in prober.findings.items()}
    return Examination(_capabilities(values, rights, prober.lockdown), prober.findings, rights)


def _open_btf() -> Optional[KernelBtf]:
    try:
        return KernelBtf.open()
    except SystemScopeError:
        return None  # damaged BTF is of no more use than none; the probe says "missing"


def _capabilities(values: Mapping[str, object], rights: Privileges, locked: str) -> Capabilities:
    host = os.uname()
    admin = rights.has(Capability.SYS_ADMIN)
    return Capabilities(
        **values,  # type: ignore[arg-type]
        lockdown=lockdown() or locked,
        perf_event_paranoid=sysctl("kernel/perf_event_paranoid"),
        kptr_restrict=sysctl("kernel/kptr_restrict"),
        possible_cpus=possible_cpus(),
        online_cpus=online_cpus(),
        pid_max=sysctl("kernel/pid_max", _DEFAULT_PID_MAX),
        arch=host.machine,
        release=host.release,
        root=rights.uid == 0,
        cap_bpf=admin or rights.has(Capability.BPF),
        cap_perfmon=admin or rights.has(Capability.PERFMON),
        cap_sys_admin=admin,
        cap_sys_ptrace=rights.has(Capability.SYS_PTRACE),
        cap_syslog=admin or rights.has(Capability.SYSLOG),
    )
