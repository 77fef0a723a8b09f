"""The photos of the tracks as NumPy arrays, in an order that does not depend on the caller."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialavatar.errors import InputError
from spatialavatar.generator.numerics import Pixels
from spatialavatar.head import HeadModel
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.records import CLOTHES, HAIR, Camera, HeadParams, Track, as_float_image
from spatialavatar.tracking.picture_border import beyond_picture

MAX_SOURCES = 4
"""Photos per avatar (method section 2: K in 1..4)."""


@dataclass(frozen=True, eq=False)
class SourceView:
    """One photo with the tracker's results.

    Attributes:
        image: (H, W, 3) float32 sRGB in [0, 1].
        matte: (H, W) float32, 1 = person.
        segments: (H, W) uint8 classes of ``Pictures.segments``, or None.
        landmarks: (478, 2) float64 crop pixels, or None.
        params: one frame.
        camera: the crop's camera.
        intrinsics: (3, 3) float64 of the camera, pixels.
        extent: (2, 2) float64 crop pixels, corners (x0, y0) and (x1, y1) of the source picture. Beyond it the crop
            repeats the picture's border and the matte is 0, although the person continues.
        key: hash of picture, matte, parameters and intrinsics.
        blinks: scores in [0, 1] that the left and the right eye are shut, or None.
    """

    image: Pixels
    matte: Pixels
    segments: NDArray[np.uint8] | None
    landmarks: NDArray[np.float64] | None
    params: HeadParams
    camera: Camera
    intrinsics: NDArray[np.float64]
    extent: NDArray[np.float64]
    key: str
    blinks: tuple[float, float] | None = None

    def hair(self) -> Pixels | None:
        """(H, W) 1 on hair; None without segments."""
        return None if self.segments is None else (self.segments == HAIR).astype(np.float32)

    def clothes(self) -> Pixels | None:
        """(H, W) 1 on clothes; None without segments."""
        return None if self.segments is None else (self.segments == CLOTHES).astype(np.float32)


def source_views(tracks: Sequence[Track], head: HeadModel) -> list[SourceView]:
    """The frames of the tracks as views, sorted by content, so that all sums run in the same order.

    Raises:
        InputError: no frame or more than four, no picture in a track, or shapes that differ.
        FormatError: a track belongs to another head model.
    """
    for track in tracks:
        track.require_head(head.id)
    views = [_view(track, frame) for track in tracks for frame in range(len(track))]
    if not 1 <= len(views) <= MAX_SOURCES:
        raise InputError(f"An avatar is made from 1 to {MAX_SOURCES} photos; the tracks hold {len(views)} frames.")
    if any(not torch.equal(view.params.shape, views[0].params.shape) for view in views):
        raise InputError("The tracks have different shapes; track all photos of a person in one call.")
    return sorted(views, key=lambda view: view.key)


def _view(track: Track, frame: int) -> SourceView:
    pictures, params = track.require_pictures(), track.params[frame]
    digest = hashlib.sha256()
    for tensor in (pictures.images[frame], pictures.mattes[frame], *vars(params).values(), track.camera.intrinsics):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    landmarks = None
    if track.evidence is not None and track.evidence.landmarks is not None:
        found = track.evidence.landmarks[frame].double().cpu().numpy()
        landmarks = found if len(found) == 478 and np.isfinite(found).all() else None
    return SourceView(
        image=as_float_image(pictures.images[frame]).cpu().numpy(),
        matte=as_float_image(pictures.mattes[frame]).cpu().numpy(),
        segments=None if pictures.segments is None else pictures.segments[frame].cpu().numpy(),
        landmarks=landmarks,
        params=params,
        camera=track.camera,
        intrinsics=track.camera.intrinsics.cpu().double().numpy(),
        extent=_extent(pictures.images[frame], pictures.mattes[frame]),
        key=digest.hexdigest(),
        blinks=_blinks(track, frame),
    )


def _blinks(track: Track, frame: int) -> tuple[float, float] | None:
    """``SourceView.blinks`` of a frame."""
    if track.evidence is None:
        return None
    scores = track.evidence.blendshapes[frame].cpu().double()
    left, right = (float(scores[ARKIT_INDEX[name]]) for name in ("eyeBlinkLeft", "eyeBlinkRight"))
    return (left, right) if np.isfinite([left, right]).all() else None


def _extent(image: Tensor, matte: Tensor) -> NDArray[np.float64]:
    """``SourceView.extent`` of a crop (H, W, 3) and its matte (H, W), uint8."""
    inside = ~beyond_picture(image[None], matte[None])
    columns, rows = np.flatnonzero(inside.any(0)), np.flatnonzero(inside.any(1))
    return np.array([[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]], np.float64)
