"""Videos to Tracks: one shape for the clip, every frame fitted with it, jitter taken out without lag.

The file is decoded once (twice where pixels are asked for), one frame at a time; what stays of a frame are 478
landmarks and 52 scores. With the shape known the frames are fitted in blocks, so that memory hardly grows with length.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from spatialavatar.errors import InputError
from spatialavatar.head import HeadModel
from spatialavatar.media import PictureSequence, VideoReader
from spatialavatar.progress import Progress, silent
from spatialavatar.records import (
    FRAME_STATES,
    Camera,
    Evidence,
    FrameQuality,
    HeadMotion,
    HeadParams,
    Neutral,
    Pictures,
    Track,
)
from spatialavatar.threads import one_torch_thread
from spatialavatar.tracking.fit import Anchor, Fit, FitConfig, Observations, eye_distance, fit_landmarks
from spatialavatar.tracking.framing import CROP_SIZE, FOCAL, Crop, crop_around_all, cut, separate
from spatialavatar.tracking.landmarker import LANDMARK_COUNT
from spatialavatar.tracking.lids import shut_by_network, with_shut_lids
from spatialavatar.tracking.networks import Networks
from spatialavatar.tracking.neutral import neutral_of
from spatialavatar.tracking.photos import GOOD_FACE, MIN_FACE, confidence, face_yaw, shared_networks
from spatialavatar.tracking.quality import DARK, PROFILE_YAW, STEADY, jitter_of, runs
from spatialavatar.tracking.scan import Reader, Scan, first_frames, scan_video
from spatialavatar.tracking.smoothing import low_pass, low_pass_rotations, one_euro, one_euro_rotations

MAX_SIDE: Final = 1920  # larger frames show the networks nothing more
_SHAPE_FRAMES: Final = 24
_CANDIDATES: Final = 2000  # frames, spread over the clip, that they are chosen from
_ROUGH_ITERATIONS: Final = 6
_MAX_ERROR: Final = 0.12  # mean landmark error, part of the eye distance, at which a frame counts as lost
_SHAKE: Final = 5.0  # Hz; a head that nods or shakes goes to and fro three times a second at most
_BLOCK: Final = 32  # frames whose vertices are held at once
_SCAN, _FIT = 0.7, 0.95  # shares of the progress bar


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

    Hard cuts split the clip into shots. Each shot has a crop of its own that stands still through it; where the file
    is larger than 1920 pixels, it is in pixels of the picture scaled down to that. The person who is seen for the most
    frames is followed. Frames that do not show that person have confidence 0 and the parameters of the frame before
    (at the start of a shot those of the next one); ``Track.quality`` tells which and why, and a warning how many.

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
            VideoReader(path, max_side=MAX_SIDE) if isinstance(path, (str, Path)) else path,
            head,
            shape,
            with_images,
            max_frames,
            networks or shared_networks(),
            config or FitConfig(),
            progress or silent,
        )


def _track_video(
    reader: Reader,
    head: HeadModel,
    shape: Tensor | None,
    with_images: bool,
    max_frames: int | None,
    networks: Networks,
    config: FitConfig,
    report: Progress,
) -> Track:
    scan = scan_video(reader, networks, max_frames, lambda share, message: report(_SCAN * share, message))
    boxes = np.stack([scan.points.min(axis=1), scan.points.max(axis=1)], axis=1)
    _check_size(boxes[scan.seen], reader.path)
    report(_SCAN, "Fitting the head")
    seen, shot = torch.from_numpy(scan.seen), torch.from_numpy(scan.shot)
    crops, camera = _crops(boxes, scan.seen, scan.shot)
    _into_crops(scan, crops)
    landmarks, blendshapes = torch.from_numpy(scan.points), torch.from_numpy(scan.scores)
    always = bool(seen.all())  # then nothing has to be picked out, which would copy it
    observed = Observations(
        points=landmarks if always else landmarks[seen],
        blendshapes=blendshapes if always else blendshapes[seen],
        principal_point=torch.full((2,), CROP_SIZE / 2),
        focal=torch.full((int(seen.sum()),), float(camera.intrinsics[0, 0])),
    )
    fit = _fit_clip(head, observed, shape, unbroken(seen, shot), scan.fps, config, report)
    trust = torch.zeros(len(seen))
    trust[seen] = torch.tensor(
        [
            confidence(presence, error) if error < _MAX_ERROR else 0.0
            for presence, error in zip(scan.presence[scan.seen].tolist(), fit.error.tolist())
        ]
    )
    moved = fit.params
    if observed.points.shape[1] == LANDMARK_COUNT:
        moved = with_shut_lids(head, moved, shut_by_network(observed.points, observed.blendshapes))
    params = _held(moved, seen, trust, shot)
    motion = HeadMotion(params, scan.fps, head.id, trust, Neutral(neutral_of(params, trust, head.has_named_units)))
    quality = _judged(motion, camera, landmarks, scan, head)
    frame_crops = [crops[number] for number in scan.shot.tolist()]
    track = Track(
        motion=motion,
        camera=camera,
        crop=torch.tensor([crop.box for crop in frame_crops]),
        evidence=Evidence(landmarks, blendshapes, quality),
        pictures=_pictures(reader, frame_crops, networks, report) if with_images else None,
        warnings=(*scan.warnings, *_warnings(reader.path.name, motion, quality)),
    )
    report(1.0, "Tracked")
    return track


# -- framing ----------------------------------------------------------------------------------------------------------


def _check_size(boxes: np.ndarray, path: Path) -> None:
    size = float(np.median((boxes[:, 1] - boxes[:, 0]).max(axis=1)))
    if size < MIN_FACE:
        raise InputError(
            f"The face in {path.name} is only {size:.0f} pixels high; give a video in which it has at least "
            f"{MIN_FACE} pixels, better {GOOD_FACE}."
        )


def _crops(boxes: np.ndarray, seen: np.ndarray, shot: np.ndarray) -> tuple[dict[int, Crop], Camera]:
    """The crop of each shot, which stands still through it, and the one camera of all crops.

    One camera means one focal length in pixels of the crop, so that a face that fills the crop alike is equally far
    away in every shot: a cut changes lens or distance, and nothing in the picture tells which. What a shot needs around
    the face, for its head wanders, all shots get.
    """
    found: dict[int, tuple[Crop, float]] = {}
    for number in np.unique(shot[seen]).tolist():
        found[number] = crop_around_all(boxes[seen & (shot == number)])
    room = max(crop.side / tight for crop, tight in found.values())
    crops = {number: crop.resized(room * tight) for number, (crop, tight) in found.items()}
    last = next(iter(crops.values()))
    for number in range(int(shot.max()) + 1):  # a shot without the person is cut as the one before it
        last = crops.setdefault(number, last)
    return crops, Camera.frontal(CROP_SIZE, FOCAL / room)


def _into_crops(scan: Scan, crops: dict[int, Crop]) -> None:
    """Turn the scan's landmarks into pixels of the crops, in place; what is not the person's becomes 0."""
    for index, (number, seen) in enumerate(zip(scan.shot.tolist(), scan.seen.tolist())):
        scan.points[index] = crops[number].to_crop(scan.points[index]) if seen else 0.0
        if not seen:
            scan.scores[index] = 0.0


def _pictures(reader: Reader, crops: list[Crop], networks: Networks, report: Progress) -> Pictures:
    """Crops, mattes and classes of all frames: a second reading of the file, now that the crops are known."""
    count = len(crops)
    images = np.empty((count, CROP_SIZE, CROP_SIZE, 3), dtype=np.uint8)
    mattes = np.empty((count, CROP_SIZE, CROP_SIZE), dtype=np.uint8)
    segments = np.empty_like(mattes)
    for index, frame in enumerate(first_frames(reader, count)):
        images[index] = cut(frame, crops[index])
        mattes[index], segments[index] = separate(frame, crops[index], networks)
        report(_FIT + (1.0 - _FIT) * (index + 1) / count, f"Cutting out frame {index + 1} of {count}")
    return Pictures(torch.from_numpy(images), torch.from_numpy(mattes), torch.from_numpy(segments))


# -- fitting ----------------------------------------------------------------------------------------------------------


def _fit_clip(
    head: HeadModel,
    observed: Observations,
    shape: Tensor | None,
    stretches: list[Tensor],
    fps: float,
    config: FitConfig,
    report: Progress,
) -> Fit:
    """One shape, unless it is given, then every frame, then every frame again with its neighbours' advice."""
    if shape is None:
        shape = fit_landmarks(head, observed[_diverse(observed)], config=config).params.shape
    report(_SCAN + 0.05, "Fitting every frame")
    rough = fit_landmarks(head, observed, shape=shape, config=config.with_iterations(_ROUGH_ITERATIONS))
    report(_SCAN + 0.15, "Smoothing")
    expected = smoothed(rough.params, stretches, fps)
    anchor = Anchor(expected, rotation_sigma=0.004, translation_sigma=0.001, expression_sigma=0.06, angle_sigma=0.015)
    fit = fit_landmarks(head, observed, shape=shape, start=rough.params, anchor=anchor, config=config)
    report(_FIT, "Fitted")
    return Fit(smoothed(fit.params, stretches, fps), fit.focal, fit.error)


