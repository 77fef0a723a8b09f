"""Joints, skinning weights and pose correctives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from open_head import topology
from open_head.geometry import Head, piece_of_vertex
from open_head.topology import PART, PARTS
from spatialavatar.head.arkit import ARKIT_52, ARKIT_INDEX

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

JAW_UNITS = ("jawOpen", "jawLeft", "jawRight")
EXPRESSIONS = tuple(n for n in ARKIT_52 if n not in JAW_UNITS and not n.startswith("eyeLook"))
_LOOK_UP, _LOOK_DOWN, _LOOK_SIDE = (float(np.radians(a)) for a in (25.0, 30.0, 35.0))
_JAW_SIDE = float(np.radians(8.0))

JOINTS = ("root", "neck", "jaw", "eye_left", "eye_right")
PARENTS = (-1, 0, 1, 1, 1)
ROOT, NECK, JAW, EYE_LEFT, EYE_RIGHT = range(5)

ROOT_JOINT = np.array([0.0, -0.125, -0.015])
NECK_JOINT = np.array([0.0, -0.052, -0.004])
JAW_FROM_EARS = np.array([0.0, -0.004, 0.012])  # the jaw's joint lies before and below the ears' middle


@dataclass(frozen=True)
class Hinge:
    """The jaw's: opening turns by ``angle`` about the x axis through ``centre``."""

    centre: Floats
    angle: float


def rotation(axis: int, angle: float) -> Floats:
    """(3, 3) rotation about a coordinate axis."""
    c, s = np.cos(angle), np.sin(angle)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = c
    matrix[a, b], matrix[b, a] = -s, s
    return matrix


