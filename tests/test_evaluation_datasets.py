"""The readers find their way in small folders laid out like the published sets."""

from __future__ import annotations

import json

import numpy as np
import pytest

from spatialavatar.errors import InputError
from spatialavatar.evaluation.datasets import read_clips

from .support.datasets import gaussian_avatars, picture, write_json


def test_gaussian_avatars_cameras_steps_and_masks(tmp_path):
    gaussian_avatars(tmp_path / "306")
    (clip,) = read_clips(tmp_path)
    assert (clip.name, clip.held_out_from, clip.held_out_cameras, clip.notes) == ("306", 4, ("2",), ())
    front = clip.recordings[0]
    assert (front.name, len(clip.pictures)) == ("1", 6)
    assert front.mattes[0].parent.name == "fg_masks"
    # OpenCV axes: the origin, one metre off, lies in front of every camera.
    for recording in clip.recordings:
        np.testing.assert_allclose(recording.calibration.world_to_camera @ [0, 0, 0, 1], [0, 0, 1, 1], atol=1e-9)


def test_a_listed_picture_that_is_missing_is_noted_and_left_out(tmp_path):
    gaussian_avatars(tmp_path / "306")
    (tmp_path / "306" / "images" / "00002_01.png").unlink()
    (clip,) = read_clips(tmp_path)
    assert clip.notes == ("The picture images/00002_01.png is listed but is not there.",)
    assert len(clip.pictures) == 5


@pytest.mark.parametrize("name", ["y" * 300, "images/" + "y" * 300 + ".png", "\ud800.png"])
def test_a_listed_name_that_no_file_can_have_spoils_its_own_subject_only(tmp_path, name):
    gaussian_avatars(tmp_path / "306")
    path = tmp_path / "306" / "transforms_train.json"
    content = json.loads(path.read_text())
    content["frames"][0]["fg_mask_path"] = name
    path.write_text(json.dumps(content))
    (clip,) = read_clips(tmp_path)
    assert "lists no frames" in clip.notes[0]


def test_a_damaged_list_spoils_its_own_subject_only(tmp_path):
    gaussian_avatars(tmp_path / "306")
    gaussian_avatars(tmp_path / "304")
    (tmp_path / "304" / "transforms_train.json").write_text("{")
    broken, whole = read_clips(tmp_path)
    assert broken.recordings == ()
    assert "not a readable JSON" in broken.notes[0]
    assert len(whole.recordings) == 3


@pytest.mark.parametrize("single", [False, True], ids=["a camera each", "one of all"])
def test_nersemble_benchmark(tmp_path, single):
    person = tmp_path / "nvs" / "388"
    serials = ("222200037", "222200038", "222200046")
    intrinsics = np.diag([1000.0, 1000.0, 1.0]).tolist()
    poses = {serial: np.eye(4).tolist() for serial in serials}
    calibration = {"world_2_cam": poses, "intrinsics": intrinsics if single else dict.fromkeys(serials, intrinsics)}
    write_json(person / "calibration" / "camera_params.json", calibration)
    for serial in serials:
        for kind in ("images", "alpha_maps"):
            path = person / "sequences" / "GLASSES" / kind / f"cam_{serial}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (clip,) = read_clips(tmp_path)
    assert clip.name == "388_GLASSES"
    assert clip.recordings[0].name == "222200037"
    assert "222200046" in clip.held_out_cameras
    assert clip.recordings[1].mattes.parent.name == "alpha_maps"
    assert clip.recordings[1].calibration.intrinsics[0, 0] == 1000.0


def test_insta_and_splatting_avatar_hold_out_the_last_350(tmp_path):
    for index in range(1, 721):
        (tmp_path / "bala" / "images").mkdir(parents=True, exist_ok=True)
        (tmp_path / "bala" / "images" / f"{index}.png").touch()
    write_json(tmp_path / "bala" / "flame_params.json", {"frames": []})
    (clip,) = read_clips(tmp_path)
    assert (clip.name, clip.held_out_from) == ("bala", 370)
    assert [path.stem for path in clip.pictures[8:11]] == ["9", "10", "11"]


def test_insta_takes_the_sets_own_test_frames(tmp_path):
    for index in range(10):
        picture(tmp_path / "images" / f"{index:05d}.png")
        picture(tmp_path / "mask" / f"{index:05d}.png")
    write_json(tmp_path / "transforms_train.json", {"frames": [{"file_path": "images/00000.png"}]})
    write_json(tmp_path / "transforms_test.json", {"frames": [{"file_path": "images/00007.png"}]})
    (clip,) = read_clips(tmp_path)
    assert clip.held_out_from == 7
    assert len(clip.recordings[0].mattes) == 10


