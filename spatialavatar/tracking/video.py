"""Videos to Tracks: one shape for the clip, every frame fitted with it, jitter taken out without lag.

Pixels are held one frame at a time (unless they are asked for); what stays of a frame are 478 landmarks and 52 scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from spatialavatar.errors import InputError, NoFaceError
from spatialavatar.head import HeadModel
from spatialavatar.media import PictureSequence, VideoReader
from spatialavatar.progress import Progress, silent
from spatialavatar.records import FRAME_STATES, Camera, FrameQuality, HeadParams, Track
from spatialavatar.threads import one_torch_thread
from spatialavatar.tracking.fit import Anchor, Fit, FitConfig, Observations, eye_distance, fit_landmarks
from spatialavatar.tracking.framing import CROP_SIZE, Crop, crop_around_all, cut, landmark_box, separate
from spatialavatar.tracking.landmarker import FaceLandmarker, FaceLandmarks
from spatialavatar.tracking.networks import Networks
from spatialavatar.tracking.photos import MIN_FACE, confidence, face_yaw, shared_networks
from spatialavatar.tracking.quality import DARK, PROFILE_YAW, STEADY, jitter_of, runs
from spatialavatar.tracking.smoothing import one_euro, one_euro_rotations

_MAX_SIDE: Final = 1920  # larger frames show the networks nothing more
_SHAPE_FRAMES: Final = 24
_ROUGH_ITERATIONS: Final = 6
_MAX_YAW: Final = 75.0  # beyond it a frame's expression is guessed from one half of the face
_MAX_ERROR: Final = 0.12  # mean landmark error, part of the eye distance, at which a frame counts as lost
_BLOCK: Final = 32  # frames whose vertices are held at once
_SCAN, _FIT = 0.7, 0.95  # shares of the progress bar


@dataclass(frozen=True)
class _Scan:
    """What the networks saw in T frames.

    Attributes:
        points: (T, L, 2) landmarks, pixels of the frames; 0 where nothing was seen.
        scores: (T, 52) blendshape scores.
        presence: (T,) 0 where nothing was seen.
        luma: (T,) mean of the face in [0, 1], of the whole picture where no face was seen.
        fps: frames per second.
        warnings: what was wrong with the file.
    """

    points: np.ndarray
    scores: np.ndarray
    presence: np.ndarray
    luma: np.ndarray
    fps: float
    warnings: tuple[str, ...]

    @property
    def seen(self) -> np.ndarray:
        """(T,) bool."""
        return self.presence > 0


def track_video(
    path: str | Path | VideoReader | PictureSequence,
    head: HeadModel,
    *,
    shape: Tensor | None = None,
    with_images: bool = False,
    max_frames: int | None = None,
    networks: Networks | None = None,
    config: FitConfig | None = None,
    progress: Progress | None = None,
) -> Track:
    """Track the person in a video.

    The crop stands still for the whole clip; where the file is larger than 1920 pixels, it is in pixels of the picture
    scaled down to that. Frames in which no face is found have confidence 0 and the parameters of
    the frame before (the first frames those of the first face); a warning tells how many and where.

    Args:
        path: the video, or what reads one.
        head: the head model.
        shape: (S,) identity of the person, where it is known, for instance an avatar's; by default it is fitted.
        with_images: keep crops, mattes and classes of all frames (about 1.3 MB a frame); otherwise memory hardly grows
            with length.
        max_frames: stop after this many frames.
        networks: opened networks to use again.
        config: weights of the fit.
        progress: called with (fraction, message).

    Raises:
        InputError: the video cannot be read, or the face is too small throughout.
        NoFaceError: no frame shows a face.
    """
    with one_torch_thread():
        return _track_video(
            VideoReader(path, max_side=_MAX_SIDE) if isinstance(path, (str, Path)) else path,
            head,
            shape,
            with_images,
            max_frames,
            networks or shared_networks(),
            config or FitConfig(),
            progress or silent,
        )


def _track_video(
    reader: VideoReader | PictureSequence,
    head: HeadModel,
    shape: Tensor | None,
    with_images: bool,
    max_frames: int | None,
    networks: Networks,
    config: FitConfig,
    report: Progress,
) -> Track:
    scan = _scan(reader, networks, max_frames, report)
    _check_size(scan, reader.path)
    crop, tight_side = crop_around_all(scan.points[scan.seen])
    camera = crop.camera(tight_side)
    observed = Observations(
        points=torch.from_numpy(crop.to_crop(scan.points[scan.seen])),
        blendshapes=torch.from_numpy(scan.scores[scan.seen]),
        principal_point=torch.full((2,), CROP_SIZE / 2),
        focal=torch.full((int(scan.seen.sum()),), float(camera.intrinsics[0, 0])),
    )
    report(_SCAN, "Fitting the head")
    fit = _fit_clip(head, observed, shape, torch.from_numpy(scan.seen), scan.fps, config, report)
    trust = torch.zeros(len(scan.presence))
    errors = fit.error.tolist()
    trust[torch.from_numpy(scan.seen)] = torch.tensor(
        [confidence(float(p), e) if e < _MAX_ERROR else 0.0 for p, e in zip(scan.presence[scan.seen], errors)]
    )
    params = _held(fit.params, torch.from_numpy(scan.seen), trust)
    landmarks = np.zeros((len(trust), *scan.points.shape[1:]), dtype=np.float32)
    landmarks[scan.seen] = crop.to_crop(scan.points[scan.seen])
    track = Track(
        params=params,
        camera=camera,
        fps=scan.fps,
        head_id=head.id,
        confidence=trust,
        landmarks=torch.from_numpy(landmarks),
        blendshapes=torch.from_numpy(scan.scores).float(),
        crop=torch.tensor([crop.box]).expand(len(trust), 4).clone(),
        neutral_expression=neutral_of(params, trust),
        warnings=(*scan.warnings, *_warnings(reader.path.name, params, trust, scan.fps)),
    )
    track = track.replace(quality=_judged(track, scan, head))
    if with_images:
        track = track.replace(**_pixels(reader, crop, len(trust), networks, report))
    report(1.0, "Tracked")
    return track


# -- looking ----------------------------------------------------------------------------------------------------------


def _scan(reader: VideoReader | PictureSequence, networks: Networks, max_frames: int | None, report: Progress) -> _Scan:
    """Run the landmark network over the video."""
    landmarker = networks.landmarker
    expected = min(reader.frame_count_estimate, max_frames or reader.frame_count_estimate)
    seen: dict[int, FaceLandmarks] = {}
    warnings: list[str] = []
    lumas: list[float] = []
    count = 0
    for count, frame in enumerate(_first(reader, max_frames), 1):
        found = landmarker.track(frame, seen.get(count - 2))
        if found is not None:
            if not seen:
                warnings += _company(frame, found, landmarker, reader.path.name)
            seen[count - 1] = found
        lumas.append(_luma(frame, found))
        report(_SCAN * min(1.0, count / expected), f"Looking at frame {count} of {max(count, expected)}")
    if not seen:
        raise NoFaceError(f"No face was found in {reader.path.name}; give a video in which one face is seen well.")
    length = len(next(iter(seen.values())).points)
    points = np.zeros((count, length, 2), dtype=np.float32)
    scores, presence = np.zeros((count, 52), dtype=np.float32), np.zeros(count)
    for index, found in seen.items():
        points[index], scores[index], presence[index] = found.points[:, :2], found.blendshapes, found.presence
    return _Scan(points, scores, presence, np.array(lumas), reader.fps, (*reader.warnings, *warnings))


def _luma(frame: np.ndarray, found: FaceLandmarks | None) -> float:
    """Mean luma (Rec. 601) of the face's box, or of the whole picture, from a sparse grid of its pixels."""
    part = frame
    if found is not None:
        low, high = found.points[:, :2].min(0).astype(int), np.ceil(found.points[:, :2].max(0)).astype(int)
        inside = frame[max(low[1], 0) : max(high[1], 0), max(low[0], 0) : max(high[0], 0)]
        part = inside if inside.size else frame
    step = max(1, min(part.shape[:2]) // 48)
    return float(part[::step, ::step].reshape(-1, 3).mean(0) @ np.array([0.299, 0.587, 0.114]) / 255.0)


def _company(frame: np.ndarray, found: FaceLandmarks, landmarker: FaceLandmarker, name: str) -> list[str]:
    """A sentence where the first frame with a face shows other faces of a like size."""
    size = landmark_box(found.points)[1]
    faces = sum(detection.size > 0.3 * size for detection in landmarker.detect(frame))
    return [f"There are {faces} faces in {name}; the largest one is followed."] if faces > 1 else []


def _first(reader: VideoReader | PictureSequence, count: int | None) -> Iterator[np.ndarray]:
    for index, frame in enumerate(reader):
        if count is not None and index >= count:
            return
        yield frame


def _check_size(scan: _Scan, path: Path) -> None:
    sizes = [landmark_box(points)[1] for points in scan.points[scan.seen]]
    size = float(np.median(sizes))
    if size < MIN_FACE:
        raise InputError(
            f"The face in {path.name} is only {size:.0f} pixels high; give a video in which it has at least 100 pixels."
        )


def _pixels(
    reader: VideoReader | PictureSequence, crop: Crop, count: int, networks: Networks, report: Progress
) -> dict[str, Tensor]:
    """Crops, mattes and classes of all frames: a second reading of the file, now that the crop is known."""
    images = np.empty((count, CROP_SIZE, CROP_SIZE, 3), dtype=np.uint8)
    mattes = np.empty((count, CROP_SIZE, CROP_SIZE), dtype=np.uint8)
    segments = np.empty_like(mattes)
    for index, frame in enumerate(_first(reader, count)):
        images[index] = cut(frame, crop)
        mattes[index], segments[index] = separate(frame, crop, networks)
        report(_FIT + (1.0 - _FIT) * (index + 1) / count, f"Cutting out frame {index + 1} of {count}")
    return {
        "images": torch.from_numpy(images),
        "mattes": torch.from_numpy(mattes),
        "segments": torch.from_numpy(segments),
    }


# -- fitting ----------------------------------------------------------------------------------------------------------


def _fit_clip(
    head: HeadModel,
    observed: Observations,
    shape: Tensor | None,
    seen: Tensor,
    fps: float,
    config: FitConfig,
    report: Progress,
) -> Fit:
    """One shape, unless it is given, then every frame, then every frame again with its neighbours' advice."""
    if shape is None:
        shape = fit_landmarks(head, observed[_diverse(observed)], config=config).params.shape
    report(_SCAN + 0.05, "Fitting every frame")
    rough = fit_landmarks(head, observed, shape=shape, config=replace(config, iterations=_ROUGH_ITERATIONS))
    report(_SCAN + 0.15, "Smoothing")
    expected = _smoothed(rough.params, seen, fps)
    anchor = Anchor(expected, rotation_sigma=0.004, translation_sigma=0.001, expression_sigma=0.06, angle_sigma=0.015)
    fit = fit_landmarks(head, observed, shape=shape, start=rough.params, anchor=anchor, config=config)
    report(_FIT, "Fitted")
    return Fit(_smoothed(fit.params, seen, fps), fit.focal, fit.error)


def _diverse(observed: Observations) -> Tensor:
    """Indices of frames that differ most in pose and expression: farthest-point sampling, outliers left out."""
    count = len(observed)
    if count <= _SHAPE_FRAMES:
        return torch.arange(count)
    points = observed.points.double()
    features = (points - points.mean(1, keepdim=True)) / eye_distance(points.median(0, keepdim=True).values)[
        :, None, None
    ]
    features = features.flatten(1)
    typical = (features - features.median(0).values).norm(dim=1)
    usual = (typical <= torch.quantile(typical, 0.95)).nonzero().squeeze(1)
    features, chosen = features[usual], [int(typical[usual].argmin())]
    distance = (features - features[chosen[0]]).norm(dim=1)
    while len(chosen) < _SHAPE_FRAMES and float(distance.max()) > 0:
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (features - features[chosen[-1]]).norm(dim=1))
    return usual[torch.tensor(sorted(chosen))]


