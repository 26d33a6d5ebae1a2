"""Whole user stacks of code without frame pointers, unwound by tables in the kernel.

The tables come from the files' own .eh_frame (``elf.unwind_table``); user space puts them into the
pool and tells each process's mappings. A process it has told nothing of yet is walked by its frame
pointers, and counted, so that user space knows whose tables are wanted most.
"""

from __future__ import annotations

from typing import Callable, Optional

from systemscope.bpfasm.builder import ANY, NOEXIST
from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.records import Record, u64
from systemscope.bpfasm.types import MapSpec
from systemscope.bpfasm.values import All, Expr, Pointer, Value
from systemscope.programs.common import Ground
from systemscope.programs.config import Loop, Registers
from systemscope.programs.records import TidKey, UnwindSpace, WalkScratch, WantedCount
from systemscope.programs.unwind_kinds import NO_WINDOW, STEP, ReadUser, WalkContext, mix
from systemscope.programs.unwind_step import Step

#: How user registers are known: mask and value of cs and pstate; and what may lie above them on
#: the stack: kernels that can use FRED leave 16 bytes (TOP_OF_KERNEL_STACK_PADDING, 6.9).
_USER_MODE = {"x86_64": (0xFFFF, 0x33, (0, 16)), "aarch64": (0xF, 0, (0,))}


class _Word(Record):
    """Eight bytes read from the kernel."""

    low: u64


