"""Records shared by the BPF programs and the collectors: one declaration for both sides.

State arrays have 16 elements (a power of two at least ``STATE_COUNT``) so that a computed index
can be bounded by a mask.
"""

from __future__ import annotations

from enum import IntFlag

from systemscope.bpfasm.records import Array, Bytes, Record, u32, u64
from systemscope.model.states import State

STATES = 16
ELSEWHERE = 15  # slot of the time spent on, or waited until, CPUs not asked for
SHORT_CLASSES = (State.RUNNABLE, State.SLEEPING, State.DISK, State.IDLE)  # of short waits
CHUNK_PAGES = 512  # pages of the unwind pool that come and go together
PAGE_WORDS = 1024
RULE_CACHE_BITS = 9
WINDOW_QUADS = 32
MAPPINGS_A_PAGE = 128
MAX_UNWIND_MAPPINGS = 8 * MAPPINGS_A_PAGE  # of one process
PIECE_SLOTS = 16
PIECES_ID = 1 << 63  # tells the id of a stack kept in pieces from the kernel's numbers
STACK_SLOTS = 128  # power of two at least the 127 frames the kernel walks


class ThreadFlag(IntFlag):
    """Bits of ``ThreadRecord.flags``."""

    TRACKED = 1
    EXCLUDED = 2
    EXITING = 4
    NEW = 8  # has not run yet: its first wait has no stack


class CountFlag(IntFlag):
    """Bits of ``CountKey.flags``. From ``CLASS_SHIFT`` on: the class of lengths that an estimated
    charge stands for, 0 for waits shorter than ``CLASS_BOUNDS[0]``."""

    NEW_THREAD = 1  # the wait for the first CPU
    ESTIMATED = 2  # weighted: stands for waits that were not walked
    NOT_WALKED = 4  # those waits themselves, which carry no stack; class 0 is not charged


class InterruptBit(IntFlag):
    """Kinds of interrupt that tell when they begin and end."""

    TIMER = 1  # a high-resolution timer's function
    SOFT = 2
    DEVICE = 4


CLASS_SHIFT = 8
CLASS_BOUNDS = (32_000, 128_000, 512_000, 2_000_000, 8_000_000, 32_000_000)  # ns


class Control(Record):
    """The window. Programs count when ``now - start < span``; both 0 keep them idle.

    ``second`` is 1 while charges go to the second counts table, so that the first can be emptied.
    """

    start: u64
    span: u64
    second: u64


class ThreadRecord(Record):
    """One thread's accounts. Times are CLOCK_MONOTONIC ns; ``last_ns`` 0: no event yet."""

    last_ns: u64
    born_ns: u64
    ended_ns: u64
    blocked_ns: u64  # blocked part of the wait under way
    kernel_stack: u64  # of the wait under way, where stacks are taken at switch-out
    user_stack: u64
    walked_ns: u64
    run_delay: u64  # the scheduler's sum when the thread left; 0 before its first event
    tid: u32
    tgid: u32
    state: u32
    flags: u32
    blocked_state: u32
    generation: u32  # CLOCK_MONOTONIC >> 16 of birth or last exec; 0 before the window
    switches: u32
    preemptions: u32
    stride: u32  # one wait in so many is walked at switch-out
    weight: u32  # of the wait under way: 0 not walked, 1 exact, more: stands for as many
    walk_ns: u32  # what the walk at switch-out took: the wait was longer by it
    padding: u32
    time: Array = Array(u64, 16)
    waits: Array = Array(u32, 16)
    short: Array = Array(u32, 4)  # ns of short waits not charged yet, by class
    period: Array = Array(u32, 4)  # charge when ``short`` reaches it
    comm: Bytes = Bytes(16)


class ThreadWords(Record):
    """A ThreadRecord as words, for copying."""

    words: Array = Array(u64, 44)


class WholeStack(Record):
    """All that a program has for its stack."""

    words: Array = Array(u64, 64)


class CommWords(Record):
    """A comm as words, for clearing."""

    low: u64
    high: u64


class TidKey(Record):
    """A tid as map key, padded to a stack slot."""

    tid: u32
    padding: u32


class CountKey(Record):
    """What a charge belongs to. Stack ids are 64-bit hashes, 0 for none."""

    tid: u32
    generation: u32
    kernel: u64
    user: u64
    state: u32
    flags: u32


class CountValue(Record):
    """Nanoseconds waited (0 for samples) and how many waits or samples."""

    nanoseconds: u64
    count: u64


class StackFlag(IntFlag):
    """Bits of ``StackRecord.flags`` above the ``model.StackEnd`` in its low byte."""

    END = 0xFF
    BY_POINTER = 1 << 8  # code without a table was left by its frame pointer
    TRUNCATED = 1 << 9  # the kernel's own walk stopped at the depth limit


