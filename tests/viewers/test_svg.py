"""The flame graph in a browser: it is drawn as said, its text fits, and it follows the theme."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from systemscope.exporters.formats import ExportOptions, by_name
from systemscope.model import FrameKind, Profile, State
from tests.unit.fake_captures import SECOND, frame, profile, sample, thread
from tests.viewers.browser import PHONE, Tab, serve

NAMES = [
    "std::vector<int>::push_back(int const&)",
    "漢字の関数名" * 4,
    "na\u0308me" * 12,
    "f" * 200,
]


def drawn() -> Profile:
    return profile(
        *(
            sample(thread(i, f"t{i}"), SECOND * (i + 1), frame(name), frame("main"))
            for i, name in enumerate(NAMES)
        ),
        *(
            sample(
                thread(9, "sleeper"), SECOND, frame(f"wait_{i}", FrameKind.KERNEL), frame("main"),
                state=State.SLEEPING,
            )
            for i in range(9)
        ),
    )  # fmt: skip


@pytest.fixture
def picture(tmp_path: Path) -> Iterator[str]:
    """The URL of a picture, and of page.html which shows it through <img>."""
    with open(tmp_path / "flame.svg", "wb") as raw:
        by_name("svg").write_bytes(drawn(), raw, ExportOptions())
    (tmp_path / "favicon.ico").touch()  # which browsers ask for
    (tmp_path / "page.html").write_text(
        '<!doctype html><meta name="color-scheme" content="light dark"><img src="flame.svg">'
    )
    with serve({"": tmp_path}) as url:
        yield url


def test_text_stays_inside_its_box(page: Callable[..., Tab], picture: str) -> None:
    tab = page()
    tab.page.goto(picture + "flame.svg")
    boxes = tab.page.evaluate(
        """() => [...document.querySelectorAll("g")].filter(g => g.querySelector("text")).map(g => {
            const rect = g.querySelector("rect").getBBox(), words = g.querySelector("text");
            const text = words.getBBox();
            return [rect.x, rect.width, text.x, text.width, words.textContent];
        })"""
    )
    assert len(boxes) >= 15
    for x, width, begin, length, words in boxes:
        assert x <= begin and begin + length <= x + width, words
    lines = tab.page.evaluate(
        """() => [...document.querySelectorAll("svg > text")].map(t => t.getBBox())
            .map(b => [b.x, b.x + b.width])"""
    )
    assert all(0 <= begin < end <= 1200 for begin, end in lines)
    assert not tab.errors


def test_pointing_at_a_box_tells_its_time(page: Callable[..., Tab], picture: str) -> None:
    tab = page()
    tab.page.goto(picture + "flame.svg")
    about = tab.page.evaluate(
        """() => {
            const text = [...document.querySelectorAll("g text")].find(
                (one) => one.textContent === "sleeper");
            const box = text.getBoundingClientRect();
            const hit = document.elementFromPoint(box.x + 2, box.y + 5);
            return hit.closest("g").querySelector("title").textContent;
        }"""
    )
    assert about == "sleeper\n9,000.000 ms, 47.37 %\nsleeping 100.00 %"


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_it_follows_the_theme_in_an_image(
    page: Callable[..., Tab], picture: str, scheme: str, dark: bool
) -> None:
    tab = page(color_scheme=scheme)
    tab.page.goto(picture + "page.html")
    corner = tab.page.evaluate(
        """async () => {
            const image = document.querySelector("img");
            await image.decode();
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            const pen = canvas.getContext("2d");
            pen.drawImage(image, 0, 0);
            return [canvas.width, [...pen.getImageData(3, 3, 1, 1).data]];
        }"""
    )
    width, (red, green, blue, alpha) = corner
    assert (width, alpha) == (1200, 255)
    assert (max(red, green, blue) < 60) == dark


def test_it_can_be_opened_on_a_phone(page: Callable[..., Tab], picture: str) -> None:
    tab = page(size=PHONE)
    tab.page.goto(picture + "flame.svg")
    assert tab.page.evaluate("document.querySelectorAll('g').length") > 20
    assert not tab.errors
