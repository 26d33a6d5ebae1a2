"""A Capture as the sections of a capture file.

Sections are cut into blocks that stand on their own, in an order in which a file that ends early
is still of use: threads before mappings, mappings before stacks, and each block of stacks just
before the entries that refer to it. Nothing is written that depends on anything but the capture.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any, BinaryIO, TypeVar

from systemscope.model import Capture, Entry, Event, HostFacts, Mapping, Stack, Thread
from systemscope.wire.capture_columns import TableWriter
from systemscope.wire.capture_sections import END, write_file_header, write_section
from systemscope.wire.capture_timeline import event_payloads

ROWS = 16_384  # of one block, at most
#: Stacks and entries go into so many blocks at least, unless they get shorter than _FEWEST_ROWS:
#: a file that is cut short then holds nearly all before the cut.
_BLOCKS = 16
_FEWEST_ROWS = 512
_FRAMES = 131_072  # addresses in one block of stacks, unless one stack alone has more
_EVENT_LEVEL = 3  # of zlib: a timeline is large, and hardly smaller at 6

_Row = TypeVar("_Row")


def write_capture(capture: Capture, stream: BinaryIO) -> None:
    """Write ``capture`` as a capture file. ``stream`` need not seek.

    The same capture gives the same bytes with the same zlib. Raises ColumnError for numbers that
    are negative or do not fit into 64 bits, SectionError for a single row that is too long, and
    what the stream raises.
    """
    write_file_header(stream)
    write_section(stream, b"HEAD", _head(capture))
    for first, threads in _blocks(capture.threads):
        write_section(stream, b"THRD", _threads(first, threads))
    _write_processes(capture, stream)
    if capture.facts is not None:
        _write_facts(capture.facts, stream)
    _write_stacks(capture, stream)
    if capture.timeline is not None:
        _write_timeline(capture, stream)
    write_section(stream, END, b"")


def _head(capture: Capture) -> bytes:
    timeline, unwinding = capture.timeline, capture.unwinding
    facts: dict[str, Any] = {
        "start": capture.start,
        "end": capture.end,
        "wall_start": capture.wall_start,
        "frequency": capture.frequency,
        "event": capture.event,
        "command": capture.command,
        "kernel": capture.kernel,
        "hostname": capture.hostname,
        "samples": capture.samples,
        "ended_by": capture.ended_by,
        "losses": dict(capture.losses.items()),
        "overhead": asdict(capture.overhead),
        "notes": capture.notes,
        "threads": len(capture.threads),
        "stacks": len(capture.stacks),
        "entries": len(capture.entries),
        "states": sorted({int(entry.state) for entry in capture.entries}),
        "timeline": None if timeline is None else {"lost": timeline.lost},
        "unwinding": None if unwinding is None else asdict(unwinding),
    }
    return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode("ascii")


def _threads(first: int, threads: Sequence[Thread]) -> bytes:
    table = TableWriter()
    table.numbers("first", [first])
    table.repeated("tid", [one.tid for one in threads])
    table.repeated("tgid", [one.tgid for one in threads])
    table.texts("comm", [one.comm for one in threads])
    for name in ("begin", "end", "preemptions", "elsewhere"):
        table.numbers(name, [getattr(one, name) for one in threads])
    flags = [
        one.born | one.died << 1 | one.ran << 2 | (one.delays is not None) << 3 for one in threads
    ]
    table.numbers("flags", flags)
    times = [(row, state, ns) for row, one in enumerate(threads) for state, ns in one.time.items()]
    _columns(table, "time", ("thread", "state", "nanoseconds"), times)
    waits = [(row, state, n) for row, one in enumerate(threads) for state, n in one.waits.items()]
    _columns(table, "waits", ("thread", "state", "count"), waits)
    delays = [
        (row, kind, delay)
        for row, one in enumerate(threads)
        for kind, delay in (one.delays or {}).items()
    ]
    amounts = [(row, delay.count, delay.nanoseconds) for row, _, delay in delays]
    _columns(table, "delays", ("thread", "count", "nanoseconds"), amounts)
    table.texts("delays.kind", [kind.value for _, kind, _ in delays])
    return table.payload()


def _columns(
    table: TableWriter, prefix: str, names: Sequence[str], rows: Sequence[tuple[int, ...]]
) -> None:
    """Add ``rows`` as the columns ``prefix.name``."""
    columns: Sequence[Sequence[int]] = list(zip(*rows)) if rows else [()] * len(names)
    for name, column in zip(names, columns):
        table.numbers(f"{prefix}.{name}", column)


def _write_processes(capture: Capture, stream: BinaryIO) -> None:
    processes = list(capture.processes.values())
    number: dict[Mapping, int] = {}
    for process in processes:
        for image in process.images:
            for mapping in chain(image.mappings, image.replaced):
                number.setdefault(mapping, len(number))
    for first, mappings in _blocks(list(number)):
        write_section(stream, b"MAPS", _mappings(first, mappings))
    for _, some in _blocks(processes):
        table = TableWriter()
        table.numbers("tgid", [one.tgid for one in some])
        table.texts("comm", [one.comm for one in some])
        table.texts("cgroup", [one.cgroup for one in some])
        table.numbers("namespace_pid", [one.namespace_pid for one in some])
        table.numbers("kernel", [int(one.kernel) for one in some])
        write_section(stream, b"PROC", table.payload())
    images = [(process.tgid, image) for process in processes for image in process.images]
    sizes = [len(image.mappings) + len(image.replaced) for _, image in images]
    for begin, end in _by_weight(sizes, _FRAMES):
        chosen = images[begin:end]
        every = chain.from_iterable(chain(one.mappings, one.replaced) for _, one in chosen)
        table = TableWriter()
        table.numbers("tgid", [tgid for tgid, _ in chosen])
        table.numbers("since", [one.since for _, one in chosen])
        table.numbers("mappings", [len(one.mappings) for _, one in chosen])
        table.numbers("replaced", [len(one.replaced) for _, one in chosen])
        table.numbers("mapping", [number[mapping] for mapping in every])
        write_section(stream, b"IMAG", table.payload())


def _mappings(first: int, mappings: Sequence[Mapping]) -> bytes:
    table = TableWriter()
    table.numbers("first", [first])
    table.numbers("start", [one.start for one in mappings])
    table.numbers("size", [one.end - one.start for one in mappings])
    table.repeated("offset", [one.offset for one in mappings])
    table.texts("path", [one.path for one in mappings])
    for name in ("major", "minor", "inode", "generation"):
        table.repeated(name, [getattr(one.file, name) if one.file else 0 for one in mappings])
    flags = [(one.file is not None) | one.deleted << 1 for one in mappings]
    table.numbers("flags", flags)
    return table.payload()


def _write_facts(facts: HostFacts, stream: BinaryIO) -> None:
    table = TableWriter()
    table.texts("kernel_build_id", [facts.kernel_build_id])
    table.texts("notes", facts.notes)
    table.blob("vdso", facts.vdso)
    write_section(stream, b"FACT", table.payload())
    for _, rows in _blocks(sorted(facts.build_ids.items())):
        table = TableWriter()
        table.texts("path", [path for (path, _), _ in rows])
        for index, name in enumerate(("major", "minor", "inode", "generation")):
            table.repeated(name, [file[index] for (_, file), _ in rows])
        table.texts("build_id", [build_id for _, build_id in rows])
        write_section(stream, b"BIDS", table.payload())
    for _, symbols in _blocks(facts.kernel_symbols):
        table = TableWriter()
        table.numbers("start", [one.start for one in symbols])
        table.numbers("size", [one.end - one.start for one in symbols])
        table.texts("name", [one.name for one in symbols])
        table.texts("module", [one.module for one in symbols])
        write_section(stream, b"KSYM", table.payload())
    for _, made in _blocks(facts.generated):
        table = TableWriter()
        table.repeated("tgid", [one.tgid for one in made])
        table.numbers("start", [one.start for one in made])
        table.numbers("size", [one.end - one.start for one in made])
        table.texts("name", [one.name for one in made])
        write_section(stream, b"JSYM", table.payload())


def _write_stacks(capture: Capture, stream: BinaryIO) -> None:
    """Stacks and entries, each block of entries after the stacks it needs."""
    sizes = [len(one.kernel) + len(one.user) + len(one.kernel_names) for one in capture.stacks]
    blocks = _by_weight(sizes, _FRAMES, _block_rows(len(sizes)))
    written = 0
    for _, entries in _blocks(capture.entries, _block_rows(len(capture.entries))):
        needed = max(entry.stack for entry in entries)
        while written <= needed:
            begin, written = next(blocks)
            write_section(stream, b"STAK", _stacks(begin, capture.stacks[begin:written]))
        write_section(stream, b"ENTR", _entries(entries))
    for begin, end in blocks:
        write_section(stream, b"STAK", _stacks(begin, capture.stacks[begin:end]))


def _stacks(first: int, stacks: Sequence[Stack]) -> bytes:
    table = TableWriter()
    table.numbers("first", [first])
    table.numbers("kernel", [len(one.kernel) for one in stacks])
    table.numbers("user", [len(one.user) for one in stacks])
    flags = [
        one.kernel_truncated | one.user_truncated << 1 | one.user_by_pointer << 2 for one in stacks
    ]
    table.numbers("flags", flags)
    table.repeated("address", list(chain.from_iterable(chain(s.kernel, s.user) for s in stacks)))
    names = list(chain.from_iterable(one.kernel_names for one in stacks))
    if names:
        table.numbers("kernel_names", [len(one.kernel_names) for one in stacks])
        table.texts("kernel_name", names)
    ends = [int(one.user_end) for one in stacks]
    if any(ends):
        table.numbers("user_end", ends)
    return table.payload()


def _entries(entries: Sequence[Entry]) -> bytes:
    table = TableWriter()
    for name in ("thread", "state", "stack", "nanoseconds", "count", "time"):
        table.numbers(name, [getattr(one, name) for one in entries])
    table.texts("gap", [one.gap.value if one.gap is not None else "" for one in entries])
    return table.payload()


def _write_timeline(capture: Capture, stream: BinaryIO) -> None:
    timeline = capture.timeline
    assert timeline is not None
    for _, pairs in _blocks(sorted(timeline.stacks.items())):
        table = TableWriter()
        table.numbers("kernel", [kernel for (kernel, _), _ in pairs])
        table.numbers("user", [user for (_, user), _ in pairs])
        table.numbers("stack", [stack for _, stack in pairs])
        write_section(stream, b"TSTK", table.payload())
    for _, events in _blocks(timeline.closing):
        write_section(stream, b"TEND", _closing(events))
    for payload in event_payloads(timeline):
        write_section(stream, b"TEVT", payload, _EVENT_LEVEL)


def _closing(events: Sequence[Event]) -> bytes:
    table = TableWriter()
    table.numbers("cpu", [event.cpu + 1 for event in events])
    for name in ("kind", "tid", "begin", "middle", "end", "state", "stack", "other"):
        table.numbers(name, [getattr(event, name) for event in events])
    return table.payload()


def _block_rows(count: int) -> int:
    """How many of ``count`` rows go into a block."""
    return min(max(count // _BLOCKS, _FEWEST_ROWS), ROWS)


def _blocks(rows: Sequence[_Row], step: int = ROWS) -> Iterator[tuple[int, Sequence[_Row]]]:
    """(index of the first, rows) of each block."""
    for first in range(0, len(rows), step):
        yield first, rows[first : first + step]


def _by_weight(sizes: Sequence[int], limit: int, rows: int = ROWS) -> Iterator[tuple[int, int]]:
    """[begin, end) of blocks of at most ``rows`` rows whose sizes add up to ``limit`` or less."""
    begin = weight = 0
    for index, size in enumerate(sizes):
        if index > begin and (weight + size > limit or index - begin >= rows):
            yield begin, index
            begin, weight = index, 0
        weight += size
    if begin < len(sizes):
        yield begin, len(sizes)
