"""The name of a function by one of its DIEs.

A function of C++ is often told in three: the declaration in its class has the names, an abstract
instance refers to that by DW_AT_specification, and each place where it is inlined, and its code
outside of any, refer to the abstract instance by DW_AT_abstract_origin.

Source: DWARF 5, sections 2.13, 2.15, 3.3.8.
"""

from __future__ import annotations

from typing import Optional

from systemscope.elf.dwarf_constants import At
from systemscope.elf.dwarf_file import DebugFile
from systemscope.elf.dwarf_forms import Values, take
from systemscope.elf.dwarf_units import Unit
from systemscope.elf.errors import ElfError
from systemscope.elf.leb128 import read_uleb128

#: References are followed so far: a cycle ends there.
_MAX_HOPS = 12
_USUAL_DIE, _MAX_DIE = 256, 65_536


def function_name(file: DebugFile, offset: int) -> str:
    """The linkage name of the function whose DIE is at ``offset`` of .debug_info, else its plain
    name; "" if it has none. Raises ElfError."""
    plain = ""
    for _ in range(_MAX_HOPS):
        unit = file.unit_at(offset)
        values = _read(unit, offset)
        for attribute in (At.LINKAGE_NAME, At.MIPS_LINKAGE_NAME):
            if attribute in values:
                return unit.string(*values[attribute])
        if At.NAME in values and not plain:
            plain = unit.string(*values[At.NAME])
        following: Optional[tuple[int, object]] = None
        for attribute in (At.SPECIFICATION, At.ABSTRACT_ORIGIN):
            following = following or values.get(attribute)
        if following is None:
            break
        try:
            file, offset = unit.reference(*following)  # type: ignore[arg-type]
        except ElfError:
            break  # into a supplementary file that is not at hand
    return plain


def _read(unit: Unit, offset: int) -> Values:
    section, work = unit.file.info, unit.file.work
    room = unit.header.end - offset
    for length in (_USUAL_DIE, _MAX_DIE):
        data = section.read(offset, min(length, room))
        work.spend(_USUAL_DIE + len(data) // 16)
        try:
            code, position = read_uleb128(data, 0)
            values: Values = {}
            if take(data, position, unit.abbreviations.find(code).for_names(), values) <= len(data):
                return values
        except IndexError:
            pass
        except ElfError:
            if length == _MAX_DIE:
                raise
    raise ElfError("DWARF with a function that is cut short")
