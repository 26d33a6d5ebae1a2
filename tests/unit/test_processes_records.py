"""Perf side-band records: made with struct as the kernel makes them, and hostile ones."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemscope.model import FileId, Mapping
from systemscope.processes import maps, records

KINDS = st.integers(0, 25)


def sample_id(pid: int = 7, tid: int = 8, time: int = 999) -> bytes:
    return struct.pack("=IIQ", pid, tid, time)


def padded(name: bytes) -> bytes:
    name += b"\0"
    return name + b"\0" * (-len(name) % 8)


def mmap2(
    name: bytes, inode: int = 5, prot: int = 5, length: int = 0x1000, offset: int = 0
) -> bytes:
    head = struct.pack("=iiQQQIIQQII", 7, 8, 0x4000, length, offset, 8, 1, inode, 77, prot, 2)
    return head + padded(name) + sample_id()


def test_mmap2() -> None:
    event = records.parse(records.RECORD_MMAP2, 2, mmap2(b"/usr/lib/libc.so.6", offset=0x2000))
    file = FileId(8, 1, 5, 77)
    assert event == records.Mmap(
        999, 7, Mapping(0x4000, 0x5000, 0x2000, "/usr/lib/libc.so.6", file)
    )


@pytest.mark.parametrize(
    ("name", "inode", "path", "deleted"),
    [
        (b"//anon", 0, "", False),
        (b"//toolong", 9, "", False),
        (b"[vdso]", 0, "[vdso]", False),
        (b"/tmp/x (deleted)", 9, "/tmp/x", True),
        (b"/tmp/two\nlines\\012", 9, "/tmp/two\nlines\\012", False),
        (b"/\xff", 9, "/\udcff", False),
        (b"", 0, "", False),
    ],
)
def test_mmap2_names(name: bytes, inode: int, path: str, deleted: bool) -> None:
    event = records.parse(records.RECORD_MMAP2, 0, mmap2(name, inode, offset=0x4000))
    assert isinstance(event, records.Mmap)
    assert (event.mapping.path, event.mapping.deleted) == (path, deleted)
    assert event.mapping.offset == (0x4000 if inode else 0)


def test_mmap2_of_no_interest() -> None:
    assert records.parse(records.RECORD_MMAP2, 0, mmap2(b"/x", prot=1)) is None
    assert records.parse(records.RECORD_MMAP2, 0, mmap2(b"/x", length=0)) is None
    assert records.parse(records.RECORD_MMAP2, 0, mmap2(b"/x", length=2**64 - 1)) is None
    assert records.parse(records.RECORD_MMAP2, 1 << 14, mmap2(b"/x")) is None


def test_comm_and_exec() -> None:
    body = struct.pack("=ii", 7, 8) + padded(b"a;b (c)") + sample_id()
    assert records.parse(records.RECORD_COMM, 0, body) == records.Comm(999, 7, 8, "a;b (c)", False)
    exec_ = records.parse(records.RECORD_COMM, records.MISC_COMM_EXEC, body)
    assert exec_ == records.Comm(999, 7, 8, "a;b (c)", True)


def test_fork_and_exit() -> None:
    body = struct.pack("=iiiiQ", 20, 10, 21, 11, 555) + sample_id()
    assert records.parse(records.RECORD_FORK, 0, body) == records.Fork(555, 20, 10, 21)
    assert records.parse(records.RECORD_EXIT, 0, body) == records.Exit(555, 20, 21)


def test_other_namespaces_are_left_out() -> None:
    for pid in (0, -1):
        body = struct.pack("=iiiiQ", pid, 10, 21, 11, 555) + sample_id()
        assert records.parse(records.RECORD_FORK, 0, body) is None


def test_time_and_owner_without_parsing() -> None:
    body = struct.pack("=iiiiQ", 20, 10, 21, 11, 555) + sample_id(time=556)
    assert records.time_of(body) == 556
    assert records.tgid_of(body) == 20
    assert records.parent_of(body) == 10
    assert records.time_of(b"") == 0


@given(KINDS, st.integers(0, 65535), st.binary(max_size=200))
def test_any_record(kind: int, misc: int, body: bytes) -> None:
    records.time_of(body)
    event = records.parse(kind, misc, body)
    if isinstance(event, records.Mmap):
        assert event.mapping.start < event.mapping.end <= 1 << 64


@given(st.binary(max_size=9000))
def test_any_name(name: bytes) -> None:
    event = records.parse(records.RECORD_MMAP2, 0, mmap2(name))
    assert isinstance(event, records.Mmap)
    assert len(event.mapping.path) <= maps.MAX_PATH
