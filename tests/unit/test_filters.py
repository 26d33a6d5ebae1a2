"""Leaving threads and states out of a capture."""

from __future__ import annotations

from systemscope.model import State
from systemscope.model.filters import Hidden, IdleThreads, Selection, ThreadKind, select
from tests.unit.fake_captures import SECOND, capture


def names(selection: Selection) -> list[str]:
    selected, _ = select(capture(), selection)
    return [thread.comm for thread in selected.threads]


def test_everything_by_default() -> None:
    whole = capture()
    selected, hidden = select(whole, Selection())
    assert selected.threads == whole.threads
    assert selected.entries == whole.entries
    assert hidden == Hidden()


def test_idle_threads() -> None:
    assert names(Selection(idle=IdleThreads.HIDE)) == ["main app", "kworker/0:1"]
    assert names(Selection(idle=IdleThreads.ONLY)) == ["idler"]
    selected, hidden = select(capture(), Selection(idle=IdleThreads.HIDE))
    assert (hidden.idle_threads, hidden.idle_ns) == (1, SECOND)
    assert [selected.threads[entry.thread].comm for entry in selected.entries] == [
        "main app",
        "main app",
        "kworker/0:1",
    ]


def test_kinds() -> None:
    assert names(Selection(kind=ThreadKind.USER)) == ["main app", "idler"]
    assert names(Selection(kind=ThreadKind.KERNEL)) == ["kworker/0:1"]
    _, hidden = select(capture(), Selection(kind=ThreadKind.KERNEL))
    assert (hidden.other_threads, hidden.other_ns) == (2, 2 * SECOND)


def test_states_leave_the_threads_whole() -> None:
    selected, hidden = select(capture(), Selection(states=frozenset({State.RUNNING})))
    assert [entry.state for entry in selected.entries] == [State.RUNNING]
    assert len(selected.threads) == 3
    assert selected.threads[0].time[State.SLEEPING] == SECOND // 4
    assert hidden.state_ns == 2 * SECOND + SECOND // 4


def test_the_original_stays_as_it_was() -> None:
    whole = capture()
    select(whole, Selection(idle=IdleThreads.ONLY))
    assert whole == capture()
    selected, _ = select(whole, Selection(idle=IdleThreads.ONLY))
    assert selected.losses is whole.losses  # the symbolizer's counts reach the summary
