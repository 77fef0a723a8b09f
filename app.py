"""The web page: photos to an avatar, and the avatar driven by a motion. Holds no maths; the package does the work.

Runs as a Hugging Face Space (with or without ZeroGPU) and on any machine: ``python app.py``.
"""

from __future__ import annotations

import os

# Set before they are read: faces are nobody's telemetry, and numba must not touch CUDA ahead of ZeroGPU's fork.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("NUMBA_DISABLE_CUDA", "1")

import queue
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import spaces
from PIL import Image

from spatialavatar import Avatar, DriveConfig, SpatialAvatarError, drive, generate
from spatialavatar.motion import is_motion_file

EXAMPLES = Path(__file__).resolve().parent / "examples"
PORTRAITS = {"Astronaut": "astronaut.png", "By the lake": "lake.jpg", "In the street": "street.jpg"}
MOTIONS = {"Talk": "talk.json", "Look around": "look_around.json", "Make faces": "expressions.json"}
SIZES = (256, 512, 768)

INTRODUCTION = """
# SpatialAvatar
One to four photos of a person become a 3D head that moves like a video or a motion file tells it to.
Use pictures of people who agree to it. Uploads and results are deleted after an hour.
[How it works](https://arxiv.org/abs/2606.15659)
"""

Steps = Iterator[tuple[float, str]]
Report = Callable[[float, str], None]


@dataclass(frozen=True)
class DriveRequest:
    """What the page asks of a drive; plain values, since it crosses a process boundary on ZeroGPU."""

    avatar: str
    motion: str
    out: str
    strength: float
    relative: bool
    smoothing: float
    size: int


@dataclass(frozen=True)
class Backend:
    """The two steps behind the page. Each yields (fraction, message) while it writes its files.

    Attributes:
        generate: photo paths and the avatar path to write; also writes a ``.png`` preview beside it.
        drive: what to drive, and where to.
    """

    generate: Callable[[list[str], str], Steps]
    drive: Callable[[DriveRequest], Steps]


class _Cancelled(BaseException):
    """Raised inside the work when nobody waits for it any more; no handler of errors may swallow it."""


