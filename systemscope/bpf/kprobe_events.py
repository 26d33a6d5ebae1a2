"""The two ways to a kprobe: the perf PMU (4.17) and definitions in tracefs."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from typing import Optional

from systemscope.bpf.perf import PerfEvent
from systemscope.errors import KernelError
from systemscope.syscalls import perf

_PMU = "/sys/bus/event_source/devices/kprobe"
_GROUP = "systemscope"
_MAX_DEFINITIONS_BYTES = 1 << 20


@dataclass(frozen=True)
class KprobePmu:
    """The perf PMU "kprobe": its event type and the config bit of return probes."""

    type: int
    retprobe_bit: int

    def open(self, symbol: str, offset: int, retprobe: bool, cpu: int) -> PerfEvent:
        """An event on ``symbol``; ENOENT no such function, EINVAL not to be probed."""
        attr = perf.PerfEventAttr(
            type=self.type,
            config=(1 << self.retprobe_bit) if retprobe else 0,
            config2=offset,
            flags=perf.AttrFlag.DISABLED,
        )
        try:
            return PerfEvent(perf.perf_event_open(attr, -1, cpu, probe=symbol))
        except KernelError as error:
            raise KernelError("open", f"kprobe '{symbol}'", error.errno or errno.EIO) from None


def pmu() -> Optional[KprobePmu]:
    """The PMU, None where the kernel has none."""
    try:
        with open(f"{_PMU}/type", encoding="ascii") as stream:
            number = int(stream.read())
        with open(f"{_PMU}/format/retprobe", encoding="ascii") as stream:
            bit = re.search(r"config:(\d+)", stream.read())
    except (OSError, ValueError):
        return None
    return KprobePmu(number, int(bit.group(1)) if bit else 0)


class Probe:
    """One probe defined in ``tracefs``/kprobe_events; ``id`` is its tracepoint number.

    A definition outlives a killed process (only the definition: nothing stays attached), so its
    name carries the process id, and definitions of the dead are removed on the way.
    """

    def __init__(self, tracefs: str, symbol: str, offset: int, retprobe: bool) -> None:
        self._file = os.path.join(tracefs, "kprobe_events")
        safe = re.sub(r"[^A-Za-z0-9_]", "_", symbol)[:40]  # event names end at 63
        self._event = f"{_GROUP}/{'r' if retprobe else 'p'}_{safe}_{offset}_{os.getpid()}"
        self._remove_stale()
        place = f"{symbol}+{offset}" if offset else symbol
        self._write(f"{'r' if retprobe else 'p'}:{self._event} {place}\n", f"kprobe '{symbol}'")
        try:
            with open(
                os.path.join(tracefs, "events", self._event, "id"), encoding="ascii"
            ) as stream:
                self.id = int(stream.read())
        except (OSError, ValueError) as error:
            self.remove()
            number = getattr(error, "errno", None) or errno.EIO
            raise KernelError("read", f"id of kprobe '{symbol}'", number) from None

    def _write(self, text: str, subject: str) -> None:
        try:
            # Not open(): it looks for the file's end, which seq_lseek refuses (EINVAL).
            number = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            try:
                os.write(number, text.encode("ascii"))
            finally:
                os.close(number)
        except OSError as error:
            raise KernelError("define", subject, error.errno or errno.EIO) from None

    def remove(self) -> None:
        """Take the definition back; EBUSY while someone else uses it is left at that."""
        try:
            self._write(f"-:{self._event}\n", self._event)
        except KernelError as error:
            if error.errno not in (errno.EBUSY, errno.ENOENT):
                raise

    def _remove_stale(self) -> None:
        try:
            with open(self._file, encoding="ascii", errors="replace") as stream:
                text = stream.read(_MAX_DEFINITIONS_BYTES)
        except OSError:
            return
        for match in re.finditer(rf"^[pr]\d*:({_GROUP}/\S+_(\d+)) ", text, re.MULTILINE):
            if not os.path.exists(f"/proc/{match.group(2)}"):
                try:
                    self._write(f"-:{match.group(1)}\n", match.group(1))
                except KernelError:
                    continue  # in use after all, or gone
