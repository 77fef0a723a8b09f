"""The page: what it shows, and that it is built on the same calls as the endpoints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="the page needs the extra 'app': pip install -e '.[app]'")
pytest.importorskip("spaces", reason="the page needs the extra 'app': pip install -e '.[app]'")

import gradio as gr

from spatialavatar.app.assistants import ASSISTANTS

from .conftest import REPOSITORY
from .support.fake_backend import FakeBackend


@pytest.fixture(scope="module")
def page() -> gr.Blocks:
    from spatialavatar.app.page import build_demo

    return build_demo(FakeBackend().backend())


def test_events_of_the_page_are_not_public_endpoints(page: gr.Blocks) -> None:
    names = {fn.api_name for fn in page.fns.values() if fn.api_visibility == "public"}
    texts = {function.__name__ for function in ASSISTANTS}  # what the MCP server has beside its tools
    assert names == {"generate", "refine", "drive", "track", "export", "info"} | texts


def test_all_work_shares_one_queue(page: gr.Blocks) -> None:
    working = [fn for fn in page.fns.values() if fn.api_name in ("generate", "refine", "drive", "track", "export")]
    assert {(fn.concurrency_id, fn.concurrency_limit) for fn in working} == {("gpu", 1)}


@pytest.mark.slow
def test_the_app_starts_in_little_more_time_than_its_libraries(tmp_path: Path) -> None:
    program = f"""
import os, runpy, time
import cv2, gradio as gr, httpx, numba, scipy.sparse.linalg, torch
libraries = time.process_time()
real = gr.Blocks.launch
def launch(self, **arguments):
    imported = time.process_time()
    _, url, _ = real(self, **arguments | dict(prevent_thread_lock=True, quiet=True))
    assert httpx.get(url, timeout=120).status_code == 200
    print("SECONDS", libraries, imported, time.process_time(), flush=True)
    os._exit(0)
gr.Blocks.launch = launch
runpy.run_path({str(REPOSITORY / "app.py")!r}, run_name="__main__")
"""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "GRADIO_TEMP_DIR": str(tmp_path)}

    def start() -> tuple[float, float]:
        """Processor time until imported and until shown, each divided by that of importing the libraries alone."""
        run = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        lines = [line for line in run.stdout.splitlines() if line.startswith("SECONDS")]
        assert lines, run.stdout + run.stderr
        libraries, imported, shown = map(float, lines[0].split()[1:])
        return imported / libraries, shown / libraries

    imported, shown = start()
    if imported >= 2.2 or shown >= 2.4:  # the first start of a new checkout compiles the kernels, once
        imported, shown = start()
    assert imported < 2.2
    assert shown < 2.4
