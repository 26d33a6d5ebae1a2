"""The summary's words, and the live line."""

from __future__ import annotations

import io
from dataclasses import fields

import pytest

from systemscope.cli.preflight import require
from systemscope.cli.progress import ProgressLine, describe_end, describe_target
from systemscope.collectors.request import Progress, Request
from systemscope.errors import PermissionMissing
from systemscope.exporters.summary import losses, seconds, summary
from systemscope.kernel.privileges import Capability, Privileges, SeccompMode
from systemscope.model import Capture, Losses, State
from systemscope.model.filters import Hidden
from tests.unit.fake_captures import SECOND, capture


def text(of: Capture, **about: bool) -> str:
    return "\n".join(summary(of, Hidden(), cpu_seconds=0.25, **about))


def test_the_worst_thread_is_named() -> None:
    of = capture()
    of.threads[0].time[State.RUNNING] -= SECOND // 100
    assert "99.67 % of thread time, off most: main_app-100/100 by 10 ms" in text(of)


def test_states_are_shares_of_thread_time() -> None:
    assert "thread time 3 s: sleeping 41.7 %, idle 33.3 %, running 25.0 %" in text(capture())


def test_every_loss_has_words_and_only_losses_show() -> None:
    lost = Losses(**{one.name: 1234567 for one in fields(Losses)})
    phrases = losses(lost)
    assert len(phrases) == len(fields(Losses)) - 2  # the two counts of names are no losses
    assert all("1,234,567" in phrase or "1.235 ms" in phrase for phrase in phrases)
    assert losses(Losses(resolved_frames=5)) == []


def test_time_on_other_cpus_is_told() -> None:
    of = capture()
    of.threads[0].elsewhere = SECOND // 2
    assert "500 ms on CPUs not asked for are left out" in text(of)
    assert "left out" not in text(capture())


def test_losses_stand_one_to_a_line() -> None:
    of = capture()
    of.losses = Losses(walks_failed=3, sideband_lost=2)
    rows = text(of).splitlines()
    at = next(number for number, row in enumerate(rows) if "losses" in row)
    assert "stack walks that failed: 3" in rows[at]
    assert "may be missing: 2" in rows[at + 1]


def test_cost_and_notes() -> None:
    of = capture()
    of.notes = ["no ring buffer\x1b[2J", "no ring buffer\x1b[2J"]
    of.overhead.bpf_memory_bytes = 5 << 20
    shown = text(of)
    assert (
        "0.10 CPU s in the window, 0.25 in all, BPF 0.002 s in 1,200 runs, BPF memory 5.0 MiB"
        in shown
    )
    assert shown.count("no ring buffer") == 1
    assert "\x1b" not in shown
    assert "Linux 6.1.0 x86_64" in text(of, verbose=True)


def test_an_empty_capture() -> None:
    of = capture()
    of.threads, of.entries = [], []
    assert "no thread was seen" in text(of)


@pytest.mark.parametrize(
    ("nanoseconds", "words"),
    [(0, "0 ns"), (999, "999 ns"), (1_500, "1.5 us"), (10**9, "1 s"), (5 * 10**12, "5,000 s")],
)
def test_lengths_of_time(nanoseconds: int, words: str) -> None:
    assert seconds(nanoseconds) == words


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_live_line_five_times_a_second() -> None:
    stream = Terminal()
    line = ProgressLine(False, stream)
    for tenth in range(11):
        line(Progress(tenth * 100_000_000, 1000 * tenth, 5))
    line.done()
    assert stream.getvalue().count("samples") == 6
    assert "1.0 s  samples 10,000  threads 5" in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_other_streams_get_none() -> None:
    stream = io.StringIO()
    line = ProgressLine(False, stream)
    line(Progress(1, 1, 1))
    line.step("naming")
    line.done()
    assert stream.getvalue() == ""


def test_targets_in_words() -> None:
    assert describe_target(Request()) == "the whole system"
    assert describe_target(Request(pids=(1,), tids=(2, 3))) == "process 1 and threads 2, 3"
    assert describe_target(Request(pids=tuple(range(1, 9)))) == "processes 1, 2, 3, 4, 5, ..."
    assert describe_end(Request()) == "until Ctrl-C"
    assert describe_end(Request(pids=(1,))) == "until it ends or Ctrl-C"
    assert describe_end(Request(duration_ns=1_500_000_000)).startswith("for 1.5 s")


def rights(*held: Capability, initial: bool = True) -> Privileges:
    return Privileges(sum(1 << one for one in held), 1000, initial, SeccompMode.DISABLED, False)


def test_who_may_profile() -> None:
    require(rights(Capability.SYS_ADMIN))
    require(rights(Capability.BPF, Capability.PERFMON))
    for missing in (rights(), rights(Capability.BPF), rights(Capability.PERFMON)):
        with pytest.raises(PermissionMissing) as caught:
            require(missing)
        assert "sudo" in caught.value.remedy
    with pytest.raises(PermissionMissing, match="user namespace"):
        require(rights(Capability.SYS_ADMIN, initial=False))
