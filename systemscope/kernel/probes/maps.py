"""Which maps there are and how they can be read."""

from __future__ import annotations

import resource

from systemscope.errors import KernelError
from systemscope.kernel.probes import tiny
from systemscope.kernel.probing import Finding, Prober, probe
from systemscope.syscalls import bpf
from systemscope.syscalls.proc import raise_memlock

_HASH, _ARRAY, _PROG_ARRAY, _ARRAY_OF_MAPS, _RINGBUF, _TASK_STORAGE = 1, 2, 3, 12, 27, 29
_TAIL_CALL = 12
_NO_PREALLOC = 1 << 0
_MMAPABLE = 1 << 10


@probe(
    "BPF memory counted against RLIMIT_MEMLOCK",
    since="up to 5.10",
    missing="nothing: memory is charged to the cgroup instead",
    remedy="nothing to do; the limit is raised for the time of a profile",
)
def memlock_charged(p: Prober) -> Finding:
    """Try a map while the limit is nothing: only a kernel that counts there refuses.

    The soft limit is put back at once; it may be lowered and raised below the hard one by anyone.
    Where memory is counted, the limit is raised for good: else later answers would be about it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, hard))
        finding = p.create(lambda: bpf.map_create(_ARRAY, 4, 4, 1))
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (soft, hard))
    if finding.available:
        return Finding.no("charged to the memory cgroup")
    raise_memlock()
    return p.create(lambda: bpf.map_create(_ARRAY, 4, 4, 1))


@probe("names of maps and programs", since="4.15", missing="bpftool shows nameless objects")
def object_names(p: Prober) -> Finding:
    """A kernel that does not know the member answers E2BIG."""
    return p.create(lambda: bpf.map_create(_ARRAY, 4, 4, 1, name="probe"))


@probe("batch reads of maps", since="5.6", missing="maps are read entry by entry, 10 times slower")
def batch(p: Prober) -> Finding:
    """Read an empty hash: its end comes at once."""
    try:
        with bpf.map_create(_HASH, 4, 4, 8) as hash_map:
            bpf.MapBatch(hash_map.number, 4, 4, 8).next()
    except KernelError as error:
        return Finding.refused(error.errno or 0)
    return Finding.yes()


@probe("ring buffer", since="5.8", missing="events go through one perf ring for each CPU")
def ring_buffer(p: Prober) -> Finding:
    """The smallest one: a page."""
    page = resource.getpagesize()
    return p.create(lambda: bpf.map_create(_RINGBUF, 0, 0, page))


@probe("maps mapped into memory", since="5.5", missing="tables are read and filled by system calls")
def mmapable_array(p: Prober) -> Finding:
    """BPF_F_MMAPABLE on an array."""
    return p.create(lambda: bpf.map_create(_ARRAY, 4, 8, 1, _MMAPABLE))


@probe(
    "programs that call others last (tail calls)",
    since="4.2",
    missing="where nothing loops (before 5.3) user stacks are walked by frame pointers only",
)
def tail_calls(p: Prober) -> Finding:
    """The array of programs, and a call into it: r1 is the context as the program begins."""
    try:
        array = bpf.map_create(_PROG_ARRAY, 4, 4, 1)
    except KernelError as error:
        return Finding.refused(error.errno or 0, "no array of programs")
    with array:
        index = tiny.insn(0xB7, 3)  # r3 = 0
        code = tiny.map_fd(2, array.number) + index + tiny.call(_TAIL_CALL) + tiny.RETURN_0
        return p.verify(tiny.program(tiny.TRACEPOINT, code))


@probe(
    "maps of maps",
    since="4.12",
    missing="the memory for unwind tables is taken whole as profiling starts",
)
def map_in_map(p: Prober) -> Finding:
    """An array of arrays; the inner one is only a template."""
    try:
        template = bpf.map_create(_ARRAY, 4, 4, 1)
    except KernelError as error:
        return Finding.refused(error.errno or 0, "no array map")
    with template:
        return p.create(
            lambda: bpf.map_create(_ARRAY_OF_MAPS, 4, 4, 1, inner_map_fd=template.number)
        )


def task_storage_map(p: Prober) -> Finding:
    """A map of per-thread values, whose key and value must be typed."""
    try:
        types = bpf.btf_load(tiny.BTF)
    except KernelError as error:
        return Finding.refused(error.errno or 0, "BTF is not taken")
    with types:
        return p.create(
            lambda: bpf.map_create(
                _TASK_STORAGE,
                4,
                4,
                0,
                _NO_PREALLOC,
                btf_fd=types.number,
                btf_key_type_id=tiny.BTF_INT,
                btf_value_type_id=tiny.BTF_INT,
            )
        )
