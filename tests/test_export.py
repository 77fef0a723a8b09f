"""Avatars as files for other programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from spatialavatar.avatar import Avatar
from spatialavatar.errors import InputError
from spatialavatar.export import held_pose, save_ply, save_splat, save_spz
from spatialavatar.export.splat import splat_rows
from spatialavatar.records import Camera, HeadParams
from spatialavatar.refinement.metrics import psnr

from .splat_readers import picture, read_ply, read_splat, read_spz
from .test_avatar import make_ball_avatar


def as_shown(avatar: Avatar, params: HeadParams, size: int = 96) -> tuple[torch.Tensor, torch.Tensor]:
    """Our own picture of the avatar with the middle of its resting skull at 0.6 m."""
    rest = avatar.identity().vertices
    centre = (rest.amin(0) + rest.amax(0)) / 2
    place = (torch.tensor([0.0, 0.0, -0.6]) - centre)[None]
    return avatar.render(params.replace(translation=place), Camera.frontal(size))


FORMS = {"ply": (save_ply, read_ply, True), "splat": (save_splat, read_splat, True), "spz": (save_spz, read_spz, False)}
# decibels; the toy's noise of colours is harder on bytes than a face is
ALIKE = {"ply": 60.0, "splat": 36.0, "spz": 36.0}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("yaw", [0.0, 30.0])
def test_a_splat_file_read_back_renders_as_the_avatar_does(form: str, yaw: float, tmp_path: Path) -> None:
    save, read, y_down = FORMS[form]
    avatar = make_ball_avatar()
    params = held_pose(avatar, {}, yaw=yaw)
    image, alpha = as_shown(avatar, params)
    shown, cover = picture(read(save(avatar, tmp_path / f"a.{form}", params)), 0.6, 96, y_down=y_down)
    assert alpha.max() > 0.9
    assert psnr(image, shown) > ALIKE[form]
    assert psnr(alpha[..., None], cover[..., None]) > ALIKE[form]


def test_a_pose_turns_what_is_exported() -> None:
    avatar = make_ball_avatar()
    straight, turned = (splat_rows(avatar, held_pose(avatar, {}, yaw=yaw)) for yaw in (0.0, 30.0))
    assert np.abs(np.sort(straight["position"][:, 0]) - np.sort(turned["position"][:, 0])).max() > 1e-3
    assert np.array_equal(np.sort(straight["position"], 0), np.sort(splat_rows(avatar)["position"], 0))


def test_splats_lie_in_falling_order_of_size_times_opacity(tmp_path: Path) -> None:
    read = read_splat(save_splat(make_ball_avatar(), tmp_path / "a.splat"))
    weight = read.scales.prod(1) * read.opacities
    assert (weight[1:] <= weight[:-1] * 1.01).all()
    assert weight[0] > 10 * weight[-1]


def test_a_padded_ply_has_45_zeros_more_and_the_same_gaussians(tmp_path: Path) -> None:
    plyfile = pytest.importorskip("plyfile", reason="needs the extra 'dev'")
    avatar = make_ball_avatar(16)
    plain, padded = (save_ply(avatar, tmp_path / f"{n}.ply", sh_degree=n) for n in (0, 3))
    rows = plyfile.PlyData.read(str(padded))["vertex"]
    names = [p.name for p in rows.properties]
    assert names[:6] == ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2"]
    assert names[6:51] == [f"f_rest_{i}" for i in range(45)]
    assert not any(rows[name].any() for name in names[6:51])
    assert torch.equal(read_ply(plain).means, read_ply(padded).means)
    assert torch.equal(read_ply(plain).quats, read_ply(padded).quats)


def test_a_ply_of_degree_two_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="degree 0 or 3, not 2"):
        save_ply(make_ball_avatar(16), tmp_path / "a.ply", sh_degree=2)


def test_the_viewers_copy_has_a_radius_of_one_and_faces_the_viewers_first_camera(tmp_path: Path) -> None:
    avatar = make_ball_avatar()
    metres, viewers = (read_ply(save_ply(avatar, tmp_path / "a.ply", for_viewer=v)) for v in (False, True))
    sizes = [float((g.means - g.means.mean(0)).norm(dim=1).median()) for g in (metres, viewers)]
    assert 0.4 < sizes[1] < 1.6
    # Kabsch: the turn from one to the other takes the face's direction, -z, to where gradio's camera stands.
    u, _, vh = torch.linalg.svd(viewers.means.T @ metres.means)
    turn = u @ vh
    toward = turn @ torch.tensor([0.0, 0.0, -1.0])
    assert torch.allclose(toward, torch.tensor([0.4207, -0.4794, -0.7702]), atol=1e-3)


def test_a_ply_says_that_it_is_synthetic_and_keeps_what_viewers_look_for(tmp_path: Path) -> None:
    data = save_ply(make_ball_avatar(16), tmp_path / "a.ply").read_bytes()
    header = data[: data.index(b"end_header\n")].decode()
    assert header.startswith("ply\nformat binary_little_endian 1.0\ncomment ")
    assert "synthetic" in header
    assert f"\nelement vertex {len(make_ball_avatar(16).gaussians)}\n" in header
    assert "\r" not in header


@pytest.mark.parametrize("save", [save_ply, save_splat, save_spz])
def test_more_than_three_channels_fit_no_file(save: Callable[..., Path], tmp_path: Path) -> None:
    avatar = make_ball_avatar(16)
    wide = avatar.gaussians.replace(colors=torch.rand(len(avatar.gaussians), 8))
    with pytest.raises(InputError, match="three colours, not 8"):
        save(dataclasses.replace(avatar, gaussians=wide), tmp_path / "a")
    assert not (tmp_path / "a").exists()
