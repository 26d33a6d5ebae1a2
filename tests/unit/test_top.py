"""The page for people."""

from __future__ import annotations

import io

from systemscope.exporters.formats import ExportOptions
from systemscope.exporters.top import write
from systemscope.model import FrameKind, Gap, Profile, State
from tests.unit.fake_captures import SECOND, frame, profile, sample, thread


def top(of: Profile, **options: bool) -> list[str]:
    stream = io.StringIO()
    write(of, stream, ExportOptions(**options))
    return stream.getvalue().splitlines()


def test_busy_threads_first_with_their_states_and_stacks() -> None:
    lazy, busy = thread(1, "lazy"), thread(2, "busy")
    of = profile(
        sample(lazy, 3 * SECOND, frame("nap"), frame("main"), state=State.SLEEPING),
        sample(busy, SECOND, frame("burn"), frame("main")),
        sample(busy, SECOND, frame("burn"), frame("main"), state=State.RUNNABLE),
        sample(busy, 2 * SECOND, state=State.SLEEPING, gap=Gap.SHORT_WAITS),
    )
    assert top(of) == [
        "busy, 1 thread, 4.000 s: sleeping 50.0 %, running 25.0 %, runnable 25.0 %",
        "   50.0 %  sleeping  [short waits]",
        "   25.0 %  running   burn < main",
        "   25.0 %  runnable  burn < main",
        "",
        "lazy, 1 thread, 3.000 s: sleeping 100.0 %",
        "  100.0 %  sleeping  nap < main",
    ]
    assert top(of, per_thread=True)[0].startswith("busy-100/2, 4.000 s: ")


def test_lines_fit_a_page_and_names_are_safe() -> None:
    frames = [frame("f" * 30 + "\x1b\n", FrameKind.KERNEL) for _ in range(20)]
    lines = top(profile(sample(thread(1, "a\x1b"), SECOND, *frames)), annotate=True)
    assert max(map(len, lines)) <= 100
    assert all(char.isprintable() for line in lines for char in line)


def test_many_threads_are_cut_with_a_word() -> None:
    of = profile(*(sample(thread(tid, f"t{tid}"), SECOND, frame("f")) for tid in range(25)))
    assert top(of)[-1] == "and 5 more, less busy, 5.000 s of thread time in all"
    assert top(profile()) == ["no thread time to show"]


def test_the_schedulers_frames_give_way_to_what_tells_more() -> None:
    kernel = [frame(name, FrameKind.KERNEL) for name in ("__schedule", "schedule", "do_nanosleep")]
    nap = sample(thread(1), SECOND, *kernel, frame("nap"), frame("main"), state=State.SLEEPING)
    assert top(profile(nap))[1] == "  100.0 %  sleeping  do_nanosleep < nap < main"
    kthread = sample(thread(1), SECOND, *kernel, frame("kthread", FrameKind.KERNEL))
    assert top(profile(kthread))[1].endswith("__schedule < schedule < do_nanosleep < kthread")
