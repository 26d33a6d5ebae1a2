"""C structs declared once: offsets computed as the compiler does, packing and unpacking."""

from __future__ import annotations

import struct
from typing import Any, Union

Value = Union[int, bytes]


class Field:
    """One member: its name, byte ``offset`` and ``struct`` format code (one of B H I i Q Ns)."""

    __slots__ = ("code", "name", "offset", "packer")

    def __init__(self, name: str, offset: int, code: str) -> None:
        self.name = name
        self.offset = offset
        self.code = code
        self.packer = struct.Struct("=" + code)

    @property
    def size(self) -> int:
        """Bytes the member takes."""
        return self.packer.size


class Layout:
    """A struct of the kernel's ABI with natural alignment.

    ``c_type`` and ``prefix`` name it for the ABI check ("union bpf_attr", "batch."). ``start`` is
    the offset of the first member. Members whose name begins with an underscore are padding or
    bit-fields and are not looked up by name in the header. ``end`` is the offset behind the last
    member; ``size`` is ``end`` rounded up to the alignment.
    """

    def __init__(
        self, c_type: str, *members: tuple[str, str], prefix: str = "", start: int = 0
    ) -> None:
        self.c_type = c_type
        self.prefix = prefix
        self.fields: dict[str, Field] = {}
        offset = start
        widest = 1
        for name, code in members:
            alignment = 1 if code.endswith("s") else struct.calcsize("=" + code)
            offset = -(-offset // alignment) * alignment
            self.fields[name] = Field(name, offset, code)
            offset += self.fields[name].size
            widest = max(widest, alignment)
        self.end = offset
        self.size = -(-offset // widest) * widest

    def pack_into(self, buffer: bytearray, **values: Value) -> None:
        """Write the named members. struct.error when a value does not fit: nothing is masked."""
        for name, value in values.items():
            field = self.fields[name]
            field.packer.pack_into(buffer, field.offset, value)

    def get(self, buffer: Union[bytes, bytearray], name: str) -> Any:
        """One member's value."""
        field = self.fields[name]
        return field.packer.unpack_from(buffer, field.offset)[0]

    def unpack(self, buffer: Union[bytes, bytearray]) -> dict[str, Any]:
        """All members that lie within ``buffer``, by name."""
        return {
            name: field.packer.unpack_from(buffer, field.offset)[0]
            for name, field in self.fields.items()
            if field.offset + field.size <= len(buffer)
        }
