"""Training of the prior: samples, the run, and that an interrupted run goes on bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spatialavatar.errors import FormatError, InputError
from spatialavatar.generator import SpatialAvatar
from spatialavatar.generator.prior.config import PriorConfig
from spatialavatar.generator.prior.observation import HULLS, Outline, Seen, observation
from spatialavatar.generator.prior.sphere import COLUMNS, ROWS
from spatialavatar.generator.prior.weights import PRIOR_FILE
from spatialavatar.synthetic import Person, SynthesisConfig, synthesize
from spatialavatar.synthetic.anatomy import anatomy
from spatialavatar.training.prior.config import PriorTrainingConfig, read_prior_config
from spatialavatar.training.prior.loop import CHECKPOINT, LOG, train_prior
from spatialavatar.training.prior.making import SampleGrids, head_sample, masked_sample
from spatialavatar.training.prior.pictures import fitted_shape, picture
from spatialavatar.training.prior.samples import Truth, read_sample, write_sample
from spatialavatar.training.prior.truth import whole_truth

from .support.painted_head import model

SMALL = PriorConfig(channels=(4, 6, 6, 8))


def a_sample(folder: Path, name: str, seed: int) -> None:
    """Random maps, of which the truth follows from what is seen."""
    draw = np.random.default_rng(seed)
    shape = (ROWS, COLUMNS)
    colors = np.full((*shape, 3), draw.uniform(0.2, 0.8, 3), np.float32)
    hair = np.zeros(shape, np.float32)
    hair[:40] = 1.0
    visible = np.zeros(shape, np.float32)
    visible[:, 60:130] = 1.0
    flat = np.zeros(shape, np.float32)
    hull = draw.uniform(0.0, 1.0, (*shape, HULLS)).astype(np.float32)
    seen = observation(Seen(colors, visible, hair), Outline(flat, flat, flat, hull))
    ones = np.ones(shape, np.float32)
    write_sample(folder / name, seen, Truth(colors, hair, 0.01 * hair, np.zeros((*shape, 2), np.float32), ones, ones))


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    folder = tmp_path / "samples"
    folder.mkdir()
    for number in range(4):
        a_sample(folder, f"head-{number:06d}-a.npz", number)
    a_sample(folder, "photo-somebody-0.npz", 9)
    return folder


def a_run(samples: Path, out: Path, **changes: object) -> PriorTrainingConfig:
    known = {"iterations": 4, "batch": 2, "held_out": 3, "log_every": 1, "save_every": 2, "network": SMALL}
    return PriorTrainingConfig(out=str(out), samples=str(samples), **{**known, **changes})  # type: ignore[arg-type]


def test_a_run_that_was_stopped_goes_on_bit_for_bit(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = train_prior(a_run(samples, tmp_path / "whole"), model())

    class StoppedError(Exception):
        pass

    def stop(fraction: float, message: str) -> None:
        if fraction >= 0.75:
            raise StoppedError

    with pytest.raises(StoppedError):  # in step 3, after the checkpoint of step 2
        train_prior(a_run(samples, tmp_path / "parts"), model(), stop)
    parts = train_prior(a_run(samples, tmp_path / "parts"), model())
    assert (parts.model / PRIOR_FILE).read_bytes() == (whole.model / PRIOR_FILE).read_bytes()
    again = SpatialAvatar.from_pretrained(parts.model)
    assert again.prior is not None
    assert again.prior.config == SMALL
    logs = [
        [json.loads(line) for line in (tmp_path / run / LOG).read_text().splitlines()] for run in ("whole", "parts")
    ]
    losses = [[line["loss"] for line in log if "loss" in line] for log in logs]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4


def test_another_run_in_the_folder_is_not_overwritten(samples: Path, tmp_path: Path):
    train_prior(a_run(samples, tmp_path / "run", iterations=2), model())
    before = (tmp_path / "run" / CHECKPOINT).read_bytes()
    with pytest.raises(InputError, match="another run"):
        train_prior(a_run(samples, tmp_path / "run", iterations=2, seed=1), model())
    assert (tmp_path / "run" / CHECKPOINT).read_bytes() == before


def test_too_few_samples_are_named(tmp_path: Path):
    with pytest.raises(InputError, match="prior-samples"):
        train_prior(a_run(tmp_path, tmp_path / "run"), model())


def test_a_damaged_sample_is_named(samples: Path, tmp_path: Path):
    path = samples / "head-000001-a.npz"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FormatError, match="head-000001-a"):
        read_sample(path)


def test_the_hidden_part_of_a_photo_is_the_truth_and_not_seen(samples: Path):
    shape = (ROWS, COLUMNS)
    colors = np.random.default_rng(0).uniform(0.2, 0.8, (*shape, 3)).astype(np.float32)
    visible = np.ones(shape, np.float32)
    mask = np.zeros(shape, np.float32)
    mask[:, :96] = 1.0
    seen, truth = masked_sample(observation(Seen(colors, visible, 0 * visible), Outline.unknown()), mask)
    assert seen.visibility[:, 96:].max() == 0.0
    assert truth.known.min() == 1.0
    assert np.array_equal(truth.colors, colors)
    assert not truth.shaped.any()


def test_a_synthetic_head_is_seen_and_known_all_round():
    facts = anatomy()
    albedo = np.full((len(facts.surface), 3), (0.7, 0.5, 0.4), np.float32)
    person = Person("plain", np.zeros(facts.mesh.model.shape_count, np.float32), albedo, albedo[0])
    head = synthesize(5, [person], SynthesisConfig(style="bob"))
    grids = SampleGrids.of(facts.surface)
    draw = np.random.default_rng(2)
    views = [picture(head, head.gaussians(), fitted_shape(head, draw), draw)]
    seen, truth = head_sample(grids, whole_truth(grids.surface, grids.sphere, head), views)
    valid = grids.sphere.valid
    assert 0.1 < seen.visibility[valid].mean() < 0.7
    assert truth.hair[:20].mean() > 0.9  # the crown
    assert truth.height[:20].mean() > 0.002
    both = valid & (seen.visibility > 0.95)
    assert np.abs(seen.colors - truth.colors)[both].mean() < 0.08
    assert np.abs(truth.direction).max() <= 1.001


def test_a_configuration_is_read_strictly(tmp_path: Path):
    path = tmp_path / "prior.toml"
    path.write_text('out = "run"\nsamples = "samples"\n[network]\nchannels = [4, 6, 6, 8]\n')
    assert read_prior_config(path).network == SMALL
    path.write_text('out = "run"\nsamples = "samples"\nspeed = 3\n')
    with pytest.raises(FormatError, match="speed"):
        read_prior_config(path)
    path.write_text('out = "run"\n')
    with pytest.raises(FormatError, match="lacks samples"):
        read_prior_config(path)


def test_the_recipe_of_the_repository_is_read(repository: Path):
    config = read_prior_config(repository / "configs" / "prior.toml")
    assert config.network == PriorConfig()
    assert replace(config, iterations=1).rate_at(0) > 0.0


def test_numbers_out_of_range_are_refused():
    with pytest.raises(InputError, match="batch"):
        PriorTrainingConfig(out="a", samples="b", batch=0)
    with pytest.raises(InputError, match="precision"):
        PriorTrainingConfig(out="a", samples="b", precision="fp8")
    assert torch.isfinite(torch.tensor(PriorTrainingConfig(out="a", samples="b").rate_at(10)))
