"""Commands on any BPF object: information, ids, BTF, statistics."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Optional

from systemscope.syscalls import bpf_abi as abi
from systemscope.syscalls.bpf_abi import Command
from systemscope.syscalls.bpf_call import attr, bpf, checked, opened
from systemscope.syscalls.fd import Fd
from systemscope.syscalls.layout import Layout
from systemscope.syscalls.raw import Buffer, failure

_MAX_XLATED_BYTES = 16 << 20


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("ascii", "replace")


def _get_info(fd: int, layout: Layout, subject: str, info: Optional[Buffer] = None) -> bytes:
    """The bytes of an info struct; members the kernel does not know yet stay zero."""
    info = info or Buffer(layout.size)
    buffer = attr(abi.GET_INFO, bpf_fd=fd, info_len=info.size, info=info.address)
    checked(Command.OBJ_GET_INFO_BY_FD, buffer, abi.GET_INFO.end, subject)
    return bytes(info.data)


@dataclass(frozen=True)
class ProgramInfo:
    """struct bpf_prog_info: sizes in bytes, times in ns. Run figures count only while statistics
    are on (BPF_ENABLE_STATS); ``verified_insns`` since 5.16, ``recursion_misses`` since 5.12.
    """

    id: int
    type: int
    name: str
    tag: str
    jited_bytes: int
    xlated_bytes: int
    load_time: int
    map_count: int
    btf_id: int
    run_time_ns: int
    run_cnt: int
    recursion_misses: int
    verified_insns: int
    attach_btf_id: int


def prog_info(fd: int) -> ProgramInfo:
    """BPF_OBJ_GET_INFO_BY_FD of a program (4.13)."""
    raw = abi.PROG_INFO.unpack(_get_info(fd, abi.PROG_INFO, "program"))
    return ProgramInfo(
        id=raw["id"],
        type=raw["type"],
        name=_text(raw["name"]),
        tag=raw["tag"].hex(),
        jited_bytes=raw["jited_prog_len"],
        xlated_bytes=raw["xlated_prog_len"],
        load_time=raw["load_time"],
        map_count=raw["nr_map_ids"],
        btf_id=raw["btf_id"],
        run_time_ns=raw["run_time_ns"],
        run_cnt=raw["run_cnt"],
        recursion_misses=raw["recursion_misses"],
        verified_insns=raw["verified_insns"],
        attach_btf_id=raw["attach_btf_id"],
    )


def prog_map_ids(fd: int) -> tuple[int, ...]:
    """The ids of the maps a program uses."""
    count = prog_info(fd).map_count
    ids = Buffer(4 * max(count, 1))
    info = Buffer(abi.PROG_INFO.size)
    abi.PROG_INFO.pack_into(info.data, nr_map_ids=count, map_ids=ids.address)
    raw = _get_info(fd, abi.PROG_INFO, "program", info)
    found = min(count, abi.PROG_INFO.get(raw, "nr_map_ids"))
    return tuple(memoryview(ids.data).cast("I")[:found])


def prog_xlated(fd: int) -> bytes:
    """The instructions as the verifier left them."""
    size = min(prog_info(fd).xlated_bytes, _MAX_XLATED_BYTES)
    code = Buffer(size)
    info = Buffer(abi.PROG_INFO.size)
    abi.PROG_INFO.pack_into(info.data, xlated_prog_len=size, xlated_prog_insns=code.address)
    _get_info(fd, abi.PROG_INFO, "program", info)
    return bytes(code.data)


@dataclass(frozen=True)
class MapInfo:
    """struct bpf_map_info."""

    id: int
    type: int
    name: str
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    btf_id: int
    btf_key_type_id: int
    btf_value_type_id: int


def map_info(fd: int) -> MapInfo:
    """BPF_OBJ_GET_INFO_BY_FD of a map (4.13)."""
    raw = abi.MAP_INFO.unpack(_get_info(fd, abi.MAP_INFO, "map"))
    return MapInfo(
        id=raw["id"],
        type=raw["type"],
        name=_text(raw["name"]),
        key_size=raw["key_size"],
        value_size=raw["value_size"],
        max_entries=raw["max_entries"],
        flags=raw["map_flags"],
        btf_id=raw["btf_id"],
        btf_key_type_id=raw["btf_key_type_id"],
        btf_value_type_id=raw["btf_value_type_id"],
    )


@dataclass(frozen=True)
class LinkInfo:
    """struct bpf_link_info: which program hangs on what kind of attachment."""

    id: int
    type: int
    prog_id: int


def link_info(fd: int) -> LinkInfo:
    """BPF_OBJ_GET_INFO_BY_FD of a link (5.8)."""
    raw = abi.LINK_INFO.unpack(_get_info(fd, abi.LINK_INFO, "link"))
    return LinkInfo(id=raw["id"], type=raw["type"], prog_id=raw["prog_id"])


@dataclass(frozen=True)
class BtfInfo:
    """struct bpf_btf_info: ``size`` of the blob in bytes, ``kernel`` for vmlinux and modules."""

    id: int
    name: str
    size: int
    kernel: bool


def btf_info(fd: int) -> BtfInfo:
    """BPF_OBJ_GET_INFO_BY_FD of a BTF object; names and ``kernel`` since 5.11."""
    name = Buffer(64)
    info = Buffer(abi.BTF_INFO.size)
    abi.BTF_INFO.pack_into(info.data, name=name.address, name_len=name.size)
    raw = abi.BTF_INFO.unpack(_get_info(fd, abi.BTF_INFO, "BTF", info))
    return BtfInfo(
        id=raw["id"],
        name=_text(bytes(name.data)),
        size=raw["btf_size"],
        kernel=bool(raw["kernel_btf"]),
    )


def _next_id(command: Command, start: int) -> int:
    buffer = attr(abi.GET_ID, start_id=start)
    result = bpf(command, buffer, abi.GET_ID.end)
    if result == -errno.ENOENT:
        return 0
    if result < 0:
        raise failure(f"BPF_{command.name}", f"id after {start}", -result)
    following: int = abi.GET_ID.get(buffer.data, "next_id")
    return following


def _fd_by_id(command: Command, number: int, subject: str) -> Fd:
    buffer = attr(abi.GET_ID, start_id=number)
    return opened(command, buffer, abi.GET_ID.end, f"{subject} {number}")


def prog_get_next_id(start: int = 0) -> int:
    """BPF_PROG_GET_NEXT_ID: the next id after ``start``, 0 at the end."""
    return _next_id(Command.PROG_GET_NEXT_ID, start)


def map_get_next_id(start: int = 0) -> int:
    """BPF_MAP_GET_NEXT_ID: the next id after ``start``, 0 at the end."""
    return _next_id(Command.MAP_GET_NEXT_ID, start)


def btf_get_next_id(start: int = 0) -> int:
    """BPF_BTF_GET_NEXT_ID: the next id after ``start``, 0 at the end."""
    return _next_id(Command.BTF_GET_NEXT_ID, start)


def link_get_next_id(start: int = 0) -> int:
    """BPF_LINK_GET_NEXT_ID (5.8): the next id after ``start``, 0 at the end."""
    return _next_id(Command.LINK_GET_NEXT_ID, start)


def prog_get_fd_by_id(number: int) -> Fd:
    """BPF_PROG_GET_FD_BY_ID; ENOENT when it is gone."""
    return _fd_by_id(Command.PROG_GET_FD_BY_ID, number, "program")


def map_get_fd_by_id(number: int) -> Fd:
    """BPF_MAP_GET_FD_BY_ID; ENOENT when it is gone."""
    return _fd_by_id(Command.MAP_GET_FD_BY_ID, number, "map")


def btf_get_fd_by_id(number: int) -> Fd:
    """BPF_BTF_GET_FD_BY_ID; ENOENT when it is gone."""
    return _fd_by_id(Command.BTF_GET_FD_BY_ID, number, "BTF")


def link_get_fd_by_id(number: int) -> Fd:
    """BPF_LINK_GET_FD_BY_ID (5.8); ENOENT when it is gone."""
    return _fd_by_id(Command.LINK_GET_FD_BY_ID, number, "link")


def btf_load(blob: bytes) -> Fd:
    """BPF_BTF_LOAD (4.18). A refusal is asked again with a log, whose last line is the subject."""
    data = Buffer(blob)
    buffer = attr(abi.BTF_LOAD, btf=data.address, btf_size=data.size)
    result = bpf(Command.BTF_LOAD, buffer, abi.BTF_LOAD.end)
    if result >= 0:
        return Fd(result, "BTF")
    log = Buffer(1 << 16)
    abi.BTF_LOAD.pack_into(
        buffer.data, btf_log_buf=log.address, btf_log_size=log.size, btf_log_level=1
    )
    again = bpf(Command.BTF_LOAD, buffer, abi.BTF_LOAD.end)
    if again >= 0:
        return Fd(again, "BTF")
    lines = bytes(log.data).split(b"\0", 1)[0].decode("utf-8", "replace").splitlines()
    raise failure("BPF_BTF_LOAD", f"BTF ({lines[-1].strip()})" if lines else "BTF", -result)


def enable_stats() -> Fd:
    """BPF_ENABLE_STATS (5.8): run times are counted while the descriptor is open."""
    buffer = attr(abi.ENABLE_STATS, type=abi.STATS_RUN_TIME)
    return opened(Command.ENABLE_STATS, buffer, abi.ENABLE_STATS.end, "run-time statistics")
