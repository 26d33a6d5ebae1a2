"""Runs what the builder makes: a socket filter over one record in a map, by BPF_PROG_TEST_RUN."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Callable, NamedTuple

from systemscope.bpf.map import Map
from systemscope.bpf.program import Program
from systemscope.bpfasm.builder import Builder
from systemscope.bpfasm.records import Array, Record, s32, u8, u16, u32, u64
from systemscope.bpfasm.types import MapSpec, MapType, ProgramType
from systemscope.bpfasm.values import Pointer

U64 = (1 << 64) - 1
_PACKET = bytes(64)


class Exchange(Record):
    """What a tested program reads and writes."""

    given: Array = Array(u64, 8)
    out: Array = Array(u64, 8)
    numbers: Array = Array(s32, 4)
    octets: Array = Array(u8, 16)


class Key(Record):
    """A key with every width."""

    wide: u64
    word: u32
    half: u16
    byte: u8
    pad: u8


class Sum(Record):
    """A value that is counted up."""

    total: u64
    times: u64


EXCHANGE = MapSpec("exchange", MapType.ARRAY, 4, Exchange.size, 1)


class Variant(NamedTuple):
    """A kind of kernel to build for."""

    isa: int
    direct_values: bool
    bounded_loops: bool


NEWEST = Variant(4, True, True)
OLDEST = Variant(1, False, False)
VARIANTS = (NEWEST, Variant(3, True, True), Variant(2, True, False), OLDEST)

Body = Callable[[Builder, Pointer], None]


class Loaded:
    """A program and its maps."""

    def __init__(self, program: Program, maps: dict[MapSpec, Map]) -> None:
        self.program, self.maps = program, maps

    def __call__(self, *given: int) -> list[int]:
        """Run it on ``given``; the eight outputs."""
        numbers = [number & U64 for number in given] + [0] * (8 - len(given))
        head = b"".join(number.to_bytes(8, "little") for number in numbers)
        key = bytes(4)
        self.maps[EXCHANGE].update(key, head + bytes(Exchange.size - len(head)))
        self.retval = self.program.run(_PACKET).retval
        value = self.maps[EXCHANGE].lookup(key)
        assert value is not None
        return list(Exchange.decoder.unpack(value)[8:16])


@contextmanager
def loaded(body: Body, variant: Variant = NEWEST, maps: Sequence[MapSpec] = ()) -> Iterator[Loaded]:
    """The program whose instructions ``body(builder, exchange)`` emits, ready to run."""
    b = Builder(
        "tested",
        ProgramType.SOCKET_FILTER,
        isa=variant.isa,
        direct_values=variant.direct_values,
        bounded_loops=variant.bounded_loops,
    )
    body(b, b.value_of(EXCHANGE, Exchange))
    b.exit(0)
    spec = b.build()
    with ExitStack() as stack:
        made = {one: stack.enter_context(Map.create(one)) for one in (EXCHANGE, *maps)}
        yield Loaded(stack.enter_context(Program.load(spec, made)), made)