def _diverse(observed: Observations) -> Tensor:
    """Indices of frames that differ most in pose and expression: farthest-point sampling, outliers left out."""
    if len(observed) <= _SHAPE_FRAMES:
        return torch.arange(len(observed))
    candidates = torch.arange(0, len(observed), -(-len(observed) // _CANDIDATES))
    points = observed.points[candidates]
    features = (points - points.mean(1, keepdim=True)) / eye_distance(points).median()
    features = features.flatten(1)
    typical = (features - features.median(0).values).norm(dim=1)
    usual = (typical <= torch.quantile(typical, 0.95)).nonzero().squeeze(1)
    features, chosen = features[usual], [int(typical[usual].argmin())]
    distance = (features - features[chosen[0]]).norm(dim=1)
    while len(chosen) < _SHAPE_FRAMES and float(distance.max()) > 0:
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (features - features[chosen[-1]]).norm(dim=1))
    return candidates[usual[torch.tensor(sorted(chosen))]]


def unbroken(seen: Tensor, shot: Tensor) -> list[Tensor]:
    """The seen frames, counted from 0, in runs without a gap or a cut between them."""
    numbers = seen.nonzero().squeeze(1)
    breaks = (numbers.diff() > 1) | (shot[numbers].diff() != 0)
    return list(torch.tensor_split(torch.arange(len(numbers)), breaks.nonzero().squeeze(1) + 1))


def smoothed(params: HeadParams, stretches: list[Tensor], fps: float) -> HeadParams:
    """Zero-phase filtering of every unbroken stretch of frames with the face.

    Of the head's pose what is quicker than a head can shake is taken out; the rest, and the face, are steadied the more
    the slower they move.
    """
    if fps <= 0:
        return params
    shake = min(_SHAKE, 0.4 * fps)
    parts = []
    for stretch in stretches:
        part = params[stretch]
        parts.append(
            part.replace(
                expression=one_euro(part.expression, fps, 3.0, 6.0, zero_phase=True),
                rotation=one_euro_rotations(
                    low_pass_rotations(part.rotation, fps, shake), fps, 1.0, 14.0, zero_phase=True
                ),
                translation=one_euro(low_pass(part.translation, fps, shake), fps, 1.0, 70.0, zero_phase=True),
                jaw=one_euro(part.jaw, fps, 3.0, 30.0, zero_phase=True),
                eyes=one_euro(part.eyes, fps, 3.0, 20.0, zero_phase=True),
            )
        )
    return HeadParams.cat(parts)


def _held(params: HeadParams, seen: Tensor, trust: Tensor, shot: Tensor) -> HeadParams:
    """Parameters for all T frames: those of frames without a trusted face are held from the one before in their shot.

    Before the first trusted frame of a shot they are that one's; a shot without any holds the one before it.
    """
    own = torch.full((len(seen),), -1, dtype=torch.long)
    own[seen] = torch.arange(len(params))
    trusted = (trust > 0) if bool((trust > 0).any()) else seen
    source = [-1] * len(seen)
    last, last_shot = -1, -1
    for index, (mine, good, number) in enumerate(zip(own.tolist(), trusted.tolist(), shot.tolist())):
        if good:
            last, last_shot = mine, number
        source[index] = last if last_shot == number else -1
    following, following_shot, before = -1, -1, -1
    for index in reversed(range(len(source))):
        if trusted[index]:
            following, following_shot = int(own[index]), int(shot[index])
        elif source[index] < 0 and following_shot == int(shot[index]):
            source[index] = following
    first = int(own[trusted][0])
    for index, value in enumerate(source):  # shots without a trusted frame
        before = value if value >= 0 else before
        source[index] = value if value >= 0 else max(before, first)
    return params[torch.tensor(source)]


# -- judging ----------------------------------------------------------------------------------------------------------


def _judged(motion: HeadMotion, camera: Camera, landmarks: Tensor, scan: Scan, head: HeadModel) -> FrameQuality:
    """The quality record of a clip: errors are those of the final, smoothed parameters."""
    seen, lost = torch.from_numpy(scan.seen), motion.confidence <= 0
    error, steady = _errors(motion.params, camera, landmarks, head)
    yaw = face_yaw(motion.params.rotation)
    luma, shot = torch.from_numpy(scan.luma), torch.from_numpy(scan.shot)
    state = torch.zeros(len(motion), dtype=torch.uint8)
    for name, mask in (
        ("profile", yaw.abs() > PROFILE_YAW),
        ("held", lost),
        ("lost", ~seen),
        ("dark", ~seen & (luma < DARK)),
        ("other_person", torch.from_numpy(scan.other)),
    ):
        state[mask] = FRAME_STATES.index(name)
    nothing = torch.full_like(yaw, float("nan"))
    longest = max(unbroken(~lost, shot), key=len)
    still = (~lost).nonzero().squeeze(1)[longest]
    unit = eye_distance(landmarks)[still].median() if len(still) else torch.ones(())
    points = [index for index in STEADY if index < landmarks.shape[1]]
    return FrameQuality(
        state=state,
        error=torch.where(seen, error, nothing),
        presence=torch.from_numpy(scan.presence),
        yaw=torch.where(seen, yaw, nothing),
        luma=luma,
        shot=shot,
        jitter=torch.tensor(jitter_of(steady[still], landmarks[:, points][still], unit)),
    )


def _errors(params: HeadParams, camera: Camera, landmarks: Tensor, head: HeadModel) -> tuple[Tensor, Tensor]:
    """(T,) mean distance of the head's landmarks to ``landmarks``, share of the eye distance, and its steady points."""
    count = int(landmarks.shape[1])
    steady = [index for index in STEADY if index < count]
    # Written in place: small results kept between large temporaries would pin the heap.
    errors, kept = torch.empty(len(params)), torch.empty(len(params), len(steady), 2)
    for first in range(0, len(params), _BLOCK):
        block = slice(first, first + _BLOCK)
        fitted = camera.project(head.landmarks(head.vertices(params[block]), count))
        distance = (fitted - landmarks[block]).norm(dim=-1).mean(-1)
        errors[block] = distance / eye_distance(landmarks[block]).clamp_min(1e-6)
        kept[block] = fitted[:, steady]
    return errors, kept


# -- what people are told ---------------------------------------------------------------------------------------------


def _warnings(name: str, motion: HeadMotion, quality: FrameQuality) -> Iterator[str]:
    """Sentences about frames that could not be used."""
    state = quality.state
    count = len(motion)
    strangers = state == FRAME_STATES.index("other_person")
    if bool(strangers.any()):
        yield (
            f"{int(strangers.sum())} of the {count} frames of {name} show another person; the one who is seen most is "
            "followed and the motion is held there."
        )
    lost = (motion.confidence <= 0) & ~strangers
    if bool(lost.any()):
        first, last = max(runs(lost), key=lambda run: run[1] - run[0])
        yield (
            f"No face was found in {int(lost.sum())} of the {count} frames of {name}, the longest time from "
            f"{first / motion.fps:.1f} to {last / motion.fps:.1f} seconds; the motion is held there."
        )
    turned = int((state == FRAME_STATES.index("profile")).sum())
    if turned:
        yield f"In {turned} frames of {name} the face is seen from the side, so its expression there is a guess."
