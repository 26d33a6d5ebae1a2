"""Lines and inlined functions of compiled programs, against binutils and LLVM."""

from __future__ import annotations

import os
import posixpath
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Optional

import pytest

from systemscope.elf import ElfImage, MemorySource, Source, SymbolResolver
from systemscope.elf.dwarf_resolver import LineResolver
from systemscope.elf.dwarf_split import SplitName
from systemscope.symbolizer.lines import SplitFiles
from tests.unit.dwarf_oracles import (
    C_SOURCE,
    CXX_SOURCE,
    addr2line,
    build,
    code_addresses,
    disagreement,
    llvm_symbolizer,
    told_by_us,
)

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
_COUNT = 500

FLAGS = {
    "version 2": ["-gdwarf-2"],
    "version 3": ["-gdwarf-3"],
    "version 4": ["-gdwarf-4"],
    "version 5": ["-gdwarf-5"],
    "64-bit version 4": ["-gdwarf-4", "-gdwarf64"],
    "64-bit version 5": ["-gdwarf-5", "-gdwarf64"],
    "compressed": ["-g", "-gz=zlib"],
    "split version 4": ["-gdwarf-4", "-gsplit-dwarf"],
    "split version 5": ["-gdwarf-5", "-gsplit-dwarf"],
    "split and compressed": ["-gdwarf-5", "-gsplit-dwarf", "-gz=zlib"],
    "sections": ["-g", "-ffunction-sections", "-Wl,--gc-sections"],
    "link-time": ["-g", "-flto"],
    "type units": ["-g", "-fdebug-types-section"],
    "not optimised": ["-g", "-O0"],
    "macros": ["-g3", "-O3"],
    "fixed": ["-g", "-no-pie"],
    "lines only": ["-g1"],
}


@pytest.fixture
def opened() -> Iterator[list[int]]:
    """Descriptors that are closed afterwards."""
    descriptors: list[int] = []
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


def image_of(path: Path, opened: list[int]) -> ElfImage:
    opened.append(os.open(path, os.O_RDONLY))
    return ElfImage.from_descriptor(opened[-1])


def without_symbols(program: Path) -> Path:
    """A copy that has nothing but its debug information to tell names by."""
    bare = program.with_name("bare")
    keep = "--keep-section=.debug*"
    subprocess.run(["objcopy", "--strip-all", keep, program, bare], check=True)
    return bare


def made(directory: Path, name: str, flags: list[str], source: str = C_SOURCE) -> Path:
    try:
        return build(directory, name, flags, source)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"the compiler does not take {flags}: {error.stderr[-200:]!r}")


#: C++ is slow to compile: what makes a difference there.
CXX = ("version 3", "version 5", "split version 5", "link-time", "not optimised", "macros")


@pytest.mark.parametrize(
    ("kind", "source"),
    [*((kind, C_SOURCE) for kind in FLAGS), *((kind, CXX_SOURCE) for kind in CXX)],
    ids=[*FLAGS, *(f"{kind} of C++" for kind in CXX)],
)
def test_every_form_against_llvm(tmp_path: Path, opened: list[int], kind: str, source: str) -> None:
    program = made(tmp_path, "program", FLAGS[kind], source)
    image = image_of(program, opened)
    resolver = LineResolver(image, split=SplitFiles().open)
    symbols = SymbolResolver(image)
    addresses = code_addresses(image, _COUNT)
    ours = {address: resolver.resolve(address) for address in addresses}
    assert resolver.problem == ""
    assert sum(1 for found in ours.values() if found[0].line) > len(ours) * 0.6
    for address, found in ours.items():
        (symbol,) = symbols.resolve(address)
        assert (found[-1].name, found[-1].offset) == (symbol.name, symbol.offset)
        assert [one.inlined for one in found] == [True] * (len(found) - 1) + [False]
        assert all(0 <= one.offset for one in found)
    if "-O0" not in FLAGS[kind]:
        assert sum(len(found) - 1 for found in ours.values()) > len(ours) * 0.5
    theirs = llvm_symbolizer(program, addresses)
    if theirs is None:
        pytest.skip("needs llvm-symbolizer")
    differ = [
        (hex(address), what)
        for address, found in ours.items()
        if found[-1].file
        for what in [disagreement(told_by_us(found), theirs[address])]
        if what
    ]
    assert not differ


