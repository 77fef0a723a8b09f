"""Properties of the head file that ships: what a person would see wrong if they did not hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from spatialavatar.head.arkit import ARKIT_52, ARKIT_INDEX, mirrored_name
from spatialavatar.head.model import HeadModel
from spatialavatar.records import Camera, HeadParams
from spatialavatar.render.mesh import rasterize_mesh

EYE_RADIUS = 0.012
FLIP = torch.tensor([-1.0, 1.0, 1.0])
LEFT, RIGHT = 3, 4


@pytest.fixture(scope="module")
def folder(repository: Path) -> Path:
    return repository / "weights" / "head"


@pytest.fixture(scope="module")
def head(folder: Path) -> HeadModel:
    return HeadModel.load(folder)


def arkit(head: HeadModel, shape: Tensor | None = None, **weights: float) -> HeadParams:
    """Parameters of ARKit weights; a name without its side sets both."""
    coefficients = torch.zeros(1, 52)
    for name, weight in weights.items():
        for full in (name,) if name in ARKIT_INDEX else (f"{name}Left", f"{name}Right"):
            coefficients[0, ARKIT_INDEX[full]] = weight
    expression, jaw, eyes = head.from_arkit(coefficients)
    params = head.neutral().replace(expression=expression, jaw=jaw, eyes=eyes)
    return params if shape is None else params.replace(shape=shape)


def pose(head: HeadModel, shape: Tensor | None = None, **weights: float) -> Tensor:
    return head.vertices(arkit(head, shape, **weights))[0]


def identities(head: HeadModel, count: int) -> list[Tensor]:
    drawn = torch.randn(count, head.shape_count, generator=torch.Generator().manual_seed(7))
    return [torch.zeros(head.shape_count), *drawn]


def visible_pixels(head: HeadModel, vertices: Tensor, *parts: str, yaw: float = 0.0) -> int:
    """Pixels (of about .4 mm) in which the parts are seen from the front, the head turned by ``yaw`` degrees."""
    angle = np.radians(yaw)
    turn = torch.tensor([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]).float()
    camera = Camera.frontal(512, 1800.0)
    cam = camera.to_camera(vertices @ turn.T - torch.tensor([0.0, 0.0, 0.8]))
    seen = rasterize_mesh(cam.numpy(), head.faces.numpy(), camera.intrinsics.numpy(), 512, 512).face
    return int(head.part_faces(*parts).numpy()[seen[seen >= 0]].sum())


def rest_joints(head: HeadModel, shape: Tensor | None = None) -> Tensor:
    return head.identity(torch.zeros(head.shape_count) if shape is None else shape).joints


def gaze(head: HeadModel, vertices: Tensor, side: str) -> Tensor:
    """Where an eye looks: from the middle of the eyeball's mesh to its front pole, at rest the vertex furthest in z."""
    ball = torch.nonzero(head.part_vertices(f"eye_{side}"))[:, 0]
    pole = ball[head.template[ball, 2].argmax()]
    centre = sphere_centre(vertices[ball])
    return (vertices[pole] - centre) / EYE_RADIUS


def sphere_centre(points: Tensor) -> Tensor:
    points = points.double()
    system = torch.cat([2 * points, torch.ones(len(points), 1, dtype=points.dtype)], 1)
    return torch.linalg.lstsq(system, (points**2).sum(1)).solution[:3].float()


def test_the_file_is_small_and_has_the_promised_spaces(head: HeadModel, folder: Path) -> None:
    assert (folder / "head.safetensors").stat().st_size <= 6e6
    assert head.shape_count == 100
    assert head.expressions == tuple(
        n for n in ARKIT_52 if n not in ("jawOpen", "jawLeft", "jawRight") and not n.startswith("eyeLook")
    )


