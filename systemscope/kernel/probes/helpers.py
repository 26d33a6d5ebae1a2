"""Which helpers programs of the types in question may call.

A program that calls a helper and sets no argument is always refused, and how tells all: EACCES
is about the unset argument, so the helper is known; EINVAL comes with a log that says that the
function is unknown (or, from 6.1, not for programs of this type).
"""

from __future__ import annotations

import errno
from dataclasses import replace

from systemscope.kernel.btf import BtfKind
from systemscope.kernel.probes import tiny
from systemscope.kernel.probing import Finding, Prober, probe
from systemscope.syscalls.bpf import LoadRequest

_GET_STACK = 67
_PROBE_READ_USER = 112
_PROBE_READ_KERNEL = 113
_GET_TASK_STACK = 141
_TASK_STORAGE_GET = 156
_TASK_PT_REGS = 175
_LOOP = 181
_COPY_FROM_USER_TASK = 191
_UNKNOWN = ("unknown func", "invalid func", "cannot use helper")


def known(p: Prober, request: LoadRequest, helper: int) -> Finding:
    """Whether programs loaded like ``request`` may call ``helper``."""
    asked = replace(request, code=tiny.call(helper) + tiny.EXIT, log_level=1, log_size=1 << 14)
    number, log = p.explain(asked)
    if number in (0, errno.EACCES):
        return Finding.yes()
    line = next((line for line in log.splitlines() if any(u in line for u in _UNKNOWN)), "")
    if line:
        return Finding.no(line.strip()[:100])
    finding = Finding.refused(number, (log.splitlines() or [""])[0][:100])
    # Any other complaint of the verifier about this program is no word about the helper.
    return finding if not log else Finding.unsure(finding.detail)


def tp_btf_program(p: Prober, tracepoint: str = "sched_switch") -> LoadRequest:
    """A program for a typed tracepoint; ``attach_btf_id`` is 0 where the kernel has none."""
    type_id = p.type_id(f"btf_trace_{tracepoint}", BtfKind.TYPEDEF)
    request = tiny.program(tiny.TRACING)
    return replace(request, expected_attach_type=tiny.TRACE_RAW_TP, attach_btf_id=type_id)


def iterator_program(p: Prober, sleepable: bool = False) -> LoadRequest:
    """A program for the task iterator."""
    type_id = p.type_id("bpf_iter_task", BtfKind.FUNC)
    return replace(
        tiny.program(tiny.TRACING),
        expected_attach_type=tiny.TRACE_ITER,
        attach_btf_id=type_id,
        flags=tiny.SLEEPABLE if sleepable else 0,
    )


def _typed(p: Prober, helper: int) -> Finding:
    request = tp_btf_program(p)
    if not request.attach_btf_id:
        return Finding.no("no typed tracepoints")
    return known(p, request, helper)


@probe(
    "stacks of any depth into own memory (get_stack)",
    since="4.18",
    missing="stacks come from a stack-id map, which loses some to collisions (reported)",
)
def get_stack(p: Prober) -> Finding:
    """Asked of tracepoint programs; perf event programs got it in the same release."""
    return known(p, tiny.program(tiny.TRACEPOINT), _GET_STACK)


@probe(
    "safe reads of kernel memory (probe_read_kernel)",
    since="5.5",
    missing="the older probe_read is used, which lockdown=confidentiality refuses",
)
def probe_read_kernel(p: Prober) -> Finding:
    """Refused as unknown under lockdown=confidentiality, too."""
    return known(p, tiny.program(tiny.TRACEPOINT), _PROBE_READ_KERNEL)


@probe(
    "reads of user memory (probe_read_user)",
    since="5.5",
    missing="the older probe_read is used, which lockdown=confidentiality refuses",
)
def probe_read_user(p: Prober) -> Finding:
    """Not subject to lockdown, unlike reads of kernel memory."""
    return known(p, tiny.program(tiny.TRACEPOINT), _PROBE_READ_USER)


@probe(
    "stacks of other threads (get_task_stack)",
    since="5.9",
    missing="kernel stacks of threads that never run are read from /proc",
)
def get_task_stack(p: Prober) -> Finding:
    """Needs a typed pointer to the thread."""
    return _typed(p, _GET_TASK_STACK)


@probe(
    "user registers of threads (task_pt_regs)",
    since="5.15",
    missing="user stacks of threads that never run are read from /proc",
)
def task_pt_regs(p: Prober) -> Finding:
    """Needs a typed pointer to the thread."""
    return _typed(p, _TASK_PT_REGS)


@probe(
    "per-thread storage",
    since="5.11",
    missing="per-thread times are kept in a hash map: about 50 ns more a switch",
)
def task_storage(p: Prober) -> Finding:
    """The map type and the helper that finds a thread's value."""
    from systemscope.kernel.probes.maps import task_storage_map

    map_finding = task_storage_map(p)
    return _typed(p, _TASK_STORAGE_GET) if map_finding.available else map_finding


@probe(
    "loops by callback (bpf_loop)",
    since="5.17",
    missing="long loops take longer to verify, so profiling starts later",
)
def bpf_loop(p: Prober) -> Finding:
    """Its callback must be typed, so it takes function types of programs as well."""
    finding = known(p, tiny.program(tiny.TRACEPOINT), _LOOP)
    if finding.available and not p.has("func_info"):
        return p.lacking("func_info", "callbacks need function types of programs")
    return finding


@probe(
    "reads of other processes' memory (copy_from_user_task)",
    since="5.18",
    missing="user stacks of threads that never run are read through process_vm_readv",
)
def copy_from_user_task(p: Prober) -> Finding:
    """Only sleepable programs may call it."""
    if not p.has("sleepable_iterator"):
        return p.lacking("sleepable_iterator", "no sleepable iterators")
    return known(p, iterator_program(p, sleepable=True), _COPY_FROM_USER_TASK)
