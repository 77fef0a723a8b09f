"""From folders of raw clips, photos or rigs to shards: resumable, in parts for several machines.

People are assigned to shards by their position in the sorted list. Each person is tracked once: the finished parts of
an incomplete shard are in a folder beside it. People who cannot be used are skipped; ``skipped.json`` lists the
reasons.
"""

from __future__ import annotations

import fnmatch
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from spatialavatar.errors import InputError, NoFaceError, SpatialAvatarError
from spatialavatar.evaluation.cutting import crop_of, with_pictures
from spatialavatar.evaluation.datasets import Clip, Recording, read_clips
from spatialavatar.evaluation.evaluator import without_beyond
from spatialavatar.evaluation.rig import (
    cropped_camera,
    landmarks_in,
    metric_scale,
    posed_by_calibration,
    relative_camera,
)
from spatialavatar.files import atomic_output, make_folder, write_text
from spatialavatar.head import HeadModel
from spatialavatar.media import is_image, read_image
from spatialavatar.progress import Progress, no_progress, part
from spatialavatar.records import HeadParams, Track
from spatialavatar.tracking import track_photo, track_photos, track_video
from spatialavatar.tracking.framing import Crop, crop_around_all
from spatialavatar.tracking.networks import Networks
from spatialavatar.training.shards import Kind, join, person_key, write_person

SKIPPED: Final = "skipped.json"


@dataclass(frozen=True)
class ShardConfig:
    """Sizes of shards; machines that share one output folder must use the same.

    Attributes:
        photos: the pictures of a person are photos, not the frames of a video.
        frames: number kept of each video, evenly spaced over those with a usable face.
        max_frames: number read of each video.
        per_shard: people per shard.
    """

    photos: bool = False
    frames: int = 32
    max_frames: int = 1500
    per_shard: int = 32

    def __post_init__(self) -> None:
        if self.frames < 2 or self.max_frames < 2 or self.per_shard < 1:
            raise InputError("Each clip needs at least two frames, and each shard at least one person.")


@dataclass(frozen=True)
class Shards:
    """The contents of a folder of shards.

    Attributes:
        paths: the tar files.
        people: number of people in them.
        skipped: reasons why other people were skipped, by name.
        missing: number of shards that other machines have not finished.
    """

    paths: list[Path]
    people: int
    skipped: dict[str, str]
    missing: int


@dataclass(frozen=True)
class Selection:
    """The part of a data set that one call turns into shards.

    Attributes:
        layout: of the folder; by default the first that fits.
        only: pattern of people's names.
        part: (i, n): every n-th shard from the i-th on, both counted from 1.
    """

    layout: str | None = None
    only: str = "*"
    part: tuple[int, int] = (1, 1)


def make_shards(
    folder: str | Path,
    out: str | Path,
    head: HeadModel,
    config: ShardConfig | None = None,
    selection: Selection | None = None,
    progress: Progress | None = None,
) -> Shards:
    """Track every selected person of a folder, with pictures.

    Args:
        folder: a data set in a layout of :mod:`spatialavatar.evaluation.datasets`; with ``config.photos`` also single
            photos of people.
        out: folder of the shards; an interrupted run in it continues.
        head: the head model.
        config: sizes; the same in every run on ``out``.
        selection: part of the folder; by default all of it.
        progress: called with (fraction, message).

    Raises:
        InputError: the folder cannot be used, no name matches, or ``out`` holds shards of other people or sizes.
        OutputError: ``out`` cannot be written.
    """
    config, selection, report = config or ShardConfig(), selection or Selection(), progress or no_progress
    number, count = selection.part
    if not 1 <= number <= count:
        raise InputError(f"There is no part {number} of {count}; give i/n with i from 1 to n.")
    folder, out = Path(folder), make_folder(out)
    photos = config.photos and selection.layout is None
    everybody = read_photos(folder) if photos else read_clips(folder, selection.layout)
    clips = [clip for clip in everybody if fnmatch.fnmatch(clip.name, selection.only)]
    if not clips:
        raise InputError(f"No person in {folder} matches {selection.only!r}; leave the pattern out.")
    keys = Counter(person_key(clip.name) for clip in clips)
    if alike := [clip.name for clip in clips if keys[person_key(clip.name)] > 1]:
        raise InputError(f"{', '.join(alike)} would be files of one name in a shard; rename all but one.")
    _check_same_run(out, [clip.name for clip in clips], config, head)
    networks = Networks()
    groups = list(
        enumerate(clips[first : first + config.per_shard] for first in range(0, len(clips), config.per_shard))
    )
    mine = groups[number - 1 :: count]
    for done, (index, group) in enumerate(mine):
        stretch = part(report, done / len(mine), (done + 1) / len(mine))
        _make_shard(out / f"shard-{index:05d}.tar", group, head, config, networks, stretch)
    return _sum_up(out, len(groups))


