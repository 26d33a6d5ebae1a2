"""The tables of a pprof file: strings, functions, mappings and locations, numbered as they come.

What is new is written at once; kept is only what tells old from new. Memory grows with the number
of different frames and names, not with the number of stacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any, Optional

from systemscope.exporters.naming import safe_text, shown_name
from systemscope.model import Frame, FrameKind, HostFacts, Mapping
from systemscope.wire import pprof_words as words
from systemscope.wire.pprof import (
    FUNCTION,
    INT64_MAX,
    LOCATION,
    MAPPING,
    STRING,
    UINT64_MAX,
    Messages,
    field_header,
)

MAX_TEXT = 1 << 16  # characters of one name; what is cut off is marked by an ellipsis
_CHUNK = 1 << 16
_PAGE = 4096


class Records:
    """Fields of the Profile message, collected and written in chunks: messages that are written one
    after the other make one message with the fields of all."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._parts: list[bytes] = []
        self._size = 0

    def put(self, field: int, *payload: bytes) -> None:
        """Add one field, whose payload is given in parts."""
        size = sum(map(len, payload))
        self._parts.append(field_header(field, size))
        self._parts += payload
        self._size += size
        if self._size >= _CHUNK:
            self.flush()

    def put_fields(self, message: bytes) -> None:
        """Add all the fields of a serialized Profile."""
        self._parts.append(message)
        self._size += len(message)

    def flush(self) -> None:
        """Write what was collected."""
        self._stream.write(b"".join(self._parts))
        self._parts.clear()
        self._size = 0


class Strings:
    """The string table; index 0 is ""."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._numbers: dict[str, int] = {"": 0}
        self._count = 1
        records.put(STRING)

    def index(self, text: str) -> int:
        """The index of ``text``, made safe for terminals and cut at MAX_TEXT."""
        number = self._numbers.get(text)
        if number is None:
            clean = safe_text(text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…")
            number = self._numbers.get(clean)
            if number is None:
                number = self._numbers[clean] = self._count
                self._count += 1
                self._records.put(STRING, clean.encode())
            if clean != text and len(text) <= MAX_TEXT:
                self._numbers[text] = number
        return number


@dataclass
class _Mapping:
    """A mapping until it is written, last of all: only then is known what its locations hold."""

    number: int
    start: int
    end: int
    offset: int
    path: str
    build_id: str = ""
    unsymbolized: bool = False
    functions: bool = False
    files: bool = False
    lines: bool = False
    inlined: bool = False


class Mappings:
    """Mappings of processes, told apart by everything that the kernel says of them, and the
    kernel's own. ``main`` becomes the first."""

    def __init__(self, main: Optional[Mapping], facts: Optional[HostFacts]) -> None:
        self._build_ids = facts.build_ids if facts is not None else {}
        self._kernel_build_id = facts.kernel_build_id if facts is not None else ""
        self._mapped: dict[Mapping, _Mapping] = {}
        self._named: dict[str, _Mapping] = {}
        if main is not None:
            self._of_process(main)

    def of(self, frame: Frame) -> Optional[_Mapping]:
        """The mapping ``frame`` lies in, if that is known."""
        if frame.mapping is not None:
            found = self._of_process(frame.mapping)
            if not found.build_id:
                found.build_id = frame.build_id
            return found
        if frame.kind is FrameKind.KERNEL:
            return self._of_kernel(frame)
        if frame.kind is FrameKind.VDSO:
            return self._pseudo(words.VDSO_MAPPING, 0, 0)
        return self._pseudo(words.JIT_MAPPING, 0, 0) if frame.kind is FrameKind.JIT else None

    def _of_process(self, mapping: Mapping) -> _Mapping:
        found = self._mapped.get(mapping)
        if found is None:
            file = mapping.file
            fields = (0, 0, 0, 0)
            if file is not None:
                fields = (file.major, file.minor, file.inode, file.generation)
            path = mapping.path
            if path in ("", "//anon"):  # the side-band says "//anon"
                path = words.ANONYMOUS_MAPPING
            build_id = self._build_ids.get((mapping.path, fields), "")
            found = _Mapping(
                self._next(), mapping.start, mapping.end, mapping.offset, path, build_id
            )
            self._mapped[mapping] = found
        return found

    def _of_kernel(self, frame: Frame) -> _Mapping:
        if frame.module in ("", "[kernel]", words.KERNEL_MAPPING):
            core = self._pseudo(words.KERNEL_MAPPING, words.KERNEL_START, UINT64_MAX)
            core.build_id = frame.build_id or core.build_id or self._kernel_build_id
            return core
        # A module's place is not known beyond the addresses seen in it.
        name = frame.module if frame.module.startswith("[") else f"[{frame.module}]"
        module = self._pseudo(name, 0, 0)
        if frame.address:
            page = (frame.address & UINT64_MAX) // _PAGE * _PAGE
            module.start = min(module.start, page) if module.start else page
            module.end = min(max(module.end, page + _PAGE), UINT64_MAX)
        return module

    def _pseudo(self, name: str, start: int, end: int) -> _Mapping:
        found = self._named.get(name)
        if found is None:
            found = self._named[name] = _Mapping(self._next(), start, end, 0, name)
        return found

    def _next(self) -> int:
        return len(self._mapped) + len(self._named) + 1

    def write(self, records: Records, strings: Strings, messages: Messages) -> None:
        """Write all of them, in the order of their numbers."""
        every = sorted((*self._mapped.values(), *self._named.values()), key=lambda one: one.number)
        for one in every:
            # pprof looks up nothing in a mapping that has any of these set: where one location
            # has no name, it must be free to find it.
            told = not one.unsymbolized
            message = messages.Mapping(
                id=one.number,
                memory_start=one.start & UINT64_MAX,
                memory_limit=one.end & UINT64_MAX,
                file_offset=one.offset & UINT64_MAX,
                filename=strings.index(one.path),
                build_id=strings.index(one.build_id),
                has_functions=told and one.functions,
                has_filenames=told and one.files,
                has_line_numbers=told and one.lines,
                has_inline_frames=told and one.inlined,
            )
            records.put(MAPPING, message.SerializeToString())


