"""What the programs are built for: decided by the collectors from the kernel's capabilities."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Optional


class Hook(Enum):
    """How a program hangs on a scheduler event, cheapest first."""

    TP_BTF = "tp_btf"
    RAW_TRACEPOINT = "raw tracepoint"
    TRACEPOINT = "tracepoint"


class Walk(Enum):
    """Where the stack of a wait is taken."""

    SCHED_EXIT = "sched_exit_tp"  # as the thread comes back, known to have waited long
    KPROBE = "kprobe on finish_task_switch"
    SWITCH_OUT = "switch-out"  # as it leaves, before the wait's length is known
    NONE = "none"


class Storage(Enum):
    """Where the threads' records live."""

    ARRAY = "array by tid"
    HASH = "hash"


class StackTable(Enum):
    """How stacks are kept."""

    HASHED = "own hash"  # bpf_get_stack and a hash map: loses none
    STACK_ID = "bpf_get_stackid"  # before 4.18: bucket collisions lose stacks


class Ring(Enum):
    """How a timeline's events reach user space."""

    BPF = "ring buffer"  # 5.8
    PERF = "perf rings, one a CPU"
    NONE = "no timeline"


class Loop(Enum):
    """How the unwinder goes from frame to frame."""

    CALLBACK = "bpf_loop"  # 5.17: the verifier sees one step
    BOUNDED = "bounded loop"  # 5.3: it follows every step
    TAIL_CALLS = "tail calls"  # a few steps a program, and no more than 127 frames


class Registers(Enum):
    """Where the user's registers of the current thread are found."""

    HELPER = "bpf_task_pt_regs"  # 5.15
    TASK_STACK = "top of the thread's kernel stack"  # by task_struct.stack
    STACK_POINTER = "top of the stack the program runs on"  # no description of types needed


@dataclass(frozen=True)
class UnwindConfig:
    """How user stacks are unwound by tables. ``chunks`` of the pool of tables, of CHUNK_PAGES
    pages each, are mapped in as they are needed; 0: the pool is one array of ``pages`` pages."""

    loop: Loop = Loop.CALLBACK
    registers: Registers = Registers.HELPER
    thread_size: int = 16384  # bytes of a kernel stack, for Registers.TASK_STACK
    arch: str = "x86_64"
    read_user: bool = True  # bpf_probe_read_user is there (5.5)
    chunks: int = 64
    pages: int = 0
    spaces: int = 8192

    @property
    def chained(self) -> bool:
        """Whether the programs that unwind are apart from those that want a stack."""
        return self.loop is Loop.TAIL_CALLS


@dataclass(frozen=True)
class KernelLayout:
    """Byte offsets in this kernel's structs, from BTF; -1 where unknown."""

    task_pid: int = -1  # tgid follows it in task_struct, both 4 bytes
    task_tgid: int = -1
    task_state: int = -1
    task_state_size: int = 4
    task_flags: int = -1
    task_comm: int = -1
    task_start_time: int = -1
    task_on_cpu: int = -1
    task_on_cpu_size: int = 4  # one byte on 7.2
    task_exit_state: int = -1
    run_delay: int = -1  # task_struct.sched_info.run_delay: ns waited for a CPU so far
    last_queued: int = -1  # task_struct.sched_info.last_queued: rq clock when it began to wait
    task_cfs_rq: int = -1  # task_struct.se.cfs_rq
    cfs_rq_rq: int = -1
    rq_clock: int = -1
    regs_ip: int = -1
    regs_sp: int = -1
    regs_fp: int = -1
    regs_extra: int = -1  # x86: rbx; aarch64: the link register
    regs_size: int = -1  # of struct pt_regs
    regs_rdi: int = -1  # x86 only
    regs_mode: int = -1  # x86: cs; aarch64: pstate
    task_stack: int = -1

    @property
    def tells_waiting(self) -> bool:
        """True when a task and its run queue say how long it has waited for a CPU."""
        needed = (
            self.run_delay,
            self.last_queued,
            self.task_cfs_rq,
            self.cfs_rq_rq,
            self.rq_clock,
        )
        return min(needed) >= 0


@dataclass(frozen=True)
class TracepointFields:
    """Offsets in the tracepoints' records, from their tracefs format files."""

    switch_prev_pid: int = -1
    switch_prev_state: int = -1
    switch_next_pid: int = -1
    wakeup_pid: int = -1
    waking_pid: int = -1
    fork_parent_pid: int = -1
    fork_child_pid: int = -1
    exec_pid: int = -1
    exec_old_pid: int = -1


@dataclass(frozen=True)
class StateBits:
    """How prev_state of sched_switch encodes this kernel's task states.

    ``shift`` undoes 4.14-stable's encoding, one bit to the left; ``preempted`` is the extra bit
    that tracepoints set for a preempted task.
    """

    shift: int = 0
    preempted: int = 0
    dead: int = 0x80 | 0x10 | 0x20


@dataclass(frozen=True)
class ProgramConfig:
    """Everything the programs depend on."""

    hook: Hook = Hook.TP_BTF
    walk: Walk = Walk.SCHED_EXIT
    storage: Storage = Storage.HASH
    stack_table: StackTable = StackTable.HASHED
    layout: KernelLayout = field(default_factory=KernelLayout)
    fields: TracepointFields = field(default_factory=TracepointFields)
    state_bits: StateBits = field(default_factory=StateBits)
    state_argument: bool = True  # the raw tracepoint passes prev_state
    isa: int = 4
    bounded_loops: bool = True
    functions: bool = True  # programs may have functions, and loops in them
    direct_values: bool = True
    value_arguments: bool = True  # helpers take map values as key or value
    probe_read_kernel: bool = True
    nmi_sampler: bool = False  # the sampling event may be hardware's
    every_thread: bool = True  # system-wide: threads without a record get one
    oncpu: bool = True
    offcpu: bool = True
    kernel_stacks: bool = True
    user_stacks: bool = True
    max_stack: int = 127
    min_block_ns: int = 1_000_000
    pid_max: int = 32768
    threads: int = 16384
    stacks: int = 16384
    counts: int = 16384  # in each of two tables
    exits: int = 4096
    hash_seed: int = 0x9E3779B97F4A7C15
    unwind: Optional[UnwindConfig] = None  # None: user stacks are walked by frame pointers
    ring: Ring = Ring.NONE
    ring_bytes: int = 1 << 24  # of the BPF ring buffer
    cpus: int = 1  # possible ones: slots of the table of perf rings
    cpu_ranges: tuple[tuple[int, int], ...] = ()  # count on these CPUs only (both ends included)

    @property
    def chained(self) -> bool:
        """Whether user stacks are unwound by a chain of programs."""
        return self.unwind is not None and self.unwind.chained

    @property
    def wakeups(self) -> bool:
        """Whether sched_wakeup is followed: only where typed programs cannot read from the
        scheduler's own sums how long a thread has waited for its CPU."""
        return not (self.hook is Hook.TP_BTF and self.layout.tells_waiting)
