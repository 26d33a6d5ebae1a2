"""The html page in a browser: clicked through, by mouse, keyboard and finger."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from systemscope.exporters.formats import ExportOptions, by_name
from systemscope.model import (
    Delay,
    DelayKind,
    Frame,
    FrameKind,
    Gap,
    Losses,
    Process,
    Profile,
    State,
)
from tests.unit.fake_captures import SECOND, capture, frame, sample, thread
from tests.viewers.browser import DESKTOP, PHONE, launched, open_tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DIALOG = '<img src=x onerror="window.hacked=1"></script><script>window.hacked=1</script>'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as running:
        yield running


def made() -> Profile:
    """Two processes: 10 s of thread time whose shares are easy to tell, and a hostile one."""
    main = thread(100, "main", time={})
    helper = thread(101, "helper", time={})
    other = thread(200, DIALOG, 200, time={})
    read = (frame("pipe_read", FrameKind.KERNEL), frame("read"), frame("loop"), frame("start"))
    burn = (Frame("burn", FrameKind.USER, module="app", file="a.c", line=7), *read[2:])
    of = capture()
    of.threads = [main, helper, other]
    of.processes = {100: Process(100, "app"), 200: Process(200, DIALOG)}
    of.command = "app --flag"
    of.losses = Losses(walks_failed=2)
    main.delays = {DelayKind.BLOCK_IO: Delay(3, 5_000_000)}
    return Profile(
        of,
        [
            sample(main, 4 * SECOND, *burn),
            sample(main, SECOND, *burn, state=State.RUNNABLE),
            sample(main, 2 * SECOND + 123_456_789, *read, state=State.SLEEPING),
            sample(helper, 2 * SECOND, *read, state=State.SLEEPING),
            sample(helper, SECOND - 123_456_789, state=State.SLEEPING, gap=Gap.SHORT_WAITS),
            sample(other, 7_000, frame(DIALOG), state=State.DISK),
        ],
    )


@contextmanager
def opened(
    browser: Browser, directory: Path, of: Profile, size: tuple[int, int] = DESKTOP, **context: Any
) -> Iterator[Page]:
    """``of`` as a page, from disk. At the end it must have asked for nothing and logged nothing."""
    path = directory / "page.html"
    with path.open("wb") as raw:
        by_name("html").write_bytes(of, raw, ExportOptions())
    with shown(browser, path, size, **context) as page:
        yield page


@contextmanager
def shown(
    browser: Browser, path: Path, size: tuple[int, int] = DESKTOP, **context: Any
) -> Iterator[Page]:
    tab = open_tab(browser, size, reduced_motion="reduce", **context)
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    try:
        tab.page.goto(path.as_uri())
        assert tab.page.evaluate("window.systemscope !== undefined"), tab.errors
        yield tab.page
        assert tab.page.evaluate("window.hacked") is None
        assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
        assert tab.errors == []
    finally:
        tab.close()


def total(page: Page) -> float:
    """Nanoseconds of the graph's root."""
    return float(page.evaluate("window.systemscope.store.tree.value[0]"))


def names(page: Page) -> list[str]:
    """The names of the graph's boxes, in preorder of their keys' first appearance."""
    found: list[str] = page.evaluate(
        """() => { const {tree, keys} = window.systemscope.store;
        return Array.from(tree.key, (key) => keys.label(key)); }"""
    )
    return found


def point(page: Page, name: str) -> tuple[float, float]:
    """The middle of the widest box called ``name``, on the page."""
    x, y = page.evaluate(
        """(name) => { const {store, graph} = window.systemscope, {flame} = graph;
        const {tree, keys} = store;
        let node = -1;
        for (let at = 0; at < tree.count; at++)
            if (keys.label(tree.key[at]) === name)
                if (node < 0 || tree.value[at] > tree.value[node]) node = at;
        const box = document.getElementById("flame").getBoundingClientRect();
        const scale = flame.width / (flame.to - flame.from);
        return [box.left + (tree.x[node] + tree.value[node] / 2 - flame.from) * scale,
                box.top + flame.rowTop(tree.depth[node]) + 10]; }""",
        name,
    )
    return x, y


