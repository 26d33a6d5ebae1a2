"""``struct taskstats`` and the numbers of its generic netlink family.

Source: ``include/uapi/linux/taskstats.h``, ``linux/netlink.h`` and ``linux/genetlink.h``. The
struct is versioned and grows at its end, with one exception: version 15 (Linux 6.14, 6.15) put
longest and shortest delays into the middle, and version 16 (commit 0bf2d838de1f) moved them to the
end. So two layouts serve all versions; how much of one a kernel fills in, the length tells.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Optional

from systemscope.model.delays import DelayKind
from systemscope.syscalls.layout import Layout

FAMILY = "TASKSTATS"
NETLINK_GENERIC = 16  # the protocol
GENL_ID_CTRL = 16  # the family that knows the others
CTRL_CMD_GETFAMILY = 3
CTRL_ATTR_FAMILY_ID = 1
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
VERSION_WITH_EXTREMES_INSIDE = 15


class MessageType(IntEnum):
    """Types of netlink messages below those of families."""

    NOOP = 1
    ERROR = 2
    DONE = 3
    OVERRUN = 4


class MessageFlag(IntFlag):
    """NLM_F_* as far as they are used."""

    REQUEST = 1
    ACK = 4


class Command(IntEnum):
    """TASKSTATS_CMD_*."""

    GET = 1
    NEW = 2


class Attribute(IntEnum):
    """TASKSTATS_CMD_ATTR_*: what a request carries."""

    PID = 1
    TGID = 2
    REGISTER_CPUMASK = 3
    DEREGISTER_CPUMASK = 4


class Answer(IntEnum):
    """TASKSTATS_TYPE_*: what an answer carries."""

    PID = 1
    TGID = 2
    STATS = 3
    AGGR_PID = 4
    AGGR_TGID = 5
    NULL = 6


MESSAGE_HEADER = Layout(
    "struct nlmsghdr",
    ("nlmsg_len", "I"),
    ("nlmsg_type", "H"),
    ("nlmsg_flags", "H"),
    ("nlmsg_seq", "I"),
    ("nlmsg_pid", "I"),
)
GENERIC_HEADER = Layout("struct genlmsghdr", ("cmd", "B"), ("version", "B"), ("reserved", "H"))
ATTRIBUTE_HEADER = Layout("struct nlattr", ("nla_len", "H"), ("nla_type", "H"))

#: The struct's name for each kind, in the order of the struct.
STEMS: dict[DelayKind, str] = {
    DelayKind.CPU: "cpu",
    DelayKind.BLOCK_IO: "blkio",
    DelayKind.SWAP_IN: "swapin",
    DelayKind.RECLAIM: "freepages",
    DelayKind.THRASHING: "thrashing",
    DelayKind.COMPACT: "compact",
    DelayKind.COPY: "wpcopy",
    DelayKind.INTERRUPTS: "irq",
}


def _members(extremes_inside: bool) -> list[tuple[str, str]]:
    def delay(stem: str) -> list[tuple[str, str]]:
        names = [f"{stem}_count", f"{stem}_delay_total"]
        if extremes_inside:
            names += [f"{stem}_delay_max", f"{stem}_delay_min"]
        return [(name, "Q") for name in names]

    found = [("version", "H"), ("ac_exitcode", "I"), ("ac_flag", "B"), ("ac_nice", "B")]
    found += [*delay("cpu"), *delay("blkio"), *delay("swapin")]
    found += [("cpu_run_real_total", "Q"), ("cpu_run_virtual_total", "Q"), ("ac_comm", "32s")]
    found += [("ac_sched", "B"), ("ac_pad", "3s"), ("_to_eight", "4s")]
    found += [(f"ac_{name}", "I") for name in ("uid", "gid", "pid", "ppid", "btime")]
    found += [(f"ac_{name}", "Q") for name in ("etime", "utime", "stime", "minflt", "majflt")]
    found += [(name, "Q") for name in ("coremem", "virtmem", "hiwater_rss", "hiwater_vm")]
    found += [(name, "Q") for name in ("read_char", "write_char")]
    found += [(name, "Q") for name in ("read_syscalls", "write_syscalls")]
    found += [(name, "Q") for name in ("read_bytes", "write_bytes", "cancelled_write_bytes")]
    found += [(name, "Q") for name in ("nvcsw", "nivcsw", "ac_utimescaled", "ac_stimescaled")]
    found += [("cpu_scaled_run_real_total", "Q"), *delay("freepages")]  # version 7 and 8
    found += [*delay("thrashing"), ("ac_btime64", "Q"), *delay("compact")]  # 9, 10, 11
    found += [("ac_tgid", "I"), ("ac_tgetime", "Q"), ("ac_exe_dev", "Q"), ("ac_exe_inode", "Q")]
    found += [*delay("wpcopy"), *delay("irq")]  # 13, 14; the four before are of 12
    if not extremes_inside:
        for stem in STEMS.values():
            found += [(f"{stem}_delay_max", "Q"), (f"{stem}_delay_min", "Q")]
    return found


TASKSTATS = Layout("struct taskstats", *_members(extremes_inside=False))
TASKSTATS_15 = Layout("struct taskstats", *_members(extremes_inside=True))

LAYOUTS = (MESSAGE_HEADER, GENERIC_HEADER, ATTRIBUTE_HEADER, TASKSTATS)
_FIRST_KINDS = 3  # those that lie before ac_etime


@dataclass(frozen=True)
class Fields:
    """What a struct of one version and length holds of interest.

    ``kinds`` is in the order of the values that :meth:`read` answers with.
    """

    kinds: tuple[DelayKind, ...]
    decoder: struct.Struct

    def read(self, data: bytes, offset: int) -> tuple[int, tuple[int, ...]]:
        """(Microseconds since the thread was born, count and nanoseconds of each kind in turn)."""
        row = self.decoder.unpack_from(data, offset)
        at = 2 * _FIRST_KINDS
        return row[at], row[:at] + row[at + 1 :]


def fields_of(version: int, length: int) -> Optional[Fields]:
    """How to read a struct of ``version`` that is ``length`` bytes long; None when it is shorter
    than the struct of any kernel that has delay accounting for all its first kinds."""
    layout = TASKSTATS_15 if version == VERSION_WITH_EXTREMES_INSIDE else TASKSTATS
    members = layout.fields
    if members["ac_etime"].offset + members["ac_etime"].size > length:
        return None
    kinds, wanted = [], ["ac_etime"]
    for kind, stem in STEMS.items():
        total = members[f"{stem}_delay_total"]
        if total.offset + total.size <= length:
            kinds.append(kind)
            wanted += [f"{stem}_count", f"{stem}_delay_total"]
    codes, end = ["="], 0
    for name in sorted(wanted, key=lambda name: members[name].offset):
        codes.append(f"{members[name].offset - end}x{members[name].code}")
        end = members[name].offset + members[name].size
    return Fields(tuple(kinds), struct.Struct("".join(codes)))
