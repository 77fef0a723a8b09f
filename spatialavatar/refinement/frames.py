"""What the refinement takes from a track: which frames, their pixels, and which pixels the head can answer for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from spatialavatar.errors import FormatError, InputError
from spatialavatar.head import HeadModel
from spatialavatar.records import BODY_SKIN, CLOTHES, Camera, Track
from spatialavatar.render.mesh import rasterize_mesh

MIN_FRAMES = 8
"""Fewer usable frames than this do not show a head from enough sides to be refined on."""

_LOOSE_JAW = 1e-3  # below this the jaw is at rest in many frames, and the first of them is no better than the others
_MARGIN = 4 / 512  # part of the picture's width around clothes that is not asked for
_REACH = 16 / 512  # part of the picture's width that hair may stand off the mesh
_REPEAT_TOLERANCE, _CUT_STEP = 2, 24  # grey levels
_DARK = 4.0  # grey level under which a person's pixels show nothing


@dataclass(frozen=True)
class Split:
    """Frames (indices) that may be looked at, and those that may not."""

    training: Tensor
    held_out: Tensor


@dataclass(frozen=True)
class View:
    """A window of one frame, ready to be compared with a render.

    Attributes:
        box: x0, y0, x1, y1 of the window, pixels; what lies outside is background only.
        image: (H, W, 3) float32 sRGB.
        matte: (H, W) float32, 1 = person.
        weight: (H, W) float32, 1 where head or background is, 0 where what is seen (torso, clothes) is not the head's.
    """

    box: tuple[int, int, int, int]
    image: Tensor
    matte: Tensor
    weight: Tensor

    def window(self, camera: Camera) -> Camera:
        """The part of a camera of the whole frame that sees this window."""
        return camera.window(*self.box)


def split_frames(track: Track, holdout: float) -> Split:
    """The frames in which a face was found; the last ``holdout`` of the clip apart."""
    found = track.confidence.cpu() > 0
    index = torch.arange(len(track))
    last = index >= round(len(track) * (1.0 - holdout))
    return Split(index[found & ~last], index[found & last])


def reference_frame(jaw: Tensor, generator: torch.Generator) -> int:
    """The frame that stage 1's output belongs to: argmin_t ||theta_jaw,t||_1, ties to the earliest.

    Where that minimum is below 1e-3, a frame drawn uniformly from the bottom decile.

    Args:
        jaw: (T, 3), radians.
        generator: draws.
    """
    opening = jaw.abs().sum(-1).cpu()
    first = int(opening.argmin())
    if float(opening[first]) >= _LOOSE_JAW:
        return first
    decile = opening.argsort(stable=True)[: max(1, len(opening) // 10)]
    return int(decile[torch.randint(len(decile), (), generator=generator)])


def check_track(track: Track, head: HeadModel, split: Split) -> None:
    """Refuse what cannot be refined on.

    Raises:
        FormatError: the track belongs to another head model.
        InputError: it has no pictures, too few frames, or shows nothing.
    """
    if track.head_id != head.id:
        raise FormatError(
            f"The video was tracked with the head model {track.head_id!r} but the avatar stands on {head.id!r}; track "
            "the video again with that head."
        )
    if track.images is None or track.mattes is None:
        raise InputError("The track holds no pictures; track the video itself, with its images kept.")
    if len(split.training) < MIN_FRAMES:
        raise InputError(
            f"The video has only {len(split.training)} frames to learn from; give one in which a face is seen in at "
            f"least {MIN_FRAMES} frames that are not held out, better ten seconds."
        )
    if _brightness(track, split.training) < _DARK:
        raise InputError("The video shows only black where the person should be; give one that was filmed in light.")


def _brightness(track: Track, frames: Tensor) -> float:
    """Median grey level of the person's pixels over a few frames; 0 where no pixel is a person's."""
    assert track.images is not None
    assert track.mattes is not None
    few = frames[torch.linspace(0, len(frames) - 1, min(8, len(frames))).long()].to(track.images.device)
    grey = track.images[few].float().mean(-1)[track.mattes[few] > 127]
    return float(grey.median()) if len(grey) else 0.0


class FrameSource:
    """Pixels of the track's frames at any size up to its own."""

    def __init__(self, track: Track, head: HeadModel) -> None:
        """Keep the track."""
        self._track = track
        self._beyond = _beyond_picture(track)
        self._faces = head.faces.cpu().numpy().astype(np.int32)
        self._weights: dict[int, Tensor] = {}
        self._boxes: dict[int, tuple[float, float, float, float]] = {}
        self._small: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}

    def forget_regions(self) -> None:
        """Judge anew what the head can answer for: its mesh has changed."""
        for kept in (self._weights, self._boxes, self._small):
            kept.clear()

    def view(self, frame: int, vertices: Tensor, size: int, *, edge_weight: float = 1.0, whole: bool = False) -> View:
        """One frame.

        Args:
            frame: its index.
            vertices: (V, 3) posed head, world; only used the first time.
            size: width and height of the whole frame, pixels.
            edge_weight: weight of the matte's soft rim.
            whole: the whole frame instead of the window around the head.
        """
        track = self._track
        assert track.images is not None
        assert track.mattes is not None
        if frame not in self._weights:
            weight, self._boxes[frame] = self._answerable(frame, vertices)
            self._weights[frame] = weight.to(track.images.device)
        x0, y0, x1, y1 = (0.0, 0.0, 1.0, 1.0) if whole else self._boxes[frame]
        box = (int(x0 * size), int(y0 * size), math.ceil(x1 * size), math.ceil(y1 * size))
        x0, y0, x1, y1 = box
        parts = self._scaled(frame, size)
        picture, matte, weight = (part[y0:y1, x0:x1].contiguous() / 255.0 for part in parts)
        if edge_weight != 1.0:
            weight = weight * torch.where((matte > 0.05) & (matte < 0.95), edge_weight, 1.0)
        return View(box, picture, matte, weight)

    def _scaled(self, frame: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Picture (H, W, 3), matte and weight (H, W) of a frame, uint8; kept where the size is not the track's."""
        track = self._track
        assert track.images is not None
        assert track.mattes is not None
        parts = track.images[frame], track.mattes[frame], self._weights[frame]
        if size == len(parts[0]):
            return parts
        if (frame, size) not in self._small:
            planes = torch.cat([parts[0], parts[1][..., None], parts[2][..., None]], -1).movedim(-1, 0)[None]
            planes = torch.nn.functional.interpolate(planes.float(), (size, size), mode="area")[0]
            pixels = planes.round().byte()
            self._small[frame, size] = pixels[:3].movedim(0, -1).contiguous(), pixels[3], pixels[4]
        return self._small[frame, size]

    def _answerable(self, frame: int, vertices: Tensor) -> tuple[Tensor, tuple[float, float, float, float]]:
        """Where a render of the head can be held to the picture: (H, W) uint8, 255 or 0, and a box around the head.

        The box is in parts of the picture's width and height. The person's pixels that the head model has no surface
        for (torso, clothes, long hair away from the head) are left out, for otherwise Gaussians at the neck grow to
        paint shoulders.
        """
        track = self._track
        assert track.mattes is not None
        camera = track.camera.to("cpu")
        cover = rasterize_mesh(
            camera.to_camera(vertices.detach().cpu()).numpy(),
            self._faces,
            camera.intrinsics.numpy(),
            camera.width,
            camera.height,
        )
        surface = (cover.face >= 0).astype(np.uint8)
        reach = 2 * round(_REACH * camera.width) + 1
        head = cv2.dilate(surface, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))) > 0
        if track.segments is not None:
            classes = track.segments[frame].cpu().numpy()
            # The neck may be wider than the mesh's, but not longer.
            beside = cv2.dilate(surface, np.ones((1, reach), np.uint8)) > 0
            # Half a clothed pixel is a clothed one, and classes end a little inside what they are of.
            margin = 2 * round(_MARGIN * camera.width) + 1
            clothes = cv2.dilate((classes == CLOTHES).astype(np.uint8), np.ones((margin, margin), np.uint8)) > 0
            head = np.where(classes == BODY_SKIN, beside, head) & ~clothes
        background = track.mattes[frame].cpu().numpy() < 8
        answerable = (head | background) & ~self._beyond
        x, y, width, height = cv2.boundingRect(((answerable & ~background) | (surface > 0)).astype(np.uint8))
        edge = reach  # a stray Gaussian this far out is still seen and called back
        box = (
            max(0, x - edge) / camera.width,
            max(0, y - edge) / camera.height,
            min(camera.width, x + width + edge) / camera.width,
            min(camera.height, y + height + edge) / camera.height,
        )
        return torch.from_numpy(answerable.astype(np.uint8) * 255), box


