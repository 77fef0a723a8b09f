"""The network that ships: what it may change, and that it is better than the base on a person it has never seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spatialavatar.avatar import Avatar
from spatialavatar.evaluation.evaluator import Evaluator
from spatialavatar.evaluation.metrics import lpips
from spatialavatar.generator.base import build_base
from spatialavatar.media import read_image
from spatialavatar.pipeline import default_model, load_model
from spatialavatar.records import Track
from spatialavatar.tracking import track_photo
from spatialavatar.tracking.networks import Networks
from spatialavatar.training.config import read_training_config


@pytest.fixture(scope="module")
def networks() -> Networks:
    return Networks(threads=1)


def both(track: Track) -> tuple[Avatar, Avatar]:
    """The avatars of the base and of the network."""
    return load_model(None, base=True).generate(track, polish=0), default_model().generate(track, polish=0)


def test_what_the_photo_shows_well_is_left_as_it_is(networks: Networks, examples: Path) -> None:
    model = default_model()
    photo = read_image(examples / "portraits" / "lake.jpg")
    base = build_base(model.head, model.layout, [track_photo(photo, model.head, networks=networks)], model.config.base)
    assert model.network is not None
    ours, residual = model.network.gaussians_and_residual(base)
    assert residual is None  # an avatar has as many bytes and is as quick as one of the base
    shown, hidden = base.visibility > 0.99, base.visibility < 0.1
    assert min(int(shown.sum()), int(hidden.sum())) > 5000
    moved = (ours.means - base.gaussians.means).norm(dim=-1)
    assert float(moved[shown].max()) < 0.02 < float(moved[hidden].max())
    assert torch.equal(ours.opacities, base.gaussians.opacities)
    back = model.network.behind & (base.visibility == 0.0)  # what moves or turns there lets the face shine through
    assert int(back.sum()) > 5000
    for name in ("means", "quats", "scales"):
        assert torch.equal(getattr(ours, name)[back], getattr(base.gaussians, name)[back]), name


def test_a_person_who_was_held_out_is_shown_better_than_by_the_base(
    networks: Networks, shared_data: Path, repository: Path
) -> None:
    held_out = read_training_config(repository / "configs" / "open.toml").held_out[0]
    neutral, smiling = (
        track_photo(
            read_image(shared_data / "photos" / f"{held_out}_{mood}.jpg"), default_model().head, networks=networks
        )
        for mood in ("neutral", "smiling")
    )
    seen = smiling.pictures
    tensors = (seen.images, seen.mattes, seen.segments, smiling.evidence.landmarks)
    pixels = [tensor[0].numpy() for tensor in tensors]
    target = Evaluator(networks).target(*pixels)

    def distance(avatar: Avatar) -> float:
        own = replace(smiling.params, shape=avatar.shape)
        return lpips(target.masked(avatar.render(own, smiling.camera, torch.ones(3))[0]), target.image)

    base, ours = (distance(avatar) for avatar in both(neutral))
    assert ours < 0.97 * base
