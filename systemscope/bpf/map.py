"""BPF maps, read whole by batches where the kernel has them."""

from __future__ import annotations

import errno
import mmap
import os
from typing import Optional

from systemscope.bpf.owned import Owned
from systemscope.bpf.shared_memory import map_shared
from systemscope.bpfasm.btf import map_btf
from systemscope.bpfasm.records import RecordType
from systemscope.bpfasm.types import MapFlag, MapSpec, MapType
from systemscope.errors import KernelError
from systemscope.syscalls import bpf
from systemscope.syscalls.fd import Fd
from systemscope.syscalls.proc import raise_memlock

PER_CPU = frozenset((MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH))
_HASHES = frozenset((MapType.HASH, MapType.PERCPU_HASH, MapType.LRU_HASH, MapType.LRU_PERCPU_HASH))
_ARRAYS = frozenset((MapType.ARRAY, MapType.PERCPU_ARRAY))
_NEEDS_BTF = frozenset((MapType.TASK_STORAGE,))

# Map calls suppress perf_event and tracepoint programs on their CPU: short batches, with the
# kernel's gaps between them, rather than one long call.
BATCH_ENTRIES = 4096
_BATCH_BYTES = 4 << 20
# Below this a full hash bucket may not fit the batch: ENOSPC.
_LEAST_BATCH = 8
_REFUSALS = frozenset((bpf.ENOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM))


def possible_cpus() -> int:
    """How many CPUs the kernel could have: per-CPU values come as one for each."""
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as stream:
        last = stream.read().strip().replace(",", "-").split("-")[-1]
    return int(last) + 1


