"""FLAME parameters of other programs: keys, shapes and axes of VHAP, GaussianAvatars, LAM and ARTalk."""

from __future__ import annotations

import math
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spatialavatar.errors import FormatError, InputError, SpatialAvatarError
from spatialavatar.head import HeadModel
from spatialavatar.motion import is_motion_file, load_motion, read_motion, write_motion
from spatialavatar.records import Camera, HeadMotion, HeadParams, Neutral, Track

from .support.ball_head import make_ball_head
from .support.motion_files import FRAMES, make_flame_ball, vhap_arrays


@pytest.fixture(scope="module")
def flame() -> HeadModel:
    return make_flame_ball()


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "tracked_flame_params_30.npz"
    np.savez(path, **vhap_arrays(**changes))
    return path


def flame_track(head: HeadModel) -> Track:
    generator = torch.Generator().manual_seed(1)
    zero = HeadParams.neutral(head.shape_count, head.expression_count, FRAMES)
    names = ("shape", "expression", "rotation", "translation", "neck", "jaw", "eyes")
    params = zero.replace(**{n: 0.2 * torch.randn(getattr(zero, n).shape, generator=generator) for n in names})
    rest = torch.randn(head.expression_count + 9, generator=generator)
    motion = HeadMotion(
        params,
        fps=30.0,
        head_id=head.id,
        confidence=torch.ones(FRAMES),
        neutral=Neutral(rest, torch.tensor([0.1, 0.2, 0.3])),
    )
    return Track(motion, Camera.frontal(512, 1000.0))


# -- VHAP and GaussianAvatars -----------------------------------------------------------------------------------------


def test_a_vhap_file_is_read_key_by_key(flame: HeadModel, tmp_path: Path) -> None:
    track, arrays = read_motion(written(tmp_path), flame), vhap_arrays()
    for name, key in (
        ("shape", "shape"),
        ("expression", "expr"),
        ("rotation", "rotation"),
        ("neck", "neck_pose"),
        ("jaw", "jaw_pose"),
        ("eyes", "eyes_pose"),
    ):
        np.testing.assert_allclose(getattr(track.params, name), arrays[key], rtol=1e-6)
    assert (track.fps, track.head_id) == (25.0, "flame-ball")
    assert read_motion(written(tmp_path), flame, fps=30.0).fps == 30.0


def test_vhaps_camera_stands_one_metre_before_its_origin(flame: HeadModel, tmp_path: Path) -> None:
    # 0.1 m to the subject's left and 0.2 m up, at the distance of 1 m, with a focal length of 2 x 400 pixels.
    place = np.tile(np.array([[0.1, 0.2, 0.0]], np.float32), (FRAMES, 1))
    still = np.zeros((FRAMES, 3), np.float32)
    track = read_motion(written(tmp_path, translation=place, rotation=still), flame)
    assert (track.camera.width, track.camera.height) == (400, 400)
    pixel = track.camera.project(track.params.translation[0])
    torch.testing.assert_close(pixel, torch.tensor([200.0 + 80.0, 200.0 - 160.0]))


def test_a_quarter_turn_about_y_points_the_nose_to_the_subjects_left(flame: HeadModel, tmp_path: Path) -> None:
    turn = np.tile(np.array([[0.0, math.pi / 2, 0.0]], np.float32), (FRAMES, 1))
    still = np.zeros((FRAMES, 3), np.float32)
    silent = {"expr": np.zeros((FRAMES, 2), np.float32), "eyes_pose": np.zeros((FRAMES, 6), np.float32)}
    track = read_motion(
        written(tmp_path, rotation=turn, translation=still, neck_pose=still, jaw_pose=still, **silent), flame
    )
    rest = flame.identity(track.params.shape)
    nose = int(rest.vertices[:, 2].argmax())
    x, y, z = (rest.vertices[nose] - rest.joints[0]).tolist()
    # About the root joint: z becomes x, x becomes -z; then VHAP's origin is a metre before our camera.
    expected = rest.joints[0] + torch.tensor([z, y, -x - 1.0])
    torch.testing.assert_close(flame.vertices(track.params)[0, nose], expected, atol=1e-5, rtol=0)
    assert float(track.camera.project(expected)[0]) > 200.0  # the right side of the picture


