"""One step of the unwinder: from a frame to the one that called it.

Rules are those of ``elf.unwind_table``: where the canonical frame address (CFA) is, and where the
caller's frame pointer, return address and, on x86, rbx lie. The state is kept in a map value: on
the BPF stack the verifier would follow every value it can take, and give up.

Registers but the stack pointer are read only when a rule needs them: most code without frame
pointers saves rbp in every frame and asks for it in none.
"""

from __future__ import annotations

from typing import Callable, Optional

from systemscope.bpfasm.types import MapSpec
from systemscope.bpfasm.values import All, Any_, Expr, Pointer, Value
from systemscope.model.unwinding import StackEnd
from systemscope.programs.common import Ground
from systemscope.programs.config import Loop
from systemscope.programs.records import (
    RULE_CACHE_BITS,
    WINDOW_QUADS,
    CachedRule,
    Pair,
    StackFlag,
    WalkScratch,
)
from systemscope.programs.unwind_kinds import (
    NO_WINDOW,
    STEP,
    Cfa,
    ReadUser,
    Save,
    WalkContext,
    mix,
)
from systemscope.programs.unwind_pool import PoolReader

_GO_ON, _STOP = 0, 1
_WINDOW_BYTES = 8 * WINDOW_QUADS
GOLDEN = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio: spreads what lies close together
#: Pointer authentication codes lie above the bits of a user address.
_ARM_ADDRESS = (1 << 48) - 1
_UNKNOWN = 1  # in place of where the link register was saved: only a first frame has it


#: Where in the rule's first half the kinds of saves are.
_FP, _RA, _EXTRA = 8, 16, 24
_NEEDS_FRAME = 1 << Cfa.NONE | 1 << Cfa.FRAME | 1 << Cfa.FRAME_DEREF


