"""``systemscope convert``: every readable input, other machines' files, refusals in a sentence."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import systemscope
from systemscope.cli.exit_codes import ExitCode
from systemscope.cli.main import main
from systemscope.elf import ElfImage
from systemscope.exporters import capture as exporter
from systemscope.exporters.formats import ExportOptions, by_name, formats
from systemscope.model import (
    Capture,
    FileId,
    HostFacts,
    Image,
    KernelSymbol,
    Mapping,
    Process,
    Profile,
    Stack,
)
from systemscope.symbolizer import SymbolizerOptions, symbolize
from systemscope.symbolizer.debugfiles import DebugFiles
from systemscope.symbolizer.facts import file_key, gather_facts
from tests.unit.elf_maker import TEXT, Maker, Sym
from tests.unit.fake_captures import capture

FILE = FileId(8, 1, 77)
APP = Mapping(0x400000, 0x409000, 0, "/opt/away/app", FILE)


def saved(what: Capture, path: Path) -> Path:
    with path.open("wb") as stream:
        exporter.write(Profile(what), stream)
    return path


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    return saved(capture(), tmp_path / "in.ssc")


def folded(path: Path, *options: str) -> list[str]:
    out = path.parent / "out.folded"
    assert main(["convert", str(path), "-qo", str(out), *options]) == ExitCode.OK
    return out.read_text().splitlines()


def test_a_capture_gives_what_it_would_have_given_at_once(recorded: Path) -> None:
    at_once = capture()
    at_once.facts = HostFacts(notes=["nothing is known"])
    profile = symbolize(at_once, opener=lambda tgid, mapping: None)
    stream = io.BytesIO()
    by_name("folded").write_bytes(profile, stream, ExportOptions())
    assert folded(recorded) == stream.getvalue().decode().splitlines()


@pytest.mark.parametrize("name", [one.name for one in formats() if not one.timeline])
def test_every_format_can_be_written(recorded: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    assert main(["convert", str(recorded), "--output", name, "-qo", str(out)]) == ExitCode.OK
    assert out.stat().st_size > 0


def test_a_capture_of_a_capture_is_the_same(recorded: Path, tmp_path: Path) -> None:
    once, twice = tmp_path / "once.ssc", tmp_path / "twice.ssc"
    assert main(["convert", str(recorded), "-qo", str(once)]) == ExitCode.OK
    assert main(["convert", str(once), "-qo", str(twice)]) == ExitCode.OK
    assert once.read_bytes() == twice.read_bytes()


def test_standard_input_and_output(recorded: Path) -> None:
    expected = folded(recorded)
    for source in ("pipe", "file"):
        with recorded.open("rb") as file:
            ran = subprocess.run(
                [sys.executable, "-m", "systemscope", "convert", "-", "-q"],
                capture_output=True, check=True,
                **({"stdin": file} if source == "file" else {"input": file.read()}),
            )  # fmt: skip
        assert ran.stdout.decode().splitlines() == expected
        assert ran.stderr == b""


def test_selection_and_looks(recorded: Path) -> None:
    assert len(folded(recorded)) == 4
    assert all("[running]" in line for line in folded(recorded, "--state", "running"))
    assert len(folded(recorded, "--idle-threads", "hide")) == 3
    assert len(folded(recorded, "--idle-threads", "only")) == 1
    assert any(line.startswith("main_app-100/100;") for line in folded(recorded, "--per-thread"))
    assert not any("[sleeping]" in line for line in folded(recorded, "--no-state"))
    assert any("_[k]" in line for line in folded(recorded, "-a"))


def test_folded_stacks_plain_and_packed(tmp_path: Path) -> None:
    text = b"app-1/2;main;work;[running] 10\napp-1/2;main;[sleeping] 20\n"
    plain, packed = tmp_path / "a.txt", tmp_path / "a.txt.gz"
    plain.write_bytes(text)
    packed.write_bytes(gzip.compress(text))
    for path in (plain, packed):
        assert sorted(folded(path, "--per-thread")) == sorted(text.decode().splitlines())
    assert folded(plain, "--per-thread", "--state", "sleeping") == ["app-1/2;main;[sleeping] 20"]


@pytest.mark.parametrize("damage", ["cut", "checksum", "middle"])
def test_whole_lines_of_damaged_packed_stacks(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], damage: str
) -> None:
    lines = [f"app-1/2;main;{os.urandom(8).hex()};[running] 10" for _ in range(20_000)]
    packed = bytearray(gzip.compress("\n".join([*lines, ""]).encode()))
    if damage == "cut":
        del packed[len(packed) // 2 :]
    else:
        at = len(packed) // 2 if damage == "middle" else len(packed) - 8
        packed[at : at + 4] = b"\xff\xff\xff\xff" if damage == "middle" else bytes(4)
    path = tmp_path / "a.gz"
    path.write_bytes(packed)
    out = tmp_path / "out.folded"
    assert main(["convert", str(path), "-o", str(out), "--per-thread"]) == ExitCode.OK
    rescued = out.read_text().splitlines()
    assert len(rescued) >= (len(lines) if damage == "checksum" else 1_000)
    assert damage == "middle" or set(rescued) <= set(lines)
    assert "damaged" in capfd.readouterr().err


def test_packed_stacks_of_which_nothing_is_left(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"app-1/2;main 10\n" * 9)[:22])
    assert main(["convert", str(path)]) == ExitCode.INPUT
    assert "Traceback" not in capfd.readouterr().err


def test_packed_files_of_other_kinds_are_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.trace.json.gz"
    path.write_bytes(gzip.compress(b'{"traceEvents":[]}'))
    assert main(["convert", str(path)]) == ExitCode.INPUT
    assert "this is JSON" in capfd.readouterr().err


def test_what_cannot_be_converted(
    recorded: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    perf, cut, away = tmp_path / "perf.data", tmp_path / "cut.ssc", tmp_path / "none"
    perf.write_bytes(b"PERFILE2" + bytes(100))
    cut.write_bytes(recorded.read_bytes()[:20])
    for words, code, text in (
        ([str(away)], ExitCode.INPUT, "No such file or directory; check the name"),
        ([str(tmp_path)], ExitCode.INPUT, "Is a directory; name a file in it"),
        ([str(perf)], ExitCode.INPUT, "perf script"),
        ([str(cut)], ExitCode.INPUT, "nothing can be read of this capture file"),
        ([sys.executable], ExitCode.INPUT, "a program or library"),
        ([], ExitCode.USAGE, "--help"),
        ([str(recorded), "--idle-threads", "x"], ExitCode.USAGE, "use one of: show, hide, only"),
        ([str(recorded), "--state", "x"], ExitCode.USAGE, "is no thread state"),
        ([str(recorded), "-o", "x.unknown"], ExitCode.USAGE, "which format to write"),
        ([str(recorded), "--output", "chrome", "--state", "disk"], ExitCode.USAGE, "every state"),
        ([str(recorded), "-qv"], ExitCode.USAGE, "exclude each other"),
        ([str(recorded), "-o", "/dev/full"], ExitCode.OUTPUT, "No space left on device"),
    ):
        assert main(["convert", *words]) == code, words
        assert text in capfd.readouterr().err


@pytest.mark.parametrize("name", [one.name for one in formats() if one.timeline])
def test_a_format_that_needs_a_timeline_says_so(
    recorded: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    out = tmp_path / "out"
    assert main(["convert", str(recorded), "--output", name, "-o", str(out)]) == ExitCode.INPUT
    assert "holds no timeline" in capfd.readouterr().err
    assert not out.exists()


def test_a_damaged_file_is_converted_and_told(
    recorded: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recorded.write_bytes(recorded.read_bytes()[:-40])
    out = recorded.parent / "out.folded"
    assert main(["convert", str(recorded), "-o", str(out)]) == ExitCode.OK
    assert "the capture file is damaged" in capfd.readouterr().err
    total = sum(int(line.rsplit(" ", 1)[1]) for line in out.read_text().splitlines())
    assert total == 3_000_000, "three threads of a second each"


BUILD_ID = bytes(range(20))
SYMBOLS = [Sym("work", TEXT, 0x40), Sym("main", TEXT + 0x40, 0x40)]


def of_another_machine(build_id: str = BUILD_ID.hex()) -> Capture:
    made = capture()
    made.kernel = "Linux 0.0.1-other x86_64"
    made.processes[100] = Process(100, "app", [Image(0, (APP,))])
    work = APP.start + TEXT + 4
    made.stacks = [Stack(), Stack(user=(work,)), Stack((0xFFFF0001,), (work, work + 0x40))]
    made.facts = HostFacts(
        {file_key(APP): build_id} if build_id else {},
        [KernelSymbol(0xFFFF0000, 0xFFFF0100, "do_wait", "ext4")],
    )
    return made


def stacks(path: Path, *options: str) -> list[str]:
    return [line.rsplit(" ", 1)[0] for line in folded(path, "--no-state", *options)]


NAMED = ["idler;main;work;do_wait", "main_app;main;work;do_wait", "main_app;work"]


@pytest.mark.parametrize(
    "place",
    [
        f".build-id/{BUILD_ID.hex()[:2]}/{BUILD_ID.hex()[2:]}",
        f".build-id/{BUILD_ID.hex()[:2]}/{BUILD_ID.hex()[2:]}.debug",
        "opt/away/app",
        "app",
        "app.debug",
    ],
)
def test_files_are_found_in_debug_directories(tmp_path: Path, place: str) -> None:
    path = saved(of_another_machine(), tmp_path / "in.ssc")
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    target = second / place
    target.parent.mkdir(parents=True)
    target.write_bytes(Maker(SYMBOLS, build_id=BUILD_ID).build())
    options = ["--debug-dir", str(first), "--debug-dir", str(second)]
    assert [line for line in stacks(path, *options) if "kworker" not in line] == NAMED


def test_a_file_of_another_build_is_not_used(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = saved(of_another_machine(), tmp_path / "in.ssc")
    (tmp_path / "app").write_bytes(Maker(SYMBOLS, build_id=b"other").build())
    out = tmp_path / "out.folded"
    assert main(["convert", str(path), "-o", str(out), "--debug-dir", str(tmp_path)]) == 0
    text = out.read_text()
    assert "app+0x1004" in text and ";work" not in text
    assert "do_wait" in text, "the kernel's names are in the capture"
    told = "no file for /opt/away/app, 1 of another build: name where they are with --debug-dir"
    assert told in capfd.readouterr().err


def test_without_a_build_id_the_path_must_do(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = saved(of_another_machine(""), tmp_path / "in.ssc")
    (tmp_path / "app").write_bytes(Maker(SYMBOLS).build())
    out = tmp_path / "out.folded"
    assert main(["convert", str(path), "-o", str(out), "--debug-dir", str(tmp_path)]) == 0
    assert "main_app;work" in out.read_text()
    assert "taken by path alone" in capfd.readouterr().err


def test_odd_files_and_paths_in_debug_directories(tmp_path: Path) -> None:
    (tmp_path / "app").write_text("no program")
    os.mkfifo(tmp_path / "app.debug")
    facts = HostFacts({file_key(APP): "../../../etc/passwd"})
    files = DebugFiles(facts, [str(tmp_path), "\0"])
    before = len(os.listdir("/proc/self/fd"))
    for name in ("/opt/away/app", "", "..", "/", "\0", "/a/../../../app", "\ud800"):
        assert files.open(1, Mapping(0, 1, 0, name, FILE)) is None
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(files.notes()) == 1
    assert " and 4 more" in files.notes()[0]


@pytest.mark.skipif(not shutil.which("objcopy"), reason="no objcopy")
@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")
def test_separate_debug_information(tmp_path: Path) -> None:
    source, app = tmp_path / "app.c", tmp_path / "app"
    source.write_text("int work(int x) { return x * 3; }\nint main(void) { return work(1); }\n")
    subprocess.run(["gcc", "-Wl,--build-id", "-o", app, source], check=True, timeout=60)
    image = ElfImage.from_bytes(app.read_bytes())
    listed = subprocess.run(["nm", app], capture_output=True, text=True, check=True, timeout=60)
    work = next(line for line in listed.stdout.splitlines() if line.endswith(" T work"))
    offset = image.offset_of_address(int(work.split()[0], 16))
    assert offset is not None
    build_id, begin = image.build_id, offset & -0x1000
    debug = tmp_path / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"
    debug.parent.mkdir(parents=True)
    subprocess.run(["objcopy", "--only-keep-debug", app, debug], check=True, timeout=60)
    app.unlink()
    mapping = Mapping(0x700000, 0x701000, begin, "/opt/app", FILE)
    made = of_another_machine()
    made.facts = HostFacts({file_key(mapping): build_id})
    made.processes[100].images = [Image(0, (mapping,))]
    made.stacks[1] = Stack(user=(0x700000 + offset - begin,))
    path = saved(made, tmp_path / "in.ssc")
    assert "main_app;work" in stacks(path, "--debug-dir", str(tmp_path))


def test_facts_are_of_what_occurs_only(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(Maker(SYMBOLS, build_id=BUILD_ID).build())
    (tmp_path / "kallsyms").write_text(
        "ffffffff81000000 T first\nffffffff81000100 T wanted\nffffffff81000200 t last\n"
        "ffffffffc0000000 t inner\t[ext4]\nffffffffc0000100 t next\t[ext4]\n"
    )
    options = SymbolizerOptions(kallsyms=str(tmp_path / "kallsyms"), modules=os.devnull)
    made = of_another_machine()
    unused = Mapping(0x900000, 0x901000, 0, "/opt/unused", FileId(8, 1, 78))
    made.processes[100].images = [Image(0, (APP, unused))]
    made.stacks[2] = Stack((0xFFFFFFFF81000150, 0xFFFFFFFFC0000008), made.stacks[2].user)
    asked = []

    def opener(tgid: int, mapping: Mapping) -> int:
        asked.append(mapping.path)
        return os.open(tmp_path / "image", os.O_RDONLY)

    facts = gather_facts(made, opener, options)
    assert facts.build_ids == {file_key(APP): BUILD_ID.hex()}
    assert asked == ["/opt/away/app"]
    assert facts.kernel_symbols == [
        KernelSymbol(0xFFFFFFFF81000100, 0xFFFFFFFF81000200, "wanted"),
        KernelSymbol(0xFFFFFFFFC0000000, 0xFFFFFFFFC0000100, "inner", "ext4"),
    ]
    assert (facts.vdso, facts.notes) == (b"", [])
    made.facts, made.kernel = None, ""
    there = symbolize(made, options, opener)
    made.facts = facts
    elsewhere = symbolize(made, SymbolizerOptions(kallsyms=os.devnull), opener)
    for one, other in zip(elsewhere.samples, there.samples):
        assert one.frames == other.frames


def test_a_named_profile_takes_its_facts_along(tmp_path: Path) -> None:
    (tmp_path / "app").write_bytes(Maker(SYMBOLS, build_id=BUILD_ID).build())
    (tmp_path / "kallsyms").write_text("00000000ffff0000 T do_wait\t[ext4]\n")
    options = SymbolizerOptions(kallsyms=str(tmp_path / "kallsyms"), modules=os.devnull)
    made = of_another_machine()
    made.facts, made.kernel = None, ""
    named = symbolize(made, options, lambda tgid, mapping: os.open(tmp_path / "app", os.O_RDONLY))
    systemscope.write(named, tmp_path / "a.ssc")
    again = systemscope.load(tmp_path / "a.ssc", [tmp_path])
    assert [one.frames for one in again.samples] == [one.frames for one in named.samples]
    assert again.notes == []
    assert any(frame.name == "do_wait" for one in again.samples for frame in one.frames)


def test_bytes_are_not_for_terminals(
    recorded: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("systemscope.cli.destination.is_terminal", lambda: True)
    assert main(["convert", str(recorded), "--output", "capture"]) == ExitCode.USAGE
    assert "not for terminals; name a file with -o" in capfd.readouterr().err
