"""The kernel side of one window: maps and programs loaded, attached, and taken away again."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable
from contextlib import ExitStack

from systemscope.bpf import kprobe_events
from systemscope.bpf.link import Link
from systemscope.bpf.map import Map
from systemscope.bpf.program import Program
from systemscope.bpfasm.types import MapSpec, ProgramSpec, ProgramType
from systemscope.collectors.plan import Plan
from systemscope.collectors.sampling import open_sampler
from systemscope.errors import KernelError
from systemscope.kernel.btf import BtfKind, KernelBtf
from systemscope.kernel.tracefs import tracefs
from systemscope.programs.config import Hook, Storage
from systemscope.programs.records import Control, Stats, ThreadFlag, ThreadRecord
from systemscope.syscalls.proc import MembarrierCommand, membarrier

_KEY0 = bytes(4)
_U32 = struct.Struct("<I")


class Session:
    """Owns every kernel object of a window. Links go first, maps last; nothing stays behind.

    The programs count nothing until :meth:`open_window`.
    """

    def __init__(self, plan: Plan, batch: bool = True) -> None:
        self.plan = plan
        self._batch = batch
        self._maps: dict[MapSpec, Map] = {}
        self._programs: dict[str, Program] = {}
        self._unattached = {"open_waits", "task_seed"}
        self._owned = ExitStack()
        self._attached = ExitStack()
        self.event_name = ""
        self._start = self._span = self._second = 0

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Detach and free everything."""
        self._attached.close()
        self._owned.close()

    # -- setting up

    def load(self) -> None:
        """Create the maps, load the programs."""
        chains = self.plan.chains()
        chained = [spec for chain in chains for spec in chain.specs]
        self._load([*self.plan.counting_programs(), *chained, *self.plan.seed_programs()])
        self._unattached.update(spec.name for spec in chained)
        for chain in chains:
            for place, spec in enumerate(chain.specs):
                program = self._programs[spec.name]
                self._maps[chain.links].update(_U32.pack(place), _U32.pack(program.fd))

    def load_late(self) -> None:
        """Load what is needed only as the window closes, once it is open."""
        self._load(self.plan.closing_programs())

    def _load(self, specs: list[ProgramSpec]) -> None:
        for spec in specs:
            for map_spec in spec.maps:
                if map_spec not in self._maps:
                    created = Map.create(map_spec, batch=self._batch)
                    self._maps[map_spec] = self._owned.enter_context(created)
        ids = self._attach_ids(specs)
        for spec in specs:
            loaded = Program.load(spec, self._maps, attach_btf_id=ids.get(spec.name, 0))
            self._programs[spec.name] = self._owned.enter_context(loaded)

    def attach(self) -> None:
        """Hang every program on its event, the lifecycle ones first."""
        for name, program in self._programs.items():
            spec = program.spec
            if spec.type is ProgramType.PERF_EVENT or name in self._unattached:
                continue
            self._attached.enter_context(self._link(program, spec))

    def _link(self, program: Program, spec: ProgramSpec) -> Link:
        if spec.type is ProgramType.KPROBE:
            symbol, files = self.plan.kprobe_symbol, ""
            if kprobe_events.pmu() is None:  # before 4.17 probes are defined in tracefs
                files = self._attached.enter_context(tracefs()).path
            return Link.kprobe(program, symbol, tracefs=files, link=self.plan.perf_link)
        if spec.type is ProgramType.TRACEPOINT:
            number = self.plan.tracepoint_ids[spec.attach_to]
            return Link.tracepoint(program, number, link=self.plan.perf_link)
        name = "" if self.plan.config.hook is Hook.TP_BTF else spec.attach_to
        return Link.raw_tracepoint(program, name)

    def attach_sampler(self, cpus: Iterable[int], frequency: int, hardware: bool) -> None:
        """Open the sampling event on every CPU."""
        program = self._programs.get("oncpu_sampler")
        if program is None:
            return
        for cpu in cpus:
            event, self.event_name = open_sampler(cpu, frequency, hardware)
            hardware = self.event_name == "cycles"
            self._attached.enter_context(event)
            self._attached.enter_context(Link.perf_event(event, program, link=self.plan.perf_link))
            event.enable()

    def _attach_ids(self, specs: Iterable[ProgramSpec]) -> dict[str, int]:
        wanted = {s.name: s for s in specs if s.type is ProgramType.TRACING}
        if not wanted:
            return {}
        btf = KernelBtf.open()
        if btf is None:
            return {}
        ids = {}
        with btf:
            for name, spec in wanted.items():
                iterates = name in ("open_waits", "task_seed")
                prefix, kind = (
                    ("bpf_iter_", BtfKind.FUNC) if iterates else ("btf_trace_", BtfKind.TYPEDEF)
                )
                ids[name] = btf.type_id(prefix + spec.attach_to, kind)
        return ids

    # -- the window

    def open_window(self, start: int) -> None:
        """Count from ``start`` (CLOCK_MONOTONIC ns) on."""
        self._set_window(start, 0)
        self._set_window(start, 1 << 62)

    def close_window(self, start: int, end: int) -> None:
        """Count nothing from ``end`` on."""
        self._set_window(start, end - start)

    def _set_window(self, start: int, span: int) -> None:
        self._start, self._span = start, span
        control = Control.pack(start=start, span=span, second=self._second)
        self.map("control").update(_KEY0, control)

    def switch_counts(self) -> Map:
        """Let charges go to the other counts table; returns the one that is still from now on."""
        left = self.map("counts_second" if self._second else "counts")
        self._second = 1 - self._second
        self._set_window(self._start, self._span)
        wait_for_programs()
        return left

    def detach(self) -> None:
        """Take the programs off their events; when this returns none of them runs any more."""
        self._attached.close()

    def track(self, tids: Iterable[int], since: int = 0) -> int:
        """Mark threads as targets, from ``since`` on where the window is open already; returns
        how many found no room. Those that are marked stay as they are."""
        return self._mark(tids, ThreadFlag.TRACKED, since)

    def set_states(self, states: dict[int, tuple[int, int]]) -> None:
        """Tell what blocked threads are doing as the window opens: tid -> (tgid, state).

        Only before the window opens: records are replaced whole.
        """
        threads = self.map("threads")
        for tid, (tgid, state) in states.items():
            if self.plan.config.storage is Storage.ARRAY and tid >= threads.spec.max_entries:
                continue
            record = ThreadRecord.pack(
                tid=tid, tgid=tgid, state=state, flags=int(ThreadFlag.TRACKED)
            )
            try:
                threads.update(_U32.pack(tid), record)
            except KernelError:
                return  # full: the programs count who finds no room

    def exclude(self, tids: Iterable[int]) -> None:
        """Never count these threads (our own)."""
        self._mark(tids, ThreadFlag.EXCLUDED)

    def _mark(self, tids: Iterable[int], flag: ThreadFlag, since: int = 0) -> int:
        threads, failed = self.map("threads"), 0
        create_only = 1 if self.plan.config.storage is Storage.HASH else 0
        for tid in tids:
            record = ThreadRecord.pack(tid=tid, flags=int(flag), born_ns=since, last_ns=since)
            key = _U32.pack(tid)
            if not create_only and tid < threads.spec.max_entries:
                known = threads.lookup(key)
                if known is not None and any(known):
                    continue
            try:
                threads.update(key, record, create_only)
            except KernelError as error:
                failed += error.errno != 17  # EEXIST: the fork of it was seen already
        return failed

    # -- reading

    def map(self, name: str) -> Map:
        """The map called ``name``."""
        spec: MapSpec = getattr(self.plan.maps, name)
        return self._maps[spec]

    def has_map(self, name: str) -> bool:
        """False when no loaded program uses it."""
        return getattr(self.plan.maps, name) in self._maps

    def iterate(self, name: str) -> bytes:
        """Run the task iterator ``name``: its records one after the other."""
        link = Link.iterator(self._programs[name])
        with link:
            return link.read_all()

    def has(self, program: str) -> bool:
        """True when ``program`` is part of this session."""
        return program in self._programs

    def stats(self) -> dict[str, int]:
        """The counters, summed over CPUs (first_event_ns: the earliest)."""
        data = self.map("stats").lookup(_KEY0) or b""
        rows = list(Stats.iter_unpack(data[: len(data) // Stats.size * Stats.size]))
        totals = {name: sum(row[i] for row in rows) for i, name in enumerate(Stats.fields)}
        firsts = [row[Stats.index("first_event_ns")] for row in rows]
        totals["first_event_ns"] = min((t for t in firsts if t), default=0)
        return totals

    def programs(self) -> dict[str, Program]:
        """The loaded programs by name."""
        return dict(self._programs)

    def memory_bytes(self) -> int:
        """Kernel memory of maps and programs."""
        maps = sum(m.memory_bytes() for m in self._maps.values())
        return maps + sum(p.memory_bytes() for p in self._programs.values())


def wait_for_programs() -> None:
    """Return when every program that runs now has ended: they run inside RCU read sections, and
    membarrier's global command waits for those (kernel/sched/membarrier.c, synchronize_rcu)."""
    try:
        membarrier(MembarrierCommand.GLOBAL)
    except KernelError:
        time.sleep(0.05)  # nohz_full kernels refuse it: far longer than any program runs
