"""The demo: an example photo becomes an avatar that talks, looks around and makes faces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from spatialavatar.avatar import Avatar
from spatialavatar.driving import DriveConfig, drive
from spatialavatar.examples import example
from spatialavatar.files import make_folder
from spatialavatar.media import VideoReader, read_image
from spatialavatar.motion import Motion, load_motion
from spatialavatar.pipeline import generate
from spatialavatar.progress import Progress, no_progress
from spatialavatar.provenance import save_png
from spatialavatar.records import as_uint8_image
from spatialavatar.tracking import track_photo

DEMO_PHOTO = "portraits/astronaut.png"
DEMO_MOTIONS = ("talk", "look_around", "expressions")

_CELL = 256
_COLUMNS, _ROWS = 6, 3


def run_demo(
    folder: str | Path,
    *,
    photos: Sequence[str | Path] | None = None,
    size: int = 512,
    progress: Progress | None = None,
) -> tuple[Path, Path, Path]:
    """Write ``demo.safetensors`` (the avatar), ``demo.mp4`` and ``demo.png`` (a contact sheet) into ``folder``.

    Args:
        folder: created if it does not exist.
        photos: one to four photos of one person; by default the example portrait.
        size: width and height of the video, pixels.
        progress: called with (fraction, message).

    Returns:
        The paths of the video, the sheet and the avatar.

    Raises:
        MissingAssetError: the installation does not contain the examples.
        OutputError: the folder cannot be written.
    """
    report = progress or no_progress
    sources = [Path(photo) for photo in photos] if photos else [example(DEMO_PHOTO)]
    motions = [load_motion(example(f"motions/{name}.json")) for name in DEMO_MOTIONS]
    folder = make_folder(folder)
    avatar = generate(sources, progress=lambda fraction, message: report(0.2 * fraction, message))
    avatar_path = avatar.save(folder / "demo.safetensors")
    video, sheet = folder / "demo.mp4", folder / "demo.png"
    drive(
        avatar,
        Motion.cat(motions, "demo").to_track(avatar.head),
        video,
        DriveConfig(size=size, smoothing=0.0),
        progress=lambda fraction, message: report(0.2 + 0.78 * fraction, message),
    )
    report(0.98, "Making the contact sheet")
    tracked = track_photo(read_image(sources[0]), avatar.head, name=sources[0].name)
    save_png(sheet, contact_sheet(tracked.require_pictures().images[0].numpy(), avatar, video))
    report(1.0, "Done")
    return video, sheet, avatar_path


def contact_sheet(photo: np.ndarray, avatar: Avatar, video: str | Path) -> np.ndarray:
    """Draw photo, avatar in its view, and evenly spaced frames of ``video``: (height, width, 3) uint8."""
    reader = VideoReader(video, max_side=_CELL)
    frames = _COLUMNS * _ROWS - 2
    total = reader.frame_count_estimate
    picks = {round((index + 0.5) * total / frames) for index in range(frames)}
    with torch.inference_mode():
        view, _ = avatar.render(background=torch.ones(3, device=avatar.shape.device))
    cells = [_cell(photo), _cell(as_uint8_image(view))]
    cells += [_cell(frame) for index, frame in enumerate(reader) if index in picks]
    blank = np.full((_CELL, _CELL, 3), 255, np.uint8)
    cells = (cells + [blank] * _COLUMNS * _ROWS)[: _COLUMNS * _ROWS]
    return np.vstack([np.hstack(cells[row * _COLUMNS : (row + 1) * _COLUMNS]) for row in range(_ROWS)])


def _cell(image: np.ndarray) -> np.ndarray:
    """Fit the picture into a white square."""
    fitted = ImageOps.contain(Image.fromarray(image), (_CELL, _CELL), Image.Resampling.LANCZOS)
    return np.asarray(ImageOps.pad(fitted, (_CELL, _CELL), color=(255, 255, 255)))
