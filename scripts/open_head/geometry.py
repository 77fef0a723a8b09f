"""The open head's geometry: skin, eyes and teeth of the mean head, its identity space and its 52 units."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from open_head import expressions, eyes, identity, lips, teeth, topology
from open_head.source import BaseMesh, Source
from open_head.topology import PART, PARTS, Mesh, QuadSets
from spatialavatar.head.arkit import ARKIT_52

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SHAPE_COUNT = 100
_SAMPLES = 900  # drawn heads; each is used with its mirror image
_SEED = 20
_NECK_IMPORTANCE = 0.15  # of the neck in the principal components, relative to the face


@dataclass(frozen=True)
class Head:
    """The head while it is being built; lengths in metres.

    Attributes:
        mesh: its pieces, joined: skin, upper and lower teeth, left and right eye.
        shape: (S, V, 3) per unit of a N(0, 1) coefficient.
        units: the 52 face units, offsets (V, 3) by name.
        twin: (V,) left-right twin of each vertex.
        centres: of the left and of the right eyeball.
    """

    mesh: Mesh
    shape: Floats
    units: dict[str, Floats]
    twin: Ints
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

    units = expressions.symmetric({n: skin.follow @ source.face_unit(n, count) for n in ARKIT_52}, skin_twin)
    units = expressions.with_tidy_lips(units, mouth)
    lip_vertices = np.unique(skin.faces[skin.face_parts == PART["lips"]])
    units = expressions.softened(units, skin.template, lip_vertices, topology.smoothing_matrix(skin.faces, v))

    left, right = (eyes.find_lids(base, sets, row_of_base, skin.template, side) for side in (True, False))
    centre = eyes.eye_centre(skin.template, left)
    lids, centres = (left, right), (centre, centre * [-1, 1, 1])
    for own, middle in zip(lids, centres, strict=True):
        skin.template = eyes.seat(skin.template, skin.template, own, middle)
    skin.template = 0.5 * (skin.template + skin.template[skin_twin] * [-1, 1, 1])

    settle_tongue(skin)
    seam = lip_seam(base, sets, row_of_base, skin.template)
    arches = [teeth.arch(h, s, seam, count) for h, s in zip(helper_mean, (teeth.UPPER, teeth.LOWER), strict=True)]
    responses = [teeth.helper_response(a.template, h) for a, h in zip(arches, helper_mean, strict=True)]
    balls = [eyes.eye_mesh(c, p, count) for c, p in zip(centres, ("eye_left", "eye_right"), strict=True)]
    mesh = topology.join([skin, *arches, *balls])
    mesh.template = mesh.template.astype(np.float32).astype(np.float64)
    twin = topology.mirror_map(mesh.template, piece_of_vertex(mesh))

    teeth_basis = [np.einsum("th,khc->ktc", r, b) for r, b in zip(responses, helper_basis, strict=True)]
    skin_basis, eye_basis = basis[:, :v], []
    for own, middle, ball in zip(lids, centres, balls, strict=True):
        response = eyes.centre_response(skin.template, own, middle)
        moved = (skin_basis[:, own.at(1)].reshape(SHAPE_COUNT, -1) @ response.T)[:, None]
        skin_basis[:, own.rows[own.ring < 0]] = moved
        eye_basis.append(np.repeat(moved, len(ball.template), axis=1))
    shape = np.concatenate([skin_basis, *teeth_basis, *eye_basis], axis=1)

    # Of the teeth, only the lower ones take part in an expression, and only where the jaw's joint does not carry them.
    forward = responses[1] @ source.face_unit("jawForward", count)[helpers[1]]
    lower = v + len(responses[0])
    whole = {}
    for name, offsets in units.items():
        whole[name] = np.zeros_like(mesh.template)
        whole[name][:v] = offsets
        if name == "jawForward":
            whole[name][lower : lower + len(forward)] = forward
    whole = expressions.symmetric(expressions.fit_lids(whole, mesh.template, lids, centres), twin)
    return Head(mesh, shape, whole, twin, centres)


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

    area = topology.vertex_area(rest, skin.faces)
    skull = area.copy()
    skull[np.unique(skin.faces[np.isin(skin.face_parts, [PART[p] for p in ("neck", "mouth", "tongue")])])] = 0
    reference = samples.mean(0)
    reference += skull @ (rest - reference) / skull.sum()
    samples = identity.align(samples, reference, skull)
    area[np.unique(skin.faces[skin.face_parts == PART["neck"]])] *= _NECK_IMPORTANCE
    mean, basis, kept = identity.principal_components(samples, area, SHAPE_COUNT)
    print(f"identity: {len(samples)} heads, {SHAPE_COUNT} modes keep {100 * kept:.2f} % of the variance")
    return 0.5 * (mean + mean[full_twin] * [-1, 1, 1]), basis


def settle_tongue(skin: Mesh) -> None:
    """Lay the tongue, in place, on the mouth's floor within the lower teeth: at rest it touches the palate."""
    rows = np.unique(skin.faces[skin.face_parts == PART["tongue"]])
    x, y, z = skin.template[rows].T
    ahead = z - z.min()
    skin.template[rows] = np.stack([0.9 * x, y - 0.001 - 0.07 * ahead, z.min() + 0.94 * ahead], 1)


def lip_seam(base: BaseMesh, sets: QuadSets, row_of_base: Ints, template: Floats) -> float:
    """Height (y) of the middle of the closed mouth's opening."""
    seam = row_of_base[np.intersect1d(base.quads[sets.skin], base.quads[sets.mouth])]
    middle = seam[np.abs(template[seam, 0]) < 0.002]
    return float(template[middle, 1].mean())
