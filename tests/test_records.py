"""Tracks in parts: what a track without a part refuses, how frames are selected, and what its file is made of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from spatialavatar.errors import FormatError, InputError
from spatialavatar.records import Camera, Evidence, FrameQuality, HeadMotion, HeadParams, Neutral, Pictures, Track
from spatialavatar.tracking import load_track, save_track

FRAMES = 4


def a_track() -> Track:
    """Four frames in which everything is present and differs from frame to frame."""
    count = torch.arange(FRAMES)
    params = HeadParams.neutral(2, 3, FRAMES).replace(translation=count[:, None].expand(FRAMES, 3).float())
    error, presence, yaw, luma, confidence = (torch.ones(FRAMES) for _ in range(5))
    quality = FrameQuality(error.byte(), error, presence, yaw, luma, error.int(), torch.zeros(2))
    return Track(
        motion=HeadMotion(params, 25.0, "ball", confidence, Neutral(torch.zeros(12))),
        camera=Camera.frontal(8),
        crop=count[:, None].expand(FRAMES, 4).float(),
        evidence=Evidence(count[:, None, None].expand(FRAMES, 478, 2).float(), torch.zeros(FRAMES, 52), quality),
        pictures=Pictures(
            images=count[:, None, None, None].expand(FRAMES, 8, 8, 3).byte(),
            mattes=count[:, None, None].expand(FRAMES, 8, 8).byte(),
            segments=count[:, None, None].expand(FRAMES, 8, 8).byte(),
        ),
    )


def bare_track() -> Track:
    return Track(a_track().motion, Camera.frontal(8))


@pytest.mark.parametrize("part", ["pictures", "evidence", "quality", "crop"])
def test_a_part_that_a_track_lacks_is_refused_in_a_sentence_that_says_what_to_do(part: str) -> None:
    assert getattr(a_track(), f"require_{part}")() is not None
    with pytest.raises(InputError, match=r"track .* again|track the photo or video"):
        getattr(bare_track(), f"require_{part}")()


def test_optional_pixels_and_landmarks_are_refused_where_they_are_missing() -> None:
    track = a_track()
    with pytest.raises(InputError, match="no segmentation"):
        track.require_pictures().replace(segments=None).require_segments()
    with pytest.raises(InputError, match="no landmarks"):
        track.require_evidence().replace(landmarks=None).require_landmarks()


def test_a_track_of_another_head_model_is_refused_by_both_names() -> None:
    a_track().require_head("ball")
    with pytest.raises(FormatError, match="tracked with the head model 'ball', but 'cube' is needed"):
        a_track().require_head("cube")


@pytest.mark.parametrize("index", [2, slice(2, 3), torch.tensor([2]), -2])
def test_selecting_frames_selects_them_in_every_part(index: int | slice | torch.Tensor) -> None:
    one = a_track()[index]
    assert len(one) == len(one.require_pictures()) == 1
    values = [
        one.params.translation,
        one.require_crop(),
        one.require_evidence().require_landmarks(),
        one.require_pictures().images,
        one.require_pictures().mattes,
        one.require_pictures().require_segments(),
    ]
    assert all(bool((value == 2).all()) for value in values)
    assert one.confidence.shape == (1,)
    assert one.quality is None  # it describes the whole clip
    with pytest.raises(IndexError):
        a_track()[FRAMES]


def test_frames_of_a_track_without_parts_are_selected_too() -> None:
    assert len(bare_track()[1:]) == FRAMES - 1


def test_records_with_tensors_compare_by_identity() -> None:
    track = a_track()
    assert track == track
    assert track != a_track()
    assert len({track, track.without_pictures()}) == 2


def test_a_move_to_a_device_reaches_every_part() -> None:
    moved = a_track().to("meta")
    assert {moved.params.jaw.device.type, moved.confidence.device.type, moved.camera.intrinsics.device.type} == {"meta"}
    assert moved.require_pictures().mattes.device.type == moved.require_quality().error.device.type == "meta"


def test_the_file_of_a_track_keeps_its_tensor_names(tmp_path: Path) -> None:
    """Files of earlier releases have these names, so they must not change."""
    save_track(a_track(), tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        names = set(file.keys())
    params = {f"params.{n}" for n in ("shape", "expression", "rotation", "translation", "neck", "jaw", "eyes")}
    quality = {f"quality.{n}" for n in ("state", "error", "presence", "yaw", "luma", "shot", "jitter")}
    pixels = {"images", "mattes", "segments", "landmarks", "blendshapes", "crop"}
    camera = {"camera.intrinsics", "camera.world_to_camera"}
    assert names == params | quality | pixels | camera | {"confidence", "neutral_expression"}


def test_a_track_survives_its_file_in_every_part_and_without_them(tmp_path: Path) -> None:
    for track in (a_track(), bare_track(), a_track().without_pictures()):
        save_track(track, tmp_path / "a.safetensors")
        again = load_track(tmp_path / "a.safetensors")
        assert (again.pictures is None, again.evidence is None) == (track.pictures is None, track.evidence is None)
        assert again.quality is None or torch.equal(again.quality.state, track.require_quality().state)
        assert (again.fps, again.head_id, len(again)) == (25.0, "ball", FRAMES)
