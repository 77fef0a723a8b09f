"""The page: photos to an avatar, and the avatar driven by a motion. Holds no maths; ``endpoints`` does the asking."""

from __future__ import annotations

import gradio as gr

from spatialavatar_app.backend import Backend, default_backend
from spatialavatar_app.endpoints import EXAMPLES, GPU_QUEUE, MOTIONS, PORTRAITS, Service, add_endpoints
from spatialavatar_app.sessions import MAX_AGE, Sessions

SIZES = (256, 512, 768)

INTRODUCTION = """
# SpatialAvatar
One to four photos of a person become a 3D head that moves like a video or a motion file tells it to.
Use pictures of people who agree to it. Uploads and results are deleted after an hour.
[How it works](https://arxiv.org/abs/2606.15659)
"""


def build_demo(backend: Backend | None = None) -> gr.Blocks:
    """The page, on ``backend`` (by default this package)."""
    service = Service(backend or default_backend())

    def make_avatar(photos: list[tuple[str, str | None]] | None, progress: gr.Progress = gr.Progress()):  # noqa: ANN202
        """Make an avatar from one to four photos of one person.

        Args:
            photos: the photos, in any order.
        """
        for step in service.generate([path for path, _ in photos or ()]):
            progress(step.fraction, desc=step.message)
            yield step.files.get("avatar", gr.skip()), step.files.get("preview", gr.skip())

    def drive_avatar(  # noqa: ANN202
        avatar: str | None,
        motion: str,
        own_motion: str | None,
        strength: float,
        smoothing: float,
        relative: bool,
        size: int,
        progress: gr.Progress = gr.Progress(),
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
        for step in service.drive(avatar, own_motion or motion, strength, smoothing, relative, size):
            progress(step.fraction, desc=step.message)
            yield step.files.get("video", gr.skip())

    with gr.Blocks(title="SpatialAvatar", analytics_enabled=False, delete_cache=(600, int(MAX_AGE))) as demo:
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
            make_avatar,
            [photos],
            [avatar, preview],
            api_visibility="private",
            concurrency_id=GPU_QUEUE,
            concurrency_limit=1,
        )
        moving = move.click(
            drive_avatar,
            [avatar, motion, own_motion, strength, smoothing, relative, size],
            [video],
            api_visibility="private",
            concurrency_id=GPU_QUEUE,
            concurrency_limit=1,
        )
        stop_making.click(None, cancels=[making], api_visibility="private")
        stop_moving.click(None, cancels=[moving], api_visibility="private")

        sessions = Sessions(demo.upload_file_set)
        add_endpoints(service, sessions)

        def leave(request: gr.Request) -> None:
            sessions.close(request.session_hash)

        demo.unload(leave)
    return demo
