"""Glasses and hats: what hides parts of a head in photos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from spatialavatar.generator.numerics import smoothstep
from spatialavatar.records import Gaussians
from spatialavatar.synthetic.anatomy import Anatomy
from spatialavatar.synthetic.arrays import Array
from spatialavatar.synthetic.gaussians import join, patch_gaussians, strand_gaussians
from spatialavatar.synthetic.hair.scalp import HeadFrame
from spatialavatar.synthetic.hair.strands import Strands
from spatialavatar.synthetic.light import Light, encoded

_CENTRE: Final = np.array([0.0, 0.045, 0.025])
"""Middle of the skull on the template, from which hats are measured."""
_ROWS, _COLUMNS = 40, 96
_BRIM_BLEND: Final = 0.5
"""Radians below the brim over which pressed hair becomes loose."""
_TILT: Final = np.radians(12.0)
"""By which the hat's axis leans back."""


@dataclass(frozen=True, eq=False)
class Hat:
    """A cap or a woollen hat.

    Attributes:
        points: (R, C, 3) metres, head space, from the top to the brim.
        normals: (R, C, 3) unit.
        albedo: (R, C, 3) sRGB.
        peak: (P, 3) points of the peak with (P, 3) normals; empty for none.
    """

    points: Array
    normals: Array
    albedo: Array
    peak: tuple[Array, Array]

    def gaussians(self, light: Light | None) -> Gaussians:
        """World Gaussians in a light, or in even light."""
        around = np.roll(self.points, -1, 1) - np.roll(self.points, 1, 1)
        wide, tall = np.linalg.norm(around, axis=-1), np.linalg.norm(np.gradient(self.points, axis=0), axis=-1)
        spacing = np.stack([0.5 * wide, tall], -1).clip(0.001).reshape(-1, 2)
        along = (around / np.maximum(wide, 1e-9)[..., None]).reshape(-1, 3)
        parts = [
            patch_gaussians(
                self.points.reshape(-1, 3),
                self.normals.reshape(-1, 3),
                along,
                spacing,
                _lit(self.albedo.reshape(-1, 3), self.normals.reshape(-1, 3), light),
            )
        ]
        place, normal = self.peak
        if len(place):
            tone = np.broadcast_to(self.albedo[-1].mean(0), place.shape)
            side = np.broadcast_to(np.array([1.0, 0.0, 0.0]), place.shape)
            both = _lit(tone, normal, light)
            parts.append(patch_gaussians(place, normal, side, np.full((len(place), 2), 0.0062), both))
        return join(parts)


def _lit(albedo: Array, normals: Array, light: Light | None) -> Array:
    if light is None:
        return albedo
    full = np.ones(len(albedo))
    return (albedo * encoded(light.irradiance(normals, full, full))).clip(0.0, 1.0)


def put_on_hat(
    facts: Anatomy, vertices: Array, frame: HeadFrame, strands: Strands, rng: np.random.Generator
) -> tuple[Hat, Strands]:
    """A random hat, and the hair pressed down under it.

    Args:
        facts: of the head model.
        vertices: (V, 3) at rest, metres.
        frame: the head relative to the template.
        strands: the hair.
        rng: the source of randomness.
    """
    centre = frame.from_template(_CENTRE)
    low = np.radians(rng.uniform(72.0, 82.0))  # angle of the brim from the axis
    polar = np.linspace(0.02, low, _ROWS)
    around = np.linspace(-np.pi, np.pi, _COLUMNS, endpoint=False)
    directions = _direction(polar[:, None], around[None])
    skull = vertices[facts.mesh.vertex_mask("scalp", "face")] - centre
    radius = np.linalg.norm(skull, axis=1)
    _, near = cKDTree(skull / radius[:, None]).query(directions.reshape(-1, 3), k=4)
    height = radius[near].mean(1).reshape(directions.shape[:2])
    loose = rng.uniform(0.008, 0.014)
    height = gaussian_filter(height, (1.5, 2.0), mode=("nearest", "wrap")) + loose
    points = centre + height[..., None] * directions
    across = np.cross(np.roll(points, -1, 1) - np.roll(points, 1, 1), np.gradient(points, axis=0))
    normals = -across / np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-12)
    normals *= np.sign((normals * directions).sum(-1, keepdims=True))
    color = rng.uniform(0.04, 0.9, 3)
    color = color.mean() + 0.7 * (color - color.mean())
    knit = rng.random() < 0.5
    pattern = 0.10 * np.sin(around * 48) if knit else -0.1 * (np.abs(np.sin(3 * around)) < 0.05)
    albedo = color * np.exp(np.broadcast_to(pattern, height.shape))[..., None]
    peak = (np.zeros((0, 3)), np.zeros((0, 3))) if knit else _peak(points[-1], around)
    return Hat(points, normals, albedo.clip(0, 1), peak), _pressed(strands, centre, polar, around, height)


def _direction(polar: Array, around: Array) -> Array:
    """Unit directions (..., 3) at an angle from the hat's axis and around it, 0 in front."""
    axis = np.array([0.0, np.cos(_TILT), -np.sin(_TILT)])
    front = np.array([0.0, np.sin(_TILT), np.cos(_TILT)])
    side = np.array([1.0, 0.0, 0.0])
    flat = np.sin(polar)[..., None] * (np.cos(around)[..., None] * front + np.sin(around)[..., None] * side)
    return np.cos(polar)[..., None] * axis + flat


