"""The page for people: what it shows, how wide it is, and what it says of waits."""

from __future__ import annotations

import io
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemscope.exporters.formats import ExportOptions, by_name
from systemscope.exporters.text import write
from systemscope.exporters.text_page import Page, apportion, columns, shorten
from systemscope.exporters.text_reasons import reason
from systemscope.model import Delay, DelayKind, Frame, FrameKind, Gap, Profile, State
from tests.unit.fake_captures import SECOND, frame, profile, sample, thread

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
MS = SECOND // 1000


def page(of: Profile, **options: object) -> list[str]:
    stream = io.StringIO()
    write(of, stream, ExportOptions(**options))  # type: ignore[arg-type]
    return stream.getvalue().splitlines()


def section(lines: list[str], title: str) -> list[str]:
    """The lines below the heading that begins with ``title``."""
    start = next(i for i, line in enumerate(lines) if line.startswith(title)) + 1
    end = next((i for i in range(start, len(lines)) if not lines[i]), len(lines))
    return lines[start:end]


def kernel(*names: str) -> list[Frame]:
    return [frame(name, FrameKind.KERNEL) for name in names]


def nap(of: int = 1, time: int = SECOND, comm: str = "worker") -> Profile:
    frames = [*kernel("__schedule", "schedule", "do_nanosleep", "do_syscall_64"), frame("nap")]
    return profile(sample(thread(of, comm), time, *frames, frame("main"), state=State.SLEEPING))


def four() -> Profile:
    """A busy thread, one that sleeps, and both kinds of gap."""
    lazy, busy = thread(1, "lazy"), thread(2, "busy")
    return profile(
        *nap(1, 3 * SECOND, "lazy").samples,
        sample(busy, SECOND, frame("burn"), frame("main")),
        sample(busy, SECOND, *kernel("__schedule", "schedule"), frame("burn"), frame("main"),
               state=State.RUNNABLE),
        sample(busy, 2 * SECOND, state=State.SLEEPING, gap=Gap.SHORT_WAITS),
        sample(lazy, SECOND, state=State.RUNNING, gap=Gap.NOT_SAMPLED),
    )  # fmt: skip


def test_the_split_of_time_comes_first() -> None:
    lines = page(four())
    assert lines[0] == "app (100)"
    assert lines[1].startswith("3 threads over 1.000 s on host")
    sleeping, running, runnable, *gaps = section(lines, "Time")
    assert sleeping.split()[:5] == ["sleeping", "5.00", "s", "62.5", "%"]
    assert running.split()[:5] == ["running", "2.00", "s", "25.0", "%"]
    assert runnable.split()[:5] == ["runnable", "1.00", "s", "12.5", "%"]
    assert abs(sleeping.count("░") - 5 * runnable.count("▓")) <= 3
    assert [line.split()[-2:] for line in gaps] == [["[short", "waits]"], ["[not", "sampled]"]]


def test_busy_threads_come_first_and_bars_are_in_proportion() -> None:
    rows = section(page(four()), "Threads")[1:]
    assert [row.split()[0] for row in rows] == ["busy", "lazy"]
    assert rows[0].split()[1:9] == ["4.00", "s", "25.0", "%", "25.0", "%", "50.0", "%"]
    bar = rows[0].split()[-1]
    assert abs(bar.count("█") - bar.count("░") / 2) <= 1
    assert len(bar) == len(rows[1].split()[-1])


def test_threads_are_merged_by_name_unless_told_apart() -> None:
    of = profile(*(sample(thread(tid), SECOND, frame("f")) for tid in range(5)))
    assert section(page(of), "Threads")[1].startswith("  worker \u00d75 ")
    labels = [row.split()[0] for row in section(page(of, per_thread=True), "Threads")[1:]]
    assert labels == [f"worker-100/{tid}" for tid in range(5)]


def test_functions_by_wall_cpu_and_blocked_time() -> None:
    lines = page(four())
    # The kernel's part is its innermost function that is not the scheduler's.
    blocked = section(lines, "Functions by blocked time")
    assert blocked[1].endswith("do_nanosleep ← nap") and blocked[1].split()[0] == "3.00"
    wall = section(lines, "Functions by wall-clock time")
    assert [row.rsplit("  ", 1)[1] for row in wall[1:]] == ["main", "do_nanosleep ← nap", "burn"]
    assert wall[3].split()[:4] == ["2.00", "s", "25.0", "%"]
    cpu = section(lines, "Functions by CPU time")
    assert " ".join(cpu[1].split()) == "1.00 s 50.0 % 1.00 s 50.0 % burn"
    assert not any("schedule" in line for line in lines)


