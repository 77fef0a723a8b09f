"""The page: its endpoints, its errors and its stop buttons, on a fake backend that takes no time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="the page needs the extra 'app': pip install -e '.[app]'")
pytest.importorskip("spaces", reason="the page needs the extra 'app': pip install -e '.[app]'")
pytest.importorskip("gradio_client")

import gradio as gr
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from spatialavatar.errors import NoFaceError
from spatialavatar.media import VideoReader
from spatialavatar_app.backend import Backend, DriveRequest, GenerateRequest
from spatialavatar_app.page import build_demo
from spatialavatar_app.steps import Report, Step, Steps, steps_of

from .test_avatar import make_ball_avatar


class FakeBackend:
    """Writes a toy avatar and a two-frame video, and notes what it was asked for."""

    def __init__(self) -> None:
        self.photos: list[str] = []
        self.request: DriveRequest | None = None
        self.closed = 0
        self.endless = False
        self.error: Exception | None = None

    def generate(self, request: GenerateRequest) -> Steps:
        self.photos = list(request.photos)
        yield Step(0.5, "Finding the face")
        if self.error:
            raise self.error
        folder = Path(request.folder)
        make_ball_avatar(16).save(folder / "avatar.safetensors")
        Image.new("RGB", (8, 8), (0, 200, 0)).save(folder / "preview.png")
        files = {"avatar": str(folder / "avatar.safetensors"), "preview": str(folder / "preview.png")}
        yield Step(1.0, "Done", files)

    def drive(self, request: DriveRequest) -> Steps:
        import numpy as np

        from spatialavatar.media import VideoWriter

        self.request = request
        try:
            while self.endless:
                time.sleep(0.02)
                yield Step(0.1, "Rendering")
            out = str(Path(request.folder) / "driven.mp4")
            with VideoWriter(out, (request.size, request.size), 25.0) as writer:
                for shade in (0, 255):
                    writer.write(np.full((request.size, request.size, 3), shade, np.uint8))
                    yield Step(0.5, "Rendering")
            yield Step(1.0, "Done", {"video": out})
        except GeneratorExit:
            self.closed += 1
            raise


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, FakeBackend]]:
    patch = pytest.MonkeyPatch()
    patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
    backend = FakeBackend()
    demo = build_demo(Backend(backend.generate, backend.drive))
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, run_history=False)
    client = Client(url, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))
    yield client, backend
    client.close()
    demo.close()
    patch.undo()


@pytest.fixture
def photo(examples: Path) -> dict[str, object]:
    return {"image": handle_file(str(examples / "portraits" / "lake.jpg")), "caption": None}


@pytest.fixture
def avatar_path(page: tuple[Client, FakeBackend], photo: dict[str, object]) -> str:
    return page[0].predict([photo], api_name="/generate")[0]


def drive_arguments(avatar: str, **changes: object) -> dict[str, object]:
    values: dict[str, object] = {
        "avatar": handle_file(avatar),
        "motion": "Talk",
        "own_motion": None,
        "strength": 1.0,
        "smoothing": 1.0,
        "relative": True,
        "size": 256,
    }
    return values | changes


def test_the_public_endpoints_are_generate_and_drive(page: tuple[Client, FakeBackend]) -> None:
    endpoints = page[0].view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(endpoints) == {"/generate", "/drive"}
    names = [parameter["parameter_name"] for parameter in endpoints["/drive"]["parameters"]]
    assert names == ["avatar", "motion", "own_motion", "strength", "smoothing", "relative", "size"]


def test_photos_become_an_avatar_file_and_a_preview(page: tuple[Client, FakeBackend], photo: dict[str, object]) -> None:
    client, backend = page
    avatar, preview = client.predict([photo, photo], api_name="/generate")
    assert len(backend.photos) == 2
    assert Path(avatar).suffix == ".safetensors"
    assert Image.open(preview).size == (8, 8)


def test_an_avatar_becomes_a_video(page: tuple[Client, FakeBackend], avatar_path: str) -> None:
    client, backend = page
    video = client.predict(api_name="/drive", **drive_arguments(avatar_path, motion="Look around", strength=0.5))
    assert len(list(VideoReader(video["video"] if isinstance(video, dict) else video))) == 2
    assert backend.request is not None
    assert Path(backend.request.motion).name == "look_around.json"
    assert (backend.request.strength, backend.request.size, backend.request.smoothing) == (0.5, 256, 0.0)


def test_drive_needs_only_the_avatar_and_what_to_do(page: tuple[Client, FakeBackend], avatar_path: str) -> None:
    client, backend = page
    client.predict(avatar=handle_file(avatar_path), motion="Make faces", own_motion=None, api_name="/drive")
    assert backend.request is not None
    assert Path(backend.request.motion).name == "expressions.json"
    assert (backend.request.strength, backend.request.relative, backend.request.size) == (1.0, True, 512)


def test_an_own_video_goes_before_the_example_motion(
    page: tuple[Client, FakeBackend], avatar_path: str, examples: Path
) -> None:
    client, backend = page
    clip = handle_file(str(examples / "clips" / "moods.mp4"))
    client.predict(api_name="/drive", **drive_arguments(avatar_path, own_motion=clip, smoothing=2.0))
    assert backend.request is not None
    assert Path(backend.request.motion).name == "moods.mp4"
    assert backend.request.smoothing == 2.0


def test_results_are_not_left_outside_the_cache(page: tuple[Client, FakeBackend], avatar_path: str) -> None:
    client, backend = page
    client.predict(api_name="/drive", **drive_arguments(avatar_path))
    assert backend.request is not None
    assert not Path(backend.request.folder).exists()


@pytest.mark.parametrize("endpoint", ["/generate", "/drive"])
def test_missing_input_is_answered_with_a_sentence(page: tuple[Client, FakeBackend], endpoint: str) -> None:
    arguments = {"photos": []} if endpoint == "/generate" else drive_arguments(__file__) | {"avatar": None}
    with pytest.raises(AppError, match="first"):
        page[0].predict(api_name=endpoint, **arguments)


def test_an_error_of_the_work_reaches_the_visitor_as_its_sentence() -> None:
    def work(report: Report) -> None:
        report(0.1, "Finding the face")
        raise NoFaceError("There is no face in a.jpg; give a portrait.")

    with pytest.raises(gr.Error, match="There is no face in"):
        list(steps_of(work))


def test_stopping_closes_the_work(page: tuple[Client, FakeBackend], avatar_path: str) -> None:
    client, backend = page
    backend.endless, before = True, backend.closed
    try:
        job = client.submit(api_name="/drive", **drive_arguments(avatar_path))
        deadline = time.monotonic() + 20
        while not job.outputs() and time.monotonic() < deadline:
            time.sleep(0.05)
        job.cancel()
        while backend.closed == before and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        backend.endless = False
    assert backend.closed == before + 1


def test_closing_the_steps_stops_the_work_at_its_next_report() -> None:
    reached: list[float] = []

    def work(report: Report) -> None:
        for count in range(1000):
            report(count / 1000, "Working")
            reached.append(count)
            time.sleep(0.005)

    steps = steps_of(work)
    next(steps)
    steps.close()
    stopped_at = len(reached)
    time.sleep(0.05)
    assert len(reached) == stopped_at < 100


def test_the_space_installs_nothing_that_the_platform_brings(repository: Path) -> None:
    lines = (repository / "requirements.txt").read_text().splitlines()
    names = {line.split("==")[0].split(">=")[0].strip() for line in lines if line and not line.startswith("#")}
    assert not names & {"gradio", "spaces", "huggingface_hub", "huggingface-hub"}
    assert {"torch", "numpy", "ai-edge-litert", "onnxruntime"} <= names


def test_the_readme_configures_the_space(repository: Path) -> None:
    front = (repository / "README.md").read_text(encoding="utf-8").split("---")[1]
    fields = dict(line.split(": ", 1) for line in front.strip().splitlines() if ": " in line and line[0] != " ")
    assert fields["sdk"] == "gradio"
    assert fields["app_file"] == "app.py"
    assert fields["license"] == "apache-2.0"
    assert len(fields["short_description"]) <= 60
