"""The bust in the files for other programs."""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spatialavatar.avatar import Avatar
from spatialavatar.export import held_pose, save_glb, save_lam_zip, save_ply, save_splat, save_spz
from spatialavatar.export.bust_mesh import bust_mesh
from spatialavatar.export.root_triangles import on_root_triangles
from spatialavatar.head import triangle_frames
from spatialavatar.metrics import psnr
from spatialavatar.records import Bust, Camera, Gaussians

from .support.avatars import make_ball_avatar
from .support.gltf_check import gltf_issues, read_glb
from .support.splat_readers import picture, read_ply, read_splat, read_spz

FORMS = {"ply": (save_ply, read_ply, True, 60.0), "splat": (save_splat, read_splat, True, 36.0)}
FORMS["spz"] = (save_spz, read_spz, False, 36.0)
SIDE = 12


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    """A ball with a sheet of Gaussians below it, bent backwards at its sides."""
    ball = make_ball_avatar()
    x, y = (axis.reshape(-1) for axis in torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="xy"))
    across = (x - 0.5 * (SIDE - 1)) * 0.015
    means = torch.stack([across, -0.1 - 0.015 * y, 0.05 - 2.0 * across**2], 1)
    sheet = Gaussians(
        means=means,
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(len(means), 1),
        scales=torch.tensor([[0.01, 0.01, 0.002]]).repeat(len(means), 1),
        opacities=torch.full((len(means),), 0.95),
        colors=torch.stack([x / SIDE, y / SIDE, torch.full_like(across, 0.5)], 1).float(),
        space="world",
    )
    return replace(ball, bust=Bust(sheet, torch.full((len(ball.layout),), 0.9)))


@pytest.mark.parametrize("form", FORMS)
def test_a_splat_file_holds_the_bust_as_the_avatar_shows_it(avatar: Avatar, form: str, tmp_path: Path) -> None:
    save, read, y_down, alike = FORMS[form]
    params = held_pose(avatar, {}, yaw=20.0)
    rest = avatar.identity().vertices
    place = torch.tensor([[0.0, 0.0, -0.6]]) - 0.5 * (rest.amin(0) + rest.amax(0))
    image, _ = avatar.render(params.replace(translation=place), Camera.frontal(96))
    shown, _ = picture(read(save(avatar, tmp_path / f"a.{form}", params)), 0.6, 96, y_down=y_down)
    assert psnr(image, shown) > alike


def test_the_triangles_of_a_bust_hold_its_gaussians(avatar: Avatar) -> None:
    rest = avatar.bust.gaussians
    bound = on_root_triangles(rest)
    corners = bound.vertices.reshape(-1, 3, 3)
    frames = triangle_frames(corners)
    turned = (frames.rotation[bound.face] @ bound.local.means[..., None]).squeeze(-1)
    again = corners[bound.face, 0] + frames.scale[bound.face, None] * turned
    torch.testing.assert_close(again, rest.means, atol=1e-6, rtol=0.0)
    torch.testing.assert_close(bound.local.scales * frames.scale[bound.face, None], rest.scales)
    assert bound.local.means.abs().max() < 2.0


