"""Separate debug files and MiniDebugInfo: found, checked, and never taken from the wrong build."""

from __future__ import annotations

import lzma
import os
import shutil
import struct
import subprocess
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from systemscope.elf import ElfError, ElfImage, SymbolResolver
from systemscope.elf import debuglink as links
from systemscope.elf.minidebug import mini_debug_image
from systemscope.model import FileId, Mapping
from systemscope.symbolizer.separate import DebugSearch, ModuleCompanions
from tests.unit.elf_maker import LOCAL, TEXT, Maker, Sym, with_sections

HIDDEN = [Sym("hidden", TEXT, 64, bind=LOCAL), Sym("shown", TEXT + 64, 64)]
SHOWN = [Sym("shown", TEXT + 64, 64)]
STRIPPED = Maker(SHOWN, dynamic=True, build_id=b"\xab\xcd\xef").build()
DEBUG = Maker(HIDDEN, build_id=b"\xab\xcd\xef").build()
OTHER = Maker(HIDDEN, build_id=b"\xab\xcd\x00").build()
PATH = "/opt/app/bin/tool"


def link(name: bytes, crc: int) -> bytes:
    return name + b"\0" * (4 - len(name) % 4) + struct.pack("<I", crc)


def linked(data: bytes = DEBUG, name: bytes = b"tool.debug", build_id: bytes = b"") -> bytes:
    made = Maker(SHOWN, dynamic=True, build_id=build_id or b"\xab\xcd\xef").build()
    return with_sections(made, {".gnu_debuglink": link(name, zlib.crc32(data))})


