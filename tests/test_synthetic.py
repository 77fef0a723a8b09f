"""Synthetic whole heads: reproducible, calibrated, hair outside of the skull and off the eyes, truth that fits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from spatialavatar.errors import InputError
from spatialavatar.examples import portraits
from spatialavatar.records import HAIR, SEGMENT_CLASSES
from spatialavatar.synthetic import (
    SynthesisConfig,
    SyntheticHead,
    measure_truth,
    phone_camera,
    render_view,
    synthesize,
)
from spatialavatar.synthetic.anatomy import anatomy
from spatialavatar.synthetic.clothes import sample_shoulders
from spatialavatar.synthetic.hair.field import DistanceField
from spatialavatar.synthetic.hair.scalp import head_frame
from spatialavatar.synthetic.hair.styles import STYLES, sample_style
from spatialavatar.synthetic.people import Person, person_of
from spatialavatar.synthetic.views import render_drawn
from tests.support.synthetic_people import plain_person

_BARE = SynthesisConfig(style="long straight", calm=1.0, bearded=0.0, glasses=0.0, hats=0.0)


@pytest.fixture(scope="module")
def person() -> Person:
    return plain_person()


@pytest.fixture(scope="module")
def long(person: Person) -> SyntheticHead:
    return synthesize(7, [person], _BARE)


def test_one_seed_gives_one_head_bit_for_bit(person: Person, long: SyntheticHead) -> None:
    again = synthesize(7, [person], _BARE)
    for name in ("albedo", "strand_colors", "shade"):
        assert np.array_equal(getattr(long, name), getattr(again, name))
    assert np.array_equal(long.strands.points, again.strands.points)
    assert np.array_equal(long.facial.points, again.facial.points)
    assert torch.equal(long.params.expression, again.params.expression)


def test_another_seed_gives_another_head(person: Person, long: SyntheticHead) -> None:
    other = synthesize(8, [person], _BARE)
    assert not torch.equal(long.shape, other.shape)


def test_strands_stay_out_of_the_skull(long: SyntheticHead) -> None:
    facts = anatomy()
    rest = long.rest()
    outer = facts.surface.mask("scalp", "face")
    points = long.strands.points[:, 1:].reshape(-1, 3)
    near = np.linalg.norm(points - np.array([0.0, 0.04, 0.03]), axis=1)
    texels = facts.surface.grid.points_on(rest)[outer]
    skull = np.linalg.norm(texels - np.array([0.0, 0.04, 0.03]), axis=1).min()
    assert near.min() > 0.9 * skull


def test_no_strand_hangs_before_the_eyes(person: Person) -> None:
    for seed, style in ((1, "long curly"), (2, "bob")):
        head = synthesize(seed, [person], replace(_BARE, style=style))
        frame = head_frame(anatomy(), head.rest())
        place = frame.to_template(head.strands.points.reshape(-1, 3).astype(np.float64))
        inward = np.abs(np.abs(place[:, 0]) - frame.eye[0]) < 0.011
        before = inward & (np.abs(place[:, 1] - frame.eye[1]) < 0.008) & (place[:, 2] > 0.09)
        assert not before.any(), style


def test_a_known_vertex_projects_where_the_render_shows_it(long: SyntheticHead) -> None:
    camera = phone_camera(25.0, 5.0, np.random.default_rng(0), size=256)
    gaussians, _ = long.gaussians()
    vertices = torch.from_numpy(long.posed()).float()
    tip = anatomy().mesh.model.landmarks(vertices, 478)[1]  # of the nose
    marked = (gaussians.means - tip).norm(dim=1) < 0.003
    scene = (gaussians.replace(colors=marked[:, None].float().expand(-1, 3)), np.ones(len(gaussians), int))
    view = render_drawn(scene, camera, np.zeros(3))
    rows, columns = np.nonzero(view.image[..., 0] > 0.5)
    found = np.array([columns.mean() + 0.5, rows.mean() + 0.5])
    assert np.abs(found - camera.project(tip).numpy()).max() < 1.5


def test_the_truth_shows_the_hair_and_skin_that_the_render_shows(long: SyntheticHead) -> None:
    facts = anatomy()
    rest = long.rest()
    directions = facts.mesh.template - np.array([0.0, 0.02, 0.02])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    truth = measure_truth(long, rest, directions)
    camera = phone_camera(180.0, 0.0, size=192)
    view = render_view(long, camera)
    back = facts.surface.mask("scalp") & (facts.surface.grid.points[:, 2] < 0.0)
    lifted = facts.on_texels(rest + truth.heights[:, None] * directions)[back]
    pixels = camera.project(torch.from_numpy(lifted).float()).numpy().astype(int)
    assert (view.segments[pixels[:, 1], pixels[:, 0]] == HAIR).mean() > 0.97
    assert truth.hair[back].mean() > 0.9
    shown = view.image[pixels[:, 1], pixels[:, 0]].mean(0)
    assert np.abs(shown - truth.colors[back].mean(0)).max() < 0.08
    face = facts.surface.mask("lips")
    assert truth.hair[face].max() < 0.1
    assert np.allclose(np.linalg.norm(truth.strands[back & (truth.hair > 0.5)], axis=1), 1.0, atol=1e-5)


def test_albedo_does_not_depend_on_the_expression(person: Person) -> None:
    calm, moved = (synthesize(11, [person], replace(_BARE, style="buzz", calm=c)) for c in (1.0, 0.0))
    assert not torch.equal(calm.params.expression, moved.params.expression)
    assert np.array_equal(calm.albedo, moved.albedo)


def test_brows_follow_the_face(person: Person) -> None:
    head = synthesize(12, [person], replace(_BARE, style="buzz"))
    facts = anatomy()
    raised = torch.zeros_like(head.params.expression)
    raised[0, facts.mesh.model.expressions.index("browInnerUp")] = 1.0
    rest = head.rest()
    up = head.facial.posed(facts, rest, head.posed(head.params.replace(expression=raised)))
    assert np.allclose(head.facial.posed(facts, rest, rest), head.facial.points, atol=1e-6)
    assert (up - head.facial.points)[..., 1].max() > 0.003


def test_a_photo_gives_the_skin_of_the_whole_head() -> None:
    facts = anatomy()
    someone = person_of(next(iter(portraits().values())))
    assert np.isfinite(someone.albedo).all()
    for part in ("ears", "neck", "scalp"):
        tone = np.median(someone.albedo[facts.surface.mask(part)], 0)
        assert np.abs(np.log(tone / someone.tone)).max() < 0.4, part


def test_every_style_has_a_random_instance() -> None:
    assert len(STYLES) >= 12
    for name in STYLES:
        style = sample_style(np.random.default_rng(0), name)
        assert style.name == name
        assert style.strands > 0


def test_glasses_and_hats_are_other_things(person: Person) -> None:
    head = synthesize(13, [person], replace(_BARE, style="crop", glasses=1.0, hats=1.0))
    view = render_view(head, phone_camera(0.0, 0.0, size=192))
    assert (view.segments == SEGMENT_CLASSES.index("others")).sum() > 300


def test_the_field_is_negative_in_the_head_and_positive_outside(person: Person, long: SyntheticHead) -> None:
    facts = anatomy()
    rest = long.rest()
    shoulders = sample_shoulders(np.random.default_rng(0), rest, facts.mesh.vertex_mask("neck"))
    field = DistanceField(facts, rest, shoulders)
    inside, outside = field.distance(np.array([[0.0, 0.05, 0.03], [0.0, 0.05, 0.18]]))
    assert inside < -0.02
    assert outside > 0.02


def test_an_unknown_style_is_refused_with_the_list() -> None:
    with pytest.raises(InputError, match="buzz"):
        SynthesisConfig(style="mohawk")


def test_a_negative_seed_is_refused(person: Person) -> None:
    with pytest.raises(InputError, match="seed"):
        synthesize(-1, [person])