def test_a_function_counts_once_a_stack() -> None:
    deep = sample(thread(1), SECOND, *[frame("fib")] * 40, frame("main"))
    rows = section(page(profile(deep)), "Functions by CPU")
    assert " ".join(rows[1].split()) == "1.00 s 100.0 % 1.00 s 100.0 % fib"


def test_unnamed_code_is_told_by_its_module() -> None:
    stripped = [
        Frame(f"libx.so+0x{at:x}", FrameKind.USER, module="/lib/libx.so", unknown="no symbol")
        for at in (1, 2, 3)
    ]
    rows = section(page(profile(sample(thread(1), SECOND, *stripped))), "Functions by CPU")
    assert rows[1].endswith("[libx.so]") and len(rows) == 2


def test_one_kind_of_time_is_shown_once() -> None:
    titles = [line for line in page(nap()) if line.startswith("Functions")]
    assert [title.split("  ")[0] for title in titles] == ["Functions by wall-clock time"]


def test_waits_tell_what_for_how_often_and_where() -> None:
    waits = section(page(four()), "Waits")
    assert waits[0].split("  ")[-2:] == ["lazy", "a set time (nanosleep)"]
    assert waits[1].strip() == "do_nanosleep ← nap ← main"
    assert len(waits) == 2  # short waits have no stack to show


def test_long_stacks_are_wrapped_and_cut() -> None:
    frames = [frame(f"function_number_{i}") for i in range(40)]
    of = profile(sample(thread(1), SECOND, *frames, state=State.SLEEPING))
    stack = section(page(of), "Waits")[1:]
    assert len(stack) == 3
    assert re.search(r"← … \d+\+ more$", stack[-1])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("__schedule schedule futex_wait_queue_me futex_wait", "a lock or a condition (futex)"),
        ("schedule ep_poll do_epoll_wait", "events (epoll)"),
        ("schedule anon_pipe_read vfs_read", "data from a pipe"),
        ("schedule unix_stream_read_generic.isra.0", "data from a local socket"),
        ("schedule sk_wait_data tcp_recvmsg_locked", "data from a TCP connection"),
        ("io_schedule folio_wait_bit_common filemap_fault", "a page of a file (page fault)"),
        ("io_schedule folio_wait_bit_common strange", "a page of a file"),
        ("schedule rwsem_down_read_slowpath ext4_read", "a lock in the kernel"),
        ("schedule worker_thread kthread", "work (kernel worker)"),
        ("schedule odd_thread kthread", "work (kernel thread)"),
        ("schedule novel __x64_sys_novelty", "the system call novelty"),
        ("schedule novel", "something interruptible"),
    ],
)
def test_reasons_in_plain_words(names: str, words: str) -> None:
    assert reason(kernel(*names.split()), State.SLEEPING) == words


def test_a_users_function_is_no_reason() -> None:
    assert reason([frame("worker_thread")], State.DISK) == "something uninterruptible"


def test_delays_and_losses() -> None:
    of = nap()
    assert not any(line.startswith("Delays") for line in page(of))
    of.samples[0].thread.delays = {
        DelayKind.CPU: Delay(3, 5 * MS),
        DelayKind.SWAP_IN: Delay(0, 0),
        DelayKind.COPY: Delay(1, MS),
    }
    of.capture.losses.walks_failed = 7
    of.notes.append("no BTF")
    head, row = section(page(of), "Delays")
    assert head.split() == ["cpu", "fault", "copy"]
    assert row.split() == ["worker", "5.00", "ms", "1.00", "ms"]
    assert section(page(of), "Losses") == ["  stack walks that failed: 7", "  no BTF"]


def test_all_kinds_of_delays_fit_and_none_is_hidden() -> None:
    of = nap()
    of.samples[0].thread.delays = {kind: Delay(1, 900 * SECOND) for kind in DelayKind}
    text = "\n".join(section(page(of), "Delays"))
    assert all(("fault copy" if k is DelayKind.COPY else k.value) in text for k in DelayKind)


