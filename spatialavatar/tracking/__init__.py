"""Photos and videos to Tracks: detection, landmarks, matte, the fit, smoothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spatialavatar.tracking.io import load_track, save_track
    from spatialavatar.tracking.photos import track_photo, track_photos
    from spatialavatar.tracking.tracker import track
    from spatialavatar.tracking.video import track_video

# Loaded on first use, so that importing the package does not wait for torch and OpenCV.
_EXPORTS = {
    "load_track": "io",
    "save_track": "io",
    "track": "tracker",
    "track_photo": "photos",
    "track_photos": "photos",
    "track_video": "video",
}

__all__ = ["load_track", "save_track", "track", "track_photo", "track_photos", "track_video"]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value