class Locations:
    """Locations and the functions on their lines."""

    def __init__(
        self, records: Records, strings: Strings, mappings: Mappings, messages: Messages
    ) -> None:
        self._records = records
        self._strings = strings
        self._mappings = mappings
        self._messages = messages
        self._functions: dict[tuple[int, int], int] = {}
        self._known: dict[tuple[object, ...], int] = {}
        # By identity: the frames belong to the profile, which outlives this table. Inlined ones
        # stand for no location, which is 0.
        self._exact: dict[int, int] = {}
        self._returns: dict[int, int] = {}
        self._runs: dict[tuple[bool, tuple[int, ...]], int] = {}
        self._pseudo: dict[str, int] = {}

    def stack(self, frames: Sequence[Frame], running: bool) -> list[int]:
        """The numbers of the locations of ``frames``, leaf first.

        The innermost user address is an instruction pointer, so is the innermost kernel address of
        a sample (``running``). All others are return addresses: stored is the byte before, which
        belongs to the call.
        """
        edge = 0
        for frame in frames:
            if frame.kind is not FrameKind.KERNEL:
                break
            edge += 1
        found = self._part(frames[:edge], running) if edge else []
        return found + self._part(frames[edge:], True) if edge < len(frames) else found

    def pseudo(self, name: str) -> int:
        """The location of one of our own words: a function without an address."""
        number = self._pseudo.get(name)
        if number is None:
            number = self._pseudo[name] = self._location((Frame(name, FrameKind.PSEUDO),), True)
        return number

    def _part(self, frames: Sequence[Frame], exact: bool) -> list[int]:
        known = self._returns
        found = [known.get(id(frame), 0) for frame in frames]
        leaf = (self._exact if exact else known).get(id(frames[0]), 0)
        found[0] = leaf
        return found if all(found) else self._slowly(frames, exact)

    def _slowly(self, frames: Sequence[Frame], exact: bool) -> list[int]:
        """The same for a part that has frames not met before, or inlined ones."""
        found: list[int] = []
        first, last = 0, len(frames) - 1
        for index, frame in enumerate(frames):
            if frame.inlined and index < last:
                continue
            leaf = exact and first == 0
            run = frames[first : index + 1]
            first = index + 1
            numbers = self._exact if leaf else self._returns
            number = numbers.get(id(frame), 0) if len(run) == 1 else 0
            if not number:
                number = self._run(run, leaf)
                if len(run) == 1 and not frame.inlined:
                    numbers[id(frame)] = number
            found.append(number)
        return found

    def _run(self, run: Sequence[Frame], exact: bool) -> int:
        key = (exact, tuple(map(id, run)))
        number = self._runs.get(key)
        if number is None:
            number = self._location(run, exact)
            if len(run) > 1:
                self._runs[key] = number
        return number

    def _location(self, run: Sequence[Frame], exact: bool) -> int:
        """The location of frames that share an address, innermost first."""
        outer = run[-1]
        mapping = self._mappings.of(outer)
        address = outer.address & UINT64_MAX
        if address and not exact:
            address -= 1
        lines: list[tuple[int, int]] = []
        if not _nameless(outer, mapping):
            lines = [(self._function(one), _line(one)) for one in run]
        key = (mapping.number if mapping else 0, address, *lines)
        number = self._known.get(key)
        if number is None:
            number = self._known[key] = len(self._known) + 1
            _mark(mapping, run, bool(lines))
            made = [{"function_id": function, "line": line} for function, line in lines]
            message = self._messages.Location(
                id=number, mapping_id=key[0], address=address, line=made
            )
            self._records.put(LOCATION, message.SerializeToString())
        return number

    def _function(self, frame: Frame) -> int:
        name = self._strings.index(shown_name(frame))
        key = (name, self._strings.index(frame.file))
        number = self._functions.get(key)
        if number is None:
            number = self._functions[key] = len(self._functions) + 1
            message: Any = self._messages.Function(
                id=number, name=name, system_name=name, filename=key[1]
            )
            self._records.put(FUNCTION, message.SerializeToString())
        return number


def _nameless(frame: Frame, mapping: Optional[_Mapping]) -> bool:
    """Whether the address is all there is: our stand-in for a name would keep pprof from finding
    the real one."""
    return bool(frame.unknown and frame.address and mapping is not None)


def _line(frame: Frame) -> int:
    return min(max(frame.line, 0), INT64_MAX)


def _mark(mapping: Optional[_Mapping], run: Sequence[Frame], named: bool) -> None:
    """Note in the mapping what its locations are like."""
    if mapping is None:
        return
    if not named:
        mapping.unsymbolized = True
        return
    mapping.functions = True
    mapping.files = mapping.files or any(frame.file for frame in run)
    mapping.lines = mapping.lines or any(frame.line for frame in run)
    mapping.inlined = mapping.inlined or len(run) > 1
