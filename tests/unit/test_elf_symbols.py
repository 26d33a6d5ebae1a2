"""Which symbol an address belongs to."""

from __future__ import annotations

import pytest

from systemscope.elf import ElfImage, Machine, plt
from tests.unit.elf_maker import (
    FUNC,
    IFUNC,
    LOCAL,
    NOTYPE,
    OBJECT,
    SECTION,
    TEXT,
    TEXT_SIZE,
    WEAK,
    Maker,
    Sym,
)

HALF = TEXT + TEXT_SIZE // 2


def name_at(symbols: list[Sym], address: int, **options: object) -> str:
    image = ElfImage.from_bytes(Maker(symbols, **options).build())  # type: ignore[arg-type]
    found = image.find_symbol(address)
    return found.name if found else ""


def test_size_decides() -> None:
    symbols = [Sym("a", TEXT, 16), Sym("b", TEXT + 32, 16)]
    image = ElfImage.from_bytes(Maker(symbols).build())
    covered = [bool(image.find_symbol(TEXT + i)) for i in range(-1, 49)]
    assert covered == [False] + [True] * 16 + [False] * 16 + [True] * 16 + [False]
    found = image.find_symbol(TEXT + 40)
    assert found is not None and (found.name, found.address, found.size) == ("b", TEXT + 32, 16)


def test_innermost_of_nested_symbols() -> None:
    symbols = [Sym("outer", TEXT, 100), Sym("inner", TEXT + 20, 10), Sym("tiny", TEXT + 22, 2)]
    assert name_at(symbols, TEXT + 21) == "inner"
    assert name_at(symbols, TEXT + 23) == "tiny"
    assert name_at(symbols, TEXT + 29) == "inner"
    assert name_at(symbols, TEXT + 50) == "outer"
    assert name_at(symbols, TEXT + 100) == ""


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (Sym("zz", 0, 8, FUNC, LOCAL), Sym("a", 0, 8, NOTYPE)),
        (Sym("zz", 0, 8, IFUNC), Sym("a", 0, 8, NOTYPE)),
        (Sym("exported", 0, 8), Sym("a", 0, 8, FUNC, LOCAL)),
        (Sym("nanosleep", 0, 8, FUNC, WEAK), Sym("__nanosleep", 0, 8)),
        (Sym("zglobal", 0, 8), Sym("aweak", 0, 8, FUNC, WEAK)),
        (Sym("short", 0, 8), Sym("alonger", 0, 8)),
        (Sym("aaa", 0, 8), Sym("bbb", 0, 8)),
        (Sym("named", 0, 8, FUNC, LOCAL), Sym("", 0, 8)),
    ],
)
def test_preference_among_aliases(better: Sym, worse: Sym) -> None:
    better.value = worse.value = TEXT
    assert name_at([better, worse], TEXT) == better.name
    assert name_at([worse, better], TEXT) == better.name


def test_alias_that_is_too_short_does_not_count() -> None:
    symbols = [Sym("a", TEXT, 4), Sym("longer", TEXT, 16)]
    assert name_at(symbols, TEXT + 2) == "a"
    assert name_at(symbols, TEXT + 8) == "longer"


def test_unsized_reaches_to_the_next_symbol() -> None:
    symbols = [Sym("_init", TEXT, 0), Sym("f", TEXT + 64, 16), Sym("tail", TEXT + 96, 0)]
    assert name_at(symbols, TEXT) == "_init"
    assert name_at(symbols, TEXT + 63) == "_init"
    assert name_at(symbols, TEXT + 64) == "f"
    assert name_at(symbols, TEXT + 80) == ""  # behind f: _init ended there
    assert name_at(symbols, TEXT + 95) == ""
    assert name_at(symbols, TEXT + 96 + 4095) == "tail"
    assert name_at(symbols, TEXT + 96 + 4096) == ""


def test_unsized_ends_with_its_section() -> None:
    symbols = [Sym("last", HALF - 16, 0)]
    assert name_at(symbols, HALF - 1) == "last"
    assert name_at(symbols, HALF) == ""
    symbols[0].section = 2  # a symbol outside the section it claims
    assert name_at(symbols, HALF - 1) == ""


def test_label_inside_a_function_does_not_reach_beyond_it() -> None:
    symbols = [Sym("f", TEXT, 32), Sym("label", TEXT + 8, 0, NOTYPE, LOCAL)]
    assert name_at(symbols, TEXT + 8) == "f"
    assert name_at(symbols, TEXT + 40) == ""


def test_unsized_exported_symbols_cover_nothing() -> None:
    assert name_at([Sym("f", TEXT, 0)], TEXT, dynamic=True) == ""
    assert name_at([Sym("f", TEXT, 8)], TEXT, dynamic=True) == "f"


def test_what_is_no_code() -> None:
    for symbol in (
        Sym("data", TEXT, 8, OBJECT),
        Sym("section", TEXT, 8, SECTION),
        Sym("undefined", TEXT, 8, section=0),
        Sym("label", TEXT, 8, NOTYPE, section=4),
    ):
        assert name_at([symbol], TEXT) == "", symbol


def test_versions_are_left_off() -> None:
    assert name_at([Sym("memcpy@@GLIBC_2.14", TEXT, 8)], TEXT) == "memcpy"


def test_arm_mapping_symbols_are_no_names() -> None:
    symbols = [Sym("$x", TEXT, 0, NOTYPE, LOCAL), Sym("_start", TEXT, 0, NOTYPE)]
    assert name_at(symbols, TEXT + 4, machine=183) == "_start"
    assert name_at(symbols[:1], TEXT + 4, machine=183) == ""
    assert name_at([Sym("$x", TEXT, 8)], TEXT) == "$x"


def test_symbols_at_the_end_of_the_address_space() -> None:
    assert name_at([Sym("wraps", (1 << 64) - 8, 16), Sym("f", TEXT, 8)], TEXT) == "f"


def test_arm_linkage_stubs() -> None:
    """A .plt as lld makes it: the header, a plain stub, and one that begins with `bti c`."""
    words = [0xA9BF7BF0, 0x90000110, 0xF9420211, 0x91100210, 0xD61F0220, *[0xD503201F] * 3]
    words += [0x90000110, 0xF9420611, 0x91102210, 0xD61F0220]
    words += [0xD503245F, 0x90000110, 0xF9420A11, 0x91104210, 0xD61F0220]
    code = b"".join(word.to_bytes(4, "little") for word in words)
    header, plain, guarded = plt.STUBS[Machine.AARCH64](code, 0x10300)
    assert header[2] == 0x30400
    assert plain == (0x10320, 0x10330, 0x30408)
    assert guarded == (0x10330, 0x10344, 0x30410)


def test_x86_linkage_stubs() -> None:
    jump = b"\xff\x25" + (0x100).to_bytes(4, "little")
    cells = jump.ljust(8, b"\x90") * 2
    assert plt.STUBS[Machine.X86_64](cells, 0x1000) == [
        (0x1000, 0x1008, 0x1106),
        (0x1008, 0x1010, 0x110E),
    ]
    guarded = (b"\xf3\x0f\x1e\xfa\xf2" + jump).ljust(16, b"\x90")
    assert plt.STUBS[Machine.X86_64](guarded, 0x1000) == [(0x1000, 0x1010, 0x110B)]
    assert plt.STUBS[Machine.X86_64](jump[:5], 0x1000) == []
