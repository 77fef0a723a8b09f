"""Avatars as files for other programs."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spatialavatar.avatar import Avatar, default_head
from spatialavatar.errors import InputError, OutputError
from spatialavatar.export import held_pose, save_glb, save_lam_zip, save_ply, save_splat, save_spz
from spatialavatar.export.glb import MESHES, MORPHS, lifted_texture, mesh_parts, viseme_weights
from spatialavatar.export.splat import splat_rows
from spatialavatar.head import HeadModel, build_layout
from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.metrics import psnr
from spatialavatar.records import Camera, Gaussians, HeadParams

from .support.avatars import make_ball_avatar
from .support.gltf_check import gltf_issues, read_glb
from .support.splat_readers import PLY_COLUMNS, picture, read_ply, read_ply_by_place, read_splat, read_spz


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


def test_a_ply_of_degree_three_has_the_62_columns_and_the_same_gaussians(tmp_path: Path) -> None:
    plyfile = pytest.importorskip("plyfile", reason="needs the extra 'dev'")
    avatar = make_ball_avatar(16)
    plain, padded = (save_ply(avatar, tmp_path / f"{n}.ply", sh_degree=n) for n in (0, 3))
    rows = plyfile.PlyData.read(str(padded))["vertex"]
    assert [p.name for p in rows.properties] == PLY_COLUMNS
    assert not any(rows[name].any() for name in ["nx", "ny", "nz", *PLY_COLUMNS[9:54]])
    assert torch.equal(read_ply(plain).means, read_ply(padded).means)
    assert torch.equal(read_ply(plain).quats, read_ply(padded).quats)


def test_a_reader_by_place_reads_a_ply_of_degree_three(tmp_path: Path) -> None:
    avatar = make_ball_avatar(16)
    by_name, by_place = (
        read(save_ply(avatar, tmp_path / "a.ply", sh_degree=3)) for read in (read_ply, read_ply_by_place)
    )
    for name in ("means", "quats", "scales", "opacities", "colors"):
        assert torch.equal(getattr(by_name, name), getattr(by_place, name)), name


def test_spz_of_version_two_holds_the_same_gaussians_with_rotations_of_a_byte(tmp_path: Path) -> None:
    avatar = make_ball_avatar()
    params = held_pose(avatar, {}, yaw=30.0)
    two, three = (read_spz(save_spz(avatar, tmp_path / f"{v}.spz", params, version=v)) for v in (2, 3))
    for name in ("means", "scales", "opacities", "colors"):
        assert torch.equal(getattr(two, name), getattr(three, name)), name
    angles = 2 * torch.rad2deg(torch.acos((two.quats * three.quats).sum(1).abs().clamp_max(1.0)))
    assert angles.mean() < 1.5  # degrees; near half a turn a byte is coarse
    assert angles.max() < 15.0
    image, _ = as_shown(avatar, params)
    assert psnr(image, picture(two, 0.6, 96, y_down=False)[0]) > 30.0


def test_spz_of_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="version 2 or 3, not 4"):
        save_spz(make_ball_avatar(16), tmp_path / "a.spz", version=4)


def test_spz_of_a_gaussian_beyond_the_format_is_refused(tmp_path: Path) -> None:
    avatar = make_ball_avatar(16)
    far = avatar.gaussians.replace(means=torch.full_like(avatar.gaussians.means, 1e4))
    with pytest.raises(InputError, match=r"^A Gaussian lies more than 128 metres from the head[^\n]+\.$"):
        save_spz(dataclasses.replace(avatar, gaussians=far), tmp_path / "a.spz")
    assert not (tmp_path / "a.spz").exists()


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


@pytest.mark.parametrize("save", [save_ply, save_splat, save_spz, save_glb])
def test_more_than_three_channels_fit_no_file(save: Callable[..., Path], tmp_path: Path) -> None:
    avatar = make_ball_avatar(16)
    wide = avatar.gaussians.replace(colors=torch.rand(len(avatar.gaussians), 8))
    with pytest.raises(InputError, match="three colours, not 8"):
        save(dataclasses.replace(avatar, gaussians=wide), tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.fixture(scope="module")
def person() -> Avatar:
    """An avatar of the head that ships, coloured by where a texel lies."""
    head = default_head()
    layout = build_layout(head, 64)
    count = len(layout)
    row, column = layout.texels // 64, layout.texels % 64
    return dataclasses.replace(
        make_ball_avatar(16),
        head=head,
        layout=layout,
        shape=0.5 * torch.randn(head.shape_count, generator=torch.Generator().manual_seed(3)),
        gaussians=Gaussians(
            means=torch.zeros(count, 3),
            quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(count, 4),
            scales=torch.full((count, 3), 0.3),
            opacities=torch.where(row == 20, 0.0, 0.9),
            colors=torch.stack([row, column, torch.full_like(row, 32)], 1) / 64.0,
        ),
        reference=head.neutral(),
        vertex_offsets=None,
    )


@pytest.fixture(scope="module")
def glb(person: Avatar, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Callable[[int], np.ndarray]]:
    """The description in the person's GLB and a reader of its accessors."""
    return read_glb(save_glb(person, tmp_path_factory.mktemp("glb") / "a.glb").read_bytes())