def test_a_folder_of_frames_is_one_clip(flame: HeadModel, tmp_path: Path) -> None:
    arrays = vhap_arrays(focal_length=None, image_size=None)
    (tmp_path / "export" / "flame_param").mkdir(parents=True)
    for index in range(FRAMES):
        frame = {name: array[[index]] for name, array in arrays.items() if len(array) == FRAMES}
        np.savez(tmp_path / "export" / "flame_param" / f"{index:05d}.npz", shape=arrays["shape"], **frame)
    for folder in (tmp_path / "export", tmp_path / "export" / "flame_param"):
        assert is_motion_file(folder)
        track = read_motion(folder, flame)
        np.testing.assert_allclose(track.params.expression, arrays["expr"], rtol=1e-6)
        moved = track.params.translation - track.params.translation[0]
        np.testing.assert_allclose(moved, arrays["translation"] - arrays["translation"][0], atol=1e-6)
    pixels = track.camera.project(flame.vertices(track.params)[0])  # the export forgets where its camera was
    assert bool(((pixels > -100) & (pixels < 612)).all())


@pytest.mark.parametrize("name", ["take.npz", "frames"])
def test_a_flame_track_survives_vhaps_format(flame: HeadModel, tmp_path: Path, name: str) -> None:
    track = flame_track(flame)
    write_motion(track, tmp_path / name, flame)
    again = read_motion(tmp_path / name, flame)
    for field in ("shape", "expression", "rotation", "neck", "jaw", "eyes", "translation"):
        torch.testing.assert_close(getattr(again.params, field), getattr(track.params, field), atol=1e-6, rtol=0)
    torch.testing.assert_close(again.camera.intrinsics, track.camera.intrinsics)
    torch.testing.assert_close(again.neutral.expression, track.neutral.expression)
    torch.testing.assert_close(again.neutral.rotation, track.neutral.rotation)
    assert again.fps == 30.0


def test_what_gaussianavatars_reads_has_its_types_and_shapes(flame: HeadModel, tmp_path: Path) -> None:
    write_motion(flame_track(flame), tmp_path / "take.npz", flame)
    with np.load(tmp_path / "take.npz", allow_pickle=False) as archive:
        floats = {name: array.shape for name, array in archive.items() if array.dtype == np.float32}
    assert floats == {
        "shape": (3,),
        "expr": (FRAMES, 2),
        "rotation": (FRAMES, 3),
        "neck_pose": (FRAMES, 3),
        "jaw_pose": (FRAMES, 3),
        "eyes_pose": (FRAMES, 6),
        "translation": (FRAMES, 3),
        "focal_length": (1,),
    }


def test_fewer_coefficients_are_padded_and_more_are_refused(flame: HeadModel, tmp_path: Path) -> None:
    ones = np.ones((FRAMES, 1), np.float32)
    track = read_motion(written(tmp_path, expr=ones), flame)
    torch.testing.assert_close(track.params.expression, torch.tensor([[1.0, 0.0]]).repeat(FRAMES, 1))
    unused = np.hstack([np.ones((FRAMES, 2)), np.zeros((FRAMES, 98))]).astype(np.float32)
    assert read_motion(written(tmp_path, expr=unused), flame).params.expression.shape == (FRAMES, 2)
    with pytest.raises(FormatError, match="uses 3 expression coefficients and the head has 2"):
        read_motion(written(tmp_path, expr=np.ones((FRAMES, 3), np.float32)), flame)


# -- ARTalk -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npy", ".pt"])
def test_motion_codes_are_expression_rotation_and_jaw(flame: HeadModel, tmp_path: Path, suffix: str) -> None:
    codes = torch.zeros(FRAMES, 106)
    codes[:, 0], codes[:, 101], codes[:, 103] = 0.5, 0.2, 0.3
    path = tmp_path / f"speech_motions{suffix}"
    np.save(path, codes.numpy()) if suffix == ".npy" else torch.save(codes, path)
    track = read_motion(path, flame)
    torch.testing.assert_close(track.params.expression[0], torch.tensor([0.5, 0.0]))
    torch.testing.assert_close(track.params.rotation[0], torch.tensor([0.0, 0.2, 0.0]))
    torch.testing.assert_close(track.params.jaw[0], torch.tensor([0.3, 0.0, 0.0]))
    assert (track.fps, float(track.neutral.expression.abs().max())) == (25.0, 0.0)


