"""The BTF reader on the running kernel's types, against three other sources."""

from __future__ import annotations

import resource
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

from systemscope.kernel.btf import VMLINUX, BtfKind, KernelBtf, Member
from systemscope.kernel.tracefs import tracefs
from systemscope.syscalls import bpf

pytestmark = pytest.mark.kernel

RETURN_0 = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)


@pytest.fixture
def btf() -> Iterator[KernelBtf]:
    opened: Optional[KernelBtf] = KernelBtf.open()
    if opened is None:
        pytest.skip("this kernel has no BTF")
    with opened:
        yield opened


@pytest.mark.parametrize(
    ("event", "struct_name"),
    [
        ("sched_switch", "trace_event_raw_sched_switch"),
        ("sched_wakeup", "trace_event_raw_sched_wakeup_template"),
        ("sched_process_fork", "trace_event_raw_sched_process_fork"),
        ("sched_migrate_task", "trace_event_raw_sched_migrate_task"),
    ],
)
def test_event_records_lie_where_tracefs_says(btf: KernelBtf, event: str, struct_name: str) -> None:
    """Both describe the same C struct, by different ways out of the kernel."""
    with tracefs() as files:
        fields = files.format("sched", event).fields
    compared = 0
    for name, field in fields.items():
        if name.startswith("common_"):
            continue
        member = btf.member(struct_name, name)
        if member is None:  # dynamic strings go by another name
            continue
        assert member == Member(field.offset, field.size, 0, 0), name
        compared += 1
    assert compared >= 2


def test_common_fields(btf: KernelBtf) -> None:
    with tracefs() as files:
        fields = files.format("sched", "sched_switch").fields
    for ours, theirs in (("type", "common_type"), ("pid", "common_pid")):
        member = btf.member("trace_event_raw_sched_switch", f"ent.{ours}")
        assert member is not None
        assert (member.offset, member.size) == (fields[theirs].offset, fields[theirs].size)


def test_the_kernel_takes_the_ids(btf: KernelBtf) -> None:
    """A wrong id would be another function's, and the load be refused."""
    for name, kind, attach in (
        ("btf_trace_sched_switch", BtfKind.TYPEDEF, 23),
        ("bpf_iter_task", BtfKind.FUNC, 28),
    ):
        type_id = btf.type_id(name, kind)
        if not type_id:
            continue
        for wrong, number in ((False, type_id), (True, type_id - 1)):
            result = bpf.prog_load(
                bpf.LoadRequest(
                    type=26, code=RETURN_0, expected_attach_type=attach, attach_btf_id=number
                )
            )
            if result.fd is not None:
                result.fd.close()
            if not wrong:
                assert result.errno == 0, name
            elif kind is BtfKind.FUNC:
                assert result.errno, "the type before it is no iterator"


@pytest.mark.parametrize("name", ["btf_trace_sched_switch", "task_struct", "runqueues", "int"])
def test_against_a_plain_walk(btf: KernelBtf, name: str) -> None:
    """Ids by walking every record in order, the way the format's description reads."""
    expected = _walk(Path(VMLINUX).read_bytes(), name)
    assert expected, f"{name} is in no kernel's BTF?"
    for kind in BtfKind:
        assert btf.type_id(name, kind) == expected.get(int(kind), 0), kind.name


def _walk(data: bytes, name: str) -> dict[int, int]:
    _, _, _, header, types, types_size, strings, _ = struct.unpack_from("=HBBIIIII", data)
    after = {1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8)}
    after.update({14: (4, 0), 15: (0, 12), 17: (4, 0), 19: (0, 12)})
    found: dict[int, int] = {}
    at, end, number = header + types, header + types + types_size, 0
    wanted = name.encode() + b"\0"
    while at < end:
        number += 1
        name_offset, info, _ = struct.unpack_from("=III", data, at)
        kind = info >> 24 & 31
        if data.startswith(wanted, header + strings + name_offset):
            found.setdefault(kind, number)
        fixed, each = after.get(kind, (0, 0))
        at += 12 + fixed + each * (info & 0xFFFF)
    return found


def test_members_of_task_struct(btf: KernelBtf) -> None:
    comm = btf.member("task_struct", "comm")
    assert comm is not None and comm.size == 16
    for name in ("pid", "tgid"):
        member = btf.member("task_struct", name)
        assert member is not None and member.size == 4
    size = btf.size("task_struct")
    assert size is not None and size > comm.offset + comm.size
    assert btf.member("task_struct", "there_is_no_such_member") is None
    bit = btf.member("task_struct", "sched_reset_on_fork")
    assert bit is not None and bit.bit_size == 1 and 0 <= bit.bit_offset < 32


def test_struct_sizes_against_the_slab_allocator(btf: KernelBtf) -> None:
    """task_struct is a slab cache; the objects are at least as long as the struct."""
    try:
        text = Path("/proc/slabinfo").read_text()
    except OSError:
        pytest.skip("no slabinfo")
    row = next((line for line in text.splitlines() if line.startswith("task_struct ")), "")
    size = btf.size("task_struct")
    if not row:
        pytest.skip("task_struct is merged with another cache")
    object_size = int(row.split()[3])
    assert size is not None and size <= object_size < size + 8 * resource.getpagesize()


def test_parameters(btf: KernelBtf) -> None:
    names = btf.params("btf_trace_sched_switch")
    assert btf.arity("btf_trace_sched_switch") == len(names)
    assert names[0] in ("__data", "")
    if names[0]:
        assert names[1:4] == ("preempt", "prev", "next")