class Map(Owned):
    """One map. ``spec`` is its blueprint, ``value_bytes`` what one lookup answers.

    A Map keeps buffers for its calls: use it from one thread at a time.
    """

    def __init__(self, fd: Fd, spec: MapSpec, batch: bool = True) -> None:
        super().__init__(fd)
        self.spec = spec
        self.value_bytes = spec.value_size
        if spec.type in PER_CPU:
            self.value_bytes = -(-spec.value_size // 8) * 8 * possible_cpus()
        self.batch = batch and spec.type in _HASHES | _ARRAYS
        self._elements: Optional[bpf.MapElements] = None
        self._batches: Optional[bpf.MapBatch] = None

    @classmethod
    def create(
        cls,
        spec: MapSpec,
        *,
        batch: bool = True,
        named: bool = True,
        key: Optional[RecordType] = None,
        value: Optional[RecordType] = None,
    ) -> Map:
        """Create the map of ``spec``; raises RLIMIT_MEMLOCK when the kernel counts against it.

        ``batch`` False reads entries one by one. ``named`` False leaves the name out (before
        4.15). ``key`` and ``value`` give the map BTF, so that others' tools can show its entries.
        """
        try:
            fd = _create(spec, named, key, value)
        except KernelError as error:
            # Before 5.11 BPF memory counts against RLIMIT_MEMLOCK, and going over it is EPERM.
            # Before 4.15 a name is a member the kernel does not know.
            raised = error.errno == errno.EPERM and raise_memlock()
            unknown = named and error.errno in (errno.EINVAL, errno.E2BIG)
            if not (raised or unknown):
                raise
            fd = _create(spec, named and not unknown, key, value)
        return cls(fd, spec, batch)

    def _one(self) -> bpf.MapElements:
        if self._elements is None:
            spec = self.spec
            self._elements = bpf.MapElements(self.fd, spec.key_size, self.value_bytes, spec.name)
        return self._elements

    def lookup(self, key: bytes, flags: int = 0) -> Optional[bytes]:
        """The value of ``key`` or None. Per-CPU maps: all possible CPUs' values one after the
        other, each rounded up to 8 bytes.
        """
        return self._one().lookup(key, flags)

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """Write ``key``. ``flags`` ANY 0, NOEXIST 1, EXIST 2; E2BIG when the map is full."""
        self._one().update(key, value, flags)

    def delete(self, key: bytes) -> bool:
        """Delete ``key``; False when it was not there. Arrays refuse it (EINVAL)."""
        return self._one().delete(key)

    def keys(self) -> list[bytes]:
        """All keys, each once.

        When the key one stands on is deleted by someone else the kernel starts over: the steps
        are bounded, and a key met again is not told again.
        """
        found: dict[bytes, None] = {}
        step = self._one()
        key = step.next_key(None)
        steps = 2 * self.spec.max_entries
        while key is not None and steps > 0:
            found[key] = None
            steps -= 1
            key = step.next_key(key)
        return list(found)

    def read_all(self) -> tuple[bytes, bytes]:
        """All keys and all values, each concatenated in the same order, for struct.iter_unpack.

        An entry that comes or goes meanwhile may be missed; none is invented.
        """
        return self._collect(delete=False)

    def drain(self) -> tuple[bytes, bytes]:
        """As :meth:`read_all`, and deletes what it read. Arrays are read only."""
        return self._collect(delete=self.spec.type not in _ARRAYS)

    def _collect(self, delete: bool) -> tuple[bytes, bytes]:
        if self.batch:
            try:
                return self._collect_batches(delete)
            except KernelError as error:
                if error.errno not in _REFUSALS:
                    raise
                self.batch = False  # this map's type, or this kernel, has none
        return self._collect_one_by_one(delete)

    def _collect_batches(self, delete: bool) -> tuple[bytes, bytes]:
        keys, values = bytearray(), bytearray()
        entries = self._batch_entries()
        batches = self._batches or bpf.MapBatch(
            self.fd, self.spec.key_size, self.value_bytes, entries, self.spec.name
        )
        self._batches = batches
        batches.begin()
        last = False
        limit = 2 * self.spec.max_entries + entries
        while not last and len(keys) < limit * self.spec.key_size:
            try:
                _, last, some_keys, some_values = batches.next(delete)
            except KernelError as error:
                if error.errno != errno.ENOSPC:
                    raise
                batches.grow()  # a bucket holds more than fits; nothing of it was taken
                continue
            keys += some_keys
            values += some_values
        return bytes(keys), bytes(values)

    def _batch_entries(self) -> int:
        entry = max(self.value_bytes + self.spec.key_size, 1)
        return max(_LEAST_BATCH, min(BATCH_ENTRIES, self.spec.max_entries, _BATCH_BYTES // entry))

    def _collect_one_by_one(self, delete: bool) -> tuple[bytes, bytes]:
        keys, values = bytearray(), bytearray()
        # The keys first: deleting the key one stands on would send GET_NEXT_KEY to the start.
        for key in self.keys():
            value = self._one().lookup(key)
            if value is None:
                continue
            if delete and not self._one().delete(key):
                continue
            keys += key
            values += value
        return bytes(keys), bytes(values)

    def mmap(self) -> mmap.mmap:
        """The values of an MMAPABLE array, shared with the kernel; the caller closes it.

        Each value takes its size rounded up to 8 bytes.
        """
        if not self.spec.flags & MapFlag.MMAPABLE:
            raise ValueError(f"map '{self.spec.name}' is not MMAPABLE")
        length = -(-self.spec.value_size // 8) * 8 * self.spec.max_entries
        writable = not self.spec.flags & MapFlag.RDONLY
        return map_shared(self.fd, length, f"map '{self.spec.name}'", writable=writable)

    def info(self) -> bpf.MapInfo:
        """What the kernel says of it (4.13)."""
        return bpf.map_info(self.fd)

    def memory_bytes(self) -> int:
        """The memory the kernel charges for it; 0 when it does not say."""
        return fdinfo_number(self.fd, "memlock")


def _create(
    spec: MapSpec, named: bool, key: Optional[RecordType], value: Optional[RecordType]
) -> Fd:
    name = spec.name if named else ""
    sizes = (int(spec.type), spec.key_size, spec.value_size, spec.max_entries, int(spec.flags))
    if spec.inner is not None:
        # A template: the kernel keeps its shape, not the map.
        with _create(spec.inner, named, None, None) as template:
            return bpf.map_create(*sizes, name, inner_map_fd=template.number)
    if spec.type not in _NEEDS_BTF and key is None and value is None:
        return bpf.map_create(*sizes, name)
    btf = map_btf(spec, key, value)
    with bpf.btf_load(btf.blob) as types:
        return bpf.map_create(
            *sizes,
            name,
            btf_fd=types.number,
            btf_key_type_id=btf.key_type_id,
            btf_value_type_id=btf.value_type_id,
        )


def fdinfo_number(fd: int, name: str) -> int:
    """One decimal line of /proc/self/fdinfo, 0 when it is not there."""
    with open(f"/proc/{os.getpid()}/fdinfo/{fd}", encoding="ascii", errors="replace") as stream:
        for line in stream:
            if line.startswith(name + ":"):
                return int(line.split()[1])
    return 0