def _smoothed(params: HeadParams, seen: Tensor, fps: float) -> HeadParams:
    """Zero-phase one-euro filtering of every unbroken run of frames with a face."""
    if fps <= 0:
        return params
    parts = []
    frame_numbers = seen.nonzero().squeeze(1)
    breaks = (frame_numbers.diff() > 1).nonzero().squeeze(1) + 1
    for run in torch.tensor_split(torch.arange(len(params)), breaks):
        part = params[run]
        parts.append(
            part.replace(
                expression=one_euro(part.expression, fps, 3.0, 6.0, zero_phase=True),
                rotation=one_euro_rotations(part.rotation, fps, 1.0, 12.0, zero_phase=True),
                translation=one_euro(part.translation, fps, 1.0, 60.0, zero_phase=True),
                jaw=one_euro(part.jaw, fps, 3.0, 30.0, zero_phase=True),
                eyes=one_euro(part.eyes, fps, 3.0, 20.0, zero_phase=True),
            )
        )
    return HeadParams.cat(parts)


def _held(params: HeadParams, seen: Tensor, trust: Tensor) -> HeadParams:
    """Parameters for all T frames: those of frames without a trusted face are held from the one before."""
    source = torch.full((len(seen),), -1, dtype=torch.long)
    source[seen] = torch.arange(len(params))
    trusted = trust > 0
    if not bool(trusted.any()):
        trusted = seen
    last = -1
    for index in range(len(seen)):
        if trusted[index]:
            last = int(source[index])
        source[index] = last
    first = source[source >= 0][0]
    return params[torch.where(source < 0, first, source)]


