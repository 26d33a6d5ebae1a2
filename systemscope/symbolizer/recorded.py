"""A capture's kernel symbols, as the machine it was made on told them."""

from __future__ import annotations

from bisect import bisect_right
from typing import Optional

from systemscope.model import HostFacts
from systemscope.symbolizer.kallsyms import KernelSymbol


class RecordedSymbols:
    """Asked as KernelSymbols are. ``reason`` says why there are none, "" where there are some."""

    missing = False
    hidden = False

    def __init__(self, facts: HostFacts) -> None:
        self._symbols = sorted(facts.kernel_symbols, key=lambda symbol: symbol.start)
        self._starts = [symbol.start for symbol in self._symbols]
        self.reason = "" if self._symbols else next(iter(facts.notes), "")

    def find(self, address: int) -> Optional[KernelSymbol]:
        """The function at ``address``, or None when the capture tells of none there."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._symbols[index].end:
            return None
        symbol = self._symbols[index]
        module = f"[{symbol.module or 'kernel'}]"
        return KernelSymbol(symbol.name, symbol.start, module)
