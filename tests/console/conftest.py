"""Chromium, as the system has it, and a server to look at."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from support.running_server import Server, null_server

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: make console")
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(f"no Chromium: none of {', '.join(_NAMES)} is installed")
    with playwright.sync_playwright() as made:
        # Root has no sandbox; the page is ours.
        opened = made.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def null() -> Iterator[Server]:
    with null_server("--workers", "2", "--oversubscribe", "--null-item-ms", "4") as server:
        yield server
