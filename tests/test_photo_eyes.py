"""Eyes that a photo shows half shut or shut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spatialavatar.generator.completion.eyes import complete_eyes
from spatialavatar.generator.contours import INNER_LIPS, LEFT_EYE, RIGHT_EYE
from spatialavatar.generator.evidence import observe
from spatialavatar.generator.openings import find_openings
from spatialavatar.generator.pooling import Pooled
from spatialavatar.generator.sources import SourceView, source_views
from spatialavatar.generator.surface import TexelSurface, texel_surface

from .support.painted_head import CONFIG, SIZE, model, painted_track

OPEN, HALF_SHUT, SHUT = 0.3, 0.12, 0.03
"""Height over width of an eye's contour."""


def surface() -> TexelSurface:
    return texel_surface(model().head, model().layout, CONFIG)


def view_of(left: float, right: float, blinks: tuple[float, float] | None = None) -> SourceView:
    """The painted head, with landmarks that outline eyes of these heights over widths around the middle of each eye."""
    (view,) = source_views([painted_track(0.0)], model().head)
    landmarks = np.full((478, 2), SIZE / 2.0)
    places = observe(surface(), view, None).warp.pixels
    for part, contour, height in (("eye_left", LEFT_EYE, left), ("eye_right", RIGHT_EYE, right)):
        middle = places[surface().mask(part) & (surface().tables.eye_angle < 0.3)].mean(0)
        angle = 2.0 * np.pi * np.arange(len(contour)) / len(contour)
        landmarks[list(contour)] = middle + 16.0 * np.stack([np.cos(angle), height * np.sin(angle)], 1)
    landmarks[list(INNER_LIPS)] = (SIZE / 2.0, 0.7 * SIZE)
    return replace(view, landmarks=landmarks, blinks=blinks)


@pytest.mark.parametrize(
    ("view", "shares"),
    [
        (lambda: view_of(OPEN, OPEN), (1.0, 1.0)),
        (lambda: view_of(OPEN, SHUT), (1.0, 0.0)),
        (lambda: view_of(HALF_SHUT, HALF_SHUT), (0.02, 0.02)),
        (lambda: view_of(OPEN, OPEN, blinks=(0.8, 0.1)), (0.0, 1.0)),
    ],
    ids=["open", "shut contour", "narrow contour", "blink score"],
)
def test_an_eye_counts_as_shut_by_its_contour_or_its_score(view, shares):
    found = find_openings(view(), 1.0)
    assert found is not None
    assert found.open_share == shares


def test_the_lid_in_front_of_a_shut_eye_is_no_sample_of_the_eye():
    opened, winking = (observe(surface(), view_of(OPEN, OPEN, (blink, 0.0)), None).weight for blink in (0.0, 1.0))
    left, right = surface().mask("eye_left"), surface().mask("eye_right")
    assert opened[left].max() > 0.5
    assert winking[left].max() == 0.0
    assert np.array_equal(winking[right], opened[right])


def test_a_shut_eye_takes_the_iris_of_the_open_one():
    eyes, left = surface().mask("eye_left", "eye_right"), surface().mask("eye_left")
    iris = eyes & (surface().tables.eye_angle < 0.4)
    blue, lid = np.array([0.2, 0.3, 0.6]), np.array([0.7, 0.5, 0.4])
    shown = np.where(left[:, None], lid, blue)
    seen = (iris & ~left).astype(float)
    colors = complete_eyes(surface(), Pooled(shown, seen), shown, np.ones(3))
    assert np.abs(colors[iris & left] - blue).max() < 0.05
