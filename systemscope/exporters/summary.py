"""The words at the end: what was measured, how much of it is accounted for, what it cost."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Optional

from systemscope.exporters.name_sources import name_sources
from systemscope.exporters.naming import safe_text, thread_label
from systemscope.exporters.unwound import unwinding, wrapped
from systemscope.model import Capture, Losses, State, Thread, state_name
from systemscope.model.filters import Hidden

_WIDTH = 12
_ROOM = 80 - 2 - _WIDTH

#: Losses in words; the count, or the time of a field that ends in _ns, follows.
_LOSS_WORDS = {
    "samples_missing": "samples fewer than running time makes likely",
    "stacks_table_full": "stacks not kept, the table was full",
    "counts_table_full": "counts not kept, the table was full",
    "threads_table_full": "events of threads not kept, the table was full",
    "exits_table_full": "thread exits not kept, the table was full",
    "walks_failed": "stack walks that failed",
    "stacks_truncated": "stacks cut at the depth limit",
    "stack_collisions": "stacks lost to equal hashes",
    "updates_refused": "table updates refused by the kernel",
    "sideband_lost": "fork, exec and mapping records lost, some names may be missing",
    "processes_forgotten": "processes there was no room for, their names are missing",
    "mappings_dropped": "mappings there was no room for, some names are missing",
    "files_not_pinned": "files not kept open, names of ended processes may be missing",
    "recursion_missed": "program runs skipped by the kernel as recursive",
    "switches_missed": "context switches not seen",
    "clock_backwards": "times the clock ran backwards between CPUs",
    "timeline_events_lost": "events of the timeline not kept",
    "delays_lost": "ended threads whose delay accounts did not arrive",
    "unaccounted_ns": "thread time in no known state",
}
_UNWINDING = "unwinding"
_IN_TEXT = frozenset({"window", "thread time", _UNWINDING, "losses"})
_NOT_LOSSES = frozenset({"unresolved_frames", "resolved_frames"})


def summary(
    capture: Capture,
    hidden: Hidden,
    notes: Sequence[str] = (),
    cpu_seconds: float = 0.0,
    verbose: bool = False,
    beside_text: bool = False,
    sources: Optional[Mapping[tuple[str, str], int]] = None,
) -> list[str]:
    """The summary of a whole ``capture`` (nothing filtered out), as lines for a terminal.

    ``beside_text`` leaves out what the text format has just said there. ``sources`` is
    ``Profile.name_sources``, which a ``verbose`` summary tells."""
    found = summary_rows(capture, hidden, notes, cpu_seconds, verbose, sources)
    if beside_text:
        found = _without(found, _IN_TEXT)
    return [f"  {name:<{_WIDTH}}{text}" for name, text in _fitting(found)]


def summary_rows(
    capture: Capture,
    hidden: Hidden = Hidden(),
    notes: Sequence[str] = (),
    cpu_seconds: float = 0.0,
    verbose: bool = False,
    sources: Optional[Mapping[tuple[str, str], int]] = None,
) -> list[tuple[str, str]]:
    """(what, words) of the summary; what is "" where a line goes on.

    ``hidden`` is what the profile leaves out of the capture; ``cpu_seconds`` the CPU time of this
    process from its start. The words are safe to print.
    """
    rows = [("window", _window(capture)), ("threads", _threads(capture.threads))]
    rows += [("", text) for text in _hidden(hidden)]
    rows += [("thread time", _by_state(capture.threads))]
    elsewhere = sum(thread.elsewhere for thread in capture.threads)
    if elsewhere:
        rows.append(("", f"{seconds(elsewhere)} on CPUs not asked for are left out"))
    rows += [("accounted", _accounted(capture.threads))]
    if capture.event:
        event = f" ({capture.event}, {capture.frequency} Hz)"
        rows.append(("samples", f"{capture.samples:,}{event}"))
    names = _names(capture.losses)
    rows += [("names", names)] if names else []
    if names and verbose:
        rows += [("", text) for text in name_sources(sources or {})]
    rows += _rows(_UNWINDING, unwinding(capture))
    rows += _rows("losses", losses(capture.losses) or ["none"])
    rows.append(("own cost", _cost(capture, cpu_seconds, verbose)))
    rows += [("note", safe_text(note)) for note in dict.fromkeys([*capture.notes, *notes])]
    if verbose:
        rows += _details(capture)
    return rows


def _rows(name: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    """``texts`` one to a row, the first one called ``name``."""
    return [("" if number else name, text) for number, text in enumerate(texts)]


def _fitting(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """``rows`` with those of unwinding broken at a terminal's width."""
    kept: list[tuple[str, str]] = []
    last = ""
    for name, text in rows:
        last = name or last
        kept += _rows(name, wrapped(text, _ROOM) if last == _UNWINDING else [text])
    return kept