def test_the_mesh_of_a_bust_is_its_sheet_seen_from_the_front(avatar: Avatar) -> None:
    mesh = bust_mesh(avatar.bust)
    assert len(mesh.points) == SIDE**2
    a, b, c = (mesh.points[mesh.faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    assert (normal[:, 2] > 0).all()
    assert 0.5 * np.linalg.norm(normal[:, :2], axis=1).max() < 1e-3
    assert abs(0.5 * normal[:, 2].sum() - (11 * 0.015) ** 2) < 1e-5  # no hole, no overlap


def test_the_mesh_of_a_bust_with_a_back_is_closed_all_round(avatar: Avatar) -> None:
    angle, y = (axis.reshape(-1) for axis in torch.meshgrid(torch.arange(40), torch.arange(SIDE), indexing="xy"))
    turn = 2.0 * math.pi * angle / 40.0 - math.pi
    radii = torch.tensor([0.2, 0.0, 0.1])
    means = torch.stack([turn.sin(), torch.zeros_like(turn), turn.cos()], 1) * radii
    means[:, 1] = -0.03 * y
    half = 0.5 * turn
    tube = Gaussians(
        means=means,
        quats=torch.stack([half.cos(), torch.zeros_like(half), half.sin(), torch.zeros_like(half)], 1),
        scales=torch.full((len(means), 3), 0.02),
        opacities=torch.full((len(means),), 0.95),
        colors=torch.full((len(means), 3), 0.5),
        space="world",
    )
    mesh = bust_mesh(Bust(tube, avatar.bust.head_share))
    a, b, c = (mesh.points[mesh.faces[:, k]].astype(np.float64) for k in range(3))
    normal, middle = np.cross(b - a, c - a), (a + b + c) / 3.0
    assert ((normal * middle)[:, [0, 2]].sum(1) > 0).all()  # outwards
    ends = means[y == 0, ::2].numpy()
    around = np.linalg.norm(ends - np.roll(ends, 1, 0), axis=1).sum()
    assert abs(0.5 * np.linalg.norm(normal, axis=1).sum() / (around * 0.03 * (SIDE - 1)) - 1.0) < 1e-3
    edges = np.sort(np.concatenate([mesh.faces[:, [i, j]] for i, j in ((0, 1), (1, 2), (2, 0))]), axis=1)
    _, count = np.unique(edges, axis=0, return_counts=True)
    assert (count == 1).sum() == 2 * 40  # the upper and the lower end alone are open


def test_a_glb_has_the_bust_on_the_root_bone(avatar: Avatar, tmp_path: Path) -> None:
    path = save_glb(avatar, tmp_path / "a.glb")
    described, array = read_glb(path.read_bytes())
    (mesh,) = (mesh for mesh in described["meshes"] if mesh["name"] == "bust")
    attributes = mesh["primitives"][0]["attributes"]
    assert len(array(attributes["POSITION"])) == SIDE**2
    assert (array(attributes["JOINTS_0"]) == 0).all()
    assert (array(attributes["WEIGHTS_0"])[:, 0] == 1.0).all()
    assert any(node.get("name") == "bust" for node in described["nodes"])


def test_exports_bend_hair_of_the_bust_with_the_neck(avatar: Avatar, tmp_path: Path) -> None:
    weight = torch.linspace(0.0, 1.0, SIDE**2)
    bent = replace(avatar, bust=avatar.bust.replace(neck_weight=weight))
    bound = on_root_triangles(bent.bust.gaussians, weight)
    assert (bound.neck_weight[3 * bound.face] - weight).abs().max() <= 1 / 64
    described, array = read_glb(save_glb(bent, tmp_path / "a.glb").read_bytes())
    (mesh,) = (mesh for mesh in described["meshes"] if mesh["name"] == "bust")
    stored = array(mesh["primitives"][0]["attributes"]["WEIGHTS_0"])
    assert np.allclose(np.sort(stored[:, 1]), weight.numpy(), atol=1e-6)
    assert np.allclose(stored.sum(1), 1.0)
    assert gltf_issues(tmp_path / "a.glb") == []


def test_khronos_validator_finds_nothing_in_a_glb_with_a_bust(avatar: Avatar, tmp_path: Path) -> None:
    assert gltf_issues(save_glb(avatar, tmp_path / "a.glb")) == []


def test_a_lam_archive_holds_the_head_alone(avatar: Avatar, tmp_path: Path) -> None:
    with zipfile.ZipFile(save_lam_zip(avatar, tmp_path / "a.zip")) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("offset.ply"))
        header = io.BytesIO(archive.read(name)).read(400)
    assert b"element vertex %d\n" % len(avatar.gaussians) in header
