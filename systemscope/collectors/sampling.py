"""The event that samples: hardware cycles where there is a PMU, else the cpu-clock timer."""

from __future__ import annotations

from systemscope.bpf.perf import PerfEvent
from systemscope.errors import KernelError
from systemscope.syscalls.perf import PerfEventAttr
from systemscope.syscalls.perf_abi import AttrFlag, Hardware, PerfType, Software


def open_sampler(cpu: int, frequency: int, hardware: bool) -> tuple[PerfEvent, str]:
    """A disabled event that fires ``frequency`` times a second on ``cpu``, and its name.

    ``hardware`` asks for cycles; where a CPU has no PMU the cpu-clock timer serves.
    """
    flags = AttrFlag.DISABLED | AttrFlag.FREQ
    if hardware:
        attr = PerfEventAttr(
            PerfType.HARDWARE, Hardware.CPU_CYCLES, sample_period=frequency, flags=flags
        )
        try:
            return PerfEvent.open(attr, -1, cpu), "cycles"
        except KernelError as error:
            if error.errno not in (2, 19, 22, 95):  # ENOENT, ENODEV, EINVAL, EOPNOTSUPP
                raise
    attr = PerfEventAttr(
        PerfType.SOFTWARE, Software.CPU_CLOCK, sample_period=frequency, flags=flags
    )
    return PerfEvent.open(attr, -1, cpu), "cpu-clock"
