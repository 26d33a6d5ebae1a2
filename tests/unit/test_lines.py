"""Lines and inlined functions from the options to the formats."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

import systemscope
from systemscope.cli.exit_codes import ExitCode
from systemscope.cli.lines import Lines
from systemscope.cli.main import main
from systemscope.cli.options import read_options
from systemscope.elf import ElfImage
from systemscope.elf.dwarf_resolver import LineResolver
from systemscope.elf.dwarf_split import SplitName
from systemscope.errors import UsageError
from systemscope.exporters import capture as exporter
from systemscope.model import (
    Capture,
    Entry,
    FileId,
    HostFacts,
    Image,
    Mapping,
    Process,
    Profile,
    Stack,
    State,
    Thread,
)
from systemscope.symbolizer.facts import file_key
from systemscope.symbolizer.lines import SplitFiles
from tests.unit.dwarf_oracles import build

BASE = 0x700000
SOURCE = """#include <stdio.h>
static inline __attribute__((always_inline)) int deep(int x) {
    return getchar() * x;
}
static inline __attribute__((always_inline)) int middle(int x) {
    return deep(x) + 1;
}
int main(int argc, char **argv) {
    return middle(argc);
}
"""


class Recorded(NamedTuple):
    """A capture of one sample in the call of getchar, and where the program is."""

    path: Path
    directory: Path
    source: str


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    directory = tmp_path_factory.mktemp("lines")
    program = build(directory, "app", ["-g"], SOURCE)
    image = ElfImage.from_bytes(program.read_bytes())
    assert image.symtab is not None
    resolver = LineResolver(image)
    text = image.section(".text")
    assert text is not None
    every = range(text.address, text.address + text.size)
    address = next(x for x in every if [y.line for y in resolver.resolve(x)] == [3, 6, 9])
    offset = image.offset_of_address(address) or 0
    begin = offset & -0x1000
    mapping = Mapping(BASE, BASE + 0x1000, begin, "/opt/away/app", FileId(8, 1, 77))
    capture = Capture(0, 100, 0.0, 99, "cpu-clock", kernel="Linux 0.0.1-other x86_64")
    capture.threads = [Thread(7, 7, "app", 0, 100)]
    capture.processes = {7: Process(7, "app", [Image(0, (mapping,))])}
    capture.stacks.append(Stack(user=(BASE + offset - begin,)))
    capture.entries.append(Entry(0, State.RUNNING, 1, 5000, 1, 50))
    capture.facts = HostFacts({file_key(mapping): image.build_id})
    path = directory / "in.ssc"
    with path.open("wb") as stream:
        exporter.write(Profile(capture), stream)
    return Recorded(path, directory, str(directory / "app.c"))


def converted(recorded: Recorded, ending: str, *options: str) -> Path:
    out = recorded.directory / f"out.{ending}"
    words = ["convert", str(recorded.path), "--debug-dir", str(recorded.directory), "-qo", str(out)]
    assert main([*words, "--no-state", *options]) == ExitCode.OK
    return out


def test_options() -> None:
    assert read_options("profile", []).lines == Lines(False, True)
    assert read_options("oncpu", ["--lines"]).lines == Lines(True, True)
    assert read_options("offcpu", ["--lines", "--no-inlines"]).lines == Lines(True, False)
    with pytest.raises(UsageError, match="only --lines adds"):
        read_options("profile", ["--no-inlines"])
    with pytest.raises(UsageError, match="a capture holds no names") as refused:
        read_options("profile", ["--lines", "-o", "x.ssc"])
    assert "systemscope convert" in str(refused.value.remedy)


def test_folded(recorded: Recorded) -> None:
    assert converted(recorded, "folded").read_text() == "app;main 5\n"
    assert converted(recorded, "folded", "--lines").read_text() == "app;main;middle;deep 5\n"
    marked = converted(recorded, "folded", "--lines", "-a").read_text()
    assert marked == "app;main;middle_[i];deep_[i] 5\n"
    assert converted(recorded, "folded", "--lines", "--no-inlines").read_text() == "app;main 5\n"


def test_speedscope(recorded: Recorded) -> None:
    read = json.loads(converted(recorded, "speedscope.json", "--lines").read_text())
    told = [(x["name"], x.get("file"), x.get("line")) for x in read["shared"]["frames"]]
    assert told == [
        ("app", None, None),
        ("main", recorded.source, 9),
        ("middle", recorded.source, 6),
        ("deep", recorded.source, 3),
    ]


def test_pprof(recorded: Recorded) -> None:
    pytest.importorskip("google.protobuf")
    read = systemscope.load(converted(recorded, "pb.gz", "--lines"))
    (sample,) = read.samples
    told = [(x.name, x.file, x.line, x.inlined) for x in sample.frames]
    assert told == [
        ("deep", recorded.source, 3, True),
        ("middle", recorded.source, 6, True),
        ("main", recorded.source, 9, False),
    ]
    assert len({x.address for x in sample.frames}) == 1


@pytest.mark.parametrize("ending", ["html", "svg", "txt"])
def test_pages(recorded: Recorded, ending: str) -> None:
    if ending == "txt":
        page = converted(recorded, ending, "--lines", "--output", "text").read_text()
    else:
        page = converted(recorded, ending, "--lines").read_text()
    if ending != "html":  # whose data are packed
        assert "middle" in page and "deep" in page


def test_python_api(recorded: Recorded) -> None:
    directories = [recorded.directory]
    (plain,) = systemscope.load(recorded.path, directories).samples
    assert [(x.name, x.line) for x in plain.frames] == [("main", 0)]
    (whole,) = systemscope.load(recorded.path, directories, lines=True).samples
    assert [(x.name, x.line) for x in whole.frames] == [("deep", 3), ("middle", 6), ("main", 9)]
    assert plain.frames[-1].offset == whole.frames[-1].offset
    (outer,) = systemscope.load(recorded.path, directories, lines=True, inlines=False).samples
    assert [(x.name, x.line) for x in outer.frames] == [("main", 9)]


def test_damage_is_told_and_leaves_the_symbols(recorded: Recorded, tmp_path: Path) -> None:
    data = bytearray((recorded.directory / "app").read_bytes())
    section = ElfImage.from_bytes(bytes(data)).section(".debug_abbrev")
    assert section is not None
    data[section.offset : section.offset + section.size] = bytes(section.size)
    (tmp_path / "app").write_bytes(data)
    read = systemscope.load(recorded.path, [tmp_path], lines=True)
    assert [(x.name, x.line) for x in read.samples[0].frames] == [("main", 0)]
    assert any("without some source lines: app (" in note for note in read.notes)


def test_only_the_debug_file_is_at_hand(recorded: Recorded, tmp_path: Path) -> None:
    app, away = recorded.directory / "app", tmp_path / "app.debug"
    subprocess.run(["objcopy", "--only-keep-debug", app, away], check=True)
    (sample,) = systemscope.load(recorded.path, [tmp_path], lines=True).samples
    assert [(x.name, x.line) for x in sample.frames] == [("deep", 3), ("middle", 6), ("main", 9)]


def test_split_files_are_looked_for_with_care(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.dwo")
    name = SplitName("a.dwo", str(tmp_path), 1)
    assert SplitFiles().open(name) is None  # and nobody waits for a writer
    assert SplitFiles().open(SplitName("null", "/dev", 1)) is None
    assert SplitFiles().open(SplitName("a\0b", "/tmp", 1)) is None
    assert SplitFiles().open(SplitName("gone.dwo", "", 1)) is None
    below = tmp_path / "debug" / "build" / "x"
    below.mkdir(parents=True)
    (below / "b.dwo").write_bytes(b"found")
    for wanted in (SplitName("x/b.dwo", "/build", 1), SplitName("../../b.dwo", "/build/x/y/z", 1)):
        source = SplitFiles([str(tmp_path / "debug")]).open(wanted)
        assert source is not None and source.read(0, 9) == b"found"
    before = len(os.listdir("/proc/self/fd"))
    del source
    assert len(os.listdir("/proc/self/fd")) < before
