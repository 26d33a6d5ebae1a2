"""``bpf()`` itself: the full zeroed union, the command's own size, errno told."""

from __future__ import annotations

from systemscope.syscalls.bpf_abi import ATTR_BYTES, OBJECT_NAME_BYTES, Command
from systemscope.syscalls.fd import Fd
from systemscope.syscalls.layout import Layout, Value
from systemscope.syscalls.numbers import numbers
from systemscope.syscalls.raw import Buffer, failure, syscall


def attr(layout: Layout, **values: Value) -> Buffer:
    """A zeroed union bpf_attr with the members of ``layout`` that are given."""
    buffer = Buffer(ATTR_BYTES)
    layout.pack_into(buffer.data, **values)
    return buffer


def bpf(command: Command, buffer: Buffer, size: int) -> int:
    """The raw command: its result, or minus errno. ``size`` is that of the command's members."""
    return syscall(numbers().bpf, command, buffer.address, size)


def checked(command: Command, buffer: Buffer, size: int, subject: str) -> int:
    """As :func:`bpf`, raising KernelError."""
    result = bpf(command, buffer, size)
    if result < 0:
        raise failure(f"BPF_{command.name}", subject, -result)
    return result


def opened(command: Command, buffer: Buffer, size: int, subject: str) -> Fd:
    """As :func:`checked` for a command that answers with a descriptor."""
    return Fd(checked(command, buffer, size, subject), subject)


def object_name(name: str) -> bytes:
    """``name`` as the kernel takes it: at most 15 of [A-Za-z0-9_.], the rest made '_'."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "_.") else "_" for c in name)
    return safe.encode()[: OBJECT_NAME_BYTES - 1]
