"""Unwind tables of real programs, row by row as readelf and pyelftools read them."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Optional

import pytest

from systemscope.elf import ElfImage, Machine
from systemscope.elf.unwind_stubs import linker_stubs
from systemscope.elf.unwind_table import UnwindTable, build_unwind_table
from tests.unit.cfi_maker import check_packing
from tests.unit.unwind_oracles import K, Row, S, agrees, compare, readelf_rows

SOURCE = r"""
volatile int sink;
__attribute__((noinline)) int leaf(int x) { return x * sink; }
__attribute__((noinline)) int uses(int n) {
    char *p = __builtin_alloca(n);
    __builtin_memset(p, n, n);
    return leaf(p[n / 2]) + p[0];
}
__attribute__((noinline)) int large(int n) {
    char room[100000];
    __builtin_memset(room, n, sizeof room);
    return leaf(room[n]) + room[1];
}
__attribute__((noinline)) int many(int a, int b, int c, int d, int e, int f, int g, int h) {
    int x = leaf(a) + leaf(b) * c, y = leaf(c) - leaf(d);
    if (leaf(e)) return x;
    for (int i = 0; i < f; i++) { x += leaf(i) * y; y ^= leaf(x + g); if (y == h) return -x; }
    return x + leaf(y);
}
int main(int argc, char **argv) { return uses(argc) + large(argc) + many(1, 2, 3, 4, 5, 6, 7, 8); }
"""
#: gcc realigns the stack through r10 for wide vectors beside arguments on the stack.
REALIGNED = r"""
typedef int wide __attribute__((vector_size(64)));
__attribute__((noinline)) void take(wide *a, char *b) { *(volatile char *)b = (char)(*a)[1]; }
__attribute__((noinline)) int aligned(int n, wide *w, int c, int d, int e, int f, int g, ...) {
    __builtin_va_list list;
    __builtin_va_start(list, g);
    wide here = *w;
    char *p = __builtin_alloca(n);
    take(&here, p);
    return here[0] + __builtin_va_arg(list, int);
}
int main(int argc, char **argv) { wide w = {argc}; return aligned(argc, &w, 1, 2, 3, 4, 5, 6); }
"""

X86 = os.uname().machine == "x86_64"
needs_cc = pytest.mark.skipif(
    shutil.which("gcc") is None and os.environ.get("SYSTEMSCOPE_REQUIRE_KERNEL") != "1",
    reason="needs gcc and binutils",
)
needs_readelf = pytest.mark.skipif(
    shutil.which("readelf") is None and os.environ.get("SYSTEMSCOPE_REQUIRE_KERNEL") != "1",
    reason="needs readelf",
)
only_x86 = pytest.mark.skipif(not X86, reason="describes x86-64 code")


def compiled(directory: Path, *options: str, source: str = SOURCE, cc: str = "gcc") -> Path:
    text, program = directory / "a.c", directory / "a.out"
    text.write_text(source)
    done = subprocess.run(
        [cc, *options, "-o", str(program), str(text)], check=False, capture_output=True, text=True
    )
    if done.returncode and "-static" in options:
        pytest.skip("no static C library")
    assert done.returncode == 0, done.stderr
    return program


def table_of(path: Path) -> UnwindTable:
    table = build_unwind_table(ElfImage.from_bytes(path.read_bytes()))
    assert table is not None
    check_packing(table)
    return table


def kinds(table: UnwindTable) -> set[int]:
    return {table.rule(number).cfa for number in range(table.rules)}


def assert_as_readelf_says(path: Path, section: str = "", step: int = 1) -> UnwindTable:
    table = table_of(path)
    seen, wrong = compare(table, readelf_rows(str(path), section), step)
    assert not wrong, "\n".join(wrong[:10])
    assert seen > 10
    return table


@needs_cc
@pytest.mark.parametrize(
    "options",
    [
        ("-O2",),
        ("-O0",),
        ("-O2", "-fno-omit-frame-pointer", "-fcf-protection=full") if X86 else ("-O1",),
        ("-Os", "-g"),
        ("-O2", "-static"),
        ("-O2", "-ffunction-sections", "-fsplit-stack") if X86 else ("-O3",),
    ],
    ids=" ".join,
)
def test_small_programs(tmp_path: Path, options: tuple[str, ...]) -> None:
    table = assert_as_readelf_says(compiled(tmp_path, *options))
    assert table.source.startswith(".eh_frame")


@needs_cc
@only_x86
def test_a_realigned_stack(tmp_path: Path) -> None:
    path = compiled(tmp_path, "-O2", source=REALIGNED)
    table = assert_as_readelf_says(path)
    found = [rule for rule in map(table.rule, range(table.rules)) if rule.cfa == K.FRAME_DEREF]
    assert found, "gcc describes a realigned stack in another way"
    assert all((rule.fp, rule.fp_offset) == (S.AT_FRAME, 0) for rule in found)
    assert all(rule.ra == S.AT_CFA for rule in found)


@needs_cc
@pytest.mark.parametrize("compression", ["none", "zlib", "zlib-gnu"])
def test_debug_frame_alone(tmp_path: Path, compression: str) -> None:
    options = ["-O2", "-g", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-c"]
    path = compiled(tmp_path, *options)
    program = tmp_path / "b.out"
    link = ["gcc", "-nostartfiles", "-Wl,-e,main", "-Wl,--no-eh-frame-hdr"]
    subprocess.run([*link, "-o", str(program), str(path)], check=True)
    packed = tmp_path / "c.out"
    command = ["objcopy", "--remove-section=.eh_frame", f"--compress-debug-sections={compression}"]
    subprocess.run([*command, str(program), str(packed)], check=True)
    table = assert_as_readelf_says(packed, "debug_frame")
    assert table.source == ".debug_frame"


@needs_cc
def test_no_section_headers_make_no_difference(tmp_path: Path) -> None:
    path = compiled(tmp_path, "-O2")
    data = bytearray(path.read_bytes())
    struct.pack_into("<Q", data, 40, 0)  # e_shoff
    struct.pack_into("<HHH", data, 58, 0, 0, 0)
    without = build_unwind_table(ElfImage.from_bytes(bytes(data)))
    assert without is not None
    table, image = table_of(path), ElfImage.from_bytes(path.read_bytes())
    stubs = [range(start, start + len(code)) for _, start, code in linker_stubs(image)]
    assert len(stubs) == 2  # _init and _fini are found by their sections alone
    for address in range(table.low, table.low + 256 * table.blocks):
        if not any(address in stub for stub in stubs):
            assert without.rule_at(address) == table.rule_at(address), hex(address)


@needs_cc
def test_the_linkers_init_and_fini(tmp_path: Path) -> None:
    path = compiled(tmp_path, "-O2")
    table = table_of(path)
    for _, start, code in linker_stubs(ElfImage.from_bytes(path.read_bytes())):
        called = code.index(b"\x48\x83\xec\x08")
        distances = [table.rule_at(start + at).offset for at in range(len(code))]
        inside = len(code) - 1 - called - 4
        assert distances == [8] * (called + 4) + [16] * inside + [8]
        assert all(table.rule_at(start + at).cfa == 3 for at in range(len(code)))


def library(name: str) -> Optional[Path]:
    """The file of a library that this process has mapped, or that ldconfig would find."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if os.path.basename(line.split()[-1]).startswith(name):
            return Path(line.split()[-1])
    places = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64")
    found = [path for place in places for path in Path(place).glob(name + "*")]
    return found[0] if found else None


