"""The quality report of a tracked video as a page: verdicts, plots over time, and pictures with the fitted head.

Verdicts and plots come from the track (:mod:`.quality`); for the pictures the video is read once more. The page needs
no server.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spatialavatar.errors import InputError
from spatialavatar.files import atomic_output, make_folder
from spatialavatar.head import HeadModel
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.media import PictureSequence, VideoReader
from spatialavatar.progress import Progress, no_progress
from spatialavatar.records import FRAME_STATES, FrameQuality, Track
from spatialavatar.tracking.framing import Crop, cut
from spatialavatar.tracking.overlay import draw
from spatialavatar.tracking.quality import PROFILE_YAW, ClipQuality, as_json, clip_quality, runs
from spatialavatar.tracking.video import MAX_SIDE

_POINTS: Final = 600  # buckets of a plot; each shows its lowest and highest value, so that spikes stay visible
_MAX_PICTURES: Final = 12
_JPEG_QUALITY: Final = 86
_BEYOND: Final = 40  # grey level outside the source picture
_MEANINGS: Final = {
    "profile": "turned to profile",
    "held": "the head does not fit",
    "lost": "no face",
    "dark": "too dark",
    "other_person": "another person",
}


@dataclass(frozen=True)
class _Picture:
    """A frame that the page shows, with its caption."""

    frame: int
    caption: str

    @property
    def name(self) -> str:
        return f"frame_{self.frame:06d}.jpg"


def write_track_report(
    folder: str | Path,
    track: Track,
    head: HeadModel,
    source: str | Path | PictureSequence | None = None,
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """Write ``index.html``, ``report.json`` and the pictures that the page shows into ``folder``.

    Args:
        folder: created if it is missing.
        track: a tracked video.
        head: the head model of the track; its landmarks are drawn on the pictures.
        source: the video, or a sequence of pictures. None: the pictures of the track are shown, if it has any.
        progress: called with (fraction, message).

    Returns:
        The written files, the page first.

    Raises:
        InputError: the track has no quality record: it is of a photo, or was made by an older release.
        OutputError: the folder cannot be written.
    """
    report = progress or no_progress
    if track.fps <= 0:
        raise InputError("A photo has no report over time; give a video, or leave the report out.")
    clip, quality = clip_quality(track), track.require_quality()
    folder = make_folder(folder)
    wanted = _wanted(quality)
    shown = []
    for picture, image in _images(track, source, wanted, report):
        drawn = draw(image, _landmarks(track, head, picture.frame)) if quality.tracked[picture.frame] else image
        with atomic_output(folder / picture.name) as temporary:
            Image.fromarray(drawn).save(temporary, "JPEG", quality=_JPEG_QUALITY)
        shown.append(picture)
    shown.sort(key=wanted.index)
    data = as_json(track) | {"warnings": list(track.warnings)}
    data["pictures"] = [{"file": p.name, "frame": p.frame, "caption": p.caption} for p in shown]
    with atomic_output(folder / "report.json") as temporary:
        temporary.write_text(json.dumps(data, ensure_ascii=False) + "\n", encoding="utf-8")
    name = "a saved track"
    if source is not None:
        name = source.path.name if isinstance(source, PictureSequence) else Path(source).name
    with atomic_output(folder / "index.html") as temporary:
        temporary.write_text(_page(name, track, quality, clip, shown), encoding="utf-8")
    report(1.0, "Report written")
    return folder / "index.html", folder / "report.json", *(folder / picture.name for picture in shown)


# -- pictures ---------------------------------------------------------------------------------------------------------


def _wanted(quality: FrameQuality) -> list[_Picture]:
    """The best and the worst tracked frame, and the middle of the longest flawed stretches."""
    pictures = []
    tracked = quality.tracked.nonzero().squeeze(1)
    if len(tracked):
        errors = quality.error[tracked]
        for what, index in (("Best", errors.argmin()), ("Worst", errors.argmax())):
            frame = int(tracked[index])
            pictures.append(_Picture(frame, f"{what} fit: frame {frame}, {100 * float(errors[index]):.1f} %"))
    stretches = sorted(_stretches(quality), key=lambda stretch: stretch[1] - stretch[2])
    for state, first, last in sorted(stretches[: _MAX_PICTURES - len(pictures)], key=lambda stretch: stretch[1]):
        pictures.append(_Picture((first + last - 1) // 2, f"{_frames(first, last)}: {_MEANINGS[state]}"))
    return list({picture.frame: picture for picture in reversed(pictures)}.values())[::-1]


def _images(
    track: Track, source: str | Path | PictureSequence | None, wanted: Sequence[_Picture], report: Progress
) -> Iterator[tuple[_Picture, np.ndarray]]:
    """Each picture with its crop (512, 512, 3) uint8; none if neither track nor source has pixels."""
    if track.pictures is not None:
        for picture in wanted:
            yield picture, track.pictures.images[picture.frame].cpu().numpy()
        return
    if source is None or track.crop is None or not wanted:
        return
    by_frame = {picture.frame: picture for picture in wanted}
    last = max(by_frame)
    reader = source if isinstance(source, PictureSequence) else VideoReader(source, max_side=MAX_SIDE)
    for index, frame in enumerate(reader):
        report(min(1.0, index / (last + 1)), f"Drawing frame {index + 1} of {last + 1}")
        if index in by_frame:
            x0, y0, x1, _ = (int(value) for value in track.crop[index].tolist())
            yield by_frame[index], _framed(frame, Crop(x0, y0, x1 - x0))
        if index == last:
            return


def _framed(frame: np.ndarray, crop: Crop) -> np.ndarray:
    """The pixels of a crop, grey outside the source picture, where :func:`cut` would repeat its border."""
    image = cut(frame, crop)
    limits = np.array([[0, 0], [frame.shape[1], frame.shape[0]]])
    (x0, y0), (x1, y1) = np.clip(np.round(crop.to_crop(limits)), 0, len(image)).astype(int)
    framed = np.full_like(image, _BEYOND)
    framed[y0:y1, x0:x1] = image[y0:y1, x0:x1]
    return framed


def _landmarks(track: Track, head: HeadModel, frame: int) -> np.ndarray:
    """(478, 2) landmarks of the fitted head, pixels of the crop."""
    with torch.inference_mode():
        return track.camera.project(head.landmarks(head.vertices(track.params[frame]))[0]).cpu().numpy()


# -- the page ---------------------------------------------------------------------------------------------------------


def _page(name: str, track: Track, quality: FrameQuality, clip: ClipQuality, pictures: Sequence[_Picture]) -> str:
    template = Template(files("spatialavatar.tracking").joinpath("report.html").read_text(encoding="utf-8"))
    verdict, *others = clip.verdicts
    sentences = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in (*others, *track.warnings))
    return template.substitute(
        name=html.escape(name),
        verdict=html.escape(verdict),
        sentences=f"<ul>{sentences}</ul>" if sentences else "",
        facts="".join(f"<div><dt>{label}</dt><dd>{value}</dd></div>" for label, value in _facts(clip)),
        charts="\n".join(_charts(track, quality)),
        key=_key(quality),
        pictures=_gallery(pictures),
    )


def _facts(clip: ClipQuality) -> Iterator[tuple[str, str]]:
    yield "Length", f"{clip.frames / clip.fps:.1f} s"
    yield "Frames a second", f"{clip.fps:.4g}"
    yield "Median error", _percent(clip.median_error)
    yield "95 % of frames below", _percent(clip.p95_error)
    yield "Jitter of the fit", _percent(clip.jitter, 2)
    yield "Jitter of the detector", _percent(clip.detector_jitter, 2)
    yield "Shots", str(len(clip.cuts) + 1)
    yield "Blinks", str(len(clip.blinks))


@dataclass(frozen=True, eq=False)
class _Plot:
    """One plot over the frames of a clip.

    Attributes:
        title: caption.
        lines: label and (T,) values of each line; NaN leaves a gap.
        limits: value at the lower and at the upper edge.
        ticks: labels of the scale, from top to bottom.
        marks: values at which a dashed line is drawn.
    """

    title: str
    lines: Sequence[tuple[str, Tensor]]
    limits: tuple[float, float]
    ticks: Sequence[str]
    marks: Sequence[float] = ()

    def height(self, value: float) -> float:
        """Distance of a value from the upper edge, in percent of the plot's height."""
        low, high = self.limits
        return 100.0 * (1.0 - (min(max(value, low), high) - low) / (high - low))