class StackRecord(Record):
    """Return addresses leaf first."""

    depth: u32
    flags: u32
    ips: Array = Array(u64, 128)


class WalkScratch(Record):
    """Where one program walks: a StackRecord, then what the steps of the unwinder share.

    ``lookup`` lies in the instruction that the frame stands at. ``fp_at``, ``extra_at``: where the
    frame's registers were saved, read only when a rule asks for them; 0 while ``fp``, ``extra``
    hold them. ``rdi`` is the first frame's. ``start`` to ``rules`` is the mapping found last, as in
    UnwindMapping. ``cache`` keeps rules found before, as CachedRule: what calls lies where it lay
    the last time. ``window`` is a copy of the target's stack from ``window_at`` on, for reading it
    in small parts costs more than what is read.
    """

    depth: u32
    flags: u32
    ips: Array = Array(u64, 128)
    lookup: u64
    sp: u64
    fp: u64
    extra: u64
    fp_at: u64
    extra_at: u64
    rdi: u64
    hash: u64
    start: u64
    end: u64
    delta: u64
    table: u32
    rules: u32
    first: u32  # of the process's mappings, as in UnwindSpace
    count: u32
    tag: u64
    window_at: u64
    window: Array = Array(u64, WINDOW_QUADS)
    cache: Array = Array(u64, 4 << RULE_CACHE_BITS)


class Pair(Record):
    """Two words of the target's stack."""

    low: u64
    high: u64


class CachedRule(Record):
    """The rule at ``lookup`` for processes with the mappings of ``tag``."""

    lookup: u64
    tag: u64
    low: u64
    high: u64


class ChainState(Record):
    """What the programs of a chain hand on while they unwind one stack: whose it is, and what the
    last of them needs to do what the first would have done. ``links``: how many ran so far."""

    kernel: u64
    began: u64
    tid: u32
    generation: u32
    links: u32
    padding: u32


class UnwindSpace(Record):
    """The mappings of a process that have tables: ``count`` from pool word ``first`` on. ``tag``
    is never that of other mappings."""

    first: u32
    count: u32
    walks: u64
    tag: u64


class UnwindMapping(Record):
    """One of them, in the pool, sorted. ``address - delta`` counts from the table's first block;
    ``table`` is its first pool page, ``rules`` the word, from there, of its first rule."""

    start: u64
    end: u64
    delta: u64
    table: u32
    rules: u32


class PoolWords(Record):
    """A page of the pool as words."""

    words: Array = Array(u32, 1024)


class PoolQuads(Record):
    """The same page as double words."""

    quads: Array = Array(u64, 512)


class WantedCount(Record):
    """How often the stack of a process without tables was asked for."""

    count: u64


class StackKey(Record):
    """Hash of the addresses."""

    hash: u64


class PieceKey(Record):
    """Hash of the whole stack with the top bit set, and which piece of it."""

    hash: u64
    piece: u32
    padding: u32


class StackPiece(Record):
    """PIECE_SLOTS addresses of a user stack; ``depth`` and ``flags`` are those of the whole."""

    depth: u32
    flags: u32
    ips: Array = Array(u64, 16)


class ExitKey(Record):
    """Tells lives of one tid apart."""

    tid: u32
    generation: u32


class Pending(Record):
    """A charge that waits for the stack of the thread just switched in, one per CPU."""

    tid: u32
    generation: u32
    blocked_state: u32
    active: u32
    blocked_ns: u64
    runnable_ns: u64
    end_ns: u64


class TimelineRecord(Record):
    """One event of a timeline, laid out as ``model.timeline.RECORD`` behind its ring's header."""

    begin: u64
    middle: u64
    end: u64
    kernel: u64
    user: u64
    tid: u32
    cpu: u32
    kind: u32  # and the state, from bit 8 on
    other: u32


class Interrupts(Record):
    """What has interrupted this CPU, as ``InterruptBit``."""

    bits: u64


class Stats(Record):
    """Counters of one CPU."""

    samples: u64
    idle_samples: u64
    stacks_full: u64
    counts_full: u64
    threads_full: u64
    exits_full: u64
    walks_failed: u64
    walks: u64
    refused: u64
    clock_backwards: u64
    collisions: u64
    new_counts: u64
    new_stacks: u64
    first_event_ns: u64
    missed_switches: u64
    timeline_lost: u64


class TaskSnapshot(Record):
    """What a task iterator tells of one thread. Stack ids as in CountKey."""

    start_ns: u64
    kernel: u64
    user: u64
    tid: u32
    tgid: u32
    task_state: u32  # the kernel's task_struct.__state
    task_flags: u32  # PF_* bits
    switches: u32  # of the thread's record when the stack was taken
    on_cpu: u32
    exit_state: u32
    padding: u32
    waiting_ns: u64  # for a CPU since it was queued last
    comm: Bytes = Bytes(16)
