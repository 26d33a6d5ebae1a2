"""Kernel names: the table, its edges, and the frames left out at the top of a stack."""

from __future__ import annotations

import os
from bisect import bisect_right
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from systemscope.model import Capture, Entry, Frame, FrameKind, Stack, State, Thread
from systemscope.symbolizer import SymbolizerOptions, symbolize
from systemscope.symbolizer.kallsyms import KernelSymbols
from systemscope.symbolizer.kernel import KernelNamer, parse_named, strip_machinery

KALLSYMS = b"""\
ffffffff81000000 T srso_alias_untrain_ret
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000100 t helper
ffffffff81000180 t __pfx_schedule
ffffffff81000190 T schedule
ffffffff81000200 W weak_function
ffffffff81000300 T _etext
ffffffff81000400 r __ksymtab_schedule
ffffffff81000410 D jiffies
ffffffff82000000 t init_function
ffffffff82000100 T _einittext
ffffffffc0400000 t ext4_second\t[ext4]
ffffffffc0300000 t xfs_only\t[xfs]
ffffffffc0400100 t ext4_last\t[ext4]
ffffffffc0500000 t bpf_prog_6deef7357e7b4530_hook\t[bpf]
"""
MODULES = b"""\
ext4 8192 1 - Live 0xffffffffc0400000
xfs 4096 2 ext4, Live 0xffffffffc0300000 (E)
"""


@pytest.fixture
def options(tmp_path: Path) -> SymbolizerOptions:
    (tmp_path / "kallsyms").write_bytes(KALLSYMS)
    (tmp_path / "modules").write_bytes(MODULES)
    return SymbolizerOptions(kallsyms=str(tmp_path / "kallsyms"), modules=str(tmp_path / "modules"))


@pytest.mark.parametrize(
    ("address", "name", "module"),
    [
        (0xFFFFFFFF80FFFFFF, "", ""),
        (0xFFFFFFFF81000000, "srso_alias_untrain_ret", "[kernel]"),
        (0xFFFFFFFF810000FF, "srso_alias_untrain_ret", "[kernel]"),
        (0xFFFFFFFF81000100, "helper", "[kernel]"),
        (0xFFFFFFFF810001FF, "schedule", "[kernel]"),
        (0xFFFFFFFF810002FF, "weak_function", "[kernel]"),
        (0xFFFFFFFF81000300, "", ""),  # behind the core's code
        (0xFFFFFFFF81000408, "", ""),  # no ksymtab entry has code
        (0xFFFFFFFF82000010, "init_function", "[kernel]"),
        (0xFFFFFFFF82000200, "", ""),
        (0xFFFFFFFFC0300FFF, "xfs_only", "[xfs]"),
        (0xFFFFFFFFC0301000, "", ""),  # behind the module
        (0xFFFFFFFFC0400050, "ext4_second", "[ext4]"),
        (0xFFFFFFFFC0401FFF, "ext4_last", "[ext4]"),
        (0xFFFFFFFFC0402000, "", ""),
        (0xFFFFFFFFC0500040, "bpf_prog_6deef7357e7b4530_hook", "[bpf]"),
        (0xFFFFFFFFC0600000, "", ""),
        (0, "", ""),
        (1 << 64, "", ""),
    ],
)
def test_find(address: int, name: str, module: str) -> None:
    found = KernelSymbols(KALLSYMS, MODULES).find(address)
    assert (found.name, found.module) == (name, module) if found else name == ""


@settings(deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=200), st.integers(0, (1 << 64) - 1))
def test_nonsense_is_harmless(data: bytes, modules: bytes, address: int) -> None:
    KernelSymbols(data, modules).find(address)
    KernelSymbols(b"ffffffff8100000g T x\n" + data, b"m 1 1 - Live 0xzz\n" + modules).find(address)


def test_own_table_against_a_plain_search() -> None:
    """Every 500th symbol of this machine's table, at its start and one byte before it."""
    with open("/proc/kallsyms", "rb") as file:
        data = file.read()
    rows = [line.split(None, 3) for line in data.splitlines()]
    code = sorted((int(r[0], 16), r[2].decode()) for r in rows if r[1] in b"tTwW" and len(r) == 3)
    if not code or code[-1][0] == 0:
        pytest.skip("this kernel hides its addresses")
    symbols = KernelSymbols(data)
    starts = [start for start, _ in code]
    for start, _ in code[::500]:
        for address in (start, start - 1):
            found = symbols.find(address)
            if found is not None:
                at = starts[bisect_right(starts, address) - 1]
                assert found.start == at
                assert (at, found.name) in code


def kernel_frame(name: str, unknown: str = "") -> Frame:
    return Frame(name, FrameKind.KERNEL, unknown=unknown)


