"""The head of a line table: how its program is encoded, and the files it names.

Source: DWARF 5, section 6.2.4; DWARF 4, section 6.2.4, for versions 2 to 4.
"""

from __future__ import annotations

from typing import Union

from systemscope.elf.dwarf_constants import At, Form, LineContent
from systemscope.elf.dwarf_forms import Step, Values, step_of, take
from systemscope.elf.dwarf_units import Unit, unit_length
from systemscope.elf.errors import ElfError
from systemscope.elf.leb128 import read_uleb128

#: The longest line table of one unit.
MAX_LINE_BYTES = 8 << 20
_MAX_COLUMNS = 16
_MAX_FILES = 65_536

#: (form, value) of a path, as attributes are kept.
Text = tuple[int, Union[int, bytes]]


class LineHeader:
    """The head of the line table at the offset that the unit tells. ``data`` is the whole table,
    ``program`` where in it the instructions begin. Raises ElfError."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        section = unit.file.sections.get("line")
        offset = unit.number(At.STMT_LIST, -1)
        length, self.wide, at = unit_length(section.read(offset, 12))
        if length > MAX_LINE_BYTES:
            raise ElfError("a line table longer than is worked through")
        unit.file.work.spend(length)
        self.data = section.read(offset, length)
        self.directories: list[Text] = []
        self.files: list[tuple[Text, int]] = []  # (name, number of its directory)
        self._paths: dict[int, str] = {}
        try:
            self._read(at)
        except IndexError:
            raise ElfError("a line table that is cut short") from None

    def path(self, number: int) -> str:
        """The full path of a file by the number that the program and call_file attributes use, ""
        if there is none such. Raises ElfError."""
        found = self._paths.get(number)
        if found is None:
            found = self._paths[number] = self._path(number)
        return found

    def _path(self, number: int) -> str:
        # Numbers begin at 1 before version 5.
        index = number if self.version >= 5 else number - 1
        if not 0 <= index < len(self.files):
            return ""
        (name, directory) = self.files[index]
        path = self._unit.string(*name)
        if not path:
            return ""
        listed = directory if self.version >= 5 else directory - 1
        where = ""
        if 0 <= listed < len(self.directories) and not path.startswith("/"):
            where = self._unit.string(*self.directories[listed])
        root = ""
        if not (where or path).startswith("/") and not (
            self.version >= 5 and listed == 0 and where
        ):
            # Directory 0 of version 5 is that of the compilation, in words that may be relative.
            root = self._unit.text(At.COMP_DIR)
        return _joined(_joined(root, where), path)

    def _read(self, at: int) -> None:
        data, width = self.data, 8 if self.wide else 4
        self.version = int.from_bytes(data[at : at + 2], "little")
        at += 2
        if not 2 <= self.version <= 5:
            raise ElfError(f"a line table of version {self.version}")
        if self.version == 5:
            if data[at : at + 2] != b"\x08\0":  # sizes of addresses and segment selectors
                raise ElfError("a line table with addresses that are not of 64 bits")
            at += 2
        self.program = at + width + int.from_bytes(data[at : at + width], "little")
        at += width
        self.step = data[at]  # minimum_instruction_length
        at += 1
        if self.version >= 4:
            if data[at] > 1:
                raise ElfError("a line table of a machine with long instruction words")
            at += 1
        self.line_base = int.from_bytes(data[at + 1 : at + 2], "little", signed=True)
        self.line_range, self.opcode_base = data[at + 2], data[at + 3]
        if not self.line_range or not self.opcode_base or self.program > len(data):
            raise ElfError("a line table whose head makes no sense")
        at += 4
        self.operands = data[at : at + self.opcode_base - 1]
        at += self.opcode_base - 1
        if self.version == 5:
            self._read_tables(at)
        else:
            self._read_lists(at)

    def _read_lists(self, at: int) -> None:
        """Versions 2 to 4: lists that end with an empty string."""
        while self.data[at] and len(self.directories) < _MAX_FILES:
            name, at = _text(self.data, at)
            self.directories.append((Form.STRING, name))
        at += 1
        while self.data[at]:
            at = self.add_file(at)

    def add_file(self, at: int) -> int:
        """A file in the form of versions 2 to 4, and of DW_LNE_define_file; the position behind
        it."""
        name, at = _text(self.data, at)
        directory, at = read_uleb128(self.data, at)
        _, at = read_uleb128(self.data, at)  # time of modification
        _, at = read_uleb128(self.data, at)  # length
        if len(self.files) >= _MAX_FILES:
            raise ElfError("a line table of more files than any program has")
        self.files.append(((Form.STRING, name), directory))
        return at

    def _read_tables(self, at: int) -> None:
        """Version 5: tables that tell their columns."""
        rows, at = self._table(at)
        self.directories = [name for name, _ in rows]
        self.files, _ = self._table(at)

    def _table(self, at: int) -> tuple[list[tuple[Text, int]], int]:
        data, columns = self.data, data_columns(self.data, at, self.wide)
        steps, at = columns
        count, at = read_uleb128(data, at)
        if count > _MAX_FILES:
            raise ElfError("a line table of more files than any program has")
        rows: list[tuple[Text, int]] = []
        for _ in range(count):
            values: Values = {}
            after = take(data, at, steps, values)
            if not at < after <= len(data):
                raise ElfError("a line table with a list of files that does not end")
            at = after
            directory = values.get(LineContent.DIRECTORY_INDEX, (0, 0))[1]
            name = values.get(LineContent.PATH, (int(Form.STRING), b""))
            rows.append((name, directory if isinstance(directory, int) else 0))
        return rows, at


def data_columns(data: bytes, at: int, wide: bool) -> tuple[tuple[Step, ...], int]:
    """The columns of a table of version 5, as steps that take them all."""
    count = data[at]
    at += 1
    if count > _MAX_COLUMNS:
        raise ElfError("a line table with too many columns")
    steps = []
    for _ in range(count):
        content, at = read_uleb128(data, at)
        form, at = read_uleb128(data, at)
        steps.append(step_of(content, form, 0, wide, 8 if wide else 4))
    return tuple(steps), at


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    end = data.find(0, at)
    if end < 0:
        raise ElfError("a line table that is cut short")
    return data[at:end], end + 1


def _joined(directory: str, name: str) -> str:
    """Plain joining: to take out ".." could lead elsewhere where a directory is a link."""
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    if not directory or name.startswith("/"):
        return name
    if not name or name == ".":
        return directory
    return directory + name if directory.endswith("/") else f"{directory}/{name}"
