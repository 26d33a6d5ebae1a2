"""The perf side-band's records: FORK, EXEC, COMM, MMAP2 and EXIT as plain events.

Source: ``enum perf_event_type`` in include/uapi/linux/perf_event.h, and kernel/events/core.c. A
record's body is followed by the sample id, here {u32 pid, tid; u64 time} (SampleType TID | TIME).
Names in them are a process's own choice.
"""

from __future__ import annotations

import struct
import sys
from functools import lru_cache
from typing import NamedTuple, Optional, Union

from systemscope.model import FileId, Mapping
from systemscope.processes.maps import MAX_PATH, split_deleted
from systemscope.processes.proc import text
from systemscope.syscalls.perf_abi import Misc, RecordType

# Plain integers: comparing enum members costs more than all the rest of looking at a record.
RECORD_COMM = int(RecordType.COMM)
RECORD_EXIT = int(RecordType.EXIT)
RECORD_FORK = int(RecordType.FORK)
RECORD_MMAP2 = int(RecordType.MMAP2)
KINDS = frozenset((RECORD_COMM, RECORD_EXIT, RECORD_FORK, RECORD_MMAP2))

MISC_COMM_EXEC = int(Misc.COMM_EXEC)
_NOT_WANTED = int(Misc.MMAP_DATA | Misc.MMAP_BUILD_ID)
PROT_EXEC = 4

_ID = struct.Struct("=IIQ")  # sample id: pid, tid, time
_TASK = struct.Struct("=iiiiQ")  # pid, ppid, tid, ptid, time
_COMM = struct.Struct("=ii")  # pid, tid
# pid, tid, addr, len, pgoff, maj, min, ino, ino_generation, prot, flags
_MMAP2 = struct.Struct("=iiQQQIIQQII")

_ADDRESS_END = 1 << 64


class Fork(NamedTuple):
    """``child`` (thread ``tid``) was made by ``parent``; a new thread when the two are equal."""

    time: int
    child: int
    parent: int
    tid: int


class Exit(NamedTuple):
    """Thread ``tid`` of ``tgid`` ended."""

    time: int
    tgid: int
    tid: int


class Comm(NamedTuple):
    """Thread ``tid`` is now called ``comm``; ``exec`` when by executing a program."""

    time: int
    tgid: int
    tid: int
    comm: str
    exec: bool


class Mmap(NamedTuple):
    """``tgid`` mapped something executable, or made a mapping so."""

    time: int
    tgid: int
    mapping: Mapping


Event = Union[Fork, Exit, Comm, Mmap]


def time_of(body: bytes) -> int:
    """When a record of the interesting kinds was made; 0 when it is too short to tell."""
    return int.from_bytes(body[-8:], sys.byteorder) if len(body) >= _ID.size else 0


def tgid_of(body: bytes) -> int:
    """The process a record of the interesting kinds is about: all begin with it."""
    return int.from_bytes(body[:4], sys.byteorder, signed=True)


def parent_of(body: bytes) -> int:
    """The parent a FORK record names."""
    return int.from_bytes(body[4:8], sys.byteorder, signed=True)


def parse(kind: int, misc: int, body: bytes) -> Optional[Event]:
    """The event a record tells; ``body`` is what follows its header. None for records of no
    interest and for any that is too short for its kind or tells of a process outside our PID
    namespace (pid 0 or negative)."""
    if kind == RECORD_MMAP2:
        return _mmap2(misc, body)
    if kind in (RECORD_FORK, RECORD_EXIT):
        return _task(kind, body)
    if kind == RECORD_COMM:
        return _comm(misc, body)
    return None


def _task(kind: int, body: bytes) -> Optional[Event]:
    if len(body) < _TASK.size:
        return None
    pid, ppid, tid, _, time = _TASK.unpack_from(body)
    if pid <= 0 or tid <= 0:
        return None
    return Fork(time, pid, ppid, tid) if kind == RECORD_FORK else Exit(time, pid, tid)


def _comm(misc: int, body: bytes) -> Optional[Event]:
    end = len(body) - _ID.size
    if end < _COMM.size:
        return None
    pid, tid = _COMM.unpack_from(body)
    if pid <= 0:
        return None
    name = _until_nul(body, _COMM.size, end)
    return Comm(_ID.unpack_from(body, end)[2], pid, tid, name, bool(misc & MISC_COMM_EXEC))


def _mmap2(misc: int, body: bytes) -> Optional[Event]:
    end = len(body) - _ID.size
    if end < _MMAP2.size or misc & _NOT_WANTED:
        return None
    fields = _MMAP2.unpack_from(body)
    pid, _, start, length, offset, major, minor, inode, generation, prot, _ = fields
    finish = start + length
    if pid <= 0 or not prot & PROT_EXEC or not length or finish > _ADDRESS_END:
        return None
    file = None
    if inode:
        file = _file_id(major, minor, inode, generation)
    path, deleted = _path(body[_MMAP2.size : end])
    if file is None:
        offset = 0  # what the kernel tells of anonymous memory is its address
    mapping = Mapping(start, finish, offset, path, file, deleted)
    return Mmap(_ID.unpack_from(body, end)[2], pid, mapping)


@lru_cache(maxsize=1024)
def _file_id(major: int, minor: int, inode: int, generation: int) -> FileId:
    return FileId(major, minor, inode, generation)


@lru_cache(maxsize=1024)
def _path(raw: bytes) -> tuple[str, bool]:
    """(path, deleted) of a padded name. The same few libraries are mapped again and again."""
    name = _until_nul(raw, 0, min(len(raw), MAX_PATH))
    if name.startswith("//"):  # "//anon", "//enomem", "//toolong": no name at all
        return "", False
    return split_deleted(name)


def _until_nul(body: bytes, start: int, end: int) -> str:
    nul = body.find(b"\0", start, end)
    return text(body[start : end if nul < 0 else nul])
