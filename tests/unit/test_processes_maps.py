"""Parsing /proc/PID/maps."""

from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemscope.model import FileId, Mapping
from systemscope.processes import maps

CAPTURED = b"""\
55ac9d5e9000-55ac9d5eb000 r--p 00000000 fe:00 260386                     /usr/bin/head
55ac9d5eb000-55ac9d5f1000 r-xp 00002000 fe:00 260386                     /usr/bin/head
55acb62bf000-55acb62e0000 rw-p 00000000 00:00 0                          [heap]
7f7cb77ed000-7f7cb77ef000 r-xp 00000000 00:00 0                          [vdso]
7f7cb77f0000-7f7cb77f1000 rwxp 00000000 00:00 0\x20
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
"""


def test_executable_mappings_only() -> None:
    head = FileId(0xFE, 0, 260386)
    assert maps.parse_mappings(CAPTURED) == (
        Mapping(0x55AC9D5EB000, 0x55AC9D5F1000, 0x2000, "/usr/bin/head", head),
        Mapping(0x7F7CB77ED000, 0x7F7CB77EF000, 0, "[vdso]"),
        Mapping(0x7F7CB77F0000, 0x7F7CB77F1000, 0, ""),
        Mapping(0xFFFFFFFFFF600000, 0xFFFFFFFFFF601000, 0, "[vsyscall]"),
    )


@pytest.mark.parametrize(
    ("shown", "path", "deleted"),
    [
        (b"/tmp/a b  ", "/tmp/a b  ", False),
        (b"/tmp/x (deleted)", "/tmp/x", True),
        (b"/tmp/two\\012lines", "/tmp/two\nlines", False),
        (b"/memfd:jit (deleted)", "/memfd:jit", True),
        (b"/tmp/\r\x0b\x85\xff", "/tmp/\r\x0b\udc85\udcff", False),
        (b"[anon:x (deleted)]", "[anon:x (deleted)]", False),
    ],
)
def test_odd_names(shown: bytes, path: str, deleted: bool) -> None:
    line = b"1000-2000 r-xs 00001000 00:1f 42 " + shown + b"\n"
    assert maps.parse_mappings(line) == (
        Mapping(0x1000, 0x2000, 0x1000, path, FileId(0, 0x1F, 42), deleted),
    )


@given(st.binary(max_size=200).filter(lambda name: b"\n" not in name))
def test_a_name_is_never_two_mappings(name: bytes) -> None:
    found = maps.parse_mappings(b"1000-2000 r-xp 00000000 08:01 5 /" + name + b"\n")
    assert len(found) == 1
    assert (found[0].start, found[0].end) == (0x1000, 0x2000)


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    for mapping in maps.parse_mappings(data + b"\n" + data):
        assert 0 <= mapping.start < mapping.end < 1 << 64


def test_bounds() -> None:
    line = b"%x-%x r-xp 00000000 00:00 0 " + b"/" * 10_000 + b"\n"
    found = maps.parse_mappings(line % (0x1000, 0x2000) + b"3000-2000 r-xp 0 00:00 0 /x\n")
    assert [len(mapping.path) for mapping in found] == [maps.MAX_PATH]
    many = b"".join(
        b"%x-%x r-xp 00000000 00:00 0\n" % (i << 12, (i + 1) << 12) for i in range(70_000)
    )
    assert len(maps.parse_mappings(many)) == maps.MAX_MAPPINGS


def test_own_mappings_agree_with_the_file() -> None:
    with open("/proc/self/maps", "rb") as stream:
        expected = [line for line in stream if b"x" in line.split()[1]]
    found = maps.read_mappings(os.getpid())
    starts = [int(line.split(b"-")[0], 16) for line in expected]
    # Mappings may come between the two reads, none of these go.
    assert set(starts) <= {mapping.start for mapping in found}
    assert list(found) == sorted(found, key=lambda mapping: mapping.start)


def test_none_for_a_process_that_is_gone() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert maps.read_mappings(child.pid) == ()
