"""Commands on maps. The hot ones keep their buffers: a read costs one call and one copy."""

from __future__ import annotations

import errno
import struct
from typing import Optional

from systemscope.syscalls import bpf_abi as abi
from systemscope.syscalls.bpf_abi import Command
from systemscope.syscalls.bpf_call import attr, bpf, checked, object_name, opened
from systemscope.syscalls.fd import Fd
from systemscope.syscalls.numbers import numbers
from systemscope.syscalls.raw import Buffer, failure, syscall

_U64 = struct.Struct("=Q")
_U32 = struct.Struct("=I")
_BATCH_COUNT = abi.MAP_BATCH.fields["count"].offset
_BATCH_IN = abi.MAP_BATCH.fields["in_batch"].offset
_BATCH_OUT = abi.MAP_BATCH.fields["out_batch"].offset
_VALUE = abi.MAP_ELEM.fields["value"].offset
_FLAGS = abi.MAP_ELEM.fields["flags"].offset

# The kernel's in-kernel "not supported"; it leaks to user space from maps without batch calls.
ENOTSUPP = 524


def map_create(
    type: int,
    key_size: int,
    value_size: int,
    max_entries: int,
    flags: int = 0,
    name: str = "",
    *,
    btf_fd: int = 0,
    btf_key_type_id: int = 0,
    btf_value_type_id: int = 0,
    inner_map_fd: int = 0,
    numa_node: int = 0,
    map_extra: int = 0,
) -> Fd:
    """BPF_MAP_CREATE. Names need 4.15: pass an empty one on older kernels (E2BIG otherwise)."""
    buffer = attr(
        abi.MAP_CREATE,
        map_type=type,
        key_size=key_size,
        value_size=value_size,
        max_entries=max_entries,
        map_flags=flags,
        map_name=object_name(name),
        btf_fd=btf_fd,
        btf_key_type_id=btf_key_type_id,
        btf_value_type_id=btf_value_type_id,
        inner_map_fd=inner_map_fd,
        numa_node=numa_node,
        map_extra=map_extra,
    )
    return opened(Command.MAP_CREATE, buffer, abi.MAP_CREATE.end, f"map '{name}'")


def map_freeze(fd: int) -> None:
    """BPF_MAP_FREEZE: no more writes from user space."""
    buffer = attr(abi.MAP_ELEM, map_fd=fd)
    checked(Command.MAP_FREEZE, buffer, 4, "map")


class MapElements:
    """The one-element commands on map ``fd``, over buffers made once.

    ``value_bytes`` is what the kernel copies: for per-CPU maps, the value rounded up to 8 bytes
    times the possible CPUs. Not for use by two threads at once.
    """

    def __init__(self, fd: int, key_size: int, value_bytes: int, name: str = "map") -> None:
        self._name = f"map '{name}'"
        self._call = numbers().bpf
        self._key = Buffer(max(key_size, 1))
        self._next = Buffer(max(key_size, 1))
        self._value = Buffer(max(value_bytes, 1))
        self._key_size = key_size
        self._value_bytes = value_bytes
        self._attr = attr(abi.MAP_ELEM, map_fd=fd, key=self._key.address, value=self._value.address)
        # DELETE_ELEM takes no member behind the key: anything there is EINVAL.
        self._delete_attr = attr(abi.MAP_ELEM, map_fd=fd, key=self._key.address)
        self._next_attr = attr(
            abi.MAP_ELEM, map_fd=fd, key=self._key.address, value=self._next.address
        )

    def _set_key(self, key: bytes) -> None:
        if len(key) != self._key_size:
            raise ValueError(f"{self._name}: key of {len(key)} bytes, not {self._key_size}")
        self._key.data[: self._key_size] = key

    def _element(self, command: Command, flags: int) -> int:
        _U64.pack_into(self._attr.data, _FLAGS, flags)
        return syscall(self._call, command, self._attr.address, abi.MAP_ELEM.end)

    def lookup(self, key: bytes, flags: int = 0) -> Optional[bytes]:
        """BPF_MAP_LOOKUP_ELEM: the value, None when there is no such key."""
        return self._read(Command.MAP_LOOKUP_ELEM, key, flags)

    def lookup_and_delete(self, key: bytes, flags: int = 0) -> Optional[bytes]:
        """BPF_MAP_LOOKUP_AND_DELETE_ELEM (hashes since 5.14)."""
        return self._read(Command.MAP_LOOKUP_AND_DELETE_ELEM, key, flags)

    def _read(self, command: Command, key: bytes, flags: int) -> Optional[bytes]:
        self._set_key(key)
        result = self._element(command, flags)
        if result >= 0:
            return bytes(self._value.data[: self._value_bytes])
        if result == -errno.ENOENT:
            return None
        raise failure(f"BPF_{command.name}", self._name, -result)

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """BPF_MAP_UPDATE_ELEM: EEXIST, ENOENT by ``flags``; E2BIG when the map is full."""
        self._set_key(key)
        if len(value) != self._value_bytes:
            raise ValueError(f"{self._name}: value of {len(value)}, not {self._value_bytes} bytes")
        self._value.data[: self._value_bytes] = value
        result = self._element(Command.MAP_UPDATE_ELEM, flags)
        if result < 0:
            raise failure("BPF_MAP_UPDATE_ELEM", self._name, -result)

    def delete(self, key: bytes) -> bool:
        """BPF_MAP_DELETE_ELEM: False when there was no such key."""
        self._set_key(key)
        address = self._delete_attr.address
        result = syscall(self._call, Command.MAP_DELETE_ELEM, address, abi.MAP_ELEM.end)
        if result < 0 and result != -errno.ENOENT:
            raise failure("BPF_MAP_DELETE_ELEM", self._name, -result)
        return result >= 0

    def next_key(self, key: Optional[bytes]) -> Optional[bytes]:
        """BPF_MAP_GET_NEXT_KEY: the key after ``key``, the first for None, None at the end.

        The first key by a null pointer needs 4.12: before, any key that is not in the map serves,
        and all bits set is taken.
        """
        pointer = 0 if key is None else self._key.address
        if key is not None:
            self._set_key(key)
        abi.MAP_ELEM.pack_into(self._next_attr.data, key=pointer)
        result = syscall(
            self._call, Command.MAP_GET_NEXT_KEY, self._next_attr.address, abi.MAP_ELEM.end
        )
        if result >= 0:
            return bytes(self._next.data[: self._key_size])
        if result == -errno.ENOENT:
            return None
        if result == -errno.EFAULT and key is None:
            return self.next_key(b"\xff" * self._key_size)
        raise failure("BPF_MAP_GET_NEXT_KEY", self._name, -result)


