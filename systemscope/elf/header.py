"""The ELF header, program headers and section headers.

Source: the System V ABI, chapters 4 and 5, as in ``include/uapi/linux/elf.h``. Only 64-bit
little-endian executables and shared objects for x86-64 and aarch64 are taken.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from systemscope.elf.errors import ElfError
from systemscope.elf.source import Source, read_exactly

#: More headers than any linker makes; what lies beyond is not looked at.
MAX_SEGMENTS = 512
MAX_SECTIONS = 65_536

_PN_XNUM = 0xFFFF
_SHN_XINDEX = 0xFFFF

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_SHDR = struct.Struct("<IIQQQQIIQQ")


class Machine(IntEnum):
    """e_machine of the architectures SystemScope runs on."""

    X86_64 = 62
    AARCH64 = 183


class FileType(IntEnum):
    """e_type of what can be mapped into a process; and of what no linker has seen."""

    REL = 1
    EXEC = 2
    DYN = 3


class SegmentType(IntEnum):
    """p_type, those of interest."""

    LOAD = 1
    NOTE = 4
    GNU_EH_FRAME = 0x6474E550


class SegmentFlag(IntFlag):
    """p_flags."""

    X = 1
    W = 2
    R = 4


class SectionType(IntEnum):
    """sh_type, those of interest."""

    SYMTAB = 2
    RELA = 4
    NOTE = 7
    NOBITS = 8
    DYNSYM = 11


class SectionFlag(IntFlag):
    """sh_flags, those of interest."""

    ALLOC = 2
    EXECINSTR = 4
    COMPRESSED = 0x800


@dataclass(frozen=True)
class Segment:
    """One program header. Addresses are ELF virtual ones, before any load bias."""

    type: int
    flags: int
    offset: int
    address: int
    file_size: int
    memory_size: int
    alignment: int

    @property
    def executable(self) -> bool:
        """True for code."""
        return bool(self.flags & SegmentFlag.X)


@dataclass(frozen=True)
class Section:
    """One section header. ``name_offset`` counts into the section-name string table."""

    index: int
    name_offset: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    entry_size: int

    @property
    def executable(self) -> bool:
        """True for code."""
        return bool(self.flags & SectionFlag.EXECINSTR)


@dataclass(frozen=True)
class Header:
    """The ELF header and both header tables."""

    type: FileType
    machine: Machine
    entry: int
    segments: tuple[Segment, ...]
    sections: tuple[Section, ...]
    section_names: int  # index of the string table of section names, 0 if there is none


def read_header(source: Source, *, relocatable: bool = False) -> Header:
    """Read all headers. Raises ElfError on anything but a supported, whole ELF header, and on
    relocatable files unless they are asked for.

    A damaged section table leaves ``sections`` empty: running needs only the segments.
    """
    fields = _EHDR.unpack(read_exactly(source, 0, _EHDR.size, "the ELF header"))
    ident, type_, machine, version, entry, phoff, shoff = fields[:7]
    _, _, phentsize, phnum, shentsize, shnum, shstrndx = fields[7:]
    _check_ident(ident, version)
    try:
        kind, arch = FileType(type_), Machine(machine)
        if kind is FileType.REL and not relocatable:
            raise ValueError
    except ValueError:
        raise ElfError(f"ELF type {type_} for machine {machine} is not supported") from None
    sections = _read_sections(source, shoff, shentsize, shnum)
    if sections:
        # Numbers that do not fit the header live in section 0 (gABI, "Sections").
        if shstrndx == _SHN_XINDEX:
            shstrndx = sections[0].link
        if phnum == _PN_XNUM:
            phnum = sections[0].info
    segments = _read_segments(source, phoff, phentsize, phnum)
    names = shstrndx if shstrndx < len(sections) else 0
    return Header(kind, arch, entry, segments, sections, names)


def _check_ident(ident: bytes, version: int) -> None:
    if ident[:4] != b"\x7fELF":
        raise ElfError("not an ELF file")
    if ident[4] != 2:
        raise ElfError("a 32-bit ELF file")
    if ident[5] != 1:
        raise ElfError("a big-endian ELF file")
    if ident[6] != 1 or version != 1:
        raise ElfError("an ELF file of an unknown version")


def _read_segments(source: Source, offset: int, size: int, count: int) -> tuple[Segment, ...]:
    if count == 0 or size != _PHDR.size:
        return ()
    table = source.read(offset, min(count, MAX_SEGMENTS) * size)
    table = table[: len(table) // size * size]
    return tuple(
        Segment(type_, flags, where, address, file_size, memory_size, alignment)
        for type_, flags, where, address, _, file_size, memory_size, alignment in _PHDR.iter_unpack(
            table
        )
    )


def _read_sections(source: Source, offset: int, size: int, count: int) -> tuple[Section, ...]:
    if offset == 0 or size != _SHDR.size:
        return ()
    first = source.read(offset, size)
    if len(first) < size:
        return ()
    if count == 0:
        count = _SHDR.unpack(first)[5]
    table = source.read(offset, min(count, MAX_SECTIONS) * size)
    if len(table) < min(count, MAX_SECTIONS) * size:
        return ()
    return tuple(
        Section(index, name, type_, flags, address, where, length, link, info, entry_size)
        for index, (
            name,
            type_,
            flags,
            address,
            where,
            length,
            link,
            info,
            _,
            entry_size,
        ) in enumerate(_SHDR.iter_unpack(table))
    )