def crumbs(page: Page) -> list[str]:
    return [" ".join(text.split()) for text in page.locator("#crumbs button").all_inner_texts()]


def plain(text: str) -> str:
    """Thin spaces are for the eye."""
    return text.replace("\u2009", " ")


def test_the_totals_are_exact(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, made()) as page:
        page.click("#tab-summary")
        text = plain(page.inner_text("#panel-summary"))
        assert "10,000.007 ms" in text and "5,000.000 ms" in text  # all, sleeping
        assert "stack walks that failed: 2" in text
        assert "1 kind of loss" in page.inner_text("#facts")
        assert total(page) == 10 * SECOND + 7_000


def test_sums_beyond_what_a_double_counts_are_exact(browser: Browser, tmp_path: Path) -> None:
    of = made()
    of.samples = [sample(of.capture.threads[0], (1 << 63) + n, frame("f")) for n in range(3)]
    exact = sum(one.nanoseconds for one in of.samples)
    with opened(browser, tmp_path, of) as page:
        page.click("#tab-summary")
        shown_ms = plain(page.inner_text("#kept-0")).replace(",", "")
        assert shown_ms == f"{exact // 1_000_000}.{exact // 1000 % 1000:03d} ms"


def test_zoom_by_click_crumb_keys_and_back(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, made()) as page:
        page.mouse.click(*point(page, "burn"))
        assert crumbs(page)[-1] == "burn"
        assert plain(page.inner_text("#details")).find("5,000.000 ms") > 0
        assert page.evaluate("window.systemscope.graph.flame.to") < total(page)
        page.keyboard.press("Escape")
        assert crumbs(page)[-1] == "loop"
        page.go_back()
        page.wait_for_selector("#crumbs [aria-current] >> text=burn")
        page.locator("#crumbs button").first.click()
        assert crumbs(page) == ["all threads"]


def test_what_is_too_narrow_is_drawn_where_it_lies(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, made()) as page:
        drawn = page.evaluate(
            """() => { const {flame, store} = window.systemscope.graph, drawn = [];
            flame.context.fillRect = (x, y, width) => drawn.push([x, width]);
            for (const [left, right] of [[-50, -10], [-50, 20], [30, 30.5], [30, 90]])
                flame.drawSkipped(store.tree, 0, left, right);
            delete flame.context.fillRect;
            return drawn; }"""
        )
        assert drawn == [[0, 20], [30, 60]]


def test_the_tooltip_tells_exact_times(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, made()) as page:
        page.mouse.move(*point(page, "burn"))
        text = plain(page.inner_text("#tooltip"))
        for part in ("burn", "app · a.c:7", "5,000.000 ms", "50.0 %", "running", "4,000.000 ms"):
            assert part in text
        page.mouse.move(5, 5)
        assert page.locator("#tooltip").is_hidden()


def test_search_shows_the_share(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, made()) as page:
        page.keyboard.press("/")
        page.keyboard.type("PIPE_")
        page.wait_for_selector("#share >> text=name")
        assert plain(page.inner_text("#share")).startswith("41.2 % · 4.12 s")
        page.keyboard.press("Enter")
        assert "pipe_read" in page.inner_text("#details")
        page.fill("#search", "^(burn|pipe_read)$")
        page.click("#regex")
        page.wait_for_selector("#share >> text=2 names")
        page.fill("#search", "(")
        page.wait_for_selector("#share >> text=not a regular expression")
        page.fill("#search", "nothing like it")
        page.click("#tab-functions")
        page.wait_for_selector("text=Nothing here matches the search.")


