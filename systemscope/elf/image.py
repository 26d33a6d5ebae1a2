"""One ELF image: headers at once, tables on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Optional

from systemscope.elf.header import Header, Section, SectionType, SegmentType, read_header
from systemscope.elf.notes import read_build_id
from systemscope.elf.plt import PltTable
from systemscope.elf.source import FileSource, MemorySource, Source, read_string
from systemscope.elf.symbols import Symbol, SymbolTable

if TYPE_CHECKING:
    from systemscope.elf.cache import TableCache
    from systemscope.elf.companions import Companions

_PAGE = 0x1000
_MAX_SECTION_NAME = 256


class ElfImage:
    """An executable or shared object. Not thread-safe.

    All methods raise ElfError, and nothing else, on damaged files. The source is borrowed and must
    stay readable while the image is used.
    """

    def __init__(self, source: Source, *, relocatable: bool = False) -> None:
        """``relocatable`` takes files that no linker has seen as well: .dwo files, and those that
        dwz moves shared debug information to, which say so too."""
        self.source = source
        self.header: Header = read_header(source, relocatable=relocatable)
        self._build_id: Optional[str] = None
        self._tables: dict[SectionType, Optional[SymbolTable]] = {}
        self._plt: Optional[PltTable] = None
        #: Who finds the files that belong to this one; None where nobody looks for any.
        self.companions: Optional[Companions] = None
        #: Where large tables are kept for the next run, if anywhere.
        self.cache: Optional[TableCache] = None
        self._found: dict[str, Optional[ElfImage]] = {}
        loads = [s for s in self.header.segments if s.type == SegmentType.LOAD]
        self._loads = sorted(loads, key=lambda s: not s.executable)

    @classmethod
    def from_descriptor(cls, descriptor: int, *, relocatable: bool = False) -> ElfImage:
        """The image in the open regular file ``descriptor``, which stays the caller's."""
        return cls(FileSource(descriptor), relocatable=relocatable)

    @classmethod
    def from_bytes(cls, data: bytes) -> ElfImage:
        """The image in ``data``."""
        return cls(MemorySource(data))

    @property
    def build_id(self) -> str:
        """The GNU build ID in lower-case hex, "" if there is none."""
        if self._build_id is None:
            self._build_id = read_build_id(self.source, self.header)
        return self._build_id

    def section(self, name: str) -> Optional[Section]:
        """The first section called ``name``, or None."""
        for section in self.header.sections[1:]:
            if self.section_name(section) == name:
                return section
        return None

    def section_name(self, section: Section) -> str:
        """The section's name, "" if it has none that can be read."""
        if not self.header.section_names:
            return ""
        strings = self.header.sections[self.header.section_names]
        if section.name_offset >= strings.size:
            return ""
        limit = min(_MAX_SECTION_NAME, strings.size - section.name_offset)
        name = read_string(self.source, strings.offset + section.name_offset, limit)
        return name.decode("utf-8", "replace")

    def address_of_offset(self, offset: int) -> Optional[int]:
        """The ELF virtual address of file offset ``offset``, or None if it is not loaded.

        Executable segments win where two show the same bytes. The kernel maps whole pages, so
        the rest of a segment's first and last page counts as its own.
        """
        for slack in (False, True):
            for s in self._loads:
                begin, end = s.offset, s.offset + s.file_size
                if slack:
                    begin, end = begin & -_PAGE, (end + _PAGE - 1) & -_PAGE
                if begin <= offset < end:
                    address = s.address + offset - s.offset
                    return address if address >= 0 else None
        return None

    def address_without_bytes(self, offset: int, mapped: int) -> Optional[int]:
        """Like :meth:`address_of_offset` for a file of debug information, which says where code
        lies but does not hold it, and has lost its offsets (objcopy --only-keep-debug). ``mapped``
        is the offset at which the executable segment of the original was mapped. None where there
        is not just one such segment."""
        code = [s for s in self._loads if s.executable]
        if len(code) != 1 or code[0].file_size:
            return None
        begin, address = code[0].address, (code[0].address & -_PAGE) + offset - mapped
        return address if begin <= address < begin + code[0].memory_size else None

    def offset_of_address(self, address: int) -> Optional[int]:
        """The file offset of ELF virtual address ``address``, or None if no byte stands for it."""
        for s in self.header.segments:
            if s.type == SegmentType.LOAD and s.address <= address < s.address + s.file_size:
                return s.offset + address - s.address
        return None

    def load_bias(self, start: int, offset: int) -> Optional[int]:
        """What to subtract from addresses of a mapping at ``start`` of file offset ``offset`` to
        get ELF virtual addresses: 0 for fixed executables. None if nothing is loaded there.

        A mapping begins with a whole page, whose first bytes may be the end of the segment before:
        lld lets segments share pages of the file. The mappings asked about are of code.
        """
        for s in self._loads:
            if s.executable and s.offset & -_PAGE <= offset < s.offset + s.file_size:
                return start - (s.address + offset - s.offset)
        address = self.address_of_offset(offset)
        return None if address is None else start - address

    @property
    def debug_file(self) -> Optional[ElfImage]:
        """The separate file with what was stripped off this image; None if there is none, or
        nobody looks for it. Opened once, and open as long as this image is."""
        found = self.companions
        return None if found is None else self._companion("debug file", found.debug_file)

    @property
    def supplement(self) -> Optional[ElfImage]:
        """The file that .gnu_debugaltlink names, with debug information this image shares with
        others; as :attr:`debug_file`. Usually it is a debug file that has one."""
        found = self.companions
        return None if found is None else self._companion("supplement", found.supplement)

    def _companion(
        self, what: str, find: Callable[[ElfImage], Optional[ElfImage]]
    ) -> Optional[ElfImage]:
        if what not in self._found:
            self._found[what] = find(self)
        return self._found[what]

    @property
    def has_symtab(self) -> bool:
        """False when the file is stripped of all but its exported symbols."""
        return any(s.type == SectionType.SYMTAB and s.size for s in self.header.sections)

    @property
    def symtab(self) -> Optional[SymbolTable]:
        """The functions of .symtab, or None when the file is stripped."""
        return self._table(SectionType.SYMTAB)

    @property
    def dynsym(self) -> Optional[SymbolTable]:
        """The functions of .dynsym, or None when there is none."""
        return self._table(SectionType.DYNSYM)

    def find_symbol(self, address: int) -> Optional[Symbol]:
        """The function at ELF virtual address ``address``: from .symtab, else .dynsym, else the
        procedure linkage stubs. Rules in systemscope.elf.symbols."""
        for type_ in (SectionType.SYMTAB, SectionType.DYNSYM):
            table = self._table(type_)
            found = table.find(address) if table is not None else None
            if found is not None:
                return found
        return self.find_stub(address)

    def find_stub(self, address: int) -> Optional[Symbol]:
        """The procedure linkage stub at ELF virtual address ``address``, or None."""
        return self._plt_table().find(address)

    def _plt_table(self) -> PltTable:
        if self._plt is None:
            dynsym = self._table(SectionType.DYNSYM)
            name = dynsym.name if dynsym is not None else lambda offset: ""
            self._plt = PltTable(self.source, self.header, self.section_name, name)
        return self._plt

    def _table(self, type_: SectionType) -> Optional[SymbolTable]:
        if type_ not in self._tables:
            self._tables[type_] = self._read_table(type_)
        return self._tables[type_]

    def _read_table(self, type_: SectionType) -> Optional[SymbolTable]:
        sections = self.header.sections
        table = next((s for s in sections if s.type == type_ and s.size), None)
        if table is None or not 0 < table.link < len(sections):
            return None
        return SymbolTable(
            self.source,
            table,
            sections[table.link],
            sections,
            self.header.machine,
            complete=type_ is SectionType.SYMTAB,
            cache=self.cache,
        )
