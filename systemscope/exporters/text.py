"""A page for people: where the time went, in two screens of a terminal.

The split of time by state, the busiest threads, the functions that took most wall-clock, CPU and
blocked time, what threads waited for, the kernel's delay accounting and the losses. Threads are
merged by name unless asked to be told apart. No line is wider than ``options.width``.
"""

from __future__ import annotations

from typing import TextIO

from systemscope.exporters.formats import ExportOptions
from systemscope.exporters.heading import duration, origin, share, target, window
from systemscope.exporters.palette import ANSI
from systemscope.exporters.summary import losses
from systemscope.exporters.text_delays import write_delays
from systemscope.exporters.text_functions import write_functions
from systemscope.exporters.text_page import BOLD, DIM, PLAIN, Page, wrap
from systemscope.exporters.text_totals import Group, Totals
from systemscope.exporters.text_waits import write_waits
from systemscope.exporters.unwound import unwinding
from systemscope.model import BLOCKED_STATES, Gap, Profile, State, state_name

_THREADS = 12
_LEAST_SHARE = 1000  # of the whole: what is less than a thousandth is not worth a line
_NOTES = 4
_NOTE_LINES = 3
_TIME = 8
_PERCENT = 8
_STATE = 10

_STATE_WORDS = {
    State.RUNNING: "on a CPU",
    State.RUNNABLE: "waiting for a CPU",
    State.SLEEPING: "interruptible wait",
    State.DISK: "wait, often storage",
    State.STOPPED: "by a signal",
    State.TRACED: "by a debugger",
    State.IDLE: "nothing to do",
    State.PARKED: "put aside",
    State.BLOCKED: "wait of any kind",
    State.DEAD: "not yet collected",
    State.UNKNOWN: "not seen",
}
_GAP_WORDS = {
    Gap.NOT_SAMPLED: "on a CPU, hit by no sample",
    Gap.SHORT_WAITS: "in waits too short to keep",
    Gap.NO_STACK: "on stacks that could not be walked",
    Gap.TABLE_FULL: "while a table was full",
    Gap.MISSED: "around missed events",
    Gap.NEW_THREAD: "of threads not yet begun",
}


def write(profile: Profile, stream: TextIO, options: ExportOptions = ExportOptions()) -> None:
    """Write ``profile`` to the text stream ``stream``. Raises whatever the stream raises.

    Characters the stream's encoding lacks are replaced; bars are then drawn in ASCII.
    """
    page = Page(stream, options)
    page.line((page.show(target(profile), page.width), BOLD))
    for words, style in ((window(profile), PLAIN), (origin(profile), DIM)):
        page.line((page.show(words, page.width), style))
    totals = Totals(profile, options.per_thread)
    if totals.total:
        _write_states(page, totals)
        _write_threads(page, totals, options)
        write_functions(page, totals)
        write_waits(page, totals)
        write_delays(page, totals.groups.values())
    else:
        page.line()
        page.line(("no thread time to show", PLAIN))
    _write_losses(page, profile)


def write_difference(
    before: Profile,
    after: Profile,
    stream: TextIO,
    options: ExportOptions = ExportOptions(),
) -> None:
    """Write how ``after`` differs from ``before`` to ``stream``: states, threads, functions and
    stacks by change."""
    from systemscope.exporters.text_difference import write_changes

    write_changes(before, after, stream, options)


def _write_states(page: Page, totals: Totals) -> None:
    page.heading("Time", f"{duration(totals.total)} of thread time, by what threads were doing")
    states = sorted(totals.states.items(), key=lambda item: -item[1])
    words = max(len(_STATE_WORDS[state]) for state, time in states if time)
    room = page.layout - 2 - _STATE - _TIME - _PERCENT - 4 - words
    for state, time in states:
        if not time:
            continue
        bar = page.bar({state: time}, totals.total, room)
        drawn = sum(len(text) for text, _ in bar)
        page.line(
            ("  ", PLAIN),
            (f"{state_name(state):<{_STATE}}", ANSI[state]),
            (f"{duration(time):>{_TIME}}{share(time, totals.total):>{_PERCENT}}  ", PLAIN),
            *bar,
            (" " * (room - drawn + 2) + _STATE_WORDS[state], DIM),
        )
    _write_gaps(page, totals)


