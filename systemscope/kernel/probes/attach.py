"""Where programs can be attached: tracepoints, perf events, kprobes, iterators."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

from systemscope.errors import KernelError, SystemScopeError
from systemscope.kernel.btf import BtfKind
from systemscope.kernel.privileges import Capability, lockdown, read_text, sysctl
from systemscope.kernel.probes import tiny
from systemscope.kernel.probes.helpers import iterator_program, known, tp_btf_program
from systemscope.kernel.probing import Finding, Prober, State, probe
from systemscope.kernel.symbols import FINISH_TASK_SWITCH, find_symbol, kallsyms_readable
from systemscope.kernel.tracefs import PRIVATE, Tracefs, mount_privately, mounted
from systemscope.syscalls import bpf, perf

_KPROBE_PMU = "/sys/bus/event_source/devices/kprobe/type"
_PROBE_READ = 4  # bpf_probe_read, as old as tracing programs
_SAMPLING = perf.AttrFlag.DISABLED | perf.AttrFlag.FREQ | perf.AttrFlag.EXCLUDE_HV


@probe(
    "types of the kernel (BTF)",
    since="5.4 with CONFIG_DEBUG_INFO_BTF",
    missing="no typed tracepoints, iterators or per-thread storage; tracefs is needed",
    remedy="run a kernel built with CONFIG_DEBUG_INFO_BTF",
)
def btf(p: Prober) -> Finding:
    """Readable, and it knows of threads."""
    if p.btf is None:
        return Finding.no("no /sys/kernel/btf/vmlinux")
    if not p.type_id("task_struct", BtfKind.STRUCT):
        return Finding.no("it does not describe task_struct")
    return Finding.yes()


@probe(
    "tracing file system",
    since="4.1",
    missing="no tracepoint programs, no kprobes before 4.17",
    remedy="mount -t tracefs tracefs /sys/kernel/tracing (lockdown=confidentiality refuses it)",
)
def tracefs(p: Prober) -> Finding:
    """A mounted one, else one that can be mounted for this process alone."""
    path = mounted()
    if path:
        p.kprobe_events = Tracefs(path).exists("kprobe_events")
        return Finding.yes(path, path)
    if _confidential(p):
        return Finding.no("lockdown=confidentiality keeps it empty", "")
    try:
        with Tracefs(mount_privately()) as own:
            own.format("sched", "sched_switch")
            p.kprobe_events = own.exists("kprobe_events")
    except KernelError as error:
        return Finding.refused(error.errno or 0, "mounting it privately", "")
    except SystemScopeError as error:
        return Finding.no(error.message, "")
    return Finding.yes(PRIVATE, "not mounted; a private mount serves")


def _confidential(p: Prober) -> bool:
    """Whether lockdown keeps kernel memory secret; helpers to read it are then unknown ones.

    securityfs, which says so, may not be mounted. Mounting tracefs all the same would not only be
    useless: 6.12 crashes as the mount goes away again (tracefs_destroy_inode).
    """
    if not p.lockdown:
        # Not of kprobe programs: those are refused for other reasons before 5.0.
        secret = known(p, tiny.program(tiny.TRACEPOINT), _PROBE_READ).state is State.MISSING
        p.lockdown = lockdown() or ("confidentiality" if secret else "")
    return p.lockdown == "confidentiality"


@probe(
    "tracepoint programs",
    since="4.7",
    missing="the oldest way to follow the scheduler; only matters where newer ones are missing",
    remedy="run as root on a kernel with CONFIG_BPF_EVENTS and a tracefs",
)
def tracepoint(p: Prober) -> Finding:
    """The program type, and a tracefs to find events in."""
    finding = p.verify(tiny.program(tiny.TRACEPOINT))
    if finding.available and not p.has("tracefs"):
        return p.lacking("tracefs", "no tracefs")
    return finding


@probe(
    "raw tracepoint programs",
    since="4.17",
    missing="following the scheduler costs about 20 ns more a switch than this, 90 than tp_btf",
)
def raw_tracepoint(p: Prober) -> Finding:
    """The program type."""
    return p.verify(tiny.program(tiny.RAW_TRACEPOINT))


@probe(
    "typed tracepoints (tp_btf)",
    since="5.5",
    missing="following the scheduler costs about 70 to 90 ns more a switch",
)
def tp_btf(p: Prober) -> Finding:
    """A program bound to sched_switch."""
    request = tp_btf_program(p)
    if not request.attach_btf_id:
        return Finding.no("BTF does not name btf_trace_sched_switch")
    return p.verify(request)


@probe(
    "tracepoint at the end of a switch (sched_exit_tp)",
    since="6.16",
    missing="stacks of waits are taken by kprobe, or at every switch-out at about 4 µs each",
)
def sched_exit_tp(p: Prober) -> Finding:
    """A program bound to it; it takes one argument, is_switch, or one and an address."""
    request = tp_btf_program(p, "sched_exit_tp")
    if not request.attach_btf_id:
        return Finding.no("BTF does not name btf_trace_sched_exit_tp")
    return p.verify(request)


@probe(
    "state among sched_switch's raw arguments",
    since="5.18, and earlier in some distributions",
    missing="a thread's state is read from its task_struct",
)
def sched_switch_state_argument(p: Prober) -> Finding:
    """By the typedef's arity: __data, preempt, prev, next, prev_state. It was inserted before
    prev for a while, but moved last before any release (commit 9c2136be0878)."""
    count = 0
    if p.btf is not None:
        try:
            count = p.btf.arity("btf_trace_sched_switch")
        except SystemScopeError:
            count = 0
    if count:
        text = f"{count - 1} arguments"
        return Finding.yes(detail=text) if count >= 5 else Finding.no(text)
    if not p.has("raw_tracepoint"):
        return p.lacking("raw_tracepoint", "no raw tracepoints")
    return _by_attaching(p)


def _by_attaching(p: Prober) -> Finding:
    """Without BTF: a program that reads the fourth argument attaches only where there is one."""
    code = tiny.insn(0x79, 0, 1, 24) + tiny.RETURN_0  # r0 = args[3]
    program = p.load(tiny.program(tiny.RAW_TRACEPOINT, code))
    if isinstance(program, Finding):
        return program
    with program:
        return p.create(lambda: bpf.raw_tracepoint_open(program.number, "sched_switch"))


@probe(
    "kprobe programs",
    since="4.1 with CONFIG_KPROBE_EVENTS",
    missing="where sched_exit_tp is missing too, stacks of waits are taken at every switch-out",
    remedy="run a kernel built with CONFIG_KPROBE_EVENTS, without lockdown=confidentiality",
)
def kprobe(p: Prober) -> Finding:
    """The program type, and the perf PMU or the tracefs file that makes probes."""
    if _confidential(p):
        return Finding.no("lockdown=confidentiality refuses probes")
    way = "perf kprobe PMU" if os.path.exists(_KPROBE_PMU) else "tracefs"
    if way == "tracefs" and not p.kprobe_events:
        return p.lacking("tracefs", "neither a kprobe PMU nor tracefs/kprobe_events")
    from systemscope.bpf.program import kernel_version_code

    request = tiny.program(tiny.KPROBE)
    finding = p.verify(replace(request, kern_version=kernel_version_code()))
    return replace(finding, detail=way) if finding.available else finding


@probe(
    "finish_task_switch can be probed",
    since="4.9",
    missing="where sched_exit_tp is missing too, stacks of waits are taken at every switch-out",
    remedy="run a kernel built with CONFIG_KPROBE_EVENTS and CONFIG_KALLSYMS",
)
def finish_task_switch(p: Prober) -> Finding:
    """The compiler's name for it. Asked only where kprobes are: the search reads kallsyms."""
    if not p.has("kprobe"):
        return p.lacking("kprobe", "no kprobes", "")
    name = find_symbol(FINISH_TASK_SWITCH)
    return Finding.yes(name, name) if name else Finding.no("kallsyms does not list it", "")