def test_many_threads_stay_within_two_screens() -> None:
    states = [State.RUNNING, State.SLEEPING, State.DISK, State.RUNNABLE]
    of = profile(
        *(
            sample(thread(tid, f"t{tid}"), SECOND + tid, *kernel("schedule", f"k{tid}"),
                   *[frame(f"f{tid}_{i}" * 3) for i in range(30)], state=states[tid % 4])
            for tid in range(500)
        )
    )  # fmt: skip
    lines = page(of, per_thread=True)
    assert len(lines) <= 100
    assert section(lines, "Threads")[-1].split()[:3] == ["488", "more", "\u00d7488"]


def test_nothing_to_show() -> None:
    assert "no thread time to show" in page(profile())


def test_colour_only_when_asked() -> None:
    plain = page(four())
    assert not any("\x1b" in line for line in plain)
    colored = page(four(), color=True)
    assert any("\x1b" in line for line in colored)
    assert [ESCAPE.sub("", line) for line in colored] == plain


def test_an_encoding_without_bars_gets_ascii() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="strict", newline="\n")
    write(nap(comm="wörker漢"), stream)
    stream.flush()
    text = raw.getvalue().decode("ascii")
    assert "do_nanosleep < nap" in text and "w?rker?" in text and "..." in text


HOSTILE = [
    "漢字" * 30, "e\u0301" * 90, "a" + "\u0301" * 100_000, "\u202eevil", "\ud800", "\x1b[2J", "\n",
    "\u200b\u200d\ufeff\u00ad", "👩\u200d👩\u200d👧\ufe0f" * 20, "가각" * 40, "x" * 1_000_000, "",
    "\ue000", "ﷺ", "</script>", "\u1161\u11a8",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=[ascii(name[:8]) for name in HOSTILE])
@pytest.mark.parametrize("width", [1, 20, 80, 200])
def test_lines_fit_whatever_the_names(name: str, width: int) -> None:
    of = four()
    hostile = Frame(name or "?", FrameKind.USER, module=name)
    of.samples.append(sample(thread(3, name), SECOND, hostile, hostile, state=State.DISK))
    of.capture.command = of.capture.hostname = of.capture.kernel = name
    of.notes.append(name)
    for line in page(of, width=width, color=True):
        text = ESCAPE.sub("", line)
        assert wide(text) <= width
        assert "\x1b" not in text
        assert all(unicodedata.category(char)[0] != "C" for char in text)


def wide(text: str) -> int:
    """Columns, reckoned in another way than the exporter does."""
    marks = sum(unicodedata.category(char) in ("Mn", "Me") for char in text)
    joined = sum("\u1160" <= char <= "\u11ff" for char in text)
    return len(text) - marks - joined + sum(unicodedata.east_asian_width(c) in "WF" for c in text)


def test_wide_rows_stay_aligned() -> None:
    of = profile(*nap(1, SECOND, "漢字スレッド").samples, *nap(2, SECOND, "abc").samples)
    rows = section(page(of), "Threads")
    assert len({wide(row[: row.index("1.00 s")]) for row in rows[1:]}) == 1


@given(st.lists(st.integers(0, 2**63), max_size=8), st.integers(1, 200))
def test_bars_share_their_columns(values: list[int], room: int) -> None:
    whole = sum(values)
    cells = apportion(values, whole, room)
    assert sum(cells) == (room if whole else 0)
    for value, cell in zip(values, cells):
        assert not whole or abs(cell - value * room / whole) < 1 + 1e-6


@given(st.text(max_size=60), st.integers(1, 40))
def test_shortened_names_fit(text: str, room: int) -> None:
    shown = Page(io.StringIO(), ExportOptions()).show(text, room)
    assert columns(shown) <= room
    assert columns(shorten("abcdefgh", room)) == min(8, room)


def test_the_longest_times_fit() -> None:
    lines = page(nap(time=2**63))
    assert max(map(len, lines)) <= 80
    assert any("106,752 d" in line for line in lines)


def test_it_is_a_format() -> None:
    form = by_name("text")
    assert form.differences and form.extensions == (".txt",)
    raw = io.BytesIO()
    form.write_bytes(four(), raw, ExportOptions())
    assert "░".encode() in raw.getvalue()


def test_bars_compare_threads_where_there_is_one_state_only() -> None:
    of = profile(
        sample(thread(1, "long"), 4 * SECOND, frame("f")),
        sample(thread(2, "short"), SECOND, frame("f")),
    )
    long, short = (row.count("█") for row in section(page(of), "Threads")[1:])
    assert abs(long - 4 * short) <= 3


def test_long_notes_are_wrapped() -> None:
    of = nap()
    of.notes.append("word " * 30)
    assert len(section(page(of), "Losses")) == 2