class Bench:
    """A directory that stands for a root, and an image looked at from there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.search = DebugSearch(targets=False, directories=[str(root)])

    def put(self, path: str, data: bytes) -> Path:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        return place

    def names(self, image: bytes) -> list[tuple[str, str]]:
        """(name, source) at the two functions."""
        opened = ElfImage.from_bytes(image)
        with self.beside() as companions:
            opened.companions = companions
            resolver = SymbolResolver(opened)
            found = [resolver.resolve(TEXT + 4), resolver.resolve(TEXT + 68)]
        return [(x[0].name, x[0].source) if x else ("", "") for x in found]

    def beside(self) -> ModuleCompanions:
        where = [(1, Mapping(0, 0x9000, 0, PATH, FileId(8, 1, 5)))]
        return self.search.beside(where)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    before = len(os.listdir("/proc/self/fd"))
    yield Bench(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


FOUND = [("hidden", ".symtab of its debug file"), ("shown", ".symtab of its debug file")]
NOT_FOUND = [("", ""), ("shown", ".dynsym")]


@pytest.mark.parametrize("place", ["/usr/lib/debug/.build-id", "/.build-id"])
def test_by_build_id(bench: Bench, place: str) -> None:
    assert bench.names(STRIPPED) == NOT_FOUND
    bench.put(f"{place}/ab/cdef.debug", DEBUG)
    assert bench.names(STRIPPED) == FOUND
    assert bench.search.notes() == []


@pytest.mark.parametrize(
    "place",
    [
        "/opt/app/bin/tool.debug",
        "/opt/app/bin/.debug/tool.debug",
        "/usr/lib/debug/opt/app/bin/tool.debug",
        "/usr/lib/debug/usr/opt/app/bin/tool.debug",
    ],
)
def test_by_link(bench: Bench, place: str) -> None:
    bench.put(place, DEBUG)
    assert bench.names(linked()) == FOUND
    assert bench.search.notes() == []


def test_another_build_is_never_used(bench: Bench) -> None:
    bench.put("/.build-id/ab/cdef.debug", OTHER)
    bench.put("/opt/app/bin/tool.debug", OTHER)
    assert bench.names(linked(OTHER)) == NOT_FOUND
    (note,) = bench.search.notes()
    assert "/.build-id/ab/cdef.debug (of another build)" in note and "tool.debug" in note


def test_checksum(bench: Bench) -> None:
    bench.put("/opt/app/bin/tool.debug", DEBUG)
    assert bench.names(linked(DEBUG + b"x")) == NOT_FOUND
    (note,) = bench.search.notes()
    assert "tool.debug (another checksum)" in note
    # Without build IDs the checksum alone decides.
    bare = Maker(HIDDEN, note_name=b"XYZ\0").build()
    image = Maker(SHOWN, dynamic=True, note_name=b"XYZ\0").build()
    bench.put("/opt/app/bin/tool.debug", bare)
    sections = {".gnu_debuglink": link(b"tool.debug", zlib.crc32(bare))}
    assert bench.names(with_sections(image, sections)) == FOUND


def test_stripped_file_in_the_place_of_its_debug_file(bench: Bench) -> None:
    bench.put("/opt/app/bin/tool.debug", STRIPPED)
    assert bench.names(linked(STRIPPED)) == NOT_FOUND
    assert bench.search.notes() == []


@pytest.mark.parametrize("kind", ["fifo", "device link", "directory", "text", "short", "machine"])
def test_odd_files(bench: Bench, kind: str) -> None:
    place = bench.put("/.build-id/ab/cdef.debug", DEBUG)
    place.unlink()
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "device link":
        place.symlink_to("/dev/zero")
    elif kind == "directory":
        place.mkdir()
    elif kind == "text":
        place.write_text("x" * 500)
    elif kind == "short":
        place.write_bytes(DEBUG[:100])
    else:
        place.write_bytes(Maker(HIDDEN, machine=183, build_id=b"\xab\xcd\xef").build())
    assert bench.names(STRIPPED) == NOT_FOUND


def test_links_lead_nowhere_else(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "x.debug"
    outside.write_bytes(DEBUG)
    place = bench.put("/.build-id/ab/cdef.debug", DEBUG)
    place.unlink()
    place.symlink_to(outside)
    assert bench.names(STRIPPED) == NOT_FOUND
    place.unlink()
    place.symlink_to("/real.debug")  # absolute within that root
    bench.put("/real.debug", DEBUG)
    assert bench.names(STRIPPED) == FOUND


def test_sparse_file_is_not_read_for_its_checksum(bench: Bench) -> None:
    place = bench.put("/opt/app/bin/tool.debug", DEBUG)
    os.truncate(place, 1 << 40)
    assert bench.names(linked()) == NOT_FOUND
    assert "tool.debug (" in bench.search.notes()[0]
    os.truncate(place, 1 << 30)
    assert bench.names(linked()) == NOT_FOUND
    assert any("full of holes" in note for note in bench.search.notes())


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\0", b"name", b"name\0", b"a/b\0" + b"\0" * 8, b"..\0" + b"\0" * 5,
        b"x" * 300 + b"\0" * 8, b"/etc/passwd\0" + b"\0" * 8,
    ],
)  # fmt: skip
def test_damaged_links(bench: Bench, content: bytes) -> None:
    image = with_sections(STRIPPED, {".gnu_debuglink": content, ".gnu_debugaltlink": content})
    with pytest.raises(ElfError):
        links.debug_link(ElfImage.from_bytes(image))
    assert bench.names(image) == NOT_FOUND


def test_supplement(bench: Bench) -> None:
    # dwz makes relocatable files.
    common = Maker([Sym("x", TEXT, 4)], type=1, build_id=b"\x11\x22\x33").build()
    debug = with_sections(DEBUG, {".gnu_debugaltlink": b"../../dwz/common.debug\0\x11\x22\x33"})
    bench.put("/.build-id/ab/cdef.debug", debug)

    def supplement() -> Optional[str]:
        opened = ElfImage.from_bytes(STRIPPED)
        with bench.beside() as companions:
            opened.companions = companions
            assert opened.supplement is None  # the image itself names none
            debug_file = opened.debug_file
            assert debug_file is not None and debug_file is opened.debug_file
            found = debug_file.supplement
            return None if found is None else found.build_id

    assert supplement() is None
    assert "common.debug (missing)" in bench.search.notes()[0]
    place = bench.put("/dwz/common.debug", common)
    assert supplement() == "112233"
    place.write_bytes(OTHER)
    assert supplement() is None
    bench.put("/.build-id/11/2233.debug", common)
    assert supplement() == "112233"


# -- MiniDebugInfo -----------------------------------------------------------------------------


def mini(content: bytes) -> bytes:
    return with_sections(STRIPPED, {".gnu_debugdata": content})


def test_mini_debug_info(bench: Bench) -> None:
    packed = lzma.compress(Maker(HIDDEN[:1]).build())
    assert bench.names(mini(packed)) == [("hidden", "MiniDebugInfo"), ("shown", ".dynsym")]
    bench.put("/.build-id/ab/cdef.debug", DEBUG)  # the better source
    assert bench.names(mini(packed)) == FOUND


def test_mini_debug_info_that_is_damaged(bench: Bench) -> None:
    packed = lzma.compress(DEBUG)
    for content in (b"", b"x", packed[:-20], packed[:40], b"\0" * 100, lzma.compress(b"no ELF")):
        assert bench.names(mini(content)) == NOT_FOUND
    (note,) = bench.search.notes()
    assert "MiniDebugInfo of tool" in note


def test_mini_debug_info_does_not_unpack_without_end() -> None:
    packed = lzma.compress(bytes(200 << 20), preset=0)
    image = ElfImage.from_bytes(mini(packed))
    tracemalloc.start()
    try:
        with pytest.raises(ElfError, match="too much"):
            mini_debug_image(image)
        assert tracemalloc.get_traced_memory()[1] < 160 << 20
    finally:
        tracemalloc.stop()


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 255))
def test_arbitrary_sections(data: bytes, position: int, value: int) -> None:
    packed = bytearray(lzma.compress(Maker(HIDDEN[:1]).build()))
    packed[position % len(packed)] = value
    for content in (data, bytes(packed)):
        sections = {".gnu_debugdata": content, ".gnu_debuglink": data, ".gnu_debugaltlink": data}
        image = ElfImage.from_bytes(with_sections(STRIPPED, sections))
        for read in (mini_debug_image, links.debug_link, links.alternate_link):
            try:
                read(image)
            except ElfError as error:
                assert error.message


# -- what binutils makes -------------------------------------------------------------------------

PROGRAM = """
static int __attribute__((noinline)) secret(int x) { return x * 3 + 1; }
int main(int argc, char **argv) { return secret(argc) + (int)(long)argv[0][0]; }
"""


@pytest.mark.skipif(
    shutil.which("cc") is None or shutil.which("objcopy") is None, reason="needs cc and binutils"
)
@pytest.mark.parametrize("build_id", ["sha1", "none"])
def test_as_distributions_do_it(bench: Bench, tmp_path: Path, build_id: str) -> None:
    source, program = tmp_path / "a.c", tmp_path / "opt/app/bin/tool"
    program.parent.mkdir(parents=True)
    source.write_text(PROGRAM)

    def run(*words: str) -> str:
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    run("cc", "-O1", "-g", f"-Wl,--build-id={build_id}", "-o", str(program), str(source))
    table = run("nm", str(program)).splitlines()
    address = next(int(line.split()[0], 16) for line in table if line.endswith(" secret"))
    debug = program.parent / "tool.debug"
    run("objcopy", "--only-keep-debug", str(program), str(debug))
    run("strip", str(program))
    run("objcopy", f"--add-gnu-debuglink={debug}", str(program))
    with open(program, "rb") as file:
        image = ElfImage.from_descriptor(file.fileno())
        found = links.debug_link(image)
        assert found == ("tool.debug", zlib.crc32(debug.read_bytes()))
        with bench.beside() as companions:
            image.companions = companions
            (location,) = SymbolResolver(image).resolve(address + 2)
    assert (location.name, location.offset) == ("secret", 2)
    assert location.source == ".symtab of its debug file"
