"""Photos to Tracks: detect the face, crop it, fit the head. Several photos of one person share one shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from spatialavatar.errors import InputError, NoFaceError
from spatialavatar.head import HeadModel
from spatialavatar.head.rotations import axis_angle_to_matrix
from spatialavatar.progress import Progress, no_progress
from spatialavatar.records import Evidence, HeadMotion, Pictures, Track
from spatialavatar.tracking.fit import Fit, FitConfig, Observations, PriorConfig, fit_landmarks
from spatialavatar.tracking.framing import (
    CROP_SIZE,
    FOCAL,
    Crop,
    crop_around,
    cut,
    landmark_box,
    separate,
    surroundings,
)
from spatialavatar.tracking.identity import SAME_PERSON
from spatialavatar.tracking.landmark_sets import UPPER_LID_LEFT, UPPER_LID_RIGHT
from spatialavatar.tracking.landmarker import LANDMARK_COUNT, MIN_PRESENCE, FaceLandmarks
from spatialavatar.tracking.networks import Networks

MIN_FACE: Final = 64
"""Faces smaller than this, in pixels from chin to forehead, are refused."""
GOOD_FACE: Final = 128
"""Faces smaller than this are used with a warning: the avatar lacks detail."""
MAX_YAW: Final = 58.0
"""Fitted yaw in degrees beyond which half of the face is hidden; the landmark network underestimates it there."""
_MIN_EYE_SHARE: Final = 0.4  # width of the far eye over that of the near one
_WARN_YAW: Final = 40.0
_CONFIG: Final = FitConfig(prior=PriorConfig(focal_sigma=0.15))
_MAX_ERROR: Final = 0.06  # mean landmark error, part of the eye distance, beyond which the fit is poor


@dataclass(frozen=True)
class _Found:
    """The face in one photo."""

    name: str
    crop: Crop
    landmarks: FaceLandmarks
    warnings: tuple[str, ...]

    @property
    def points(self) -> np.ndarray:
        """(L, 2) landmarks, pixels of the crop."""
        return self.crop.to_crop(self.landmarks.points[:, :2])


def track_photo(
    image: np.ndarray,
    head: HeadModel,
    *,
    name: str = "the photo",
    networks: Networks | None = None,
    progress: Progress | None = None,
) -> Track:
    """Track one photo; see :func:`track_photos`."""
    return track_photos([image], head, names=[name], networks=networks, progress=progress)[0]


def track_photos(
    images: Sequence[np.ndarray],
    head: HeadModel,
    *,
    names: Sequence[str] | None = None,
    networks: Networks | None = None,
    config: FitConfig | None = None,
    around: bool = True,
    progress: Progress | None = None,
) -> list[Track]:
    """Track photos of one person, fitting one shape to all of them.

    Args:
        images: (H, W, 3) uint8 sRGB pictures of any size.
        head: the head model.
        names: names of the photos in messages.
        networks: opened networks to reuse.
        config: settings of the fit. By default the focal length may vary a little, because selfies and studio portraits
            are taken from very different distances.
        around: keep ``Track.surroundings``, from which the bust is made; without them a photo takes half the time.
        progress: called with (fraction, message).

    Returns:
        One Track of one frame per photo, in the given order, with pictures, evidence and crop. The result of a photo
        does not depend on the order. If two photos seem to show different people, both have a warning.

    Raises:
        NoFaceError: a photo shows no face.
        InputError: a face is too small or turned too far away; a picture is of the wrong type.
    """
    if not images:
        raise InputError("There is no photo to track; give at least one.")
    names = list(names) if names is not None else [f"photo {number}" for number in range(1, len(images) + 1)]
    if len(names) != len(images):
        raise InputError(f"There are {len(images)} photos but {len(names)} names.")
    networks = networks or shared_networks()
    report = progress or no_progress
    steps = 3 * len(images)
    found = []
    for index, (image, name) in enumerate(zip(images, names)):
        report(index / steps, f"Looking for the face in {name}")
        found.append(_find(image, name, networks))
    found = _warn_of_strangers(images, found, networks)
    report(len(images) / steps, "Fitting the head")
    fit = _fit(head, found, config or _CONFIG)
    tracks = []
    for index, (image, face) in enumerate(zip(images, found)):
        report((len(images) + 2 * index) / steps, f"Cutting {face.name} out of its background")
        track = _as_track(image, face, head, fit, index, networks)
        tracks.append(_with_surroundings(track, image, face.crop, networks) if around else track)
    report(1.0, "Tracked")
    return tracks


_SHARED: list[Networks] = []


def shared_networks() -> Networks:
    """The networks of this process, opened at the first call only."""
    if not _SHARED:
        _SHARED.append(Networks())
    return _SHARED[0]


def face_yaw(rotation: Tensor) -> Tensor:
    """Yaw (T,) in degrees of head rotations (T, 3), axis-angle; positive to the subject's left."""
    forward = axis_angle_to_matrix(rotation)[..., :, 2]
    return torch.rad2deg(torch.atan2(forward[..., 0], forward[..., 2]))