@pytest.mark.parametrize("kind", ["version 2", "version 3", "version 4", "version 5", "compressed"])
def test_plain_forms_against_binutils(tmp_path: Path, opened: list[int], kind: str) -> None:
    program = made(tmp_path, "program", FLAGS[kind])
    image = image_of(program, opened)
    addresses = code_addresses(image, _COUNT)
    theirs = addr2line(program, addresses)
    if theirs is None:
        pytest.skip("needs addr2line")
    resolver = LineResolver(image)
    for address in addresses:
        found = resolver.resolve(address)
        if found[-1].file:
            assert not disagreement(told_by_us(found), theirs[address]), hex(address)


def test_old_form_of_compression(tmp_path: Path, opened: list[int]) -> None:
    """.zdebug sections, which neither LLVM 19 nor binutils 2.40 reads for this."""
    plain = made(tmp_path, "plain", ["-g"])
    packed = made(tmp_path, "packed", ["-g", "-gz=zlib-gnu"])
    image = image_of(packed, opened)
    if image.section(".zdebug_info") is None:
        pytest.skip("this linker does not make them")
    expected, resolver = LineResolver(image_of(plain, opened)), LineResolver(image)
    for address in code_addresses(image, 300):
        found = told_by_us(resolver.resolve(address))
        wanted = told_by_us(expected.resolve(address))
        assert [(a, b.replace("packed", "plain"), c) for a, b, c in found] == wanted


def test_functions_within_functions(tmp_path: Path, opened: list[int]) -> None:
    """GCC puts nested functions and bodies of OpenMP loops below the function they are in."""
    source = """
    #include <stdio.h>
    int main(int argc, char **argv) {
        int __attribute__((noinline)) nested(int x) { return x * argc + getchar(); }
        return nested(argc) + nested(2);
    }
    """
    program = made(tmp_path, "program", ["-g"], source)
    bare = without_symbols(program)
    image = image_of(program, opened)
    assert image.symtab is not None
    where = next(
        address
        for address in image.symtab.addresses()
        if SymbolResolver(image).resolve(address)[0].name.startswith("nested")
    )
    (found,) = LineResolver(image).resolve(where + 1)
    assert (found.name, posixpath.basename(found.file), found.line) == ("nested.0", "program.c", 4)
    (found,) = LineResolver(image_of(bare, opened)).resolve(where + 1)
    assert (found.name, found.line) == ("nested", 4)


def test_names_without_symbols_are_those_of_dwarf(tmp_path: Path, opened: list[int]) -> None:
    program = made(tmp_path, "program", ["-g"], CXX_SOURCE)
    image = image_of(program, opened)
    without = image_of(without_symbols(program), opened)
    resolver, other = LineResolver(image), LineResolver(without)
    compared = 0
    for address in code_addresses(image, _COUNT):
        found = resolver.resolve(address)
        if found[-1].name == "_Z4worki":
            told = tuple(replace(one, source="") for one in found)
            assert tuple(replace(one, source="") for one in other.resolve(address)) == told
            compared += 1
    assert compared > 50


def test_separate_debug_file(tmp_path: Path, opened: list[int]) -> None:
    program = made(tmp_path, "program", ["-g"], CXX_SOURCE)
    debug, stripped = tmp_path / "program.debug", tmp_path / "stripped"
    subprocess.run(["objcopy", "--only-keep-debug", program, debug], check=True)
    subprocess.run(["strip", "-o", stripped, program], check=True)
    image, symbols = image_of(program, opened), image_of(stripped, opened)
    expected = LineResolver(image)
    whole = LineResolver(image_of(debug, opened))
    exported = LineResolver(image_of(debug, opened), symbols=SymbolResolver(symbols))
    for address in code_addresses(image, 300):
        found = expected.resolve(address)
        assert whole.resolve(address) == found
        if found[-1].file:
            # Nothing names the function but DWARF.
            assert exported.resolve(address)[:-1] == found[:-1]
            assert exported.resolve(address)[-1].line == found[-1].line


