"""One synthetic whole head: everything is drawn from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from spatialavatar.errors import InputError
from spatialavatar.generator.numerics import smoothstep
from spatialavatar.generator.surfels import build_surfels
from spatialavatar.head import to_world
from spatialavatar.records import BODY_SKIN, CLOTHES, HAIR, SEGMENT_CLASSES, Gaussians, HeadParams
from spatialavatar.render.mesh import vertex_normals
from spatialavatar.synthetic.anatomy import Anatomy, anatomy, visible_from
from spatialavatar.synthetic.arrays import Array
from spatialavatar.synthetic.clothes import Garment, sample_garment, sample_shoulders
from spatialavatar.synthetic.expressions import sample_expression
from spatialavatar.synthetic.gaussians import join, patch_gaussians, strand_gaussians
from spatialavatar.synthetic.hair.facial import FacialHair, facial_hair, sample_beard
from spatialavatar.synthetic.hair.field import DistanceField
from spatialavatar.synthetic.hair.scalp import head_frame
from spatialavatar.synthetic.hair.shading import HairColor, hair_light, sample_color, shade_strands, strand_albedo
from spatialavatar.synthetic.hair.strands import Strands, grow_hair
from spatialavatar.synthetic.hair.styles import STYLES, HairStyle, sample_style
from spatialavatar.synthetic.light import Light, encoded, sample_light
from spatialavatar.synthetic.occluders import Glasses, Hat, put_on_hat, sample_glasses
from spatialavatar.synthetic.people import Person, blend, example_people
from spatialavatar.synthetic.skin import paint_skin, skin_tone

FACE_SKIN, OTHERS = (SEGMENT_CLASSES.index(name) for name in ("face_skin", "others"))


@dataclass(frozen=True)
class SynthesisConfig:
    """Distributions of the random draws.

    Attributes:
        style: name of the hair style; None draws one.
        shape_noise: deviation of the shape coefficients from those of the person whose skin is used.
        blended: share of heads whose skin and shape lie between two people.
        calm: share of heads with a resting face.
        bearded: share of heads with a beard or stubble.
        glasses: share of heads with glasses.
        hats: share of heads with a hat.
    """

    style: str | None = None
    shape_noise: float = 0.5
    blended: float = 0.5
    calm: float = 0.35
    bearded: float = 0.25
    glasses: float = 0.15
    hats: float = 0.06

    def __post_init__(self) -> None:
        """Check the name.

        Raises:
            InputError: there is no such style.
        """
        if self.style is not None and self.style not in STYLES:
            raise InputError(f"There is no hair style {self.style!r}; give one of {', '.join(STYLES)}.")


@dataclass(frozen=True, eq=False)
class SyntheticHead:
    """A head of which everything is known; texels are those of the default generator's layout.

    Attributes:
        seed: that it was drawn from.
        traits: names and numbers that describe it, for tables by group.
        params: one frame: shape, expression, jaw and eyes; at the world's origin.
        albedo: (N, 3) sRGB of the skin in even light, without hair, independent of the expression.
        scalp: (N,) in [0, 1], share of full hair that grows on a texel.
        light: the light around it, in head space.
        strands: hair of the head, at rest.
        strand_albedo: (M, K, 3) sRGB in even light.
        strand_colors: (M, K, 3) sRGB in the light.
        garment: shoulders and clothes.
        shade: (N,) share of the soft light that reaches the skin past the hair.
        facial: brows, lashes and beard.
        glasses: that it wears, or None.
        hat: that it wears, or None.
    """

    seed: int
    traits: dict[str, Any]
    params: HeadParams
    albedo: Array
    scalp: Array
    light: Light
    strands: Strands
    strand_albedo: Array
    strand_colors: Array
    garment: Garment
    shade: Array
    facial: FacialHair
    glasses: Glasses | None
    hat: Hat | None

    @property
    def shape(self) -> Tensor:
        """(S,) shape coefficients."""
        return self.params.shape

    def rest(self) -> Array:
        """(V, 3) vertices at rest, without expression."""
        return anatomy().mesh.rest(self.params.shape)

    def posed(self, params: HeadParams | None = None) -> Array:
        """(V, 3) vertices with the expression of ``params``, one frame at the origin; by default the head's own."""
        model = anatomy().mesh.model
        return model.vertices(params or self.params)[0].double().numpy()

    def skin_colors(self, vertices: Array, lit: bool = True) -> Array:
        """SRGB (N, 3) of the texels on ``vertices`` (V, 3), with the light or in even light."""
        facts = anatomy()
        root = self.strand_albedo[:, 0].mean(0) if len(self.strands) else np.zeros(3)
        # Roots darken the skin they grow on; a shaved scalp shows its hair too.
        under = (0.75 * self.scalp)[:, None]
        colors = self.albedo * (1.0 - under) + under * (0.35 * self.albedo + 0.65 * root) * 0.9
        beard = (0.35 * self.facial.shadow)[:, None]
        colors = colors * (1.0 - beard) + beard * self.facial.albedo[-1]
        if not lit:
            return colors
        grid = facts.surface.grid
        normals = grid.normals_on(vertices)
        points = grid.points_on(vertices) + 0.0008 * normals
        sun = np.ones(len(points))
        if self.light.hard.any():
            faces = facts.mesh.faces[facts.outer_faces]
            blocked = ~visible_from(points, vertices, faces, self.light.direction, 0.0025)
            sun = np.where(blocked, 0.0, 1.0)
            sun = sun[facts.surface.tables.neighbours].mean(1) * 0.5 + 0.5 * sun
        linear = self.light.irradiance(normals, facts.sky * self.shade, sun * self.shade)
        inner = ~facts.outside
        linear[inner] = (linear * 0.5 + 0.5 * self.light.soft[0])[inner]
        half = self.light.direction + np.array([0.0, 0.0, 1.0])
        half /= np.linalg.norm(half)
        gloss = (
            0.05 * np.clip(normals @ half, 0.0, 1.0)[:, None] ** 18 * (0.4 + self.light.hard) * facts.outside[:, None]
        )
        return (colors * encoded(linear) + gloss * self.shade[:, None]).clip(0.0, 1.0)

    def _bare_neck(self, points: Array) -> Array:
        """Share (n,) of points (n, 3) of the neck that clothes do not hide; the mesh widens to shoulders of its own."""
        body = self.garment.shoulders
        height = points[:, 1] - body.collar
        outside = smoothstep(body.sideways(points), -0.003, 0.0) * smoothstep(-height, -0.004, 0.0)
        return smoothstep(height, -0.012, -0.004) * (1.0 - outside)

    def gaussians(self, params: HeadParams | None = None, lit: bool = True) -> tuple[Gaussians, Array]:
        """World Gaussians of the whole head, and the class (of ``SEGMENT_CLASSES``) of each.

        Args:
            params: one frame at the origin; by default the head's own.
            lit: with the light, or in even light.
        """
        facts = anatomy()
        surface = facts.surface
        vertices = self.posed(params)
        skin = self.skin_colors(vertices, lit)
        kept = np.where(surface.mask("neck"), self._bare_neck(surface.grid.points_on(self.rest())), 1.0)
        local = build_surfels(surface, self.shape, torch.zeros_like(surface.head.template), skin, kept)
        head = to_world(local, surface.head, surface.layout, torch.from_numpy(vertices).float())
        kinds = np.full(len(surface), FACE_SKIN)
        kinds[surface.mask("neck")] = BODY_SKIN
        opacity = 0.85 - 0.45 * self.strands.fine
        shown = self.strand_colors if lit else self.strand_albedo
        hair, _ = strand_gaussians(self.strands.points, shown, self.strands.radius, opacity)
        body = self.garment
        sky = 0.75 + 0.25 * np.clip((body.shoulders.collar - body.points[:, 1]) / 0.06, 0.0, 1.0)
        cloth = body.albedo
        if lit:
            cloth = cloth * encoded(self.light.irradiance(body.normals, sky, sky))
        patches = patch_gaussians(body.points, body.normals, body.along, body.spacing, cloth.clip(0.0, 1.0))
        parts = [(head, kinds), (hair, HAIR), (patches, np.where(body.skin, BODY_SKIN, CLOTHES))]
        short = self.facial
        tones = short.colors(self.light) if lit else np.repeat(short.albedo[:, None], short.points.shape[1], 1)
        whiskers, _ = strand_gaussians(short.posed(facts, self.rest(), vertices), tones, short.radius, short.opacity)
        parts.append((whiskers, FACE_SKIN))
        if self.glasses is not None:
            parts.append((self.glasses.gaussians(), OTHERS))
        if self.hat is not None:
            parts.append((self.hat.gaussians(self.light if lit else None), OTHERS))
        classes = [np.broadcast_to(kind, len(part)) for part, kind in parts]
        return join([part for part, _ in parts]), np.concatenate(classes)


