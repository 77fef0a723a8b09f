"""Comparison of one target with its renders: equal pixels and equal face measurements of both.

What is compared, exactly:

* *crop and size*: the tracker's square crop of the target, 512 x 512; the render is made by that crop's camera.
* *mask and background*: the target is laid over white by its matte; the render is laid over white by its own alpha.
* *beyond the picture*: pixels of the crop beyond a border of the source picture are left out.
* *region "head"* (default): all pixels, background included, above a line that lies a fifth of the face's height below
  the chin, clothes left out. Both pictures are white elsewhere. *Region "full"*: every pixel.
* *alignment*: none beyond the tracked pose.

Faces (identity, landmarks, codes) are then detected in both pictures in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import torch
from torch import Tensor

from spatialavatar.evaluation import metrics
from spatialavatar.head import HeadModel
from spatialavatar.records import CLOTHES, HeadParams, as_uint8_image
from spatialavatar.tracking.fit import Observations, fit_landmarks
from spatialavatar.tracking.framing import CROP_SIZE, Crop
from spatialavatar.tracking.networks import Networks

REGIONS: Final = ("head", "full")
_BEYOND: Final = 255  # added to them here: no picture
_CLOTHES_MARGIN: Final = 9  # pixels: half a clothed pixel is a clothed one
_CHIN, _FOREHEAD = 152, 10  # of the 478 landmarks
_BELOW_CHIN: Final = 0.2  # of the face's height


@dataclass(frozen=True)
class Face:
    """The detections of the networks in one picture.

    Attributes:
        points: (478, 3) landmarks, pixels.
        blendshapes: (52,) scores.
        identity: (128,) embedding, length 1.
    """

    points: np.ndarray
    blendshapes: np.ndarray
    identity: np.ndarray


@dataclass(frozen=True)
class Target:
    """A picture that renders are compared with.

    Attributes:
        image: (512, 512, 3) float32, over white, white outside the region.
        region: (512, 512) float32, 1 where pixels count.
        person: (512, 512) float32, the matte inside the region.
        face: or None where the networks find none.
    """

    image: Tensor
    region: Tensor
    person: Tensor
    face: Face | None

    def masked(self, picture: Tensor) -> Tensor:
        """A picture (512, 512, 3) over white, white outside the region."""
        return torch.where(self.region[..., None] > 0, picture, torch.ones_like(picture)).clamp(0.0, 1.0)


def head_region(segments: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Where region "head" is: (H, W) bool.

    Args:
        segments: (H, W) classes of ``Pictures.segments``.
        points: (478, 2 or more) landmarks, pixels.
    """
    chin, forehead = float(points[_CHIN, 1]), float(points[_FOREHEAD, 1])
    line = chin + _BELOW_CHIN * abs(chin - forehead)
    rows = np.arange(len(segments))[:, None] + 0.5 < line
    kernel = np.ones((_CLOTHES_MARGIN, _CLOTHES_MARGIN), np.uint8)
    clothes = cv2.dilate((segments == CLOTHES).astype(np.uint8), kernel) > 0
    return rows & ~clothes


def without_beyond(segments: np.ndarray, crop: Crop, size: tuple[int, int]) -> np.ndarray:
    """The classes (512, 512) of a crop, marked where it reaches over a border of its picture of ``size`` (w, h)."""
    centres = (np.arange(CROP_SIZE) + 0.5) * crop.side / CROP_SIZE
    inside = [(start + centres > 0) & (start + centres < length) for start, length in zip((crop.x0, crop.y0), size)]
    return np.where(inside[1][:, None] & inside[0], segments, _BEYOND).astype(np.uint8)


class Evaluator:
    """Prepares targets and compares renders with them."""

    def __init__(self, networks: Networks, region: str = "head") -> None:
        self._networks = networks
        self._region = region

    def target(self, image: np.ndarray, matte: np.ndarray, segments: np.ndarray, points: np.ndarray) -> Target:
        """Prepare a target.

        Args:
            image: (512, 512, 3) uint8, the crop.
            matte: (512, 512) uint8, 255 = person.
            segments: (512, 512) uint8, classes of ``Pictures.segments``, see :func:`without_beyond`.
            points: (478, 2 or more) landmarks of the face, pixels of the crop.
        """
        alpha = torch.from_numpy(matte.astype(np.float32) / 255.0)
        picture = torch.from_numpy(image.astype(np.float32) / 255.0)
        counted = segments != _BEYOND
        if self._region == "head":
            counted &= head_region(segments, points)
        region = torch.from_numpy(counted.astype(np.float32))
        bare = Target(picture * alpha[..., None] + (1.0 - alpha[..., None]), region, region * alpha, None)
        shown = bare.masked(bare.image)
        return Target(shown, region, bare.person, self.face(shown))

    def face(self, picture: Tensor) -> Face | None:
        """The face in a picture (H, W, 3) float in [0, 1]."""
        pixels = as_pixels(picture)
        found = self._networks.landmarker.locate(pixels)
        if found is None:
            return None
        return Face(found.points, found.blendshapes, self._networks.identity.embed(pixels, found.points))

    def pictures(self, render: Tensor, target: Target) -> dict[str, float]:
        """The metrics of two pictures; ``render`` is (512, 512, 3), masked like the target."""
        return {
            "psnr": metrics.psnr(render, target.image, target.region),
            "psnr_person": metrics.psnr(render, target.image, target.person),
            "ssim": metrics.ssim(render, target.image, target.region),
            "ms_ssim": metrics.ms_ssim(render, target.image),
            "lpips": metrics.lpips(render, target.image),
        }


def codes(head: HeadModel, faces: Sequence[Face], shape: Tensor, focal: Sequence[float]) -> HeadParams:
    """Pose and expression of each face, (T frames), by one tracker with one identity (S,): each for itself, unsmoothed.

    ``focal`` has the focal length of each picture, pixels of 512.
    """
    observed = Observations(
        points=torch.from_numpy(np.stack([face.points[:, :2] for face in faces])),
        blendshapes=torch.from_numpy(np.stack([face.blendshapes for face in faces])),
        principal_point=torch.full((2,), CROP_SIZE / 2),
        focal=torch.tensor(focal),
    )
    return fit_landmarks(head, observed, shape=shape).params


def as_pixels(picture: Tensor) -> np.ndarray:
    """(H, W, 3) float in [0, 1] to uint8."""
    return np.ascontiguousarray(as_uint8_image(picture))