class Step:
    """Emits the function ``STEP``: 0 to go on, 1 when the walk is over.

    For bpf_loop it takes (index, WalkContext *). For other loops it takes a number and finds the
    scratch of its program by itself, so that the verifier can look at it apart.
    """

    def __init__(
        self, ground: Ground, scratch: MapSpec, reader: Callable[[Optional[Pointer]], ReadUser]
    ) -> None:
        self.g, self.b, self._map = ground, ground.b, scratch
        unwind = ground.config.unwind
        assert unwind is not None
        self.arm = unwind.arch == "aarch64"
        self._by_callback = unwind.loop is Loop.CALLBACK
        self._reader = reader
        self._scratch: Pointer
        self._low: Value
        self._high: Value
        self._pair: Pointer
        self._read: ReadUser

    def emit(self) -> None:
        """The function."""
        b = self.b
        if self._by_callback:
            with b.function(STEP, 2, callback=True) as (index, context):
                self._read = self._reader(b.cast(b.let(context, spill=True), WalkContext))
                # Registers are few: those of the arguments serve again.
                b.set(context, b.cast(context, WalkContext).scratch)
                self._scratch = b.cast(context, WalkScratch)
                self._body(index)
            return
        with b.function(STEP, 1, apart=True) as (index,):
            self._read = self._reader(None)
            self._scratch = b.lookup_index(self._map, 0, WalkScratch)
            with b.if_(b.is_null(self._scratch)):
                b.exit(_STOP)
            self._body(index)

    def _body(self, lookup: Value) -> None:
        b = self.b
        b.set(lookup, self._scratch.lookup)
        self._pair = b.stack(Pair)
        self._low, self._high = b.let(0, spill=True), b.let(0, spill=True)
        with b.block():
            self._find(lookup)
        self._meet()
        cfa = b.let(0, spill=True)
        with b.block():
            kind = b.let(self._low & 0xFF)
            self._refuse(kind)
            self._need_frame_pointer(kind)
            self._meet()
            self._frame_address(kind, lookup, cfa)
        self._meet()
        with b.block():
            self._caller(cfa)
        self._go_on()

    # -- where it goes from here

    def _go_on(self) -> None:
        self.b.exit(_GO_ON)

    def _end(self, how: StackEnd) -> None:
        self._scratch.flags = self._scratch.flags | int(how)
        self.b.exit(_STOP)

    def _meet(self) -> None:
        """Ways that parted come together; for verifiers that must be told."""

    # -- the rule

    def _find(self, lookup: Value) -> None:
        b, scratch, pool = self.b, self._scratch, PoolReader(self.g)
        slot = (lookup * GOLDEN) >> (64 - RULE_CACHE_BITS)
        cached = b.cast(b.let(b.address(scratch, "cache") + slot * CachedRule.size), CachedRule)
        with b.if_(All(cached.lookup == lookup, cached.tag == scratch.tag)):
            b.set(self._low, cached.low)
            b.set(self._high, cached.high)
        with b.else_():
            with b.block(), b.if_(Any_(lookup < scratch.start, lookup >= scratch.end)):
                pool.find_mapping(scratch, lookup)
            with b.block(), b.if_(lookup < scratch.end):
                pool.find_rule(scratch, lookup, self._low, self._high)
            cached.lookup = lookup
            cached.tag = scratch.tag
            cached.low = self._low
            cached.high = self._high

    def _refuse(self, kind: Value) -> None:
        """Ends of the walk that the rule itself tells."""
        b = self.b
        with b.if_(kind == Cfa.ENTRY):
            self._end(StackEnd.ENTRY)
        with b.if_(self._scratch.depth >= self.g.config.max_stack):
            self._end(StackEnd.DEPTH)
        with b.if_(Any_(kind == Cfa.UNSUPPORTED, kind > Cfa.SIGNAL)):
            self._end(StackEnd.UNSUPPORTED)

    # -- registers

    def _need_frame_pointer(self, kind: Value) -> None:
        b, scratch = self.b, self._scratch
        with b.if_(scratch.fp_at != 0):
            needed = b.let(_NEEDS_FRAME)
            b.set(needed, (needed >> kind) & 1)
            for shift in (_FP, _RA, _EXTRA):
                with b.if_(self._kind(shift) == Save.AT_FRAME):
                    b.set(needed, 1)
            with b.if_(needed != 0):
                self._load(scratch.fp_at)
                scratch.fp = self._pair.low
                scratch.fp_at = 0

    def _load(self, address: Expr) -> None:
        """Two words of the target's stack from ``address`` on, where there are two; the walk ends
        if there is none."""
        b, scratch = self.b, self._scratch
        with b.block():
            at = self._address(address)
            offset = b.let(at - scratch.window_at)
            with b.if_(offset > _WINDOW_BYTES - 16):
                b.set(offset, 0)
                scratch.window_at = at
                window = b.address(scratch, "window")
                with b.if_(self._read(window, _WINDOW_BYTES, at) != 0):
                    # Its end may lie beyond the stack's, or in a page that is not there.
                    scratch.window_at = NO_WINDOW
                    failed = self._read(window, 16, at)
                    with b.if_(failed != 0), b.if_(self._read(window, 8, at) != 0):
                        self._end(StackEnd.UNREADABLE)
            b.set(offset, offset >> 3)
            self._pair.low = scratch.window[offset]
            self._pair.high = scratch.window[offset + 1]

    def _address(self, expr: Expr) -> Value:
        """An address, which compares unsigned whatever it was computed from."""
        value = self.b.let(0)
        self.b.set(value, expr)
        return value

    def _offset(self) -> Expr:
        low = self.b.let(self._low, signed=True)
        return low >> 32

    def _kind(self, shift: int) -> Expr:
        return (self._low >> shift) & 0xFF

    def _half(self, shift: int) -> Expr:
        """A signed 16-bit field of the rule's second half."""
        high = self.b.let(self._high << (48 - shift), signed=True)
        return high >> 48

    # -- the canonical frame address

    def _frame_address(self, kind: Value, lookup: Value, cfa: Value) -> None:
        b, scratch = self.b, self._scratch

        def extra() -> None:
            with b.if_(scratch.extra_at != 0):
                self._load(scratch.extra_at)
                scratch.extra = self._pair.low
                scratch.extra_at = 0
            b.set(cfa, scratch.extra + self._offset())

        def stub() -> None:
            b.set(cfa, scratch.sp + self._offset())
            with b.if_((lookup & 15) >= self._half(0)):
                b.set(cfa, cfa + 8)

        def saved() -> None:
            base = b.let(scratch.sp)
            with b.if_(kind == Cfa.FRAME_DEREF):
                b.set(base, scratch.fp)
            self._load(base + self._offset())
            b.set(cfa, self._pair.low + self._half(0))

        cases: list[tuple[Cfa, Callable[[], None]]] = [
            (Cfa.STACK, lambda: b.set(cfa, scratch.sp + self._offset())),
            (Cfa.FRAME, lambda: b.set(cfa, scratch.fp + self._offset())),
            (Cfa.NONE, lambda: self._by_pointer(cfa)),
            (Cfa.SIGNAL, self._signal_frame),
            (Cfa.PLT, stub),
            (Cfa.EXTRA, extra),
        ]
        self._choose(kind, cases, saved)

    def _choose(
        self,
        kind: Value,
        cases: list[tuple[Cfa, Callable[[], None]]],
        otherwise: Callable[[], None],
    ) -> None:
        if not cases:
            otherwise()
            return
        wanted, emit = cases[0]
        with self.b.if_(kind == wanted):
            emit()
        with self.b.else_():
            self._choose(kind, cases[1:], otherwise)

    def _by_pointer(self, cfa: Value) -> None:
        """Code without a table: its frame pointer, if it keeps one, points at the caller's, with
        the return address behind it. Where that chain ends in 0 the stack is whole."""
        b, scratch = self.b, self._scratch
        frame = b.let(scratch.fp)
        followed = (scratch.flags & int(StackFlag.BY_POINTER)) != 0
        with b.if_(frame == 0), b.if_(followed):
            self._end(StackEnd.ENTRY)
        with b.if_(Any_(frame < scratch.sp, (frame & 7) != 0)):
            self._end(StackEnd.NO_TABLE)
        scratch.flags = scratch.flags | int(StackFlag.BY_POINTER)
        b.set(cfa, frame + 16)
        saves = Save.AT_CFA << _FP | Save.AT_CFA << _RA
        b.set(self._low, saves)
        b.set(self._high, (-16 & 0xFFFF) << 16 | (-8 & 0xFFFF) << 32)

    def _signal_frame(self) -> None:
        """The kernel saved the interrupted registers; execution goes on right at the saved
        instruction pointer, which no call left."""
        b, scratch = self.b, self._scratch
        base = b.let(scratch.sp)
        self._load(base + self._half(32))
        ip = b.let(self._pair.low, spill=True)
        self._load(base + self._offset())
        scratch.sp = self._pair.low
        scratch.fp_at = base + self._half(16)
        if self.arm:  # an interrupted leaf returns through its link register
            self._load(base + self._half(48))
            scratch.extra = self._pair.low
            scratch.extra_at = 0
        else:
            scratch.extra_at = base + self._half(48)
        with b.if_(ip == 0):
            self._end(StackEnd.STRAYED)
        scratch.lookup = ip
        # Nor was the code that the handler returns to, which this frame is, left by a call.
        with b.block(), b.if_(scratch.depth > 1):
            last = b.let(scratch.depth - 1)
            scratch.ips[last] = scratch.ips[last] + 1
        self._push(ip + 1)
        self._go_on()

    # -- the caller

    def _caller(self, cfa: Value) -> None:
        b, scratch = self.b, self._scratch
        self._check_above(cfa)
        at = self._address(cfa)
        with b.if_(self._kind(_RA) == Save.AT_FRAME):
            b.set(at, scratch.fp)
        with b.if_(self._kind(_RA) == Save.LOST):
            self._end(StackEnd.UNSUPPORTED)
        b.set(at, at + self._half(32))
        address = b.let(0, spill=True)
        if self.arm:
            with b.if_(self._kind(_RA) == Save.SAME):
                self._link_register(address)
            with b.else_():
                self._load(at)
                b.set(address, self._pair.low & _ARM_ADDRESS)
                scratch.extra_at = _UNKNOWN
        else:
            with b.if_(self._kind(_RA) == Save.IN_REGISTER):
                b.set(address, scratch.rdi)
                with b.if_(scratch.depth > 1):
                    self._end(StackEnd.STRAYED)
            with b.else_():
                # With the word below it, where the frame pointer is kept mostly.
                b.set(at, at - 8)
                self._load(at)
                b.set(address, self._pair.high)
        with b.block():
            self._restore_frame_pointer(cfa, at)
        if not self.arm:
            self._restore_extra(cfa)
        with b.if_(address == 0):
            self._end(StackEnd.ENTRY)
        scratch.sp = cfa
        scratch.lookup = address - 1
        self._push(address)

    def _check_above(self, cfa: Value) -> None:
        b, scratch = self.b, self._scratch
        with b.if_(Any_(cfa < scratch.sp, (cfa & 7) != 0)):
            self._end(StackEnd.STRAYED)

    def _link_register(self, address: Value) -> None:
        """A leaf that did not save its return address."""
        b, scratch = self.b, self._scratch
        with b.if_(scratch.extra_at != 0):
            self._end(StackEnd.STRAYED)
        b.set(address, scratch.extra & _ARM_ADDRESS)
        scratch.extra_at = _UNKNOWN

    def _restore_frame_pointer(self, cfa: Value, at: Value) -> None:
        b, scratch = self.b, self._scratch
        kind = b.let(self._kind(_FP))
        with b.if_(kind == Save.AT_CFA):
            saved = self._address(cfa + self._half(16))
            scratch.fp_at = saved
            if not self.arm:
                with b.if_(saved == at):
                    scratch.fp = self._pair.low
                    scratch.fp_at = 0
        with b.if_(kind == Save.AT_FRAME):
            scratch.fp_at = scratch.fp + self._half(16)
        with b.if_(kind == Save.LOST):
            scratch.fp = 0
            scratch.fp_at = 0

    def _restore_extra(self, cfa: Value) -> None:
        b, scratch = self.b, self._scratch
        kind = b.let(self._kind(_EXTRA))
        with b.if_(kind == Save.AT_CFA):
            scratch.extra_at = cfa + self._half(48)
        with b.if_(kind == Save.AT_FRAME):
            scratch.extra_at = scratch.fp + self._half(48)
        with b.if_(kind == Save.LOST):
            scratch.extra = 0
            scratch.extra_at = 0

    def _push(self, address: Expr) -> None:
        b, scratch = self.b, self._scratch
        with b.block():
            depth = b.let(scratch.depth)
            scratch.ips[depth] = address
            scratch.depth = depth + 1
            mix(self.g, scratch, address)
