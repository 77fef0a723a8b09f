"""The photos of the tracks as NumPy arrays, in an order that does not depend on the caller."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from spatialavatar.errors import InputError
from spatialavatar.generator.numerics import Pixels
from spatialavatar.head import HeadModel
from spatialavatar.records import CLOTHES, HAIR, Camera, HeadParams, Track, as_float_image

MAX_SOURCES = 4
"""Photos per avatar (method section 2: K in 1..4)."""


@dataclass(frozen=True, eq=False)
class SourceView:
    """One photo with the tracker's results.

    Attributes:
        image: (H, W, 3) float32 sRGB in [0, 1].
        matte: (H, W) float32, 1 = person.
        segments: (H, W) uint8 classes of ``Track.segments``, or None.
        landmarks: (478, 2) float64 crop pixels, or None.
        params: one frame.
        camera: the crop's camera.
        intrinsics: (3, 3) float64 of the camera, pixels.
        key: hash of picture, matte, parameters and intrinsics.
    """

    image: Pixels
    matte: Pixels
    segments: NDArray[np.uint8] | None
    landmarks: NDArray[np.float64] | None
    params: HeadParams
    camera: Camera
    intrinsics: NDArray[np.float64]
    key: str

    def hair(self) -> Pixels | None:
        """(H, W) 1 on hair; None without segments."""
        return None if self.segments is None else (self.segments == HAIR).astype(np.float32)

    def clothes(self) -> Pixels | None:
        """(H, W) 1 on clothes; None without segments."""
        return None if self.segments is None else (self.segments == CLOTHES).astype(np.float32)


def source_views(tracks: Sequence[Track], head: HeadModel) -> list[SourceView]:
    """The frames of the tracks as views, sorted by content, so that all sums run in the same order.

    Raises:
        InputError: no frame or more than four, no picture in a track, another head, or shapes that differ.
    """
    views = [_view(track, frame) for track in tracks for frame in range(len(_checked(track, head)))]
    if not 1 <= len(views) <= MAX_SOURCES:
        raise InputError(f"An avatar is made from 1 to {MAX_SOURCES} photos; the tracks hold {len(views)} frames.")
    if any(not torch.equal(view.params.shape, views[0].params.shape) for view in views):
        raise InputError("The tracks have different shapes; track all photos of a person in one call.")
    return sorted(views, key=lambda view: view.key)


def _checked(track: Track, head: HeadModel) -> Track:
    if track.images is None or track.mattes is None:
        raise InputError("The track holds no pictures; an avatar is made from tracked photos, not from a motion file.")
    if track.head_id != head.id:
        raise InputError(
            f"The photos were tracked with the head model {track.head_id!r}, not {head.id!r}; track them again."
        )
    return track


def _view(track: Track, frame: int) -> SourceView:
    assert track.images is not None
    assert track.mattes is not None
    params = track.params[frame]
    digest = hashlib.sha256()
    for tensor in (track.images[frame], track.mattes[frame], *vars(params).values(), track.camera.intrinsics):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    landmarks = None if track.landmarks is None else track.landmarks[frame].double().cpu().numpy()
    if landmarks is not None and (len(landmarks) != 478 or not np.isfinite(landmarks).all()):
        landmarks = None
    return SourceView(
        image=as_float_image(track.images[frame]).cpu().numpy(),
        matte=as_float_image(track.mattes[frame]).cpu().numpy(),
        segments=None if track.segments is None else track.segments[frame].cpu().numpy(),
        landmarks=landmarks,
        params=params,
        camera=track.camera,
        intrinsics=track.camera.intrinsics.cpu().double().numpy(),
        key=digest.hexdigest(),
    )
