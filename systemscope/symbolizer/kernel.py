"""Kernel addresses to frames."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Optional, Union

from systemscope.model import Frame, FrameKind, HostFacts, Stack
from systemscope.symbolizer.kallsyms import MISSING, KernelSymbol, KernelSymbols
from systemscope.symbolizer.options import SymbolizerOptions
from systemscope.symbolizer.recorded import RecordedSymbols
from systemscope.symbolizer.rust_v0 import demangle_v0

#: Frames between the place where a thread waits and the BPF program that walked its stack: the
#: program itself, its trampoline, the tracepoint's glue and the walker. They say nothing of the
#: thread. On 6.18: bpf_prog_HASH_name, bpf_trace_run4, __traceiter_sched_switch; on 4.9 to 4.19:
#: perf_trace_sched_switch.
_MACHINERY = re.compile(
    r"_*bpf_|_*traceiter_|perf_trace_|trace_call_bpf|trace_event_raw_event_|perf_callchain"
    r"|get_perf_callchain|stack_trace_save|arch_stack_walk"
)
_MAX_MACHINERY = 12

#: A line of /proc/TID/stack (fs/proc/base.c, proc_pid_stack(); lib/vsprintf.c, "%pB").
_NAMED = re.compile(r"(?:\[<[0-9a-f]+>\] ?)?(\S+?)\+0x([0-9a-f]+)(?:/0x[0-9a-f]+)?(?: (\[.+\]))?$")

FOREIGN = "the capture is of another kernel"
NO_SYMBOL = "no kernel symbol covers it"


class KernelNamer:
    """Names kernel stacks. Reads kallsyms when the first address is asked for, and once."""

    def __init__(
        self,
        options: SymbolizerOptions,
        *,
        same_kernel: bool = True,
        facts: Optional[HostFacts] = None,
    ) -> None:
        """``same_kernel`` says the addresses are of the kernel that runs now. Where there are
        ``facts`` they alone count, whatever kernel runs here."""
        self._options = options
        self._symbols: Union[KernelSymbols, RecordedSymbols, None] = None
        self._facts = facts
        self._frames: dict[tuple[int, bool], Frame] = {}
        self._foreign = not same_kernel and facts is None

    @property
    def note(self) -> str:
        """One line for the user when kernel names are missing, else ""."""
        if self._symbols is None:
            return ""
        reason = self._why_unknown()
        return "" if reason == NO_SYMBOL else f"kernel frames have no names: {reason}"

    def frames(self, stack: Stack, *, running: bool) -> tuple[Frame, ...]:
        """The stack's kernel frames, leaf first.

        ``running`` says the leaf is an instruction pointer and every frame the thread's own, as
        in samples. Otherwise the leading frames of the machinery that walked the stack are left
        out, and so that all ways to walk agree: ``finish_task_switch``, where a probe may
        sit, and a repeated ``__schedule``.
        """
        if stack.kernel_names and not stack.kernel:
            return tuple(parse_named(text) for text in stack.kernel_names)
        frames = [
            self._frame(address, exact=running and index == 0)
            for index, address in enumerate(stack.kernel)
        ]
        return tuple(frames if running else strip_machinery(frames))

    def _frame(self, address: int, *, exact: bool) -> Frame:
        key = (address, exact)
        frame = self._frames.get(key)
        if frame is None:
            frame = self._frames[key] = self._name(address, exact)
        return frame

    def _name(self, address: int, exact: bool) -> Frame:
        symbol = self._find(address, exact)
        if symbol is None:
            name = f"[kernel]+{address:#x}"
            reason = self._why_unknown()
            return Frame(name, FrameKind.KERNEL, address, "[kernel]", unknown=reason)
        offset = address - symbol.start
        name = symbol.name
        if self._options.demangle and name.startswith("_R"):  # the kernel's parts in Rust
            name = demangle_v0(name) or name
        return Frame(name, FrameKind.KERNEL, address, symbol.module, offset=offset)

    def _find(self, address: int, exact: bool) -> Optional[KernelSymbol]:
        if self._symbols is None:
            self._symbols = self._read()
        # A return address may lie behind the last byte of its function, when the call does not
        # return: the byte before it is inside the call.
        return self._symbols.find(address if exact else address - 1)

    def _read(self) -> Union[KernelSymbols, RecordedSymbols]:
        if self._facts is not None:
            return RecordedSymbols(self._facts)
        if self._foreign:
            return KernelSymbols(b"")
        return KernelSymbols.read(self._options.kallsyms, self._options.modules)

    def _why_unknown(self) -> str:
        if self._foreign:
            return FOREIGN
        if isinstance(self._symbols, RecordedSymbols):
            return self._symbols.reason or NO_SYMBOL
        return (MISSING if self._symbols is None else self._symbols.problem) or NO_SYMBOL


def parse_named(text: str) -> Frame:
    """A frame from a line of /proc/TID/stack: "symbol+0xoff/0xsize [module]"."""
    match = _NAMED.match(text.strip())
    if match is None:
        name = f"[kernel]+{text.strip() or '?'}"
        return Frame(name, FrameKind.KERNEL, module="[kernel]", unknown=NO_SYMBOL)
    name, offset, module = match.groups()
    return Frame(name, FrameKind.KERNEL, module=module or "[kernel]", offset=int(offset[:16], 16))


def strip_machinery(frames: list[Frame]) -> list[Frame]:
    """``frames``, leaf first, from the first on that is the thread's own. Frames without a name
    go only where one of the machinery follows them: programs unloaded since have lost theirs."""
    first = 0
    for index, frame in enumerate(frames[:_MAX_MACHINERY]):
        if not frame.unknown:
            if not _MACHINERY.match(frame.name):
                break
            first = index + 1
    while _is_artefact(frames[first : first + 2]):
        first += 1
    return frames[first:]


def _is_artefact(pair: Iterable[Frame]) -> bool:
    names = [frame.name for frame in pair]
    if len(names) < 2:
        return False
    if names[0].startswith("finish_task_switch"):
        return names[1] in ("__schedule", "schedule_tail")
    return names == ["__schedule", "__schedule"]