class Unwinder:
    """Emits unwinding in one program; ``scratch`` is that program's own map.

    ``keep(record, hash, result)`` files the stack that was found.
    """

    def __init__(
        self,
        ground: Ground,
        scratch: MapSpec,
        keep: Callable[[Pointer, Value, Value], None],
    ) -> None:
        self.g, self.b, self._map, self._keep = ground, ground.b, scratch, keep
        assert ground.config.unwind is not None
        self.config = ground.config.unwind

    # -- of the current thread

    def current(self, result: Value, otherwise: Callable[[], Value]) -> None:
        """Set ``result`` to the id of the current thread's user stack; ``otherwise`` walks it for
        processes without tables."""
        b = self.b
        tgid = b.let(b.call(Helper.get_current_pid_tgid) >> 32)
        walked = b.let(0, spill=True)
        with b.block():
            space = b.lookup_index(self.g.maps.unwind_spaces, tgid, UnwindSpace)
            scratch = b.lookup_index(self._map, 0, WalkScratch)
            with b.if_(All(b.not_null(space), b.not_null(scratch))):
                with b.block():
                    self._begin(scratch, space)
                with b.block():
                    self._current_registers(scratch)
                with b.if_(scratch.lookup != 0):
                    b.set(walked, 1)
                    self._walk(scratch, result)
        with b.if_(walked == 0):
            b.set(result, otherwise())
            with b.if_(result != 0):
                self._want(tgid)
        Step(self.g, self._map, lambda walk: self._read_current).emit()

    def _want(self, tgid: Value) -> None:
        b, wanted = self.b, self.g.maps.unwind_wanted
        found = b.lookup_index(wanted, tgid, WantedCount)
        with b.if_(b.not_null(found)):
            b.atomic_add(found.count, 1)
        with b.else_():
            one = b.stack(WantedCount)
            one.count = 1
            key = b.stack(TidKey)
            key.tid = tgid
            b.do(Helper.map_update_elem, wanted, b.address(key), b.address(one), NOEXIST)

    def _read_current(self, to: Expr, size: int, address: Expr) -> Value:
        helper = Helper.probe_read_user if self.config.read_user else Helper.probe_read
        return self.b.call(helper, to, size, address, signed=True)

    def _current_registers(self, scratch: Pointer) -> None:
        b, layout = self.b, self.g.config.layout
        if self.config.registers is Registers.HELPER:
            task = b.call(Helper.get_current_task_btf)
            self.registers_of(scratch, b.call(Helper.task_pt_regs, task))
            return
        task = b.call(Helper.get_current_task)
        stack = b.stack(_Word)
        self._copy(stack, task + layout.task_stack)
        base = b.let(stack.low + (self.config.thread_size - layout.regs_size))
        mask, value, paddings = _USER_MODE[self.config.arch]
        for padding in paddings:
            with b.if_(scratch.lookup == 0):
                self._copy(stack, base + (layout.regs_mode - padding))
                with b.if_((stack.low & mask) == value):
                    for name, offset in self._register_offsets().items():
                        self._copy(stack, base + (offset - padding))
                        setattr(scratch, name, stack.low)

    def _copy(self, to: Pointer, address: Expr) -> None:
        to.low = 0
        modern = self.g.config.probe_read_kernel
        helper = Helper.probe_read_kernel if modern else Helper.probe_read
        self.b.do(helper, self.b.address(to), 8, address)

    # -- of any thread

    def _register_offsets(self) -> dict[str, int]:
        layout = self.g.config.layout
        offsets = {
            "sp": layout.regs_sp,
            "fp": layout.regs_fp,
            "extra": layout.regs_extra,
            "lookup": layout.regs_ip,
        }
        if layout.regs_rdi >= 0:
            offsets["rdi"] = layout.regs_rdi
        return offsets

    def registers_of(self, scratch: Pointer, regs: Value) -> None:
        """Take the registers of a typed ``struct pt_regs``."""
        b = self.b
        with b.if_(b.not_null(regs)):
            for name, offset in self._register_offsets().items():
                with b.block():
                    setattr(scratch, name, b.load(regs, offset, 8))

    def _begin(self, scratch: Pointer, space: Pointer) -> None:
        b = self.b
        b.add(space.walks, 1)
        scratch.first = space.first
        scratch.count = space.count
        scratch.tag = space.tag
        scratch.flags = 0
        for name in ("lookup", "start", "end", "fp_at", "extra_at"):
            setattr(scratch, name, 0)
        scratch.window_at = NO_WINDOW

    def _walk(self, scratch: Pointer, result: Value, task: Optional[Expr] = None) -> None:
        """From the registers in ``scratch`` to the end of the stack, and file it."""
        b = self.b
        with b.block():
            self._leaf(scratch)
        with b.block():
            steps = self.g.config.max_stack + 1
            if self.config.loop is Loop.CALLBACK:
                context = b.stack(WalkContext)
                context.scratch = b.address(scratch)
                if task is not None:
                    context.task = task
                b.bpf_loop(steps, STEP, b.address(context))
            else:
                b.repeat(steps, self._step)
        with b.block():
            mix(self.g, scratch, b.let(scratch.flags ^ (scratch.depth << 32)))
            hashed = b.let(scratch.hash | 1)
            self._keep(scratch, hashed, result)

    def _leaf(self, scratch: Pointer) -> None:
        leaf = self.b.let(scratch.lookup)
        scratch.ips[0] = leaf
        scratch.depth = 1
        scratch.hash = self.g.config.hash_seed
        mix(self.g, scratch, leaf)

    def _step(self, index: Expr) -> None:
        with self.b.if_(self.b.call_function(STEP, index) != 0):
            self.b.break_()

    def other(self, task: Value, regs: Value, tgid: Expr, result: Value) -> Value:
        """Unwind another thread, from a program that may sleep; answers whether it had tables."""
        b = self.b
        known = b.let(0, spill=True)
        if self.config.loop is not Loop.CALLBACK:
            return known  # such kernels' iterators cannot read other threads' memory
        space = b.lookup_index(self.g.maps.unwind_spaces, tgid, UnwindSpace)
        with b.if_(b.not_null(space)):
            scratch = b.lookup_index(self._map, 0, WalkScratch)
            with b.if_(All(b.not_null(scratch), b.not_null(regs))):
                b.set(known, 1)
                with b.block():
                    self._begin(scratch, space)
                self.registers_of(scratch, regs)
                with b.if_(scratch.lookup != 0):
                    self._walk(scratch, result, task)
        Step(self.g, self._map, self._read_other).emit()
        return known

    def _read_other(self, walk: Optional[Pointer]) -> ReadUser:
        assert walk is not None  # sleepable iterators have bpf_loop

        def read(to: Expr, size: int, address: Expr) -> Value:
            return self.b.call(
                Helper.copy_from_user_task, to, size, address, walk.task, 0, signed=True
            )

        return read


def inherit_space(g: Ground, child: Expr) -> None:
    """A new process, forked by the current one, has its parent's mappings, and its tables."""
    b, spaces = g.b, g.maps.unwind_spaces
    with b.block():
        parent = b.let(b.call(Helper.get_current_pid_tgid) >> 32)
        known = b.lookup_index(spaces, parent, UnwindSpace)
        key = b.stack(TidKey)
        key.tid = child
        with b.if_(b.not_null(known)):
            copy = b.stack(UnwindSpace)
            copy.first = known.first
            copy.count = known.count
            copy.tag = known.tag
            b.do(Helper.map_update_elem, spaces, b.address(key), b.address(copy), ANY)
        with b.else_():
            b.delete(spaces, b.address(key))  # of the number's last owner


def forget_space(g: Ground) -> None:
    """The current process executes another program: nothing of what it had mapped is left."""
    b = g.b
    with b.block():
        key = b.stack(TidKey)
        key.tid = b.call(Helper.get_current_pid_tgid) >> 32
        b.delete(g.maps.unwind_spaces, b.address(key))