def read_photos(folder: Path) -> list[Clip]:
    """List the people of a folder of photos: one folder each, or files ``PERSON_WHAT.jpg``, or one file each.

    Raises:
        InputError: the folder does not exist or contains no picture.
    """
    clips: list[Clip] = []
    try:
        clips = [clip for clip in read_clips(folder) if clip.pictures]
    except InputError:
        if not folder.is_dir():
            raise
    used = {path for clip in clips for path in clip.pictures}
    files = sorted(path for path in folder.iterdir() if path.is_file() and path not in used and is_image(path))
    alone = [Clip(path.stem, (Recording((path,)),)) for path in files]
    if not clips and not alone:
        raise InputError(f"There are no photos in {folder}; give a folder that holds some.")
    return sorted([*clips, *alone], key=lambda clip: clip.name)


def _check_same_run(out: Path, names: Sequence[str], config: ShardConfig, head: HeadModel) -> None:
    """Write the head, sizes and people of ``out``; refuse to continue with others."""
    facts = json.dumps({"head": head.id, **vars(config), "people": list(names)}, indent=1, ensure_ascii=False)
    path = out / "shards.json"
    if path.is_file() and path.read_text(encoding="utf-8") != facts:
        raise InputError(f"{out} holds shards of other people, sizes or another head model; choose another folder.")
    write_text(path, facts)


def _make_shard(
    path: Path, clips: Sequence[Clip], head: HeadModel, config: ShardConfig, networks: Networks, progress: Progress
) -> None:
    """Write one shard and, beside it, the record of the people in it and of those skipped."""
    record = path.with_suffix(".json")
    if record.is_file():
        return
    parts = make_folder(path.with_suffix(".parts"))
    skipped, files = {}, []
    for done, clip in enumerate(clips):
        progress(done / len(clips), f"{path.stem}: {clip.name}")
        file, reason = parts / f"{person_key(clip.name)}.tar", parts / f"{person_key(clip.name)}.txt"
        if not file.is_file() and not reason.is_file():
            _prepare(clip, file, reason, head, config, networks)
        if file.is_file():
            files.append(file)
        else:
            skipped[clip.name] = reason.read_text(encoding="utf-8")
    if files:
        with atomic_output(path) as temporary:
            join(files, temporary)
    write_text(record, json.dumps({"people": len(files), "skipped": skipped}, indent=1, ensure_ascii=False))
    shutil.rmtree(parts)


def _prepare(clip: Clip, file: Path, reason: Path, head: HeadModel, config: ShardConfig, networks: Networks) -> None:
    """Write one person's tar file, or the reason why there is none."""
    try:
        kind, tracks = tracks_of(clip, head, config, networks)
        with atomic_output(file) as temporary:
            write_person(temporary, clip.name, kind, tracks)
    except (OSError, MemoryError):
        raise  # a fault of the machine, not of the clip
    except SpatialAvatarError as error:
        write_text(reason, str(error))
    except Exception as error:  # one bad clip must not end the run
        write_text(reason, f"Something went wrong that should not have ({type(error).__name__}: {error}).")