def _without(rows: list[tuple[str, str]], names: Container[str]) -> list[tuple[str, str]]:
    """``rows`` without those of ``names`` and the lines that go on from them."""
    kept, last = [], ""
    for name, text in rows:
        last = name or last
        if last not in names:
            kept.append((name, text))
    return kept


def losses(lost: Losses) -> list[str]:
    """Every loss that happened, one phrase each; empty when nothing was lost."""
    phrases = []
    for name, count in lost.items():
        if count and name not in _NOT_LOSSES:
            words = _LOSS_WORDS.get(name, name.replace("_", " "))
            phrases.append(f"{words}: {seconds(count) if name.endswith('_ns') else f'{count:,}'}")
    return phrases


def seconds(nanoseconds: int) -> str:
    """A length of time for people: three to four digits and a unit."""
    for unit, size in (("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)):
        if abs(nanoseconds) >= size:
            value = nanoseconds / size
            return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.4g} {unit}"
    return f"{nanoseconds} ns"


def percent(part: int, whole: int) -> str:
    """``part`` of ``whole`` with one decimal."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _window(capture: Capture) -> str:
    return f"{(capture.end - capture.start) / 1e9:.3f} s, ended by {safe_text(capture.ended_by)}"


def _threads(threads: Sequence[Thread]) -> str:
    processes = len({thread.tgid for thread in threads})
    parts = [f"{len(threads):,} in {processes:,} process{'' if processes == 1 else 'es'}"]
    for count, words in (
        (sum(not thread.ran for thread in threads), "never ran"),
        (sum(thread.born for thread in threads), "born"),
        (sum(thread.died for thread in threads), "ended"),
    ):
        if count:
            parts.append(f"{count:,} {words}")
    return ", ".join(parts)


def _hidden(hidden: Hidden) -> list[str]:
    texts = []
    if hidden.idle_threads:
        texts.append(
            f"{hidden.idle_threads:,} that never ran are left out, {seconds(hidden.idle_ns)} of "
            "thread time (--idle-threads show)"
        )
    if hidden.other_threads:
        plural = "" if hidden.other_threads == 1 else "s"
        texts.append(
            f"{hidden.other_threads:,} other thread{plural} not asked for, "
            f"{seconds(hidden.other_ns)} of thread time"
        )
    if hidden.state_ns:
        texts.append(f"{seconds(hidden.state_ns)} in states not asked for are left out")
    return texts


def _by_state(threads: Iterable[Thread]) -> str:
    totals: dict[State, int] = {}
    for thread in threads:
        for state, time in thread.time.items():
            totals[state] = totals.get(state, 0) + time
    whole = sum(totals.values())
    ordered = sorted(totals.items(), key=lambda item: -item[1])
    parts = [f"{state_name(state)} {percent(time, whole)}" for state, time in ordered if time]
    return f"{seconds(whole)}: {', '.join(parts) or 'none'}"


def _accounted(threads: Sequence[Thread]) -> str:
    elapsed = sum(thread.elapsed for thread in threads)
    if not elapsed:
        return "no thread was seen"
    text = f"{100 * sum(thread.accounted for thread in threads) / elapsed:.2f} % of thread time"
    worst = max(threads, key=lambda thread: abs(thread.elapsed - thread.accounted))
    missing = abs(worst.elapsed - worst.accounted)
    if missing < 1_000:
        return text + ", every thread to the microsecond"
    return text + f", off most: {thread_label(worst)} by {seconds(missing)}"


def _names(lost: Losses) -> str:
    frames = lost.resolved_frames + lost.unresolved_frames
    if not frames:
        return ""
    return f"{percent(lost.resolved_frames, frames)} of {frames:,} frames"


def _cost(capture: Capture, cpu_seconds: float, verbose: bool) -> str:
    cost = capture.overhead
    text = f"{cost.cpu_seconds:.2f} CPU s in the window"
    if cpu_seconds > cost.cpu_seconds:
        text += f", {cpu_seconds:.2f} in all"
    if cost.bpf_run_seconds:
        text += f", BPF {cost.bpf_run_seconds:.3f} s in {cost.bpf_runs:,} runs"
    elif cost.bpf_runs:
        text += f", {cost.bpf_runs:,} BPF runs"
    if cost.bpf_memory_bytes:
        text += f", BPF memory {cost.bpf_memory_bytes / (1 << 20):.1f} MiB"
    if verbose and cost.first_event_seconds:
        text += f", first event after {cost.first_event_seconds * 1000:.0f} ms"
    return text


def _details(capture: Capture) -> list[tuple[str, str]]:
    stacks = f"{len(capture.stacks) - 1:,} different, {len(capture.entries):,} entries"
    host = f"{safe_text(capture.hostname)}, {safe_text(capture.kernel)}"
    return [("stacks", stacks), ("host", host)]
