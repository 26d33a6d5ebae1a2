"""Gives every nanosecond of every thread to a stack, or to the gap that says why there is none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from systemscope.collectors.lives import Life, Lives
from systemscope.collectors.readout import CountRow, StackReader
from systemscope.collectors.seed import ThreadSnapshot
from systemscope.model import Entry, Gap, Losses, Stack, StackEnd, State
from systemscope.programs.records import CLASS_SHIFT, CountFlag, StackFlag


class StackList:
    """Builds ``Capture.stacks``: every distinct stack once, the empty one first."""

    def __init__(self, reader: StackReader, losses: Losses) -> None:
        self.stacks = [Stack()]
        self._reader, self._losses = reader, losses
        self._pairs: dict[tuple[int, int], int] = {}
        self._named: dict[tuple[tuple[str, ...], int], int] = {}

    def pair(self, kernel: int, user: int) -> int:
        """Index of the stack with these two ids."""
        index = self._pairs.get((kernel, user))
        if index is None:
            reader = self._reader
            flags = reader.flags(user)
            end = StackEnd(flags & StackFlag.END)
            stack = Stack(
                reader.addresses(kernel),
                reader.addresses(user),
                kernel_truncated=bool(reader.flags(kernel) & StackFlag.TRUNCATED),
                user_truncated=bool(flags & StackFlag.TRUNCATED) or end is StackEnd.DEPTH,
                user_end=end,
                user_by_pointer=bool(flags & StackFlag.BY_POINTER),
            )
            index = self._pairs[kernel, user] = self._add(stack)
            self._losses.stacks_truncated += stack.kernel_truncated or stack.user_truncated
        return index

    def pairs(self) -> dict[tuple[int, int], int]:
        """Every pair of stack ids that was asked for, and its index."""
        return dict(self._pairs)

    def of_snapshot(self, snapshot: ThreadSnapshot) -> int:
        """Index of the stack a sleeping thread was found with; 0 when there is none."""
        if snapshot.kernel or snapshot.user:
            return self.pair(snapshot.kernel, snapshot.user)
        if not (snapshot.kernel_names or snapshot.user_ip):
            return 0
        key = (snapshot.kernel_names, snapshot.user_ip)
        index = self._named.get(key)
        if index is None:
            user = (snapshot.user_ip,) if snapshot.user_ip else ()
            stack = Stack(user=user, kernel_names=snapshot.kernel_names, user_truncated=bool(user))
            index = self._named[key] = self._add(stack)
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
    not_walked: dict[State, list[CountRow]] = field(default_factory=lambda: defaultdict(list))

    def add(self, row: CountRow, state: State) -> None:
        if state is State.RUNNING:
            self.samples.append(row)
        elif row.flags & CountFlag.NOT_WALKED:
            self.not_walked[state].append(row)
        elif row.flags & CountFlag.ESTIMATED:
            self.estimated[state].append(row)
        else:
            self.exact[state].append(row)


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
        charges[index].add(row, _blocked_kind(State(row.state), lives.all[index]))
    entries: list[Entry] = []
    for index, life in enumerate(lives.all):
        maker = _Maker(index, life, charges[index], stacks, lives, options)
        entries += maker.entries()
    return entries


def _class_of(row: CountRow) -> int:
    """The class of lengths of an estimated charge."""
    return row.flags >> CLASS_SHIFT


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
        left -= self._classes(state, left)
        shortest = [row for row in self.charges.estimated.get(state, []) if not _class_of(row)]
        if shortest and left:
            self._spread(state, left, shortest)
            left = 0
        if left > 0:
            self._rest(state, left)

    def _classes(self, state: State, left: int) -> int:
        """Give what each class of lengths waited without a walk to its walked waits, or to those of
        the class next to it; without any it has no stack."""
        groups: dict[int, list[CountRow]] = defaultdict(list)
        for row in self.charges.estimated.get(state, []):
            if _class_of(row):
                groups[_class_of(row)].append(row)
        rows = self.charges.not_walked.get(state, [])
        amounts = [row.nanoseconds for row in rows]
        if sum(amounts) > left:
            amounts = share(left, amounts)
        for row, amount in zip(rows, amounts):
            if groups:
                nearest = min(groups, key=lambda number: abs(number - _class_of(row)))
                self._spread(state, amount, groups[nearest])
            elif amount:
                self._gap(state, amount, row.count, Gap.NO_STACK)
        return sum(amounts)

    def _spread(self, state: State, total: int, rows: Sequence[CountRow]) -> None:
        for row, nanoseconds in zip(rows, share(total, [row.nanoseconds for row in rows])):
            self._charge(state, row, nanoseconds)

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
            self._gap(state, left - short, 0, self._without_stack())

    def _without_stack(self) -> Gap:
        return Gap.TABLE_FULL if self.options.tables_full else Gap.NO_STACK

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
            self._gap(state, nanoseconds, row.count, self._without_stack())

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