def _write_gaps(page: Page, totals: Totals) -> None:
    """What of the time carries no stack, and so is in no function."""
    for gap, time in sorted(totals.gaps.items(), key=lambda item: -item[1]):
        if time * _LEAST_SHARE >= totals.total:
            text = f"{duration(time)} ({share(time, totals.total)}) {_GAP_WORDS[gap]} {gap.value}"
            page.line(("  of it ", DIM), (text, DIM))


def _write_threads(page: Page, totals: Totals, options: ExportOptions) -> None:
    groups = sorted(totals.groups.values(), key=lambda one: (-one.busy, -one.total, one.label))
    title = "Threads"
    remark = "busiest first" if options.per_thread else "by name, busiest first"
    label = min(28, max(16, page.layout // 4))
    room = page.layout - 2 - label - _TIME - 3 * _PERCENT - 2
    page.heading(title, remark)
    head = f"{'time':>{_TIME}}{'running':>{_PERCENT}}{'runnable':>{_PERCENT + 1}}"
    page.line((" " * (2 + label) + head + f"{'blocked':>{_PERCENT}}", DIM))
    # Where all time is of one kind a split says nothing: bars then compare the threads.
    several = sum(bool(time) for time in totals.states.values()) > 1
    longest = 0 if several else max(group.total for group in groups)
    for group in groups[:_THREADS]:
        _write_thread(page, group, label, room - 1, longest)
    rest = groups[_THREADS:]
    if rest:
        merged = Group(f"{len(rest):,} more")
        for group in rest:
            merged.threads |= group.threads
            for state, time in group.states.items():
                merged.states[state] = merged.states.get(state, 0) + time
        _write_thread(page, merged, label, room - 1, longest)


def _write_thread(page: Page, group: Group, label: int, room: int, longest: int) -> None:
    count = f" {page.times}{len(group.threads):,}" if len(group.threads) > 1 else ""
    name = page.show(group.label, label - len(count)) + count
    blocked = sum(group.states.get(state, 0) for state in BLOCKED_STATES)
    shares = [
        share(group.states.get(State.RUNNING, 0), group.total).rjust(_PERCENT),
        share(group.states.get(State.RUNNABLE, 0), group.total).rjust(_PERCENT + 1),
        share(blocked, group.total).rjust(_PERCENT),
    ]
    page.line(
        ("  ", PLAIN),
        page.cell(name, label),
        (f"{duration(group.total):>{_TIME}}" + "".join(shares) + "  ", PLAIN),
        *page.bar(group.states, longest or group.total, room),
    )


def _write_losses(page: Page, profile: Profile) -> None:
    lost = losses(profile.capture.losses)
    page.heading("Losses", "" if lost else "none")
    for words in lost:
        _write_wrapped(page, words, PLAIN)
    for number, words in enumerate(unwinding(profile.capture)):
        _write_wrapped(page, words if number else f"unwinding: {words}", DIM)
    notes = list(dict.fromkeys([*profile.capture.notes, *profile.notes]))
    for note in notes[:_NOTES]:
        _write_wrapped(page, note, DIM)
    if len(notes) > _NOTES:
        page.line((f"  and {len(notes) - _NOTES:,} more notes", DIM))


def _write_wrapped(page: Page, words: str, style: str) -> None:
    room = page.layout - 4
    for number, line in enumerate(wrap(page.show(words, _NOTE_LINES * room), room)):
        page.line(("    " if number else "  ", PLAIN), (page.show(line, room), style))
