"""What a walk costs in the kernel: by the depth of the stack, and what loading the programs takes.

The programs' own statistics are the measure. A thread that burns at the bottom of a recursion
of known depth has a CPU to itself but for what else runs there; runs of the sampling program that
hit something else are told from a window in which nothing is hit.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

from systemscope.bpf.link import Link
from systemscope.bpf.program import Program
from systemscope.bpf.stats import BpfStats
from systemscope.bpfasm.builder import Builder
from systemscope.bpfasm.types import ProgramSpec, ProgramType
from systemscope.collectors.plan import make_plan
from systemscope.collectors.request import Request, Unwind
from systemscope.collectors.sampling import open_sampler
from systemscope.collectors.session import Session
from systemscope.collectors.wallclock import Window
from systemscope.kernel.capabilities import Capabilities
from systemscope.model.unwinding import UnwindReport
from tests.workloads.unwinding.programs import build_programs
from tools.bench.tables import table

#: Frames from main's callers to the leaf; a recursion has five more than its calls.
DEPTHS = (15, 35, 65)
_OTHER_FRAMES = 5
SECONDS = 2.0
FREQUENCY = 1999
_SAMPLER = "oncpu_sampler"
#: What is measured: code with and without frame pointers.
_WAYS = (
    ("auto", Unwind.AUTO, "varied"),
    ("auto, one function all the way", Unwind.AUTO, "deep"),
    ("auto, code with frame pointers", Unwind.AUTO, "deep_fp"),
    ("fp", Unwind.FRAME_POINTERS, "varied"),
    ("fp, code with frame pointers", Unwind.FRAME_POINTERS, "deep_fp"),
)


@dataclass(frozen=True)
class Walk:
    """Samples of a stack ``depth`` frames deep, of which ``frames`` were walked on average.
    Nanoseconds a run of the sampling program."""

    way: str
    depth: int
    samples: int
    frames: float
    ns: float


@dataclass(frozen=True)
class Loading:
    """One program as it was loaded. ``verified`` instructions, ``seconds`` of this process."""

    way: str
    program: str
    instructions: int
    verified: int
    seconds: float


@dataclass(frozen=True)
class Costs:
    """Everything measured here."""

    walks: tuple[Walk, ...]
    empty_ns: float
    loading: tuple[Loading, ...]
    built: Optional[UnwindReport]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Sampled:
    """What one window of the sampling program alone yielded."""

    samples: int
    frames: float
    runs: int
    ns: int
    built: Optional[UnwindReport]


class TimedSession(Session):
    """Loads one program after the other and tells what each took."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.seconds: dict[str, float] = {}

    def _load(self, specs: list[ProgramSpec]) -> None:
        for spec in specs:
            begin = time.monotonic()
            super()._load([spec])
            self.seconds[spec.name] = time.monotonic() - begin


def measure_all(binaries: Path, capabilities: Capabilities) -> Costs:
    """Every way at every depth, an empty program, and the loading."""
    build_programs(binaries / "unwinding")
    cpu = max(os.sched_getaffinity(0))
    walks, built = [], None
    for way, unwind, binary in _WAYS:
        deep = binaries / "unwinding" / binary
        with _started([str(deep), "5"], stop=True) as pid:
            missed = _sampled(pid, cpu, unwind, capabilities)
        for depth in DEPTHS:
            argv = [str(deep), str(depth - _OTHER_FRAMES), "--burn"]
            with _started(argv, cpu=cpu) as pid:
                hit = _sampled(pid, cpu, unwind, capabilities)
            elsewhere = max(hit.runs - hit.samples, 0) * missed.ns / max(missed.runs, 1)
            ns = (hit.ns - elsewhere) / max(hit.samples, 1)
            walks.append(Walk(way, depth, hit.samples, hit.frames, ns))
            built = hit.built or built
    ways = () if built is None else (Unwind.AUTO,)
    loading = [
        row for unwind in (*ways, Unwind.FRAME_POINTERS) for row in _loading(unwind, capabilities)
    ]
    kept = [walk for walk in walks if built is not None or not walk.way.startswith("auto")]
    return Costs(tuple(kept), _empty_ns(cpu, capabilities), tuple(loading), built)


