"""Videos to Tracks: scan the frames, choose the crops, fit the clip, measure its quality.

The file is decoded one frame at a time, once, or twice if pictures are kept. Only the 478 landmarks and 52 scores of a
frame stay in memory, and frames are fitted in batches, so memory hardly grows with the length of the video.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from spatialavatar.errors import InputError
from spatialavatar.head import HeadModel
from spatialavatar.media import PictureSequence, VideoReader
from spatialavatar.progress import Progress, no_progress, part
from spatialavatar.records import Camera, Evidence, HeadMotion, Neutral, Pictures, Track
from spatialavatar.threads import one_torch_thread
from spatialavatar.tracking.clip_fit import Timing, fit_clip, unbroken, with_held_frames
from spatialavatar.tracking.fit import FitConfig, Observations
from spatialavatar.tracking.frame_quality import frame_warnings, measure_quality
from spatialavatar.tracking.framing import CROP_SIZE, FOCAL, Crop, crop_around_all, cut, separate
from spatialavatar.tracking.landmarker import LANDMARK_COUNT
from spatialavatar.tracking.lids import shut_by_network, with_shut_lids
from spatialavatar.tracking.networks import Networks
from spatialavatar.tracking.neutral import neutral_of
from spatialavatar.tracking.photos import GOOD_FACE, MIN_FACE, confidence, shared_networks
from spatialavatar.tracking.scan import Reader, Scan, first_frames, scan_video

MAX_SIDE: Final = 1920
"""Longer side of a decoded frame, pixels; larger frames do not improve the networks' output."""
_MAX_ERROR: Final = 0.12  # mean landmark error, as a fraction of the eye distance, at which a frame counts as lost
_SCAN, _FIT = 0.7, 0.95  # progress after the scan and after the fit


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

    Hard cuts split the clip into shots. The crop is constant within a shot. If the longer side of the video exceeds
    1920 pixels, the crop is in pixels of the video scaled down to that. The person who is visible in most frames is
    tracked. Frames without that person have confidence 0 and the parameters of the frame before, or of the next one at
    the start of a shot. ``Track.quality`` states which frames and why; a warning states how many.

    Args:
        path: the video, or a reader of one.
        head: the head model.
        shape: (S,) known shape of the person, for instance an avatar's; by default it is fitted.
        with_images: keep images, mattes and segments of all frames, about 1.3 MB a frame.
        max_frames: stop after this many frames.
        networks: opened networks to reuse.
        config: settings of the fit.
        progress: called with (fraction, message).

    Raises:
        InputError: the video cannot be read, or the face is too small throughout.
        NoFaceError: no frame shows a face.
    """
    reader = VideoReader(path, max_side=MAX_SIDE) if isinstance(path, (str, Path)) else path
    tools = _Tools(head, networks or shared_networks(), config or FitConfig(), progress or no_progress)
    with one_torch_thread():
        return _track(reader, tools, shape, max_frames, with_images)


@dataclass(frozen=True)
class _Tools:
    """What every stage needs: the head model, the opened networks, the settings, and where progress is reported."""

    head: HeadModel
    networks: Networks
    config: FitConfig
    report: Progress


def _track(reader: Reader, tools: _Tools, shape: Tensor | None, max_frames: int | None, with_images: bool) -> Track:
    """Scan, frame and fit a video, and measure its quality; see :func:`track_video`."""
    head, report = tools.head, tools.report
    scan = scan_video(reader, tools.networks, max_frames, part(report, 0.0, _SCAN))
    boxes = np.stack([scan.points.min(axis=1), scan.points.max(axis=1)], axis=1)
    _check_size(boxes[scan.seen], reader.path)
    report(_SCAN, "Fitting the head")
    crops, camera = _crops(boxes, scan.seen, scan.shot)
    _into_crops(scan, crops)
    landmarks, blendshapes = torch.from_numpy(scan.points), torch.from_numpy(scan.scores)
    motion = _fit_motion(scan, camera, tools, shape)
    quality = measure_quality(motion, camera, landmarks, scan, head)
    frame_crops = [crops[number] for number in scan.shot.tolist()]
    track = Track(
        motion=motion,
        camera=camera,
        crop=torch.tensor([crop.box for crop in frame_crops]),
        evidence=Evidence(landmarks, blendshapes, quality),
        pictures=_pictures(reader, frame_crops, tools.networks, part(report, _FIT, 1.0)) if with_images else None,
        warnings=(*scan.warnings, *frame_warnings(reader.path.name, motion, quality)),
    )
    report(1.0, "Tracked")
    return track


def _fit_motion(scan: Scan, camera: Camera, tools: _Tools, shape: Tensor | None) -> HeadMotion:
    """Fit the frames with the person, close the lids of shut eyes, and fill the other frames."""
    head = tools.head
    seen, shot = torch.from_numpy(scan.seen), torch.from_numpy(scan.shot)
    landmarks, blendshapes = torch.from_numpy(scan.points), torch.from_numpy(scan.scores)
    always = bool(seen.all())  # then nothing has to be selected, which would copy it
    observed = Observations(
        points=landmarks if always else landmarks[seen],
        blendshapes=blendshapes if always else blendshapes[seen],
        principal_point=torch.full((2,), CROP_SIZE / 2),
        focal=torch.full((int(seen.sum()),), float(camera.intrinsics[0, 0])),
    )
    timing = Timing(unbroken(seen, shot), scan.fps)
    fit = fit_clip(head, observed, timing, shape, tools.config, part(tools.report, _SCAN, _FIT))
    trust = torch.zeros(len(seen))
    trust[seen] = torch.tensor(
        [
            confidence(presence, error) if error < _MAX_ERROR else 0.0
            for presence, error in zip(scan.presence[scan.seen].tolist(), fit.error.tolist())
        ]
    )
    params = fit.params
    if observed.points.shape[1] == LANDMARK_COUNT:
        params = with_shut_lids(head, params, shut_by_network(observed.points, observed.blendshapes))
    params = with_held_frames(params, seen, trust, shot)
    return HeadMotion(params, scan.fps, head.id, trust, Neutral(neutral_of(params, trust, head.unit_names)))


# -- framing ----------------------------------------------------------------------------------------------------------


def _check_size(boxes: np.ndarray, path: Path) -> None:
    """Raise :class:`InputError` if the median face, of boxes (T, 2, 2), is too small."""
    size = float(np.median((boxes[:, 1] - boxes[:, 0]).max(axis=1)))
    if size < MIN_FACE:
        raise InputError(
            f"The face in {path.name} is only {size:.0f} pixels high; give a video in which it has at least "
            f"{MIN_FACE} pixels, better {GOOD_FACE}."
        )


def _crops(boxes: np.ndarray, seen: np.ndarray, shot: np.ndarray) -> tuple[dict[int, Crop], Camera]:
    """The crop of each shot, and the one camera of all crops.

    One camera means one focal length in pixels of the crop: faces of the same size in the crop have the same distance
    in every shot. A cut changes the lens or the distance, and the picture does not show which. All shots get the margin
    around the face that the shot with the most head motion needs.

    Args:
        boxes: (T, 2, 2) lowest and highest x, y of the landmarks, pixels of the frames.
        seen: (T,) bool, frames with the person.
        shot: (T,) number of the shot.
    """
    found: dict[int, tuple[Crop, float]] = {}
    for number in np.unique(shot[seen]).tolist():
        found[number] = crop_around_all(boxes[seen & (shot == number)])
    room = max(crop.side / tight for crop, tight in found.values())
    crops = {number: crop.resized(room * tight) for number, (crop, tight) in found.items()}
    last = next(iter(crops.values()))
    for number in range(int(shot.max()) + 1):  # a shot without the person gets the crop of the shot before
        last = crops.setdefault(number, last)
    return crops, Camera.frontal(CROP_SIZE, FOCAL / room)


def _into_crops(scan: Scan, crops: dict[int, Crop]) -> None:
    """Convert the scan's landmarks to pixels of the crops, in place; frames without the person become 0."""
    for index, (number, seen) in enumerate(zip(scan.shot.tolist(), scan.seen.tolist())):
        scan.points[index] = crops[number].to_crop(scan.points[index]) if seen else 0.0
        if not seen:
            scan.scores[index] = 0.0


def _pictures(reader: Reader, crops: list[Crop], networks: Networks, report: Progress) -> Pictures:
    """Images, mattes and segments of all frames, by a second reading of the file."""
    count = len(crops)
    images = np.zeros((count, CROP_SIZE, CROP_SIZE, 3), dtype=np.uint8)
    mattes = np.zeros((count, CROP_SIZE, CROP_SIZE), dtype=np.uint8)
    segments = np.zeros_like(mattes)
    for index, frame in enumerate(first_frames(reader, count)):
        images[index] = cut(frame, crops[index])
        mattes[index], segments[index] = separate(frame, crops[index], networks)
        report((index + 1) / count, f"Cutting out frame {index + 1} of {count}")
    return Pictures(torch.from_numpy(images), torch.from_numpy(mattes), torch.from_numpy(segments))
