"""Beards, brows and lashes: short strands that move with the triangle they grow on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from scipy.spatial import cKDTree

from spatialavatar.generator.numerics import smoothstep
from spatialavatar.head.binding import triangle_frames
from spatialavatar.synthetic.anatomy import Anatomy
from spatialavatar.synthetic.arrays import Array
from spatialavatar.synthetic.hair.shading import HairColor
from spatialavatar.synthetic.light import Light, encoded

Beard = Literal["none", "stubble", "moustache", "goatee", "short", "full"]
BEARDS: Final[tuple[Beard, ...]] = ("stubble", "moustache", "goatee", "short", "full")

_BROWS: Final = (
    ((336, 296, 334, 293, 300), (285, 295, 282, 283, 276)),
    ((107, 66, 105, 63, 70), (55, 65, 52, 53, 46)),
)
"""Landmarks of the upper and the lower edge of the left and the right brow, from the nose outwards."""
_LIDS: Final = ((398, 384, 385, 386, 387, 388, 466), (173, 157, 158, 159, 160, 161, 246))
"""Landmarks of the upper lids' rims, from the nose outwards."""
_UPPER_LIP: Final = -0.027
"""Height above which whiskers belong to the moustache, metres."""
_STEPS: Final = 6


@dataclass(frozen=True, eq=False)
class FacialHair:
    """M strands of K points on the face.

    Attributes:
        points: (M, K, 3) metres, head at rest.
        faces: (M,) triangle that carries each strand.
        normals: (M, 3) unit, of the skin there at rest.
        albedo: (M, 3) sRGB.
        radius: (M,) metres.
        opacity: (M,) in [0, 1].
        shadow: (N,) in [0, 1], share of short hair on each texel.
    """

    points: Array
    faces: Array
    normals: Array
    albedo: Array
    radius: Array
    opacity: Array
    shadow: Array

    def posed(self, facts: Anatomy, rest: Array, vertices: Array) -> Array:
        """The strands (M, K, 3) on posed ``vertices`` (V, 3) of the head whose rest vertices are ``rest`` (V, 3)."""
        corners = facts.mesh.faces[self.faces]
        before = triangle_frames(torch.from_numpy(rest[corners]))
        after = triangle_frames(torch.from_numpy(vertices[corners]))
        turn = (after.rotation @ before.rotation.transpose(-1, -2)).numpy()
        offset = self.points - before.centre.numpy()[:, None]
        return np.einsum("mab,mkb->mka", turn, offset) + after.centre.numpy()[:, None]

    def colors(self, light: Light) -> Array:
        """SRGB (M, K, 3) in a light."""
        full = np.ones(len(self.points))
        lit = self.albedo * encoded(light.irradiance(self.normals, 0.9 * full, 0.8 * full))
        return np.repeat(lit.clip(0.0, 1.0)[:, None], self.points.shape[1], 1)


def sample_beard(rng: np.random.Generator, share: float) -> Beard:
    """A random beard for a ``share`` of heads."""
    return BEARDS[int(rng.integers(len(BEARDS)))] if rng.random() < share else "none"


def facial_hair(
    facts: Anatomy, vertices: Array, beard: Beard, color: HairColor, rng: np.random.Generator
) -> FacialHair:
    """Brows, lashes and the beard of a head.

    Args:
        facts: of the head model.
        vertices: (V, 3) at rest, metres.
        beard: what grows on the lower face.
        color: of the hair.
        rng: the source of randomness.
    """
    grid = facts.surface.grid
    texels, normals = grid.points_on(vertices), grid.normals_on(vertices)
    landmarks = facts.mesh.model.landmarks(torch.from_numpy(vertices).float(), 478).double().numpy()
    face = np.flatnonzero(facts.surface.mask("face"))
    dark = np.minimum(color.tone * 0.9, np.array([0.42, 0.34, 0.27]))
    parts = [
        _brows(landmarks, texels, normals, face, dark, rng),
        _lashes(landmarks, texels, normals, face, 0.5 * dark, rng),
    ]
    density, length = _beard(facts, beard, rng)
    if length > 0:
        parts.append(_whiskers(density, length, texels, normals, color.tone * rng.uniform(0.75, 1.0), rng))
    strands, roots, tones, radius, opacity = (np.concatenate(column) for column in zip(*parts))
    return FacialHair(
        points=strands,
        faces=facts.surface.layout.faces.numpy()[roots],
        normals=normals[roots],
        albedo=tones,
        radius=radius,
        opacity=opacity,
        shadow=density,
    )


Part = tuple[Array, Array, Array, Array, Array]
"""Strands, texels of their roots, tones, radii and opacities."""


def _strands(roots: Array, heading: Array, bend: Array, length: Array) -> Array:
    """Strands (m, K, 3) from roots (m, 3) along ``heading``, which turns towards ``bend``."""
    share = np.linspace(0.0, 1.0, _STEPS)[None, :, None]
    return roots[:, None] + length[:, None, None] * (share * heading[:, None] + share**2 * bend[:, None])


def _along(corners: Array, place: Array) -> Array:
    """Points (m, 3) at ``place`` (m,) in [0, 1] of the line through corners (n, 3)."""
    steps = np.linspace(0.0, 1.0, len(corners))
    return np.stack([np.interp(place, steps, corners[:, axis]) for axis in range(3)], 1)


