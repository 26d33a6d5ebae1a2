"""The running kernel's own types, read from ``/sys/kernel/btf/vmlinux``: only what is asked for.

The file holds some hundred thousand type records of variable length, without an index, in 3 MB,
and 2 MB of names. Reading all of it costs more than a profiler's whole start, so a question is
answered the other way round: a byte search finds the name, another finds the records that mention
the name's offset, and the walk that numbers the records goes only as far as the answer needs (it
is resumed by later questions).

:mod:`systemscope.kernel.btf_blob` knows the format.
"""

from __future__ import annotations

import mmap
import os
from typing import NamedTuple, Optional, Union

from systemscope.kernel.btf_blob import BtfBlob, BtfKind, malformed

__all__ = ["BtfKind", "KernelBtf", "Member"]

TRACEPOINT_TYPEDEF = "btf_trace_"
VMLINUX = "/sys/kernel/btf/vmlinux"
MAX_SIZE = 256 << 20  # bytes; the largest distribution kernels carry about 10 MB
_MAX_NESTING = 32  # anonymous members, modifiers, arrays of arrays
_MAX_VISITS = 100_000  # members looked at for one path


class Member(NamedTuple):
    """Where a member lies in its struct.

    ``offset`` and ``size`` are bytes. For a bit-field, ``bit_size`` is its width (0 for anything
    else), ``offset`` and ``size`` describe the declared integer that holds it, and ``bit_offset``
    counts bits inside that integer from its least significant one (little-endian machines).
    """

    offset: int
    size: int
    bit_offset: int
    bit_size: int


_REFERENCES = (
    BtfKind.TYPEDEF,
    BtfKind.VOLATILE,
    BtfKind.CONST,
    BtfKind.RESTRICT,
    BtfKind.TYPE_TAG,
)
_SIZED = (
    BtfKind.INT,
    BtfKind.STRUCT,
    BtfKind.UNION,
    BtfKind.ENUM,
    BtfKind.FLOAT,
    BtfKind.ENUM64,
    BtfKind.DATASEC,
)
_COMPOSITES = (BtfKind.STRUCT, BtfKind.UNION)
_POINTER_SIZE = 8  # both architectures served are 64-bit