def test_imavatar_has_a_clip_in_each_subfolder(tmp_path):
    for name in ("MVI_1810", "MVI_1814"):
        picture(tmp_path / "yufeng" / name / "image" / "1.png")
        write_json(tmp_path / "yufeng" / name / "flame_params.json", {"frames": []})
    assert [clip.name for clip in read_clips(tmp_path)] == ["MVI_1810", "MVI_1814"]


def test_vfhq_frames_and_a_gap_in_their_numbers(tmp_path):
    folder = tmp_path / "GT" / "Interval1_512x512_LANCZOS4" / "Clip+abc+P0+C1+F10-20"
    for index in (0, 1, 2, 5, 6):
        picture(folder / f"{index:08d}.png")
    (clip,) = read_clips(tmp_path)
    assert clip.name == "Clip+abc+P0+C1+F10-20"
    assert len(clip.pictures) == 5
    assert clip.notes == ("Of the frames in Clip+abc+P0+C1+F10-20 2 are missing (from 3).",)


def test_videos_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for name in ("a/clip.mp4", "b/clip.mp4", "WDA_X_000.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [clip.name for clip in read_clips(tmp_path)] == ["WDA_X_000", "a_clip", "b_clip"]


def test_flat_photos_are_grouped_by_person(tmp_path):
    for name in ("london_001_neutral", "london_001_smiling", "london_002_neutral", "london_002_smiling"):
        picture(tmp_path / f"{name}.jpg")
    for index in range(20):  # twenty people, not one
        picture(tmp_path / f"canada_{index:03d}f.jpg")
    assert [clip.name for clip in read_clips(tmp_path)] == ["london_001", "london_002"]


def test_a_folder_of_another_layout_among_others_is_named(tmp_path):
    picture(tmp_path / "one" / "0.png")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "readme.txt").write_text("")
    one, other = read_clips(tmp_path)
    assert len(one.recordings) == 1
    assert other.notes == ("The folder other is laid out in no known way.",)


def test_an_unknown_layout_is_refused_with_the_known_ones(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"has no known layout \(nersemble, gaussian-avatars, insta"):
        read_clips(tmp_path)
    with pytest.raises(InputError, match="no layout 'colmap'"):
        read_clips(tmp_path, "colmap")
    with pytest.raises(InputError, match="no folder"):
        read_clips(tmp_path / "none")


@pytest.mark.parametrize(
    "damaged",
    [
        "[" * 100_000,
        '{"frames": [{"file_path": "images/00000_00.png", "camera_index": 1' + "0" * 5000 + ', "timestep_index": 0}]}',
        '{"frames": [{"file_path": 5, "camera_index": 0, "timestep_index": 0}]}',
        '{"frames": [{"file_path": "images/00000_00.png", "camera_index": "front", "timestep_index": 0}]}',
        '{"frames": [{"file_path": "images/00000_00.png", "camera_index": 0}]}',
        '{"frames": [{"file_path": "images\\u0000.png", "camera_index": 0, "timestep_index": 0}]}',
        '{"frames": 3}',
        "\xff",
    ],
    ids=["deep", "long number", "number for a name", "name for a number", "no time", "NUL", "no list", "no UTF-8"],
)
def test_a_damaged_list_of_frames_is_a_note_of_its_clip(tmp_path, damaged):
    gaussian_avatars(tmp_path / "306")
    gaussian_avatars(tmp_path / "074")
    (tmp_path / "306" / "transforms_train.json").write_text(damaged, encoding="latin-1")
    whole, broken = read_clips(tmp_path, "gaussian-avatars")
    assert (whole.name, len(whole.recordings)) == ("074", 3)
    assert (broken.name, broken.recordings) == ("306", ())
    assert "download" in broken.notes[0]


@pytest.mark.parametrize("value", ["Infinity", "NaN", "1e999", '"0"', "[[1, 2]]"])
def test_a_camera_that_is_not_finite_is_no_calibration(tmp_path, value):
    gaussian_avatars(tmp_path / "306")
    path = tmp_path / "306" / "transforms_train.json"
    frames = json.loads(path.read_text())["frames"]
    for frame in frames:
        frame["transform_matrix"] = "MATRIX"
    path.write_text(json.dumps({"frames": frames}).replace('"MATRIX"', value))
    (clip,) = read_clips(tmp_path, "gaussian-avatars")
    assert all(recording.calibration is None for recording in clip.recordings if recording.name != "2")


def test_numbers_of_any_size_in_names_of_pictures_are_read(tmp_path):
    for name in ("1", "2", "3", "9" * 60, "0" * 20 + "2", "\u0664"):
        picture(tmp_path / "ada" / f"{name}.png")
    (clip,) = read_clips(tmp_path, "pictures")
    assert len(clip.pictures) == 6
    picture(tmp_path / "bea" / "1\u00b2.png")
    assert [len(clip.pictures) for clip in read_clips(tmp_path, "pictures")] == [6, 1]
