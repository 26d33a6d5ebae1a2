"""The .debug_* sections of an image, read piece by piece, and what working through them may cost.

Sections that are not compressed stay in the file. Compressed ones have to be held whole.
"""

from __future__ import annotations

from systemscope.elf.compressed import decompressed, is_compressed, read_bytes
from systemscope.elf.errors import ElfError
from systemscope.elf.header import Section, SectionType
from systemscope.elf.image import ElfImage
from systemscope.elf.source import MemorySource, Source, read_string

#: What one image may take in memory for compressed sections: one of them, and all.
MAX_INFLATED = 128 << 20
MAX_INFLATED_IN_ALL = 256 << 20

MAX_NAME = 16_384
#: Reads of so many bytes at most bring more with them.
_SMALL, _AHEAD = 4096, 16_384


class Work:
    """What is left of the work that one file is worth, about in bytes decoded.

    A deterministic bound, so that the same file gives the same answers on every machine.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit
        self.problem = ""  # says so when it was not enough

    def spend(self, amount: int) -> None:
        """Count ``amount``. Raises ElfError when it is more than what is left."""
        if amount > self._left:
            self._left = 0
            self.problem = "more DWARF than is worked through for one file"
            raise ElfError(self.problem)
        self._left -= amount


class DebugSection:
    """``size`` bytes of DWARF. Of a section that is not there, none."""

    def __init__(self, source: Source, offset: int, size: int) -> None:
        self._source = source
        self._offset = offset
        self.size = max(min(size, source.size - offset), 0)
        self._ahead = b""  # what was read last, because what follows is often next
        self._ahead_at = 0

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``, fewer at the end. Raises ElfError when unreadable."""
        at = offset - self._ahead_at
        if 0 <= at and at + length <= len(self._ahead):
            return self._ahead[at : at + length]
        if offset < 0 or offset >= self.size:
            return b""
        if length > _SMALL:
            return read_bytes(self._source, self._offset + offset, min(length, self.size - offset))
        ahead = min(_AHEAD, self.size - offset)
        self._ahead = read_bytes(self._source, self._offset + offset, ahead)
        self._ahead_at = offset
        return self._ahead[:length]

    def number(self, offset: int, length: int) -> int:
        """The number of ``length`` bytes at ``offset``. Raises ElfError when it is not there."""
        data = self.read(offset, length)
        if len(data) < length:
            raise ElfError("DWARF that refers to what is not there")
        return int.from_bytes(data, "little")

    def string(self, offset: int) -> str:
        """The string at ``offset``, cut at MAX_NAME bytes. Raises ElfError."""
        if not 0 <= offset < self.size:
            raise ElfError("DWARF that refers to a string that is not there")
        at = offset - self._ahead_at
        end = self._ahead.find(0, at) if 0 <= at < len(self._ahead) else -1
        if 0 <= end - at <= MAX_NAME:
            return self._ahead[at:end].decode("utf-8", "replace")
        limit = min(MAX_NAME, self.size - offset)
        name = read_string(self._source, self._offset + offset, limit)
        return name.decode("utf-8", "replace")


class DebugSections:
    """All of an image, or of a .dwo file, where names end in ".dwo". Raises ElfError."""

    def __init__(self, image: ElfImage, suffix: str = "") -> None:
        self._image = image
        self._suffix = suffix
        self._left = MAX_INFLATED_IN_ALL
        self._known: dict[str, DebugSection] = {}
        self._by_name: dict[str, Section] = {}
        for section in image.header.sections[1:]:
            if section.size and section.type != SectionType.NOBITS:
                self._by_name.setdefault(image.section_name(section), section)

    def get(self, name: str) -> DebugSection:
        """The section ``name``, such as "info", of no bytes if there is none."""
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = self._open(f"debug_{name}{self._suffix}")
        return found

    def _open(self, name: str) -> DebugSection:
        for known in ("." + name, ".z" + name):
            section = self._by_name.get(known)
            if section is not None:
                if not is_compressed(section, known):
                    return DebugSection(self._image.source, section.offset, section.size)
                return self._inflate(section, known)
        return DebugSection(MemorySource(b""), 0, 0)

    def _inflate(self, section: Section, name: str) -> DebugSection:
        raw = read_bytes(self._image.source, section.offset, min(section.size, MAX_INFLATED))
        data = decompressed(section, name, raw, min(MAX_INFLATED, self._left))
        self._left -= len(data)
        return DebugSection(MemorySource(data), 0, len(data))
