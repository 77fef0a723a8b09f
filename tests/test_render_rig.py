"""Rendered rigs: what the readers find in them is what was rendered."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from spatialavatar.errors import InputError
from spatialavatar.evaluation.datasets import Clip, read_clips
from spatialavatar.records import Camera

from .support.avatars import make_ball_avatar
from .support.tracks import make_track

SIZE = 64


@pytest.fixture(scope="module")
def script(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("render_rig", repository / "scripts" / "render_rig.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def avatar():
    return make_ball_avatar(24)


def track(avatar, frames: int = 6):
    turn = torch.zeros(frames, 3)
    turn[:, 1] = torch.linspace(-0.4, 0.4, frames)
    return make_track(avatar, frames, rotation=turn)


@pytest.fixture(scope="module")
def clip(script, avatar, tmp_path_factory) -> Clip:
    folder = tmp_path_factory.mktemp("rigs")
    options = {"yaws": (-30.0, 0.0, 30.0), "above": 20.0, "instants": 2, "size": SIZE}
    script.render_rig(avatar, [track(avatar)], folder / "ball", script.RigConfig(**options))
    (found,) = read_clips(folder)
    return found


def test_a_rendered_rig_is_read_as_one_with_its_last_camera_held_out(clip):
    assert [len(recording.frames) for recording in clip.recordings] == [2, 2, 2, 2]
    assert clip.recordings[0].name == "1"  # the frontal one
    assert clip.held_out_cameras == ("3",)
    assert all(recording.mattes for recording in clip.recordings)
    assert not clip.notes


def test_the_calibration_that_is_read_renders_the_picture_that_was_written(script, avatar, clip):
    params, _, _ = script.instants_of(avatar, [track(avatar)], 2, SIZE)
    for recording in clip.recordings:
        calibration = recording.calibration
        camera = Camera(
            torch.from_numpy(calibration.intrinsics).float(),
            torch.from_numpy(calibration.world_to_camera).float(),
            SIZE,
            SIZE,
        )
        for instant, (picture, matte) in enumerate(zip(recording.open(), recording.open_mattes())):
            image, alpha = avatar.render(params[instant], camera, torch.full((3,), 0.5))
            assert np.abs(picture - image.numpy() * 255.0).max() < 1.5
            assert np.abs(matte[..., 0] - alpha.numpy() * 255.0).max() < 1.5


def test_cameras_move_to_the_side_and_up_and_keep_the_middle_in_place(script):
    camera, middle = Camera.frontal(SIZE), torch.tensor([0.05, 0.1, -0.7])
    places = [script.turned_camera(camera, middle, *angles) for angles in ((30.0, 0.0), (0.0, 30.0))]
    right, up = (-place.world_to_camera[:3, :3].T @ place.world_to_camera[:3, 3] for place in places)
    assert right[0] > 0.3
    assert up[1] > 0.3
    for place in places:
        torch.testing.assert_close(place.project(middle[None]), camera.project(middle[None]), atol=1e-3, rtol=0)


def test_a_finished_rig_is_not_rendered_again(script, avatar, tmp_path, monkeypatch):
    avatar.save(tmp_path / "me.safetensors")
    monkeypatch.setattr(script, "avatar_of", lambda path: avatar)
    line = [str(tmp_path / "me.safetensors"), "--motions", "talk.json"]
    line += ["--out", str(tmp_path / "rigs"), "--yaws", "-20", "20", "--above", "0", "--instants", "1", "--size", "64"]
    monkeypatch.setattr(script, "motion_track", lambda path, head: track(avatar))
    assert script.main(line) == 0
    assert len(list((tmp_path / "rigs" / "me" / "images").iterdir())) == 2
    monkeypatch.setattr(script, "avatar_of", lambda path: pytest.fail("it was rendered again"))
    assert script.main(line) == 0


def test_too_few_instants_or_cameras_are_refused(script, avatar, tmp_path):
    with pytest.raises(InputError, match="2 motions need as many instants"):
        script.render_rig(avatar, [track(avatar)] * 2, tmp_path / "rig", script.RigConfig(instants=1))
    with pytest.raises(InputError, match="has no 7 instants"):
        script.render_rig(avatar, [track(avatar)], tmp_path / "rig", script.RigConfig(instants=7))
    with pytest.raises(InputError, match="two cameras at least"):
        script.render_rig(avatar, [track(avatar)], tmp_path / "rig", script.RigConfig(yaws=(0.0,), above=None))
    assert not (tmp_path / "rig").exists()
