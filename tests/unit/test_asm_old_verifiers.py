"""What the builder does for verifiers that remember too much: before Linux 4.14, and 5.3."""

from __future__ import annotations

from systemscope.bpfasm.builder import Builder
from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.listing import listing
from systemscope.bpfasm.records import Array, Record, u64
from systemscope.bpfasm.types import MapSpec, MapType, ProgramType


class Table(Record):
    """Sixteen words."""

    words: Array = Array(u64, 16)


TABLE = MapSpec("table", MapType.ARRAY, 4, Table.size, 1)


def builder(isa: int, bounded_loops: bool) -> Builder:
    return Builder("old", ProgramType.SOCKET_FILTER, isa=isa, bounded_loops=bounded_loops)


def indexed(isa: int) -> list[str]:
    b = builder(isa, bounded_loops=False)
    found = b.lookup_index(TABLE, 0, Table)
    with b.if_(b.not_null(found)):
        index = b.let(b.call(Helper.get_prandom_u32))
        found.words[index] = 1
    b.exit(0)
    return listing(b.build()).splitlines()


def test_at_the_oldest_level_the_number_is_added_to_the_pointer() -> None:
    old, new = indexed(1), indexed(2)
    assert len(old) == len(new) + 1, "one copy of the pointer more"
    (mask,) = [n for n, line in enumerate(old) if "&= 15" in line]
    number = old[mask].split("&=")[0].split()[-1]
    copied, added = old[mask + 2], old[mask + 3]
    pointer = added.split("+=")[0].split()[-1]
    assert f"{pointer} = r" in copied and f"{pointer} += {number}" in added


def spilled(bounded_loops: bool) -> str:
    b = builder(2, bounded_loops)
    for _ in range(4):
        b.let(0)
    with b.block():
        found = b.lookup_index(TABLE, 0, Table)  # no register is left
        with b.if_(b.not_null(found)):
            found.words[0] = 1
    b.exit(0)
    return listing(b.build())


def test_what_a_call_gave_does_not_stay_on_the_stack() -> None:
    old, new = spilled(False).splitlines(), spilled(True).splitlines()
    assert len(old) == len(new) + 1
    assert "= 0" in old[-3] and "r10" in old[-3]


def test_forgetting_empties_what_is_free_and_nothing_else() -> None:
    b = builder(1, bounded_loops=False)
    kept = b.let(7)
    with b.block():
        b.let(8, spill=True)
    b.forget(stack=True)
    b.exit(kept)
    lines = listing(b.build()).splitlines()
    assert kept.register is not None
    cleared = [line for line in lines if line.strip().endswith("= 0")]
    assert len(cleared) == 2 + 1, "two registers and a word: the context and a variable stay"
    assert not any(f" r{int(kept.register)} = 0" in line for line in lines)


def test_a_call_answers_into_a_variable_there_is() -> None:
    b = builder(1, bounded_loops=False)
    value = b.let(0)
    assert b.call(Helper.get_prandom_u32, into=value) is value
    b.exit(value)
    assert value.register is not None
    assert f"r{int(value.register)} = r0" in listing(b.build())