def test_skinning_rows_and_joint_rows_sum_to_one(head: HeadModel) -> None:
    torch.testing.assert_close(head.skinning_weights.sum(1), torch.ones(len(head.template)))
    torch.testing.assert_close(head.joint_regressor.sum(1), torch.ones(5), atol=1e-4, rtol=0)
    assert head.skinning_weights.min() >= 0


def test_all_triangles_are_used_and_have_area(head: HeadModel) -> None:
    corners = head.template[head.faces]
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1) / 2
    assert len(head.faces.unique()) == len(head.template)
    assert float((area > 1e-9).float().mean()) > 0.999


def test_what_a_camera_sees_of_the_skin_faces_it(head: HeadModel) -> None:
    camera = Camera.frontal(256, 1800.0)
    for angle in (0.0, 1.2, 2.4, -1.2):
        turn = torch.tensor([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]).float()
        cam = camera.to_camera(head.template @ turn.T - torch.tensor([0.0, 0.03, 1.4]))
        seen = rasterize_mesh(cam.numpy(), head.faces.numpy(), camera.intrinsics.numpy(), 256, 256).face
        skin = head.part_faces("face", "scalp", "ears").numpy()
        corners = cam.numpy()[head.faces.numpy()[seen[(seen >= 0) & skin[seen]]]]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert ((normal * corners[:, 0]).sum(1) < 0).mean() > 0.99


def test_the_mean_head_has_human_measures(head: HeadModel) -> None:
    joints = rest_joints(head)
    assert 0.056 < float(joints[LEFT, 0] - joints[RIGHT, 0]) < 0.068  # between the pupils
    face = head.template[head.part_vertices("face")]
    assert 0.12 < float(face[:, 0].max() - face[:, 0].min()) < 0.17
    assert 0.20 < float(head.template[:, 1].max() - face[:, 1].min()) < 0.27


def test_mirroring_the_head_gives_the_head(head: HeadModel) -> None:
    twin = head.mirror_vertices
    assert torch.equal(twin[twin], torch.arange(len(twin)))
    torch.testing.assert_close(head.template[twin] * FLIP, head.template, atol=1e-6, rtol=0)
    left = head.part_vertices("eye_left")
    assert torch.equal(left[twin], head.part_vertices("eye_right"))


@pytest.mark.parametrize("name", [n for n in ARKIT_52 if n.endswith("Left") or not n.endswith("Right")])
def test_each_unit_mirrors_its_twin(head: HeadModel, name: str) -> None:
    one, other = pose(head, **{name: 0.7}), pose(head, **{mirrored_name(name): 0.7})
    if name == mirrored_name(name):
        other = one
    torch.testing.assert_close(one[head.mirror_vertices] * FLIP, other, atol=2e-5, rtol=0)


def test_left_is_the_subjects_left(head: HeadModel) -> None:
    for name in ("eyeBlinkLeft", "mouthSmileLeft", "browDownLeft", "cheekSquintLeft"):
        moved = (pose(head, **{name: 1.0}) - head.template).norm(dim=1)
        assert float((moved * head.template[:, 0]).sum() / moved.sum()) > 0.01, name


def test_the_jaw_opens_down_and_back(head: HeadModel) -> None:
    chin = (head.template[:, 1] < -0.06) & (head.template[:, 2] > 0.1) & head.part_vertices("face")
    moved = (pose(head, jawOpen=1.0) - head.template)[chin].mean(0)
    assert float(moved[1]) < -0.015
    assert float(moved[2]) < -0.002
    scalp = head.part_vertices("scalp")
    assert float((pose(head, jawOpen=1.0) - head.template)[scalp].norm(dim=1).max()) < 1e-4


def test_the_jaw_moves_to_the_named_side(head: HeadModel) -> None:
    lower = head.part_vertices("teeth_lower")
    assert float((pose(head, jawLeft=1.0) - head.template)[lower, 0].mean()) > 0.004
    assert float((pose(head, jawRight=1.0) - head.template)[lower, 0].mean()) < -0.004