def _peak(brim: Array, around: Array) -> tuple[Array, Array]:
    """The peak of a cap: from the front of the brim (C, 3) forwards and a little down."""
    front = np.abs(around) < 1.0
    edge = brim[front]
    wide = np.cos(around[front] * 0.5 * np.pi)
    out = np.linspace(0.0, 0.065, 18)[:, None] * wide[None]
    points = edge[None] + out[..., None] * np.array([0.0, -0.30, 1.0])
    normals = np.broadcast_to(np.array([0.0, 0.95, 0.30]), points.shape)
    return points.reshape(-1, 3), normals.reshape(-1, 3)


def _pressed(strands: Strands, centre: Array, polar: Array, around: Array, height: Array) -> Strands:
    """Strands whose points lie inside the hat where its surface is over them."""
    offset = strands.points - centre
    distance = np.linalg.norm(offset, axis=-1)
    axis = np.array([0.0, np.cos(_TILT), -np.sin(_TILT)])
    front = np.array([0.0, np.sin(_TILT), np.cos(_TILT)])
    angle = np.arccos(np.clip((offset @ axis) / np.maximum(distance, 1e-9), -1.0, 1.0))
    azimuth = np.arctan2(offset[..., 0], offset @ front)
    row = np.searchsorted(polar, angle).clip(0, len(polar) - 1)
    column = (((azimuth + np.pi) / (2 * np.pi)) * len(around)).astype(int) % len(around)
    limit = height[row, column] - 0.006
    free = smoothstep(angle, polar[-1], polar[-1] + _BRIM_BLEND)
    factor = np.minimum(limit / np.maximum(distance, 1e-9), 1.0)
    factor = factor + free * (1.0 - factor)
    pressed = (centre + offset * factor[..., None]).astype(np.float32)
    return Strands(pressed, strands.radius, strands.lock, strands.fine)


@dataclass(frozen=True, eq=False)
class Glasses:
    """Spectacles.

    Attributes:
        wires: (W, K, 3) metres, head space: rims, bridge and temples.
        lenses: (L, 3) points of the lenses.
        radius: metres, of the wires.
        color: (3,) sRGB of the frame.
        tint: (3,) sRGB of the lenses.
        opacity: of the lenses.
    """

    wires: Array
    lenses: Array
    radius: float
    color: Array
    tint: Array
    opacity: float

    def gaussians(self) -> Gaussians:
        """World Gaussians."""
        wide = np.full(len(self.wires), self.radius)
        tones = np.broadcast_to(self.color, self.wires.shape)
        frame, _ = strand_gaussians(self.wires, tones, wide, np.full(len(self.wires), 0.97), taper=0.0)
        count = len(self.lenses)
        normals = np.broadcast_to(np.array([0.0, 0.0, 1.0]), (count, 3))
        side = np.broadcast_to(np.array([1.0, 0.0, 0.0]), (count, 3))
        tones = np.broadcast_to(self.tint, (count, 3))
        glass = patch_gaussians(self.lenses, normals, side, np.full((count, 2), 0.0025), tones)
        return join([frame, glass.replace(opacities=glass.opacities * self.opacity)])


def sample_glasses(frame: HeadFrame, rng: np.random.Generator) -> Glasses:
    """Random glasses on a head."""
    turn = np.linspace(0.0, 2.0 * np.pi, 41)
    wide, high = rng.uniform(0.022, 0.027), rng.uniform(0.016, 0.024)
    power = 2.0 / rng.uniform(2.0, 4.5)
    x = wide * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power
    y = high * np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power
    front, drop = 0.1435, rng.uniform(-0.004, 0.001)
    wires, lenses = [], []
    for side in (-1.0, 1.0):
        middle = np.array([side * 0.0325, frame.eye[1] + drop, front])
        bow = -0.35 * ((x + side * 0.0325) ** 2)[:, None] / 0.06 * np.array([0.0, 0.0, 1.0])
        wires.append(middle + np.stack([x, y, 0.0 * x], 1) + bow)
        share = np.linspace(0.0, 1.0, 41)
        hinge = np.array([side * (0.0325 + wide), middle[1] + 0.6 * high, front - 0.020])
        ear = np.array([side * 0.081, 0.040, 0.020])
        temple = hinge + np.minimum(share / 0.8, 1.0)[:, None] * (ear - hinge)
        temple[:, 0] += side * 0.006 * np.sin(np.pi * np.minimum(share / 0.8, 1.0))
        temple[:, 1:] += np.maximum(share - 0.8, 0.0)[:, None] * np.array([-0.12, -0.04])
        wires.append(temple)
        steps = np.arange(-0.03, 0.03, 0.0022)
        inside = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
        kept = (np.abs(inside[:, 0]) / wide) ** (2 / power) + (np.abs(inside[:, 1]) / high) ** (2 / power) < 1.0
        lens = middle + np.concatenate([inside[kept], np.zeros((int(kept.sum()), 1))], 1)
        lens[:, 2] -= 0.35 * lens[:, 0] ** 2 / 0.06
        lenses.append(lens)
    across = np.linspace(-1.0, 1.0, 41)[:, None]
    gap = 0.0325 - wide
    bridge = np.array([0.0, frame.eye[1] + drop + 0.35 * high, front]) + across * np.array([gap, 0.0, 0.0])
    bridge[:, 1] += 0.003 * (1.0 - across[:, 0] ** 2)
    wires.append(bridge)
    dark = rng.random() < 0.2
    color = rng.uniform(0.03, 0.25, 3) if rng.random() < 0.7 else rng.uniform(0.2, 0.8, 3)
    return Glasses(
        wires=frame.from_template(np.stack(wires)),
        lenses=frame.from_template(np.concatenate(lenses)),
        radius=rng.uniform(0.0006, 0.0018),
        color=color,
        tint=np.array([0.06, 0.06, 0.07]) if dark else np.array([0.85, 0.88, 0.9]),
        opacity=0.85 if dark else rng.uniform(0.02, 0.10),
    )
