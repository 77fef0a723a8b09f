"""Work that takes no time, behind the real page and the real endpoints, and a server that runs them."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client
from PIL import Image

from spatialavatar.app.backend import Backend
from spatialavatar.app.requests import (
    EXPORTS,
    DriveRequest,
    ExportRequest,
    GenerateRequest,
    RefineRequest,
    TrackRequest,
)
from spatialavatar.app.steps import Step, Steps
from spatialavatar.app.still import StillRequest
from spatialavatar.export import save_html
from spatialavatar.media import VideoWriter

from .avatars import make_ball_avatar


class FakeBackend:
    """Writes toy files, and records the requests.

    Attributes:
        requests: in order.
        stills: requests for pictures, in order.
        stopped: times at which work was cancelled, seconds of the monotonic clock.
        endless: work does not end while this is true.
        error: raised by work after its first step.
        warnings: of a drive.
    """

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.stills: list[StillRequest] = []
        self.stopped: list[float] = []
        self.endless = False
        self.error: BaseException | None = None
        self.warnings: list[str] = []

    @property
    def last(self) -> Any:
        """The last request."""
        return self.requests[-1]

    def _steps(self, request: Any, message: str) -> Steps:
        self.requests.append(request)
        try:
            yield Step(0.1, message)
            if self.error:
                raise self.error
            while self.endless:
                time.sleep(0.02)
                yield Step(0.2, message)
        except GeneratorExit:
            self.stopped.append(time.monotonic())
            raise

    def _avatar(self, folder: str) -> dict[str, str]:
        avatar, preview = Path(folder) / "avatar.safetensors", Path(folder) / "preview.png"
        make_ball_avatar(16).save(avatar)
        Image.new("RGB", (8, 8), (0, 200, 0)).save(preview)
        return {"avatar": str(avatar), "preview": str(preview)}

    def _picture(self, folder: str, name: str) -> str:
        path = Path(folder) / name
        Image.new("RGB", (64, 64), (0, 120, 200)).save(path)
        return str(path)

    def still(self, request: StillRequest) -> bytes:
        """A black picture."""
        self.stills.append(request)
        picture = io.BytesIO()
        Image.new("RGBA", (64, 64), (0, 0, 0, 255)).save(picture, "webp", lossless=True)
        return picture.getvalue()

    def generate(self, request: GenerateRequest) -> Steps:
        """A ball."""
        yield from self._steps(request, "Finding the face")
        # The avatar contains the names of its photos, so that a test can identify it.
        names = [Path(path).name for path in request.photos]
        seen = {f"seen_{i}": self._picture(request.folder, f"seen_{i}.jpg") for i in range(len(names))}
        yield Step(0.5, "Found the face", seen, {"photos": [[f"{name} is small."] for name in names]})
        yield Step(1.0, "Done", self._avatar(request.folder), {"warnings": [f"Made of {', '.join(names)}."]})

    def refine(self, request: RefineRequest) -> Steps:
        """The same ball."""
        yield from self._steps(request, "Refining")
        for count in range(10, 60, 10):
            files = self._avatar(request.folder) if count == 30 else {}
            yield Step(count / 100, "Refining", files, {"iteration": count, "losses": {"l1": 1.0 / count}})
        yield Step(1.0, "Done", self._avatar(request.folder), {"iterations": request.iterations, "warnings": []})

    def drive(self, request: DriveRequest) -> Steps:
        """Two frames, black and white."""
        yield from self._steps(request, "Rendering")
        out = Path(request.folder) / "driven.mp4"
        with VideoWriter(out, (request.size, request.size), 25.0) as writer:
            for shade in (0, 255):
                writer.write(np.full((request.size, request.size, 3), shade, np.uint8))
        yield Step(1.0, "Done", {"video": str(out)}, {"frames": 2, "fps": 25.0, "held": 0, "warnings": self.warnings})

    def track(self, request: TrackRequest) -> Steps:
        """An empty file."""
        yield from self._steps(request, "Looking")
        out = Path(request.folder) / f"motion.{request.form}"
        out.write_text("{}", encoding="utf-8")
        yield Step(1.0, "Done", {"motion": str(out)}, {"frames": 2, "fps": 25.0, "held": 0, "warnings": []})

    def export(self, request: ExportRequest) -> Steps:
        """Empty files, and the web page of a ball."""
        yield from self._steps(request, "Writing")
        files = {form: str(Path(request.folder) / EXPORTS[form]) for form in request.forms}
        for form, path in files.items():
            if form == "html":
                save_html(make_ball_avatar(16), path)
            else:
                Path(path).write_text("ply", encoding="utf-8")
        yield Step(1.0, "Done", files, {"gaussians": 4})

    def backend(self) -> Backend:
        """What the page and the endpoints are built on."""
        return Backend(
            self.generate,
            self.refine,
            self.drive,
            self.track,
            self.export,
            avatar_facts=lambda path: {"avatar": Path(path).name},
            still=self.still,
        )


class RunningApp:
    """The app on a free port.

    Attributes:
        url: its address, with a slash at the end.
        cache: where gradio keeps visitors' files.
        fake: the work behind it.
    """

    def __init__(self, url: str, cache: Path, downloads: Path, fake: FakeBackend) -> None:
        self.url, self.cache, self.fake = url, cache, fake
        self._downloads = downloads

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A visitor of their own, who leaves at the end."""
        client = Client(self.url, verbose=False, download_files=str(self._downloads))
        try:
            yield client
        finally:
            client.close()

    def files(self) -> set[Path]:
        """All files that visitors have on the server."""
        return {Path(folder) / name for folder, _, names in os.walk(self.cache) for name in names}

    def visitors_results(self) -> list[str]:
        """What lies in the folders of visitors, also while the server deletes some of them."""
        walk = os.walk(self.cache)
        return [
            name
            for folder, folders, names in walk
            if Path(folder).name.startswith("visitor-")
            for name in folders + names
        ]


@contextmanager
def running_app(folder: Path) -> Iterator[RunningApp]:
    """Run the page and the endpoints on a fake backend, with its files under ``folder``."""
    from spatialavatar.app.page import build_demo, launch_options

    patch = pytest.MonkeyPatch()
    cache = folder / "cache"
    patch.setenv("GRADIO_TEMP_DIR", str(cache))
    patch.setenv("GRADIO_HEARTBEAT_INTERVAL", "0.5")  # how soon a client's leaving is noticed
    fake = FakeBackend()
    demo = build_demo(fake.backend())
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    try:
        yield RunningApp(url, cache, folder / "downloads", fake)
    finally:
        demo.close()
        patch.undo()
