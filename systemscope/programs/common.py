"""Idioms every program uses: the window, counters, thread records, charges."""

from __future__ import annotations

from typing import Callable

from systemscope.bpfasm.builder import NOEXIST, Builder
from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.types import MapSpec, ProgramType
from systemscope.bpfasm.values import All, Expr, ExprLike, Pointer, Value, as_expr
from systemscope.programs.config import ProgramConfig, Storage
from systemscope.programs.maps import ProfilerMaps
from systemscope.programs.records import (
    CommWords,
    Control,
    CountKey,
    CountValue,
    ExitKey,
    StackKey,
    Stats,
    ThreadFlag,
    ThreadRecord,
    ThreadWords,
    TidKey,
    WholeStack,
)

GENERATION_SHIFT = 16

#: How a map refuses a new key: no room, somebody else was quicker, and (to a program in NMI context
#: that hit an update of the same bucket) EBUSY since 5.11 (20b6cc34ea74), EDEADLK and ETIMEDOUT
#: since buckets have resilient locks (6.15).
E2BIG, EEXIST = -7, -17


class Ground:
    """A builder together with what its program works on."""

    def __init__(
        self, name: str, type: ProgramType, config: ProgramConfig, maps: ProfilerMaps
    ) -> None:
        self.b = Builder(
            name,
            type,
            isa=config.isa,
            direct_values=config.direct_values,
            bounded_loops=config.bounded_loops,
        )
        self.config = config
        self.maps = maps

    @property
    def forgetful(self) -> bool:
        """Whether ways through a program multiply unless what tells them apart is kept on the stack
        and cleared: verifiers that follow no loop (before 5.3) forget little by themselves."""
        return not self.config.bounded_loops

    def clear_stack(self) -> None:
        """Let no way be told from others by what it has written to the stack."""
        if self.forgetful:
            with self.b.block():
                self.b.stack(WholeStack)

    def meet(self, stack: bool = False) -> None:
        """Ways through the program meet here, for such verifiers."""
        if self.forgetful:
            self.b.forget(stack)

    # -- the window

    def now_in_window(self) -> tuple[Value, Value]:
        """The time now and the window's start; leaves the program outside of the window."""
        b = self.b
        now = b.call(Helper.ktime_get_ns)
        start = b.let(0, spill=True)
        with b.block():
            control = b.value_of(self.maps.control, Control)
            with b.if_(now - control.start >= control.span):
                b.exit(0)
            b.set(start, control.start)
        return now, start

    def elapsed(self, now: ExprLike, since: Expr) -> Value:
        """``now - since``, 0 (and counted) if the clock seems to run backwards across CPUs."""
        b = self.b
        delta = b.let(as_expr(now) - since)
        with b.if_(delta > 1 << 62):
            b.set(delta, 0)
            self.count("clock_backwards")
        return delta

    def count(self, name: str) -> None:
        """Add one to a counter."""
        b = self.b
        with b.block():
            stats = b.lookup_index(self.maps.stats, 0, Stats)
            with b.if_(b.not_null(stats)):
                b.atomic_add(getattr(stats, name), 1)

    # -- threads

    def thread(self, tid: Expr) -> Pointer:
        """The record of ``tid``; null where it has none."""
        return self.b.lookup_index(self.maps.threads, tid, ThreadRecord)

    def thread_of(self, tid: Callable[[], Expr]) -> Pointer:
        """The record of the thread whose number ``tid`` emits, null for 0 (the idle tasks);
        made where it is missing, system-wide. The record takes the first free register and what
        ``tid`` needs is free again afterwards: this is the hot path."""
        b = self.b
        base = b.let(0)
        with b.block():
            number = self._number(tid)
            with b.if_(number != 0):
                found = self.thread(number)
                if self.config.every_thread:
                    self.make_thread(number, found)
                b.set(base, found._base)
        return b.cast(base, ThreadRecord)

    def _number(self, tid: Callable[[], Expr]) -> Value:
        b = self.b
        if self.config.isa > 1:
            return b.let(tid())
        # Until 4.14 a pointer that was on the stack takes no computed index: registers are for it.
        number = b.let(0, spill=True)
        with b.block():
            b.set(number, tid())
        return number

    def make_thread(self, tid: Expr, record: Pointer) -> None:
        """Give a thread without a record one (system-wide). ``record`` becomes it, or null."""
        b = self.b
        if self.config.storage is Storage.ARRAY:
            with b.if_(b.not_null(record)), b.if_(record.flags == 0):
                record.tid = tid
                record.flags = int(ThreadFlag.TRACKED)
            return
        base = record._base
        assert isinstance(base, Value)
        with b.if_(b.is_null(record)):
            key = b.let(tid, spill=True)
            blank = b.stack(ThreadRecord)
            blank.tid = key
            blank.flags = int(ThreadFlag.TRACKED)
            self.insert_thread(key, blank)
            again = b.stack(TidKey)
            again.tid = key
            b.call(Helper.map_lookup_elem, self.maps.threads, b.address(again), into=base)

    def insert_thread(self, tid: Expr, blank: Pointer) -> None:
        """Put ``blank`` (on the stack) into the hash; a full table is counted."""
        b = self.b
        with b.block():
            slot = b.stack(TidKey)
            slot.tid = tid
            refused = b.update(self.maps.threads, b.address(slot), blank, NOEXIST)
            with b.if_(refused == E2BIG):
                self.count("threads_full")

    def drop_left_behind(self, tid: Expr, now: Expr) -> None:
        """A record left behind by the tid's last owner ends now."""
        b = self.b
        left = self.thread(tid)
        with b.if_(b.not_null(left)):
            with b.if_(left.last_ns != 0):
                self.retire(left, now)
            with b.else_():
                self.discard(left, tid)

    def discard(self, record: Pointer, tid: Expr) -> None:
        """Drop a record that says nothing."""
        b = self.b
        if self.config.storage is Storage.ARRAY:
            self.clear(record)
            return
        with b.block():
            slot = b.stack(TidKey)
            slot.tid = tid
            b.delete(self.maps.threads, b.address(slot))

    def retire(self, record: Pointer, now: Expr) -> None:
        """The thread has ended: its record goes to the table of the ended ones."""
        b = self.b
        record.ended_ns = now
        with b.block():
            key = b.stack(ExitKey)
            key.tid = record.tid
            key.generation = record.generation
            value: ExprLike = b.address(record)
            if not self.config.value_arguments:
                value = self._copy(record)
            refused = b.update(self.maps.exits, b.address(key), value)
            with b.if_(refused != 0):
                self.count("exits_full")
            if self.config.storage is Storage.HASH:
                b.delete(self.maps.threads, b.address(key))  # the tid is the key's first field
            else:
                self.clear(record)

    def clear(self, record: Pointer) -> None:
        """Zero a record in place."""
        for field in ThreadRecord.fields.values():
            if field.raw:
                view = self.b.cast(self.b.address(record, field.name), CommWords)
                view.low = 0
                view.high = 0
            elif field.count:
                for index in range(field.count):
                    getattr(record, field.name)[index] = 0
            else:
                setattr(record, field.name, 0)

    def _copy(self, record: Pointer) -> ExprLike:
        """A copy on the stack, for kernels whose helpers take no map value as argument."""
        b = self.b
        copy = b.stack(ThreadWords, zero=False)
        words = b.cast(b.address(record), ThreadWords)
        for index in range(ThreadRecord.size // 8):
            copy.words[index] = words.words[index]
        return b.address(copy)

    # -- charges

    def charge(
        self,
        key: Pointer,
        nanoseconds: ExprLike,
        count: ExprLike = 1,
    ) -> None:
        """Add to the entry at ``key``, made when missing; a refusal is counted."""
        b = self.b
        with b.block():
            amount = b.let(nanoseconds, spill=True)
            number = b.let(count, spill=True)
            control = b.value_of(self.maps.control, Control)
            with b.if_(control.second == 0):
                self._charge_in(self.maps.counts, key, amount, number)
            with b.else_():
                self._charge_in(self.maps.counts_second, key, amount, number)
        self.meet()

    def _charge_in(self, table: MapSpec, key: Pointer, amount: Value, number: Value) -> None:
        b = self.b
        value = b.lookup(table, b.address(key), CountValue)
        base = value._base
        assert isinstance(base, Value)
        with b.if_(b.is_null(value)):
            fresh = b.stack(CountValue)
            refused = b.update(table, b.address(key), b.address(fresh), NOEXIST)
            with b.if_(refused == 0):
                self.count("new_counts")
            with b.if_(refused == E2BIG):
                self.count("counts_full")
            with b.if_(All(refused != 0, refused != E2BIG, refused != EEXIST)):
                self.count("refused")
            b.set(base, b.call(Helper.map_lookup_elem, table, b.address(key)))
        with b.if_(b.not_null(value)):
            b.atomic_add(value.nanoseconds, amount)
            b.atomic_add(value.count, number)

    def count_key(self, record_tid: Expr, generation: Expr, state: ExprLike) -> Pointer:
        """A key on the stack without stacks; fill in ``kernel``, ``user``."""
        key = self.b.stack(CountKey)
        key.tid = record_tid
        key.generation = generation
        key.state = state
        return key

    def hash_key(self, hashed: Expr) -> Pointer:
        """A stack's key on the stack."""
        key = self.b.stack(StackKey, zero=False)
        key.hash = hashed
        return key
