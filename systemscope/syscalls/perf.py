"""``perf_event_open()``, its attr and its ioctls."""

from __future__ import annotations

import errno
import fcntl
from dataclasses import dataclass
from typing import Optional

from systemscope.syscalls import perf_abi as abi
from systemscope.syscalls.fd import Fd
from systemscope.syscalls.numbers import numbers
from systemscope.syscalls.perf_abi import (
    AttrFlag,
    Hardware,
    Ioctl,
    Misc,
    OpenFlag,
    PerfType,
    ReadFormat,
    RecordType,
    SampleType,
    Software,
)
from systemscope.syscalls.raw import Buffer, c_string, failure, syscall

__all__ = [
    "AttrFlag",
    "Hardware",
    "Ioctl",
    "Misc",
    "OpenFlag",
    "PerfEventAttr",
    "PerfType",
    "ReadFormat",
    "RecordType",
    "SampleType",
    "Software",
    "ioctl",
    "perf_event_open",
    "perf_ioctl_id",
    "perf_ioctl_period",
]

_PARANOID = (
    "Run as root or with CAP_PERFMON, or lower kernel.perf_event_paranoid; "
    "kernel lockdown can refuse it too."
)


@dataclass(frozen=True)
class PerfEventAttr:
    """struct perf_event_attr, complete; every member as the kernel names it.

    ``sample_period`` is a frequency in Hz with AttrFlag.FREQ. ``wakeup_events`` is bytes with
    AttrFlag.WATERMARK. ``clockid`` counts with AttrFlag.USE_CLOCKID.
    """

    type: int
    config: int = 0
    sample_period: int = 0
    sample_type: int = 0
    read_format: int = 0
    flags: AttrFlag = AttrFlag.NONE
    wakeup_events: int = 0
    bp_type: int = 0
    config1: int = 0
    config2: int = 0
    branch_sample_type: int = 0
    sample_regs_user: int = 0
    sample_stack_user: int = 0
    clockid: int = 0
    sample_regs_intr: int = 0
    aux_watermark: int = 0
    sample_max_stack: int = 0
    aux_sample_size: int = 0
    sig_data: int = 0
    config3: int = 0

    def pack(self) -> bytes:
        """The struct in the shortest published size that holds all its non-zero members."""
        data = bytearray(abi.ATTR.size)
        values = {name: int(value) for name, value in vars(self).items() if name != "flags"}
        abi.ATTR.pack_into(data, _flags=int(self.flags), **values)
        used = len(bytes(data).rstrip(b"\0"))
        # Never below 112: clockid, sample_max_stack and the like date from before 4.9.
        size = next(s for s in abi.ATTR_SIZES if s >= max(used, 112))
        abi.ATTR.pack_into(data, size=size)
        return bytes(data[:size])


def perf_event_open(
    attr: PerfEventAttr,
    pid: int = -1,
    cpu: int = -1,
    group_fd: int = -1,
    flags: OpenFlag = OpenFlag.FD_CLOEXEC,
    probe: str = "",
) -> Fd:
    """Open an event for thread ``pid`` (-1 all, 0 self) on ``cpu`` (-1 any).

    ``probe`` is the function name of a kprobe PMU event: its address becomes ``config1``.
    """
    name: Optional[Buffer] = c_string(probe) if probe else None
    buffer = Buffer(attr.pack())
    if name is not None:
        abi.ATTR.pack_into(buffer.data, config1=name.address)
    number = numbers().perf_event_open
    result = syscall(number, buffer.address, pid, cpu, group_fd, int(flags | OpenFlag.FD_CLOEXEC))
    subject = f"perf event (type {attr.type}, config {attr.config:#x}, pid {pid}, cpu {cpu})"
    if result < 0:
        remedy = _PARANOID if -result in (errno.EPERM, errno.EACCES) else ""
        raise failure("perf_event_open", subject, -result, remedy)
    return Fd(result, subject)


def ioctl(fd: int, request: Ioctl, argument: int = 0) -> None:
    """An ioctl that takes a number: ENABLE, DISABLE, RESET, SET_OUTPUT, SET_BPF, ..."""
    try:
        fcntl.ioctl(fd, int(request), argument)
    except OSError as error:
        number = error.errno or errno.EIO
        raise failure(f"PERF_EVENT_IOC_{request.name}", "perf event", number) from None


def perf_ioctl_period(fd: int, period: int) -> None:
    """Set the sample period, or the frequency of a FREQ event."""
    _ioctl_u64(fd, Ioctl.PERIOD, period)


def perf_ioctl_id(fd: int) -> int:
    """The event's id, as SampleType.ID and IDENTIFIER tell it."""
    return _ioctl_u64(fd, Ioctl.ID, 0)


def _ioctl_u64(fd: int, request: Ioctl, value: int) -> int:
    try:
        answer = fcntl.ioctl(fd, int(request), value.to_bytes(8, "little"))
    except OSError as error:
        number = error.errno or errno.EIO
        raise failure(f"PERF_EVENT_IOC_{request.name}", "perf event", number) from None
    return int.from_bytes(answer, "little")
