"""The work behind the page and the endpoints, as module-level functions on plain values.

On ZeroGPU a decorated function runs in a forked process with a GPU: what it takes and gives is pickled, and the time
asked for is paid from the visitor's quota. So only what uses a GPU is decorated, and for as long as its work takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import spaces
from PIL import Image

from spatialavatar import Avatar, DriveConfig, drive, generate
from spatialavatar_app.steps import Report, Steps, steps_of


@dataclass(frozen=True)
class GenerateRequest:
    """Photos of one person to an avatar.

    Attributes:
        photos: paths of one to four.
        folder: where to write ``avatar.safetensors`` and ``preview.png``.
    """

    photos: tuple[str, ...]
    folder: str


@dataclass(frozen=True)
class DriveRequest:
    """An avatar and a motion to a video.

    Attributes:
        avatar: an avatar file.
        motion: a video, a motion file or a saved track.
        folder: where to write ``driven.mp4``.
        strength, relative, smoothing, size: as in ``DriveConfig``.
    """

    avatar: str
    motion: str
    folder: str
    strength: float = 1.0
    relative: bool = True
    smoothing: float = 1.0
    size: int = 512


@dataclass(frozen=True)
class Backend:
    """The pieces of work; each yields steps, the last of which names the files that it wrote."""

    generate: Callable[[GenerateRequest], Steps]
    drive: Callable[[DriveRequest], Steps]


@spaces.GPU(duration=60)
def generate_steps(request: GenerateRequest) -> Steps:
    """Photos to an avatar file and its preview."""

    def work(report: Report) -> None:
        avatar = generate(list(request.photos), progress=report)
        image, _ = avatar.render(background=avatar.shape.new_ones(3))
        preview = Path(request.folder) / "preview.png"
        Image.fromarray((image.clamp(0, 1) * 255).byte().cpu().numpy()).save(preview)
        path = avatar.save(Path(request.folder) / "avatar.safetensors")
        files = {"avatar": str(path), "preview": str(preview)}
        report(1.0, "Done", files, warnings=list(avatar.info.get("warnings", ())))

    yield from steps_of(work)


@spaces.GPU(duration=120)
def drive_steps(request: DriveRequest) -> Steps:
    """An avatar file and a motion to a video."""

    def work(report: Report) -> None:
        config = DriveConfig(
            strength=request.strength, relative=request.relative, smoothing=request.smoothing, size=request.size
        )
        out = Path(request.folder) / "driven.mp4"
        done = drive(Avatar.load(request.avatar), request.motion, out, config, progress=report)
        facts = {"frames": done.frames, "fps": done.fps, "held": done.held, "warnings": list(done.warnings)}
        report(1.0, "Done", {"video": str(done.path)}, **facts)

    yield from steps_of(work)


def default_backend() -> Backend:
    """This package's own."""
    return Backend(generate_steps, drive_steps)
