"""Line programs, run once into sorted arrays: which line of which file an address is of.

Only a change of file or line makes a row here; columns, statement marks, discriminators and views
are passed over. Of rows with one address the last counts, as in binutils and LLVM.

Source: DWARF 5, sections 6.2.2 and 6.2.5.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from operator import le
from typing import Optional

from systemscope.elf.dwarf_line_header import LineHeader
from systemscope.elf.dwarf_units import Unit
from systemscope.elf.errors import ElfError
from systemscope.elf.leb128 import read_sleb128, read_uleb128

_COPY, _ADVANCE_PC, _ADVANCE_LINE, _SET_FILE, _SET_COLUMN, _NEGATE_STMT, _BASIC_BLOCK = range(1, 8)
_CONST_ADD_PC, _FIXED_ADVANCE_PC, _PROLOGUE_END, _EPILOGUE_BEGIN, _SET_ISA = range(8, 13)
_END_SEQUENCE, _SET_ADDRESS, _DEFINE_FILE, _SET_DISCRIMINATOR = range(1, 5)

#: File 1, line 1, in the form of rows: the number of the file above the 32 bits of the line.
_BEGIN = 1 << 32 | 1
_LINE = 0xFFFFFFFF

#: (lowest address, the one behind the highest, addresses of rows, files and lines of rows)
_Sequence = tuple[int, int, "array[int]", "array[int]"]


class LineTable:
    """The lines of one unit."""

    def __init__(self, unit: Unit) -> None:
        """Raises ElfError."""
        self.header = LineHeader(unit)
        self._addresses = array("Q")
        self._rows = array("Q")
        run = _Run(self.header, unit.file.code)
        try:
            run.run()
            self._join(run.sequences)
        except IndexError:
            raise ElfError("a line table that is cut short") from None
        except OverflowError:
            raise ElfError("a line table with numbers that make no sense") from None
        self.header.data = b""

    @property
    def cost(self) -> int:
        """About how many bytes it takes."""
        return 16 * len(self._rows) + 200 * len(self.header.files)

    def find(self, address: int) -> Optional[tuple[int, int]]:
        """(number of the file, line) at ``address``; None where nothing is told. Line 0 is code
        that belongs to no line."""
        index = bisect_right(self._addresses, address) - 1
        row = self._rows[index] if index >= 0 else 0
        return (row >> 32, row & _LINE) if row else None

    def _join(self, sequences: list[_Sequence]) -> None:
        behind = 0
        for low, high, addresses, rows in sorted(sequences, key=_order):
            if low < behind:
                continue  # code that is described twice
            self._addresses.extend(addresses)
            self._rows.extend(rows)
            # The row of the next sequence, if it is at the same address, comes later and counts.
            self._addresses.append(high)
            self._rows.append(0)
            behind = high


def _order(sequence: _Sequence) -> tuple[int, int]:
    return sequence[0], -sequence[1]


class _Run:
    """The state machine of section 6.2.2."""

    def __init__(self, header: LineHeader, code: tuple[int, int]) -> None:
        self._header = header
        self._code = code
        self._file = 1
        self.sequences: list[_Sequence] = []
        base, step, width = header.opcode_base, header.step, header.line_range
        adjusted = range(-base, 256 - base)
        self._advances = [x // width * step if x >= 0 else 0 for x in adjusted]
        self._lines = [header.line_base + x % width if x >= 0 else 0 for x in adjusted]

    def run(self) -> None:
        """Run the whole program."""
        position, end = self._header.program, len(self._header.data)
        while position < end:
            position = self._sequence(position, end)

    def _sequence(self, position: int, end: int) -> int:
        """Run one sequence; the position behind it. Each turn takes a byte at least."""
        data, base = self._header.data, self._header.opcode_base
        advances, lines, other = self._advances, self._lines, self._other
        addresses, rows = array("Q"), array("Q")
        address, row, last, before, self._file = 0, _BEGIN, -1, 0, 1
        while position < end:
            opcode = data[position]
            position += 1
            if opcode >= base:
                address += advances[opcode]
                row += lines[opcode]
            elif opcode == _SET_COLUMN:
                while data[position] >= 0x80:
                    position += 1
                position += 1
                continue
            elif opcode == _NEGATE_STMT:
                continue
            elif opcode == _ADVANCE_LINE:
                change = data[position]
                if change < 0x80:  # nearly always
                    position += 1
                    row += change - (change << 1 & 0x80)
                else:
                    change, position = read_sleb128(data, position)
                    row += change
                continue
            elif opcode == 0:
                what, start, position = self._extended(position)
                if what == _END_SEQUENCE:
                    self._finish(address, addresses, rows)
                    return position
                if what == _SET_ADDRESS:
                    address = int.from_bytes(data[start : min(position, start + 8)], "little")
                continue
            elif opcode != _COPY:
                position, address, row = other(opcode, position, address, row)
                continue
            if address == last:
                rows[-1] = before = row
            elif row != before:
                addresses.append(address)
                rows.append(row)
                last, before = address, row
        return position

    def _extended(self, position: int) -> tuple[int, int, int]:
        """(what instruction, where its operands begin, position behind it), of section 6.2.5.3."""
        data = self._header.data
        length = data[position]
        position += 1
        if length >= 0x80:
            length, position = read_uleb128(data, position - 1)
        what = data[position] if length else 0
        if what == _DEFINE_FILE:
            self._header.add_file(position + 1)
        return what, position + 1, position + length

    def _other(self, opcode: int, at: int, address: int, row: int) -> tuple[int, int, int]:
        """The rarer instructions: (position, address, row) after ``opcode``."""
        data = self._header.data
        if opcode == _SET_FILE:
            file, at = read_uleb128(data, at)
            row += file - self._file << 32
            self._file = file
            return at, address, row
        if opcode == _CONST_ADD_PC:
            return at, address + self._advances[255], row
        if opcode == _ADVANCE_PC:
            change, at = read_uleb128(data, at)
            return at, address + change * self._header.step, row
        if opcode == _FIXED_ADVANCE_PC:
            return at + 2, address + int.from_bytes(data[at : at + 2], "little"), row
        for _ in range(self._header.operands[opcode - 1]):
            _, at = read_uleb128(data, at)
        return at, address, row

    def _finish(self, high: int, addresses: array[int], rows: array[int]) -> None:
        """Keep a sequence that holds code: linkers leave others behind (see dwarf_ranges)."""
        if not addresses:
            return
        low = min(addresses)
        if not self._code[0] <= low < high <= self._code[1]:
            return
        if not all(map(le, addresses, addresses[1:])):
            order = sorted(range(len(addresses)), key=addresses.__getitem__)
            addresses = array("Q", [addresses[i] for i in order])
            rows = array("Q", [rows[i] for i in order])
        self.sequences.append((low, high, addresses, rows))
