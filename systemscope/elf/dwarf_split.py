"""Split DWARF: the bulk of a unit in a .dwo file, of which the program holds a skeleton only.

Sources: DWARF 5, sections 3.1.2, 3.1.3 and 7.3.2; https://gcc.gnu.org/wiki/DebugFission for
version 4.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional

from systemscope.elf.dwarf_constants import At, Tag
from systemscope.elf.dwarf_file import DebugFile
from systemscope.elf.dwarf_units import Unit
from systemscope.elf.errors import ElfError
from systemscope.elf.image import ElfImage
from systemscope.elf.source import Source

#: A .dwo file has the DIEs of one unit, and of types.
_MAX_UNITS = 4096


class SplitName(NamedTuple):
    """What the skeleton tells of its .dwo file. The names come from the file that is read, and are
    no more to be trusted than that."""

    name: str
    directory: str  # what a relative name is relative to
    id: int  # both files have it


#: Finds a .dwo file. What it gives must stay readable while the resolver is used; None if there is
#: no such file. It may raise ElfError.
SplitOpener = Callable[[SplitName], Optional[Source]]


def split_name(unit: Unit) -> Optional[SplitName]:
    """The .dwo file of a skeleton, None if the unit is whole. Raises ElfError."""
    name = unit.text(At.DWO_NAME) or unit.text(At.GNU_DWO_NAME)
    if not name:
        return None
    return SplitName(name, unit.text(At.COMP_DIR), _id(unit))


def bulk_of(skeleton: Unit, name: SplitName, opener: SplitOpener) -> Optional[Unit]:
    """The unit in the .dwo file, None if that is not to be had. Raises ElfError."""
    source = opener(name)
    if source is None:
        return None
    image = ElfImage(source, relocatable=True)
    file = DebugFile(image, skeleton.file.work, skeleton=skeleton)
    for offset in file.offsets[:_MAX_UNITS]:
        unit = file.unit(offset)
        if unit.tag == Tag.COMPILE_UNIT:
            if _id(unit) == name.id:
                return unit
            raise ElfError("a .dwo file of another build")
    return None


def _id(unit: Unit) -> int:
    return unit.header.dwo_id or unit.number(At.GNU_DWO_ID)
