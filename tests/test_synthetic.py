"""Synthetic whole heads: reproducible, calibrated, hair outside of the skull and off the eyes, truth that fits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spatialavatar.errors import InputError
from spatialavatar.synthetic import SynthesisConfig, SyntheticHead, synthesize
from spatialavatar.synthetic.anatomy import anatomy
from spatialavatar.synthetic.people import Person


@pytest.fixture(scope="module")
def person() -> Person:
    """Somebody of plain skin, so that no photo needs to be tracked."""
    facts = anatomy()
    tone = np.array([0.7, 0.5, 0.4])
    albedo = np.broadcast_to(tone, (len(facts.surface), 3)).astype(np.float32)
    return Person("plain", np.zeros(facts.mesh.model.shape_count, np.float32), albedo, tone)


@pytest.fixture(scope="module")
def bob(person: Person) -> SyntheticHead:
    return synthesize(5, [person], SynthesisConfig(style="bob"))


def test_one_seed_gives_one_head_bit_for_bit(person: Person, bob: SyntheticHead) -> None:
    again = synthesize(5, [person], SynthesisConfig(style="bob"))
    for name in ("albedo", "strand_colors", "shade"):
        assert np.array_equal(getattr(bob, name), getattr(again, name))
    assert np.array_equal(bob.strands.points, again.strands.points)
    assert torch.equal(bob.params.expression, again.params.expression)


def test_another_seed_gives_another_head(person: Person, bob: SyntheticHead) -> None:
    other = synthesize(6, [person], SynthesisConfig(style="bob"))
    assert not torch.equal(bob.shape, other.shape)


def test_an_unknown_style_is_refused_with_the_list() -> None:
    with pytest.raises(InputError, match="buzz"):
        SynthesisConfig(style="mohawk")


def test_a_negative_seed_is_refused(person: Person) -> None:
    with pytest.raises(InputError, match="seed"):
        synthesize(-1, [person])
