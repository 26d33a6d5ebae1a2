"""The wall-clock collector: one window from the first program loaded to a Capture."""

from __future__ import annotations

import os
import platform
import resource
import time
from contextlib import ExitStack
from typing import Callable, Optional

from systemscope.collectors.assemble import Remains, assemble
from systemscope.collectors.bell import Bell
from systemscope.collectors.delays import Delays
from systemscope.collectors.latecomers import LateTargets
from systemscope.collectors.openwaits import open_waits
from systemscope.collectors.overhead import RunTimeSampler
from systemscope.collectors.plan import Plan, make_plan
from systemscope.collectors.readout import ThreadRow, thread_rows
from systemscope.collectors.request import Progress, Request
from systemscope.collectors.seed import ThreadSnapshot, seed
from systemscope.collectors.session import Session
from systemscope.collectors.tables import Tables
from systemscope.collectors.timeline import TimelineRecorder
from systemscope.collectors.unwind_files import TableBuilder
from systemscope.collectors.unwinding import Unwinding
from systemscope.kernel.capabilities import Capabilities, probe
from systemscope.model import BLOCKED_STATES, Capture, Mapping, State
from systemscope.processes import proc
from systemscope.processes.command import HeldCommand
from systemscope.processes.files import FileStore
from systemscope.processes.sideband import SideBand
from systemscope.processes.table import ProcessTable
from systemscope.processes.targets import Targets, TargetWatch, resolve

POLL_SECONDS = 0.1
EAGER_SECONDS = 0.02  # between polls while unwind tables are being built or a command starts
EAGER_NS = 500_000_000
#: How long the window may be held up for unwind tables: of targets, and of the whole system.
TARGETS_TABLES_SECONDS, SYSTEM_TABLES_SECONDS = 1.5, 0.3
PROGRESS_SECONDS = 0.5
ITERATOR_NS, PROC_STACK_NS = 30_000, 250_000  # to learn where one sleeping thread sleeps
#: Snapshots of processes taken per poll, so that a thousand processes never stall the drain.
SNAPSHOTS_A_POLL = 32


def collect(
    request: Request,
    stop: Callable[[], bool],
    progress: Optional[Callable[[Progress], None]] = None,
    command: Optional[HeldCommand] = None,
    files: Optional[FileStore] = None,
    capabilities: Optional[Capabilities] = None,
) -> Capture:
    """Run one window and return what the kernel saw.

    ``stop`` is asked ten times a second. ``command`` is released once everything counts.
    ``files`` pins what is mapped as it is first seen, for the symbolizer. Raises SystemScopeError
    before the window opens (no privilege, no such target, a kernel that lacks the indispensable);
    from then on the window always ends in a Capture.
    """
    if capabilities is None:
        capabilities = probe()
    if request.disabled:
        capabilities = capabilities.without(*request.disabled)
    with ExitStack() as stack:
        window = Window(request, capabilities, command, files, stack)
        window.prepare()
        window.run(stop, progress)
        return window.finish()


