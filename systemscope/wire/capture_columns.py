"""Columns: the tables inside a capture file's sections.

A table is a run of columns. Each says its name, kind, width, count and size, so a reader takes the
columns it knows and steps over the others. ``docs/capture-format.md`` describes the bytes.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Optional, TypeVar

_HEADER = struct.Struct("<BBBxII")  # length of the name, kind, width, count, size
_COUNT = struct.Struct("<I")
_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}
_WRAP = (1 << 64) - 1
_LARGEST = 1 << 64

_Value = TypeVar("_Value")


class ColumnKind(IntEnum):
    """How a column's data is laid out."""

    NUMBERS = 0  # unsigned integers
    TEXTS = 1  # distinct texts, then an index each
    SET = 2  # distinct integers, sorted, as differences; then an index each
    BYTES = 3  # as they are


class ColumnError(ValueError):
    """The bytes are no columns, or a column is missing or not as its reader needs it."""


class TableWriter:
    """Collects the columns of one table."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def numbers(self, name: str, values: Iterable[int]) -> None:
        """Add integers of 0 to 2^64 - 1. Raises ColumnError for others."""
        data, width, count = _pack(values, name)
        self._add(name, ColumnKind.NUMBERS, width, count, _to_planes(data, width))

    def repeated(self, name: str, values: Sequence[int]) -> None:
        """Add integers of 0 to 2^64 - 1 that repeat a lot. Raises ColumnError for others."""
        distinct = sorted(set(values))
        number = {value: index for index, value in enumerate(distinct)}
        if distinct and (distinct[0] < 0 or distinct[-1] >= _LARGEST):
            raise ColumnError(f"{name} does not fit into 64 bits")
        steps = [high - low for low, high in zip([0, *distinct], distinct)]
        table = _to_planes(_bytes(array("Q", steps)), 8)
        data, width, count = _pack(map(number.__getitem__, values), name, len(distinct))
        self._add(name, ColumnKind.SET, width, count, _COUNT.pack(len(distinct)) + table + data)

    def texts(self, name: str, values: Sequence[str]) -> None:
        """Add texts of any kind, lone surrogates included."""
        number = {value: index for index, value in enumerate(dict.fromkeys(values))}
        encoded = [value.encode("utf-8", "surrogatepass") for value in number]
        lengths = _to_planes(_bytes(array("I", map(len, encoded))), 4)
        data, width, count = _pack(map(number.__getitem__, values), name, len(number))
        head = _COUNT.pack(len(number)) + lengths
        body = b"".join(encoded)
        self._add(name, ColumnKind.TEXTS, width, count, head + body + data)

    def blob(self, name: str, data: bytes) -> None:
        """Add bytes."""
        self._add(name, ColumnKind.BYTES, 1, len(data), data)

    def payload(self) -> bytes:
        """The table."""
        return b"".join(self._parts)

    def _add(self, name: str, kind: ColumnKind, width: int, count: int, data: bytes) -> None:
        label = name.encode("ascii")
        self._parts += (_HEADER.pack(len(label), kind, width, count, len(data)), label, data)


class Table:
    """The columns of one table, decoded when they are asked for."""

    def __init__(self, payload: bytes) -> None:
        """Find the columns in ``payload``. Raises ColumnError."""
        self._columns: dict[str, tuple[int, int, int, memoryview]] = {}
        view, position = memoryview(payload), 0
        while position < len(view):
            if position + _HEADER.size > len(view):
                raise ColumnError("a column's header is cut short")
            label, kind, width, count, size = _HEADER.unpack_from(view, position)
            begin = position + _HEADER.size + label
            position = begin + size
            if position > len(view):
                raise ColumnError("a column is cut short")
            name = bytes(view[begin - label : begin]).decode("ascii", "replace")
            self._columns.setdefault(name, (kind, width, count, view[begin:position]))

    def has(self, name: str) -> bool:
        """Whether there is such a column."""
        return name in self._columns

    def numbers(self, name: str, count: Optional[int] = None) -> list[int]:
        """The integers of a column of kind NUMBERS or SET. A column that is not there is all zero
        where ``count`` tells how many there must be. Raises ColumnError."""
        if name not in self._columns:
            return [0] * _expected(name, count)
        kind, width, held, data = self._columns[name]
        _check_count(name, held, count)
        if kind == ColumnKind.NUMBERS:
            if len(data) != held * width:
                raise ColumnError(f"column {name} has a wrong size")
            return _unpack(_from_planes(data, width), width, name)
        if kind != ColumnKind.SET:
            raise ColumnError(f"column {name} holds no numbers")
        distinct, rest = _distinct(data, 8, name)
        table: list[int] = []
        value = 0
        for step in _unpack(_from_planes(rest[: distinct * 8], 8), 8, name):
            value = (value + step) & _WRAP
            table.append(value)
        return _look_up(table, rest[distinct * 8 :], width, held, name)

    def texts(self, name: str, count: Optional[int] = None) -> list[str]:
        """The texts of a column; all empty where it is not there. Raises ColumnError."""
        if name not in self._columns:
            return [""] * _expected(name, count)
        kind, width, held, data = self._columns[name]
        _check_count(name, held, count)
        if kind != ColumnKind.TEXTS:
            raise ColumnError(f"column {name} holds no texts")
        distinct, rest = _distinct(data, 4, name)
        texts, begin = [], distinct * 4
        for length in _unpack(_from_planes(rest[:begin], 4), 4, name):
            if begin + length > len(rest):
                raise ColumnError(f"column {name} has a wrong size")
            texts.append(_decode(bytes(rest[begin : begin + length])))
            begin += length
        return _look_up(texts, rest[begin:], width, held, name)

    def blob(self, name: str) -> bytes:
        """The bytes of a column, empty where it is not there. Raises ColumnError."""
        if name not in self._columns:
            return b""
        kind, _, _, data = self._columns[name]
        if kind != ColumnKind.BYTES:
            raise ColumnError(f"column {name} holds no bytes")
        return bytes(data)


def _pack(values: Iterable[int], name: str, limit: int = 0) -> tuple[bytes, int, int]:
    """(little-endian bytes, the narrowest width for them, count). ``limit``, if not 0, is above
    all values."""
    try:
        packed = array("Q", values)
    except (OverflowError, TypeError) as error:
        raise ColumnError(f"{name} does not fit into 64 bits: {error}") from error
    largest = limit - 1 if limit else max(packed, default=0)
    width = next(width for width in _CODES if largest < 1 << (8 * width))
    narrow = packed if width == 8 else array(_CODES[width], packed)
    return _bytes(narrow), width, len(packed)


def _bytes(values: array[int]) -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _unpack(data: bytes, width: int, name: str) -> list[int]:
    code = _CODES.get(width)
    if code is None or len(data) % width:
        raise ColumnError(f"column {name} has a wrong width")
    values = array(code)
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()


def _to_planes(data: bytes, width: int) -> bytes:
    """All first bytes, then all second ones: high bytes are nearly always alike and shrink."""
    return data if width == 1 else b"".join(data[plane::width] for plane in range(width))


def _from_planes(data: memoryview, width: int) -> bytes:
    if width <= 1:
        return bytes(data)
    count = len(data) // width
    whole = bytearray(count * width)
    for plane in range(width):
        whole[plane::width] = data[plane * count : (plane + 1) * count]
    return bytes(whole)


def _distinct(data: memoryview, width: int, name: str) -> tuple[int, memoryview]:
    """How many distinct values there are, and what follows that number."""
    if len(data) < _COUNT.size:
        raise ColumnError(f"column {name} has a wrong size")
    distinct = int(_COUNT.unpack_from(data)[0])
    if distinct * width > len(data) - _COUNT.size:
        raise ColumnError(f"column {name} has a wrong size")
    return distinct, data[_COUNT.size :]


def _look_up(
    table: Sequence[_Value], data: memoryview, width: int, count: int, name: str
) -> list[_Value]:
    if len(data) != count * width:
        raise ColumnError(f"column {name} has a wrong size")
    try:
        return list(map(table.__getitem__, _unpack(bytes(data), width, name)))
    except IndexError:
        raise ColumnError(f"column {name} points outside its table") from None


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def _expected(name: str, count: Optional[int]) -> int:
    if count is None:
        raise ColumnError(f"column {name} is missing")
    return count


def _check_count(name: str, held: int, count: Optional[int]) -> None:
    if count is not None and held != count:
        raise ColumnError(f"column {name} has {held} values instead of {count}")