def _charts(track: Track, quality: FrameQuality) -> Iterator[str]:
    """The plots of the page as HTML."""
    error = 100.0 * quality.error
    finite = error[error.isfinite()]
    top = max(3.0, math.ceil(float(finite.max()))) if len(finite) else 3.0
    scores = torch.where(track.confidence[:, None] > 0, track.require_evidence().blendshapes, float("nan"))
    blink = scores[:, [ARKIT_INDEX["eyeBlinkLeft"], ARKIT_INDEX["eyeBlinkRight"]]].mean(1)
    yaw_title = "Head turn, degrees to its own left; dashed: half of the face is hidden"
    lids_and_jaw = [("lids shut", blink), ("jaw open", scores[:, ARKIT_INDEX["jawOpen"]])]
    for plot in (
        _Plot("Landmark error, % of the eye distance", [("", error)], (0.0, top), (f"{top:.0f}", "0")),
        _Plot("Confidence", [("", track.confidence)], (0.0, 1.0), ("1", "0")),
        _Plot(yaw_title, [("", quality.yaw)], (-90.0, 90.0), ("90", "0", "-90"), (-PROFILE_YAW, PROFILE_YAW)),
        _Plot("Scores of the network: ", lids_and_jaw, (0.0, 1.0), ("1", "0")),
    ):
        yield _chart(track, quality, plot)


