"""A capture file back to a Capture: as much of it as can be read, and what was wrong with it.

Nothing in the file is trusted: sections are bounded in size and rows in number, references are
checked, and what does not fit is left out and told.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any, BinaryIO, Optional

from systemscope.model import (
    Capture,
    Entry,
    Event,
    Gap,
    HostFacts,
    Image,
    Mapping,
    Process,
    Stack,
    StackEnd,
    State,
    Thread,
    UnwindReport,
)
from systemscope.wire import capture_rows as rows
from systemscope.wire import capture_sections as sections
from systemscope.wire.capture_columns import ColumnError, Table
from systemscope.wire.capture_sections import Section, SectionError
from systemscope.wire.capture_timeline import StoredTimeline

#: Far above what the kernel's tables hold; below what would exhaust a workstation.
MAX_ROWS = 4 << 20
MAX_ENTRIES = 8 << 20
MAX_BYTES = 512 << 20  # of all sections but the timeline's, inflated
MAX_IMAGE_MAPPINGS = 1 << 20
MAX_REPLACED = 1 << 12
_MAX_DIGITS = 20  # of a number in the head: 2^64 has so many
_LIMIT = 1 << 64
_FACTS_LOST = "the capture does not tell what its machine knew of its addresses"


class Decoder:
    """Reads one capture file. ``problems`` are clauses about what could not be read, ``unknown``
    the names of sections of a later version."""

    def __init__(self, stream: BinaryIO) -> None:
        """``stream`` must seek, and stay open as long as the capture's timeline is used."""
        self._stream = stream
        self.problems: list[str] = []
        self.unknown: list[str] = []
        self._head: dict[str, Any] = {}
        self._threads: list[Optional[Thread]] = []
        self._mappings: list[Optional[Mapping]] = []
        self._processes: dict[int, Process] = {}
        self._stacks: list[Optional[Stack]] = []
        self._entries: list[Entry] = []
        self._facts: Optional[HostFacts] = None
        self._pairs: dict[tuple[int, int], int] = {}
        self._closing: list[Event] = []
        self._events: list[Section] = []
        self._bytes = 0
        self._kept_entries = 0
        self._whole = False

    def read(self) -> Capture:
        """The capture. Raises NotACapture, TooNew, and SectionError when nothing can be read."""
        sections.read_file_header(self._stream)
        self._read_sections()
        if not self._whole:
            self.problems.append("it ends early")
        if not self._head and not any(self._threads):
            raise SectionError(self.problems[0])
        return self._capture()

    def _read_sections(self) -> None:
        while not self._whole:
            try:
                section = sections.next_section(self._stream)
            except SectionError as error:
                self.problems.append(str(error))
                return
            if section is None:
                return
            try:
                self._take(section)
            except SectionError as error:
                self.problems.append(f"section {section.name}: {error}")
                if not error.resumable:
                    return
            except (ColumnError, ValueError, RecursionError) as error:
                self.problems.append(f"section {section.name}: {error}")

    def _take(self, section: Section) -> None:
        if section.tag == sections.END:
            self._whole = True
        elif section.tag == b"TEVT":
            sections.check_payload(self._stream, section)
            self._events.append(section)
        elif section.tag == b"HEAD" or section.tag in _TABLES:
            self._bytes += section.size
            if self._bytes > MAX_BYTES:
                raise SectionError("there is more than any capture holds")
            payload = sections.read_payload(self._stream, section)
            if section.tag == b"HEAD":
                self._head = _read_head(payload)
            else:
                _TABLES[section.tag](self, Table(payload))
        else:
            sections.skip_payload(self._stream, section)
            self.unknown.append(section.name)

    def _take_threads(self, table: Table) -> None:
        _place(self._threads, table, rows.threads(table))

    def _take_mappings(self, table: Table) -> None:
        _place(self._mappings, table, rows.mappings(table))

    def _take_stacks(self, table: Table) -> None:
        _place(self._stacks, table, rows.stacks(table))

    def _take_processes(self, table: Table) -> None:
        _room(len(self._processes), MAX_ROWS)
        for process in rows.processes(table):
            self._processes.setdefault(process.tgid, process)

    def _take_images(self, table: Table) -> None:
        known = self._mappings
        for tgid, since, mapped, replaced in rows.images(table):
            process = self._processes.setdefault(tgid, Process(tgid))
            found = _known(known, mapped[:MAX_IMAGE_MAPPINGS])
            gone = _known(known, replaced[:MAX_REPLACED])
            # In order they are looked up fast, whatever a file says.
            found.sort(key=_start)
            process.images.append(Image(since, tuple(found), tuple(gone)))

    def _take_entries(self, table: Table) -> None:
        _room(len(self._entries), MAX_ENTRIES)
        lost = 0
        for entry in rows.entries(table):
            if entry.thread >= len(self._threads) or self._threads[entry.thread] is None:
                lost += 1
                continue
            if entry.stack >= len(self._stacks) or self._stacks[entry.stack] is None:
                entry.stack, entry.gap = 0, Gap.NO_STACK
            self._entries.append(entry)
        if lost:
            raise ColumnError(f"{lost:,} entries of threads that could not be read")

    def _take_facts(self, table: Table) -> None:
        facts = self._host_facts()
        facts.kernel_build_id = "".join(rows.optional_texts(table, "kernel_build_id")[:1])
        facts.notes += rows.optional_texts(table, "notes")
        facts.vdso = table.blob("vdso")

    def _take_build_ids(self, table: Table) -> None:
        facts = self._host_facts()
        _room(len(facts.build_ids), MAX_ROWS)
        facts.build_ids.update(rows.build_ids(table))

    def _take_kernel_symbols(self, table: Table) -> None:
        facts = self._host_facts()
        _room(len(facts.kernel_symbols), MAX_ROWS)
        facts.kernel_symbols += rows.kernel_symbols(table)

    def _take_generated(self, table: Table) -> None:
        facts = self._host_facts()
        _room(len(facts.generated), MAX_ROWS)
        facts.generated += rows.generated_symbols(table)

    def _take_pairs(self, table: Table) -> None:
        _room(len(self._pairs), MAX_ROWS)
        self._pairs.update(rows.pairs(table))

    def _take_closing(self, table: Table) -> None:
        _room(len(self._closing), MAX_ROWS)
        self._closing += rows.events(table)

    def _host_facts(self) -> HostFacts:
        if self._facts is None:
            self._facts = HostFacts()
        return self._facts

    def _capture(self) -> Capture:
        self._kept_entries = len(self._entries)
        threads = self._kept_threads()
        begin = min((thread.begin for thread in threads), default=0)
        end = max((thread.end for thread in threads), default=0)
        head = self._head
        capture = Capture(
            start=_number(head, "start", begin),
            end=max(_number(head, "end", end), _number(head, "start", begin)),
            wall_start=_real(head.get("wall_start")),
            frequency=_number(head, "frequency"),
            event=_text(head, "event"),
            command=_text(head, "command"),
            kernel=_text(head, "kernel"),
            hostname=_text(head, "hostname"),
            threads=threads,
            processes=self._processes,
            stacks=[stack or Stack() for stack in self._stacks] or [Stack()],
            entries=self._entries,
            samples=_number(head, "samples"),
            ended_by=_text(head, "ended_by"),
            unwinding=self._unwinding(),
        )
        _fill(capture.losses, head.get("losses"))
        _fill(capture.overhead, head.get("overhead"))
        notes = head.get("notes")
        capture.notes = [x for x in notes if isinstance(x, str)] if isinstance(notes, list) else []
        capture.facts = self._facts or HostFacts(notes=[_FACTS_LOST])
        capture.facts.kernel_symbols.sort(key=lambda symbol: symbol.start)
        self._add_timeline(capture)
        if self.problems:
            self._account(capture)
        return capture

    def _unwinding(self) -> Optional[UnwindReport]:
        told = self._head.get("unwinding")
        ended = any(stack and stack.user_end is not StackEnd.UNTOLD for stack in self._stacks)
        # Stacks tell that there were tables even where what is told of the tables is lost.
        if not isinstance(told, dict) and not ended:
            return None
        report = UnwindReport()
        _fill(report, told)
        return report

    def _kept_threads(self) -> list[Thread]:
        """The threads that could be read; entries are made to refer to them."""
        number: dict[int, int] = {}
        kept: list[Thread] = []
        for index, thread in enumerate(self._threads):
            if thread is not None:
                number[index] = len(kept)
                kept.append(thread)
        if len(kept) < len(self._threads):
            for entry in self._entries:
                entry.thread = number[entry.thread]
        return kept

    def _add_timeline(self, capture: Capture) -> None:
        told = self._head.get("timeline")
        if not isinstance(told, dict) and not self._events:
            return
        count = len(capture.stacks)
        told = told if isinstance(told, dict) else {}
        capture.timeline = StoredTimeline(
            self._stream,
            size=sum(section.size for section in self._events),
            stacks={pair: stack for pair, stack in self._pairs.items() if stack < count},
            closing=[e if e.stack < count else e._replace(stack=0) for e in self._closing],
            lost=_number(told, "lost"),
            sections=self._events,
        )

    def _account(self, capture: Capture) -> None:
        """Put time whose entries were lost under [no stack], so that threads keep their sums."""
        states = self._head.get("states")
        wanted = (
            {rows.state_of(n) for n in states if _fits(n)} if isinstance(states, list) else None
        )
        told: dict[tuple[int, State], int] = {}
        for entry in capture.entries:
            key = (entry.thread, entry.state)
            told[key] = told.get(key, 0) + entry.nanoseconds
        for index, thread in enumerate(capture.threads):
            for state, nanoseconds in thread.time.items():
                missing = nanoseconds - told.get((index, state), 0)
                if missing > 0 and (wanted is None or state in wanted):
                    gap = Entry(index, state, 0, missing, 0, thread.end, Gap.NO_STACK)
                    capture.entries.append(gap)

    def kept(self, capture: Capture) -> str:
        """How much of what the file should hold was read, in words."""
        found = {"threads": len(capture.threads), "stacks": len(self._stacks)}
        found["entries"] = self._kept_entries
        parts = [f"{n:,} of {_number(self._head, name):,} {name}" for name, n in found.items()]
        return ", ".join(parts) if self._head else f"{len(capture.threads):,} threads"


