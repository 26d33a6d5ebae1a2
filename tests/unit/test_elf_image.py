"""Real files, against pyelftools, nm and readelf."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

from systemscope.elf import ElfImage, FileType, Machine

SOURCE = """
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static int __attribute__((noinline)) hidden(int x) { return x * getpid(); }
int __attribute__((noinline)) visible(int x) { return hidden(x) + 1; }
__asm__(".text\\n.globl bare\\nbare: nop\\nnop\\nret\\n.skip 64, 0xcc\\n");
int main(int argc, char **argv) { printf("%d", visible(argc)); free(malloc(argc)); return 0; }
"""

BUILDS = {
    "pie": ["-fPIE", "-pie"],
    "fixed": ["-fno-pie", "-no-pie"],
    "static": ["-static"],
    "lazy": ["-Wl,-z,lazy", "-fcf-protection=none"],
    "now": ["-Wl,-z,now", "-fno-plt"],
}

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("elf")
    source = directory / "program.c"
    source.write_text(SOURCE)
    made = {}
    for name, flags in BUILDS.items():
        path = directory / name
        command = ["cc", "-O1", "-Wl,--build-id", *flags, "-o", str(path), str(source)]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            made[name] = path
    for name in list(made):
        if name != "now":
            path = directory / f"{name}-stripped"
            subprocess.run(["strip", "-o", str(path), str(made[name])], check=True)
            made[path.name] = path
    return made


@pytest.fixture
def opened() -> Iterator[dict[Path, ElfImage]]:
    """Images by path; their descriptors are closed afterwards."""
    images = Images()
    yield images
    images.close()


class Images(dict[Path, ElfImage]):
    def __init__(self) -> None:
        super().__init__()
        self.descriptors: list[int] = []

    def __missing__(self, path: Path) -> ElfImage:
        descriptor = os.open(path, os.O_RDONLY)
        self.descriptors.append(descriptor)
        self[path] = ElfImage.from_descriptor(descriptor)
        return self[path]

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)


def library(name: str) -> Optional[Path]:
    with open("/proc/self/maps") as maps:
        for line in maps:
            path = line.split(maxsplit=5)[-1].strip()
            if re.search(name, os.path.basename(path)) and path.startswith("/"):
                return Path(path)
    return None


def system_files() -> list[Path]:
    names = (r"^libc[.-]", r"^libpython", r"^ld-", r"^libm[.-]")
    found = [library(name) for name in names] + [Path(sys.executable).resolve()]
    return [path for path in found if path is not None]


def check_symbols(path: Path, image: ElfImage) -> int:
    """Each sized function pyelftools lists is found at its first and last byte."""
    from elftools.elf.elffile import ELFFile

    starts: dict[int, set[str]] = {}
    sizes: dict[int, set[int]] = {}
    with path.open("rb") as file:
        elf = ELFFile(file)
        tables = [elf.get_section_by_name(".symtab"), elf.get_section_by_name(".dynsym")]
        for table in tables:
            for symbol in table.iter_symbols() if table is not None else ():
                kind = symbol["st_info"]["type"]
                code = kind in ("STT_FUNC", "STT_GNU_IFUNC", "STT_LOOS")
                if code and symbol["st_size"] and symbol["st_shndx"] != "SHN_UNDEF":
                    address = symbol["st_value"]
                    starts.setdefault(address, set()).add(symbol.name.split("@")[0])
                    sizes.setdefault(address, set()).add(symbol["st_size"])
    for address, names in starts.items():
        found = image.find_symbol(address)
        assert found is not None and found.name in names, (hex(address), names, found)
        assert found.address == address and found.size in sizes[address]
        last = image.find_symbol(address + max(sizes[address]) - 1)
        assert last is not None and last.address >= address
    return len(starts)


@pytest.mark.parametrize("path", system_files(), ids=lambda path: path.name)
def test_system_files_against_pyelftools(path: Path, opened: dict[Path, ElfImage]) -> None:
    image = opened[path]
    check_structure(path, image)
    check_symbols(path, image)


@needs_cc
def test_compiled_programs_against_pyelftools(
    programs: dict[str, Path], opened: dict[Path, ElfImage]
) -> None:
    assert {"pie", "fixed", "pie-stripped", "fixed-stripped"} <= set(programs)
    for path in programs.values():
        check_structure(path, opened[path])
        check_symbols(path, opened[path])


def check_structure(path: Path, image: ElfImage) -> None:
    from elftools.elf.elffile import ELFFile

    with path.open("rb") as file:
        elf = ELFFile(file)
        assert image.header.entry == elf["e_entry"]
        assert image.header.machine in (Machine.X86_64, Machine.AARCH64)
        assert len(image.header.segments) == elf.num_segments()
        assert len(image.header.sections) == elf.num_sections()
        for ours, theirs in zip(image.header.sections, elf.iter_sections()):
            assert image.section_name(ours) == theirs.name
            assert (ours.address, ours.offset) == (theirs["sh_addr"], theirs["sh_offset"])
            assert (ours.size, ours.link) == (theirs["sh_size"], theirs["sh_link"])
        for segment in elf.iter_segments("PT_LOAD"):
            if segment["p_filesz"]:
                address, offset = segment["p_vaddr"], segment["p_offset"]
                assert image.offset_of_address(address) == offset
                if segment["p_flags"] & 1:
                    assert image.address_of_offset(offset) == address
        note = elf.get_section_by_name(".note.gnu.build-id")
        expected = next((n["n_desc"] for n in note.iter_notes()), "") if note else ""
        assert image.build_id == expected


@needs_cc
def test_names_against_nm(programs: dict[str, Path], opened: dict[Path, ElfImage]) -> None:
    for name in ("pie", "fixed"):
        listing = subprocess.run(
            ["nm", "--defined-only", str(programs[name])],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        addresses = {
            fields[2]: int(fields[0], 16)
            for fields in map(str.split, listing.splitlines())
            if fields[1] in "tT"
        }
        image = opened[programs[name]]
        for function in ("main", "hidden", "visible", "_start", "_init", "_fini", "bare"):
            found = image.find_symbol(addresses[function])
            assert found is not None and found.name == function
        # Two bytes into assembly without a size, and far behind it.
        inside = image.find_symbol(addresses["bare"] + 2)
        assert inside is not None and (inside.name, inside.size) == ("bare", 0)


@needs_cc
def test_stripped_programs_have_no_false_names(
    programs: dict[str, Path], opened: dict[Path, ElfImage]
) -> None:
    full, stripped = opened[programs["pie"]], opened[programs["pie-stripped"]]
    assert full.has_symtab and not stripped.has_symtab
    assert full.build_id == stripped.build_id != ""
    assert stripped.symtab is None
    table = full.symtab
    assert table is not None
    text = full.section(".text")
    assert text is not None
    for address in table.addresses():
        if text.address <= address < text.address + text.size:
            assert stripped.find_symbol(address) is None


@needs_cc
def test_linkage_stubs(programs: dict[str, Path], opened: dict[Path, ElfImage]) -> None:
    """Every stub objdump names is named alike, in stripped files too."""
    checked = 0
    for name in ("pie", "fixed", "lazy", "pie-stripped", "lazy-stripped"):
        listing = subprocess.run(
            ["objdump", "-d", str(programs[name])], capture_output=True, text=True, check=True
        ).stdout
        for address, symbol in re.findall(r"^([0-9a-f]{16}) <(\w+)@plt>:$", listing, re.MULTILINE):
            found = opened[programs[name]].find_symbol(int(address, 16) + 1)
            assert found is not None and found.name == f"{symbol}@plt", (name, symbol, found)
            checked += 1
    assert checked >= 8


@needs_cc
def test_file_types(programs: dict[str, Path], opened: dict[Path, ElfImage]) -> None:
    assert opened[programs["pie"]].header.type is FileType.DYN
    assert opened[programs["fixed"]].header.type is FileType.EXEC
    fixed = opened[programs["fixed"]]
    text = fixed.section(".text")
    assert text is not None
    page = text.offset & -4096
    assert fixed.load_bias(text.address & -4096, page) == 0
    pie = opened[programs["pie"]]
    text = pie.section(".text")
    assert text is not None
    base = 0x555555554000
    assert pie.load_bias(base + (text.address & -4096), text.offset & -4096) == base


def test_code_that_shares_a_page_of_the_file() -> None:
    """As lld lays files out: the page where code begins also ends what lies before it, which is
    loaded a page further down."""
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0
    )
    loads = [(4, 0, 0, 0x2184), (5, 0x2190, 0x3190, 0x500)]
    table = [
        struct.pack("<IIQQQQQQ", 1, flags, offset, address, address, size, size, 0x1000)
        for flags, offset, address, size in loads
    ]
    image = ElfImage.from_bytes((head + b"".join(table)).ljust(0x2700, b"\0"))
    assert image.load_bias(0x555555557000, 0x2000) == 0x555555554000
    assert image.load_bias(0x555555554000, 0) == 0x555555554000


def test_padding_of_pages_counts_as_its_segment(opened: dict[Path, ElfImage]) -> None:
    """The kernel maps whole pages: offsets around a segment in its first and last page."""
    path = system_files()[0]
    image = opened[path]
    segment = next(s for s in image.header.segments if s.type == 1 and s.executable)
    end = segment.offset + segment.file_size
    if end % 4096:
        assert image.address_of_offset(end) == segment.address + segment.file_size
    assert image.address_of_offset(1 << 62) is None
    assert image.offset_of_address(1 << 62) is None