def glb_centre(person: Avatar) -> np.ndarray:
    """The middle of the resting skull, head space."""
    head = person.head
    rest = head.pose(person.identity(), head.neutral())[0].numpy()
    skull = rest[head.part_vertices("face", "scalp", "ears").numpy()]
    return (skull.min(0) + skull.max(0)) / 2


def placed_faces(head: HeadModel, mesh: str) -> torch.Tensor:
    """(F,) bool: the faces of a mesh of the GLB."""
    return head.part_faces(*mesh_parts(head)[mesh]) & (head.uv >= 0).all(-1).all(-1)


def test_the_glbs_morphs_are_the_heads_units_and_visemes_within_a_tenth_of_a_millimetre(
    person: Avatar, glb: tuple[dict[str, Any], Callable[[int], np.ndarray]]
) -> None:
    described, array = glb
    head, centre = person.head, glb_centre(person)
    units = torch.cat([torch.eye(52), viseme_weights()])
    expression, jaw, eyes = head.from_arkit(units)
    params = head.neutral(len(units)).replace(expression=expression, jaw=jaw, eyes=eyes)
    wanted = head.pose(person.identity(), params).numpy()
    rest = head.pose(person.identity(), head.neutral())[0].numpy()
    assert [mesh["name"] for mesh in described["meshes"]] == ["head", *MESHES]
    assert described["meshes"][0]["extras"]["targetNames"] == list(MORPHS)
    for mesh in described["meshes"]:
        primitive, placed = mesh["primitives"][0], placed_faces(head, mesh["name"])
        corners = head.faces[placed].numpy()
        faces, points = array(primitive["indices"]).reshape(-1, 3), array(primitive["attributes"]["POSITION"])
        assert faces.shape == corners.shape
        assert np.abs(array(primitive["attributes"]["TEXCOORD_0"])[faces] - head.uv[placed].numpy()).max() < 1e-6
        names = mesh.get("extras", {}).get("targetNames", [])
        shown = {name: points + array(target["POSITION"]) for name, target in zip(names, primitive.get("targets", []))}
        for name, vertices in zip(MORPHS, wanted):
            # A morph that moves nothing of a mesh is left out of it.
            assert np.abs(shown.get(name, points)[faces] - (vertices - centre)[corners]).max() < 1e-4, (mesh, name)
    assert np.abs(wanted - rest).max() > 5e-3


