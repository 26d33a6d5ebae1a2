"""From records to threads: each life of a tid with its time by state.

The state under way when the window closes is added here, and what the programs could not know
(how a thread was blocked before its first event) is taken from the seeds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Optional

from systemscope.collectors.readout import ThreadRow
from systemscope.collectors.seed import ThreadSnapshot
from systemscope.model import BLOCKED_STATES, State, Thread
from systemscope.programs.common import GENERATION_SHIFT
from systemscope.programs.records import ELSEWHERE, SHORT_CLASSES

_TICK = 1 << GENERATION_SHIFT


@dataclass
class OpenWait:
    """A wait under way at the window's end: blocked and runnable parts."""

    state: State
    blocked_ns: int
    runnable_ns: int
    snapshot: Optional[ThreadSnapshot]


@dataclass
class Life:
    """A thread of the capture and what is needed to give its time to stacks."""

    thread: Thread
    short: dict[State, int] = field(default_factory=dict)
    open: Optional[OpenWait] = None
    kernel_thread: bool = False
    running: int = 0  # ns it has been running without an event as the window ended


class Lives:
    """All threads of a window. ``of`` finds the one an entry of the counts table belongs to."""

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end
        self.all: list[Life] = []
        self._by_tid: dict[int, list[int]] = {}

    def add(self, life: Life) -> None:
        """One more."""
        self._by_tid.setdefault(life.thread.tid, []).append(len(self.all))
        self.all.append(life)

    def knows(self, tid: int) -> bool:
        """True when some life of ``tid`` is there."""
        return tid in self._by_tid

    def moment(self, generation: int) -> int:
        """When a generation began: at most one tick (65 µs) after its event."""
        if generation == 0:
            return self.start
        base = self.start >> GENERATION_SHIFT
        ticks = (generation - base) & 0xFFFFFFFF
        return min((base + ticks << GENERATION_SHIFT) + _TICK - 1, self.end)

    def of(self, tid: int, generation: int) -> Optional[int]:
        """Index of the life of ``tid`` that ``generation`` belongs to."""
        candidates = self._by_tid.get(tid)
        if not candidates:
            return None
        moment = self.moment(generation)
        began = [i for i in candidates if self.all[i].thread.begin <= moment]
        return max(began or candidates, key=lambda i: self.all[i].thread.begin)


def build_lives(
    start: int,
    end: int,
    rows: Iterable[ThreadRow],
    seeds: dict[int, ThreadSnapshot],
    last: dict[int, ThreadSnapshot],
    sampled: set[int],
    some_cpus: bool = False,
) -> Lives:
    """``rows`` are all records, ended ones included; ``seeds`` and ``last`` what the threads were
    at the start and the end; ``sampled`` the tids some sample found running.
    With ``some_cpus`` only some CPUs were asked for, on which only a sample puts a thread."""
    lives = Lives(start, end)
    for row in rows:
        if _is_ghost(row, last.get(row.tid)):
            continue
        seed, now = seeds.get(row.tid), last.get(row.tid)
        life = _life(row, start, end, seed, now, row.tid in sampled or _ran(seed, now))
        if some_cpus and row.tid not in sampled:
            _take_elsewhere(life.thread, life.running)
        lives.add(life)
    return lives


def _life(
    row: ThreadRow,
    start: int,
    end: int,
    seed: Optional[ThreadSnapshot],
    last: Optional[ThreadSnapshot],
    sampled: bool,
) -> Life:
    born, died = row.born_ns > start, row.ended_ns != 0
    seed = None if born else seed
    begin = row.born_ns if born else start
    finish = min(row.ended_ns, end) if died else end
    time = {State(i): ns for i, ns in enumerate(row.time) if ns and i < len(State)}
    waits = {State(i): n for i, n in enumerate(row.waits) if n and i < len(State)}
    _name_unknown_block(time, waits, seed)
    snapshot = None if died else last
    thread = Thread(
        tid=row.tid,
        tgid=row.tgid or (snapshot.tgid if snapshot else seed.tgid if seed else row.tid),
        comm=row.comm if died and row.comm else _comm(row, snapshot, seed),
        begin=begin,
        end=max(finish, begin),
        time=time,
        waits=waits,
        born=born,
        died=died,
        ran=bool(row.switches or row.last_ns),
        preemptions=row.preemptions,
        elsewhere=row.time[ELSEWHERE],
    )
    kernel_thread = bool((snapshot or seed) and (snapshot or seed).kernel_thread)  # type: ignore[union-attr]
    life = Life(thread, _short(row), kernel_thread=kernel_thread)
    if not died:
        _close(life, row, seed, snapshot, sampled)
    elif finish > row.last_ns:  # its last switch was missed
        thread.time[State.UNKNOWN] = thread.time.get(State.UNKNOWN, 0) + finish - row.last_ns
    return life


def _take_elsewhere(thread: Thread, running: int) -> None:
    """The last stretch was spent on a CPU not asked for."""
    if running:
        thread.time[State.RUNNING] -= running
        thread.elsewhere += running


