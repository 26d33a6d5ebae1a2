"""Gives every nanosecond of every thread to a stack, or to the gap that says why there is none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from systemscope.collectors.lives import Life, Lives
from systemscope.collectors.readout import CountRow, StackReader
from systemscope.collectors.seed import ThreadSnapshot
from systemscope.model import Entry, Gap, Losses, Stack, State
from systemscope.programs.records import CountFlag


class StackList:
    """Builds ``Capture.stacks``: every distinct stack once, the empty one first."""

    def __init__(self, reader: StackReader, losses: Losses) -> None:
        self.stacks = [Stack()]
        self._reader, self._losses = reader, losses
        self._indexes: dict[object, int] = {}

    def pair(self, kernel: int, user: int) -> int:
        """Index of the stack with these two ids."""
        index = self._indexes.get((kernel, user))
        if index is None:
            reader = self._reader
            stack = Stack(
                reader.addresses(kernel),
                reader.addresses(user),
                kernel_truncated=reader.truncated(kernel),
                user_truncated=reader.truncated(user),
            )
            index = self._indexes[kernel, user] = self._add(stack)
            self._losses.stacks_truncated += stack.kernel_truncated or stack.user_truncated
        return index

    def of_snapshot(self, snapshot: ThreadSnapshot) -> int:
        """Index of the stack a sleeping thread was found with; 0 when there is none."""
        if snapshot.kernel or snapshot.user:
            return self.pair(snapshot.kernel, snapshot.user)
        if not (snapshot.kernel_names or snapshot.user_ip):
            return 0
        key = (snapshot.kernel_names, snapshot.user_ip)
        index = self._indexes.get(key)
        if index is None:
            user = (snapshot.user_ip,) if snapshot.user_ip else ()
            stack = Stack(user=user, kernel_names=snapshot.kernel_names, user_truncated=bool(user))
            index = self._indexes[key] = self._add(stack)
        return index

    def _add(self, stack: Stack) -> int:
        if not (stack.kernel or stack.user or stack.kernel_names):
            return 0
        self.stacks.append(stack)
        return len(self.stacks) - 1


@dataclass
class _Charges:
    """What the counts table holds for one thread."""

    samples: list[CountRow] = field(default_factory=list)
    exact: dict[State, list[CountRow]] = field(default_factory=lambda: defaultdict(list))
    estimated: dict[State, list[CountRow]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True)
class Options:
    """What of the window was recorded."""

    oncpu: bool
    offcpu: bool
    min_block_ns: int
    tables_full: bool


def build_entries(
    lives: Lives, rows: Iterable[CountRow], stacks: StackList, options: Options, losses: Losses
) -> list[Entry]:
    """The capture's entries; each thread's add up to its time by state."""
    charges: dict[int, _Charges] = defaultdict(_Charges)
    for row in rows:
        index = lives.of(row.tid, row.generation)
        if index is None:
            losses.threads_table_full += row.count
            continue
        charge = charges[index]
        if row.state == State.RUNNING:
            charge.samples.append(row)
        else:
            estimated = row.flags & CountFlag.ESTIMATED
            group = charge.estimated if estimated else charge.exact
            group[_blocked_kind(State(row.state), lives.all[index])].append(row)
    entries: list[Entry] = []
    for index, life in enumerate(lives.all):
        maker = _Maker(index, life, charges[index], stacks, lives, options)
        entries += maker.entries()
    return entries


def _blocked_kind(state: State, life: Life) -> State:
    """BLOCKED charges belong to the kind the seed gave that time."""
    if state is not State.BLOCKED or State.BLOCKED in life.thread.time:
        return state
    for kind in (State.SLEEPING, State.DISK, State.IDLE, State.STOPPED, State.TRACED):
        if life.thread.time.get(kind):
            return kind
    return state


class _Maker:
    """Entries of one thread."""

    def __init__(
        self,
        index: int,
        life: Life,
        charges: _Charges,
        stacks: StackList,
        lives: Lives,
        options: Options,
    ) -> None:
        self.index, self.life, self.charges = index, life, charges
        self.stacks, self.lives, self.options = stacks, lives, options
        self.result: list[Entry] = []

    def entries(self) -> list[Entry]:
        time = self.life.thread.time
        if self.options.oncpu:
            self._running(time.get(State.RUNNING, 0))
        unknown = time.get(State.UNKNOWN, 0)
        if unknown:
            self._gap(State.UNKNOWN, unknown, 0, Gap.MISSED)
        if self.options.offcpu:
            for state, total in time.items():
                if state not in (State.RUNNING, State.DEAD, State.UNKNOWN):
                    self._waiting(state, total)
        return self.result

    def _running(self, total: int) -> None:
        rows = self.charges.samples
        if not total:
            return
        if not rows:
            self._gap(State.RUNNING, total, 0, Gap.NOT_SAMPLED)
            return
        shares = share(total, [row.count for row in rows])
        for row, nanoseconds in zip(rows, shares):
            self._charge(State.RUNNING, row, nanoseconds)

    def _waiting(self, state: State, total: int) -> None:
        left = total
        exact = self.charges.exact.get(state, [])
        amounts = [row.nanoseconds for row in exact]
        if sum(amounts) > left:
            amounts = share(left, amounts)
        for row, nanoseconds in zip(exact, amounts):
            self._charge(state, row, nanoseconds)
        left -= sum(amounts)
        left -= self._open(state, left)
        estimated = self.charges.estimated.get(state, [])
        if estimated and left:
            shares = share(left, [row.nanoseconds for row in estimated])
            for row, nanoseconds in zip(estimated, shares):
                self._charge(state, row, nanoseconds)
            left = 0
        if left > 0:
            self._rest(state, left)

    def _open(self, state: State, left: int) -> int:
        """Charge the wait under way to the stack it was found with."""
        wait = self.life.open
        if wait is None:
            return 0
        amount = 0
        if wait.state is state:
            amount += wait.blocked_ns
        if state is State.RUNNABLE:
            amount += wait.runnable_ns
        amount = min(amount, left)
        if amount <= 0:
            return 0
        stack = self.stacks.of_snapshot(wait.snapshot) if wait.snapshot is not None else 0
        if stack:
            self._append(Entry(self.index, state, stack, amount, 1, self.lives.end))
        else:
            short = wait.blocked_ns + wait.runnable_ns < self.options.min_block_ns
            self._gap(state, amount, 1, Gap.SHORT_WAITS if short else Gap.NO_STACK)
        return amount

    def _rest(self, state: State, left: int) -> None:
        waits = self.life.thread.waits.get(state, 0)
        short = self.life.short.get(state)
        if short is None:
            short = left if left < waits * self.options.min_block_ns else 0
        short = min(short, left)
        if short:
            self._gap(state, short, waits, Gap.SHORT_WAITS)
        if left > short:
            gap = Gap.TABLE_FULL if self.options.tables_full else Gap.NO_STACK
            self._gap(state, left - short, 0, gap)

    def _charge(self, state: State, row: CountRow, nanoseconds: int) -> None:
        if nanoseconds <= 0:
            return
        if row.flags & CountFlag.NEW_THREAD:
            self._gap(state, nanoseconds, row.count, Gap.NEW_THREAD)
            return
        stack = self.stacks.pair(row.kernel, row.user)
        moment = self.lives.moment(row.generation)
        if stack:
            self._append(Entry(self.index, state, stack, nanoseconds, row.count, moment))
        else:
            self._gap(state, nanoseconds, row.count, Gap.NO_STACK)

    def _gap(self, state: State, nanoseconds: int, count: int, gap: Gap) -> None:
        time = self.life.thread.end
        self._append(Entry(self.index, state, 0, nanoseconds, count, time, gap))

    def _append(self, entry: Entry) -> None:
        self.result.append(entry)


def share(total: int, weights: Sequence[int]) -> list[int]:
    """Split ``total`` in proportion to ``weights``, exactly: the parts sum to it."""
    whole = sum(weights)
    if whole <= 0:
        return [total, *([0] * (len(weights) - 1))] if weights else []
    parts, seen, given = [], 0, 0
    for weight in weights:
        seen += weight
        upto = total * seen // whole
        parts.append(upto - given)
        given = upto
    return parts
