"""Synthetic tracks without pictures."""

from __future__ import annotations

import torch

from spatialavatar.records import FRAME_STATES, Camera, Evidence, FrameQuality, HeadMotion, HeadParams, Track

FRAMES, FPS = 50, 25.0


def a_track(states: dict[str, slice] | None = None, **changes: torch.Tensor) -> Track:
    """50 good frames, except for the given stretches."""
    state = torch.zeros(FRAMES, dtype=torch.uint8)
    for name, stretch in (states or {}).items():
        state[stretch] = FRAME_STATES.index(name)
    confidence = (state <= FRAME_STATES.index("profile")).float()
    values = {
        "state": state,
        "error": torch.where(confidence > 0, 0.01, float("nan")),
        "presence": confidence.clone(),
        "yaw": torch.zeros(FRAMES),
        "luma": torch.full((FRAMES,), 0.5),
        "shot": torch.zeros(FRAMES, dtype=torch.int32),
        "jitter": torch.tensor([0.001, 0.004]),
    }
    blendshapes = changes.pop("blendshapes", torch.zeros(FRAMES, 52))
    return Track(
        motion=HeadMotion(HeadParams.neutral(2, 3, FRAMES), FPS, "test", confidence),
        camera=Camera.frontal(),
        evidence=Evidence(None, blendshapes, FrameQuality(**values | changes)),
    )


def make_track(avatar, frames: int = 6, **changes) -> Track:
    params = avatar.head.neutral(frames)
    params = params.replace(translation=params.translation + torch.tensor([0.05, 0.0, -0.7]), **changes)
    return Track(HeadMotion(params, 25.0, avatar.head.id, torch.ones(frames)), Camera.frontal(128))
