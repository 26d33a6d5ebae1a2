"""Unwinding where nothing loops (before 5.3): by a chain of programs that call one another last.

The program that wants a stack writes down what it would do with it, and ends in a call of the first
program of its chain. That takes some steps and calls itself until the walk is over; then the second
files the stack and does what was written down. Each caller has a chain of its own: tail calls stay
within a program type, and the sampler's interrupt may hit while another chain is under way.

The kernel allows 32 tail calls in a row. If the first one fails, the program goes on as if there
were no tables; the others cannot, for the chain counts its links.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from systemscope.bpfasm.builder import NOEXIST
from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.records import Record, u64
from systemscope.bpfasm.types import AttachType, ProgramSpec, ProgramType
from systemscope.bpfasm.values import All, Expr, Pointer, Value
from systemscope.model.unwinding import StackEnd
from systemscope.programs.common import E2BIG, EEXIST, Ground
from systemscope.programs.config import ProgramConfig
from systemscope.programs.maps import ChainMaps, ProfilerMaps
from systemscope.programs.records import (
    PIECE_SLOTS,
    PIECES_ID,
    STACK_SLOTS,
    ChainState,
    PieceKey,
    StackPiece,
    Stats,
    UnwindSpace,
    WalkScratch,
)
from systemscope.programs.unwind_kinds import mix
from systemscope.programs.unwind_short import ShortStep
from systemscope.programs.unwinder import Unwinder

UNWIND, FILE = 0, 1  # the programs of a chain
STEPS = 5  # in one program: as many as 4096 instructions hold
#: Programs that take steps, and one that files, make 32 tail calls; 31 * 5 steps are more than any
#: stack has frames.
_LINKS = 31
_USER_CS = 0x33  # __USER_CS: 64-bit code


class UserRegisters(Record):
    """struct pt_regs of x86-64 (arch/x86/include/asm/ptrace.h), which is ABI."""

    r15: u64
    r14: u64
    r13: u64
    r12: u64
    bp: u64
    bx: u64
    r11: u64
    r10: u64
    r9: u64
    r8: u64
    ax: u64
    cx: u64
    dx: u64
    si: u64
    di: u64
    orig_ax: u64
    ip: u64
    cs: u64
    flags: u64
    sp: u64
    ss: u64


class _Word(Record):
    word: u64


@dataclass(frozen=True)
class Like:
    """A kind of program: tail calls go to programs of the caller's."""

    type: ProgramType
    attach_to: str = ""
    attach_type: AttachType = AttachType.NONE


class ChainStart(Unwinder):
    """Emits the way into a chain, in the program that wants the stack."""

    def __init__(self, ground: Ground, chain: ChainMaps) -> None:
        super().__init__(ground, chain.scratch, lambda *_: None)
        self.chain = chain

    def start(self, remember: Callable[[Pointer], None]) -> None:
        """Let the chain unwind the current thread's user stack, and end this program. What
        ``remember`` writes to the ChainState is what the chain's last program finds there. Comes
        back where there are no tables, no user's registers, or no chain."""
        b = self.b
        with b.block():
            tgid = b.call(Helper.get_current_pid_tgid) >> 32
            space = b.lookup_index(self.g.maps.unwind_spaces, tgid, UnwindSpace)
            with b.if_(b.not_null(space)):
                scratch = b.lookup_index(self.chain.scratch, 0, WalkScratch)
                with b.if_(b.not_null(scratch)):
                    with b.block():
                        self._begin(scratch, space)
                    with b.block():
                        self._user_registers(scratch)
                    with b.if_(scratch.lookup != 0):
                        with b.block():
                            self._leaf(scratch)
                        self._hand_over(remember)

    def _hand_over(self, remember: Callable[[Pointer], None]) -> None:
        b = self.b
        state = b.lookup_index(self.chain.state, 0, ChainState)
        with b.if_(b.not_null(state)):
            remember(state)
            state.links = 0
            b.do(Helper.tail_call, b.context, self.chain.programs, UNWIND)

    def instead(self, walk: Callable[[], Value]) -> Value:
        """Where no chain took over: what ``walk`` gives, and the process is one whose tables are
        wanted if it has none."""
        b = self.b
        result = walk()
        with b.if_(result != 0):
            tgid = b.let(b.call(Helper.get_current_pid_tgid) >> 32)
            space = b.lookup_index(self.g.maps.unwind_spaces, tgid, UnwindSpace)
            with b.if_(b.is_null(space)):
                self._want(tgid)
        return result

    # -- registers

    def _user_registers(self, scratch: Pointer) -> None:
        """Those of user mode; ``lookup`` stays 0 where there are none."""
        b = self.b
        if b.type is ProgramType.PERF_EVENT:
            context = b.cast(b.context, UserRegisters)
            mode = b.let(context.cs)
            with b.if_(mode == _USER_CS):
                self._take(scratch, context)
            with b.if_((mode & 3) == 0):
                # It hit the kernel, if on the thread's own stack: user mode's lie at its top.
                self._from_stack(scratch, b.let(context.sp))
            return
        # The program runs on the thread's kernel stack. Its frame pointer is a number once it
        # has gone through a map.
        anchor = b.stack(_Word)
        scratch.sp = b.address(anchor)
        self._from_stack(scratch, scratch.sp)

    def _from_stack(self, scratch: Pointer, inside: Expr) -> None:
        """Entry code saves user mode's registers at the top of the kernel stack."""
        b, size = self.b, self.config.thread_size
        with b.block():
            saved = b.stack(UserRegisters)
            top = b.let((inside & -size) + (size - UserRegisters.size))
            modern = self.g.config.probe_read_kernel
            helper = Helper.probe_read_kernel if modern else Helper.probe_read
            b.do(helper, b.address(saved), UserRegisters.size, top)
            with b.if_(saved.cs == _USER_CS):
                self._take(scratch, saved)

    def _take(self, scratch: Pointer, registers: Pointer) -> None:
        scratch.lookup = registers.ip
        scratch.sp = registers.sp
        scratch.fp = registers.bp
        scratch.extra = registers.bx
        scratch.rdi = registers.di


