"""What a reader sees of a user stack that is not whole, in every format and after a detour."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Optional

import pytest

from systemscope.cli.exit_codes import ExitCode
from systemscope.cli.main import main
from systemscope.cli.unnamed import unnamed
from systemscope.exporters import text
from systemscope.exporters.chrome_stacks import StackNames
from systemscope.exporters.difference import compare
from systemscope.exporters.formats import ExportOptions, by_name
from systemscope.exporters.text_reasons import reason
from systemscope.exporters.text_totals import Totals
from systemscope.importers import folded as folded_importer
from systemscope.model import (
    END_MARKS,
    Capture,
    Entry,
    Frame,
    FrameKind,
    Profile,
    Stack,
    StackEnd,
    State,
    UnwindReport,
)
from systemscope.symbolizer import symbolize
from tests.unit.fake_captures import SECOND, capture, frame, profile, sample, thread
from tests.unit.pprof_files import back, packed
from tests.unit.test_html import data_of

EARLY = [end for end in StackEnd if end not in (StackEnd.UNTOLD, StackEnd.ENTRY)]
MARK = Frame("[truncated stack]", FrameKind.PSEUDO)


def with_stacks(*stacks: Stack, tables: bool = True) -> Capture:
    """Process 100's first thread running on each of ``stacks`` in turn."""
    made = capture()
    made.unwinding = UnwindReport("bpf_loop") if tables else None
    made.stacks = [Stack(), *stacks]
    made.entries = [Entry(0, State.RUNNING, n + 1, SECOND, 3, 10) for n in range(len(stacks))]
    return made


def roots(of: Capture) -> list[Optional[str]]:
    """The mark at the root of each entry's stack, None where it has none."""
    found = []
    for one in symbolize(of, opener=lambda tgid, mapping: None).samples:
        marks = [frame.name for frame in one.frames if frame.kind is FrameKind.PSEUDO]
        assert marks in ([], [one.frames[-1].name])
        found.append(marks[0] if marks else None)
    return found


@pytest.mark.parametrize("end", EARLY)
@pytest.mark.parametrize("tables", [True, False])
def test_a_walk_that_ended_early_says_why_at_its_root(end: StackEnd, tables: bool) -> None:
    of = with_stacks(Stack((0xFFFF0001,), (0x1500, 0x1010), user_end=end), tables=tables)
    assert roots(of) == [END_MARKS[end]]
    alone = with_stacks(Stack((0xFFFF0001,), user_end=end), tables=tables)
    assert roots(alone) == [END_MARKS[end]], "nothing but the mark is left of the user stack"


def test_whole_stacks_and_kernel_stacks_have_no_mark() -> None:
    whole = Stack(user=(0x1500,), user_end=StackEnd.ENTRY, user_by_pointer=True)
    assert roots(with_stacks(whole, Stack((0xFFFF0001,)), Stack(kernel_names=("x+0x1",)))) == [
        None,
        None,
        None,
    ]


def test_frame_pointers_are_told_only_where_tables_were_in_use() -> None:
    stacks = (Stack(user=(0x1500, 0x1010)), Stack(user=(0x1500,), user_truncated=True))
    assert roots(with_stacks(*stacks)) == ["[frame pointers only]", "[truncated stack]"]
    assert roots(with_stacks(*stacks, tables=False)) == [None, None]


def test_marks_count_neither_as_named_nor_as_unnamed() -> None:
    of = with_stacks(Stack(user=(0x1500, 0x1010), user_end=StackEnd.DEPTH))
    roots(of)
    assert (of.losses.resolved_frames, of.losses.unresolved_frames) == (0, 2)


def test_marks_are_there_where_names_are_not() -> None:
    of = with_stacks(Stack(user=(0x1500, 0x1010), user_end=StackEnd.STRAYED))
    of.processes[100].images = []
    assert [one.name for one in unnamed(of).samples[0].frames] == [
        "[unmapped]+0x1500",
        "[unmapped]+0x1010",
        "[strayed stack]",
    ]
    frames = StackNames(Profile(of)).frames(0, 1)  # of a timeline, without a sample to look at
    assert [one.name for one in frames] == ["0x1500", "0x1010", "[strayed stack]"]


