"""What was decoded last, as long as it is not too much."""

from __future__ import annotations

from collections import OrderedDict
from typing import Callable, Generic, Optional, TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Recent(Generic[_Key, _Value]):
    """Values by key. The ones longest unused go when all together cost more than ``limit``, but
    never the last one."""

    def __init__(self, limit: int, cost: Callable[[_Value], int]) -> None:
        self._limit = limit
        self._cost = cost
        self._kept: OrderedDict[_Key, tuple[_Value, int]] = OrderedDict()
        self._total = 0

    def get(self, key: _Key) -> Optional[_Value]:
        """What is kept under ``key``, or None."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def put(self, key: _Key, value: _Value) -> _Value:
        """Keep ``value`` under ``key``, which may be there already and have become larger."""
        cost = self._cost(value)
        old = self._kept.pop(key, None)
        self._total += cost - (old[1] if old is not None else 0)
        self._kept[key] = value, cost
        while self._total > self._limit and len(self._kept) > 1:
            self._total -= self._kept.popitem(last=False)[1][1]
        return value
