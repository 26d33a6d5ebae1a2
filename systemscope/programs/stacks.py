"""Taking a stack and keeping it once: walk into scratch, hash, insert when new.

The kernel's own stack-id table loses stacks that share a bucket (2.9 % of samples at 1,150 stacks
and 16,384 buckets); a 64-bit hash over the addresses as key of a plain hash map loses none. Where
``bpf_get_stack`` is missing (before 4.18) the stack-id table is all there is: its collisions are
counted.
"""

from __future__ import annotations

from systemscope.bpfasm.builder import NOEXIST
from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.types import MapSpec
from systemscope.bpfasm.values import All, Expr, Pointer, Value
from systemscope.programs.common import E2BIG, EEXIST, Ground
from systemscope.programs.config import Hook, StackTable
from systemscope.programs.records import StackFlag, StackRecord, WalkScratch
from systemscope.programs.unwinder import Unwinder

USER_STACK = 1 << 8  # BPF_F_USER_STACK
#: Addresses hashed at a step. The kernel zeroes what a walk leaves of the buffer
#: (kernel/bpf/stackmap.c, __bpf_get_stack), so the tail of the last chunk is always the same, and
#: the verifier follows an eighth of the branches.
HASH_CHUNK = 8
_HASH = "hash_stack"
_MULTIPLIER = 0xFF51AFD7ED558CCD  # MurmurHash3's 64-bit finalizer


def tracing_frames(hook: Hook) -> int:
    """Leading frames of a kernel stack that belong to the tracing machinery: the program itself
    and bpf_trace_run for raw tracepoints and tp_btf, none elsewhere."""
    return 2 if hook in (Hook.TP_BTF, Hook.RAW_TRACEPOINT) else 0


class StackWalker:
    """Emits walks in one program. ``scratch`` must be that program's own per-CPU map: a sampling
    interrupt may hit while another program walks on the same CPU."""

    def __init__(self, ground: Ground, scratch: MapSpec, skip: int = 0) -> None:
        self.g, self.b, self.scratch, self.skip = ground, ground.b, scratch, skip

    def kernel(self, context: Expr) -> Value:
        """Id of the current task's kernel stack, 0 for none."""
        return self._walk(context, self.skip, self.g.config.kernel_stacks)

    def user(self, context: Expr) -> Value:
        """Id of the current task's user stack, 0 for none."""
        config = self.g.config
        if not config.user_stacks or config.unwind is None or config.chained:
            return self._walk(context, USER_STACK, config.user_stacks)
        result = self.b.let(0)
        unwinder = Unwinder(self.g, self.scratch, self.keep)
        unwinder.current(result, lambda: self._walk(context, USER_STACK, True))
        return result

    def user_of(self, task: Value, regs: Value, tgid: Expr, result: Value) -> Value:
        """Set ``result`` to the id of another task's user stack, by tables; answers whether its
        process has any."""
        return Unwinder(self.g, self.scratch, self.keep).other(task, regs, tgid, result)

    def kernel_of(self, task: Expr) -> Value:
        """Id of another task's kernel stack (a BTF pointer), 0 for none."""
        return self._walk(task, 0, self.g.config.kernel_stacks, Helper.get_task_stack)

    def _walk(self, source: Expr, flags: int, wanted: bool, helper: int = 0) -> Value:
        if not wanted:
            return self.b.let(0)
        if self.g.config.stack_table is StackTable.STACK_ID:
            return self._by_id(source, flags)
        b = self.b
        result = b.let(0)
        with b.block():
            record = b.lookup_index(self.scratch, 0, WalkScratch)
            with b.if_(b.not_null(record)):
                size = b.call(
                    helper or Helper.get_stack,
                    source,
                    b.address(record, "ips"),
                    8 * self.g.config.max_stack,
                    flags,
                    signed=True,
                )
                with b.if_(size > 0):
                    self.intern(record, size >> 3, result)
        return result

    def intern(self, record: Pointer, depth: Expr, result: Value) -> None:
        """Hash ``depth`` addresses in the scratch ``record``, insert when new, set ``result``.
        The rest of the record's addresses must be 0."""
        b, config = self.b, self.g.config
        count = b.let(depth)
        record.depth = count
        record.flags = 0
        with b.if_(count >= config.max_stack):
            record.flags = int(StackFlag.TRUNCATED)
        if config.functions:
            hashed = b.call_function(_HASH, count)
            self._hash_function()
        else:
            hashed = self._hash(record, count)
        self.keep(record, hashed, result)

    def _hash_function(self) -> None:
        """The hash as a function of the number of addresses, which the verifier looks at once and
        not for each state in which a stack may be taken."""
        b = self.b
        if _HASH in b.asm.functions:
            return
        with b.function(_HASH, 1, apart=True) as (count,):
            record = b.lookup_index(self.scratch, 0, WalkScratch)
            with b.if_(b.is_null(record)):
                b.exit(0)
            b.exit(self._hash(record, count))

    def _hash(self, record: Pointer, count: Value) -> Value:
        b, config = self.b, self.g.config
        hashed = b.let(count ^ config.hash_seed)

        def mix(chunk: Expr) -> None:
            first = b.let(chunk * HASH_CHUNK)
            with b.if_(count <= first):
                b.break_()
            for index in range(HASH_CHUNK):
                b.set(hashed, (hashed ^ record.ips[first + index]) * _MULTIPLIER)
                b.set(hashed, hashed ^ (hashed >> 29))

        b.repeat(-(-config.max_stack // HASH_CHUNK), mix)
        b.set(hashed, hashed | 1)
        return hashed

    def keep(self, record: Pointer, hashed: Value, result: Value) -> None:
        """Insert the stack in the scratch ``record`` when its hash is new, set ``result`` to it."""
        b = self.b
        key = self.g.hash_key(hashed)
        known = b.lookup(self.g.maps.stacks, b.address(key), StackRecord)
        b.set(result, hashed)
        with b.if_(b.is_null(known)):
            refused = b.update(self.g.maps.stacks, b.address(key), b.address(record), NOEXIST)
            with b.if_(refused == 0):
                self.g.count("new_stacks")
            with b.if_(refused == E2BIG):
                self.g.count("stacks_full")
                b.set(result, 0)
            with b.if_(All(refused != 0, refused != E2BIG, refused != EEXIST)):
                self.g.count("refused")
                b.set(result, 0)

    def _by_id(self, context: Expr, flags: int) -> Value:
        b = self.b
        number = b.call(Helper.get_stackid, context, self.g.maps.stacks, flags, signed=True)
        result = b.let(number + 1)
        with b.if_(number < 0):
            b.set(result, 0)
            with b.if_(number == EEXIST):
                self.g.count("collisions")
        return result
