"""Summary of the quality of a track, in figures, in sentences and as JSON.

Everything here is derived from the track's :class:`~spatialavatar.records.FrameQuality`, so it works on saved tracks
without their video. Errors and jitter are fractions of the distance between the outer eye corners.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.records import FRAME_STATES, FrameQuality, Track

PROFILE_YAW: Final = 50.0
"""Fitted yaw in degrees beyond which half of the face is hidden and its expression is unreliable. The landmark network
underestimates large yaw: on renderings of avatars at 60 degrees the fit gives 49 to 55."""
DARK: Final = 0.06
"""Mean luma below which a picture is too dark to show a face."""
STEADY: Final = (168, 6, 197, 195, 5, 9, 151, 10)
"""Indices of landmarks on forehead and nose ridge among the 478; they move with the skull only."""

_JSON_FORMAT: Final = "spatialavatar.quality"
_JSON_VERSION: Final = 1
_BLINK: Final = 0.5  # mean blink score of both eyes from which they are shut
_LONGEST_BLINK: Final = 0.5  # seconds; eyes that are shut for longer do not count as a blink
_GAP: Final = 0.25  # seconds; runs of one state that are closer are reported as one
_EXPOSURE_JUMP: Final = 0.15  # change of the face's mean luma from one frame to the next
_MEANINGS: Final = {
    "profile": "face turned past about 60 degrees, the far half is guessed",
    "held": "a face that the head does not fit (covered, blurred or cut off), motion held",
    "lost": "no face, motion held",
    "dark": "too dark to see a face, motion held",
    "other_person": "another person, motion held",
}


@dataclass(frozen=True)
class ClipQuality:
    """Summary of a track.

    Attributes:
        frames: number of frames.
        fps: frames per second.
        states: number of frames in each of ``FRAME_STATES``.
        median_error: of the landmarks of tracked frames, as a fraction of the eye distance; NaN without any.
        p95_error: the same, 95th percentile.
        jitter: of the fitted head on the stillest frames, same unit; NaN where the clip is too short.
        detector_jitter: of the landmarks as detected, on the same frames.
        cuts: first frames of the second and later shots.
        blinks: half-open frame ranges.
        exposure_jumps: frames at which the brightness of the face jumps.
        verdicts: sentences about the clip, the overall one first.
    """

    frames: int
    fps: float
    states: dict[str, int]
    median_error: float
    p95_error: float
    jitter: float
    detector_jitter: float
    cuts: tuple[int, ...]
    blinks: tuple[tuple[int, int], ...]
    exposure_jumps: tuple[int, ...]
    verdicts: tuple[str, ...]


def clip_quality(track: Track) -> ClipQuality:
    """Summarise a track.

    Raises:
        InputError: the track has no quality record: it is of a photo, or was made by an older release.
    """
    quality = track.require_quality()
    tracked = quality.tracked
    errors = quality.error[tracked]
    states = {name: int((quality.state == code).sum()) for code, name in enumerate(FRAME_STATES)}
    cuts = tuple((quality.shot.diff() != 0).nonzero().squeeze(1).add(1).tolist())
    blinks = tuple(_blinks(track))
    jumps = tuple(_exposure_jumps(quality))
    median, p95 = (float(torch.quantile(errors, q)) if len(errors) else math.nan for q in (0.5, 0.95))
    overall = f"{states['ok'] + states['profile']} of {len(track)} frames tracked"
    if len(errors):
        overall += f", landmark error {100 * median:.1f} % of the eye distance (95 % of frames below {100 * p95:.1f} %)"
    if len(cuts):
        overall += f", {len(cuts) + 1} shots"
    overall += f", {len(blinks)} {'blink' if len(blinks) == 1 else 'blinks'}."
    return ClipQuality(
        frames=len(track),
        fps=track.fps,
        states=states,
        median_error=median,
        p95_error=p95,
        jitter=float(quality.jitter[0]),
        detector_jitter=float(quality.jitter[1]),
        cuts=cuts,
        blinks=blinks,
        exposure_jumps=jumps,
        verdicts=(overall, *_verdicts(quality, cuts, jumps, track.fps)),
    )


def as_json(track: Track) -> dict[str, Any]:
    """The whole report, ready for ``json.dumps``: ``clip`` as in :class:`ClipQuality`, and ``per_frame`` lists.

    Values that do not exist, such as the error of a frame without a face, are None.

    Raises:
        InputError: the track has no quality record.
    """
    quality = track.require_quality()
    per_frame = {
        "state": [FRAME_STATES[code] for code in quality.state.tolist()],
        "confidence": _plain(track.confidence, 3),
        "error": _plain(quality.error, 5),
        "presence": _plain(quality.presence, 3),
        "yaw": _plain(quality.yaw, 1),
        "luma": _plain(quality.luma, 3),
        "shot": quality.shot.tolist(),
    }
    clip = {name: _finite(value) for name, value in asdict(clip_quality(track)).items()}
    return {"format": _JSON_FORMAT, "version": _JSON_VERSION, "clip": clip, "per_frame": per_frame}


def jitter_of(fitted: Tensor, detected: Tensor, unit: Tensor) -> tuple[float, float]:
    """Jitter of points while the head is still.

    The root mean square of the second differences over the stillest tenth of the frames (by the detected points after a
    Gaussian of three frames), scaled so that white noise gives its standard deviation.

    Args:
        fitted: (T, 8, 2) the head's :data:`STEADY` landmarks, one shot without gaps.
        detected: (T, 8, 2) those of the network.
        unit: unit of the result, pixels.

    Returns:
        Jitter of the fitted and of the detected points, in ``unit``; NaN for fewer than 8 frames.
    """
    if len(detected) < 8 or detected.shape[1] < len(STEADY):
        return math.nan, math.nan
    slow = torch.from_numpy(gaussian_filter1d((detected / unit).numpy(), 3.0, axis=0, mode="nearest"))
    speed = torch.gradient(slow, dim=0)[0].norm(dim=-1).mean(1)[1:-1]
    still = speed <= torch.quantile(speed, 0.1)
    trembling = (points.diff(n=2, dim=0)[still] / unit for points in (fitted, detected))
    of_fitted, of_detected = (float((rest.square().sum(-1).mean() / 6.0).sqrt()) for rest in trembling)
    return of_fitted, of_detected


def runs(mask: Tensor) -> list[tuple[int, int]]:
    """Half-open ranges of true values in ``mask`` (T,)."""
    edges = torch.diff(mask.int(), prepend=torch.zeros(1, dtype=torch.int), append=torch.zeros(1, dtype=torch.int))
    return list(zip((edges == 1).nonzero().squeeze(1).tolist(), (edges == -1).nonzero().squeeze(1).tolist()))


def _blinks(track: Track) -> Iterator[tuple[int, int]]:
    """Half-open ranges of frames in which both eyes are shut briefly."""
    scores = (
        track.require_evidence().blendshapes[:, [ARKIT_INDEX["eyeBlinkLeft"], ARKIT_INDEX["eyeBlinkRight"]]].mean(1)
    )
    shut = (scores >= _BLINK) & (track.confidence > 0)
    for first, last in runs(shut):
        if track.fps <= 0 or last - first <= max(1.0, _LONGEST_BLINK * track.fps):
            yield first, last


def _exposure_jumps(quality: FrameQuality) -> Iterator[int]:
    change = quality.luma.diff().abs()
    within = quality.tracked[1:] & quality.tracked[:-1] & (quality.shot.diff() == 0)
    yield from ((change > _EXPOSURE_JUMP) & within).nonzero().squeeze(1).add(1).tolist()


def _verdicts(quality: FrameQuality, cuts: tuple[int, ...], jumps: tuple[int, ...], fps: float) -> Iterator[str]:
    """A sentence for every cut, jump and flawed stretch, in the order of the clip."""
    found: list[tuple[int, str]] = [(cut, f"Frame {cut}: cut to another shot.") for cut in cuts]
    found += [(jump, f"Frame {jump}: the light on the face jumps.") for jump in jumps]
    for code, name in enumerate(FRAME_STATES):
        if name in _MEANINGS:
            for first, last in _bridged(runs(quality.state == code), round(_GAP * fps)):
                where = f"Frame {first}" if last - first == 1 else f"Frames {first}-{last - 1}"
                found.append((first, f"{where}: {_MEANINGS[name]}."))
    yield from (sentence for _, sentence in sorted(found))


def _bridged(ranges: list[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    """Half-open ranges; those at most ``gap`` frames apart are joined."""
    joined: list[tuple[int, int]] = []
    for first, last in ranges:
        if joined and first - joined[-1][1] <= gap:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return joined


def _plain(values: Tensor, digits: int) -> list[float | None]:
    return [round(value, digits) if math.isfinite(value) else None for value in values.tolist()]


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