def _beyond_picture(track: Track) -> np.ndarray:
    """(H, W) bool: where the crop reaches over a border of the source picture that cuts the person off.

    The tracker repeats the picture's border there and calls it background, but the person goes on behind it.
    """
    assert track.images is not None
    assert track.mattes is not None
    few = torch.linspace(0, len(track) - 1, min(8, len(track))).long().to(track.images.device)
    images = track.images[few].cpu().numpy().astype(np.int16)
    person = (track.mattes[few] > 127).any(0).cpu().numpy()
    beyond = np.zeros(person.shape, bool)
    for turns in range(4):
        count = _repeated_rows(np.rot90(images, turns, (1, 2)), np.rot90(person, turns))
        if count:
            np.rot90(beyond, turns)[-count:] = True
    return beyond


def _repeated_rows(images: np.ndarray, person: np.ndarray) -> int:
    """How many last rows of pictures (T, H, W, 3) repeat one that cuts a person (H, W) off; 0 where none do."""
    differs = np.asarray((np.abs(images - images[:, -1:]) > _REPEAT_TOLERANCE).any((0, 2, 3)))
    first = int(differs.nonzero()[0][-1]) + 1 if differs.any() else 0
    if not 2 < first < len(differs) - 2 or person[first + 2 :].any():
        return 0
    # A plain wall above the hair repeats itself too, but is not of the person's colours.
    cut = person[first - 2]
    step = np.abs(images[:, first - 2, cut] - images[:, -1, cut])
    return len(differs) - first if cut.any() and step.mean() < _CUT_STEP else 0


def camera_of(track: Track, size: int) -> Camera:
    """The track's camera at another size."""
    return track.camera.resized(size, size)
