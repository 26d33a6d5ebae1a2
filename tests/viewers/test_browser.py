"""The viewers themselves: what the other tests rely on works here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tests.viewers.browser import Tab, in_perfetto, in_speedscope, serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_a_page_of_a_local_file_and_its_errors(page: Callable[..., Tab], tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<p>here</p><script>console.error('no')</script>")
    tab = page((390, 844), color_scheme="dark")
    with serve({"files": tmp_path}) as url:
        tab.page.goto(url + "files/a.html")
        assert tab.page.inner_text("p") == "here"
        assert tab.page.evaluate("innerWidth") == 390
    assert "no" in tab.errors


def test_perfetto_answers_sql_in_exact_integers(browser: Browser, tmp_path: Path) -> None:
    slices = [{"ph": "X", "name": "a", "pid": 1, "tid": 1, "ts": 1, "dur": 2.5}]
    (tmp_path / "t.json").write_text(json.dumps({"traceEvents": slices}))
    with in_perfetto(browser, tmp_path / "t.json") as opened:
        assert opened.query("select name, dur from slice") == [{"name": "a", "dur": 2500}]


def test_speedscope_tells_what_it_imported(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "t.folded").write_text("a;b;c 3\na;b 4\nd 5\n")
    with in_speedscope(browser, tmp_path / "t.folded") as opened:
        [only] = opened.profiles
    assert (only.total, only.unit) == (12, "none")
    assert (only.roots, only.leaves) == ({"a": 7, "d": 5}, {"c": 3, "b": 4, "d": 5})
