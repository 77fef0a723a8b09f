"""Motion files of other programs, and a head that FLAME parameters drive, for the tests of motion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from spatialavatar.head import HeadModel

from .ball_head import make_ball_head

FRAMES = 5
"""Frames of :func:`vhap_arrays`."""


def make_flame_ball() -> HeadModel:
    """The ball with FLAME's names for its two expressions."""
    ball = make_ball_head()
    info = ball.info | {"id": "flame-ball", "expressions": ["flame_000", "flame_001"]}
    return HeadModel(ball.tensors(), info)


def vhap_arrays(**changes: Any) -> dict[str, np.ndarray]:
    """What VHAP saves of a clip, at other sizes."""
    random = np.random.default_rng(0)
    arrays = {
        "shape": random.normal(size=3),
        "expr": random.normal(size=(FRAMES, 2)),
        "rotation": 0.2 * random.normal(size=(FRAMES, 3)),
        "neck_pose": 0.1 * random.normal(size=(FRAMES, 3)),
        "jaw_pose": 0.1 * random.normal(size=(FRAMES, 3)),
        "eyes_pose": 0.1 * random.normal(size=(FRAMES, 6)),
        "translation": 0.1 * random.normal(size=(FRAMES, 3)),
        "focal_length": np.array([2.0]),
        "image_size": np.array([300, 400]),
        "static_offset": np.zeros((1, 7, 3)),
        "lights": np.zeros((9, 3)),
        "timestep_id": np.array([f"{index:05d}" for index in range(FRAMES)]),
    }
    arrays = {name: array.astype(np.float32) if array.dtype == np.float64 else array for name, array in arrays.items()}
    return {name: array for name, array in (arrays | changes).items() if array is not None}


def audio2face(folder: Path, **changes: Any) -> Path:
    """The blendshape export of Audio2Face, of three frames."""
    data = {
        "exportFps": 60.0,
        "trackPath": "speech.wav",
        "numPoses": 3,
        "numFrames": 3,
        "facsNames": ["eyeBlinkLeft", "jawOpen", "tongueTipUp"],
        "weightMat": [[0.0, 0.1 * index, 0.9] for index in range(3)],
    }
    path = folder / "speech.json"
    path.write_text(json.dumps({key: value for key, value in (data | changes).items() if value is not None}))
    return path
