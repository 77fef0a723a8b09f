"""Take the pictures of the web page that the README shows, from a running app, with people from ``examples/``.

Needs the extra 'dev' and a Chromium. Start ``python app.py`` first.

    PYTHONPATH=. python scripts/picture_page.py http://127.0.0.1:7860 docs/images
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from tests.support.chromium import launched

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE = 300_000  # milliseconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    with launched() as browser:
        wide(browser, options.url, options.folder)
        phone(browser, options.url, options.folder)


def visit(browser: Browser, url: str, size: tuple[int, int], scheme: str) -> Page:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(url)
    page.get_by_role("button", name="Make the avatar").wait_for()
    page.wait_for_function("document.fonts.status === 'loaded'")
    return page


def create(page: Page, example: str) -> None:
    page.get_by_role("button", name=example).click()
    page.get_by_label("agreed").and_(page.locator(":checked")).wait_for()
    page.get_by_role("button", name="Make the avatar").click()


def by_hand(page: Page, mood: str) -> None:
    page.get_by_text("Your avatar is ready").wait_for()
    page.locator("#steps").get_by_role("tab", name="Drive").click()
    page.get_by_role("tab", name="By hand").click()
    page.frame_locator("iframe.sa-live").locator("#controls").wait_for()
    page.get_by_role("button", name=mood).click()
    frame = next(frame for frame in page.frames if frame.parent_frame is not None)
    frame.evaluate("spatialAvatar.render()")


def shot(page: Page) -> Image.Image:
    page.wait_for_timeout(600)
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def wide(browser: Browser, url: str, folder: Path) -> None:
    page = visit(browser, url, (1440, 940), "light")
    create(page, "By the lake")
    page.locator(".sa-contact").wait_for()
    shot(page).save(folder / "page-create.jpg", quality=84, optimize=True)
    by_hand(page, "Wink")
    shot(page).save(folder / "page-drive.jpg", quality=84, optimize=True)


def phone(browser: Browser, url: str, folder: Path) -> None:
    """Three screens beside one another, in the dark."""
    page = visit(browser, url, (390, 844), "dark")
    screens = [shot(page)]
    create(page, "In the street")
    by_hand(page, "Surprise")
    screens.append(shot(page))
    page.get_by_role("tab", name="Example").click()
    page.get_by_role("button", name="Make the video").click()
    page.get_by_text("Your video is ready").wait_for()
    page.wait_for_function("document.querySelector('.sa-film').currentTime > 1")
    page.locator("#steps").get_by_role("tab", name="Save").click()
    page.get_by_role("button", name="Save the 3D file").wait_for()
    screens.append(shot(page))
    sheet = Image.new("RGB", (3 * 390 + 2 * 24, 844), "white")
    for index, screen in enumerate(screens):
        sheet.paste(screen, (index * (390 + 24), 0))
    sheet.save(folder / "page-phone.jpg", quality=84, optimize=True)


if __name__ == "__main__":
    main()