_TABLES: dict[bytes, Callable[[Decoder, Table], None]] = {
    b"THRD": Decoder._take_threads,
    b"MAPS": Decoder._take_mappings,
    b"PROC": Decoder._take_processes,
    b"IMAG": Decoder._take_images,
    b"FACT": Decoder._take_facts,
    b"BIDS": Decoder._take_build_ids,
    b"KSYM": Decoder._take_kernel_symbols,
    b"JSYM": Decoder._take_generated,
    b"STAK": Decoder._take_stacks,
    b"ENTR": Decoder._take_entries,
    b"TSTK": Decoder._take_pairs,
    b"TEND": Decoder._take_closing,
}


def _place(target: list[Any], table: Table, found: list[Any]) -> None:
    """Append ``found`` at its row; rows that could not be read before it are None."""
    first = rows.first_row(table)
    if first < len(target):
        raise ColumnError("its rows were there before")
    _room(first + len(found) - 1, MAX_ROWS)
    target += [None] * (first - len(target))
    target += found


def _room(held: int, limit: int) -> None:
    if held >= limit:
        raise SectionError(f"there are more than {limit:,} rows", resumable=True)


def _known(table: list[Optional[Mapping]], numbers: list[int]) -> list[Mapping]:
    """The mappings of these numbers, without those that could not be read."""
    found = (table[number] for number in numbers if number < len(table))
    return [mapping for mapping in found if mapping is not None]


