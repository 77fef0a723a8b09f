"""Transfer of a tracked head from one calibrated camera to the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from spatialavatar.evaluation.cutting import crop_of
from spatialavatar.evaluation.datasets import Calibration, Recording
from spatialavatar.head import HeadModel
from spatialavatar.progress import Progress
from spatialavatar.records import Camera, HeadParams, Track
from spatialavatar.tracking import track_video
from spatialavatar.tracking.fit import Observations, fit_landmarks
from spatialavatar.tracking.framing import CROP_SIZE, Crop
from spatialavatar.tracking.networks import Networks

_CV: Final = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))  # the tracker's world has the camera's origin, y up


def first_picture(recording: Recording) -> np.ndarray:
    """(H, W, 3) uint8."""
    return next(iter(recording.open()))


def posed_by_calibration(
    recording: Recording,
    shape: Tensor | None,
    head: HeadModel,
    networks: Networks,
    progress: Progress,
    max_frames: int | None = None,
) -> tuple[Track, HeadParams]:
    """The track of a recording, and its parameters fitted with the camera's true focal length and centre."""
    track = track_video(
        recording.open(), head, shape=shape, max_frames=max_frames, networks=networks, progress=progress
    )
    evidence = track.require_evidence()
    intrinsics = cropped_intrinsics(recording.require_calibration(), crop_of(track))
    observed = Observations(
        points=evidence.require_landmarks(),
        blendshapes=evidence.blendshapes,
        principal_point=intrinsics[:2, 2],
        focal=intrinsics[:1, 0].expand(len(track)),
    )
    return track, fit_landmarks(head, observed, shape=track.params.shape).params


def metric_scale(
    main: Recording, others: Sequence[Recording], params: HeadParams, head: HeadModel, networks: Networks
) -> float:
    """The factor on the calibration's distances that fits the first frame's landmarks in the other cameras best.

    Args:
        main: the camera that ``params`` were tracked in.
        others: cameras of the same rig.
        params: of the first frame.
        head: the head model.
        networks: find the landmarks.
    """
    seen = []
    for recording in others:
        found = networks.landmarker.locate(first_picture(recording))
        if found is not None:
            seen.append((recording.require_calibration(), found.points[:, :2]))
    if not seen:
        return 1.0
    landmarks = head.landmarks(head.vertices(params))[0]

    def distance(logarithm: float) -> float:
        errors = []
        for calibration, points in seen:
            world = relative_camera(main.require_calibration(), calibration, float(np.exp(logarithm)))
            camera = Camera(torch.from_numpy(calibration.intrinsics).float(), world, 1, 1)
            errors.append(np.median(np.linalg.norm(camera.project(landmarks).numpy() - points, axis=1)))
        return float(np.mean(errors))

    return float(np.exp(minimize_scalar(distance, bounds=(-0.7, 0.7), method="bounded").x))


def relative_camera(source: Calibration, target: Calibration, scale: float) -> Tensor:
    """World to the target's camera (4, 4), where the tracker's world is the source camera's."""
    relative = target.world_to_camera @ np.linalg.inv(source.world_to_camera)
    relative[:3, 3] *= scale
    return torch.from_numpy(relative).float() @ _CV


def landmarks_in(calibration: Calibration, world: Tensor, head: HeadModel, params: HeadParams) -> np.ndarray:
    """(T, 478, 2) pixels of the whole picture in which the head must appear.

    Args:
        calibration: of the camera.
        world: (4, 4) of :func:`relative_camera`.
        head: the head model.
        params: T frames.
    """
    camera = Camera(torch.from_numpy(calibration.intrinsics).float(), world, 1, 1)
    return camera.project(head.landmarks(head.vertices(params))).numpy()


def cropped_camera(calibration: Calibration, world: Tensor, crop: Crop) -> Camera:
    """The camera of a crop of a calibrated camera's picture."""
    return Camera(cropped_intrinsics(calibration, crop), world, CROP_SIZE, CROP_SIZE)


def cropped_intrinsics(calibration: Calibration, crop: Crop) -> Tensor:
    """The intrinsics (3, 3) of a crop scaled to 512 pixels."""
    zoom = CROP_SIZE / crop.side
    to_crop = np.array([[zoom, 0.0, -crop.x0 * zoom], [0.0, zoom, -crop.y0 * zoom], [0.0, 0.0, 1.0]])
    return torch.from_numpy(to_crop @ calibration.intrinsics).float()
