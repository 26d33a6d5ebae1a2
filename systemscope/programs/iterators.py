"""Task iterators: what threads that had no event are, and on which stack the others wait.

A sleepable iterator may fault in the pages of another task's stack, so the user stack of a thread
asleep is walked by its frame pointers right here. Records go to user space through the iterator's
file, one :class:`TaskSnapshot` a thread.
"""

from __future__ import annotations

from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.records import Record, u64
from systemscope.bpfasm.types import AttachType, ProgramFlag, ProgramSpec, ProgramType
from systemscope.bpfasm.values import All, Any_, Pointer, Value
from systemscope.programs.common import Ground
from systemscope.programs.config import ProgramConfig
from systemscope.programs.hooks import waiting_of
from systemscope.programs.maps import ProfilerMaps
from systemscope.programs.records import (
    STACK_SLOTS,
    CommWords,
    TaskSnapshot,
    ThreadFlag,
    WalkScratch,
)
from systemscope.programs.stacks import StackWalker

PF_KTHREAD = 0x00200000


class FramePair(Record):
    """What a frame pointer points at: the caller's frame pointer and return address."""

    next: u64
    ip: u64


class UserWalk(Record):
    """What the steps of a user walk share; lies on the stack of the iterator."""

    task: u64
    scratch: u64
    frame: u64
    depth: u64


def task_snapshot(config: ProgramConfig, maps: ProfilerMaps, stacks: bool) -> ProgramSpec:
    """A task iterator; with ``stacks`` it also walks those that do not run."""
    name = "open_waits" if stacks else "task_seed"
    g = Ground(name, ProgramType.TRACING, config, maps)
    b = g.b
    task = b.load(b.context, 8, 8)
    with b.if_(task == 0):
        b.exit(0)
    layout = config.layout
    snapshot = b.stack(TaskSnapshot)
    snapshot.tid = b.load(task, layout.task_pid, 4)
    snapshot.tgid = b.load(task, layout.task_tgid, 4)
    with b.block():
        _filter(g, snapshot)
    with b.block():
        _describe(g, task, snapshot)
    if stacks:
        waits = Any_(snapshot.task_state != 0, snapshot.on_cpu == 0)
        with b.if_(All(waits, snapshot.exit_state == 0)):
            walker = StackWalker(g, maps.iterator_stack)
            with b.block():
                snapshot.kernel = walker.kernel_of(task)
            if config.user_stacks and layout.regs_fp >= 0:
                with b.if_((snapshot.task_flags & PF_KTHREAD) == 0):
                    _walk_user(g, walker, task, snapshot)
    with b.block():
        meta = b.load(b.context, 0, 8)
        sequence = b.load(meta, 0, 8)
        b.do(Helper.seq_write, sequence, b.address(snapshot), TaskSnapshot.size)
    b.exit(0)
    sleeps = ProgramFlag.SLEEPABLE if stacks else ProgramFlag(0)
    return b.build("task", AttachType.TRACE_ITER, sleeps)


def _filter(g: Ground, snapshot: Pointer) -> None:
    """Leave out threads that are not targets; note how often the others have switched."""
    b = g.b
    record = g.thread(snapshot.tid)
    with b.if_(b.not_null(record)):
        snapshot.switches = record.switches
        if not g.config.every_thread:
            with b.if_((record.flags & int(ThreadFlag.TRACKED)) == 0):
                b.exit(0)
    if not g.config.every_thread:
        with b.else_():
            b.exit(0)


def _describe(g: Ground, task: Value, snapshot: Pointer) -> None:
    b, layout = g.b, g.config.layout
    if layout.task_state_size == 8:
        snapshot.task_state = b.load(task, layout.task_state, 8)
    else:
        snapshot.task_state = b.load(task, layout.task_state, 4)
    snapshot.task_flags = b.load(task, layout.task_flags, 4)
    if layout.task_start_time >= 0:
        snapshot.start_ns = b.load(task, layout.task_start_time, 8)
    if layout.task_on_cpu >= 0:
        snapshot.on_cpu = b.load(task, layout.task_on_cpu, layout.task_on_cpu_size)
    if not g.config.wakeups:
        with b.block():
            snapshot.waiting_ns = waiting_of(g, task)
    if layout.task_exit_state >= 0:
        snapshot.exit_state = b.load(task, layout.task_exit_state, 4)
    if layout.task_comm >= 0:
        _copy_comm(g, task, snapshot)


def _copy_comm(g: Ground, task: Value, snapshot: Pointer) -> None:
    """Byte by byte where lockdown refuses the helper: typed loads are allowed all the same, but
    only of one element of an array at a time."""
    b, offset = g.b, g.config.layout.task_comm
    target = b.address(snapshot, "comm")
    if g.config.probe_read_kernel:
        b.do(Helper.probe_read_kernel, target, 16, task + offset)
        return
    words = b.cast(target, CommWords)
    for first, name in ((0, "low"), (8, "high")):
        with b.block():
            word = b.let(0)
            for index in range(8):
                letter = b.load(task, offset + first + index, 1)
                b.set(word, word | (letter << (8 * index)))
            setattr(words, name, word)


def _walk_user(g: Ground, walker: StackWalker, task: Value, snapshot: Pointer) -> None:
    """From the saved user registers along the frame pointers, each read checked to go up.

    The steps run in a bpf_loop callback (5.17; bpf_copy_from_user_task is younger): the verifier
    sees one step instead of 126.
    """
    b = g.b
    regs = b.call(Helper.task_pt_regs, task)
    result = b.let(0)
    if g.config.unwind is None:
        _walk_pointers(g, walker, task, regs, result)
    else:
        known = walker.user_of(task, regs, snapshot.tgid, result)
        with b.if_(known == 0):
            _walk_pointers(g, walker, task, regs, result)
    snapshot.user = result
    _user_step(g)


def _walk_pointers(g: Ground, walker: StackWalker, task: Value, regs: Value, result: Value) -> None:
    b, layout = g.b, g.config.layout
    scratch = b.lookup_index(g.maps.iterator_stack, 0, WalkScratch)
    with b.if_(All(b.not_null(regs), b.not_null(scratch))):
        for slot in range(STACK_SLOTS):
            scratch.ips[slot] = 0
        scratch.ips[0] = b.load(regs, layout.regs_ip, 8)
        walk = b.stack(UserWalk)
        walk.task = task
        walk.scratch = b.address(scratch)
        walk.frame = b.load(regs, layout.regs_fp, 8)
        b.bpf_loop(g.config.max_stack - 1, "user_step", b.address(walk))
        walker.intern(scratch, walk.depth + 1, result)


def _user_step(g: Ground) -> None:
    """One frame: 0 to go on, 1 to stop."""
    b = g.b
    with b.function("user_step", 2, callback=True) as (index, context):
        walk = b.cast(context, UserWalk)
        frame = b.let(walk.frame)
        with b.if_(Any_(frame == 0, (frame & 7) != 0)):
            b.exit(1)
        pair = b.stack(FramePair)
        failed = b.call(
            Helper.copy_from_user_task, b.address(pair), 16, frame, walk.task, 0, signed=True
        )
        with b.if_(Any_(failed != 0, pair.ip == 0)):
            b.exit(1)
        scratch = b.cast(b.let(walk.scratch), WalkScratch)
        scratch.ips[index + 1] = pair.ip
        walk.depth = index + 1
        with b.if_(pair.next <= frame):
            b.exit(1)
        walk.frame = pair.next
        b.exit(0)
