"""The flame graph: well-formed, its widths add up, its text fits, whatever the profile."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import pytest

from systemscope.exporters import palette
from systemscope.exporters.formats import ExportOptions, by_path
from systemscope.exporters.svg import write, write_difference
from systemscope.exporters.svg_page import CELL, INNER, LINE, MARGIN
from systemscope.model import Frame, FrameKind, Gap, Profile, State
from tests.unit.fake_captures import SECOND, frame, profile, sample, thread

NS = "{http://www.w3.org/2000/svg}"
TITLE = re.compile(r"(?P<name>[^\n]*)\n(?P<ms>-?[\d,]+\.\d{3}) ms, (?P<percent>[\d.]+) %")


#: x, y, width, lines of the title, fill
Place = tuple[float, float, float, list[str], str]


class Drawn:
    """A picture read back."""

    def __init__(self, text: str) -> None:
        self.root = ElementTree.fromstring(text)
        self.boxes: list[Place] = []
        for group in self.root.iter(f"{NS}g"):
            rect, title = group.find(f"{NS}rect"), group.find(f"{NS}title")
            assert rect is not None and title is not None and title.text
            x, y, width = (float(rect.get(name, "")) for name in ("x", "y", "width"))
            fill = (group.get("class") or "").split()[0]
            self.boxes.append((x, y, width, title.text.split("\n"), fill))

    def named(self, name: str) -> Place:
        [found] = [box for box in self.boxes if box[3][0] == name]
        return found

    def rows(self) -> list[list[Place]]:
        """Boxes by row, the root's first, from left to right."""
        rows: dict[float, list[Place]] = {}
        for box in self.boxes:
            rows.setdefault(box[1], []).append(box)
        return [sorted(rows[y], key=lambda box: box[0]) for y in sorted(rows, reverse=True)]


def draw(of: Profile, **options: object) -> Drawn:
    stream = io.StringIO()
    write(of, stream, ExportOptions(**options))  # type: ignore[arg-type]
    return Drawn(stream.getvalue())


def compared(before: Profile, after: Profile, normalize: bool = False) -> Drawn:
    stream = io.StringIO()
    write_difference(before, after, stream, ExportOptions(normalize=normalize))
    return Drawn(stream.getvalue())


def simple() -> Profile:
    waits = [frame("pipe_read", FrameKind.KERNEL), frame("read"), frame("main")]
    return profile(
        sample(thread(1, "a"), 3 * SECOND, frame("burn"), frame("main")),
        sample(thread(1, "a"), 1_000, *waits, state=State.SLEEPING),
        sample(thread(2, "b"), 6 * SECOND, *waits, state=State.SLEEPING),
        sample(thread(2, "b"), SECOND, state=State.RUNNING, gap=Gap.NOT_SAMPLED),
    )


def test_widths_are_times() -> None:
    drawn = draw(simple())
    x, _, width, about, fill = drawn.named("all")
    assert (x, width, fill) == (MARGIN, INNER, "g")
    assert about[1] == "10,000.001 ms, 100.00 %"
    for name, share in (("a", 0.3), ("b", 0.7), ("burn", 0.3), ("pipe_read", 0.6)):
        assert drawn.named(name)[2] == pytest.approx(INNER * share, abs=0.01)
    # Heaviest first, and the callee above its caller.
    assert drawn.named("b")[0] < drawn.named("a")[0]
    assert drawn.named("read")[1] - drawn.named("pipe_read")[1] == LINE


def test_every_row_lies_within_the_one_below() -> None:
    rows = draw(simple()).rows()
    for below, above in zip(rows, rows[1:]):
        for x, _, width, _, _ in above:
            assert any(x >= bx - 0.01 and x + width <= bx + bw + 0.01 for bx, _, bw, _, _ in below)
        for one, two in zip(above, above[1:]):
            assert one[0] + one[2] <= two[0] + 0.02


def test_titles_add_up_to_the_threads_times() -> None:
    of = profile(
        *(
            sample(thread(t, f"t{t}"), 1_234_567 * (t + i + 40), frame(f"f{i}"), frame("main"))
            for t in range(5)
            for i in range(50)
        )
    )
    rows = draw(of).rows()
    sums = []
    for row in rows:
        parts = [TITLE.match("\n".join(about)) for _, _, _, about, _ in row]
        assert all(parts)
        sums.append(sum(int(re.sub("[,.]", "", part["ms"])) for part in parts if part))
    total = sum(one.nanoseconds for one in of.samples) // 1000
    assert all(abs(found - total) <= len(row) for found, row in zip(sums, rows))


def test_colours_tell_states_and_worlds() -> None:
    drawn = draw(simple())
    assert drawn.named("burn")[4] == f"s{int(State.RUNNING)}p"
    assert drawn.named("pipe_read")[4] == f"s{int(State.SLEEPING)}k"
    style = drawn.root.find(f"{NS}style")
    assert style is not None and style.text and "prefers-color-scheme:dark" in style.text
    text = "".join(drawn.root.itertext())
    assert "sleeping 60.0 %" in text and "losses: none" in text


def test_a_state_frame_only_if_asked() -> None:
    assert any(box[3][0] == "[running]" for box in draw(simple()).boxes)
    assert not any(box[3][0].startswith("[running") for box in draw(simple(), state=False).boxes)