@probe(
    "iterator over threads",
    since="5.8",
    missing="threads that never run in the window are read from /proc, about 150 µs each",
)
def task_iterator(p: Prober) -> Finding:
    """A program bound to it."""
    return _iterator(p, sleepable=False)


@probe(
    "sleepable iterator over threads",
    since="6.1",
    missing="user stacks of threads that never run are read through process_vm_readv",
)
def sleepable_iterator(p: Prober) -> Finding:
    """A program that may fault pages in while it reads."""
    return _iterator(p, sleepable=True)


def _iterator(p: Prober, sleepable: bool) -> Finding:
    request = iterator_program(p, sleepable)
    if not request.attach_btf_id:
        return Finding.no("BTF does not name bpf_iter_task")
    return p.verify(request)


@probe(
    "perf events attached by link",
    since="5.15",
    missing="nothing: an ioctl attaches them",
)
def perf_link(p: Prober) -> Finding:
    """Link a program to a disabled clock event."""
    program = p.load(tiny.program(tiny.PERF_EVENT))
    if isinstance(program, Finding):
        return program
    with program:
        try:
            event = perf.perf_event_open(_clock_event(), -1, _cpu())
        except KernelError as error:
            return Finding.refused(error.errno or 0, "no clock event")
        with event:
            return p.create(
                lambda: bpf.link_create_perf_event(
                    program.number, event.number, tiny.ATTACH_PERF_EVENT
                )
            )


