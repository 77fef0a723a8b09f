"""What the page and programs ask for: the same calls for both, each a stream of steps in a folder of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import gradio as gr

from spatialavatar.motion import is_motion_file
from spatialavatar_app.backend import Backend, DriveRequest, GenerateRequest
from spatialavatar_app.steps import Steps

_Request = TypeVar("_Request")

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PORTRAITS = {"Astronaut": "astronaut.png", "By the lake": "lake.jpg", "In the street": "street.jpg"}
MOTIONS = {"Talk": "talk.json", "Look around": "look_around.json", "Make faces": "expressions.json"}


class Service:
    """The calls behind the page and the endpoints.

    Each call yields steps and raises gr.Error with a sentence where the input cannot be used. The files that a step
    names live until the next step is asked for or the stream is closed; gradio copies them when they are yielded.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def generate(self, photos: Sequence[str]) -> Steps:
        """One to four photos of a person to an ``avatar`` file and its ``preview``."""
        if not photos:
            raise gr.Error("Give one to four photos of one person first.", print_exception=False)
        yield from _in_a_folder(self._backend.generate, lambda folder: GenerateRequest(tuple(photos), folder))

    def drive(
        self,
        avatar: str | None,
        motion: str,
        strength: float = 1.0,
        smoothing: float | None = None,
        relative: bool = True,
        size: int = 512,
    ) -> Steps:
        """An avatar file and a motion (a file, or the name of one of ``MOTIONS``) to a ``video``.

        ``smoothing`` is for videos; by default they are smoothed by 1 and motion files not at all.
        """
        if not avatar:
            raise gr.Error("Make an avatar first, or give an avatar file.", print_exception=False)
        source = str(EXAMPLES / "motions" / MOTIONS[motion]) if motion in MOTIONS else motion
        if is_motion_file(source):
            smoothing = 0.0
        elif smoothing is None:
            smoothing = 1.0

        def request(folder: str) -> DriveRequest:
            return DriveRequest(avatar, source, folder, strength, relative, smoothing, int(size))

        yield from _in_a_folder(self._backend.drive, request)


def _in_a_folder(work: Callable[[_Request], Steps], request: Callable[[str], _Request]) -> Steps:
    """The steps of ``work`` on a request for a temporary folder, which goes with the stream."""
    with tempfile.TemporaryDirectory(prefix="spatialavatar-") as folder:
        yield from work(request(folder))