class Window:
    """The steps of :func:`collect`, in order, and what they share."""

    def __init__(
        self,
        request: Request,
        capabilities: Capabilities,
        command: Optional[HeldCommand],
        files: Optional[FileStore],
        stack: ExitStack,
    ) -> None:
        self.request, self.capabilities = request, capabilities
        self.command, self.files, self._stack = command, files, stack
        self.plan: Plan = make_plan(capabilities, request)
        self.start = self.end = 0
        self.wall_start = 0.0
        self.seeds: dict[int, ThreadSnapshot] = {}
        self.last: dict[int, ThreadSnapshot] = {}
        self.ended: list[ThreadRow] = []
        self.missed = 0
        self.ended_by = "duration"
        self._unseen: list[int] = []
        self._lead = 0
        self._polled = 0
        self.recorder: Optional[TimelineRecorder] = None
        self.unwinding: Optional[Unwinding] = None

    # -- before

    def prepare(self) -> None:
        """Load, mark the targets, attach; nothing counts yet."""
        request = self.request
        self.targets = self._resolve()
        self.late = LateTargets(request, self.targets.tids)
        self.cpu_before = _cpu_seconds()
        self.delays = self._stack.enter_context(Delays(request.delays))
        self.session = self._stack.enter_context(Session(self.plan, self.capabilities.batch))
        builder = self._start_builder()
        self.session.load()
        self.table = ProcessTable(None if request.system_wide else self.targets.tgids)
        self._start_unwinding(builder)
        self.sideband = self._stack.enter_context(
            SideBand(
                self.table,
                self.capabilities.online_cpus,
                on_process=self._begun,
                on_exec=self.unwinding.executed if self.unwinding is not None else None,
                on_mapping=self._mapped,
                on_exit=self.unwinding.ended if self.unwinding is not None else None,
                prompt=self.unwinding is not None,
            )
        )
        self.bell = Bell(self.sideband.descriptors() if self.unwinding is not None else ())
        if self.files is not None:
            self.files.consult(self.table.shares_our_files)
        self.watch = self._stack.enter_context(
            TargetWatch(self.targets.tgids, self.targets.single_tids)
        )
        if request.system_wide:
            self.session.exclude(proc.list_tids(os.getpid()))
        else:
            self.missed += self.session.track(self.targets.tids)
        if request.timeline:
            self.recorder = self._stack.enter_context(
                TimelineRecorder(
                    self.session, self.capabilities.online_cpus, request.spool_directory
                )
            )
        self.session.attach()
        self._track_newcomers()
        self.tables = Tables(self.session)
        if request.oncpu:
            cpus = self.capabilities.online_cpus if request.cpus is None else request.cpus
            hardware = self.plan.config.nmi_sampler
            self.session.attach_sampler(cpus, request.frequency, hardware)

    def _start_builder(self) -> Optional[TableBuilder]:
        if self.plan.config.unwind is None:
            return None
        return self._stack.enter_context(TableBuilder(self.request.cache_directory))

    def _start_unwinding(self, builder: Optional[TableBuilder]) -> None:
        if builder is None:
            return
        files = self.files
        if files is None:
            files = self._stack.enter_context(FileStore(self.table.shares_our_files))
        mappings, limit = self.table.mappings, self.request.unwind_bytes
        unwinding = Unwinding(self.session, files, mappings, builder, limit)
        self.unwinding = self._stack.enter_context(unwinding)

    def _resolve(self) -> Targets:
        request = self.request
        if self.command is not None:
            return Targets((self.command.pid,), (self.command.pid,), ())
        if request.system_wide:
            return Targets()
        return resolve(request.pids, request.tids, request.comm, request.cgroup)

    def _track_newcomers(self) -> None:
        """Threads that were born between the listing and the attaching of the fork program."""
        listed = set(self.targets.tids)
        for tgid in self.targets.tgids:
            fresh = [tid for tid in proc.list_tids(tgid) if tid not in listed]
            if fresh:
                self.missed += self.session.track(fresh)

    # -- during

    def run(self, stop: Callable[[], bool], progress: Optional[Callable[[Progress], None]]) -> None:
        """Open the window, keep up with it, and note why it ended."""
        session = self.session
        self.seeds = seed(session, self.targets.tids)
        own = os.getpid()
        session.set_states(
            {
                snapshot.tid: (snapshot.tgid, int(snapshot.state))
                for snapshot in self.seeds.values()
                if snapshot.state in BLOCKED_STATES and snapshot.tgid != own
            }
        )
        self._lead = self._closing_time()
        self._unseen = self._prepare_tables()
        self.delays.begin(self.seeds)
        self.wall_start, self.start = time.time(), time.monotonic_ns()
        if self.recorder is not None:
            self.recorder.open_window(self.seeds)
        session.open_window(self.start)
        if self.command is not None:
            self.command.release()
        session.load_late()
        cost = self._stack.enter_context(RunTimeSampler(session, self.capabilities.bpf_stats))
        self.cost = cost
        shown = self.start
        while not self._over(stop):
            now = time.monotonic_ns()
            if self.recorder is not None:
                self.recorder.poll()
            if now - self._polled >= self._pause() * 1e9 / 2:
                self._polled = now
                self._keep_up()
            elif self.bell.rung:
                self._answer()
                self.bell.busy(time.monotonic_ns() - now)
            cost.tick(now - self.start)
            if progress is not None and now - shown >= PROGRESS_SECONDS * 1e9:
                shown = now
                progress(self._progress(now))
            self._sleep()
        cost.stop()

    def _prepare_tables(self) -> list[int]:
        """Look at processes, those that run first, while their unwind tables are made ready; the
        ones for which there was no time."""
        running = [s.tgid for s in self.seeds.values() if s.state is State.RUNNABLE]
        order = list(dict.fromkeys([*running, *sorted(s.tgid for s in self.seeds.values())]))
        if self.unwinding is None:
            return order[::-1]
        seconds = SYSTEM_TABLES_SECONDS if self.request.system_wide else TARGETS_TABLES_SECONDS
        begin = time.monotonic()
        while order and time.monotonic() - begin < seconds / 2:
            self._see(order.pop(0))
        if self.command is not None:
            self.unwinding.expect(self.command.program)
        self.unwinding.prepare(max(0.0, begin + seconds - time.monotonic()))
        return order[::-1]

    def _closing_time(self) -> int:
        """How long before the window's end the open waits must be looked at, in ns."""
        stacks_from_proc = self.plan.config.offcpu and not self.plan.wait_iterator
        per_thread = PROC_STACK_NS if stacks_from_proc else ITERATOR_NS
        lead = 2_000_000 + per_thread * len(self.seeds)
        return min(lead, (self.request.duration_ns or 0) // 5)

    def _over(self, stop: Callable[[], bool]) -> bool:
        duration = self.request.duration_ns
        if stop():
            self.ended_by = "interrupt"
        elif duration is not None and time.monotonic_ns() - self.start >= duration - self._lead:
            self.ended_by = "duration"
        elif self.command is not None and self.command.poll() is not None:
            self.ended_by = "exit of the command"
        elif self.command is None and not self.request.system_wide and self.watch.all_gone():
            self.ended_by = "exit of the last target"
        else:
            return False
        return True

    def _pause(self) -> float:
        """Seconds between two looks at what goes on."""
        if self.unwinding is not None:
            starting = self.command is not None and time.monotonic_ns() - self.start < EAGER_NS
            if starting or not self.unwinding.idle:
                return EAGER_SECONDS
        return POLL_SECONDS

    def _sleep(self) -> None:
        pause = self._pause()
        if self.recorder is not None:
            pause = min(pause, self.recorder.pause())
        if self.request.duration_ns is not None:
            left = self.request.duration_ns - self._lead - (time.monotonic_ns() - self.start)
            pause = min(pause, max(left, 0) / 1e9)
        self.bell.wait(max(pause, 0.0))

    def _answer(self) -> None:
        """Something was mapped: its table is wanted soon."""
        self.sideband.poll()
        if self.unwinding is not None:
            self.unwinding.poll()

    def _keep_up(self) -> None:
        self.sideband.poll()
        self.stats = self.session.stats()
        self.tables.keep_up(self.session, self.stats)
        _, values = self.session.map("exits").drain()
        self.ended += thread_rows(values)
        self.delays.poll(self.ended)
        self._find_late_targets()
        if self.unwinding is not None:
            for tgid in self.unwinding.wanted():
                self._see(tgid)
            self.unwinding.poll()
        for _ in range(min(SNAPSHOTS_A_POLL, len(self._unseen))):
            self._see(self._unseen.pop())

    def _find_late_targets(self) -> None:
        found = self.late.look(time.monotonic_ns())
        if found.tids:
            self.missed += self.session.track(found.tids, time.monotonic_ns())
            self.delays.begin(found.tids)
        for tgid in found.tgids:
            self.watch.add(tgid)
            self._see(tgid)

    def _see(self, tgid: int) -> None:
        if tgid in self.table or tgid == os.getpid():
            return
        self.table.see(tgid, time.monotonic_ns())  # its mappings come to _mapped

    def _mapped(self, tgid: int, mapping: Mapping) -> None:
        if self.files is not None:
            self.files.pin(tgid, mapping)
        self._begun(tgid)

    def _begun(self, tgid: int) -> None:
        if self.unwinding is not None:
            self.unwinding.changed(tgid)

    def _progress(self, now: int) -> Progress:
        threads = len(self.seeds) + len(self.ended)
        return Progress(now - self.start, self.stats["samples"], threads)

    # -- after

    def finish(self) -> Capture:
        """Close the window, read everything, detach, and put the capture together."""
        session = self.session
        self.sideband.poll()
        rows = [] if session.has("open_waits") else self._rows()
        self.last = open_waits(session, rows, self.seeds)
        self._close()
        self.delays.end(self.last, self.ended)
        session.detach()
        self.sideband.poll(flush=True)
        for tgid in {snapshot.tgid for snapshot in self.last.values()}:
            self._see(tgid)
        _, values = session.map("exits").drain()
        self.ended += thread_rows(values)
        capture = Capture(
            start=self.start,
            end=self.end,
            wall_start=self.wall_start,
            frequency=self.request.frequency if self.request.oncpu else 0,
            event=session.event_name,
            command=" ".join(self.request.command),
            kernel=f"{platform.system()} {platform.release()} {platform.machine()}",
            hostname=platform.node(),
            ended_by=self.ended_by,
            notes=list(self.plan.notes),
        )
        assemble(capture, self._remains())
        if self.unwinding is not None:
            capture.unwinding = self.unwinding.finish()
            capture.overhead.bpf_memory_bytes += self.unwinding.memory_bytes()
        self.delays.attach(capture, self.ended)
        if self.recorder is not None and self.recorder.note:
            capture.notes.append(self.recorder.note)
        capture.overhead.cpu_seconds = _cpu_seconds() - self.cpu_before
        return capture

    def _close(self) -> None:
        """Let the window end a moment from now, so that the programs know its end before it
        comes: no event past it is counted, none before it is lost."""
        planned = 0
        if self.request.duration_ns is not None and self.ended_by == "duration":
            planned = self.start + self.request.duration_ns
        for margin in (300_000, 3_000_000, 30_000_000):
            self.end = max(time.monotonic_ns() + margin, planned)
            self.session.close_window(self.start, self.end)
            if time.monotonic_ns() < self.end:
                break
        time.sleep(max(0, self.end - time.monotonic_ns()) / 1e9)

    def _rows(self) -> list[ThreadRow]:
        _, values = self.session.map("threads").read_all()
        return thread_rows(values)

    def _remains(self) -> Remains:
        return Remains(
            request=self.request,
            session=self.session,
            tables=self.tables,
            rows=self._rows() + self.ended,
            seeds=self.seeds,
            last=self.last,
            processes=self.table,
            cost=self.cost,
            recorder=self.recorder,
            missed=self.missed,
            sideband_lost=self.sideband.lost,
            files_refused=self.files.refused if self.files is not None else 0,
        )


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