# -- judging ----------------------------------------------------------------------------------------------------------


def _judged(track: Track, scan: _Scan, head: HeadModel) -> FrameQuality:
    """The quality record of a track: errors are those of the final, smoothed parameters."""
    seen, lost = torch.from_numpy(scan.seen), track.confidence <= 0
    landmarks = track.landmarks
    assert landmarks is not None
    error, steady = _errors(track.params, track.camera, landmarks, head)
    yaw = face_yaw(track.params.rotation)
    luma = torch.from_numpy(scan.luma).float()
    state = torch.zeros(len(track), dtype=torch.uint8)
    for name, mask in (
        ("profile", yaw.abs() > PROFILE_YAW),
        ("held", lost),
        ("lost", ~seen),
        ("dark", ~seen & (luma < DARK)),
    ):
        state[mask] = FRAME_STATES.index(name)
    nothing = torch.full_like(yaw, float("nan"))
    longest = max(runs(~lost), key=lambda run: run[1] - run[0], default=(0, 0))
    still = slice(*longest)
    unit = eye_distance(landmarks[still]).median() if longest[1] > longest[0] else torch.ones(())
    return FrameQuality(
        state=state,
        error=torch.where(seen, error, nothing),
        presence=torch.from_numpy(scan.presence).float(),
        yaw=torch.where(seen, yaw, nothing),
        luma=luma,
        shot=torch.zeros(len(track), dtype=torch.int32),
        jitter=torch.tensor(jitter_of(steady[still], landmarks[still][:, list(STEADY)], unit)),
    )


