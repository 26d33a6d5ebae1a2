"""Whether a profile of the four-thread workload tells the truth.

Bounds are loose where emulation makes time uneven, and strict where nothing may: the identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from systemscope.model import EventKind, Profile, Sample, State, Thread
from tests.e2e.support import SchedStatWatch

#: Part of a thread's time in the window that may be missing or too much.
IDENTITY = 0.01
#: Part of the window by which the scheduler's own counts may differ: it leaves out interrupts.
SCHEDULER = 0.05
#: Part of a thread's waiting time that must show the right function.
NAMED = 0.8
#: Part of a process's stacks that must be whole where tables are used.
WHOLE = 0.99
#: Counts of the capture's that are no losses.
_NAMES = frozenset({"resolved_frames", "unresolved_frames"})


class Judge:
    """Collects problems; none means that the profile is right."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.problems: list[str] = []
        self.notable: dict[str, Any] = {}

    def report(self) -> dict[str, Any]:
        """What goes to the host."""
        capture = self.profile.capture
        return {
            "problems": self.problems,
            "samples": capture.samples,
            "event": capture.event,
            "threads": len(capture.threads),
            "losses": {
                n: count for n, count in capture.losses.items() if count and n not in _NAMES
            },
            "notes": capture.notes,
            **self.notable,
        }

    def expect(self, holds: bool, problem: str) -> None:
        """Note ``problem`` unless ``holds``."""
        if not holds:
            self.problems.append(problem)

    # -- the checks

    def present(self, tids: Mapping[str, int]) -> dict[str, Thread]:
        """The workload's threads by name, all there."""
        threads = {thread.tid: thread for thread in self.profile.capture.threads}
        found = {name: threads[tid] for name, tid in tids.items() if tid in threads}
        for name in tids:
            self.expect(name in found, f"thread {name} is missing")
        return found

    def identity(self, threads: Iterable[Thread]) -> None:
        """States add up to the life of every thread, and samples to its states."""
        capture = self.profile.capture
        window = capture.end - capture.start
        totals: dict[int, int] = {}
        for sample in self.profile.samples:
            totals[id(sample.thread)] = totals.get(id(sample.thread), 0) + sample.nanoseconds
        worst = 0.0
        for thread in threads:
            for what, amount in (
                ("states", thread.accounted),
                ("samples", totals.get(id(thread), 0)),
            ):
                error = abs(amount - thread.elapsed) / window
                worst = max(worst, error)
                self.expect(
                    error <= IDENTITY,
                    f"{thread.comm} ({thread.tid}): {what} sum to {amount} of {thread.elapsed} ns",
                )
        self.notable["identity_error"] = round(worst, 5)

    def four_threads(self, tids: Mapping[str, int], sleepers_have_user_stacks: bool) -> None:
        """Everything that is known of the workload."""
        found = self.present(tids)
        self.identity(found.values())
        capture = self.profile.capture
        for name, thread in found.items():
            share = thread.elapsed / (capture.end - capture.start)
            self.expect(share > 0.99, f"{name} lived for {share:.1%} of the window only")
        self.notable["time"] = {name: _shares(thread) for name, thread in found.items()}
        if len(found) < 4:
            return
        self._states(found)
        self._stacks(found, sleepers_have_user_stacks)

    def whole(self, tgid: int, by_tables: bool) -> None:
        """Where tables are used, every stack of the process reaches its thread's entry point."""
        capture = self.profile.capture
        ends: dict[str, int] = {}
        broken: dict[str, int] = {}
        for entry, sample in zip(capture.entries, self.profile.samples):
            stack = capture.stacks[entry.stack]
            if not stack.user or capture.threads[entry.thread].tgid != tgid:
                continue
            end = stack.user_end.name
            ends[end] = ends.get(end, 0) + entry.count
            if end != "ENTRY":
                told = f"{end}: {' '.join(frame.name for frame in sample.frames[:12])}"
                broken[told] = broken.get(told, 0) + entry.count
        share = ends.get("ENTRY", 0) / max(sum(ends.values()), 1)
        self.notable["stack_ends"] = ends
        self.notable["whole"] = share
        self.notable["broken"] = sorted(broken.items(), key=lambda item: -item[1])[:6]
        if by_tables:
            self.expect(share >= WHOLE, f"only {share:.2%} of the stacks are whole: {ends}")

    def timeline(self, tids: Mapping[str, int]) -> None:
        """The stretches of the timeline add up to the accounts, where nothing was missed."""
        timeline = self.profile.capture.timeline
        assert timeline is not None
        told: dict[tuple[int, State], int] = {}
        naps_ended_by: dict[int, int] = {}
        for event in timeline.events():
            parts: list[tuple[State, int]] = []
            if event.kind is EventKind.RUN:
                parts = [(State.RUNNING, event.end - event.begin)]
            elif event.kind is EventKind.WAIT:
                parts = [
                    (event.state, event.middle - event.begin),
                    (State.RUNNABLE, event.end - event.middle),
                ]
            elif event.kind is EventKind.WAKE and event.tid == tids["worker"]:
                naps_ended_by[event.other] = naps_ended_by.get(event.other, 0) + 1
            for state, amount in parts:
                told[event.tid, state] = told.get((event.tid, state), 0) + amount
        self.notable["timeline_bytes"] = timeline.size
        self.notable["naps_ended_by"] = naps_ended_by
        self.expect(timeline.lost == 0, f"{timeline.lost} events of the timeline are lost")
        for thread in self.present(tids).values():
            gap = thread.time.get(State.UNKNOWN, 0)
            for state, amount in thread.time.items():
                got = told.get((thread.tid, state), 0)
                right = got == amount or state is State.UNKNOWN or (gap and got < amount)
                self.expect(
                    bool(right),
                    f"{thread.comm}: {got} ns {state.name.lower()} in the timeline, not {amount}",
                )
        naps = sum(naps_ended_by.values())
        by_timer = naps_ended_by.get(0, 0)
        self.expect(by_timer >= 0.8 * naps > 0, f"{by_timer} of {naps} naps end by a timer")

    def agrees(self, scheduler: SchedStatWatch, tids: Mapping[str, int]) -> None:
        """Time on and waiting for a CPU is what the scheduler itself counted."""
        capture = self.profile.capture
        window = capture.end - capture.start
        worst = 0.0
        for name, thread in self.present(tids).items():
            counted = scheduler.delta(name, capture.start, capture.end)
            for state, amount in (
                (State.RUNNING, counted.run),
                (State.RUNNABLE, counted.wait),
            ):
                error = abs(thread.time.get(state, 0) - amount) / window
                worst = max(worst, error)
                self.expect(
                    error <= SCHEDULER,
                    f"{name}: {thread.time.get(state, 0)} ns {state.name.lower()}, "
                    f"the scheduler counted {amount:.0f}",
                )
        self.notable["scheduler_error"] = round(worst, 5)

    def _states(self, found: Mapping[str, Thread]) -> None:
        def part(name: str, *states: State) -> float:
            thread = found[name]
            return sum(thread.time.get(state, 0) for state in states) / max(thread.elapsed, 1)

        busy = part("burner", State.RUNNING, State.RUNNABLE)
        self.expect(busy > 0.95, f"burner runs or wants to for {busy:.1%} only")
        for name, low, high in (("worker", 0.2, 0.9), ("reader", 0.5, 1.0), ("futexer", 0.99, 1.0)):
            asleep = part(name, State.SLEEPING)
            self.expect(low <= asleep <= high + 1e-6, f"{name} sleeps for {asleep:.1%}")
        running = part("worker", State.RUNNING)
        self.expect(running > 0.1, f"worker runs for {running:.1%} only")

    def _stacks(self, found: Mapping[str, Thread], sleepers_have_user_stacks: bool) -> None:
        expected = [
            ("burner", State.RUNNING, "", "burn_until_stopped"),
            ("worker", State.RUNNING, "", "do_work"),
            ("worker", State.SLEEPING, "nanosleep", "nap"),
            ("reader", State.SLEEPING, "pipe_read", "read_feed"),
            ("futexer", State.SLEEPING, "futex", "wait_on_futex"),
        ]
        for name, state, kernel, user in expected:
            samples = [
                sample
                for sample in self.profile.samples
                if sample.thread is found[name] and sample.state is state
            ]
            if name == "futexer" and not sleepers_have_user_stacks:
                user = ""
            for word in filter(None, (kernel, user)):
                share = _through(samples, word)
                self.notable.setdefault("stacks", {})[f"{name}: {word}"] = round(share, 3)
                self.expect(
                    share >= NAMED,
                    f"{word} shows in {share:.1%} of {name}'s time {state.name.lower()}; "
                    f"instead: {_others(samples, word)}",
                )


def _shares(thread: Thread) -> dict[str, float]:
    return {
        state.name.lower(): round(ns / max(thread.elapsed, 1), 4)
        for state, ns in thread.time.items()
        if ns
    }


def _names(sample: Sample) -> list[str]:
    return [frame.name for frame in sample.frames]


def _through(samples: list[Sample], word: str) -> float:
    total = sum(sample.nanoseconds for sample in samples)
    named = sum(s.nanoseconds for s in samples if any(word in name for name in _names(s)))
    return named / total if total else 0.0


def _others(samples: list[Sample], word: str) -> str:
    rest = [s for s in samples if not any(word in name for name in _names(s))]
    rest.sort(key=lambda sample: -sample.nanoseconds)
    shown = [f"{s.nanoseconds} ns {s.gap} {';'.join(_names(s))}" for s in rest[:3]]
    return " | ".join(shown) or "nothing"
