"""The page of docs/guide/embed.md shows a pushed avatar: from a Hub that serves HTML as text, inside another origin."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spatialavatar.export import save_html

from .support.chromium import needs_chromium
from .support.fake_hub import FakeHub, running_hub
from .support.painted_avatar import painted_avatar

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = needs_chromium

REPO = "you/your-avatar"
DOCUMENT = Path(__file__).parents[1] / "docs" / "guide" / "embed.md"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    """A Hub with a public avatar whose page was pushed, and a private one."""
    page = save_html(painted_avatar(64), tmp_path_factory.mktemp("web") / "avatar.html").read_bytes()
    with running_hub() as hub:
        hub.add(REPO, {"avatar.html": page})
        hub.add("you/private", {"avatar.html": page}, private=True)
        yield hub


def embedding(hub: FakeHub, repo: str = REPO) -> str:
    """The page of the document, for a repository on this Hub."""
    (snippet,) = re.findall(r"```html\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    address = f"https://huggingface.co/{REPO}/"
    assert snippet.count(address) == 1
    return snippet.replace(address, f"{hub.url}/{repo}/")


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[[str], Page]]:
    """Opens a page from a server of its own, whose origin is not the Hub's."""
    shown = [""]

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(shown[0].encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    page = browser.new_page()

    def open_page(html: str) -> Page:
        shown[0] = html
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        return page

    yield open_page
    page.close()
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_documents_page_is_as_short_as_it_says(hub: FakeHub) -> None:
    assert len(embedding(hub).splitlines()) <= 10


@pytest.mark.parametrize("sandboxed", [True, False])
def test_the_documents_page_shows_a_pushed_avatar_that_moves(
    opened: Callable[[str], Page], hub: FakeHub, sandboxed: bool
) -> None:
    html = embedding(hub)
    page = opened(html if sandboxed else re.sub(r'sandbox="[^"]*"', "", html))
    page.wait_for_function("document.querySelector('iframe').srcdoc.length > 0")
    frame = page.frames[1]
    frame.locator("#controls").wait_for()
    still, moved = (
        frame.evaluate(
            """async (weights) => {
                spatialAvatar.setExpression(weights);
                await spatialAvatar.render({ width: 64, height: 64 });
                return document.getElementById("canvas").toDataURL("image/png");
            }""",
            weights,
        )
        for weights in ({}, {"jawOpen": 1})
    )
    assert still != moved
    reached = page.evaluate("(() => { try { return !!frames[0].spatialAvatar; } catch { return false; } })()")
    assert reached != sandboxed


def test_a_private_avatar_is_named_in_the_frame_instead_of_shown(opened: Callable[[str], Page], hub: FakeHub) -> None:
    page = opened(embedding(hub, "you/private"))
    page.wait_for_function("document.querySelector('iframe').srcdoc.length > 0")
    page.frames[1].wait_for_function("document.body.textContent.includes('cannot be fetched')")


def test_the_hubs_own_address_in_a_frame_would_show_the_source(opened: Callable[[str], Page], hub: FakeHub) -> None:
    page = opened(f'<iframe src="{hub.url}/{REPO}/resolve/main/avatar.html"></iframe>')
    frame = page.frames[1]
    frame.wait_for_load_state()
    assert frame.evaluate("document.contentType") == "text/plain"
    assert not frame.evaluate("'spatialAvatar' in window")
