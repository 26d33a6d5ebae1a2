"""User addresses to frames."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import replace
from typing import Optional

from systemscope.model import Capture, FileId, Frame, FrameKind, Mapping, Process
from systemscope.symbolizer.modules import FOUR_GIB, Answer, Module, ModuleReader, Place
from systemscope.symbolizer.options import SymbolizerOptions
from systemscope.symbolizer.space import AddressSpace

NO_MAPPINGS = "the process's mappings are not known"
NOT_MAPPED = "it lies in no mapping of the process"
ANONYMOUS = "it lies in memory that shows no file"

#: (index of the address space, -1 without one; the address; whether it is an instruction pointer)
_Key = tuple[int, int, bool]


class UserNamer:
    """Names user addresses in three steps: ask for all, resolve, then take the frames."""

    def __init__(self, capture: Capture, options: SymbolizerOptions, reader: ModuleReader) -> None:
        self._processes = capture.processes
        self._options = options
        self._reader = reader
        self._begins: dict[int, list[int]] = {}
        self._spaces: list[AddressSpace] = []
        self._space_ids: dict[tuple[int, int], int] = {}
        self._modules: dict[Hashable, Module] = {}
        self._asked: dict[_Key, Optional[tuple[Mapping, Module, Place]]] = {}
        self._frames: dict[_Key, tuple[Frame, ...]] = {}
        self._generations = _generations(capture.processes.values())

    def space(self, tgid: int, time: int) -> int:
        """The address space of ``tgid`` at ``time``, as the number the other methods take."""
        begins = self._begins.get(tgid)
        if begins is None:
            process = self._processes.get(tgid)
            begins = [] if process is None else [image.since for image in process.images]
            self._begins[tgid] = begins
        if not begins:
            return -1
        # Addresses seen before the first image was, belong to it all the same.
        index = max(bisect_right(begins, time) - 1, 0)
        key = (tgid, index)
        number = self._space_ids.get(key)
        if number is None:
            number = self._space_ids[key] = len(self._spaces)
            self._spaces.append(AddressSpace(tgid, self._processes[tgid].images[index]))
        return number

    def ask(self, space: int, addresses: tuple[int, ...]) -> None:
        """Note that the stack ``addresses``, leaf first, needs names."""
        for index, address in enumerate(addresses):
            key = (space, address, index == 0)
            if key not in self._asked:
                self._asked[key] = self._place(key)

    def asked(self) -> list[tuple[Mapping, Module]]:
        """The mappings of files that addresses asked for lie in, each once, and their modules."""
        found = {x[0]: x[1] for x in self._asked.values() if x is not None}
        return list(found.items())

    def in_no_file(self) -> Iterator[tuple[int, int]]:
        """(process, address to look up) of each address asked for where generated code may be."""
        for (space, address, exact), asked in self._asked.items():
            place = address if exact else address - 1
            mapping = asked[0] if asked is not None else self._mapping(space, place)
            if mapping is not None and (asked is None or mapping.path.startswith("/memfd:")):
                yield self._spaces[space].tgid, place

    def resolve(self) -> None:
        """Name everything asked for, one file after the other."""
        for module in self._modules.values():
            self._reader.answer(module)

    def frames(self, space: int, addresses: tuple[int, ...]) -> tuple[Frame, ...]:
        """The frames of a stack asked for before, leaf first."""
        found: list[Frame] = []
        for index, address in enumerate(addresses):
            key = (space, address, index == 0)
            frames = self._frames.get(key)
            if frames is None:
                frames = self._frames[key] = self._name(key)
            found += frames
        return tuple(found)

    def _place(self, key: _Key) -> Optional[tuple[Mapping, Module, Place]]:
        space, address, exact = key
        mapping = self._mapping(space, address if exact else address - 1)
        if mapping is None or not _has_file(mapping):
            return None
        tgid = self._spaces[space].tgid
        identity = self._identity(tgid, mapping)
        module = self._modules.get(identity)
        if module is None:
            module = self._modules[identity] = Module()
        place = (address - mapping.start + mapping.offset, exact)
        module.ask(tgid, mapping, place)
        return mapping, module, place

    def _mapping(self, space: int, address: int) -> Optional[Mapping]:
        return self._spaces[space].find(address) if space >= 0 else None

    def _identity(self, tgid: int, mapping: Mapping) -> Hashable:
        file = mapping.file
        if file is None:
            # The vdso is one for all 64-bit processes; a path means something only within its own.
            if mapping.path == "[vdso]" and mapping.end > FOUR_GIB:
                return "[vdso]"
            return (tgid, mapping.path)
        number = (file.major, file.minor, file.inode)
        # The side-band tells the generation, /proc/PID/maps does not: 0 means "not told".
        return (number, file.generation or self._generations.get(number, 0))

    def _name(self, key: _Key) -> tuple[Frame, ...]:
        space, address, exact = key
        asked = self._asked.get(key)
        if asked is not None:
            mapping, module, place = asked
            answer = module.places[place]
            if answer is not None and (answer.elf or not mapping.path.startswith("/memfd:")):
                return _file_frames(address, mapping, answer)
        found = self._mapping(space, address if exact else address - 1)
        if found is None:
            return (_unmapped(address, known=space >= 0),)
        back = 0 if exact else 1
        return self._anonymous_frames(self._spaces[space].tgid, address, back, found)

    def _anonymous_frames(
        self, tgid: int, address: int, back: int, mapping: Mapping
    ) -> tuple[Frame, ...]:
        # Compilers that map their code twice, writable and executable, do so with a memfd.
        if self._options.generated_code is not None:
            named = self._options.generated_code(tgid, address - back)
            if named:
                return tuple(
                    replace(frame, address=address, offset=frame.offset + back, mapping=mapping)
                    for frame in named
                )
        label = mapping.path.lstrip("/")
        if label in ("", "anon"):  # the side-band says "//anon"
            label = "[anon]"
        name = f"{label}+{address:#x}"
        kind = FrameKind.USER if label in ("[stack]", "[vsyscall]", "[uprobes]") else FrameKind.JIT
        return (Frame(name, kind, address, label, unknown=ANONYMOUS, mapping=mapping),)


def _generations(processes: Iterable[Process]) -> dict[tuple[int, int, int], int]:
    """The one generation told of each inode; inodes that had several are left out."""
    told: dict[tuple[int, int, int], set[int]] = {}
    files: set[FileId] = set()
    for process in processes:
        for image in process.images:
            for mapping in image.mappings + image.replaced:
                if mapping.file is not None and mapping.file.generation:
                    files.add(mapping.file)
    for file in files:
        told.setdefault((file.major, file.minor, file.inode), set()).add(file.generation)
    return {number: min(found) for number, found in told.items() if len(found) == 1}


def _has_file(mapping: Mapping) -> bool:
    return mapping.path == "[vdso]" or (
        bool(mapping.path) and not mapping.path.startswith(("[", "//anon"))
    )


def _unmapped(address: int, *, known: bool) -> Frame:
    reason = NOT_MAPPED if known else NO_MAPPINGS
    return Frame(f"[unknown]+{address:#x}", FrameKind.USER, address, "[unknown]", unknown=reason)


def _file_frames(address: int, mapping: Mapping, answer: Answer) -> tuple[Frame, ...]:
    module = mapping.path.rsplit("/", 1)[-1] or "[file]"
    kind = FrameKind.VDSO if mapping.path == "[vdso]" else FrameKind.USER
    if not answer.locations:
        name = f"{module}+{answer.address:#x}"
        unknown, build_id = answer.unknown, answer.build_id
        return (
            Frame(name, kind, address, module, unknown=unknown, build_id=build_id, mapping=mapping),
        )
    build_id = answer.build_id
    return tuple(
        Frame(
            x.name,
            kind,
            address,
            module,
            x.file,
            x.line,
            x.offset,
            x.inlined,
            "",
            build_id,
            mapping,
        )
        for x in answer.locations
    )