def test_without_inlined_functions(tmp_path: Path, opened: list[int]) -> None:
    """One frame, at the line in it from which the inlined code is called."""
    image = image_of(made(tmp_path, "program", ["-g"]), opened)
    whole, plain = LineResolver(image), LineResolver(image, inlines=False)
    for address in code_addresses(image, 300):
        assert plain.resolve(address) == whole.resolve(address)[-1:]


@pytest.mark.skipif(shutil.which("dwz") is None, reason="needs dwz")
def test_shared_debug_information(tmp_path: Path, opened: list[int]) -> None:
    """dwz moves what two programs have in common to a third file."""
    one = made(tmp_path, "one", ["-g"], CXX_SOURCE)
    made(tmp_path, "two", ["-g", "-O3"], CXX_SOURCE)
    original = LineResolver(image_of(shutil.copy(one, tmp_path / "original"), opened))
    subprocess.run(["dwz", "-m", "common", "one", "two"], check=True, cwd=tmp_path)
    image = image_of(one, opened)
    assert image.section(".gnu_debugaltlink") is not None
    opened.append(os.open(tmp_path / "common", os.O_RDONLY))
    supplement = ElfImage.from_descriptor(opened[-1], relocatable=True)
    resolver = LineResolver(image, supplement=supplement)
    alone = LineResolver(image)
    inlined = 0
    for address in code_addresses(image, _COUNT):
        found = original.resolve(address)
        assert resolver.resolve(address) == found
        inlined += len(found) - 1
        # Without the third file names are missing, not frames.
        assert [x.line for x in alone.resolve(address)] == [x.line for x in found]
    assert resolver.problem == "" and inlined > 100
    single = tmp_path / "original"
    subprocess.run(["dwz", single], check=True)
    resolver = LineResolver(image_of(single, opened))
    for address in code_addresses(image, _COUNT):
        assert resolver.resolve(address) == original.resolve(address)


def test_split_files_that_are_missing_or_of_another_build(
    tmp_path: Path, opened: list[int]
) -> None:
    program = made(tmp_path, "program", ["-g", "-gsplit-dwarf"])
    image = image_of(program, opened)
    (dwo,) = tmp_path.glob("*.dwo")
    asked: list[SplitName] = []

    def gone(name: SplitName) -> Optional[Source]:
        asked.append(name)
        return None

    def other(name: SplitName) -> Optional[Source]:
        data = bytearray(dwo.read_bytes())
        at = data.find(name.id.to_bytes(8, "little"))
        data[at] ^= 1
        return MemorySource(bytes(data))

    addresses = code_addresses(image, 100)
    whole = LineResolver(image, split=SplitFiles().open)
    for opener in (gone, other):
        resolver = LineResolver(image, split=opener)
        for address in addresses:
            # The lines are in the program itself.
            found, full = resolver.resolve(address), whole.resolve(address)
            assert len(found) == 1
            assert (found[0].name, found[0].file) == (full[-1].name, full[0].file)
            assert found[0].line == full[0].line
        assert bool(resolver.problem) == (opener is other)
    before = len(os.listdir("/proc/self/fd"))
    del whole, resolver  # which had one .dwo file open
    assert len(os.listdir("/proc/self/fd")) == before - 1
    assert asked[0].directory == str(tmp_path) and asked[0].name.endswith(".dwo")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    dwo.rename(moved / dwo.name)
    assert SplitFiles().open(asked[0]) is None
    found_source = SplitFiles([str(moved)]).open(asked[0])
    assert found_source is not None and found_source.read(0, 4) == b"\x7fELF"
