"""The builder's map idioms, found right by running them in the kernel."""

from __future__ import annotations

import struct

import pytest

from systemscope.bpfasm.builder import NOEXIST, Builder
from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.types import MapSpec, MapType
from systemscope.bpfasm.values import Expr, Pointer
from tests.kernel.asm_runner import U64, VARIANTS, Key, Sum, Variant, loaded

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: f"v{v.isa}"),
]

SUMS = MapSpec("sums", MapType.HASH, Key.size, Sum.size, 2)
CPU_SUMS = MapSpec("cpu_sums", MapType.PERCPU_ARRAY, 4, Sum.size, 4)


def test_lookup_or_insert(variant: Variant) -> None:
    def body(b: Builder, io: Pointer) -> None:
        key = b.stack(Key)
        key.word = io.given[0]

        def initial() -> Expr:
            fresh = b.stack(Sum)
            fresh.total = 100
            return b.address(fresh)

        found = b.lookup_or_insert(SUMS, b.address(key), initial, Sum)
        with b.if_(b.is_null(found)):
            io.out[0] = 404
            b.exit(0)
        b.atomic_add(found.total, io.given[1])
        b.atomic_add(found.times, 1)
        io.out[0], io.out[1] = found.total, found.times
        io.out[2] = b.update(SUMS, b.address(key), b.address(found), NOEXIST)
        absent = b.lookup(SUMS, b.address(b.stack(Key)), Sum)
        with b.if_(b.not_null(absent)):
            io.out[3] = 1

    with loaded(body, variant, [SUMS]) as program:
        exists = -17 & U64
        assert program(7, 5)[:4] == [105, 1, exists, 0]
        assert program(7, 6)[:4] == [111, 2, exists, 0]
        assert program(8, 1)[:4] == [101, 1, exists, 0]
        assert program(9, 1)[0] == 404  # two entries are all there is
        assert program.maps[SUMS].delete(Key.pack(word=7))
        assert program(9, 1)[:2] == [101, 1]
        keys, values = program.maps[SUMS].read_all()
        rows = dict(zip((key[1] for key in Key.iter_unpack(keys)), Sum.iter_unpack(values)))
        assert rows == {8: (101, 1), 9: (101, 1)}


def test_per_cpu_values_and_delete(variant: Variant) -> None:
    def body(b: Builder, io: Pointer) -> None:
        sums = b.lookup_index(CPU_SUMS, io.given[0], Sum)
        with b.if_(b.is_null(sums)):
            io.out[0] = 404
            b.exit(0)
        b.add(sums.total, io.given[1])
        io.out[0] = sums.total
        key = b.stack(Key)
        b.delete(SUMS, b.address(key))
        io.out[1] = b.call(Helper.map_delete_elem, SUMS, b.address(key), signed=True)

    with loaded(body, variant, [CPU_SUMS, SUMS]) as program:
        program.maps[SUMS].update(bytes(Key.size), bytes(Sum.size))
        assert program(3, 5)[:2] == [5, -2 & U64]
        assert program(4, 5)[0] == 404
        _, values = program.maps[CPU_SUMS].read_all()
        assert sum(struct.unpack(f"<{len(values) // 8}Q", values)) == 5