def _brows(landmarks: Array, texels: Array, normals: Array, face: Array, tone: Array, rng: np.random.Generator) -> Part:
    count = int(rng.integers(90, 240))
    strands, roots = [], []
    for upper, lower in _BROWS:
        along, across = rng.beta(1.1, 1.3, count), rng.uniform(0.05, 0.95, count)
        top, bottom = _along(landmarks[list(upper)], along), _along(landmarks[list(lower)], along)
        nearest = face[cKDTree(texels[face]).query(bottom + across[:, None] * (top - bottom))[1]]
        outwards = landmarks[upper[-1]] - landmarks[upper[0]]
        outwards = outwards / np.linalg.norm(outwards)
        heading = outwards + (0.9 * (1.0 - along) - 0.25 * across)[:, None] * np.array([0.0, 1.0, 0.0])
        heading = heading - normals[nearest] * (heading * normals[nearest]).sum(1, keepdims=True)
        heading = heading / np.linalg.norm(heading, axis=1, keepdims=True)
        heading = heading + 0.22 * normals[nearest] + rng.normal(0.0, 0.12, heading.shape)
        strands.append(_strands(texels[nearest], heading, -0.12 * normals[nearest], rng.uniform(0.004, 0.008, count)))
        roots.append(nearest)
    number = 2 * count
    tones = tone * np.exp(rng.normal(0.0, 0.12, (number, 1)))
    return np.concatenate(strands), np.concatenate(roots), tones, np.full(number, 0.00020), np.full(number, 0.55)


def _lashes(
    landmarks: Array, texels: Array, normals: Array, face: Array, tone: Array, rng: np.random.Generator
) -> Part:
    count, length = 42, rng.uniform(0.005, 0.009)
    strands, roots = [], []
    for rim in _LIDS:
        place = np.sort(rng.uniform(0.0, 1.0, count))
        base = _along(landmarks[list(rim)], place)
        nearest = face[cKDTree(texels[face]).query(base)[1]]
        side = np.sign(base[:, :1]) * (place[:, None] - 0.35) * np.array([0.8, 0.0, 0.0])
        heading = np.array([0.0, -0.15, 0.9]) + side
        bend = np.broadcast_to(np.array([0.0, 0.55, -0.1]), heading.shape)
        strands.append(_strands(base, heading, bend, length * rng.uniform(0.7, 1.0, count)))
        roots.append(nearest)
    number = 2 * count
    return (
        np.concatenate(strands),
        np.concatenate(roots),
        np.broadcast_to(tone, (number, 3)),
        np.full(number, 0.00014),
        np.full(number, 0.7),
    )


def _beard(facts: Anatomy, beard: Beard, rng: np.random.Generator) -> tuple[Array, float]:
    """Share (N,) of full hair on each texel, and its length, metres; 0 for none."""
    points = facts.surface.grid.points
    none = np.zeros(len(points))
    if beard == "none":
        return none, 0.0
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    skin = facts.surface.mask("face", "neck") & (z > 0.015)
    lip = smoothstep(0.028 - x, 0.0, 0.006) * smoothstep(y, -0.030, -0.027) * smoothstep(-0.013 - y, 0.0, 0.004)
    lip = lip * (z > 0.11)
    cheek = -0.032 + (x - 0.030).clip(0.0) * rng.uniform(0.8, 1.3)
    jaw = smoothstep(cheek - y, 0.0, 0.008) * smoothstep(y, -0.092, -0.078)
    jaw = jaw * (1.0 - smoothstep(0.020 - x, 0.0, 0.006) * smoothstep(y, -0.050, -0.044))
    lengths = {
        "stubble": rng.uniform(0.0008, 0.0025),
        "moustache": rng.uniform(0.004, 0.009),
        "goatee": rng.uniform(0.004, 0.018),
        "short": rng.uniform(0.004, 0.010),
        "full": rng.uniform(0.010, 0.028),
    }
    if beard == "moustache":
        where = lip
    elif beard == "goatee":
        where = np.maximum(lip, jaw * smoothstep(0.034 - x, 0.0, 0.008))
    else:
        where = np.maximum(lip, jaw)
    return where * skin, lengths[beard]


def _whiskers(
    density: Array, length: float, texels: Array, normals: Array, tone: Array, rng: np.random.Generator
) -> Part:
    count = 5200 if length < 0.003 else 4200
    roots = rng.choice(len(density), count, p=density / density.sum())
    normal = normals[roots]
    lip = (texels[roots, 1] > _UPPER_LIP)[:, None] & (np.abs(texels[roots, :1]) < 0.03)
    aside = np.concatenate([np.sign(texels[roots, :1]), np.full((count, 1), -0.7), np.zeros((count, 1))], 1)
    down = np.where(lip, aside, np.array([0.0, -1.0, 0.1]))
    flow = down - normal * (normal * down).sum(1, keepdims=True)
    flow = flow / np.maximum(np.linalg.norm(flow, axis=1, keepdims=True), 1e-6) + rng.normal(0.0, 0.25, normal.shape)
    place = texels[roots] + rng.uniform(-0.0005, 0.0005, (count, 3))
    stand = 0.9 if length < 0.003 else 0.22
    longest = np.where(lip[:, 0], 0.008, 1.0)
    lengths = np.minimum(length, longest) * rng.uniform(0.6, 1.1, count) * (0.4 + 0.6 * density[roots])
    bend = np.array([0.0, -0.25, 0.0]) + 0.10 * normal
    strands = _strands(place, stand * normal + 0.8 * flow, np.broadcast_to(bend, normal.shape), lengths)
    tones = tone * np.exp(rng.normal(0.0, 0.15, (count, 1)))
    return strands, roots, tones, np.full(count, 0.00017 if length < 0.003 else 0.00026), np.full(count, 0.65)
