"""How long attributes are, and programs that take some attributes of a DIE and step over the rest.

Most attributes of most DIEs are of no interest here. For each abbreviation the fixed lengths of
neighbours are added up once, so that a DIE costs as many steps as it has attributes of interest or
of variable length: attributes without any bytes, of which a hostile abbreviation can have
thousands, cost nothing.

Source: DWARF 5, sections 7.5.5 and 7.5.6.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Union

from systemscope.elf.dwarf_constants import Form
from systemscope.elf.errors import ElfError
from systemscope.elf.leb128 import read_sleb128, read_uleb128

#: Attribute -> (form, value): a number, or the bytes of a DW_FORM_string.
Values = dict[int, tuple[int, Union[int, bytes]]]

#: (what to do, a number of bytes or a constant, attribute, form)
Step = tuple[int, int, int, int]

#: What to do. The first ones step over an attribute, the others take it.
_FIXED, _LEB, _BLOCK, _SIZED, _TEXT, _INDIRECT = range(6)
_TAKE_FIXED, _TAKE_LEB, _TAKE_SIGNED, _TAKE_TEXT, _TAKE_CONSTANT = range(6, 11)

_FIXED_SIZES = {
    Form.ADDR: 8, Form.DATA1: 1, Form.DATA2: 2, Form.DATA4: 4, Form.DATA8: 8, Form.DATA16: 16,
    Form.FLAG: 1, Form.FLAG_PRESENT: 0, Form.REF1: 1, Form.REF2: 2, Form.REF4: 4, Form.REF8: 8,
    Form.REF_SIG8: 8, Form.REF_SUP4: 4, Form.REF_SUP8: 8, Form.STRX1: 1, Form.STRX2: 2,
    Form.STRX3: 3, Form.STRX4: 4, Form.ADDRX1: 1, Form.ADDRX2: 2, Form.ADDRX3: 3, Form.ADDRX4: 4,
}  # fmt: skip
_OFFSETS = frozenset(
    {Form.STRP, Form.SEC_OFFSET, Form.LINE_STRP, Form.STRP_SUP, Form.GNU_REF_ALT, Form.GNU_STRP_ALT}
)
_LEBS = frozenset(
    {
        Form.UDATA, Form.REF_UDATA, Form.STRX, Form.ADDRX, Form.LOCLISTX, Form.RNGLISTX,
        Form.GNU_ADDR_INDEX, Form.GNU_STR_INDEX,
    }
)  # fmt: skip
_BLOCK_LENGTHS = {Form.BLOCK1: 1, Form.BLOCK2: 2, Form.BLOCK4: 4}


def step_of(attribute: int, form: int, constant: int, wide: bool, ref_addr: int) -> Step:
    """The step that takes ``attribute``. ``constant`` is its value for DW_FORM_implicit_const,
    ``wide`` says the unit is of 64-bit DWARF, ``ref_addr`` is the length of a DW_FORM_ref_addr.
    Raises ElfError for an unknown form."""
    size = _FIXED_SIZES.get(form)  # type: ignore[call-overload]  # a plain number finds its Form
    if form in _OFFSETS:
        size = 8 if wide else 4
    elif form == Form.REF_ADDR:
        size = ref_addr
    if size is not None:
        return _TAKE_FIXED, size, attribute, form
    if form in _LEBS:
        return _TAKE_LEB, 0, attribute, form
    if form == Form.SDATA:
        return _TAKE_SIGNED, 0, attribute, form
    if form == Form.STRING:
        return _TAKE_TEXT, 0, attribute, form
    if form == Form.IMPLICIT_CONST:
        return _TAKE_CONSTANT, constant, attribute, form
    if form in (Form.BLOCK, Form.EXPRLOC):
        return _BLOCK, 0, 0, form
    if form in _BLOCK_LENGTHS:
        return _SIZED, _BLOCK_LENGTHS[Form(form)], 0, form
    if form == Form.INDIRECT:
        return _INDIRECT, int(wide) << 8 | ref_addr, attribute, form
    raise ElfError(f"DWARF of an unknown form {form:#x}")


_STEPPING_OVER = {_TAKE_LEB: _LEB, _TAKE_SIGNED: _LEB, _TAKE_TEXT: _TEXT}


def program(steps: Iterable[Step], wanted: frozenset[int]) -> tuple[Step, ...]:
    """``steps`` made to take ``wanted`` attributes, each once, and to step over all others."""
    made: list[Step] = []
    gap = 0
    left = set(wanted)
    for kind, number, attribute, form in steps:
        take = attribute in left
        if kind == _TAKE_FIXED and not take:
            gap += number
            continue
        if kind == _TAKE_CONSTANT and not take:
            continue
        if gap:
            made.append((_FIXED, gap, 0, 0))
            gap = 0
        if take:
            left.discard(attribute)
            made.append((kind, number, attribute, form))
        else:
            made.append((_STEPPING_OVER.get(kind, kind), number, 0, form))
    if gap:
        made.append((_FIXED, gap, 0, 0))
    return tuple(made)


def fixed_size(steps: tuple[Step, ...]) -> int:
    """The bytes that a program without wanted attributes steps over, -1 if they vary."""
    if not steps:
        return 0
    return steps[0][1] if len(steps) == 1 and steps[0][0] == _FIXED else -1


def skip(data: bytes, position: int, steps: tuple[Step, ...]) -> int:
    """The position behind the attributes at ``position``, by a program without wanted ones.
    Raises ElfError or IndexError where the data end before."""
    for kind, number, _, _ in steps:
        if kind == _FIXED:
            position += number
        elif kind == _BLOCK:
            length = data[position]
            position += 1
            if length >= 0x80:
                length, position = read_uleb128(data, position - 1)
            position += length
        elif kind == _LEB:
            while data[position] >= 0x80:
                position += 1
            position += 1
        else:
            position = _step_over(data, position, kind, number)
    return position


def _step_over(data: bytes, position: int, kind: int, number: int) -> int:
    if kind == _SIZED:
        length = int.from_bytes(data[position : position + number], "little")
        return position + number + length
    if kind == _TEXT:
        end = data.find(0, position)
        if end < 0:
            raise ElfError("a string without an end in DWARF")
        return end + 1
    return _indirect(data, position, number, 0, {})


def take(data: bytes, position: int, steps: tuple[Step, ...], values: Values) -> int:
    """Put the attributes at ``position`` that the program takes into ``values``; the position
    behind all of them. Errors as of :func:`skip`."""
    for step in steps:
        kind, number, attribute, form = step
        if kind == _FIXED:
            position += number
        elif kind == _TAKE_FIXED:
            values[attribute] = form, int.from_bytes(data[position : position + number], "little")
            position += number
        elif kind == _TAKE_CONSTANT:
            values[attribute] = form, number
        elif kind == _TAKE_LEB:
            number, position = read_uleb128(data, position)
            values[attribute] = form, number
        elif kind == _TAKE_SIGNED:
            number, position = read_sleb128(data, position)
            values[attribute] = form, number
        elif kind == _TAKE_TEXT:
            end = _step_over(data, position, _TEXT, 0)
            values[attribute] = form, data[position : end - 1]
            position = end
        elif kind == _INDIRECT:
            position = _indirect(data, position, number, attribute, values)
        else:
            position = skip(data, position, (step,))
    return position


def _indirect(data: bytes, position: int, number: int, attribute: int, values: Values) -> int:
    """The form itself precedes the value. Section 7.5.3."""
    form, position = read_uleb128(data, position)
    if form in (Form.INDIRECT, Form.IMPLICIT_CONST):
        raise ElfError("DWARF with an indirect form of an indirect form")
    step = step_of(attribute, form, 0, bool(number >> 8), number & 0xFF)
    return take(data, position, (step,), values)
