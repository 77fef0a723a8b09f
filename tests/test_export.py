"""Avatars as files for other programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spatialavatar.errors import InputError
from spatialavatar.export import save_ply
from spatialavatar.records import Camera, Gaussians
from spatialavatar.render import render

from .test_avatar import make_ball_avatar


def read_back(path: Path) -> Gaussians:
    """The Gaussians of a splat PLY, decoded by the format's own rules."""
    plyfile = pytest.importorskip("plyfile", reason="needs the extra 'dev'")
    rows = plyfile.PlyData.read(str(path))["vertex"]

    def columns(*names: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([rows[name] for name in names], 1).astype(np.float32))

    return Gaussians(
        means=columns("x", "y", "z"),
        quats=columns("rot_0", "rot_1", "rot_2", "rot_3"),
        scales=columns("scale_0", "scale_1", "scale_2").exp(),
        opacities=columns("opacity").sigmoid()[:, 0],
        colors=0.5 + 0.28209479177387814 * columns("f_dc_0", "f_dc_1", "f_dc_2"),
        space="world",
    )


def opencv_camera(distance: float, size: int = 96) -> Camera:
    """Looks along +z, y down, at the origin from ``distance`` away."""
    focal = 900.0 * size / 512.0
    intrinsics = torch.tensor([[focal, 0.0, size / 2], [0.0, focal, size / 2], [0.0, 0.0, 1.0]])
    pose = torch.eye(4)
    pose[2, 3] = distance
    return Camera(intrinsics, pose, size, size)


def test_a_ply_read_back_renders_as_the_avatar_does(tmp_path: Path) -> None:
    avatar = make_ball_avatar()
    again = read_back(save_ply(avatar, tmp_path / "a.ply"))
    rest = avatar.identity().vertices
    centre = (rest.amin(0) + rest.amax(0)) / 2
    params = avatar.head.neutral().replace(translation=(torch.tensor([0.0, 0.0, -0.6]) - centre)[None])
    image, alpha = avatar.render(params, Camera.frontal(96))
    shown, cover = render(again, opencv_camera(0.6))
    assert alpha.max() > 0.9
    assert (image - shown).abs().max() < 5e-3
    assert (alpha - cover).abs().max() < 5e-3


def test_the_viewers_copy_has_a_radius_of_one_and_faces_the_viewers_first_camera(tmp_path: Path) -> None:
    avatar = make_ball_avatar()
    metres, viewers = (read_back(save_ply(avatar, tmp_path / "a.ply", for_viewer=v)) for v in (False, True))
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


def test_more_than_three_channels_fit_no_ply(tmp_path: Path) -> None:
    import dataclasses

    avatar = make_ball_avatar(16)
    wide = avatar.gaussians.replace(colors=torch.rand(len(avatar.gaussians), 8))
    with pytest.raises(InputError, match="three colours, not 8"):
        save_ply(dataclasses.replace(avatar, gaussians=wide), tmp_path / "a.ply")
    assert not (tmp_path / "a.ply").exists()