#: ``finish(ground, state, user)``: what is done once the stack has an id.
Finish = Callable[[Ground, Pointer, Value], None]


class Chain:
    """The two programs of one caller. ``like`` says of what kind that is: to what it attaches."""

    def __init__(
        self, name: str, config: ProgramConfig, maps: ProfilerMaps, links: ChainMaps, like: Like
    ) -> None:
        self._name, self._config, self._maps = name, config, maps
        self._links, self._like = links, like

    def _ground(self, role: str) -> Ground:
        return Ground(f"{self._name}_{role}", self._like.type, self._config, self._maps)

    def programs(self, finish: Finish) -> tuple[ProgramSpec, ProgramSpec]:
        """In the order of their place in the map."""
        return self._unwind(), self._file(finish)

    def _unwind(self) -> ProgramSpec:
        """Takes steps from frame to frame."""
        g = self._ground("unwind")
        b = g.b
        context, how = b.let(b.context, spill=True), b.let(0, spill=True)
        with b.block():
            # Registers are few: the context's serves again.
            b.set(b.context, b.lookup_index(self._links.scratch, 0, WalkScratch)._base)
        scratch = b.cast(b.context, WalkScratch)
        with b.if_(b.is_null(scratch)):
            b.exit(0)
        over, again = b.asm.fresh_label("over"), b.asm.fresh_label("again")
        step = ShortStep(g, self._links.scratch, scratch, how)
        for _ in range(STEPS):
            step.emit_here(over, again)
        b.asm.label(again)
        self._once_more(g, context)
        b.set(how, int(StackEnd.DEPTH))
        b.asm.label(over)
        scratch.flags = scratch.flags | how
        b.do(Helper.tail_call, context, self._links.programs, FILE)
        g.count("walks_failed")
        b.exit(0)
        return b.build(self._like.attach_to, self._like.attach_type)

    def _once_more(self, g: Ground, context: Value) -> None:
        b = g.b
        with b.block():
            state = b.lookup_index(self._links.state, 0, ChainState)
            with b.if_(b.not_null(state)):
                links = b.let(state.links + 1)
                state.links = links
                with b.if_(links < _LINKS):
                    b.do(Helper.tail_call, context, self._links.programs, UNWIND)

    def _file(self, finish: Finish) -> ProgramSpec:
        """Keeps the stack, and does what the caller would have done with it."""
        g = self._ground("file")
        b = g.b
        user = b.let(0, spill=True)
        with b.block():
            scratch = b.lookup_index(self._links.scratch, 0, WalkScratch)
            with b.if_(b.not_null(scratch)):
                mix(g, scratch, b.let(scratch.flags ^ (scratch.depth << 32)))
                b.set(user, scratch.hash | PIECES_ID)
                keep_pieces(g, scratch, user)
        state = b.lookup_index(self._links.state, 0, ChainState)
        with b.if_(b.not_null(state)):
            finish(g, state, user)
        b.exit(0)
        return b.build(self._like.attach_to, self._like.attach_type)


def keep_pieces(g: Ground, scratch: Pointer, user: Value) -> None:
    """Put the stack in ``scratch`` into the table of pieces, if its id ``user`` is new there. The
    first piece comes last: where it is, the others are. ``user`` becomes 0 where one is refused.

    In pieces, for helpers before 4.18 take keys and values from the program's stack only.
    """
    b, pieces = g.b, g.maps.stack_pieces
    key = b.stack(PieceKey)
    key.hash = user
    known = b.lookup(pieces, b.address(key), StackPiece)
    with b.if_(b.is_null(known)):
        refused, added = b.let(0, spill=True), b.let(0, spill=True)
        piece = b.stack(StackPiece, zero=False)
        piece.depth = scratch.depth
        piece.flags = scratch.flags
        for number in reversed(range(STACK_SLOTS // PIECE_SLOTS)):
            with b.if_(scratch.depth > PIECE_SLOTS * number):
                key.piece = number
                for slot in range(PIECE_SLOTS):
                    piece.ips[slot] = scratch.ips[PIECE_SLOTS * number + slot]
                answer = b.update(pieces, b.address(key), b.address(piece), NOEXIST)
                with b.if_(answer == 0):
                    b.set(added, added + 1)
                with b.if_(All(answer != 0, answer != EEXIST)):
                    b.set(refused, answer)
            b.forget()
        _count(g, added, b.let(refused, signed=True), user)


def _count(g: Ground, added: Value, refused: Value, user: Value) -> None:
    b = g.b
    with b.if_(refused != 0):
        b.set(user, 0)
        with b.if_(refused == E2BIG):
            g.count("stacks_full")
        with b.else_():
            g.count("refused")
    with b.block():
        stats = b.lookup_index(g.maps.stats, 0, Stats)
        with b.if_(b.not_null(stats)):
            b.atomic_add(stats.new_stacks, added)