def _errors(params: HeadParams, camera: Camera, landmarks: Tensor, head: HeadModel) -> tuple[Tensor, Tensor]:
    """(T,) mean distance of the head's landmarks to ``landmarks``, share of the eye distance, and its steady points."""
    count = int(landmarks.shape[1])
    steady = [index for index in STEADY if index < count]
    errors, kept = [], []
    for first in range(0, len(params), _BLOCK):
        block = slice(first, first + _BLOCK)
        fitted = camera.project(head.landmarks(head.vertices(params[block]), count))
        distance = (fitted - landmarks[block]).norm(dim=-1).mean(-1)
        errors.append(distance / eye_distance(landmarks[block]).clamp_min(1e-6))
        kept.append(fitted[:, steady].clone())
    return torch.cat(errors), torch.cat(kept)


# -- what people are told ---------------------------------------------------------------------------------------------


def neutral_of(params: HeadParams, trust: Tensor) -> Tensor:
    """The clip's own neutral (E + 9,): expression, jaw, eyes of its calmest frames; the gaze is the usual one.

    Lids are judged apart: a blink must not keep a calm frame out, nor a drowsy look set the neutral.
    """
    good = trust >= 0.5 * trust.max()
    expression, jaw, eyes = params.expression[good], params.jaw[good], params.eyes[good]
    effort = expression.abs().sum(1) + 6.0 * jaw.norm(dim=1)
    calm = effort <= torch.quantile(effort, 0.1) + 1e-6
    resting = torch.minimum(expression[calm].median(0).values, torch.quantile(expression, 0.5, 0))
    return torch.cat([resting, jaw[calm].median(0).values, eyes.median(0).values])


def _warnings(name: str, params: HeadParams, trust: Tensor, fps: float) -> Iterator[str]:
    """Sentences about frames that could not be used."""
    lost = trust <= 0
    count = int(lost.sum())
    if count:
        longest = max(runs(lost), key=lambda run: run[1] - run[0])
        yield (
            f"No face was found in {count} of the {len(trust)} frames of {name}, the longest time from "
            f"{longest[0] / fps:.1f} to {longest[1] / fps:.1f} seconds; the motion is held there."
        )
    turned = int(((face_yaw(params.rotation).abs() > _MAX_YAW) & ~lost).sum())
    if turned:
        yield f"In {turned} frames of {name} the face is seen from the side, so its expression there is a guess."