class KernelBtf:
    """Answers about types by name. Close it, or use it as a context manager, to drop the mapping.

    Answers are empty (0, None, ``()``) for names the kernel does not have; damage in the data
    raises :class:`SystemScopeError`.
    """

    def __init__(self, data: Union[bytes, mmap.mmap]) -> None:
        """``data`` is a whole BTF blob, in this machine's byte order."""
        self._blob = BtfBlob(data)
        self._ids: dict[tuple[str, BtfKind], int] = {}

    @classmethod
    def open(cls, path: str = VMLINUX) -> Optional[KernelBtf]:
        """The running kernel's BTF, or None where the kernel offers none (before 5.4, or built
        without). Raises SystemScopeError when there is one that cannot be understood."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return cls(_contents(fd))
        except OSError as error:
            raise malformed(f"it cannot be read ({error.strerror})") from error
        finally:
            os.close(fd)

    def close(self) -> None:
        """Drop the mapping. Asking afterwards is an error."""
        self._blob.close()

    def __enter__(self) -> KernelBtf:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def type_id(self, name: str, kind: BtfKind) -> int:
        """The id of the first type of that name and kind, 0 when there is none."""
        if (name, kind) not in self._ids:
            position = next(self._blob.find(name, kind), None)
            self._ids[name, kind] = 0 if position is None else self._blob.number_of(position)
        return self._ids[name, kind]

    def size(self, name: str, kind: BtfKind = BtfKind.STRUCT) -> Optional[int]:
        """Bytes a value of the named type takes, None when there is no such type."""
        type_id = self.type_id(name, kind)
        return self._size(type_id) if type_id else None

    def member(self, struct_name: str, path: str) -> Optional[Member]:
        """Where ``path`` ("mm", "thread.fsbase", "rcu_users.refs.counter") lies in the struct or
        union, looking through anonymous members, typedefs and qualifiers, not through pointers.
        ``name[3]`` is an element of an array. None when there is no such struct or path."""
        for kind in _COMPOSITES:
            first = self.type_id(struct_name, kind)
            found = self._resolve(first, path) if first else None
            if found is not None:
                return found
            # One name can belong to several types, of which the first need not be the one meant.
            for position in self._blob.find(struct_name, kind) if first else ():
                found = self._resolve(self._blob.number_of(position), path)
                if found is not None:
                    return found
        return None

    def params(self, name: str) -> tuple[str, ...]:
        """Parameter names of a kernel function, or of the function type a typedef points to.

        ``btf_trace_sched_switch`` gives ``("__data", "preempt", "prev", "next", "prev_state")``:
        argument n of a raw or BTF tracepoint program is item n + 1. Where the type has none of
        the names, they are taken from the function that calls the tracepoint's programs
        (``__traceiter_*``, 5.10); failing that they are empty strings. ``()`` when there is
        nothing of that name.
        """
        names = self._declared(name)
        if names and not any(names) and name.startswith(TRACEPOINT_TYPEDEF):
            for prefix in ("__traceiter_", "__bpf_trace_"):
                better = self._declared(prefix + name[len(TRACEPOINT_TYPEDEF) :])
                if len(better) == len(names) and any(better):
                    return better
        return names

    def arity(self, name: str) -> int:
        """How many parameters :meth:`params` would name; 0 when there is nothing of that name."""
        return len(self._declared(name))

    def _declared(self, name: str) -> tuple[str, ...]:
        kinds = (BtfKind.FUNC, BtfKind.TYPEDEF)
        # What a name is not costs a look at every type to find out.
        for kind in kinds[::-1] if name.startswith(TRACEPOINT_TYPEDEF) else kinds:
            type_id = self.type_id(name, kind)
            if type_id:
                return self._parameters(type_id)
        return ()

    def enumerator(self, enum_name: str, name: str) -> Optional[int]:
        """Value of an enumerator of a 32-bit enum; None when there is no such enum or name."""
        wanted = self._blob.spellings(name)
        for position in self._blob.find(enum_name, BtfKind.ENUM):
            info = self._blob.words[position + 1]
            for entry in range(position + 3, position + 3 + 2 * (info & 0xFFFF), 2):
                if self._blob.words[entry] in wanted:
                    value = self._blob.words[entry + 1]
                    signed = info >> 31 and value >> 31
                    return value - (1 << 32) if signed else value
        return None

    def _bare(self, type_id: int) -> int:
        """The type behind typedefs and qualifiers."""
        for _ in range(_MAX_NESTING):
            if type_id == 0:
                return 0
            position = self._blob.position(type_id)
            if (self._blob.words[position + 1] >> 24) & 0x1F not in _REFERENCES:
                return type_id
            type_id = self._blob.words[position + 2]
        raise malformed("typedefs refer to one another")

    def _size(self, type_id: int) -> int:
        count = 1
        for _ in range(_MAX_NESTING):
            type_id = self._bare(type_id)
            if type_id == 0:
                return 0
            position = self._blob.position(type_id)
            kind = (self._blob.words[position + 1] >> 24) & 0x1F
            if kind == BtfKind.PTR:
                return count * _POINTER_SIZE
            if kind in _SIZED:
                return count * int(self._blob.words[position + 2])
            if kind != BtfKind.ARRAY:
                return 0
            count *= self._blob.words[position + 5]
            type_id = self._blob.words[position + 3]
        raise malformed("arrays are nested without end")

    def _parameters(self, type_id: int) -> tuple[str, ...]:
        for _ in range(_MAX_NESTING):
            type_id = self._bare(type_id)
            if type_id == 0:
                return ()
            position = self._blob.position(type_id)
            info = self._blob.words[position + 1]
            kind = (info >> 24) & 0x1F
            if kind == BtfKind.FUNC_PROTO:
                first = position + 3
                entries = range(first, first + 2 * (info & 0xFFFF), 2)
                return tuple(self._blob.string(self._blob.words[entry]) for entry in entries)
            if kind not in (BtfKind.FUNC, BtfKind.PTR):
                return ()
            type_id = self._blob.words[position + 2]
        raise malformed("pointers are nested without end")

    def _resolve(self, type_id: int, path: str) -> Optional[Member]:
        bits, width = 0, 0
        for part in path.split("."):
            name, _, index = part.partition("[")
            hit = self._lookup(type_id, name)
            if hit is None:
                return None
            type_id, at, width = hit
            bits += at
            if index:
                element = self._element(type_id, index)
                if element is None:
                    return None
                type_id, offset = element
                bits += 8 * offset
        size = self._size(type_id)
        if not width:
            return Member(bits // 8, size, 0, 0)
        unit = 8 * max(size, 1)
        return Member(bits // unit * unit // 8, size, bits % unit, width)

    def _lookup(self, type_id: int, name: str) -> Optional[tuple[int, int, int]]:
        """(type id, bit offset, width if a bit-field) of a member, also of an anonymous one."""
        wanted = self._blob.spellings(name)
        pending = [(type_id, 0, 0)]
        visits = 0
        while pending and wanted:
            type_id, base, depth = pending.pop()
            type_id = self._bare(type_id)
            position = self._blob.position(type_id) if type_id else 0
            info = self._blob.words[position + 1] if type_id else 0
            if (info >> 24) & 0x1F not in _COMPOSITES:
                continue
            for entry in range(position + 3, position + 3 + 3 * (info & 0xFFFF), 3):
                visits += 1
                if visits > _MAX_VISITS or depth > _MAX_NESTING:
                    raise malformed("structs are nested without end")
                offset = self._blob.words[entry + 2]
                # With kind_flag set, the top byte is a bit-field's width.
                width = offset >> 24 if info >> 31 else 0
                at = base + (offset & 0xFFFFFF if info >> 31 else offset)
                if self._blob.words[entry] in wanted:
                    return self._blob.words[entry + 1], at, width
                if self._blob.words[entry] == 0:
                    pending.append((self._blob.words[entry + 1], at, depth + 1))
        return None

    def _element(self, type_id: int, index: str) -> Optional[tuple[int, int]]:
        """(type id, byte offset) of ``3]`` in an array type."""
        number = index[:-1]
        position = self._blob.position(self._bare(type_id))
        kind = (self._blob.words[position + 1] >> 24) & 0x1F
        if not (index.endswith("]") and number.isdecimal()) or kind != BtfKind.ARRAY:
            return None
        if int(number) >= self._blob.words[position + 5]:
            return None
        element = self._blob.words[position + 3]
        return element, int(number) * self._size(element)


def _contents(fd: int) -> Union[bytes, mmap.mmap]:
    """The file, mapped where the kernel allows it (6.16), else read.

    sysfs hands out one page a read(), so one buffer is filled by readv() into its remainder.
    """
    size = os.fstat(fd).st_size
    if size > MAX_SIZE:
        raise malformed(f"it is {size} bytes long")
    if size:
        try:
            return mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        except OSError:
            pass
    buffer = bytearray(size)
    view = memoryview(buffer)
    filled = 0
    while filled < size:
        got = os.readv(fd, [view[filled:]])
        if got == 0:
            break
        filled += got
    return bytes(view[:filled])
