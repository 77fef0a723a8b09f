"""Quality of each frame of a tracked clip, and the warnings about frames that could not be used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from spatialavatar.head import HeadModel
from spatialavatar.records import FRAME_STATES, Camera, FrameQuality, HeadMotion
from spatialavatar.tracking.clip_fit import unbroken
from spatialavatar.tracking.fit import eye_distance
from spatialavatar.tracking.photos import face_yaw
from spatialavatar.tracking.quality import DARK, PROFILE_YAW, STEADY, jitter_of, runs
from spatialavatar.tracking.scan import Scan

_BLOCK: Final = 32  # frames whose vertices are in memory at once


def measure_quality(motion: HeadMotion, camera: Camera, landmarks: Tensor, scan: Scan, head: HeadModel) -> FrameQuality:
    """The quality of a clip's frames; errors are those of the final, smoothed parameters.

    Args:
        motion: the tracked motion, T frames.
        camera: of the crops.
        landmarks: (T, L, 2) detected landmarks, pixels of the crops.
        scan: what was detected in the frames.
        head: the head model.
    """
    seen, lost = torch.from_numpy(scan.seen), motion.confidence <= 0
    error, steady = _errors(motion, camera, landmarks, head)
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


def frame_warnings(name: str, motion: HeadMotion, quality: FrameQuality) -> Iterator[str]:
    """Sentences about the frames of the video ``name`` that could not be used."""
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
            f"No face was found in {int(lost.sum())} of the {count} frames of {name}, the longest time "
            f"{_time_range(first, last, motion.fps)}; the motion is held there."
        )
    turned = int((state == FRAME_STATES.index("profile")).sum())
    if turned:
        yield f"In {turned} frames of {name} the face is seen from the side, so its expression there is a guess."


def _time_range(first: int, last: int, fps: float) -> str:
    """The half-open range of frames in seconds, or in frames where the rate is unknown."""
    if fps <= 0:
        return f"from frame {first} to {last - 1}"
    return f"from {first / fps:.1f} to {last / fps:.1f} seconds"


def _errors(motion: HeadMotion, camera: Camera, landmarks: Tensor, head: HeadModel) -> tuple[Tensor, Tensor]:
    """Distances of the head's landmarks to the detected ones, and the head's steady landmarks.

    Returns:
        (T,) mean distances, as fractions of the eye distance, and (T, 8, 2) pixels of the crops.
    """
    count = int(landmarks.shape[1])
    steady = [index for index in STEADY if index < count]
    # Written in place: small results kept between large temporaries would pin the heap.
    errors, kept = torch.empty(len(motion)), torch.empty(len(motion), len(steady), 2)
    for first in range(0, len(motion), _BLOCK):
        block = slice(first, first + _BLOCK)
        fitted = camera.project(head.landmarks(head.vertices(motion.params[block]), count))
        distance = (fitted - landmarks[block]).norm(dim=-1).mean(-1)
        errors[block] = distance / eye_distance(landmarks[block]).clamp_min(1e-6)
        kept[block] = fitted[:, steady]
    return errors, kept
