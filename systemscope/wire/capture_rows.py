"""Rows of a capture file's tables back to values. Everything read is suspect.

Each function takes one table and gives plain values whose fields are in range on their own;
references to other tables are the caller's to check. They raise ColumnError.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from systemscope.model import (
    STATE_COUNT,
    Delay,
    DelayKind,
    Entry,
    Event,
    EventKind,
    FileId,
    Gap,
    GeneratedSymbol,
    KernelSymbol,
    Mapping,
    Process,
    Stack,
    StackEnd,
    State,
    Thread,
)
from systemscope.wire.capture_columns import ColumnError, Table

#: A writer puts far fewer rows into one table.
MAX_BLOCK = 1 << 18

#: What a mapping can reach: beyond lies no address.
_TOP = 1 << 64
_GAPS = {gap.value: gap for gap in Gap}
_KINDS = {kind.value: kind for kind in DelayKind}
_STATES = tuple(State(number) for number in range(STATE_COUNT))
_EVENTS = frozenset(int(kind) for kind in EventKind)
_ENDS = {int(end): end for end in StackEnd}


def first_row(table: Table) -> int:
    """The number of the table's first row among all of its kind."""
    first = table.numbers("first")
    if len(first) != 1:
        raise ColumnError("column first does not have one value")
    return first[0]


def _key(table: Table, name: str) -> list[int]:
    """A column that every row has; it tells how many rows there are."""
    values = table.numbers(name)
    if len(values) > MAX_BLOCK:
        raise ColumnError(f"column {name} is longer than any writer makes it")
    return values


def state_of(number: int) -> State:
    """The state of a number, UNKNOWN for one of a later version."""
    return _STATES[number] if number < STATE_COUNT else State.UNKNOWN


def threads(table: Table) -> list[Thread]:
    """Table THRD."""
    tids = _key(table, "tid")
    count = len(tids)
    columns = [table.numbers(name, count) for name in ("tgid", "begin", "end", "flags")]
    amounts = [table.numbers(name, count) for name in ("preemptions", "elsewhere")]
    found = []
    for tid, tgid, begin, end, flags, comm, preemptions, elsewhere in zip(
        tids, *columns, table.texts("comm", count), *amounts
    ):
        thread = Thread(tid, tgid, comm, begin, max(begin, end))
        thread.born, thread.died, thread.ran = (bool(flags & 1 << bit) for bit in range(3))
        thread.preemptions, thread.elsewhere = preemptions, elsewhere
        thread.delays = {} if flags & 8 else None
        found.append(thread)
    for row, state, amount in _triples(table, "time", "nanoseconds", count):
        time = found[row].time
        time[state_of(state)] = time.get(state_of(state), 0) + amount
    for row, state, amount in _triples(table, "waits", "count", count):
        found[row].waits[state_of(state)] = amount
    _delays(table, found)
    return found


def _triples(table: Table, prefix: str, last: str, rows: int) -> Iterator[tuple[int, int, int]]:
    owners = _optional(table, prefix)
    if owners and max(owners) >= rows:
        raise ColumnError(f"column {prefix}.thread points outside its table")
    count = len(owners)
    states = table.numbers(f"{prefix}.state", count)
    return zip(owners, states, table.numbers(f"{prefix}.{last}", count))


def _optional(table: Table, prefix: str) -> list[int]:
    return _key(table, f"{prefix}.thread") if table.has(f"{prefix}.thread") else []


def _delays(table: Table, found: Sequence[Thread]) -> None:
    owners = _optional(table, "delays")
    count = len(owners)
    counts, times = (table.numbers(f"delays.{name}", count) for name in ("count", "nanoseconds"))
    for row, kind, number, time in zip(owners, table.texts("delays.kind", count), counts, times):
        if row >= len(found):
            raise ColumnError("column delays.thread points outside its table")
        delays = found[row].delays
        if delays is not None and kind in _KINDS:
            delays[_KINDS[kind]] = Delay(number, time)


def mappings(table: Table) -> list[Mapping]:
    """Table MAPS."""
    starts = _key(table, "start")
    count = len(starts)
    sizes, offsets, flags = (table.numbers(name, count) for name in ("size", "offset", "flags"))
    names = ("major", "minor", "inode", "generation")
    files = zip(*(table.numbers(name, count) for name in names))
    known: dict[tuple[int, ...], FileId] = {}
    found = []
    for start, size, offset, flag, path, numbers in zip(
        starts, sizes, offsets, flags, table.texts("path", count), files
    ):
        file = known.setdefault(numbers, FileId(*numbers)) if flag & 1 else None
        end = min(start + size, _TOP)
        found.append(Mapping(start, end, offset, path, file, bool(flag & 2)))
    return found


def processes(table: Table) -> list[Process]:
    """Table PROC."""
    tgids = _key(table, "tgid")
    count = len(tgids)
    return [
        Process(tgid, comm, [], cgroup, namespace_pid, bool(kernel))
        for tgid, comm, cgroup, namespace_pid, kernel in zip(
            tgids,
            table.texts("comm", count),
            table.texts("cgroup", count),
            table.numbers("namespace_pid", count),
            table.numbers("kernel", count),
        )
    ]