def test_filters_by_state_process_and_thread(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, made()) as page:
        page.get_by_role("button", name="On CPU").click()
        assert total(page) == 4 * SECOND
        page.click("#reset")
        page.locator("#state-chips").get_by_text("sleeping").click()
        assert total(page) == 5 * SECOND + 7_000
        page.click("#reset")
        page.locator("#thread-list").get_by_label("helper 101", exact=True).uncheck()
        assert total(page) == 7 * SECOND + 123_456_789 + 7_000
        page.get_by_role("button", name="Only helper 101").click()
        assert total(page) == 3 * SECOND - 123_456_789
        page.fill("#thread-search", "no such")
        page.wait_for_selector("text=no process or thread of this name")
        page.fill("#thread-search", "")
        page.wait_for_selector("#thread-list .thread")
        page.click("#threads-none")
        assert page.locator("#graph-empty").is_visible()
        page.click("#empty-reset")
        assert total(page) == 10 * SECOND + 7_000


def test_arrangement(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, made()) as page:
        assert names(page)[1] in ("app (100)",) and "[running]" in names(page)
        page.select_option("[data-field=stateAt]", label="as colour only")
        assert "[running]" not in names(page)
        page.select_option("[data-field=group]", label="process, thread")
        assert "helper 101" in names(page)
        page.select_option("[data-field=group]", label="nothing")
        assert names(page)[1] == "start"
        page.keyboard.press("r")
        assert "burn" in names(page)[:2] and total(page) == 10 * SECOND + 7_000
        page.keyboard.press("i")
        assert page.evaluate("window.systemscope.graph.flame.rowTop(0)") > 100
        for sort in ("name", "time"):
            page.select_option("[data-field=sort]", label=sort)
        page.select_option("[data-field=colour]", label="kernel, library")
        assert "kernel" in page.inner_text("#legend")
        page.select_option("[data-field=hide]", label="< 24 px")


def test_a_function_is_focused_with_its_callers(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, made()) as page:
        page.click("#tab-functions")
        page.locator("#panel-functions").get_by_role("button", name="pipe_read").click()
        assert total(page) == 4 * SECOND + 123_456_789
        assert "calls of pipe_read" in crumbs(page)[0]
        page.keyboard.press("r")
        assert "callers of pipe_read" in crumbs(page)[0] and "start" in names(page)
        page.keyboard.press("Escape")
        assert total(page) == 10 * SECOND + 7_000


def test_tables(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, made()) as page:
        page.keyboard.press("3")
        rows = page.locator("#panel-threads table").first.locator("tbody tr")
        assert "main 100" in rows.first.inner_text()
        page.get_by_role("button", name="Thread", exact=True).first.click()
        assert page.locator("#panel-threads [aria-sort=ascending]").count() == 1
        assert "5.00 ms \u00d73" in plain(page.inner_text("#panel-threads .delays"))
        page.get_by_role("button", name="helper 101", exact=True).click()
        assert total(page) == 3 * SECOND - 123_456_789
        page.click("#reset")
        page.keyboard.press("4")
        waits = page.locator("#panel-waits tbody tr")
        assert "pipe_read" in waits.first.inner_text()
        waits.first.locator("summary").click()
        page.wait_for_selector("#panel-waits ol >> text=loop")


def test_a_wait_is_not_told_by_its_missing_root(browser: Browser, tmp_path: Path) -> None:
    mark = Frame("[truncated stack]", FrameKind.PSEUDO)
    sleeps = (frame("pipe_read", FrameKind.KERNEL), frame("vfs_read", FrameKind.KERNEL))
    of = made()
    main = of.capture.threads[0]
    of.samples = [
        sample(main, 2 * SECOND, *sleeps, mark, state=State.SLEEPING),
        sample(main, SECOND, *sleeps, frame("loop"), mark, state=State.SLEEPING),
    ]
    with opened(browser, tmp_path, of) as page:
        assert "[truncated stack]" in names(page), "it is in the graph"
        page.locator("#tab-waits").click()
        told = page.locator("#panel-waits tbody tr summary").all_inner_texts()
        assert "pipe_read" in told[0] and "vfs_read" in told[0], "the kernel is all there is"
        assert "pipe_read" in told[1] and "loop" in told[1] and "vfs_read" not in told[1]
        assert not any("truncated" in text for text in told)


