"""What a trace says of itself: names of its tracks, where it comes from, and what it lost."""

from __future__ import annotations

import time

from systemscope.exporters.chrome_json import TraceStream, metadata, microseconds, text
from systemscope.exporters.chrome_slices import Slices
from systemscope.exporters.chrome_tracks import Tracks
from systemscope.exporters.naming import safe_text
from systemscope.exporters.summary import losses
from systemscope.exporters.unwound import unwinding
from systemscope.model import Capture, Profile
from systemscope.version import VERSION

_LONGEST = 2000  # characters of a command line or a note
_MOST_NOTES = 100
_YEAR_3000 = 32_503_680_000.0


def facts(profile: Profile) -> dict[str, object]:
    """What is known before the first event: ``otherData``."""
    capture = profile.capture
    known: dict[str, object] = {"writer": f"SystemScope {VERSION}"}
    for name, value in (
        ("command", capture.command),
        ("host", capture.hostname),
        ("kernel", capture.kernel),
    ):
        if value:
            known[name] = safe_text(value[:_LONGEST])
    if 0 < capture.wall_start < _YEAR_3000:
        moment = time.gmtime(capture.wall_start)
        known["window began"] = time.strftime("%Y-%m-%d %H:%M:%S UTC", moment)
    known["window in us"] = microseconds(max(capture.end - capture.start, 0))
    known["window ended by"] = safe_text(capture.ended_by[:_LONGEST])
    known["clock"] = f"CLOCK_MONOTONIC, zero is {capture.start} ns"
    if capture.event:
        known["samples"] = f"{capture.samples:,} of {capture.event}, {capture.frequency} Hz"
    told = unwinding(capture)
    if told:
        known["unwinding"] = told
    known["losses"] = losses(capture.losses) or ["none"]
    notes = list(dict.fromkeys([*capture.notes, *profile.notes]))
    known["notes"] = [safe_text(note[:_LONGEST]) for note in notes[:_MOST_NOTES]]
    return known


def closing_facts(slices: Slices) -> dict[str, object]:
    """What is known after the last event: ``metadata``. Times are nanoseconds."""
    told: dict[str, object] = {
        "slices": _by_state(slices.drawn),
        "short slices, gathered": _by_state(slices.short),
        "wake-up arrows": slices.arrows,
        "samples": slices.samples,
    }
    if slices.hidden:
        told["events of threads left out"] = slices.hidden
    if slices.misplaced:
        told["events out of place"] = slices.misplaced
    return told


def _by_state(totals: dict[str, tuple[int, int]]) -> dict[str, object]:
    return {state: {"count": one[0], "ns": one[1]} for state, one in sorted(totals.items())}


def name_tracks(out: TraceStream, capture: Capture, tracks: Tracks) -> None:
    """Name and order processes and threads, and say what was lost where no reader can miss it."""
    named: set[int] = set()
    for order, track in enumerate(sorted(tracks.all, key=lambda one: one.number)):
        thread, pid = track.thread, track.thread.tgid
        if pid not in named:
            named.add(pid)
            process = capture.processes.get(pid)
            comm = process.comm if process is not None and process.comm else thread.comm
            out.add(metadata("process_name", pid, pid, f'"name":{text(comm or str(pid))}'))
            kernel = process is not None and process.kernel
            out.add(metadata("process_sort_index", pid, pid, f'"sort_index":{int(kernel)}'))
        out.add(metadata("thread_name", pid, track.number, f'"name":{text(track.label)}'))
        place = -1 if thread.tid == pid else order
        out.add(metadata("thread_sort_index", pid, track.number, f'"sort_index":{place}'))
        out.flush_if_full()
    lost = capture.losses.timeline_events_lost
    if capture.timeline is not None:
        lost = max(lost, capture.timeline.lost)
    if lost:
        told = ",".join(text(phrase) for phrase in losses(capture.losses))
        words = f"{lost:,} event{'' if lost == 1 else 's'} lost"
        out.add(
            f'{{"ph":"i","s":"g","name":"{words}","cat":"loss","pid":0,"tid":0,'
            f'"ts":0.000,"args":{{"losses":[{told}]}}}}'
        )