def incomplete() -> Profile:
    wait = (frame("do_nanosleep", FrameKind.KERNEL), frame("nap"), frame("main"), MARK)
    return profile(
        sample(thread(1), 3 * SECOND, frame("work"), frame("main"), MARK),
        sample(thread(1), SECOND, *wait, state=State.SLEEPING),
        sample(thread(2), SECOND, frame("do_futex", FrameKind.KERNEL), MARK, state=State.SLEEPING),
        sample(thread(3), SECOND, MARK),
    )


def test_a_page_for_people_speaks_of_functions() -> None:
    totals = Totals(incomplete(), per_thread=False)
    assert {one.name for one in totals.functions} == {"work", "main", "nap", "do_nanosleep",
                                                      "do_futex"}  # fmt: skip
    waits = {tuple(f.name for f in wait.functions): wait for wait in totals.waits.values()}
    assert set(waits) == {("do_nanosleep", "nap", "main"), ("do_futex",)}
    assert all(wait.cut for wait in waits.values())
    stream = io.StringIO()
    text.write(incomplete(), stream)
    assert "do_nanosleep ← nap ← main ← …" in stream.getvalue()
    assert "[truncated" not in stream.getvalue()
    assert reason((MARK,), State.SLEEPING) == reason((), State.SLEEPING)


def test_two_profiles_are_compared_with_their_marks() -> None:
    found = compare(incomplete(), incomplete(), normalize=False, per_thread=False)
    assert not any(change.delta for change in found.stacks.values())
    assert any("[truncated stack]" in [f.name for f in key.functions] for key in found.stacks)
    assert not any(function.name.startswith("[") for function in found.functions)


def written(name: str, of: Profile) -> bytes:
    raw = io.BytesIO()
    by_name(name).write_bytes(of, raw, ExportOptions())
    return raw.getvalue()


def test_folded_stacks_and_back() -> None:
    data = written("folded", incomplete())
    assert b"worker;[truncated stack];main;work;[running] 3000000\n" in data
    assert b"worker;[truncated stack];[running] 1000000\n" in data
    got = folded_importer.read(io.BytesIO(data))
    assert all(one.frames[-1].kind is FrameKind.PSEUDO for one in got.samples)
    assert written("folded", got) == data


def test_pprof_and_back() -> None:
    got = back(packed(incomplete()))
    for mine, theirs in zip(incomplete().samples, got.samples):
        assert [(f.name, f.kind) for f in theirs.frames] == [(f.name, f.kind) for f in mine.frames]
    assert got.samples[0].frames[-1] == MARK, "without address, module and mapping"
    assert packed(got) == packed(back(packed(got)))


def test_pictures_and_pages() -> None:
    assert b"[truncated stack]" in written("svg", incomplete())
    shown = json.loads(written("speedscope", incomplete()))
    assert {"name": "[truncated stack]"} in shown["shared"]["frames"]
    data = data_of(written("html", incomplete()).decode())
    names = [data["strings"][number] for number in data["frames"]["name"]]
    assert data["frames"]["kind"][names.index("[truncated stack]")] == 4, "SystemScope's own word"


def test_through_capture_files_to_every_format(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    of = with_stacks(
        Stack(user=(0x1500, 0x1010), user_end=StackEnd.NO_TABLE),
        Stack(user=(0x1500, 0x1010)),
        Stack(user=(0x1500, 0x1010), user_end=StackEnd.ENTRY),
    )
    of.threads[0].time = {State.RUNNING: 3 * SECOND}
    first = tmp_path / "a.ssc"
    first.write_bytes(written("capture", Profile(of)))
    for name in ("again.ssc", "b.folded", "b.pb.gz"):
        assert main(["convert", str(first), "-qo", str(tmp_path / name)]) == ExitCode.OK
    lines = {}
    for name in ("a.ssc", "again.ssc", "b.folded", "b.pb.gz"):
        assert main(["convert", "-q", str(tmp_path / name), "--output", "folded"]) == ExitCode.OK
        lines[name] = capfd.readouterr().out
    assert len(set(lines.values())) == 1, lines
    roots = [line.split(";")[1] for line in lines["a.ssc"].splitlines()]
    assert roots == ["[frame pointers only]", "[no unwind table]", "app+0x10"]
    same = [str(first), str(tmp_path / "again.ssc")]
    assert main(["diff", "-q", *same, "--output", "text"]) == ExitCode.OK
    assert "none changed by a thousandth" in capfd.readouterr().out
