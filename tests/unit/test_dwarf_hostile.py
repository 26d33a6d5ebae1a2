"""Debug information of compiled programs, damaged at random: an answer, in bounded time, always."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple, Optional

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from systemscope.elf import ElfImage, MemorySource, Source, SymbolResolver
from systemscope.elf.dwarf_resolver import LineResolver
from systemscope.elf.dwarf_split import SplitName
from tests.unit.dwarf_maker import USUAL, image, unit
from tests.unit.dwarf_oracles import C_SOURCE, build, code_addresses
from tests.unit.test_dwarf_rules import LINES, TEXT, simple

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
FORMS = {
    "version 2": ["-gdwarf-2"],
    "version 4": ["-gdwarf-4"],
    "version 5": ["-gdwarf-5"],
    "wide": ["-gdwarf-5", "-gdwarf64"],
    "split": ["-gdwarf-5", "-gsplit-dwarf"],
    "old split": ["-gdwarf-4", "-gsplit-dwarf"],
}
#: Numbers that break things: signs, lengths, indexes, forms, tags.
_NASTY = [0, 1, 0x08, 0x0A, 0x16, 0x21, 0x2E, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFFFFFF, (1 << 63) - 1]
_CHANGES = st.lists(
    st.tuples(st.integers(0, 1 << 20), st.sampled_from(_NASTY), st.sampled_from([1, 1, 2, 4, 8])),
    min_size=1,
    max_size=6,
)
_SETTINGS = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


class Made(NamedTuple):
    """A program, where in it debug sections lie, and some addresses."""

    data: bytes
    spans: list[tuple[int, int]]
    addresses: list[int]
    split: bytes


def sections_of(data: bytes) -> list[tuple[int, int]]:
    """Offset and size of each debug section, the large ones once, the small ones often."""
    opened = ElfImage(MemorySource(data), relocatable=True)
    found = []
    for section in opened.header.sections[1:]:
        name = opened.section_name(section)
        if name.startswith(".debug_") and "loc" not in name and section.size:
            times = 4 if "abbrev" in name or "line" == name[7:11] else 2
            found += [(section.offset, section.size)] * times
    return found


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    made = {}
    for name, flags in FORMS.items():
        directory = tmp_path_factory.mktemp("dwarf")
        path = build(directory, "program", flags, C_SOURCE)
        data = path.read_bytes()
        dwo = [one.read_bytes() for one in Path(directory).glob("*.dwo")]
        addresses = code_addresses(ElfImage.from_bytes(data), 12)
        made[name] = Made(data, sections_of(data), addresses, dwo[0] if dwo else b"")
    return made


def damaged(
    data: bytes, spans: list[tuple[int, int]], changes: list[tuple[int, int, int]]
) -> bytes:
    changed = bytearray(data)
    for position, value, width in changes:
        offset, size = spans[position % len(spans)]
        at = offset + position // len(spans) % size
        changed[at : at + width] = (value & (1 << 8 * width) - 1).to_bytes(width, "little")
    return bytes(changed[: len(data)])


def explore(
    data: bytes, addresses: list[int], split: bytes = b"", supplement: bool = False
) -> None:
    """Ask for everything; nothing may come out but answers that the symbols agree with."""

    def open_split(name: SplitName) -> Optional[Source]:
        return MemorySource(split) if split else None

    opened = ElfImage.from_bytes(data)
    symbols = SymbolResolver(opened)
    resolver = LineResolver(
        opened, split=open_split, supplement=opened if supplement else None, work=32 << 20
    )
    for address in addresses:
        found = resolver.resolve(address)
        named = symbols.resolve(address)
        if named:
            assert (found[-1].name, found[-1].offset) == (named[0].name, named[0].offset)
        for one in found:
            assert one.name and one.line >= 0 and isinstance(one.file, str)


@needs_cc
@pytest.mark.parametrize("form", FORMS)
@_SETTINGS
@given(changes=_CHANGES)
def test_damaged_programs(
    programs: dict[str, Made], form: str, changes: list[tuple[int, int, int]]
) -> None:
    made = programs[form]
    if made.split:
        explore(made.data, made.addresses, damaged(made.split, sections_of(made.split), changes))
    explore(damaged(made.data, made.spans, changes), made.addresses, made.split)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=80), st.binary(max_size=80))
def test_arbitrary_bytes(info: bytes, abbrev: bytes, line: bytes) -> None:
    addresses = [0, TEXT, TEXT + 20, (1 << 64) - 1]
    for one, two, three in (
        (info, abbrev, line),
        (unit(info), USUAL, LINES),
        (unit(info, version=5), USUAL + abbrev, LINES),
        (simple(info), abbrev + USUAL, LINES + line),
        (simple(), USUAL, LINES[:-20] + line),
    ):
        sections = {".debug_info": one, ".debug_abbrev": two, ".debug_line": three}
        for more in (".debug_aranges", ".debug_rnglists", ".debug_addr", ".debug_str"):
            sections[more] = info
        explore(image(sections), addresses, supplement=True)
