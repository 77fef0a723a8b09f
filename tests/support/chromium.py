"""The browser that pages are tested in: Chromium, by way of Playwright; importing this skips where that is missing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="the page is tested with the extra 'dev': pip install -e '.[dev]'"
)
if TYPE_CHECKING:
    from playwright.sync_api import Browser, Frame, Page

PATIENCE = 60_000  # milliseconds; only a failure takes that long
sync_api.expect.set_options(timeout=PATIENCE)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; install the package 'chromium'")

FLAGS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


def until(page: Page | Frame, condition: str) -> None:
    """Wait for a condition in an avatar's page, whose policy forbids Playwright's own way."""
    end = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser without a window."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