def images(table: Table) -> Iterator[tuple[int, int, list[int], list[int]]]:
    """Table IMAG: (tgid, since, numbers of mappings, numbers of replaced ones)."""
    tgids = _key(table, "tgid")
    count = len(tgids)
    since = table.numbers("since", count)
    lengths, replaced = table.numbers("mappings", count), table.numbers("replaced", count)
    numbers = table.numbers("mapping")
    if sum(lengths) + sum(replaced) != len(numbers):
        raise ColumnError("column mapping has a wrong length")
    position = 0
    for tgid, begin, many, gone in zip(tgids, since, lengths, replaced):
        middle, end = position + many, position + many + gone
        yield tgid, begin, numbers[position:middle], numbers[middle:end]
        position = end


def stacks(table: Table) -> list[Stack]:
    """Table STAK. An end of a later version reads as DEPTH: in any case the root is missing."""
    kernel = _key(table, "kernel")
    count = len(kernel)
    user, flags = table.numbers("user", count), table.numbers("flags", count)
    names, ends = table.numbers("kernel_names", count), table.numbers("user_end", count)
    addresses = table.numbers("address")
    texts = table.texts("kernel_name", None if any(names) else 0)
    if sum(kernel) + sum(user) != len(addresses) or sum(names) != len(texts):
        raise ColumnError("column address has a wrong length")
    found = []
    position = name = 0
    for above, below, named, flag, ended in zip(kernel, user, names, flags, ends):
        middle, end = position + above, position + above + below
        found.append(
            Stack(
                tuple(addresses[position:middle]),
                tuple(addresses[middle:end]),
                tuple(texts[name : name + named]),
                bool(flag & 1),
                bool(flag & 2),
                _ENDS.get(ended, StackEnd.DEPTH),
                bool(flag & 4),
            )
        )
        position, name = end, name + named
    return found


def entries(table: Table) -> list[Entry]:
    """Table ENTR. A gap of a later version reads as NO_STACK."""
    owners = _key(table, "thread")
    count = len(owners)
    states = [state_of(number) for number in table.numbers("state", count)]
    gaps = [_GAPS.get(text, Gap.NO_STACK) if text else None for text in table.texts("gap", count)]
    rest = (table.numbers(name, count) for name in ("stack", "nanoseconds", "count", "time"))
    return list(map(Entry, owners, states, *rest, gaps))


def events(table: Table) -> list[Event]:
    """Table TEND: the stretches that the window's end cut off."""
    kinds = _key(table, "kind")
    count = len(kinds)
    names = ("tid", "cpu", "begin", "middle", "end", "state", "stack", "other")
    columns = [table.numbers(name, count) for name in names]
    return [
        Event(EventKind(kind), tid, cpu - 1, begin, middle, end, state_of(state), stack, other)
        for kind, tid, cpu, begin, middle, end, state, stack, other in zip(kinds, *columns)
        if kind in _EVENTS
    ]


def pairs(table: Table) -> Iterator[tuple[tuple[int, int], int]]:
    """Table TSTK: (the kernel's two stack ids, number of the stack)."""
    kernel = _key(table, "kernel")
    count = len(kernel)
    return zip(zip(kernel, table.numbers("user", count)), table.numbers("stack", count))


def build_ids(table: Table) -> Iterator[tuple[tuple[str, tuple[int, int, int, int]], str]]:
    """Table BIDS: items of HostFacts.build_ids."""
    paths = table.texts("path")
    count = len(paths)
    if count > MAX_BLOCK:
        raise ColumnError("column path is longer than any writer makes it")
    names = ("major", "minor", "inode", "generation")
    major, minor, inode, generation = (table.numbers(name, count) for name in names)
    files = zip(major, minor, inode, generation)
    return zip(zip(paths, files), table.texts("build_id", count))


def kernel_symbols(table: Table) -> list[KernelSymbol]:
    """Table KSYM."""
    starts = _key(table, "start")
    count = len(starts)
    return [
        KernelSymbol(start, min(start + size, _TOP), name, module)
        for start, size, name, module in zip(
            starts,
            table.numbers("size", count),
            table.texts("name", count),
            table.texts("module", count),
        )
    ]


def generated_symbols(table: Table) -> list[GeneratedSymbol]:
    """Table JSYM."""
    tgids = _key(table, "tgid")
    count = len(tgids)
    return [
        GeneratedSymbol(tgid, start, min(start + size, _TOP), name)
        for tgid, start, size, name in zip(
            tgids,
            table.numbers("start", count),
            table.numbers("size", count),
            table.texts("name", count),
        )
    ]


def optional_texts(table: Table, name: str) -> list[str]:
    """A column that need not be there, of any length."""
    return table.texts(name) if table.has(name) else []