def test_narrow_boxes_are_merged_and_lose_nothing() -> None:
    many = [sample(thread(1), 1_000, frame(f"f{i}"), frame("main")) for i in range(5000)]
    drawn = draw(profile(sample(thread(1), 5_000_000, frame("big"), frame("main")), *many))
    [merged] = [box for box in drawn.boxes if "too narrow" in box[3][0]]
    assert merged[3][:2] == ["5,000 too narrow", "5.000 ms, 50.00 %"]
    assert len(drawn.boxes) < 10


def test_deep_stacks_have_a_bounded_height_and_say_so() -> None:
    drawn = draw(profile(sample(thread(1), SECOND, *(frame(f"f{i}") for i in range(5000)))))
    assert float(drawn.root.get("height", "")) < 3000
    assert any(box[3][0] == "… 4,875 levels not drawn" for box in drawn.boxes)
    assert len(drawn.boxes) == 129


def test_text_fits_its_box() -> None:
    names = ["x" * 300, "漢字" * 40, "e\u0301" * 99, "ns::f<int, std::string>(char const*)"]
    of = profile(*(sample(thread(i), SECOND, frame(name)) for i, name in enumerate(names)))
    for group in draw(of).root.iter(f"{NS}g"):
        rect, text = group.find(f"{NS}rect"), group.find(f"{NS}text")
        if text is None or rect is None:
            continue
        room = float(rect.get("width", ""))
        length = float(text.get("textLength", len(text.text or "") * CELL))
        assert length <= room


@pytest.mark.parametrize(
    "name", ["</svg><script>", "]]>&amp;", "\x00\x1b\ud800\ufffe\uffff", "\u202e", "'\"", "", "\n"]
)
def test_hostile_names(name: str) -> None:
    of = profile(sample(thread(1, name), SECOND, Frame(name or "?", FrameKind.USER, module=name)))
    of.capture.command = of.capture.hostname = of.capture.kernel = name
    of.notes.append(name)
    of.capture.notes.append(name * 3)
    stream = io.BytesIO()
    by_path("a.svg").write_bytes(of, stream, ExportOptions(per_thread=True))
    drawn = Drawn(stream.getvalue().decode("utf-8"))
    assert not list(drawn.root.iter(f"{NS}script"))
    compared(of, simple())


@pytest.mark.parametrize(
    "of", [profile(), profile(sample(thread(1), 0, frame("f"))), profile(sample(thread(1), 2**63))]
)
def test_nothing_zero_and_too_much(of: Profile) -> None:
    assert draw(of).named("all")[2] == INNER
    assert compared(of, of).named("all")[2] == INNER


def test_the_same_profile_gives_the_same_picture() -> None:
    one, two = io.StringIO(), io.StringIO()
    write(simple(), one)
    write(simple(), two)
    assert one.getvalue() == two.getvalue()
    assert "<script" not in one.getvalue() and "http" not in one.getvalue().split("w3.org")[1]


def test_many_stacks_draw_a_bounded_number_of_boxes() -> None:
    frames = [frame(f"f{i}") for i in range(500)]
    samples = [
        sample(thread(1), 1000 + i, *(frames[(i * 7 + d * d) % 500] for d in range(12)))
        for i in range(20_000)
    ]
    drawn = draw(profile(*samples))
    assert len(drawn.boxes) < 2 * INNER * 14
    assert all(
        width >= 0.5 - 0.001 or "narrow" in about[0] for _, _, width, about, _ in drawn.boxes
    )


def test_a_difference_shows_new_gone_and_changed() -> None:
    before = profile(
        sample(thread(1), 2 * SECOND, frame("old")), sample(thread(1), SECOND, frame("both"))
    )
    after = profile(
        sample(thread(1), 3 * SECOND, frame("both")), sample(thread(1), SECOND, frame("fresh"))
    )
    drawn = compared(before, after)
    assert drawn.named("old")[3][1:] == [
        "2,000.000 ms before, 0.000 ms after", "-2,000.000 ms (gone)"
    ]  # fmt: skip
    assert drawn.named("fresh")[3][2] == "+1,000.000 ms (new)"
    assert drawn.named("both")[3][2] == "+2,000.000 ms (+200.0 %)"
    assert [drawn.named(name)[4] for name in ("old", "fresh", "both")] == ["d0", "d10", "d8"]
    # A box is as wide as its time before and after together.
    assert drawn.named("both")[2] == pytest.approx(INNER * 4 / 7, abs=0.01)


def test_a_difference_can_be_normalized() -> None:
    before = profile(sample(thread(1), SECOND, frame("f")))
    after = profile(sample(thread(1), 3 * SECOND, frame("f")))
    assert compared(before, after).named("f")[4] == "d8"
    drawn = compared(before, after, normalize=True)
    assert drawn.named("f")[4] == "d5"
    assert "multiplied by 3:" in "".join(drawn.root.itertext())


def test_text_is_readable_on_every_fill() -> None:
    shades = [palette.fill(state, world) for state in State for world in palette.World]
    shades += [palette.mixed(world) for world in palette.World] + [palette.group()]
    shades += [palette.change(step / 10) for step in range(-10, 11)]
    for shade in shades:
        assert contrast(palette.TEXT.light, shade.light) >= 4.5, shade
        assert contrast(palette.TEXT.dark, shade.dark) >= 4.5, shade


def contrast(one: str, two: str) -> float:
    """WCAG 2.1's contrast ratio of two colours as #rrggbb."""
    low, high = sorted((_luminance(one), _luminance(two)))
    return (high + 0.05) / (low + 0.05)


def _luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