def _sampled(pid: int, cpu: int, unwind: Unwind, capabilities: Capabilities) -> Sampled:
    """Samples of a process on one CPU, and what the sampling program took there."""
    request = Request(
        pids=(pid,),
        cpus=(cpu,),
        duration_ns=int(SECONDS * 1e9),
        frequency=FREQUENCY,
        offcpu=False,
        unwind=unwind,
    )
    with BpfStats(), ExitStack() as stack:
        window = Window(request, capabilities, None, None, stack)
        window.prepare()
        window.run(lambda: False, None)
        info = window.session.programs()[_SAMPLER].info()
        capture = window.finish()
    found = [(e.count, len(capture.stacks[e.stack].user)) for e in capture.entries if not e.gap]
    frames = sum(count * depth for count, depth in found)
    total = max(sum(count for count, _ in found), 1)
    return Sampled(
        capture.samples, frames / total, info.run_cnt, info.run_time_ns, capture.unwinding
    )


def _empty_ns(cpu: int, capabilities: Capabilities) -> float:
    """What a perf_event program that does nothing takes by the same measure."""
    builder = Builder("empty", ProgramType.PERF_EVENT)
    builder.exit(0)
    with BpfStats(), ExitStack() as stack:
        program = stack.enter_context(Program.load(builder.build(), {}))
        event, _ = open_sampler(cpu, FREQUENCY, hardware=False)
        stack.enter_context(event)
        stack.enter_context(Link.perf_event(event, program, link=capabilities.perf_link))
        event.enable()
        time.sleep(SECONDS / 2)
        info = program.info()
        return info.run_time_ns / max(info.run_cnt, 1)


def _loading(unwind: Unwind, capabilities: Capabilities) -> Iterator[Loading]:
    request = Request(unwind=unwind)
    session = TimedSession(make_plan(capabilities, request), capabilities.batch)
    with session:
        session.load()
        session.load_late()
        for name, program in session.programs().items():
            info = program.info()
            yield Loading(
                unwind.value,
                name,
                len(program.spec.code) // 8,
                info.verified_insns,
                session.seconds[name],
            )


@contextmanager
def _started(argv: Sequence[str], cpu: int = -1, stop: bool = False) -> Iterator[int]:
    """A workload that is where it burns, on one CPU; or stopped, so that nothing hits it."""
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        if cpu >= 0:
            os.sched_setaffinity(process.pid, {cpu})
        if stop:
            os.kill(process.pid, 19)
        time.sleep(0.1)
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def tables(costs: Costs) -> Iterable[str]:
    """As text."""
    rows = []
    for way in dict.fromkeys(walk.way for walk in costs.walks):
        walks = {walk.depth: walk for walk in costs.walks if walk.way == way}
        low, high = walks[DEPTHS[0]], walks[DEPTHS[-1]]
        more = high.frames - low.frames
        slope = f"{(high.ns - low.ns) / more:.0f}" if more > 1 else "-"
        micros = [f"{walks[depth].ns / 1000:.2f}" for depth in DEPTHS]
        walked = "/".join(f"{walks[depth].frames:.1f}" for depth in DEPTHS)
        rows.append([way, *micros, slope, walked, str(sum(w.samples for w in walks.values()))])
    rows.append(["empty program", *[f"{costs.empty_ns / 1000:.2f}"] * len(DEPTHS), "-", "-", "-"])
    depths = (f"us at {depth} frames" for depth in DEPTHS)
    head = ("way", *depths, "ns a frame", "frames walked", "samples")
    yield table(
        "A sample, by the kernel's statistics of the sampling program (along frame pointers the"
        "\nwalk of code without them is over after a frame or two)",
        head,
        rows,
    )
    loading = [
        [
            f"{one.program} ({one.way})",
            str(one.instructions),
            str(one.verified),
            f"{one.seconds:.3f}",
        ]
        for one in costs.loading
    ]
    yield table("Loading", ("program", "instructions", "verified", "seconds"), loading)
    if costs.built is not None:
        figures = asdict(costs.built)
        yield table(
            "Tables, of the last window",
            ("what", "value"),
            [[k, str(v)] for k, v in figures.items()],
        )