def synthesize(
    seed: int, people: Sequence[Person] | None = None, config: SynthesisConfig | None = None
) -> SyntheticHead:
    """Draw a head; the same seed, people and configuration give the same head, bit for bit, on one machine.

    Args:
        seed: 0 or more.
        people: whose skin is used; by default those of the example portraits.
        config: distributions of the draws.

    Raises:
        InputError: the seed is negative, or there are no people.
    """
    if seed < 0:
        raise InputError(f"The seed is {seed}; give 0 or a larger whole number.")
    people = example_people() if people is None else people
    if not people:
        raise InputError("The list of people for the skin is empty; give at least one person.")
    config = config or SynthesisConfig()
    facts = anatomy()
    # One stream per thing, so that a change to one leaves the others as they are.
    streams = iter(np.random.default_rng([seed, 19]).spawn(16))
    rng = next(streams)
    person = people[int(rng.integers(len(people)))]
    if len(people) > 1 and rng.random() < config.blended:
        person = blend(person, people[int(rng.integers(len(people)))], float(rng.uniform(0.2, 0.8)))
    shape = torch.from_numpy(person.shape + rng.normal(0.0, config.shape_noise, len(person.shape))).float()
    place = float(rng.random())
    albedo = paint_skin(facts, person, skin_tone(place), next(streams))
    style = sample_style(next(streams), config.style)
    vertices = facts.mesh.rest(shape)
    shoulders = sample_shoulders(next(streams), vertices, facts.mesh.vertex_mask("neck"))
    distance = DistanceField(facts, vertices, shoulders)
    strands, scalp = grow_hair(facts, vertices, style, distance, next(streams))
    color = sample_color(next(streams))
    light = sample_light(next(streams))
    tones = strand_albedo(strands, color, next(streams))
    how = hair_light(strands, distance)
    garment = sample_garment(next(streams), shoulders, albedo[facts.surface.mask("neck")].mean(0))
    params = sample_expression(facts.mesh.model, shape, next(streams), config.calm)
    rng = next(streams)
    beard = sample_beard(rng, config.bearded)
    facial = facial_hair(facts, vertices, beard, color, rng)
    rng = next(streams)
    frame = head_frame(facts, vertices)
    glasses = sample_glasses(frame, rng) if rng.random() < config.glasses else None
    hat = None
    if rng.random() < config.hats:
        hat, strands = put_on_hat(facts, vertices, frame, strands, rng)
    traits = _traits(style, color, place, person)
    traits |= {"beard": beard, "glasses": glasses is not None, "hat": hat is not None}
    return SyntheticHead(
        seed=seed,
        traits=traits,
        params=params,
        albedo=albedo.astype(np.float32),
        scalp=scalp,
        light=light,
        strands=strands,
        strand_albedo=tones,
        strand_colors=shade_strands(strands, tones, how, light, color.shine),
        garment=garment,
        shade=_shade_of_hair(facts, vertices, strands),
        facial=facial,
        glasses=glasses,
        hat=hat,
    )


def _traits(style: HairStyle, color: HairColor, place: float, person: Person) -> dict[str, Any]:
    return {
        "hair": style.name,
        "fringe": style.fringe,
        "curly": style.curl >= 0.004,
        "hair_color": color.name,
        "skin_tone": round(place, 3),
        "skin_of": person.name,
    }


def _shade_of_hair(facts: Anatomy, vertices: Array, strands: Strands) -> Array:
    """(N,) share of the soft light that reaches the skin past the hair above it."""
    points = strands.points[::3, ::2].reshape(-1, 3)
    normals = vertex_normals(vertices, facts.mesh.faces).astype(np.float64)
    outer = facts.outer_vertices
    tree = cKDTree(points)
    shade = np.ones(len(vertices))
    above = vertices[outer] + 0.009 * normals[outer]
    found = tree.query_ball_point(above, 0.010, return_length=True)
    shade[outer] = 1.0 - 0.5 * np.clip(np.asarray(found) / 22.0, 0.0, 1.0)
    return facts.on_texels(shade)
