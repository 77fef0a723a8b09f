"""SpatialAvatar: one to four portraits to an animatable 3D Gaussian head.

The three steps and their results::

    avatar = spatialavatar.generate(["me.jpg"])  # photos -> Avatar
    motion = spatialavatar.track("driver.mp4")  # photo or video -> Track
    spatialavatar.drive(avatar, motion, "out.mp4")  # Avatar + Track -> video

and an optional one, with a video of the person: ``refine(avatar, track)``, which yields ever better avatars.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spatialavatar.avatar import Avatar
    from spatialavatar.driving import DriveConfig, DriveReport, drive
    from spatialavatar.errors import SpatialAvatarError
    from spatialavatar.generator import SpatialAvatar
    from spatialavatar.head import HeadModel
    from spatialavatar.pipeline import generate
    from spatialavatar.records import Camera, Gaussians, HeadParams, Track
    from spatialavatar.refinement import RefineConfig, RefineStep, refine
    from spatialavatar.speaking import SpeechConfig, idle, say, speak
    from spatialavatar.tracking import track

__version__ = "0.1.0"

# Loaded on first use, so that `import spatialavatar` and `spatialavatar --help` do not wait for torch.
_EXPORTS = {
    "Avatar": "avatar",
    "Camera": "records",
    "DriveConfig": "driving",
    "DriveReport": "driving",
    "Gaussians": "records",
    "HeadModel": "head",
    "HeadParams": "records",
    "RefineConfig": "refinement",
    "RefineStep": "refinement",
    "SpatialAvatar": "generator",
    "SpatialAvatarError": "errors",
    "SpeechConfig": "speaking",
    "Track": "records",
    "drive": "driving",
    "generate": "pipeline",
    "idle": "speaking",
    "refine": "refinement",
    "say": "speaking",
    "speak": "speaking",
    "track": "tracking",
}

__all__ = [
    "Avatar",
    "Camera",
    "DriveConfig",
    "DriveReport",
    "Gaussians",
    "HeadModel",
    "HeadParams",
    "RefineConfig",
    "RefineStep",
    "SpatialAvatar",
    "SpatialAvatarError",
    "SpeechConfig",
    "Track",
    "__version__",
    "drive",
    "generate",
    "idle",
    "refine",
    "say",
    "speak",
    "track",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'spatialavatar' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"spatialavatar.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value
