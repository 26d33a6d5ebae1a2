"""Unit tests leave nothing in the user's cache directory."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests that are about the cache set the variable themselves."""
    before = os.environ.get("SYSTEMSCOPE_CACHE")
    os.environ["SYSTEMSCOPE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    del os.environ["SYSTEMSCOPE_CACHE"]
    if before is not None:
        os.environ["SYSTEMSCOPE_CACHE"] = before