def _chart(track: Track, quality: FrameQuality, plot: _Plot) -> str:
    """A plot as HTML: x is the frame; stretches and cuts are drawn behind the lines."""
    count = len(track)
    parts = [
        f'<rect class="{state}" x="{first}" y="0" width="{last - first}" height="100">'
        f"<title>{_frames(first, last)}: {_MEANINGS[state]}</title></rect>"
        for state, first, last in _stretches(quality)
    ]
    parts += [f'<path class="mark" d="M0 {plot.height(mark):.1f}H{count}"/>' for mark in plot.marks]
    cuts = (quality.shot.diff() != 0).nonzero().squeeze(1).add(1).tolist()
    parts += [f'<path class="cut" d="M{cut_at} 0V100"/>' for cut_at in cuts]
    for number, (_, values) in enumerate(plot.lines):
        kind = ' class="second"' if number else ""
        steps = "".join(
            f"{command}{frame + 0.5:g} {plot.height(value):.1f}" for command, frame, value in _path(values.tolist())
        )
        parts.append(f'<path{kind} d="{steps}"/>')
    legend = ", ".join(f"<i>{label}</i>" for label, _ in plot.lines if label)
    times = "".join(f"<span>{share * count / track.fps:.1f} s</span>" for share in (0.0, 0.25, 0.5, 0.75, 1.0))
    return (
        f'<figure class="chart"><figcaption>{plot.title}{legend}</figcaption><div class="plot">'
        f'<div class="scale">{"".join(f"<span>{label}</span>" for label in plot.ticks)}</div>'
        f'<svg viewBox="0 0 {count} 100" preserveAspectRatio="none" role="img" aria-label="{plot.title}">'
        f'{"".join(parts)}</svg><div class="time">{times}</div></div></figure>'
    )


def _path(values: Sequence[float]) -> Iterator[tuple[str, int, float]]:
    """SVG commands (M or L), frames and values of a line.

    A long clip is reduced to the lowest and highest value of each bucket; NaN leaves a gap.
    """
    width = max(1, math.ceil(len(values) / _POINTS))
    pen_is_up = True
    for first in range(0, len(values), width):
        bucket = [(value, frame) for frame, value in enumerate(values[first : first + width], first)]
        seen = [point for point in bucket if math.isfinite(point[0])]
        if not seen:
            pen_is_up = True
            continue
        for frame in sorted({min(seen)[1], max(seen)[1]}):
            yield "M" if pen_is_up else "L", frame, values[frame]
            pen_is_up = False


def _key(quality: FrameQuality) -> str:
    """Legend of the colours behind the lines that occur."""
    found = {state for state, _, _ in _stretches(quality)}
    items = [f'<li><b class="{state}"></b>{meaning}</li>' for state, meaning in _MEANINGS.items() if state in found]
    return f'<ul class="key">{"".join(items)}</ul>' if items else ""


def _gallery(pictures: Sequence[_Picture]) -> str:
    if not pictures:
        return ""
    items = "".join(
        f'<figure><img src="{picture.name}" alt="Frame {picture.frame}" width="512" height="512" loading="lazy">'
        f"<figcaption>{html.escape(picture.caption)}</figcaption></figure>"
        for picture in pictures
    )
    return f'<h2>Pictures, with the fitted head where there is one</h2><div class="pictures">{items}</div>'


def _stretches(quality: FrameQuality) -> list[tuple[str, int, int]]:
    """State and half-open range of the stretches that are not ok, in the order of the clip."""
    found = [
        (state, first, last)
        for code, state in enumerate(FRAME_STATES)
        if state in _MEANINGS
        for first, last in runs(quality.state == code)
    ]
    return sorted(found, key=lambda stretch: stretch[1])


def _frames(first: int, last: int) -> str:
    return f"Frame {first}" if last - first == 1 else f"Frames {first}-{last - 1}"


def _percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %" if math.isfinite(value) else "-"