def test_lower_teeth_stay_rigid_and_upper_teeth_stay_put_when_the_jaw_opens(head: HeadModel) -> None:
    opened = pose(head, jawOpen=1.0)
    upper, lower = head.part_vertices("teeth_upper"), head.part_vertices("teeth_lower")
    torch.testing.assert_close(opened[upper], head.template[upper], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        torch.pdist(opened[lower][::7]), torch.pdist(head.template[lower][::7]), atol=1e-5, rtol=0
    )


def test_an_open_jaw_comes_to_rest_with_closed_lips_when_the_mouth_closes(head: HeadModel) -> None:
    vertices = pose(head, jawOpen=0.4, mouthClose=0.4)
    assert visible_pixels(head, vertices, "teeth_upper", "teeth_lower", "tongue", "mouth") < 40


@pytest.mark.parametrize("side", ["left", "right"])
def test_eyes_turn_where_their_names_say(head: HeadModel, side: str) -> None:
    suffix = side.capitalize()
    outwards = 1.0 if side == "left" else -1.0
    assert float(gaze(head, pose(head, **{f"eyeLookUp{suffix}": 1.0}), side)[1]) > 0.3
    assert float(gaze(head, pose(head, **{f"eyeLookDown{suffix}": 1.0}), side)[1]) < -0.3
    assert float(gaze(head, pose(head, **{f"eyeLookOut{suffix}": 1.0}), side)[0]) * outwards > 0.4
    assert float(gaze(head, pose(head, **{f"eyeLookIn{suffix}": 1.0}), side)[0]) * outwards < -0.4


def test_eyeballs_are_spheres_that_turn_about_their_centre(head: HeadModel) -> None:
    for shape in identities(head, 3):
        joints = rest_joints(head, shape)
        for part, joint in (("eye_left", LEFT), ("eye_right", RIGHT)):
            ball = pose(head, shape, eyeLookUp=1.0)[head.part_vertices(part)]
            radii = (ball - joints[joint]).norm(dim=1)
            assert float((radii - EYE_RADIUS).abs().max()) < 2e-4


def test_lids_follow_the_gaze(head: HeadModel) -> None:
    face = head.part_vertices("face")
    for name, sign in (("eyeLookUpLeft", 1), ("eyeLookDownLeft", -1)):
        moved = (pose(head, **{name: 1.0}) - head.template)[face, 1]
        assert float(moved.abs().max()) > 0.0015
        assert float(moved[moved.abs().argmax()]) * sign > 0


def test_a_blink_hides_the_eyes_of_every_identity(head: HeadModel) -> None:
    for shape in identities(head, 6):
        assert visible_pixels(head, pose(head, shape), "eye_left", "eye_right") > 500
        for yaw in (-30.0, 0.0):
            shut = pose(head, shape, eyeBlink=1.0)
            assert visible_pixels(head, shut, "eye_left", "eye_right", yaw=yaw) == 0


def test_eyeballs_do_not_cut_the_lids(head: HeadModel) -> None:
    near = lid_skin(head)
    for shape in identities(head, 6):
        joints = rest_joints(head, shape)
        for weights in ({}, {"eyeBlink": 0.5}, {"eyeBlink": 1.0}, {"eyeSquint": 1.0}, {"eyeWide": 1.0}):
            vertices = pose(head, shape, **weights)
            for joint, faces in near.items():
                middle = vertices[faces].mean(1)
                clearance = (middle - joints[joint]).norm(dim=1) - EYE_RADIUS
                assert float(clearance.median()) > 0
                assert float(clearance.quantile(0.05)) > -0.0002, (weights, joint)