def test_motion_codes_survive_their_file(flame: HeadModel, tmp_path: Path) -> None:
    track = flame_track(flame)
    write_motion(track, tmp_path / "codes.npy", flame)
    assert np.load(tmp_path / "codes.npy").shape == (FRAMES, 106)
    again = read_motion(tmp_path / "codes.npy", flame)
    for field in ("expression", "rotation", "jaw"):
        torch.testing.assert_close(getattr(again.params, field), getattr(track.params, field))


# -- heads ------------------------------------------------------------------------------------------------------------


def test_the_message_for_another_head_has_the_reason_and_the_remedy(flame: HeadModel, tmp_path: Path) -> None:
    ball = make_ball_head()
    with pytest.raises(
        FormatError, match=r"mean nothing on the head 'ball'; use an avatar .*FLAME head.*\.json, \.csv"
    ):
        read_motion(written(tmp_path), ball)
    with pytest.raises(FormatError, match=r"the head 'ball' has none; track with your FLAME head"):
        write_motion(flame_track(flame).with_motion(head_id="ball"), tmp_path / "take.npz", ball)
    with pytest.raises(InputError, match="read_motion"):
        load_motion(written(tmp_path))


# -- wrong files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"expr": None},
        {"jaw_pose": None},
        {"expr": np.zeros(FRAMES)},
        {"expr": np.zeros((0, 2))},
        {"rotation": np.zeros((FRAMES, 4))},
        {"rotation": np.zeros((FRAMES - 1, 3))},
        {"expr": np.full((FRAMES, 2), np.nan)},
        {"translation": np.full((FRAMES, 3), np.inf)},
        {"eyes_pose": np.array([["a"] * 6] * FRAMES)},
        {"focal_length": np.array([0.0])},
        {"image_size": np.array([1, 2, 3])},
        {"fps": np.array(0.0)},
        {"expr": np.array([{}] * FRAMES, dtype=object)},
    ],
    ids=lambda changes: " ".join(f"{key} {getattr(value, 'shape', value)}" for key, value in changes.items()),
)
def test_a_wrong_npz_is_refused_in_one_sentence(flame: HeadModel, tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(SpatialAvatarError) as caught:
        read_motion(written(tmp_path, **changes), flame)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.pt", "b.pt"])
def test_a_pickle_inside_is_refused_and_not_run(flame: HeadModel, tmp_path: Path, name: str) -> None:
    marker, path = tmp_path / "ran", tmp_path / name
    if name == "a.npz":
        np.savez(path, **vhap_arrays(expr=np.array([Malicious(marker)], dtype=object)))
    elif name == "a.npy":
        np.save(path, np.array([Malicious(marker)], dtype=object))
    elif name == "a.pt":
        torch.save(Malicious(marker), path)
    else:
        path.write_bytes(pickle.dumps(Malicious(marker)))
    with pytest.raises(FormatError, match="never run") as caught:
        read_motion(path, flame)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.pt"])
def test_a_damaged_or_missing_file_is_refused(flame: HeadModel, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no motion file"):
        read_motion(tmp_path / name, flame)
    (tmp_path / name).write_bytes(b"PK\x03\x04 not an archive")
    with pytest.raises(SpatialAvatarError, match=r"a\.np|a\.pt"):
        read_motion(tmp_path / name, flame)


@pytest.mark.parametrize("codes", [np.zeros((4, 105)), np.zeros(106), np.zeros((0, 106)), np.full((3, 106), np.nan)])
def test_wrong_motion_codes_are_refused(flame: HeadModel, tmp_path: Path, codes: np.ndarray) -> None:
    np.save(tmp_path / "codes.npy", codes)
    with pytest.raises(SpatialAvatarError, match=r"codes\.npy"):
        read_motion(tmp_path / "codes.npy", flame)