class MapBatch:
    """BPF_MAP_LOOKUP_BATCH and BPF_MAP_LOOKUP_AND_DELETE_BATCH (5.6) over buffers made once.

    One pass from :meth:`begin` to the end sees each entry once, but for entries that come and go
    meanwhile. ``count`` entries a call; keep it at 8 or more (a hash bucket must fit, else ENOSPC).
    """

    def __init__(
        self, fd: int, key_size: int, value_bytes: int, count: int, name: str = "map"
    ) -> None:
        self._name = f"map '{name}'"
        self._call = numbers().bpf
        self._key_size = key_size
        self._value_bytes = value_bytes
        self._count = count
        self._keys = Buffer(key_size * count)
        self._values = Buffer(value_bytes * count)
        # A hash keeps a u32 bucket there, an array a key: never more than the key or 4 bytes.
        self._cursor = Buffer(max(key_size, 8))
        self._fd = fd
        self._attr = attr(abi.MAP_BATCH)
        self.begin()

    def begin(self) -> None:
        """Start over from the first entry."""
        abi.MAP_BATCH.pack_into(
            self._attr.data,
            map_fd=self._fd,
            in_batch=0,
            out_batch=self._cursor.address,
            keys=self._keys.address,
            values=self._values.address,
        )

    def grow(self) -> None:
        """Twice the entries a call, going on from the same place."""
        self._count *= 2
        self._keys = Buffer(self._key_size * self._count)
        self._values = Buffer(self._value_bytes * self._count)
        abi.MAP_BATCH.pack_into(
            self._attr.data, keys=self._keys.address, values=self._values.address
        )

    def next(self, delete: bool = False) -> tuple[int, bool, memoryview, memoryview]:
        """The next entries: how many, whether these are the last, keys, values.

        The views are good until the next call. KernelError with errno ENOTSUPP (524), EINVAL or
        ENOSYS when the map or the kernel has no batch calls; ENOSPC when a bucket holds more than
        ``count`` entries.
        """
        command = Command.MAP_LOOKUP_AND_DELETE_BATCH if delete else Command.MAP_LOOKUP_BATCH
        data = self._attr.data
        _U32.pack_into(data, _BATCH_COUNT, self._count)
        result = syscall(self._call, command, self._attr.address, abi.MAP_BATCH.end)
        if result < 0 and result != -errno.ENOENT:
            raise failure(f"BPF_{command.name}", self._name, -result)
        count: int = _U32.unpack_from(data, _BATCH_COUNT)[0]
        _U64.pack_into(data, _BATCH_IN, self._cursor.address)
        return (
            count,
            result == -errno.ENOENT,
            memoryview(self._keys.data)[: count * self._key_size],
            memoryview(self._values.data)[: count * self._value_bytes],
        )


def map_update_batch(fd: int, keys: bytes, values: bytes, count: int, flags: int = 0) -> int:
    """BPF_MAP_UPDATE_BATCH (5.6): how many were written; KernelError when not all."""
    keys_buffer, values_buffer = Buffer(keys), Buffer(values)
    buffer = attr(
        abi.MAP_BATCH,
        keys=keys_buffer.address,
        values=values_buffer.address,
        count=count,
        map_fd=fd,
        elem_flags=flags,
    )
    result = bpf(Command.MAP_UPDATE_BATCH, buffer, abi.MAP_BATCH.end)
    if result < 0:
        raise failure("BPF_MAP_UPDATE_BATCH", "map", -result)
    written: int = abi.MAP_BATCH.get(buffer.data, "count")
    return written
