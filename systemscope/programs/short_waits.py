"""Short waits: added up, and a stack taken for the one in which the sum crosses a period."""

from __future__ import annotations

from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.values import Pointer, Value
from systemscope.model.states import State
from systemscope.programs.common import Ground
from systemscope.programs.records import SHORT_CLASSES


def add_short(g: Ground, record: Pointer, amount: Value, state: State, charge: Value) -> None:
    """Add a short wait to its class; charge whole periods as the sum crosses them.

    Periods are uniform in half to one and a half of the threshold. The remainder stays, so the
    points form a renewal process over waiting time, independent of any pattern in the waits: the
    expected charge of a call site is its share. A short wait crosses at most two.
    """
    b, kind = g.b, SHORT_CLASSES.index(state)
    b.add(record.short[kind], amount)
    with b.if_(record.period[kind] == 0):
        _new_period(g, record, kind)
    for _crossing in range(2):
        with b.if_(record.short[kind] >= record.period[kind]):
            b.set(charge, charge + record.period[kind])
            with b.block():
                left = b.let(record.short[kind] - record.period[kind])
                record.short[kind] = left
            _new_period(g, record, kind)


def _new_period(g: Ground, record: Pointer, kind: int) -> None:
    b, mean = g.b, g.config.min_block_ns
    chance = b.call(Helper.get_prandom_u32)
    record.period[kind] = mean // 2 + 1 + (((chance & 0xFFFFFFFF) * mean) >> 32)