def _start(mapping: Mapping) -> int:
    return mapping.start


def _read_head(payload: bytes) -> dict[str, Any]:
    try:
        found = json.loads(payload.decode("utf-8", "replace"), parse_int=_bounded)
    except (ValueError, RecursionError) as error:
        raise ColumnError(f"it is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise ColumnError("it is no JSON object")
    return found


def _bounded(digits: str) -> int:
    return int(digits) if len(digits) <= _MAX_DIGITS else 0


def _fits(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LIMIT


def _number(of: dict[str, Any], name: str, otherwise: int = 0) -> int:
    value = of.get(name)
    return int(value) if isinstance(value, int) and _fits(value) else otherwise


def _text(of: dict[str, Any], name: str) -> str:
    value = of.get(name)
    return value if isinstance(value, str) else ""


def _real(value: object) -> float:
    fits = isinstance(value, (int, float)) and math.isfinite(value)
    return float(value) if fits and isinstance(value, (int, float)) else 0.0


def _fill(target: Any, values: object) -> None:
    """Set the fields of ``target`` that ``values`` tells, each of its own type."""
    if isinstance(values, dict):
        for field in fields(target):
            if isinstance(getattr(target, field.name), str):
                setattr(target, field.name, _text(values, field.name))
            elif isinstance(getattr(target, field.name), float):
                setattr(target, field.name, _real(values.get(field.name)))
            else:
                setattr(target, field.name, _number(values, field.name))
