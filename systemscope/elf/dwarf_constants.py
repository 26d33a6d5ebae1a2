"""The numbers of DWARF that lines and inlined functions need. Source: DWARF 5, section 7; the GNU
ones are those of binutils' include/dwarf2.def."""

from __future__ import annotations

from enum import IntEnum


class Tag(IntEnum):
    """DW_TAG: what a debugging information entry (DIE) describes. Section 7.5.3."""

    LEXICAL_BLOCK = 0x0B
    COMPILE_UNIT = 0x11
    INLINED_SUBROUTINE = 0x1D
    MODULE = 0x1E
    WITH_STMT = 0x22
    CATCH_BLOCK = 0x25
    SUBPROGRAM = 0x2E
    TRY_BLOCK = 0x32
    NAMESPACE = 0x39
    PARTIAL_UNIT = 0x3C
    SKELETON_UNIT = 0x4A


class At(IntEnum):
    """DW_AT: attributes. Section 7.5.4."""

    SIBLING = 0x01
    NAME = 0x03
    STMT_LIST = 0x10
    LOW_PC = 0x11
    HIGH_PC = 0x12
    COMP_DIR = 0x1B
    ABSTRACT_ORIGIN = 0x31
    SPECIFICATION = 0x47
    RANGES = 0x55
    CALL_FILE = 0x58
    CALL_LINE = 0x59
    LINKAGE_NAME = 0x6E
    STR_OFFSETS_BASE = 0x72
    ADDR_BASE = 0x73
    RNGLISTS_BASE = 0x74
    DWO_NAME = 0x76
    MIPS_LINKAGE_NAME = 0x2007  # what DWARF 2 and 3 had for LINKAGE_NAME
    GNU_DWO_NAME = 0x2130
    GNU_DWO_ID = 0x2131
    GNU_RANGES_BASE = 0x2132
    GNU_ADDR_BASE = 0x2133


class Form(IntEnum):
    """DW_FORM: how attributes are encoded. Sections 7.5.5 and 7.5.6."""

    ADDR = 0x01
    BLOCK2 = 0x03
    BLOCK4 = 0x04
    DATA2 = 0x05
    DATA4 = 0x06
    DATA8 = 0x07
    STRING = 0x08
    BLOCK = 0x09
    BLOCK1 = 0x0A
    DATA1 = 0x0B
    FLAG = 0x0C
    SDATA = 0x0D
    STRP = 0x0E
    UDATA = 0x0F
    REF_ADDR = 0x10
    REF1 = 0x11
    REF2 = 0x12
    REF4 = 0x13
    REF8 = 0x14
    REF_UDATA = 0x15
    INDIRECT = 0x16
    SEC_OFFSET = 0x17
    EXPRLOC = 0x18
    FLAG_PRESENT = 0x19
    STRX = 0x1A
    ADDRX = 0x1B
    REF_SUP4 = 0x1C
    STRP_SUP = 0x1D
    DATA16 = 0x1E
    LINE_STRP = 0x1F
    REF_SIG8 = 0x20
    IMPLICIT_CONST = 0x21
    LOCLISTX = 0x22
    RNGLISTX = 0x23
    REF_SUP8 = 0x24
    STRX1 = 0x25
    STRX2 = 0x26
    STRX3 = 0x27
    STRX4 = 0x28
    ADDRX1 = 0x29
    ADDRX2 = 0x2A
    ADDRX3 = 0x2B
    ADDRX4 = 0x2C
    GNU_ADDR_INDEX = 0x1F01
    GNU_STR_INDEX = 0x1F02
    GNU_REF_ALT = 0x1F20
    GNU_STRP_ALT = 0x1F21


class UnitType(IntEnum):
    """DW_UT: the kinds of units of DWARF 5. Section 7.5.1."""

    COMPILE = 1
    TYPE = 2
    PARTIAL = 3
    SKELETON = 4
    SPLIT_COMPILE = 5
    SPLIT_TYPE = 6


class LineContent(IntEnum):
    """DW_LNCT: columns of the file and directory tables of DWARF 5. Section 7.22."""

    PATH = 1
    DIRECTORY_INDEX = 2


class RangeEntry(IntEnum):
    """DW_RLE: entries of .debug_rnglists. Section 7.25."""

    END_OF_LIST = 0
    BASE_ADDRESSX = 1
    STARTX_ENDX = 2
    STARTX_LENGTH = 3
    OFFSET_PAIR = 4
    BASE_ADDRESS = 5
    START_END = 6
    START_LENGTH = 7


#: Forms whose value says which function, string or unit of the supplementary file is meant.
ALT_REFERENCES = frozenset({Form.REF_SUP4, Form.REF_SUP8, Form.GNU_REF_ALT})
ALT_STRINGS = frozenset({Form.STRP_SUP, Form.GNU_STRP_ALT})
UNIT_REFERENCES = frozenset({Form.REF1, Form.REF2, Form.REF4, Form.REF8, Form.REF_UDATA})
STRING_INDEXES = frozenset(
    {Form.STRX, Form.STRX1, Form.STRX2, Form.STRX3, Form.STRX4, Form.GNU_STR_INDEX}
)
ADDRESS_INDEXES = frozenset(
    {Form.ADDRX, Form.ADDRX1, Form.ADDRX2, Form.ADDRX3, Form.ADDRX4, Form.GNU_ADDR_INDEX}
)
