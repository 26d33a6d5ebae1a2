"""Fixtures of the browser: one a test file, and pages that close with their test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Callable

import pytest

from tests.viewers.browser import DESKTOP, Tab, launched, open_tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A running chromium."""
    with launched() as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Callable[..., Tab]]:
    """``page(size=(1280, 800), **context)`` opens an empty page; its errors are in ``.errors``."""
    tabs: list[Tab] = []

    def opened(size: tuple[int, int] = DESKTOP, **context: Any) -> Tab:
        tabs.append(open_tab(browser, size, **context))
        return tabs[-1]

    yield opened
    for tab in tabs:
        tab.close()
