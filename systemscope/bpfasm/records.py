"""Records: one declaration of a struct serves the BPF program and the reader in user space.

Fields are annotations::

    class SampleKey(Record):
        tgid: u32
        tid: u32
        ips: Array = Array(u64, 128)
        comm: Bytes = Bytes(16)

Layout is C's for naturally aligned fields; a field that would need hidden padding is refused, so
no uninitialised byte can reach a map key. Integers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from systemscope.bpfasm.errors import AssemblyError

_SCALARS = {
    "u8": (1, False, "B"),
    "u16": (2, False, "H"),
    "u32": (4, False, "I"),
    "u64": (8, False, "Q"),
    "s8": (1, True, "b"),
    "s16": (2, True, "h"),
    "s32": (4, True, "i"),
    "s64": (8, True, "q"),
}


class u8(int): ...  # noqa: N801


class u16(int): ...  # noqa: N801


class u32(int): ...  # noqa: N801


class u64(int): ...  # noqa: N801


class s8(int): ...  # noqa: N801


class s16(int): ...  # noqa: N801


class s32(int): ...  # noqa: N801


class s64(int): ...  # noqa: N801


class Array:
    """A field of ``count`` equal integers: ``ips: Array = Array(u64, 128)``."""

    def __init__(self, element: type, count: int) -> None:
        self.element, self.count = element.__name__, count


class Bytes:
    """A field of ``count`` raw bytes, such as a comm: ``comm: Bytes = Bytes(16)``."""

    def __init__(self, count: int) -> None:
        self.count = count


@dataclass(frozen=True)
class FieldInfo:
    """Where a field lies. ``size`` is one element's; ``count`` is 0 for a scalar."""

    name: str
    offset: int
    size: int
    signed: bool
    count: int
    raw: bool

    @property
    def span(self) -> int:
        """Bytes the whole field takes."""
        return self.size * max(self.count, 1)


class RecordType(type):
    """Reads a record's annotations once, at class creation."""

    fields: dict[str, FieldInfo]
    size: int
    format: str
    decoder: struct.Struct

    def __new__(mcs, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> RecordType:
        cls = super().__new__(mcs, name, bases, space)
        annotations: dict[str, str] = space.get("__annotations__", {})
        if bases and not annotations:
            # Python 3.14 evaluates annotations lazily; the string form keeps them here before.
            annotations = dict(getattr(cls, "__annotations__", {}))
        fields: dict[str, FieldInfo] = {}
        offset, formats = 0, ["<"]
        for field_name, text in annotations.items():
            field, code = _parse(name, field_name, str(text), offset, space.get(field_name))
            fields[field_name] = field
            formats.append(code)
            offset += field.span
        if offset % max((f.size for f in fields.values()), default=1):
            raise AssemblyError(f"record {name} needs explicit padding at its end ({offset} bytes)")
        cls.fields, cls.size, cls.format = fields, offset, "".join(formats)
        cls.decoder = struct.Struct(cls.format)
        return cls

    def iter_unpack(cls, data: bytes) -> Iterator[tuple[Any, ...]]:
        """Tuples of all elements in declaration order (arrays flattened, Bytes as bytes)."""
        return cls.decoder.iter_unpack(data)

    def index(cls, name: str) -> int:
        """Position of field ``name``'s first element in such a tuple."""
        position = 0
        for field in cls.fields.values():
            if field.name == name:
                return position
            position += 1 if field.raw else max(field.count, 1)
        raise KeyError(name)

    def pack(cls, **values: int) -> bytes:
        """Bytes of a record with the given scalar fields set and the rest zero."""
        data = bytearray(cls.size)
        for name, value in values.items():
            field = cls.fields[name]
            data[field.offset : field.offset + field.size] = value.to_bytes(
                field.size, "little", signed=field.signed
            )
        return bytes(data)


class Record(metaclass=RecordType):
    """Base of all records."""


def _parse(record: str, name: str, text: str, offset: int, shape: object) -> tuple[FieldInfo, str]:
    scalar, count = text, 0
    raw = isinstance(shape, Bytes)
    if isinstance(shape, Array):
        scalar, count = shape.element, shape.count
    elif isinstance(shape, Bytes):
        scalar, count = "u8", shape.count
    if scalar not in _SCALARS:
        raise AssemblyError(f"record {record}: field {name} has no BPF type '{text}'")
    size, signed, letter = _SCALARS[scalar]
    if offset % size:
        raise AssemblyError(f"record {record}: field {name} at {offset} needs explicit padding")
    code = f"{count}s" if raw else f"{count or ''}{letter}"
    return FieldInfo(name, offset, size, signed, count, raw), code
