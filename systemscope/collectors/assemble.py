"""Puts the capture together from what the window left behind."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Optional

from systemscope.bpf.program import Program
from systemscope.collectors.entries import Options, StackList, build_entries
from systemscope.collectors.lives import Life, add_silent, build_lives
from systemscope.collectors.overhead import RunTimeSampler
from systemscope.collectors.readout import CountRow, ThreadRow
from systemscope.collectors.request import Request
from systemscope.collectors.seed import ThreadSnapshot
from systemscope.collectors.session import Session
from systemscope.collectors.tables import Tables
from systemscope.collectors.timeline import TimelineRecorder
from systemscope.errors import KernelError
from systemscope.model import Capture, Process, State
from systemscope.processes import proc
from systemscope.processes.table import ProcessTable


@dataclass(frozen=True)
class Remains:
    """What is left of a window that is over. ``rows`` are all threads' records, the ended ones'
    too; ``seeds`` and ``last`` what the threads were at its start and end; ``missed`` the targets
    there was no room for."""

    request: Request
    session: Session
    tables: Tables
    rows: list[ThreadRow]
    seeds: dict[int, ThreadSnapshot]
    last: dict[int, ThreadSnapshot]
    processes: ProcessTable
    cost: RunTimeSampler
    recorder: Optional[TimelineRecorder]
    missed: int
    sideband_lost: int
    files_refused: int


def assemble(capture: Capture, window: Remains) -> None:
    """Fill in threads, processes, stacks, entries, losses and overhead."""
    session, request = window.session, window.request
    counts = window.tables.counts(session)
    _count_losses(capture, window)
    sampled = {row.tid for row in counts if row.state == State.RUNNING}
    rows = window.rows
    seeds, last, some = window.seeds, window.last, request.cpus is not None
    lives = build_lives(capture.start, capture.end, rows, seeds, last, sampled, some)
    if request.system_wide:
        add_silent(lives, seeds, last, sampled, set(proc.list_tids(os.getpid())), some)
    losses = capture.losses
    stacks = StackList(window.tables.stacks(session, _wanted(counts, window)), losses)
    full = bool(losses.counts_table_full or losses.stacks_table_full)
    options = Options(request.oncpu, request.offcpu, session.plan.config.min_block_ns, full)
    capture.entries = build_entries(lives, counts, stacks, options, losses)
    if window.recorder is not None:
        capture.timeline = window.recorder.finish(lives, stacks, session.stats())
        losses.timeline_events_lost = capture.timeline.lost
    capture.stacks = stacks.stacks
    capture.threads = [life.thread for life in lives.all]
    capture.processes = _processes(window, lives.all)
    _name_the_nameless(capture)
    losses.samples_missing = _missing_samples(capture)
    losses.unaccounted_ns = sum(abs(t.elapsed - t.accounted) for t in capture.threads)


def _wanted(counts: list[CountRow], window: Remains) -> set[int]:
    wanted = {row.kernel for row in counts} | {row.user for row in counts}
    for snapshot in window.last.values():
        wanted |= {snapshot.kernel, snapshot.user}
    return wanted


def _processes(window: Remains, lives: list[Life]) -> dict[int, Process]:
    processes = window.processes.processes()
    kernel = {life.thread.tgid for life in lives if life.kernel_thread}
    for life in lives:
        tgid = life.thread.tgid
        if tgid not in processes:
            processes[tgid] = Process(tgid, life.thread.comm, kernel=tgid in kernel)
        elif tgid in kernel:
            processes[tgid].kernel = True
    wanted = {life.thread.tgid for life in lives}
    return {tgid: process for tgid, process in processes.items() if tgid in wanted}


def _name_the_nameless(capture: Capture) -> None:
    """Threads that neither a snapshot nor their exit named: /proc, else their process, knows."""
    for thread in capture.threads:
        if not thread.comm and not thread.died:
            thread.comm = proc.comm(thread.tid)
        if not thread.comm:
            thread.comm = capture.processes[thread.tgid].comm


def _count_losses(capture: Capture, window: Remains) -> None:
    session, losses = window.session, capture.losses
    stats = session.stats()
    capture.samples = stats["samples"]
    losses.stacks_table_full = stats["stacks_full"]
    losses.counts_table_full = stats["counts_full"]
    losses.threads_table_full = stats["threads_full"] + window.missed
    losses.exits_table_full = stats["exits_full"]
    losses.walks_failed = stats["walks_failed"]
    losses.updates_refused = stats["refused"]
    losses.clock_backwards = stats["clock_backwards"]
    losses.stack_collisions = stats["collisions"]
    losses.switches_missed = stats["missed_switches"]
    losses.sideband_lost = window.sideband_lost
    losses.processes_forgotten = window.processes.losses.processes + window.processes.losses.images
    losses.mappings_dropped = window.processes.losses.mappings
    losses.files_not_pinned = window.files_refused
    losses.recursion_missed = sum(map(_recursions, session.programs().values()))
    overhead = capture.overhead
    overhead.bpf_run_seconds, overhead.bpf_runs = window.cost.totals(capture.end - capture.start)
    overhead.bpf_memory_bytes = session.memory_bytes()
    first = stats["first_event_ns"]
    about = proc.stat(os.getpid())
    if first and about is not None:
        overhead.first_event_seconds = max(0.0, (first - about.start_ns) / 1e9)


def _recursions(program: Program) -> int:
    try:
        return program.info().recursion_misses
    except KernelError:
        return 0  # before 4.13 a kernel says nothing of its programs


def _missing_samples(capture: Capture) -> int:
    """Samples short of what the measured running time makes likely, beyond three standard
    deviations of chance: while a map is read on a CPU the kernel runs no sampling program there,
    and a timer that comes late fires once for all it missed. A frequency of cycles is only aimed
    at, so there is nothing to count against."""
    if capture.event != "cpu-clock":
        return 0
    running = sum(thread.time.get(State.RUNNING, 0) for thread in capture.threads)
    likely = running * capture.frequency / 1e9
    return max(0, int(likely - 3 * likely**0.5) - capture.samples)
