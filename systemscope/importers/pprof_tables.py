"""The inside of a pprof file that anybody may have written: unpacked, taken apart, looked up.

Every size is bounded before memory is spent on it. What is damaged is left out and counted.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Optional

from systemscope.errors import InputError
from systemscope.model import MARK_NAMES, Frame, FrameKind, Mapping
from systemscope.wire import pprof_words as words
from systemscope.wire.pprof import (
    FUNCTION,
    LOCATION,
    MAPPING,
    SAMPLE,
    STRING,
    UINT64_MAX,
    Cut,
    messages,
    records,
)

MAX_PACKED = 1 << 28
MAX_BYTES = 1 << 28
#: Deflate shrinks no more than 1032 to 1; profiles come to 5 to 100.
MAX_RATIO = 400
_RATIO_FROM = 16 << 20  # a small file may be as repetitive as it likes
MAX_RECORD = 4 << 20
MAX_HEAD = 4 << 20  # of what is no table and no sample
MAX_RECORDS = 1 << 23
MAX_SAMPLES = 2_000_000
MAX_TABLE = 1 << 21  # entries of one table
MAX_LINES = 1_000  # of one location
MAX_DEPTH = 16_384
MAX_FRAMES = 1 << 25  # of all different stacks together
_GZIP = b"\x1f\x8b"
_READ = 1 << 16
_MAX_MEMBERS = 1_000  # of a gzip file; writers make one
_MISSING = "the file does not hold it"
_UNNAMED = "the file has no name for it"


def unpack(stream: BinaryIO) -> tuple[bytes, str]:
    """The profile in ``stream``, gzipped or not, and why it is incomplete, or "".

    Raises InputError when it is larger than the bounds, or nothing can be had of it.
    """
    first = stream.read(_READ)
    if not first.startswith(_GZIP):
        data = first + stream.read(MAX_BYTES - len(first) + 1)
        _bound(len(data), MAX_BYTES, "bytes")
        return data, ""
    out = bytearray()
    inflate = zlib.decompressobj(wbits=31)
    before, packed, piece, members = inflate, len(first), first, 1
    try:
        while piece:
            before = inflate.copy()
            out += inflate.decompress(piece, MAX_BYTES - len(out) + 1)
            _bound(len(out), MAX_BYTES, "bytes")
            if len(out) > _RATIO_FROM and len(out) > MAX_RATIO * packed:
                raise InputError("this pprof file unpacks to far more than any profile would")
            piece = inflate.unused_data
            if inflate.eof and piece:  # several members, one after the other
                members += 1
                _bound(members, _MAX_MEMBERS, "gzip members")
                inflate = zlib.decompressobj(wbits=31)
                continue
            piece = stream.read(_READ)
            packed += len(piece)
            _bound(packed, MAX_PACKED, "packed bytes")
    except zlib.error as error:
        out += _salvage(before, piece)
        if not out:
            raise InputError(f"this pprof file cannot be unpacked: {error}") from error
        return bytes(out), "the file is damaged"
    return bytes(out), "" if inflate.eof else "the file is cut short"


def _salvage(inflate: zlib._Decompress, piece: bytes) -> bytes:
    """What ``piece`` holds before its damaged byte, which a larger bite would have taken along."""
    out = bytearray()
    try:
        for start in range(len(piece)):
            out += inflate.decompress(piece[start : start + 1], MAX_BYTES)
    except zlib.error:
        pass
    return bytes(out)


def _bound(size: int, limit: int, what: str) -> None:
    if size > limit:
        raise InputError(
            f"this pprof file is too large: more than {limit:,} {what}",
            "make it smaller first: go tool pprof -proto -focus ...",
        )


@dataclass(frozen=True)
class MappingRow:
    """A Mapping of the file; ``mapping`` is None where it tells no range of a process."""

    name: str
    build_id: str
    mapping: Optional[Mapping]


@dataclass
class Tables:
    """All of a profile but its samples, whose places in ``data`` are kept instead. ``head`` is a
    Profile message with the fields that are neither. ``damaged`` counts records left out."""

    data: bytes
    head: Any = None
    strings: list[str] = field(default_factory=list)
    functions: dict[int, Any] = field(default_factory=dict)
    mappings: dict[int, MappingRow] = field(default_factory=dict)
    locations: dict[int, Any] = field(default_factory=dict)
    places: array[int] = field(default_factory=lambda: array("Q"))
    damaged: int = 0
    cut: bool = False

    def text(self, index: int) -> str:
        """String number ``index``; "" where there is none."""
        return self.strings[index] if 0 <= index < len(self.strings) else ""

    def samples(self) -> Iterator[Any]:
        """The Sample messages, decoded one by one."""
        kinds = messages()
        view = memoryview(self.data)
        for start, end in zip(self.places[::2], self.places[1::2]):
            try:
                yield kinds.Sample.FromString(bytes(view[start:end]))
            except kinds.DecodeError:
                self.damaged += 1


def read_tables(data: bytes) -> Tables:
    """Take ``data`` apart. Raises InputError when it is no profile or beyond the bounds."""
    tables = Tables(data)
    kinds = messages()
    others = bytearray()
    raw_mappings: list[Any] = []
    decoders = {MAPPING: kinds.Mapping, LOCATION: kinds.Location, FUNCTION: kinds.Function}
    begin = 0
    try:
        for count, (number, start, end, _) in enumerate(records(data)):
            _bound(count, MAX_RECORDS, "records")
            if end - start > MAX_RECORD:
                tables.damaged += 1
            elif number == SAMPLE:
                _bound(len(tables.places) // 2, MAX_SAMPLES - 1, "samples")
                tables.places.extend((start, end))
            elif number == STRING:
                _bound(len(tables.strings), MAX_TABLE - 1, "strings")
                tables.strings.append(data[start:end].decode("utf-8", "replace"))
            elif number in decoders:
                _bound(len(raw_mappings) + len(tables.locations), MAX_TABLE - 1, "locations")
                _bound(len(tables.functions), MAX_TABLE - 1, "functions")
                _decode(tables, decoders[number], data[start:end], number, raw_mappings)
            else:
                others += data[begin:end]
                _bound(len(others), MAX_HEAD, "bytes of comments")
            begin = end
    except Cut as cut:
        tables.cut = True
        if cut.position == 0:
            raise InputError("this is no pprof file") from None
    try:
        tables.head = kinds.Profile.FromString(bytes(others))
    except kinds.DecodeError:
        raise InputError("this is no pprof file") from None
    if not tables.strings or tables.strings[0] or not tables.head.sample_type:
        raise InputError("this is no pprof file, or nothing but its end is left")
    for raw in raw_mappings:
        tables.mappings.setdefault(raw.id, _mapping_row(tables, raw))
    return tables


def _decode(tables: Tables, kind: Any, payload: bytes, number: int, mappings: list[Any]) -> None:
    """Decode one entry of a table and put it there; of equal numbers the first counts."""
    try:
        message = kind.FromString(payload)
    except messages().DecodeError:
        tables.damaged += 1
        return
    if number == MAPPING:
        mappings.append(message)
    elif number == FUNCTION:
        tables.functions.setdefault(message.id, message)
    elif len(message.line) > MAX_LINES:
        tables.damaged += 1
    else:
        tables.locations.setdefault(message.id, message)


def _mapping_row(tables: Tables, raw: Any) -> MappingRow:
    name, build_id = tables.text(raw.filename), tables.text(raw.build_id)
    mapping = None
    if raw.memory_limit > raw.memory_start and not _is_kernel(name, raw.memory_start):
        path = "" if name == words.ANONYMOUS_MAPPING else name
        mapping = Mapping(raw.memory_start, raw.memory_limit, raw.file_offset, path)
    return MappingRow(name, build_id, mapping)


def _is_kernel(name: str, address: int) -> bool:
    return name.startswith(("[kernel", "[guest.kernel")) or address >= words.KERNEL_START


class Stacks:
    """Lists of locations as frames, each different one made once."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._frames: dict[tuple[int, bool], tuple[Frame, ...]] = {}
        self._stacks: dict[tuple[bool, tuple[int, ...]], tuple[Frame, ...]] = {}
        self._total = 0
        self.missing: set[int] = set()
        self.cut = 0  # stacks deeper than MAX_DEPTH

    def frames(self, ids: tuple[int, ...], running: bool) -> tuple[Frame, ...]:
        """The frames of the locations ``ids``, leaf first. Return addresses are as in a Capture
        again: the byte after those that the file holds.

        Raises InputError beyond the bounds.
        """
        if len(ids) > MAX_DEPTH:
            ids = ids[:MAX_DEPTH]
            self.cut += 1
        key = (running, ids)
        found = self._stacks.get(key)
        if found is None:
            made: list[Frame] = []
            user = False  # a user frame was there
            for index, number in enumerate(ids):
                frames = self._location(number, False)
                kernel = frames[0].kind is FrameKind.KERNEL
                if (running and index == 0) if kernel else not user:
                    frames = self._location(number, True)
                user = user or not kernel
                made += frames
                _bound(len(made), MAX_DEPTH + MAX_LINES, "frames in one stack")
            self._total += len(made)
            _bound(self._total, MAX_FRAMES, "frames")
            found = self._stacks[key] = tuple(made)
        return found

    def own_word(self, number: int) -> str:
        """The name of a function that has neither address nor mapping: one of our own words. ""
        for any other location."""
        location = self._tables.locations.get(number)
        if location is None or location.address or location.mapping_id or len(location.line) != 1:
            return ""
        function = self._tables.functions.get(location.line[0].function_id)
        name = self._tables.text(function.name) if function is not None else ""
        return name if name.startswith("[") else ""

    def _location(self, number: int, exact: bool) -> tuple[Frame, ...]:
        key = (number, exact)
        frames = self._frames.get(key)
        if frames is None:
            frames = self._frames[key] = self._make(number, exact)
        return frames

    def _make(self, number: int, exact: bool) -> tuple[Frame, ...]:
        tables = self._tables
        location = tables.locations.get(number)
        if location is None:
            self.missing.add(number)
            return (Frame("[missing]", FrameKind.PSEUDO, unknown=_MISSING),)
        row = tables.mappings.get(location.mapping_id, MappingRow("", "", None))
        kind = _kind(row, location)
        address = location.address
        if address and not exact:
            address = min(address + 1, UINT64_MAX)
        module = row.name.rsplit("/", 1)[-1]
        if kind is FrameKind.KERNEL and row.name in ("", words.KERNEL_MAPPING):
            module = "[kernel]"
        about = (row.build_id, row.mapping)
        lines = [(line, tables.functions.get(line.function_id)) for line in location.line]
        named = [
            (line, function, tables.text(function.name) or tables.text(function.system_name))
            for line, function in lines
            if function is not None
        ]
        if not any(name for *_, name in named):
            name = _stand_in(kind, module, address, row.mapping)
            return (Frame(name, kind, address, module, "", 0, 0, False, _UNNAMED, *about),)
        if named[0][2] in MARK_NAMES and not location.mapping_id and not address:
            return (Frame(named[0][2], FrameKind.PSEUDO),)
        if named[0][2] == "[unknown]" and not row.name:
            module = "[unknown]"
        last = len(named) - 1
        return tuple(
            Frame(
                name or "[unnamed]",
                kind,
                address,
                module,
                tables.text(function.filename),
                max(line.line, 0),
                0,
                index < last,
                "",
                *about,
            )
            for index, (line, function, name) in enumerate(named)
        )


def _kind(row: MappingRow, location: Any) -> FrameKind:
    name = row.name
    if location.address >= words.KERNEL_START or _is_kernel(name, 0):
        return FrameKind.KERNEL
    if name == words.VDSO_MAPPING or name.startswith("linux-vdso"):
        return FrameKind.VDSO
    if name in (words.ANONYMOUS_MAPPING, words.JIT_MAPPING, "//anon"):
        return FrameKind.JIT
    if not location.mapping_id and not location.address and location.line:
        return FrameKind.USER
    # perf and we call kernel modules "[name]"; they have no range of a process.
    if name.startswith("[") and row.mapping is None and not location.address:
        return FrameKind.KERNEL
    return FrameKind.USER


def _stand_in(kind: FrameKind, module: str, address: int, mapping: Optional[Mapping]) -> str:
    """``module+0xoffset``, the offset as far as it can be told without the file."""
    if kind is FrameKind.KERNEL:
        return f"[kernel]+{address:#x}"
    if mapping is None or not mapping.path.startswith("/"):
        return f"{module or '[unknown]'}+{address:#x}"
    return f"{module}+{address - mapping.start + mapping.offset:#x}"