@needs_readelf
@pytest.mark.parametrize(
    ("name", "step"),
    [("libc.so", 1), ("ld-linux", 1), ("libcrypto.so", 5), ("libstdc++.so", 5), ("libpython3", 7)],
)
def test_libraries(name: str, step: int) -> None:
    path = library(name)
    if path is None:
        pytest.skip(f"no {name} here")
    assert_as_readelf_says(path.resolve(), step=step)


@only_x86
def test_signal_frame_of_the_c_library() -> None:
    path = library("libc.so")
    assert path is not None
    table = table_of(path)
    signals = [rule for rule in map(table.rule, range(table.rules)) if rule.cfa == K.SIGNAL]
    # From sp up: uc_flags and the rest, 40 bytes; struct sigcontext_64: r8 to r15, rdi, rsi,
    # rbp (120), rbx (128), rdx, rax, rcx, rsp (160), rip (168).
    assert signals == [(K.SIGNAL, S.AT_CFA, S.AT_CFA, S.AT_CFA, 160, 0, 120, 168, 128)]


@only_x86
def test_the_dynamic_linker_counts_from_rbx() -> None:
    path = library("ld-linux")
    assert path is not None
    table = table_of(path)
    extra = [rule for rule in map(table.rule, range(table.rules)) if rule.cfa == K.EXTRA]
    assert extra, "_dl_runtime_resolve describes itself in another way"
    assert all(rule.extra == S.AT_CFA and rule.ra == S.AT_CFA for rule in extra)
    assert K.ENTRY in kinds(table)