def _ran(seed: Optional[ThreadSnapshot], last: Optional[ThreadSnapshot]) -> bool:
    """Whether /proc saw the thread get on within the window."""
    return seed is not None and last is not None and 0 < seed.run_ns < last.run_ns


def _is_ghost(row: ThreadRow, last: Optional[ThreadSnapshot]) -> bool:
    """A target that ended between its listing and the window's start: no event, no such thread."""
    silent = not (row.last_ns or row.ended_ns)
    return silent and (last is None or last.state is State.DEAD)


def _comm(
    row: ThreadRow, snapshot: Optional[ThreadSnapshot], seed: Optional[ThreadSnapshot]
) -> str:
    if snapshot is not None:
        return snapshot.comm
    return seed.comm if seed is not None else row.comm


def _short(row: ThreadRow) -> dict[State, int]:
    return {state: ns for state, ns in zip(SHORT_CLASSES, row.short) if ns}


def _name_unknown_block(
    time: dict[State, int], waits: dict[State, int], seed: Optional[ThreadSnapshot]
) -> None:
    """A wait that began before the window was counted as BLOCKED: the seed knows its kind."""
    if seed is None or State.BLOCKED not in time or kind_of(seed) is State.BLOCKED:
        return
    kind = kind_of(seed)
    time[kind] = time.get(kind, 0) + time.pop(State.BLOCKED)
    waits[kind] = waits.get(kind, 0) + waits.pop(State.BLOCKED, 0)


def kind_of(seed: ThreadSnapshot) -> State:
    """What a wait of no known kind is taken for, by what the thread was doing earlier."""
    return seed.state if seed.state in BLOCKED_STATES else State.SLEEPING


def _close(
    life: Life,
    row: ThreadRow,
    seed: Optional[ThreadSnapshot],
    snapshot: Optional[ThreadSnapshot],
    sampled: bool,
) -> None:
    """Add the stretch from the last event to the end of the window."""
    thread = life.thread
    since = row.last_ns or thread.begin
    rest = max(0, thread.end - since)
    state = State(row.state) if row.state < len(State) else State.BLOCKED
    if state is State.UNKNOWN or not row.last_ns:
        # Without an event in the window: the record's state is the seed's, perhaps older than it.
        state = _never_switched(snapshot or seed, sampled)
        thread.ran = state is State.RUNNING
    same = snapshot if snapshot is not None and snapshot.switches == row.switches else None
    asleep = same is not None and same.state in BLOCKED_STATES and not same.on_cpu
    if state is State.RUNNING and row.last_ns and asleep:
        state = State.UNKNOWN  # and was not seen to leave its CPU
    woken = min(rest, same.waiting_ns) if same is not None and state in BLOCKED_STATES else 0
    thread.time[state] = thread.time.get(state, 0) + rest - woken
    life.running = rest if state is State.RUNNING else 0
    if state in (State.RUNNING, State.UNKNOWN):
        return
    thread.waits[state] = thread.waits.get(state, 0) + 1
    if state is State.RUNNABLE:
        blocked_state = State(row.blocked_state) if row.blocked_ns else State.BLOCKED
        if blocked_state is State.BLOCKED and seed is not None:
            blocked_state = kind_of(seed)
        life.open = OpenWait(blocked_state, row.blocked_ns, rest, same)
    else:
        life.open = OpenWait(state, rest - woken, woken, same)
        if woken:
            thread.time[State.RUNNABLE] = thread.time.get(State.RUNNABLE, 0) + woken


def _never_switched(snapshot: Optional[ThreadSnapshot], sampled: bool) -> State:
    """A thread without a single event held one state all along."""
    if snapshot is None:
        return State.RUNNING if sampled else State.BLOCKED
    if snapshot.state is not State.RUNNABLE:
        return snapshot.state
    return State.RUNNING if sampled or snapshot.on_cpu else State.RUNNABLE


def add_silent(
    lives: Lives,
    seeds: dict[int, ThreadSnapshot],
    last: dict[int, ThreadSnapshot],
    sampled: set[int],
    excluded: set[int],
    some_cpus: bool = False,
) -> None:
    """Threads that had no event and so no record (system-wide)."""
    for tid, seed in seeds.items():
        if lives.knows(tid) or tid in excluded or tid == 0 or seed.state is State.DEAD:
            continue
        snapshot = last.get(tid)
        if snapshot is None:
            continue
        state = _never_switched(snapshot, tid in sampled or _ran(seed, snapshot))
        elapsed = lives.end - lives.start
        thread = Thread(
            tid, seed.tgid, snapshot.comm, lives.start, lives.end, {state: elapsed}, {state: 1}
        )
        thread.ran = state is State.RUNNING
        if some_cpus and thread.ran and tid not in sampled:
            _take_elsewhere(thread, elapsed)
        life = Life(thread, kernel_thread=seed.kernel_thread)
        if state is State.RUNNING:
            life.running = elapsed
        if state is State.RUNNABLE:
            life.open = OpenWait(State.BLOCKED, 0, elapsed, snapshot)
        elif state is not State.RUNNING:
            life.open = OpenWait(state, elapsed, 0, snapshot)
        lives.add(life)