@probe(
    "hardware cycles event",
    since="the machine's PMU",
    missing="on-CPU stacks are sampled by a timer, blind where interrupts are off",
    remedy="virtual machines need a virtual PMU; bare metal has one",
)
def perf_cycles(p: Prober) -> Finding:
    """A sampling event on a CPU, of all that runs there."""
    attr = perf.PerfEventAttr(
        type=perf.PerfType.HARDWARE,
        config=perf.Hardware.CPU_CYCLES,
        sample_period=99,
        flags=_SAMPLING,
    )
    return _open_event(p, attr)


@probe(
    "timer event (cpu-clock)",
    since="2.6.31",
    missing="with no cycles event either, nothing can be sampled on the CPU",
    remedy="run as root, or with CAP_PERFMON, or lower kernel.perf_event_paranoid",
)
def perf_cpu_clock(p: Prober) -> Finding:
    """A sampling event on a CPU, of all that runs there."""
    return _open_event(p, _clock_event())


def _clock_event() -> perf.PerfEventAttr:
    return perf.PerfEventAttr(
        type=perf.PerfType.SOFTWARE,
        config=perf.Software.CPU_CLOCK,
        sample_period=99,
        flags=_SAMPLING,
    )


def _cpu() -> int:
    return min(os.sched_getaffinity(0))


def _open_event(p: Prober, attr: perf.PerfEventAttr) -> Finding:
    finding = p.create(lambda: perf.perf_event_open(attr, -1, _cpu()))
    if finding.detail == errno.errorcode[errno.ENOENT]:
        return Finding.no("ENOENT: the machine does not show a PMU")
    if finding.detail.startswith(errno.errorcode[errno.EACCES]):
        # perf answers EACCES to those it does not trust: that says nothing about the event.
        level = sysctl("kernel/perf_event_paranoid")
        return Finding.unsure(f"EACCES: kernel.perf_event_paranoid is {level}")
    return finding


@probe(
    "run-time statistics of programs",
    since="5.8",
    missing="the summary cannot tell what the BPF programs themselves cost",
    remedy="run Linux 5.8 or later with CAP_SYS_ADMIN",
)
def bpf_stats(p: Prober) -> Finding:
    """Ask the types when they are there: switching statistics on rewrites kernel code."""
    if p.btf is not None and p.privileges.effective:
        try:
            if p.btf.enumerator("bpf_cmd", "BPF_ENABLE_STATS") is not None:
                return _may_enable(p)
        except SystemScopeError:
            pass
    return p.create(bpf.enable_stats)


def _may_enable(p: Prober) -> Finding:
    if p.privileges.has(Capability.SYS_ADMIN):
        return Finding.yes()
    return Finding.unsure("CAP_SYS_ADMIN is missing")


@probe(
    "kernel symbols",
    since="CONFIG_KALLSYMS",
    missing="kernel frames show as addresses",
    remedy="sysctl kernel.kptr_restrict=1 or lower, and run with CAP_SYSLOG",
)
def kallsyms(p: Prober) -> Finding:
    """Addresses are shown, not zeros."""
    if kallsyms_readable():
        return Finding.yes()
    if not read_text("/proc/kallsyms")[:1]:
        return Finding.no("there is no /proc/kallsyms")
    text = f"addresses are hidden (kptr_restrict={sysctl('kernel/kptr_restrict')})"
    # From 2 on they are hidden from everyone; below, from those without CAP_SYSLOG.
    hidden = sysctl("kernel/kptr_restrict") >= 2 or p.privileges.has(Capability.SYSLOG)
    return Finding.no(text) if hidden else Finding.unsure(f"{text} without CAP_SYSLOG")
