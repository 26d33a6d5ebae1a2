"""Our speedscope files in speedscope itself, and the folded ones it reads as well."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from systemscope.exporters.formats import ExportOptions, by_name
from systemscope.model import Gap, Profile, State
from tests.unit.fake_captures import frame, profile, sample, thread
from tests.viewers.browser import in_speedscope

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOSTILE = 'a"\\\x1b[2J\n\u202e\ud800;</script><img src=x onerror=alert(1)>'


def example() -> Profile:
    busy, idle, odd = thread(1, "busy"), thread(2, "idle"), thread(3, HOSTILE)
    return profile(
        sample(busy, 3_000_000, frame("leaf"), frame("main")),
        sample(busy, 4_000_000, frame("other"), frame("main")),
        sample(busy, 5_000, gap=Gap.NOT_SAMPLED),
        sample(idle, 900_000_000, frame("poll"), frame("main"), state=State.SLEEPING),
        sample(odd, 70_000, frame(HOSTILE), frame("recurse"), frame("recurse"), state=State.DISK),
    )


def saved(of: Profile, path: Path, name: str) -> Path:
    with path.open("wb") as raw:
        by_name(name).write_bytes(of, raw, ExportOptions())
    return path


def test_speedscope_imports_every_profile_to_the_nanosecond(
    browser: Browser, tmp_path: Path
) -> None:
    file = saved(example(), tmp_path / "a.speedscope.json", "speedscope")
    with in_speedscope(browser, file) as opened:
        assert opened.tab.errors == []
        assert opened.active == 0
        whole, idle_or_busy = opened.profiles[0], opened.profiles[1:]
    assert whole.unit == "nanoseconds"
    assert whole.total == 907_075_000
    assert whole.roots["busy"] == 7_005_000 and whole.roots["idle"] == 900_000_000
    assert whole.leaves == {
        "[running]": 7_005_000,
        "[sleeping]": 900_000_000,
        "[disk]": 70_000,
    }
    assert [one.total for one in idle_or_busy] == [7_005_000, 900_000_000, 70_000]
    assert idle_or_busy[0].name == "busy-100/1"
    assert idle_or_busy[0].roots == {"main": 7_000_000, "[not sampled]": 5_000}


@pytest.mark.parametrize("view", ["time-ordered", "left-heavy", "sandwich"])
def test_every_view_draws(browser: Browser, tmp_path: Path, view: str) -> None:
    file = saved(example(), tmp_path / "a.speedscope.json", "speedscope")
    with in_speedscope(browser, file, view=view) as opened:
        opened.tab.page.wait_for_timeout(200)
        assert "all threads" in opened.tab.page.inner_text("body")
        assert opened.tab.errors == []


def test_an_empty_profile_opens(browser: Browser, tmp_path: Path) -> None:
    file = saved(profile(), tmp_path / "a.speedscope.json", "speedscope")
    with in_speedscope(browser, file) as opened:
        assert [one.total for one in opened.profiles] == [0]


def test_sums_beyond_a_double_are_rounded_not_refused(browser: Browser, tmp_path: Path) -> None:
    ones = [sample(thread(tid), (1 << 63) - 1, frame("f")) for tid in range(3)]
    file = saved(profile(*ones), tmp_path / "a.speedscope.json", "speedscope")
    with in_speedscope(browser, file) as opened:
        assert opened.profiles[0].total == pytest.approx(3 * 2.0**63, rel=1e-15)


def test_speedscope_imports_folded_stacks(browser: Browser, tmp_path: Path) -> None:
    file = saved(example(), tmp_path / "a.folded", "folded")
    with in_speedscope(browser, file) as opened:
        [only] = opened.profiles
        assert opened.tab.errors == []
    assert only.total == 907_075
    assert only.roots["idle"] == 900_000 and only.roots["busy"] == 7_005
    assert only.leaves == {"[running]": 7_005, "[sleeping]": 900_000, "[disk]": 70}