def test_vdso() -> None:
    maps = Path("/proc/self/maps").read_text().splitlines()
    line = next((line for line in maps if line.endswith("[vdso]")), None)
    if line is None:
        pytest.skip("no vdso here")
    begin, end = (int(part, 16) for part in line.split()[0].split("-"))
    with open("/proc/self/mem", "rb") as memory:
        memory.seek(begin)
        data = memory.read(end - begin)
    table = build_unwind_table(ElfImage.from_bytes(data))
    assert table is not None
    check_packing(table)
    assert K.STACK in kinds(table)
    bare = bytearray(data)
    struct.pack_into("<Q", bare, 40, 0)
    again = build_unwind_table(ElfImage.from_bytes(bytes(bare)))
    assert again is not None
    assert again.words == table.words


ARM = "/usr/aarch64-linux-gnu/lib"


@needs_readelf
@pytest.mark.parametrize("name", ["libc.so.6", "ld-linux-aarch64.so.1", "libgcc_s.so.1"])
def test_libraries_of_aarch64(name: str) -> None:
    path = Path(ARM, name)
    if not path.exists():
        pytest.skip("libc6-arm64-cross is not installed")
    table = assert_as_readelf_says(path.resolve())
    rules = [table.rule(number) for number in range(1, table.rules)]
    assert any(rule.ra == S.SAME for rule in rules), "leaves return through x30"
    assert any(rule.ra == S.AT_CFA for rule in rules)
    assert all(rule.extra == S.SAME for rule in rules)


@pytest.mark.parametrize("options", [("-O2",), ("-O0",), ("-O2", "-mbranch-protection=standard")])
def test_small_programs_of_aarch64(tmp_path: Path, options: tuple[str, ...]) -> None:
    cc = "aarch64-linux-gnu-gcc"
    if shutil.which(cc) is None:
        pytest.skip("gcc-aarch64-linux-gnu is not installed")
    path = compiled(tmp_path, *options, "-c", "-fPIC", cc=cc)
    program = tmp_path / "b.out"
    subprocess.run([cc, "-nostdlib", "-shared", "-o", str(program), str(path)], check=True)
    assert_as_readelf_says(program)


def named_register(number: int) -> str:
    return {7: "rsp", 6: "rbp", 3: "rbx", 31: "sp", 29: "x29"}.get(number, f"r{number}")


def pyelftools_rows(path: Path, machine: Machine) -> list[Row]:
    """As readelf_rows, decoded by pyelftools, which passes over nothing we read."""
    pytest.importorskip("elftools")
    from elftools.dwarf.callframe import FDE
    from elftools.elf.elffile import ELFFile

    fp, ra = (6, 16) if machine is Machine.X86_64 else (29, 30)
    rows = []
    with path.open("rb") as stream:
        for entry in ELFFile(stream).get_dwarf_info().EH_CFI_entries():
            if not isinstance(entry, FDE):
                continue
            low = entry.header.initial_location
            high = low + entry.header.address_range
            lines = entry.get_decoded().table or entry.cie.get_decoded().table
            starts = [max(low, line["pc"]) for line in lines]
            for line, start, end in zip(lines, starts, [*starts[1:], high]):
                cfa = line["cfa"]
                text = "exp" if cfa.expr else f"{named_register(cfa.reg)}{cfa.offset:+d}"
                if start < min(end, high):
                    saves = [_save(line.get(register)) for register in (fp, ra)]
                    rows.append(Row(start, min(end, high), text, *saves))
    return rows


def _save(rule: object) -> str:
    kind, arg = getattr(rule, "type", ""), getattr(rule, "arg", None)
    if kind == "OFFSET" and isinstance(arg, int):
        return f"c{arg:+d}"
    return {"UNDEFINED": "u", "SAME_VALUE": "s", "": ""}.get(str(kind), "exp")


@needs_cc
@only_x86
@pytest.mark.parametrize("source", [SOURCE, REALIGNED], ids=["plain", "realigned"])
def test_pyelftools_agrees(tmp_path: Path, source: str) -> None:
    path = compiled(tmp_path, "-O2", source=source)
    table, rows = table_of(path), pyelftools_rows(path, Machine.X86_64)
    wrong = [row for row in rows if not agrees(table.rule_at(row.start), row)]
    wrong += [row for row in rows if not agrees(table.rule_at(row.end - 1), row)]
    assert not wrong
    assert len(rows) > 10


def test_pyelftools_agrees_on_aarch64() -> None:
    path = Path(ARM, "libgcc_s.so.1")
    if not path.exists():
        pytest.skip("libc6-arm64-cross is not installed")
    table, rows = table_of(path), pyelftools_rows(path, Machine.AARCH64)
    assert not [row for row in rows if not agrees(table.rule_at(row.start), row)]
    assert len(rows) > 300
