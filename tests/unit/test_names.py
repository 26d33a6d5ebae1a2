"""Names as users meet them: demangled, from the best source, told where from, in every format."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from systemscope.elf import ElfImage
from systemscope.elf.cache import TableCache
from systemscope.elf.symbols import WORTH_KEEPING
from systemscope.exporters.formats import ExportOptions, formats
from systemscope.exporters.name_sources import name_sources
from systemscope.exporters.summary import summary
from systemscope.model import (
    Capture,
    Entry,
    FileId,
    Image,
    Mapping,
    Process,
    Profile,
    Stack,
    State,
    Thread,
)
from systemscope.model.filters import Hidden
from systemscope.symbolizer import SymbolizerOptions, symbolize
from systemscope.symbolizer.kallsyms import EMPTY, HIDDEN, MISSING, KernelSymbols
from systemscope.syscalls.cxxabi import load_demangler
from tests.unit.elf_maker import LOCAL, TEXT, Maker, Sym

BASE = 0x7F0000000000
RUST = "_RNCNvCs1234_7mycrate3foo0"
RUST_TEXT = "mycrate::foo::{closure#0}"
CXX = "_ZN1a1bIiEEvSt6vectorIT_SaIS2_EE"
CXX_TEXT = "void a::b<int>(std::vector<int, std::allocator<int> >)"


def named(image: bytes, tmp_path: Path, options: Optional[SymbolizerOptions] = None) -> Profile:
    """Both functions of an image, called once each."""
    path = tmp_path / "image"
    path.write_bytes(image)
    capture = Capture(0, 1_000_000, 0.0, 99, "cpu-clock")
    capture.threads = [Thread(7, 7, "worker", 0, 1_000_000, {State.RUNNING: 1_000_000})]
    mapping = Mapping(BASE, BASE + 0x9000, 0, "/opt/app/libmade.so", FileId(8, 1, 5))
    capture.processes = {7: Process(7, "app", [Image(0, (mapping,))])}
    capture.stacks.append(Stack(user=(BASE + TEXT, BASE + TEXT + 70)))
    capture.entries.append(Entry(0, State.RUNNING, 1, 1_000_000, 1, 50))
    return symbolize(capture, options, lambda tgid, mapping: os.open(path, os.O_RDONLY))


def names(profile: Profile) -> list[str]:
    return [frame.name for frame in profile.samples[0].frames]


IMAGE = Maker([Sym(RUST, TEXT, 64), Sym(CXX, TEXT + 64, 64)]).build()


def test_demangled_unless_asked_not_to(tmp_path: Path) -> None:
    profile = named(IMAGE, tmp_path)
    if load_demangler() is not None:
        assert names(profile) == [RUST_TEXT, CXX_TEXT] and profile.notes == []
    raw = named(IMAGE, tmp_path, SymbolizerOptions(demangle=False))
    assert names(raw) == [RUST, CXX]
    assert raw.name_sources == {("libmade.so", ".symtab"): 2}


@pytest.mark.skipif(load_demangler() is None, reason="needs libstdc++")
@pytest.mark.parametrize("form", [form for form in formats() if form.names and not form.timeline])
def test_demangled_names_survive_every_format(tmp_path: Path, form: object) -> None:
    import gzip
    import html

    profile = named(IMAGE, tmp_path)
    stream = io.BytesIO()
    form.write_bytes(profile, stream, ExportOptions())  # type: ignore[attr-defined]
    data = stream.getvalue()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    text = html.unescape(data.decode("utf-8", "replace"))
    assert RUST_TEXT in text
    # The html page writes < and > of its data in JSON's way.
    text = text.replace("\\u003c", "<").replace("\\u003e", ">")
    name = form.name  # type: ignore[attr-defined]
    assert CXX_TEXT in text or name == "text"  # which shows functions that have time of their own
    if name == "folded":
        assert text == f"worker;{CXX_TEXT};{RUST_TEXT};[running] 1000\n"


def test_where_names_came_from(tmp_path: Path) -> None:
    few = {("a", ".symtab"): 3, ("b", ".dynsym"): 1, ("b", "linkage stubs"): 1_000}
    assert name_sources(few) == ["a from .symtab", "b from linkage stubs (1,000), .dynsym (1)"]
    many = {(f"lib{i}\x1b", ".dynsym" if i else "MiniDebugInfo"): 5 for i in range(9)}
    assert name_sources(many) == ["40 from .dynsym in 8 files", "5 from MiniDebugInfo in 1 file"]
    assert name_sources({("a\x1b[31m", ""): 1}) == ["a_[31m from somewhere else"]
    profile = named(IMAGE, tmp_path, SymbolizerOptions(demangle=False))
    shown = summary(profile.capture, Hidden(), verbose=True, sources=profile.name_sources)
    at = next(i for i, line in enumerate(shown) if line.startswith("  names "))
    assert shown[at + 1].strip() == "libmade.so from .symtab"
    assert not any("from .symtab" in line for line in summary(profile.capture, Hidden()))


# -- symbol tables on disk -----------------------------------------------------------------------


def large(count: int, build_id: bytes = b"\x12\x34", first: str = "f0") -> bytes:
    symbols = [Sym(first, TEXT, 1)]
    symbols += [Sym(f"f{i}", TEXT + i, i % 2, bind=LOCAL * (i % 3)) for i in range(1, count)]
    return Maker(symbols, build_id=build_id).build()


def asked(image: ElfImage) -> list[object]:
    return [image.find_symbol(TEXT + i) for i in (0, 1, 2, 500, 501, 20_000)]


def test_tables_are_kept_and_taken_up(tmp_path: Path) -> None:
    data = large(WORTH_KEEPING // 24 + 10)
    plain = asked(ElfImage.from_bytes(data))
    for expected in (1, 1):
        image = ElfImage.from_bytes(data)
        image.cache = TableCache(str(tmp_path), 64 << 20)
        assert asked(image) == plain
        assert image.cache.problem == ""
        assert len(list(tmp_path.iterdir())) == expected
        image.cache.close()


def test_a_forged_build_id_spoils_nothing(tmp_path: Path) -> None:
    count = WORTH_KEEPING // 24 + 10
    cache = TableCache(str(tmp_path), 64 << 20)
    # The same build ID and the same table, but the name is another: names stay in the file.
    for first in ("honest", "forged"):
        image = ElfImage.from_bytes(large(count, first=first))
        image.cache = cache
        symbol = image.find_symbol(TEXT)
        assert symbol is not None and symbol.name == first
    # The same build ID, another table.
    moved = ElfImage.from_bytes(large(count + 1))
    moved.cache = cache
    assert asked(moved) == asked(ElfImage.from_bytes(large(count + 1)))
    cache.close()


def test_a_kept_table_of_another_length_is_made_anew(tmp_path: Path) -> None:
    data = large(WORTH_KEEPING // 24 + 10)

    class Wrong(TableCache):
        def get(self, key: str) -> Optional[bytes]:
            found = super().get(key)
            return None if found is None else found[:-3]

    for _ in range(2):
        image = ElfImage.from_bytes(data)
        image.cache = Wrong(str(tmp_path), 64 << 20)
        assert asked(image) == asked(ElfImage.from_bytes(data))
        image.cache.close()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_kept_tables(kept: bytes) -> None:
    class Fixed(TableCache):
        def get(self, key: str) -> Optional[bytes]:
            return kept

        def put(self, key: str, data: bytes) -> None:
            pass

    image = ElfImage.from_bytes(DATA)
    image.cache = Fixed("", 0)
    asked(image)


DATA = large(WORTH_KEEPING // 24 + 10)

# -- the kernel's --------------------------------------------------------------------------------


def test_why_the_kernel_has_no_names(tmp_path: Path) -> None:
    table = tmp_path / "kallsyms"
    assert KernelSymbols.read(str(table)).problem == MISSING
    table.write_text("")
    assert KernelSymbols.read(str(table)).problem == EMPTY
    table.write_text("0000000000000000 T a\n0000000000000000 T b\n")
    assert KernelSymbols.read(str(table)).problem == HIDDEN
    table.write_text("ffffffff81000000 T a\n")
    assert KernelSymbols.read(str(table)).problem == ""
    assert "Is a directory" in KernelSymbols.read(str(tmp_path)).problem
    profile = Capture(0, 1, 0.0, 99, "")
    profile.threads = [Thread(7, 7, "x", 0, 1)]
    profile.stacks.append(Stack(kernel=(0xFFFFFFFF81000010,)))
    profile.entries.append(Entry(0, State.RUNNING, 1, 1, 1, 0))
    table.write_text("")
    (note,) = symbolize(profile, SymbolizerOptions(kallsyms=str(table))).notes
    assert note == f"kernel frames have no names: {EMPTY}"
    table.write_text(f"ffffffff81000000 t {RUST}\nffffffff81000100 T _etext\n")
    for demangle, name in ((True, RUST_TEXT), (False, RUST)):
        options = SymbolizerOptions(kallsyms=str(table), demangle=demangle)
        assert symbolize(profile, options).samples[0].frames[0].name == name