def _sum_up(out: Path, shards: int) -> Shards:
    """Collect the finished shards of all machines."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("shard-*.json"))]
    skipped = {name: reason for record in records for name, reason in record["skipped"].items()}
    write_text(out / SKIPPED, json.dumps(skipped, indent=1, ensure_ascii=False))
    people = sum(record["people"] for record in records)
    return Shards(sorted(out.glob("shard-*.tar")), people, skipped, shards - len(records))


# -- one person -------------------------------------------------------------------------------------------------------


def tracks_of(clip: Clip, head: HeadModel, config: ShardConfig, networks: Networks) -> tuple[Kind, list[Track]]:
    """Track one person, with pictures.

    Raises:
        InputError: the clip cannot be read, or too few frames show a face.
        NoFaceError: no picture shows a face.
    """
    if not clip.recordings:
        raise InputError(" ".join(clip.notes) or f"{clip.name} holds nothing that can be read.")
    if config.photos:
        return "photos", _photo_tracks(clip, head, networks)
    rig = [recording for recording in clip.recordings if recording.calibration is not None]
    if len(rig) > 1:
        return "cameras", _rig_tracks(clip, rig, head, config, networks)
    return "video", [_video_track(clip, head, config, networks)]


def _photo_tracks(clip: Clip, head: HeadModel, networks: Networks) -> list[Track]:
    """Return one track per usable photo; the tracks share one shape."""
    images, reasons = {}, []
    for path in clip.pictures:
        try:
            images[path.name] = read_image(path)
        except InputError as error:
            reasons.append(str(error))
    try:
        tracks = track_photos(list(images.values()), head, names=list(images), networks=networks, around=False)
    except InputError:  # at least one photo is unusable: find which
        for name, image in list(images.items()):
            try:
                track_photo(image, head, name=name, networks=networks)
            except InputError as error:
                reasons.append(str(error))
                del images[name]
        if not images:
            raise NoFaceError(" ".join(reasons)) from None
        tracks = track_photos(list(images.values()), head, names=list(images), networks=networks, around=False)
    return [_without_beyond(t, image, (*reasons, *t.warnings)) for t, image in zip(tracks, images.values())]


def _without_beyond(track: Track, image: np.ndarray, warnings: tuple[str, ...]) -> Track:
    pictures = track.require_pictures()
    size = (image.shape[1], image.shape[0])
    marked = without_beyond(pictures.require_segments()[0].numpy(), crop_of(track), size)
    return track.replace(pictures=pictures.replace(segments=torch.from_numpy(marked)[None]), warnings=warnings)


def _video_track(clip: Clip, head: HeadModel, config: ShardConfig, networks: Networks) -> Track:
    """Track a video and keep some frames."""
    recording = clip.recordings[0]
    track = track_video(recording.open(), head, max_frames=config.max_frames, networks=networks)
    return with_pictures(track, _usable(clip, track, config), recording, networks)


def _usable(clip: Clip, track: Track, config: ShardConfig) -> list[int]:
    """Select evenly spaced frames among those that were tracked."""
    good = track.confidence > 0
    if track.quality is not None:
        good &= track.quality.tracked
    frames = good.nonzero().squeeze(1).tolist()
    if len(frames) < 2:
        raise InputError(f"{clip.name} shows a usable face in {len(frames)} of {len(track)} frames; 2 are needed.")
    spread = np.linspace(0, len(frames) - 1, min(config.frames, len(frames))).round().astype(int)
    return [frames[place] for place in spread]


def _rig_tracks(
    clip: Clip, rig: Sequence[Recording], head: HeadModel, config: ShardConfig, networks: Networks
) -> list[Track]:
    """Return one track per camera: the head as tracked by the first camera, with the calibration of each camera."""
    main = rig[0]
    track, params = posed_by_calibration(main, None, head, networks, no_progress, config.max_frames)
    frames = _usable(clip, track, config)
    readable, reasons = [], []
    for recording in rig:
        try:
            recording.open()
            readable.append(recording)
        except InputError as error:
            reasons.append(str(error))
    scale = metric_scale(main, readable[1:], params[0], head, networks)
    tracks = []
    for recording in readable:
        calibration = recording.require_calibration()
        world = relative_camera(main.require_calibration(), calibration, scale)
        chosen = params[torch.tensor(frames)]
        crop = crop_of(track) if recording is main else _common_crop(recording, world, head, chosen)
        seen = track.with_motion(params=params).replace(
            camera=cropped_camera(calibration, world, crop),
            crop=torch.tensor([crop.box]).expand(len(track), 4),
        )
        if recording is not main:  # no landmarks were detected in it
            seen = seen.replace(evidence=None)
        shown = with_pictures(seen, frames, recording, networks)
        if len(shown) == len(frames):
            tracks.append(shown)
        else:
            reasons.append(f"Camera {recording.name} ends after {len(shown)} of the {len(frames)} frames.")
    if len(tracks) < 2:
        raise InputError(" ".join([f"{clip.name} has fewer than two cameras that can be used.", *reasons]))
    return [one.replace(warnings=(*one.warnings, *reasons)) for one in tracks]


def _common_crop(recording: Recording, world: Tensor, head: HeadModel, params: HeadParams) -> Crop:
    """Return one crop for all frames around the projected head of a calibrated camera."""
    return crop_around_all(landmarks_in(recording.require_calibration(), world, head, params))[0]
