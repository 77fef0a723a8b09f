"""The page: what it shows, and that it is built on the same calls as the endpoints."""

from __future__ import annotations

import pytest

pytest.importorskip("gradio", reason="the page needs the extra 'app': pip install -e '.[app]'")
pytest.importorskip("spaces", reason="the page needs the extra 'app': pip install -e '.[app]'")

import gradio as gr

from .fake_backend import FakeBackend


@pytest.fixture(scope="module")
def page() -> gr.Blocks:
    from spatialavatar_app.page import build_demo

    return build_demo(FakeBackend().backend())


def test_what_the_page_itself_does_is_no_endpoint(page: gr.Blocks) -> None:
    names = {fn.api_name for fn in page.fns.values() if fn.api_visibility == "public"}
    assert names == {"generate", "refine", "drive", "track", "export", "info"}


def test_work_waits_in_one_queue_whoever_asks(page: gr.Blocks) -> None:
    working = [fn for fn in page.fns.values() if fn.api_name in ("generate", "refine", "drive", "track", "export")]
    assert {(fn.concurrency_id, fn.concurrency_limit) for fn in working} == {("gpu", 1)}