def lid_skin(head: HeadModel) -> dict[int, Tensor]:
    """Skin triangles within 6 mm before an eyeball, without the lids' inner sides, by eye joint."""
    joints = rest_joints(head)
    faces = head.faces[head.part_faces("face")]
    corners = head.template[faces]
    near = {}
    for joint in (LEFT, RIGHT):
        offset = corners - joints[joint]
        distance = offset.norm(dim=2)
        front = (offset[..., 2] > 0.004).all(1) & (distance > EYE_RADIUS + 0.0004).all(1)
        near[joint] = faces[front & (distance < EYE_RADIUS + 0.006).all(1) & (offset[..., 0].abs() < 0.0105).all(1)]
        assert len(near[joint]) > 50
    return near


def test_no_teeth_show_through_closed_lips(head: HeadModel) -> None:
    for shape in identities(head, 4):
        for name in (
            None,
            "mouthSmile",
            "mouthPucker",
            "mouthPress",
            "mouthFrown",
            "cheekPuff",
            "mouthDimple",
            "mouthRollLower",
            "mouthRollUpper",
        ):
            vertices = pose(head, shape, **({name: 1.0} if name else {}))
            for yaw in (0.0, 30.0):
                assert visible_pixels(head, vertices, "teeth_upper", "teeth_lower", yaw=yaw) < 30, name


def test_upper_incisors_reach_a_little_below_the_seam_and_the_lower_ones_bite_behind_them(head: HeadModel) -> None:
    lips = head.template[head.part_vertices("lips") & (head.template[:, 0].abs() < 0.002)]
    edges = {}
    for part, sign in (("teeth_upper", -1.0), ("teeth_lower", 1.0)):
        middle = head.template[head.part_vertices(part) & (head.template[:, 0].abs() < 0.003)]
        edges[part] = middle[(sign * middle[:, 1]).argmax()]
    upper, lower = edges["teeth_upper"], edges["teeth_lower"]
    assert 0.002 < float(lips[lips[:, 2].argmin(), 1] - upper[1]) < 0.005
    assert 0.0 < float(lower[1] - upper[1]) < 0.002
    assert 0.001 < float(upper[2] - lower[2]) < 0.004
    assert 0.003 < float(lips[:, 2].max() - upper[2]) < 0.015


def test_a_smile_shows_the_upper_teeth_and_a_dropped_jaw_both(head: HeadModel) -> None:
    for shape in identities(head, 3):
        smile = pose(head, shape, mouthSmile=0.8, mouthUpperUp=0.5, jawOpen=0.2)
        upper = visible_pixels(head, smile, "teeth_upper")
        assert upper > 1000
        assert visible_pixels(head, smile, "teeth_lower") < 0.1 * upper
        ajar, wide = pose(head, shape, jawOpen=0.15), pose(head, shape, jawOpen=0.8)
        assert visible_pixels(head, ajar, "teeth_upper") > 200 > 3 * visible_pixels(head, ajar, "teeth_lower")
        assert visible_pixels(head, wide, "teeth_upper") > 150
        assert 400 < visible_pixels(head, wide, "teeth_lower") < 1000


def test_random_identities_stay_close_to_the_mean(head: HeadModel) -> None:
    for shape in identities(head, 8)[1:]:
        offset = head.identity(shape).vertices - head.template
        assert bool(torch.isfinite(offset).all())
        assert 0.001 < float(offset.norm(dim=1).mean()) < 0.02
        assert float(offset[head.part_vertices("face")].norm(dim=1).max()) < 0.04


def test_a_turned_neck_leaves_the_bust_and_takes_the_chin(head: HeadModel) -> None:
    turned = head.vertices(head.neutral().replace(neck=torch.tensor([[0.0, 0.5, 0.0]])))[0]
    weights = head.skinning_weights
    assert float(weights[head.part_vertices("face"), 0].max()) < 0.35  # the chin does not stay with the shoulders
    bottom = head.template[:, 1] < -0.14
    torch.testing.assert_close(turned[bottom], head.template[bottom], atol=1e-4, rtol=0)
    lips = head.part_vertices("lips")
    assert float((turned - head.template)[lips].norm(dim=1).min()) > 0.03