def test_a_bone_of_the_glb_turns_what_the_heads_joint_turns(
    person: Avatar, glb: tuple[dict[str, Any], Callable[[int], np.ndarray]]
) -> None:
    described, array = glb
    head, centre = person.head, glb_centre(person)
    skin, nodes = described["skins"][0], described["nodes"]
    names = [nodes[i]["name"] for i in skin["joints"]]
    assert names == ["root", "neck", "jaw", "eye_left", "eye_right"]
    angle = 0.25
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    # The bones' world matrices with the jaw turned about x, then the format's linear blend skinning.
    worlds: dict[int, np.ndarray] = {}
    for i, name in enumerate(names):
        local = np.eye(4)
        local[:3, 3] = nodes[i]["translation"]
        local[:3, :3] = turn if name == "jaw" else np.eye(3)
        above = [j for j in range(len(names)) if i in nodes[j].get("children", [])]
        worlds[i] = (worlds[above[0]] if above else np.eye(4)) @ local
    inverse = array(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
    moves = np.stack([worlds[i] @ inverse[i] for i in range(len(names))])
    plain = copy.copy(head)  # a skin has no pose correctives
    plain.pose_correctives = torch.zeros_like(head.pose_correctives)
    vars(plain).pop("_sparse_correctives", None)
    wanted = plain.pose(person.identity(), head.neutral().replace(jaw=torch.tensor([[angle, 0.0, 0.0]])))[0].numpy()
    for mesh in described["meshes"]:
        attributes = mesh["primitives"][0]["attributes"]
        points, weights = array(attributes["POSITION"]), array(attributes["WEIGHTS_0"])
        assert np.abs(weights.sum(1) - 1.0).max() < 1e-6
        blended = np.einsum("pb,pbij->pij", weights, moves[array(attributes["JOINTS_0"])])
        shown = np.einsum("pij,pj->pi", blended, np.c_[points, np.ones(len(points))])[:, :3]
        faces = array(mesh["primitives"][0]["indices"]).reshape(-1, 3)
        corners = head.faces[placed_faces(head, mesh["name"])].numpy()
        assert np.abs(shown[faces] - (wanted - centre)[corners]).max() < 1e-4, mesh["name"]


def test_the_texture_is_the_gaussians_colours_without_holes(person: Avatar) -> None:
    texture = lifted_texture(person).astype(int)
    seen = person.gaussians.opacities > 0.5
    colors = (person.gaussians.colors * 255).round().int().numpy()
    at_texels = texture.reshape(-1, 3)[person.layout.texels.numpy()]
    assert np.array_equal(at_texels[seen.numpy()], colors[seen.numpy()])
    assert (texture[..., 2] == 128).all()  # nothing but what some Gaussian has
    row = texture[20, :, 0]  # whose own Gaussians are transparent
    assert not (row == colors[(~seen).numpy(), 0][0]).any()


def test_khronos_validator_finds_nothing_in_the_glb(person: Avatar, tmp_path: Path) -> None:
    assert gltf_issues(save_glb(person, tmp_path / "a.glb")) == []


def test_trimesh_reads_the_glb(person: Avatar, tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh", reason="needs the extra 'dev'")
    scene = trimesh.load(save_glb(person, tmp_path / "a.glb"))
    assert set(scene.geometry) == {"head", *MESHES}
    mesh = scene.geometry["head"]
    low, high = mesh.bounds
    assert 0.25 < high[1] - low[1] < 0.4  # metres, y up
    assert mesh.visual.uv.shape == (len(mesh.vertices), 2)
    assert mesh.visual.material.baseColorTexture.size == (64, 64)


@pytest.fixture(scope="module")
def lam_zip(person: Avatar, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a LAM archive by name, its folder's own entry among them."""
    with zipfile.ZipFile(save_lam_zip(person, tmp_path_factory.mktemp("lam") / "ada.zip")) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def lam_centres(files: dict[str, bytes], weights: dict[str, float]) -> np.ndarray:
    """What LAM's renderer adds up for each Gaussian: vertex, offset and weighted morph targets."""
    plyfile = pytest.importorskip("plyfile", reason="needs the extra 'dev'")
    described, array = read_glb(files["ada/skin.glb"])
    mesh = described["meshes"][0]
    rows = plyfile.PlyData.read(io.BytesIO(files["ada/offset.ply"]))["vertex"]
    centres = array(mesh["primitives"][0]["attributes"]["POSITION"]) + np.stack([rows[axis] for axis in "xyz"], 1)
    for name, target in zip(mesh["extras"]["targetNames"], mesh["primitives"][0]["targets"]):
        centres = centres + weights.get(name, 0.0) * array(target["POSITION"])
    return centres


def test_a_lam_archive_is_one_folder_of_four_files(lam_zip: dict[str, bytes]) -> None:
    parts = ["skin.glb", "offset.ply", "animation.glb", "vertex_order.json"]
    assert set(lam_zip) == {"ada/", *(f"ada/{part}" for part in parts)}


@pytest.mark.parametrize("unit", [None, "jawOpen", "mouthSmileLeft", "eyeLookInLeft"])
def test_lams_sum_of_vertex_offset_and_morph_is_where_the_gaussian_is(
    person: Avatar, lam_zip: dict[str, bytes], unit: str | None
) -> None:
    weights = {unit: 1.0} if unit else {}
    expression, jaw, eyes = person.head.from_arkit(torch.tensor([[weights.get(name, 0.0) for name in ARKIT_52]]))
    wanted = person.pose(person.head.neutral().replace(expression=expression, jaw=jaw, eyes=eyes)).means.numpy()
    apart = lam_centres(lam_zip, weights) - wanted
    assert np.ptp(apart, axis=0).max() < 5e-6  # one shift for all
    rest = person.identity().vertices[person.head.part_vertices("face", "scalp", "ears")].numpy()
    assert np.abs((rest.min(0) + rest.max(0)) / 2 + apart.mean(0, np.float64) - [0.0, 1.62, 0.0]).max() < 1e-5


def test_a_lam_skin_names_what_the_renderer_asks_for(lam_zip: dict[str, bytes], person: Avatar) -> None:
    described, array = read_glb(lam_zip["ada/skin.glb"])
    (mesh,), (skin,) = described["meshes"], described["skins"]
    attributes = mesh["primitives"][0]["attributes"]
    assert mesh["extras"]["targetNames"] == list(ARKIT_52)
    assert "animations" not in described  # the renderer takes a file with clips for one without a mesh
    assert [described["nodes"][joint]["name"] for joint in skin["joints"]] == ["hip", "head"]
    assert (array(attributes["JOINTS_0"]) == [1, 0, 0, 0]).all()
    assert len(array(attributes["POSITION"])) == len(person.gaussians)
    inverse = array(skin["inverseBindMatrices"]).reshape(2, 4, 4)[1].T
    joint = np.append(described["nodes"][1]["translation"], 1.0)
    assert np.abs(inverse @ joint - [0, 0, 0, 1]).max() < 1e-6


def test_a_lam_animation_has_a_clip_of_the_head_for_every_state(lam_zip: dict[str, bytes]) -> None:
    described, array = read_glb(lam_zip["ada/animation.glb"])
    assert len(described["animations"]) == 12
    for clip in described["animations"]:
        (channel,) = clip["channels"]
        assert described["nodes"][channel["target"]["node"]]["name"] == "head"
        assert array(clip["samplers"][0]["input"])[-1, 0] > 1.0


def test_lam_colours_are_plain_and_its_vertices_run_from_the_back_to_the_front(
    person: Avatar, lam_zip: dict[str, bytes]
) -> None:
    plyfile = pytest.importorskip("plyfile", reason="needs the extra 'dev'")
    rows = plyfile.PlyData.read(io.BytesIO(lam_zip["ada/offset.ply"]))["vertex"]
    colors = np.stack([rows[f"f_dc_{i}"] for i in range(3)], 1)
    assert np.abs(colors - person.gaussians.colors.numpy()).max() < 1e-6
    order = json.loads(lam_zip["ada/vertex_order.json"])
    assert sorted(order) == list(range(len(person.gaussians)))
    described, array = read_glb(lam_zip["ada/skin.glb"])
    depth = array(described["meshes"][0]["primitives"][0]["attributes"]["POSITION"])[order, 2]
    assert (np.diff(depth) >= 0).all()
    assert depth[-1] - depth[0] > 0.1


def test_trimesh_reads_a_lam_skin_whose_triangles_look_outwards(lam_zip: dict[str, bytes], person: Avatar) -> None:
    trimesh = pytest.importorskip("trimesh", reason="needs the extra 'dev'")
    scene = trimesh.load(io.BytesIO(lam_zip["ada/skin.glb"]), file_type="glb", process=False)
    (mesh,) = scene.geometry.values()
    assert len(mesh.vertices) == len(person.gaussians)
    outwards = (mesh.triangles_center - [0.0, 1.62, 0.0]) * mesh.face_normals
    assert (outwards.sum(1) > 0).mean() > 0.8


@pytest.mark.parametrize("name", ["skin.glb", "animation.glb"])
def test_khronos_validator_finds_no_fault_in_a_lam_archive(
    name: str, lam_zip: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(lam_zip[f"ada/{name}"])
    assert [issue for issue in gltf_issues(path) if issue["severity"] < 2] == []  # LAM's clips have bones and no mesh


def test_a_lam_archive_must_be_called_zip(person: Avatar, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"call me\.bin me\.zip"):
        save_lam_zip(person, tmp_path / "me.bin")


def test_a_lam_archive_of_a_name_that_is_no_utf8_has_a_folder_of_another(person: Avatar, tmp_path: Path) -> None:
    try:
        path = save_lam_zip(person, tmp_path / os.fsdecode(b"caf\xe9.zip"))
    except OutputError:
        pytest.skip("this file system refuses such names")
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist()[0] == "caf_/"


@pytest.mark.parametrize(
    ("save", "name"),
    [(save_ply, "a.ply"), (save_splat, "a.splat"), (save_spz, "a.spz"), (save_glb, "a.glb"), (save_lam_zip, "a.zip")],
)
def test_an_export_on_a_full_disk_is_one_sentence_and_leaves_no_file(
    save: Callable[..., Path], name: str, tmp_path: Path
) -> None:
    resource = pytest.importorskip("resource", reason="limits of file sizes are POSIX")
    avatar = make_ball_avatar()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))  # bytes; as a full disk, the write fails half-way
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            save(avatar, tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
