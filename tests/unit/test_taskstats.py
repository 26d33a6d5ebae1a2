"""Taskstats answers decoded: every version of the struct, and messages that lie."""

from __future__ import annotations

import struct
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemscope.model import DelayKind
from systemscope.processes import taskstats, taskstats_abi
from systemscope.processes.taskstats_abi import Answer, Attribute, fields_of
from systemscope.syscalls.layout import Layout

#: Length of the struct in each version, by the comments in the header's history.
LENGTHS = {8: 328, 9: 344, 10: 352, 11: 368, 12: 400, 13: 416, 14: 432, 15: 560, 16: 560, 17: 688}
ALL = tuple(DelayKind)


def sample(layout: Layout, **values: int) -> bytes:
    data = bytearray(layout.size)
    layout.pack_into(data, **values)
    return bytes(data)


def numbered(layout: Layout, version: int) -> bytes:
    """A struct in which each kind's count and total tell which they are."""
    values = {"version": version, "ac_etime": 77}
    for at, stem in enumerate(taskstats_abi.STEMS.values()):
        values[f"{stem}_count"], values[f"{stem}_delay_total"] = 10 + at, 1000 + at
    return sample(layout, **values)


@pytest.mark.parametrize("version", LENGTHS)
def test_every_version_is_read(version: int) -> None:
    layout = taskstats_abi.TASKSTATS_15 if version == 15 else taskstats_abi.TASKSTATS
    data = numbered(layout, version).ljust(LENGTHS[version], b"\xff")[: LENGTHS[version]]
    fields = fields_of(version, len(data))
    assert fields is not None
    age, values = fields.read(data, 0)
    assert age == 77
    known = 4 + sum(version >= since for since in (9, 11, 13, 14))
    assert fields.kinds == tuple(taskstats_abi.STEMS)[:known]
    expected = [number for at in range(known) for number in (10 + at, 1000 + at)]
    assert list(values) == expected


def test_every_kind_has_a_place_in_the_struct() -> None:
    assert set(taskstats_abi.STEMS) == set(DelayKind)


def test_offsets_of_version_15_agree_with_pyroute2() -> None:
    """No header on this machine need be of that version; pyroute2 declares it by itself."""
    theirs = pytest.importorskip("pyroute2.netlink.taskstats").TStatsBase.tstats_v15.fields
    offsets, at = {}, 0
    for name, code in theirs:
        code = code if code[-1] in "sx" else code[-1]
        size = struct.calcsize("=" + code)
        unit = 1 if code[-1] in "sx" else size
        at = -(-at // unit) * unit
        offsets[name] = at
        at += size
    ours = {name: field.offset for name, field in taskstats_abi.TASKSTATS_15.fields.items()}
    shared = offsets.keys() & ours.keys()
    assert {f"{stem}_delay_total" for stem in taskstats_abi.STEMS.values()} <= shared
    assert {name: ours[name] for name in shared} == {name: offsets[name] for name in shared}


@pytest.mark.parametrize("length", [0, 2, 100, 151])
def test_a_struct_too_short_is_refused(length: int) -> None:
    assert fields_of(16, length) is None


# -- messages


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", len(value) + 4, kind) + value + bytes(-len(value) % 4)


def message(kind: int, body: bytes, sequence: int = 1) -> bytes:
    whole = struct.pack("=IHHII", len(body) + 16, kind, 0, sequence, 0) + body
    return whole + bytes(-len(whole) % 4)


def answer(tid: int, stats: bytes) -> bytes:
    inner = attribute(Answer.PID, struct.pack("=I", tid)) + attribute(Answer.STATS, stats)
    return struct.pack("=BBH", 2, 1, 0) + attribute(Answer.AGGR_PID, inner)


def silent() -> taskstats.TaskStats:
    """One that talks to nobody."""
    made: Any = taskstats.TaskStats.__new__(taskstats.TaskStats)
    made.kinds, made._fields, made._family, made.overruns = (), {}, 31, 0
    return made  # type: ignore[no-any-return]


def decoded(data: bytes) -> Optional[taskstats.Account]:
    stats = silent()
    for kind, _, start, end in taskstats._messages(data):
        if kind == 31:
            return stats._account(data, start, end, 5)
    return None


def test_an_account_is_found_in_its_message() -> None:
    data = message(31, answer(1234, numbered(taskstats_abi.TASKSTATS, 16)))
    account = decoded(data)
    assert account is not None
    assert (account.tid, account.time, account.age) == (1234, 5, 77_000)
    assert account.values[:4] == (10, 1000, 11, 1001)


def test_padding_and_the_process_sums_are_passed_over() -> None:
    stats = numbered(taskstats_abi.TASKSTATS, 16)
    padding = attribute(Answer.NULL, b"")
    body = answer(7, stats)
    whole = message(31, body[:4] + padding + body[4:] + attribute(Answer.AGGR_TGID, stats))
    account = decoded(whole)
    assert account is not None
    assert account.tid == 7


def test_what_is_cut_short_yields_nothing_or_the_whole() -> None:
    whole = message(31, answer(1234, numbered(taskstats_abi.TASKSTATS, 16)))
    for length in range(len(whole)):
        assert decoded(whole[:length]) is None


@given(st.binary(max_size=700))
def test_noise_does_no_harm(data: bytes) -> None:
    decoded(data)
    decoded(message(31, data))
    decoded(message(31, answer(1, data)))


def test_structs_of_many_forms_take_no_memory() -> None:
    stats = silent()
    for length in range(400, 600):
        data = message(31, answer(1, bytes(length)))
        for _, _, start, end in taskstats._messages(data):
            stats._account(data, start, end, 0)
    assert len(stats._fields) <= 8


# -- requests


def test_requests_are_what_the_kernel_reads() -> None:
    pytest.importorskip("pyroute2")
    query = taskstats._request(31, Attribute.PID, 0)
    assert query == struct.pack("=IHHIIBBHHHI", 28, 31, 1, 0, 0, 1, 1, 0, 8, 1, 0)
    register = taskstats._request(31, Attribute.REGISTER_CPUMASK, "0-3")
    assert struct.unpack_from("=HH", register, 4) == (31, 5)
    assert register[20:].startswith(struct.pack("=HH", 8, 3) + b"0-3\0")
