"""Our folded stacks in flamegraph.pl and in a consumer written after difffolded.pl's rules."""

from __future__ import annotations

import io
import re
import subprocess
from pathlib import Path

from systemscope.exporters.folded import FoldedOptions, write
from systemscope.model import FrameKind, Profile, State
from tests.unit.fake_captures import frame, profile, sample, thread
from tests.viewers.browser import flamegraph, require
from tests.viewers.test_speedscope import example


def folded(of: Profile, **options: bool) -> str:
    stream = io.StringIO()
    write(of, stream, FoldedOptions(**options))
    return stream.getvalue()


def drawn(text: str, *options: str) -> str:
    """The SVG flamegraph.pl makes of ``text``; it must have nothing to complain about."""
    done = subprocess.run(
        [require("perl"), str(flamegraph()), *options],
        input=text.encode(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == b"", done.stderr.decode()
    return done.stdout.decode()


def boxes(svg: str) -> dict[str, int]:
    """Each function's widest box, from the titles."""
    found: dict[str, int] = {}
    for name, value in re.findall(r"<title>(.*?) \(([\d,]+) \S+, [\d.]+%\)</title>", svg):
        found[name] = max(found.get(name, 0), int(value.replace(",", "")))
    return found


def test_flamegraph_draws_every_microsecond() -> None:
    seen = boxes(drawn(folded(example()), "--countname", "us", "--minwidth", "0"))
    assert seen["all"] == 907_075
    assert (seen["busy"], seen["idle"], seen["poll"]) == (7_005, 900_000, 900_000)
    assert (seen["[sleeping]"], seen["[not sampled]"], seen["[disk]"]) == (900_000, 5, 70)


def test_marks_stay_part_of_the_names() -> None:
    one = sample(
        thread(1, "w"),
        7_000,
        frame("schedule", FrameKind.KERNEL),
        frame("inner", inlined=True),
        frame("jitted", FrameKind.JIT),
        frame("main"),
    )
    svg = drawn(folded(profile(one), annotate=True), "--color", "java", "--countname", "us")
    assert {"schedule_[k]", "inner_[i]", "jitted_[j]"} <= set(boxes(svg))


class DiffFolded:
    """What difffolded.pl does: two counts a stack, optionally normalised to the second total,
    hexadecimal addresses made equal. Written from its manual."""

    _LINE = re.compile(r"^\s*(.*)\s+?(\d+(?:\.\d*)?)\s*$")

    def __init__(self, before: str, after: str, strip_hex: bool = False) -> None:
        self.totals = [0.0, 0.0]
        self.stacks: dict[str, list[float]] = {}
        for column, text in enumerate((before, after)):
            for line in text.splitlines():
                matched = self._LINE.match(line)
                assert matched, line
                stack, value = matched[1], float(matched[2])
                if strip_hex:
                    stack = re.sub(r"0x[0-9a-fA-F]+", "0x...", stack)
                self.stacks.setdefault(stack, [0.0, 0.0])[column] += value
                self.totals[column] += value

    def lines(self, normalise: bool = False) -> str:
        """stack, count before, count after."""
        scale = self.totals[1] / self.totals[0] if normalise else 1.0
        rows = [f"{stack} {int(a * scale)} {int(b)}" for stack, (a, b) in self.stacks.items()]
        return "\n".join(rows) + "\n"


def test_a_difference_of_two_profiles() -> None:
    one, two = thread(1, "w 1"), thread(2, "idle")
    hex_name = "libx.so+0x1f 12"
    before = profile(sample(one, 4_000, frame("f")), sample(two, 6_000, frame(hex_name)))
    after = profile(
        sample(one, 9_000, frame("f")),
        sample(two, 10_000, frame("g 7"), state=State.SLEEPING),
        sample(two, 1_000, frame(hex_name)),
    )
    options = {"state": False, "annotate": True}
    found = DiffFolded(folded(before, **options), folded(after, **options))
    assert found.totals == [10, 20]
    assert found.stacks == {
        "w_1;f": [4, 9],
        "idle;libx.so+0x1f_12": [6, 1],
        "idle;g_7": [0, 10],
    }
    stripped = DiffFolded(folded(before), folded(after), strip_hex=True)
    assert "idle;libx.so+0x... 12;[running]" in stripped.stacks
    svg = drawn(found.lines(normalise=True), "--minwidth", "0", "--countname", "us")
    titles = re.findall(r"<title>([^<]*)</title>", svg)
    assert any(re.match(r"f \(9 us, .*; \+5\.00%\)", title) for title in titles), titles


def test_others_programs_read_a_large_file(tmp_path: Path) -> None:
    one = thread(1)
    of = profile(*[sample(one, 1_000, frame(f"f{i % 97}"), frame(f"g{i}")) for i in range(20_000)])
    seen = boxes(drawn(folded(of), "--countname", "us", "--minwidth", "0"))
    assert seen["all"] == 20_000
