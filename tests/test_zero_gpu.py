"""The app as on ZeroGPU: forked workers, pickled requests, requested seconds, errors and stops across the fork."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the page needs the extra 'app': pip install -e '.[app]'")
pytest.importorskip("spaces", reason="the page needs the extra 'app': pip install -e '.[app]'")

import torch

from spatialavatar.app import backend
from spatialavatar.motion import Motion, write_motion

from .conftest import REPOSITORY
from .support.avatars import make_grey_avatar

SHORT, LONG = 150, 3000  # the short one is still long enough for the client to see it being rendered


def still_motion(frames: int) -> Motion:
    return Motion(torch.zeros(frames, 52), torch.zeros(frames, 3), torch.zeros(frames, 3), 25.0)


@pytest.fixture(scope="module")
def happened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if sys.platform != "linux":
        pytest.skip("ZeroGPU is Linux")
    folder = tmp_path_factory.mktemp("zero")
    avatar = make_grey_avatar().save(folder / "avatar.safetensors")
    for name, frames in (("short", SHORT), ("long", LONG)):
        write_motion(still_motion(frames), folder / f"{name}.json")
    files = [str(folder), str(avatar), str(folder / "short.json"), str(folder / "long.json")]
    run = subprocess.run(
        [sys.executable, "-m", "tests.support.zero_gpu_run", *files],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    lines = [line for line in run.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, run.stdout + run.stderr
    return json.loads(lines[0].removeprefix("RESULT "))


def test_work_on_a_gpu_runs_in_a_worker_and_its_file_reaches_the_client(happened: dict[str, Any]) -> None:
    assert happened["workers"]
    assert happened["main"] not in happened["workers"]
    assert (happened["frames"], happened["bytes"] > 1000) == (SHORT, True)


def test_progress_of_a_worker_reaches_the_client(happened: dict[str, Any]) -> None:
    assert any(text.startswith("Rendering") for text in happened["messages"]), happened["messages"]


def test_requested_gpu_seconds_depend_on_the_frames(happened: dict[str, Any]) -> None:
    request = backend.DriveRequest("a", "b", "c", size=256)
    short, long = (backend.render_seconds(request, "", None, frames, 0.0) for frames in (SHORT, LONG))
    factor = happened["seconds_short"] / short  # ZeroGPU's own, for the GPU it lends
    assert factor >= 1.0
    assert happened["seconds_long"] == pytest.approx(factor * long, abs=1.0)
    assert long > short


def test_gpu_seconds_grow_with_the_work_up_to_the_daily_quota() -> None:
    def refine(iterations: int, size: int) -> int:
        return backend.optimise_seconds(backend.RefineRequest("a", "b", "c", iterations, size), "", 0.0)

    def drive(frames: int, size: int) -> int:
        return backend.render_seconds(backend.DriveRequest("a", "b", "c", size=size), "", None, frames, 0.0)

    assert drive(100, 512) < drive(1000, 512) < drive(1000, 768) <= 120
    assert refine(300, 256) < refine(1500, 256) < refine(1500, 512) <= refine(10**6, 512) <= 120


def test_an_error_in_a_worker_keeps_its_sentence(happened: dict[str, Any]) -> None:
    assert "There is no track at" in happened["error"]


def test_a_stop_frees_the_worker_before_the_work_is_done(happened: dict[str, Any]) -> None:
    frame = int(happened["stopped_at"].split()[2])
    assert frame < LONG / 10
    assert happened["freed_after"] < 10.0  # two seconds, on a machine that has nothing else to do
    assert not happened["left"]


def test_the_page_names_the_borrowed_gpu(happened: dict[str, Any]) -> None:
    assert "borrowed" in happened["where"]