def _find(image: np.ndarray, name: str, networks: Networks) -> _Found:
    """The largest face of a photo."""
    landmarker = networks.landmarker
    detections = landmarker.detect(image)
    confirmed = []
    for detection in detections:
        landmarks = landmarker.landmarks(image, detection, passes=2)
        if landmarks.presence >= MIN_PRESENCE:
            confirmed.append(landmarks)
    if not confirmed:
        if detections:
            raise NoFaceError(
                f"The face in {name} is turned away, covered or blurred; give a photo that shows it from the front."
            )
        raise NoFaceError(f"No face was found in {name}; give a photo that shows one face clearly.")
    confirmed.sort(key=lambda landmarks: -landmark_box(landmarks.points)[1])
    face = confirmed[0]
    size = landmark_box(face.points)[1]
    if size < MIN_FACE:
        raise InputError(
            f"The face in {name} is only {size:.0f} pixels high; give a photo in which it has at least "
            f"{MIN_FACE} pixels, better {GOOD_FACE}."
        )
    warnings = []
    rivals = sum(landmark_box(other.points)[1] > 0.3 * size for other in confirmed[1:])
    if rivals:
        warnings.append(f"There are {rivals + 1} faces in {name}; the largest one is used.")
    if size < GOOD_FACE:
        warnings.append(f"The face in {name} is only {size:.0f} pixels high, so the avatar will lack detail.")
    return _Found(name, crop_around(face.points), face, tuple(warnings))


def _warn_of_strangers(images: Sequence[np.ndarray], found: list[_Found], networks: Networks) -> list[_Found]:
    """Add a warning to the least similar pair of faces if it is unlikely to be of one person."""
    if len(found) < 2 or any(len(face.landmarks.points) != LANDMARK_COUNT for face in found):
        return found
    faces = np.stack([networks.identity.embed(image, face.landmarks.points) for image, face in zip(images, found)])
    cosines = faces @ faces.T
    pair = sorted(int(index) for index in np.unravel_index(cosines.argmin(), cosines.shape))
    if cosines[pair[0], pair[1]] >= SAME_PERSON:
        return found
    sentence = (
        f"The faces in {found[pair[0]].name} and {found[pair[1]].name} look like two different people's; an avatar "
        "needs photos of one person."
    )
    return [
        replace(face, warnings=(*face.warnings, sentence)) if index in pair else face
        for index, face in enumerate(found)
    ]


def _fit(head: HeadModel, found: list[_Found], config: FitConfig) -> Fit:
    """Fit one shape to all photos."""
    # Floating-point sums depend on their order. Sort, so that the order of the photos does not matter.
    order = sorted(range(len(found)), key=lambda index: found[index].points.tobytes())
    observed = Observations(
        points=torch.from_numpy(np.stack([found[index].points for index in order])),
        blendshapes=torch.from_numpy(np.stack([found[index].landmarks.blendshapes for index in order])),
        principal_point=torch.full((2,), CROP_SIZE / 2),
        focal=torch.full((len(order),), FOCAL),
    )
    fit = fit_landmarks(head, observed, config=config)
    back = torch.tensor([order.index(index) for index in range(len(order))])
    return Fit(fit.params[back], fit.focal[back], fit.error[back])


def _as_track(image: np.ndarray, face: _Found, head: HeadModel, fit: Fit, index: int, networks: Networks) -> Track:
    """The Track of photo ``index`` with its pictures."""
    params = fit.params[index]
    yaw = float(face_yaw(params.rotation))
    error = float(fit.error[index])
    if abs(yaw) > MAX_YAW or (abs(yaw) > _WARN_YAW and _eye_share(face.points) < _MIN_EYE_SHARE):
        raise InputError(
            f"The face in {face.name} is turned {abs(yaw):.0f} degrees to the side; give a photo in which both eyes "
            "are seen."
        )
    warnings = list(face.warnings)
    if abs(yaw) > _WARN_YAW:
        warnings.append(f"The face in {face.name} is turned {abs(yaw):.0f} degrees; its far side has to be guessed.")
    if error > _MAX_ERROR:
        warnings.append(f"The head fits the face in {face.name} badly; another photo may work better.")
    matte, segments = separate(image, face.crop, networks)
    camera = face.crop.camera()
    scale = float(fit.focal[index]) / float(camera.intrinsics[0, 0])
    intrinsics = camera.intrinsics.clone()
    intrinsics[[0, 1], [0, 1]] *= scale
    camera = camera.replace(intrinsics=intrinsics)
    trust = torch.tensor([confidence(face.landmarks.presence, error)])
    return Track(
        motion=HeadMotion(params, fps=0.0, head_id=head.id, confidence=trust),
        camera=camera,
        crop=torch.tensor([face.crop.box]),
        evidence=Evidence(
            landmarks=torch.from_numpy(face.points).float()[None],
            blendshapes=torch.from_numpy(face.landmarks.blendshapes).float()[None],
        ),
        pictures=Pictures(
            images=torch.from_numpy(cut(image, face.crop))[None],
            mattes=torch.from_numpy(matte)[None],
            segments=torch.from_numpy(segments)[None],
        ),
        warnings=tuple(warnings),
    )


def _with_surroundings(track: Track, image: np.ndarray, crop: Crop, networks: Networks) -> Track:
    """The Track with the photo around its crop."""
    pictures = track.require_pictures()
    separated = pictures.mattes[0].numpy(), pictures.require_segments()[0].numpy()
    return track.replace(surroundings=surroundings(image, crop, track.camera, separated, networks))


def _eye_share(points: np.ndarray) -> float:
    """Width of the narrower eye over that of the wider one; 1 if the landmarks (L, 2) are not the dense ones."""
    if len(points) != LANDMARK_COUNT:
        return 1.0
    widths = [float(np.linalg.norm(points[lid[0]] - points[lid[-1]])) for lid in (UPPER_LID_RIGHT, UPPER_LID_LEFT)]
    return min(widths) / max(*widths, 1e-6)


def confidence(presence: float, error: float) -> float:
    """Confidence of a frame: the network's presence, reduced where the head does not fit; at least 0.001."""
    fitted = 1.0 / (1.0 + (error / _MAX_ERROR) ** 4) if math.isfinite(error) else 0.0
    return max(presence * fitted, 1e-3)