def test_keyboard_alone(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, made()) as page:
        for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown"):
            page.keyboard.press(key)
        assert "burn" in page.inner_text("#details")
        page.keyboard.press("ArrowRight")
        assert "read" in (page.text_content("#announce") or "")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")
        assert crumbs(page)[-1] == "loop"
        page.keyboard.press("Home")
        assert crumbs(page) == ["all threads"]
        page.keyboard.press("?")
        assert page.locator("#help-dialog").is_visible()
        page.keyboard.press("Escape")
        assert page.locator("#help-dialog").is_hidden()


def test_dark_as_the_system_and_by_button(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, made(), color_scheme="dark") as page:
        theme = "document.documentElement.dataset.theme"
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert page.evaluate(theme) == "dark"
        page.click("#theme")
        assert page.evaluate(theme) == "light"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark


def test_a_phone(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, made(), PHONE, has_touch=True, is_mobile=True) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        assert page.locator("#sidebar").is_hidden()
        page.tap("#filters")
        page.get_by_role("button", name="Only helper 101").tap()
        page.tap("#sidebar-close")
        assert total(page) == 3 * SECOND - 123_456_789
        page.tap("#reset")
        spot = point(page, "burn")
        page.touchscreen.tap(*spot)
        assert crumbs(page) == ["all threads"] and "burn" in page.inner_text("#details")
        page.touchscreen.tap(*spot)
        assert crumbs(page)[-1] == "burn"


def test_nothing_to_show(browser: Browser, tmp_path: Path) -> None:
    of = made()
    of.samples = []
    of.capture.threads = []
    with opened(browser, tmp_path, of) as page:
        assert "holds no thread time" in page.inner_text("#graph-empty")
        for key in "2345":
            page.keyboard.press(key)
        assert page.get_by_role("tab", name="Summary").get_attribute("aria-selected") == "true"


def test_one_giant_stack(browser: Browser, tmp_path: Path) -> None:
    of = made()
    deep = tuple(frame(f"f{number % 700}") for number in range(20_000))
    of.samples = [sample(of.capture.threads[0], SECOND, *deep)]
    with opened(browser, tmp_path, of) as page:
        assert page.evaluate("window.systemscope.store.tree.deepest") == 20_002
        page.keyboard.press("i")
        page.keyboard.press("r")
        assert total(page) == SECOND


def test_a_difference(browser: Browser, tmp_path: Path) -> None:
    before, after = made(), made()
    after.samples[0] = sample(after.capture.threads[0], 6 * SECOND, *before.samples[0].frames)
    path = tmp_path / "difference.html"
    with path.open("wb") as raw:
        by_name("html").write_difference(before, after, raw, ExportOptions())
    with shown(browser, path) as page:
        assert total(page) == 12 * SECOND + 7_000
        page.mouse.move(*point(page, "burn"))
        text = plain(page.inner_text("#tooltip"))
        for part in ("5,000.000 ms", "7,000.000 ms", "+2,000.000 ms", "+40.0 %"):
            assert part in text
        page.select_option("[data-field=width]", label="before")
        assert total(page) == 10 * SECOND + 7_000
        page.get_by_role("button", name="Normalized").click()
        assert total(page) == pytest.approx(12 * SECOND + 7_000, abs=10)
        page.get_by_role("button", name="Absolute").click()
        page.click("#tab-functions")
        row = plain(page.locator("#panel-functions tbody tr", has_text="burn").inner_text())
        assert re.search(r"5\.00 s\s+7\.00 s\s+\+2\.00 s\s+\+40\.0 %", row)
        for key in "345":
            page.keyboard.press(key)
