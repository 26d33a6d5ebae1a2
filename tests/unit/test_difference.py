"""Two profiles side by side: what is the same thing, what changed, and the page that says so."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from systemscope.exporters.difference import Scale, by_change, compare, total_of
from systemscope.exporters.formats import ExportOptions, by_name
from systemscope.exporters.text import write_difference
from systemscope.model import Frame, FrameKind, Profile, State
from tests.unit.fake_captures import SECOND, frame, profile, sample, thread


def before() -> Profile:
    return profile(
        sample(thread(1, "a"), 2 * SECOND, frame("old"), frame("main")),
        sample(thread(2, "b"), SECOND, frame("both"), frame("main"), state=State.SLEEPING),
    )


def after() -> Profile:
    return profile(
        sample(thread(7, "a"), SECOND, frame("fresh"), frame("main")),
        sample(thread(8, "b"), 3 * SECOND, frame("both"), frame("main"), state=State.SLEEPING),
    )


def page(one: Profile, two: Profile, **options: object) -> list[str]:
    stream = io.StringIO()
    write_difference(one, two, stream, ExportOptions(**options))  # type: ignore[arg-type]
    return stream.getvalue().splitlines()


def test_the_same_names_are_the_same_things() -> None:
    found = compare(before(), after(), normalize=False, per_thread=False)
    assert (found.total.before, found.total.after) == (3 * SECOND, 4 * SECOND)
    assert found.states[State.RUNNING].delta == -SECOND
    assert {label: change.delta for label, change in found.threads.items()} == {
        "a": -SECOND,
        "b": 2 * SECOND,
    }
    own = [(function.name, change.delta) for function, change in by_change(found.functions)]
    assert own == [("old", -2 * SECOND), ("both", 2 * SECOND), ("fresh", SECOND)]
    assert len(found.stacks) == 3


def test_the_schedulers_frames_and_addresses_do_not_tell_stacks_apart() -> None:
    def waiting(address: int, *leaf: str) -> Profile:
        kernel = [frame(name, FrameKind.KERNEL) for name in leaf]
        unnamed = Frame(f"libc.so.6+0x{address:x}", FrameKind.USER, address, "/l/libc.so.6")
        return profile(sample(thread(1), SECOND, *kernel, unnamed, state=State.SLEEPING))

    open_wait = waiting(0x10, "pipe_read", "do_syscall_64")
    whole = waiting(0x20, "__schedule", "schedule", "pipe_read.isra.0")
    found = compare(open_wait, whole, normalize=False, per_thread=False)
    [change] = found.stacks.values()
    assert (change.before, change.after) == (SECOND, SECOND)


def test_normalized_times_add_up_to_the_later_profiles() -> None:
    found = compare(before(), after(), normalize=True, per_thread=False)
    assert found.scale == Scale(4 * SECOND, 3 * SECOND)
    assert found.total.delta == 0
    assert abs(sum(change.delta for change in found.stacks.values())) <= len(found.stacks)
    empty = compare(profile(), after(), normalize=True, per_thread=False)
    assert empty.scale == Scale() and empty.total.after == 4 * SECOND


@given(st.integers(0, 2**63), st.integers(1, 2**63), st.integers(1, 2**63))
def test_scaling_is_exact_to_the_nanosecond(time: int, numerator: int, denominator: int) -> None:
    scaled = Scale(numerator, denominator)(time)
    assert abs(scaled * denominator - time * numerator) * 2 <= denominator


def test_the_page_shows_new_gone_and_changed() -> None:
    lines = page(before(), after())
    text = "\n".join(lines)
    assert lines[0].startswith("before  app (100), 2 threads over 1.000 s")
    rows = {line.split()[-1]: line.split() for line in lines if line.startswith("    ")}
    assert rows["old"] == ["2.00", "s", "-", "-2.00", "s", "gone", "old"]
    assert rows["fresh"] == ["-", "1.00", "s", "+1.00", "s", "new", "fresh"]
    assert " ".join(rows["both"]) == "1.00 s 3.00 s +2.00 s +200.0 % both"
    [all_row] = [line for line in lines if line.startswith("  all ")]
    assert "+1.00 s  +33.3 %" in all_row
    assert "multiplied" not in text
    assert max(map(len, lines)) <= 80


def test_bars_point_to_less_and_more() -> None:
    threads = page(before(), after())
    a, b = (next(line for line in threads if line.startswith(f"  {name} ")) for name in "ab")
    assert a.rstrip().endswith("│") and "█│" in a
    assert "│█" in b


def test_equal_profiles_have_nothing_to_show() -> None:
    lines = page(before(), before(), normalize=True)
    assert lines[-1].startswith("Stacks  none changed")
    assert "times before are multiplied by 1:" in lines[2]


def test_per_thread_tells_threads_apart() -> None:
    found = compare(before(), after(), normalize=False, per_thread=True)
    assert set(found.threads) == {"a-100/1", "b-100/2", "a-100/7", "b-100/8"}


def test_empty_and_huge_profiles() -> None:
    huge = profile(sample(thread(1, "\x1b漢" * 50), 2**63, frame("f" * 10_000)))
    for one, two in ((profile(), profile()), (profile(), huge), (huge, profile()), (huge, huge)):
        assert page(one, two, normalize=True, width=60)
    assert total_of(huge.samples) == 2**63


def test_a_format_writes_it_to_bytes() -> None:
    raw = io.BytesIO()
    by_name("text").write_difference(before(), after(), raw, ExportOptions())
    assert "│".encode() in raw.getvalue()