@pytest.mark.parametrize(
    ("names", "left"),
    [
        (["__schedule", "schedule", "do_nanosleep"], 3),
        (["bpf_prog_0123456789abcdef_x", "bpf_trace_run4", "__schedule", "schedule"], 2),
        (["?", "bpf_trace_run4", "__traceiter_sched_switch", "__schedule", "schedule"], 2),
        (["bpf_trampoline_6442517", "__schedule", "schedule"], 2),
        (["perf_trace_sched_switch", "__schedule", "schedule"], 2),
        (["__schedule", "__schedule", "schedule"], 2),
        (["finish_task_switch.isra.0", "__schedule", "schedule"], 2),
        (["finish_task_switch", "schedule_tail", "ret_from_fork"], 2),
        (["finish_task_switch", "other"], 2),
        (["?", "__schedule", "schedule"], 3),
        (["?", "?"], 2),
        (["__schedule", "bpf_prog_0123456789abcdef_x", "schedule"], 3),
        (["schedule", "futex_wait", "__sys_bpf"], 3),
        ([], 0),
    ],
)
def test_machinery_of_the_walk_is_left_out(names: list[str], left: int) -> None:
    frames = [kernel_frame(name, "unknown" if name == "?" else "") for name in names]
    assert strip_machinery(frames) == frames[len(frames) - left :]


def test_running_leaf_is_exact_and_nothing_is_left_out(options: SymbolizerOptions) -> None:
    namer = KernelNamer(options)
    at_start = Stack(kernel=(0xFFFFFFFF81000190, 0xFFFFFFFF81000200))
    names = [f.name for f in namer.frames(at_start, running=True)]
    assert names == ["schedule", "schedule"]  # the second is a call that ends schedule
    names = [f.name for f in namer.frames(at_start, running=False)]
    assert names == ["__pfx_schedule", "schedule"]
    program = Stack(kernel=(0xFFFFFFFFC0500040, 0xFFFFFFFF81000110))
    assert len(namer.frames(program, running=True)) == 2
    assert len(namer.frames(program, running=False)) == 1
    second = namer.frames(at_start, running=True)[1]
    assert (second.address, second.offset) == (0xFFFFFFFF81000200, 0x70)
    assert second.module == "[kernel]" and second.unknown == ""


@pytest.mark.parametrize(
    ("text", "name", "offset", "module"),
    [
        ("do_nanosleep+0x53/0x1b0", "do_nanosleep", 0x53, "[kernel]"),
        ("[<0>] do_nanosleep+0x53/0x1b0", "do_nanosleep", 0x53, "[kernel]"),
        ("[<ffffffff81>] pipe_read+0x1", "pipe_read", 1, "[kernel]"),
        ("nfs_wait+0x2c/0x60 [nfs]", "nfs_wait", 0x2C, "[nfs]"),
        ("0xffffffff81234567", "[kernel]+0xffffffff81234567", 0, "[kernel]"),
        ("", "[kernel]+?", 0, "[kernel]"),
    ],
)
def test_lines_of_proc_stack(text: str, name: str, offset: int, module: str) -> None:
    frame = parse_named(text)
    assert (frame.name, frame.offset, frame.module) == (name, offset, module)
    assert bool(frame.unknown) == name.startswith("[kernel]+")


def one_entry(stack: Stack, state: State = State.SLEEPING) -> Capture:
    capture = Capture(0, 10, 0.0, 99, "cpu-clock")
    capture.threads = [Thread(7, 7, "kworker", 0, 10)]
    capture.stacks.append(stack)
    capture.entries = [Entry(0, state, 1, 10, 1, 5)]
    return capture


def test_hidden_addresses_are_told(tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_bytes(b"0000000000000000 T _text\n0000000000000000 t schedule\n")
    capture = one_entry(Stack(kernel=(0xFFFFFFFF81000190,)))
    profile = symbolize(capture, SymbolizerOptions(kallsyms=str(path)))
    frame = profile.samples[0].frames[0]
    assert frame.name == "[kernel]+0xffffffff81000190"
    assert "kptr_restrict" in frame.unknown
    assert len(profile.notes) == 1 and "kptr_restrict" in profile.notes[0]
    assert (capture.losses.resolved_frames, capture.losses.unresolved_frames) == (0, 1)


def test_missing_table_is_told() -> None:
    capture = one_entry(Stack(kernel=(0xFFFFFFFF81000190,)))
    profile = symbolize(capture, SymbolizerOptions(kallsyms="/nonexistent"))
    assert "no /proc/kallsyms" in profile.notes[0]


def test_capture_of_another_kernel_is_not_named() -> None:
    capture = one_entry(Stack(kernel=(0xFFFFFFFF81000190,)))
    capture.kernel = os.uname().release + "-other"
    assert symbolize(capture).samples[0].frames[0].unknown
    capture.kernel = "1.2.3"
    assert "another kernel" in symbolize(capture).notes[0]


def test_no_kernel_address_no_table_read() -> None:
    capture = one_entry(Stack(kernel_names=("do_nanosleep+0x53/0x1b0",)))
    profile = symbolize(capture, SymbolizerOptions(kallsyms="/nonexistent"))
    assert profile.notes == []
    assert [f.name for f in profile.samples[0].frames] == ["do_nanosleep"]
