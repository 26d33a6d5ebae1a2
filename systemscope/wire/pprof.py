"""The messages of pprof's profile.proto, for whichever protobuf runtime is installed.

The types come from a descriptor built at run time and added to a pool of our own: no protoc, no
generated code whose version must match the runtime's, no clash with another package's copy of the
same file. Works on the native (upb) and the pure-Python runtime, from protobuf 4.21 on.
Field names and numbers: https://github.com/google/pprof/blob/main/proto/profile.proto
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from systemscope.errors import SystemScopeError

PACKAGE = "perftools.profiles"
INT64_MAX = (1 << 63) - 1
UINT64_MAX = (1 << 64) - 1

#: Message: its fields as (name, type), in the order of their numbers, which have no holes. A
#: capital letter is a message; "*" marks repeated ones.
_MESSAGES: dict[str, tuple[tuple[str, str], ...]] = {
    "ValueType": (("type", "int64"), ("unit", "int64")),
    "Label": (("key", "int64"), ("str", "int64"), ("num", "int64"), ("num_unit", "int64")),
    "Sample": (("location_id", "*uint64"), ("value", "*int64"), ("label", "*Label")),
    "Mapping": (
        ("id", "uint64"),
        ("memory_start", "uint64"),
        ("memory_limit", "uint64"),
        ("file_offset", "uint64"),
        ("filename", "int64"),
        ("build_id", "int64"),
        ("has_functions", "bool"),
        ("has_filenames", "bool"),
        ("has_line_numbers", "bool"),
        ("has_inline_frames", "bool"),
    ),
    "Line": (("function_id", "uint64"), ("line", "int64"), ("column", "int64")),
    "Location": (
        ("id", "uint64"),
        ("mapping_id", "uint64"),
        ("address", "uint64"),
        ("line", "*Line"),
        ("is_folded", "bool"),
    ),
    "Function": (
        ("id", "uint64"),
        ("name", "int64"),
        ("system_name", "int64"),
        ("filename", "int64"),
        ("start_line", "int64"),
    ),
    "Profile": (
        ("sample_type", "*ValueType"),
        ("sample", "*Sample"),
        ("mapping", "*Mapping"),
        ("location", "*Location"),
        ("function", "*Function"),
        ("string_table", "*string"),
        ("drop_frames", "int64"),
        ("keep_frames", "int64"),
        ("time_nanos", "int64"),
        ("duration_nanos", "int64"),
        ("period_type", "ValueType"),
        ("period", "int64"),
        ("comment", "*int64"),
        ("default_sample_type", "int64"),
        ("doc_url", "int64"),
    ),
}
_SCALARS = {"int64": 3, "uint64": 4, "bool": 8, "string": 9}  # FieldDescriptorProto.Type
_MESSAGE_TYPE = 11
_OPTIONAL, _REPEATED = 1, 3  # FieldDescriptorProto.Label


class Messages(NamedTuple):
    """The message classes, and what decoding a broken one raises."""

    Profile: Any
    Sample: Any
    Mapping: Any
    Location: Any
    Function: Any
    ValueType: Any
    DecodeError: type[Exception]


@cache
def messages() -> Messages:
    """The message classes. Raises SystemScopeError where protobuf is not installed."""
    try:
        from google.protobuf import descriptor_pool
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise SystemScopeError(
            "pprof files need the Python package protobuf, which is not installed",
            "install it (Debian: apt-get install python3-protobuf), or choose another format",
        ) from error
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(_descriptor().SerializeToString())
    classes = {name: _class(pool, f"{PACKAGE}.{name}") for name in _MESSAGES}
    return Messages(
        classes["Profile"],
        classes["Sample"],
        classes["Mapping"],
        classes["Location"],
        classes["Function"],
        classes["ValueType"],
        DecodeError,
    )


def _descriptor() -> Any:
    from google.protobuf import descriptor_pb2

    build: Any = descriptor_pb2.FileDescriptorProto
    file = build(name="profile.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields, 1):
            label = _REPEATED if kind.startswith("*") else _OPTIONAL
            kind = kind.lstrip("*")
            if kind in _SCALARS:
                message.field.add(name=field, number=number, label=label, type=_SCALARS[kind])
            else:
                named = f".{PACKAGE}.{kind}"
                added = message.field.add(name=field, number=number, label=label, type_name=named)
                added.type = _MESSAGE_TYPE
    return file


def _class(pool: Any, name: str) -> Any:
    from google.protobuf import message_factory

    described = pool.FindMessageTypeByName(name)
    get = getattr(message_factory, "GetMessageClass", None)
    if get is not None:
        return get(described)
    # protobuf 4.21 has it as a method only.
    factory: Any = message_factory
    return factory.MessageFactory(pool).GetPrototype(described)


#: Field numbers of Profile, for those who take it apart record by record.
SAMPLE_TYPE, SAMPLE, MAPPING, LOCATION, FUNCTION, STRING = range(1, 7)


def field_header(field: int, size: int) -> bytes:
    """What stands before a message or string of ``size`` bytes in field 1 to 15 of a Profile."""
    header = bytearray((field << 3 | _BYTES,))
    while size > 0x7F:
        header.append(size & 0x7F | 0x80)
        size >>= 7
    header.append(size)
    return bytes(header)


class Record(NamedTuple):
    """One field of a serialized Profile: its payload is data[start:end]; a field that is no
    message, string or packed list has ``varint`` in its place, and end == start."""

    field: int
    start: int
    end: int
    varint: int


class Cut(Exception):
    """The bytes end, or stop making sense, at ``position``."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


def records(data: bytes) -> Iterator[Record]:
    """The fields of a serialized Profile in the order they lie in the file.

    Going by fields keeps a hostile file from making a message of every two of its bytes at once,
    and what lies before a cut can be had. Raises Cut at the first byte that makes no sense.
    """
    position, limit = 0, len(data)
    while position < limit:
        begin = position
        try:
            tag, position = _varint(data, position)
            kind, number, end = tag & 7, 0, 0
            if kind == _BYTES:
                length, position = _varint(data, position)
                end = position + length
            elif kind == _VARINT:
                number, end = _varint(data, position)
                position = end
            elif kind in (_FIXED64, _FIXED32):
                end = position + (8 if kind == _FIXED64 else 4)
        except IndexError:
            raise Cut(begin) from None
        if end > limit or not end or not tag >> 3:
            raise Cut(begin)
        yield Record(tag >> 3, position, end, number)
        position = end


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at ``position`` and where it ends. Raises IndexError when it does not end."""
    value = data[position]
    position += 1
    if value < 0x80:
        return value, position
    value &= 0x7F
    for shift in range(7, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & UINT64_MAX, position
    raise IndexError