def fit_hinge(centre: Floats, points: Floats, offsets: Floats) -> Hinge:
    """The turn about x through ``centre`` that moves ``points`` (N, 3) by ``offsets`` (N, 3) best."""
    p, q = (points - centre)[:, 1:], (points + offsets - centre)[:, 1:]
    angle = np.arctan2((p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum(), (p * q).sum())
    return Hinge(centre, float(angle))


def smoothstep(value: Floats, low: float, high: float) -> Floats:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def neck_weight(template: Floats) -> Floats:
    """(V,) how much a vertex turns with the head: a smooth step over a plane that falls towards the chin.

    An upright plane would bind the chin, which is lower than the nape, to the shoulders.
    """
    return smoothstep(template[:, 1] + 0.35 * template[:, 2], -0.125, -0.045)


def jaw_weight(template: Floats, offsets: Floats, hinge: Hinge, smoothing: sp.csr_matrix) -> Floats:
    """(V,) the share of the hinge's turn that explains the sculpted opening best, smoothed over the surface.

    Args:
        template: (V, 3).
        offsets: (V, 3) the sculpted opening.
        hinge: its hinge.
        smoothing: (V, V) averaging over neighbours.
    """
    turned = (template - hinge.centre) @ (rotation(0, hinge.angle) - np.eye(3)).T
    share = (turned * offsets).sum(1) / np.maximum((turned**2).sum(1), 1e-8)
    moved = np.linalg.norm(offsets, axis=1)
    weight = np.clip(share, 0, 1) * smoothstep(moved, 0.0, 0.002)
    for _ in range(4):
        weight = smoothing @ weight
    return weight


def unskinned(template: Floats, offsets: Floats, weight: Floats, turn: Floats, centre: Floats) -> Floats:
    """(V, 3) rest-space offsets c so that skinning ``template + c`` by ``weight`` gives ``template + offsets``."""
    blended = np.eye(3) + weight[:, None, None] * (turn - np.eye(3))
    skinned = template + weight[:, None] * ((template - centre) @ (turn - np.eye(3)).T)
    return np.linalg.solve(blended, (template + offsets - skinned)[..., None])[..., 0]


def corrective_row(joint: int, row: int, column: int) -> int:
    """Index of the entry (row, column) of a joint's rotation minus identity among the pose correctives."""
    return (joint - 1) * 9 + row * 3 + column


def add_swing(
    correctives: Floats, joint: int, entries: tuple[tuple[int, int], tuple[int, int]], offsets: dict[float, Floats]
) -> None:
    """Add correctives that give two sculpted offsets (V, 3) at two angles of a turn about one axis.

    Args:
        correctives: (36, V, 3), changed in place.
        joint: the joint that turns.
        entries: entries of its rotation minus identity that hold the sine and the cosine minus 1.
        offsets: two offsets by angle, radians.
    """
    angles = np.array(list(offsets))
    features = np.stack([np.sin(angles), np.cos(angles) - 1], 1)
    solved = np.einsum("fa,avc->fvc", np.linalg.inv(features), np.stack(list(offsets.values())))
    for entry, values in zip(entries, solved, strict=True):
        correctives[corrective_row(joint, *entry)] += values


def joint_weights(template: Floats, candidates: Ints, joint: Floats) -> Floats:
    """(V,) least-norm affine weights over ``candidates`` that give ``joint`` exactly; they sum to 1."""
    points = np.concatenate([template[candidates].T, np.ones((1, len(candidates)))])
    weights = np.zeros(len(template))
    weights[candidates] = np.linalg.pinv(points) @ np.append(joint, 1.0)
    return weights


def build_rig(head: Head) -> dict[str, NDArray]:
    """Expressions, joints, skinning weights, correctives and ARKit maps: what moves, as tensors of the head file."""
    mesh, template = head.mesh, head.mesh.template
    count = len(template)
    of_part = {name: np.unique(mesh.faces[mesh.face_parts == PART[name]]) for name in PARTS}

    chin = np.flatnonzero((template[:, 1] < -0.055) & (template[:, 2] > 0.105))
    joint = template[of_part["ears"]].mean(0) * [0, 1, 1] + JAW_FROM_EARS
    hinge = fit_hinge(joint, template[chin], head.units["jawOpen"][chin])
    neck = neck_weight(template)
    jaw = jaw_weight(template, head.units["jawOpen"], hinge, topology.smoothing_matrix(mesh.faces, count))
    jaw = 0.5 * (jaw + jaw[head.twin])
    kind = piece_of_vertex(mesh)
    jaw[kind == PART["teeth_upper"]] = 0.0
    jaw[kind == PART["teeth_lower"]] = 1.0
    weights = np.zeros((count, 5))
    weights[:, ROOT], weights[:, NECK], weights[:, JAW] = 1 - neck, neck * (1 - jaw), neck * jaw
    for joint, part in ((EYE_LEFT, "eye_left"), (EYE_RIGHT, "eye_right")):
        weights[of_part[part]] = np.eye(5)[joint]
    print(f"jaw: opens {np.degrees(hinge.angle):.1f} degrees about y {hinge.centre[1]:.4f} z {hinge.centre[2]:.4f} m")

    correctives = np.zeros((36, count, 3))
    rigid = np.isin(kind, [PART["teeth_upper"], PART["teeth_lower"], PART["eye_left"]])

    def residual(unit: str, axis: int, angle: float) -> Floats:
        """What the jaw's turn lacks of a sculpted unit, before skinning."""
        offsets = unskinned(template, head.units[unit], weights[:, JAW], rotation(axis, angle), hinge.centre)
        return np.where(rigid[:, None], 0.0, offsets)

    # The jaw's turn also turns what mouthClose adds: undo half of the full turn, about where the two are used.
    halfway = np.eye(3) + weights[:, JAW, None, None] * (rotation(0, 0.5 * hinge.angle) - np.eye(3))
    closing = np.linalg.solve(halfway, head.units["mouthClose"][..., None])[..., 0]
    units = head.units | {"mouthClose": closing}

    correctives[corrective_row(JAW, 2, 1)] = residual("jawOpen", 0, hinge.angle) / np.sin(hinge.angle)
    aside = {angle: residual(unit, 1, angle) for unit, angle in (("jawLeft", _JAW_SIDE), ("jawRight", -_JAW_SIDE))}
    add_swing(correctives, JAW, ((0, 2), (0, 0)), aside)
    for joint, side, outwards in ((EYE_LEFT, "Left", 1.0), (EYE_RIGHT, "Right", -1.0)):
        up_down = {-_LOOK_UP: head.units[f"eyeLookUp{side}"], _LOOK_DOWN: head.units[f"eyeLookDown{side}"]}
        out_in = {
            outwards * _LOOK_SIDE: head.units[f"eyeLookOut{side}"],
            -outwards * _LOOK_SIDE: head.units[f"eyeLookIn{side}"],
        }
        add_swing(correctives, joint, ((2, 1), (1, 1)), up_down)
        add_swing(correctives, joint, ((0, 2), (0, 0)), out_in)

    sides = of_part["ears"]
    still = np.flatnonzero((neck > 0.05) & (neck < 0.95) & (jaw < 1e-3))
    bust = np.flatnonzero(neck < 0.05)
    regressor = np.stack(
        [
            joint_weights(template, bust, ROOT_JOINT),
            joint_weights(template, still, NECK_JOINT),
            joint_weights(template, sides, hinge.centre),
            joint_weights(template, of_part["eye_left"], head.centres[0]),
            joint_weights(template, of_part["eye_right"], head.centres[1]),
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
        "expression_basis": np.stack([units[name] for name in EXPRESSIONS]),
        "pose_correctives": correctives,
        "joint_regressor": regressor,
        "skinning_weights": weights,
        "arkit_to_expression": to_expression,
        "arkit_to_pose": to_pose,
    }