def steps_of(work: Callable[[Report], None]) -> Steps:
    """Run ``work`` in a thread and yield its progress; closing the generator stops the work at its next report.

    Raises:
        gr.Error: with the sentence of the error that the work raised.
    """
    reports: queue.Queue[tuple[float, str] | None] = queue.Queue()
    cancelled = threading.Event()
    failure: list[BaseException] = []

    def report(fraction: float, message: str) -> None:
        if cancelled.is_set():
            raise _Cancelled
        reports.put((fraction, message))

    def run() -> None:
        try:
            work(report)
        except BaseException as error:
            failure.append(error)
        finally:
            reports.put(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while (step := reports.get()) is not None:
            yield step
    finally:
        cancelled.set()
        thread.join()
    if failure:
        error = failure[0]
        # Only a gr.Error crosses ZeroGPU's process boundary with its text.
        if isinstance(error, SpatialAvatarError):
            raise gr.Error(str(error), title="That did not work", print_exception=False)
        raise error


@spaces.GPU(duration=60)
def generate_steps(photos: list[str], out: str) -> Steps:
    """Photos to an avatar file and its preview."""

    def work(report: Report) -> None:
        avatar = generate(photos, progress=report)
        image, _ = avatar.render(background=avatar.shape.new_ones(3))
        Image.fromarray((image.clamp(0, 1) * 255).byte().cpu().numpy()).save(Path(out).with_suffix(".png"))
        avatar.save(out)

    yield from steps_of(work)


@spaces.GPU(duration=120)
def drive_steps(request: DriveRequest) -> Steps:
    """An avatar file and a motion to a video."""

    def work(report: Report) -> None:
        config = DriveConfig(
            strength=request.strength, relative=request.relative, smoothing=request.smoothing, size=request.size
        )
        drive(Avatar.load(request.avatar), request.motion, request.out, config, progress=report)

    yield from steps_of(work)


def build_demo(backend: Backend | None = None) -> gr.Blocks:
    """The page, on ``backend`` (by default this package)."""
    backend = backend or Backend(generate_steps, drive_steps)

    def make_avatar(photos: list[tuple[str, str | None]] | None, progress: gr.Progress = gr.Progress()):  # noqa: ANN202, B008
        """Make an avatar from one to four photos of one person.

        Args:
            photos: the photos, in any order.
        """
        if not photos:
            raise gr.Error("Give one to four photos of one person first.", print_exception=False)
        with tempfile.TemporaryDirectory() as folder:
            out = str(Path(folder) / "avatar.safetensors")
            for fraction, message in backend.generate([path for path, _ in photos], out):
                progress(fraction, desc=message)
                yield gr.skip(), gr.skip()
            yield out, str(Path(out).with_suffix(".png"))

    def drive_avatar(  # noqa: ANN202
        avatar: str | None,
        motion: str,
        own_motion: str | None,
        strength: float,
        smoothing: float,
        relative: bool,
        size: int,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ):
        """Make an avatar move.

        Args:
            avatar: an avatar file.
            motion: one of the example motions, used where no own motion is given.
            own_motion: a driving video, or a motion file (.json, .csv).
            strength: of the expression; 0 freezes the face, 1 is as performed.
            smoothing: of a driving video's motion; 0 is none.
            relative: move relative to the driver's neutral face and pose.
            size: width and height of the video in pixels.
        """
        if not avatar:
            raise gr.Error("Make an avatar first, or give an avatar file.", print_exception=False)
        source = own_motion or str(EXAMPLES / "motions" / MOTIONS[motion])
        with tempfile.TemporaryDirectory() as folder:
            out = str(Path(folder) / "driven.mp4")
            smooth = 0.0 if is_motion_file(source) else smoothing
            request = DriveRequest(avatar, source, out, strength, relative, smooth, int(size))
            for fraction, message in backend.drive(request):
                progress(fraction, desc=message)
                yield gr.skip()
            yield out

    with gr.Blocks(title="SpatialAvatar", analytics_enabled=False, delete_cache=(3600, 3600)) as demo:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column():
                label = "1 · Photos of one person (1 to 4)"
                photos = gr.Gallery(
                    label=label, type="filepath", file_types=["image"], columns=4, height=300, fit_columns=False
                )
                gr.Examples(
                    [[[str(EXAMPLES / "portraits" / name)]] for name in PORTRAITS.values()],
                    inputs=[photos],
                    example_labels=list(PORTRAITS),
                    cache_examples=False,
                    label="Example photos",
                )
                with gr.Row():
                    make = gr.Button("Make the avatar", variant="primary")
                    stop_making = gr.Button("Stop")
            with gr.Column():
                preview = gr.Image(
                    label="2 · Avatar", interactive=False, height=300, format="png", buttons=["download", "fullscreen"]
                )
                avatar = gr.File(label="Avatar file (keep it, or upload one)", file_types=[".safetensors"], height=130)
        with gr.Row():
            with gr.Column():
                motion = gr.Radio(list(MOTIONS), value="Talk", label="3 · Motion")
                own_motion = gr.File(
                    label="or your own: a video, or a motion file", file_types=["video", ".json", ".csv"], height=150
                )
                with gr.Accordion("Settings", open=False):
                    strength = gr.Slider(0.0, 2.0, 1.0, step=0.05, label="Strength of the expression")
                    smoothing = gr.Slider(0.0, 5.0, 1.0, step=0.1, label="Smoothing of a video's motion")
                    relative = gr.Checkbox(True, label="Relative to the driver's neutral face and pose")
                    size = gr.Dropdown(SIZES, value=512, label="Size of the video")
                with gr.Row():
                    move = gr.Button("Make it move", variant="primary")
                    stop_moving = gr.Button("Stop")
            with gr.Column():
                video = gr.Video(label="4 · Video", interactive=False, autoplay=True, loop=True, height=420)

        making = make.click(
            make_avatar, [photos], [avatar, preview], api_name="generate", concurrency_id="gpu", concurrency_limit=1
        )
        moving = move.click(
            drive_avatar,
            [avatar, motion, own_motion, strength, smoothing, relative, size],
            [video],
            api_name="drive",
            concurrency_id="gpu",
            concurrency_limit=1,
        )
        stop_making.click(None, cancels=[making], api_visibility="private")
        stop_moving.click(None, cancels=[moving], api_visibility="private")
    return demo


if __name__ == "__main__":
    # run_history would keep visitors' faces in their browser.
    build_demo().launch(run_history=False, max_file_size="200mb", theme="soft")
