"""The training run: what a step draws, and that interruptions and processes change nothing."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spatialavatar.errors import FormatError, InputError
from spatialavatar.generator import BaseConfig, SpatialAvatar
from spatialavatar.generator.config import SharpeningConfig, SilhouetteConfig
from spatialavatar.generator.network import CorrectionNetwork
from spatialavatar.head import build_layout
from spatialavatar.training import LossWeights, Phase
from spatialavatar.training import launcher as launcher_module
from spatialavatar.training.config import read_training_config
from spatialavatar.training.examples import ExampleConfig, Examples, draw, least_similar_view
from spatialavatar.training.journal import HELD_OUT, LOG, REDRAWN
from spatialavatar.training.launcher import CHECKPOINT, LEFT_OUT, MODEL, train
from spatialavatar.training.shards import People, View
from spatialavatar.training.step import TrainingStep, encoded, rendered

from .support.painted_head import clip, model, painted_track
from .support.shards import ball_track, write_shard
from .support.small_network import TINY as TINY_NETWORK

accelerate = pytest.importorskip("accelerate")

TINY = """
out = "{out}"
shards = ["{shards}"]
held_out = ["judy"]
size = 64
resolution = 64
ema = 0.5
log_every = 1
save_every = 2
eval_every = {evaluate}
eval_views = 1
cache = "{shards}/bases"
{more}

[phase]
preset = "{phase}"
iterations = {steps}
batch = 2
rate = 1e-2

[network]
image_size = 64
dense_channels = 6
style_channels = 8
unet_channels = [4, 6, 8]
uv_channels = 5
hidden_channels = 7

[base]
silhouette_rounds = 0
sharpening_rounds = 0

[network.encoder]
widths = [4, 6, 8, 10]
depths = [1, 1, 1, 1]
"""


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """Two clips, somebody held out, and two who cannot be used."""
    folder = tmp_path_factory.mktemp("shards")
    torch.manual_seed(0)
    write_shard(
        folder,
        ann=[clip()],
        bob=[clip(0.8)],
        judy=[clip(0.9)],
        other=[clip().with_motion(head_id="flame2020")],
        still=[painted_track()],
    )
    return folder


@pytest.fixture(scope="module")
def rig(tmp_path_factory) -> Path:
    """Three cameras that see two instants, all from one place."""
    return write_shard(tmp_path_factory.mktemp("rig"), rig=[clip()] * 3).parent


def write_config(
    folder: Path, shards: Path, name: str, phase: str = "monocular", more: str = "", steps: int = 4, evaluate: int = 0
) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(
        TINY.format(out=folder / name, shards=shards, phase=phase, more=more, steps=steps, evaluate=evaluate)
    )
    return path


def run(folder: Path, shards: Path, name: str, phase: str = "monocular", more: str = "", **sizes: int) -> Path:
    train(read_training_config(write_config(folder, shards, name, phase, more, **sizes)))
    return folder / name


def log(folder: Path, name: str = LOG) -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def averaged(folder: Path) -> dict[str, torch.Tensor]:
    """The averaged weights, in single precision."""
    return torch.load(folder / CHECKPOINT, weights_only=True)["average"]


def assert_same(first: Path, second: Path, tolerance: float) -> None:
    one, other = averaged(first), averaged(second)
    assert list(one) == list(other)
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=tolerance, atol=tolerance, msg=name)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, shards) -> Path:
    return run(tmp_path_factory.mktemp("run"), shards, "unbroken", evaluate=4)


def test_a_run_leaves_network_checkpoint_log_sheet_and_reasons(unbroken):
    assert [line["step"] for line in log(unbroken)] == [1, 2, 3, 4]
    assert {"loss", "l1", "lpips", "jacobian", "norm", "rate", "seconds"} <= set(log(unbroken)[0])
    (verdict,) = log(unbroken, HELD_OUT)
    assert (verdict["step"], verdict["people"], list(verdict["each"])) == (4, 1, ["judy"])
    assert verdict["lpips"] != verdict["base_lpips"]
    assert (unbroken / "sheet-0000004.png").is_file()
    reasons = json.loads((unbroken / LEFT_OUT).read_text())
    assert {name.split(": ")[1] for name in reasons} == {"other", "still"}
    trained = SpatialAvatar.from_pretrained(unbroken / MODEL)
    assert trained.network is not None
    moved = trained.network.state_dict()
    assert all(moved[f"heads.heads.{name}.2.weight"].abs().max() > 0 for name in ("positions", "colors"))


def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path, shards, unbroken, monkeypatch):
    learn = launcher_module._Run._learn

    def until_the_fourth(self, examples, window):
        if self.done == 3:
            raise KeyboardInterrupt
        return learn(self, examples, window)

    monkeypatch.setattr(launcher_module._Run, "_learn", until_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, shards, "killed")
    assert len(log(tmp_path / "killed")) == 3  # one more than the checkpoint
    monkeypatch.setattr(launcher_module._Run, "_learn", learn)
    killed = run(tmp_path, shards, "killed")
    assert_same(unbroken, killed, 1e-6)
    assert [line["step"] for line in log(killed)] == [1, 2, 3, 4]
    assert log(killed)[-1]["loss"] == pytest.approx(log(unbroken)[-1]["loss"], rel=1e-5)


@pytest.mark.slow
def test_two_processes_make_the_run_of_one(tmp_path, shards, unbroken):
    path = write_config(tmp_path, shards, "pair")
    command = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no", "-m", "spatialavatar", "train", str(path)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert_same(unbroken, tmp_path / "pair", 2e-3)
    pairs = zip(log(tmp_path / "pair"), log(unbroken))
    assert all(pair["loss"] == pytest.approx(one["loss"], rel=1e-3) for pair, one in pairs)


def test_micro_batches_change_nothing(tmp_path, shards, unbroken):
    assert_same(unbroken, run(tmp_path, shards, "other", more="micro_batch = 2"), 2e-3)
    assert list((shards / "bases").glob("*.safetensors"))


def test_phase_two_starts_from_a_network_and_is_held_to_it(tmp_path, shards, unbroken):
    more = f'start = "{unbroken / MODEL / "network.safetensors"}"'
    for name, anchor in (("free", "1e-3"), ("held", "1e6")):
        path = write_config(tmp_path, shards, name, "multi_view", more, steps=2)
        path.write_text(path.read_text().replace("rate = 1e-2", f'rate = 1e-2\nanchor = {anchor}\nprecision = "fp32"'))
        train(read_training_config(path))
    (loose, loose_later), (tied, tied_later) = log(tmp_path / "free"), log(tmp_path / "held")
    assert "residual" in loose
    assert 0 < loose["l1"] == pytest.approx(tied["l1"])
    assert loose["l1"] != pytest.approx(log(unbroken)[0]["l1"], rel=1e-3)  # it does not start from nothing
    assert tied["norm"] == pytest.approx(loose["norm"], rel=1e-3)  # where it starts nothing pulls
    assert tied_later["norm"] > 10 * loose_later["norm"]


def test_a_folder_with_another_run_is_refused(shards, unbroken):
    path = write_config(unbroken.parent, shards, "unbroken", more="seed = 5", evaluate=4)
    with pytest.raises(InputError, match="another configuration"):
        train(read_training_config(path))


def test_what_an_example_is_hangs_on_its_number_alone(shards):
    first, second = drawn(shards), pickle.loads(pickle.dumps(drawn(shards)))  # as a worker gets them
    second[3], second[0]
    one, other = first[5], second[5]
    assert one.name == other.name
    assert one.seed == other.seed
    assert torch.equal(one.inputs.images, other.inputs.images)
    assert torch.equal(one.targets[0].image, other.targets[0].image)
    assert len({drawn(shards, seed)[5].seed for seed in range(3)}) == 3


def drawn(shards: Path, seed: int = 0, chosen: tuple[str, ...] = ("ann", "bob"), **more: float) -> Examples:
    head = model().head
    people = People([shards], head.id)
    picked = [person for person in people.people if person.name in chosen]
    return Examples(
        people,
        picked,
        Phase(10, 2, "adam", 1e-3, "linear"),
        head,
        build_layout(head, 64),
        ExampleConfig(
            size=64,
            image_size=64,
            base=BaseConfig(silhouette=SilhouetteConfig(rounds=0), sharpening=SharpeningConfig(rounds=0)),
            seed=seed,
            **more,
        ),
    )


def test_bad_data_is_drawn_again_and_named(shards, monkeypatch):
    examples = drawn(shards)
    read = People.view

    def broken(self, person, view):
        if person.name != "bob":
            raise FormatError(f"The picture of {person.name} is damaged.")
        return read(self, person, view)

    monkeypatch.setattr(People, "view", broken)
    found = [examples[number] for number in range(4)]
    assert {example.name for example in found} == {"bob"}
    reasons = [reason for example in found for reason in example.redrawn]
    assert reasons
    assert all("is damaged" in reason for reason in reasons)
    with pytest.raises(InputError, match="none could be used"):
        drawn(shards, chosen=("ann",))[0]


def test_redrawn_examples_are_written_down(tmp_path, shards, monkeypatch):
    read = People.view

    def broken(self, person, view):
        if person.name == "ann":
            raise FormatError("The picture of ann is damaged.")
        return read(self, person, view)

    monkeypatch.setattr(People, "view", broken)
    folder = run(tmp_path, shards, "run", steps=2)
    assert all("ann is damaged" in line["reason"] for line in log(folder, REDRAWN))
    assert len(log(folder)) == 2


def test_a_step_that_is_not_finite_is_skipped_and_counted(tmp_path, shards, monkeypatch):
    forward = TrainingStep.forward

    def poisoned(self, examples):
        loss, terms = forward(self, examples)
        poisoned.calls += 1
        return loss * (torch.nan if poisoned.calls == 3 else 1.0), terms  # the first example of the second step

    poisoned.calls = 0
    monkeypatch.setattr(TrainingStep, "forward", poisoned)
    folder = run(tmp_path, shards, "run", steps=3)
    assert [line["skipped_steps"] for line in log(folder)] == [0, 1, 1]
    assert all(torch.isfinite(value).all() for value in averaged(folder).values())


def test_a_rig_is_seen_by_its_cameras_in_phase_two(rig):
    (person,) = People([rig], model().head.id).people
    phase = Phase(10, 2, "adam", 1e-3, "linear", cross_camera=1.0)
    for seed in range(5):
        sources, (target,) = draw(person, phase, 0, 4, 1, torch.Generator().manual_seed(seed))
        assert len(sources) == 1  # two instants do not allow more
        assert {view.frame for view in sources} == {target.frame}
        assert len({view.track for view in [*sources, target]}) == 2


def test_sources_and_targets_differ_and_the_held_out_source_is_the_least_alike(tmp_path):
    yaws = torch.tensor([[0.0, yaw, 0.0] for yaw in (-0.5, 0.0, 0.2, 0.3)])
    track = ball_track(4)
    turned = track.params.replace(rotation=yaws, expression=torch.zeros(4, 2))
    write_shard(tmp_path, ann=[track.with_motion(params=turned)])
    (ann,) = People([tmp_path], "ball").people
    for seed in range(5):
        sources, targets = draw(ann, Phase.monocular(), 0, 4, 3, torch.Generator().manual_seed(seed))
        assert len({*sources, *targets}) == len(sources) + len(targets) == 4
    assert least_similar_view(ann, 0) == View(0, 3)


def test_half_precision_is_for_the_features_only(shards):
    network, example = tiny_network(), drawn(shards)[0]
    with torch.no_grad():
        ((_, whole),) = encoded(network, [example])
        ((_, half),) = encoded(network, [example], half=True)
    assert half.values.dtype == torch.float32
    assert torch.equal(half.correction_weight, whole.correction_weight)
    assert 0 < float((half.values - whole.values).norm() / whole.values.norm()) < 0.1


def tiny_network() -> CorrectionNetwork:
    torch.manual_seed(0)
    return CorrectionNetwork(replace(TINY_NETWORK, color_channels=3), model().head, build_layout(model().head, 64))


def test_the_target_shows_the_person_over_its_background(shards):
    target = drawn(shards)[0].targets[0]
    assert target.image.shape == (64, 64, 3)
    assert torch.allclose(target.image[0, 0], target.background, atol=1e-3)
    black = target.shown(torch.zeros(64, 64, 3), torch.ones(64, 64))
    assert black.abs().max() == 0
    x0, y0, x1, y1 = target.box.tolist()
    assert 10 < x0 < x1 < 54
    assert 10 < y0 < y1 < 60


def test_a_zoomed_target_is_a_window_of_the_picture(shards):
    examples = drawn(shards, zoom=2.0)
    (person,) = (one for one in People([shards], model().head.id).people if one.name == "ann")
    (whole,) = drawn(shards).example(person, person.views[:1], person.views[:1], None).targets
    generator = torch.Generator().manual_seed(3)
    (target,) = examples.example(person, person.views[:1], person.views[:1], generator).targets
    assert 1.0 < float(target.camera.intrinsics[0, 0] / whole.camera.intrinsics[0, 0]) <= 2.0
    points = model().head.landmarks(model().head.vertices(target.params), max(model().head.landmark_embeddings))
    seen, before = target.camera.project(points)[0], whole.camera.project(points)[0]
    assert torch.allclose(target.box[:2], seen.min(0).values, atol=0.1)
    # A point of the face has the same colour in both.
    inside = ((seen > 4) & (seen < 60)).all(-1)
    assert int(inside.sum()) > 5
    near, far = (p[inside].long().unbind(-1) for p in (seen, before))
    person_seen = whole.region[far[1], far[0]] > 0.99
    difference = target.image[near[1], near[0]] - whole.image[far[1], far[0]]
    assert float(difference[person_seen].abs().median()) < 0.08


def test_a_turned_target_is_the_base_itself(shards):
    examples = drawn(shards, turned=0.999, zoom=2.0)
    example, head = examples[0], model().head
    (target,) = example.targets
    alone = example.replace(base=example.base.replace(opacities=0 * example.base.opacities))
    shown, nothing = (
        target.shown(*rendered(e, e.base, head, build_layout(head, 64), target.params, target.camera))
        for e in (example, alone)
    )
    torch.testing.assert_close(shown, target.image, atol=1e-5, rtol=1e-5)
    assert float((nothing - target.image).abs().max()) > 0.1
    yaws = [float(examples[n].targets[0].params.rotation[0, 1]) for n in range(6)]
    assert max(yaws) - min(yaws) > 0.5


def test_photos_are_what_evaluation_compares(shards):
    examples, (person, *_) = drawn(shards, turned=0.999), People([shards], model().head.id).people
    views = person.views[:1]
    own, plain = (of.example(person, views, views, None).targets[0].image for of in (examples, drawn(shards)))
    assert torch.equal(own, plain)


def test_a_tint_takes_light_from_sources_base_and_targets_alike(shards):
    plain, tinted = drawn(shards)[0], drawn(shards, tint=0.5)[0]
    gain = tinted.base.colors.mean(0) / plain.base.colors.mean(0)
    assert bool(((gain >= 0.5) & (gain <= 1.0)).all())
    assert float(gain.std()) > 1e-3
    for one, other in (
        (tinted.inputs.images[0, 0].movedim(0, -1), plain.inputs.images[0, 0].movedim(0, -1)),
        (tinted.targets[0].image, plain.targets[0].image),
        (tinted.inputs.known[0, :, 3:6], plain.inputs.known[0, :, 3:6]),
    ):
        torch.testing.assert_close(one, other * gain, atol=1e-4, rtol=1e-4)
    assert torch.equal(tinted.inputs.known[..., 6], plain.inputs.known[..., 6])


def test_regularisers_of_a_share_of_the_examples_weigh_as_much_more(shards):
    example, head = drawn(shards)[0], model().head
    layout = build_layout(head, 64)
    torch.manual_seed(0)
    network = CorrectionNetwork(replace(TINY_NETWORK, color_channels=3), head, layout)
    always, seldom = (TrainingStep(network, head, layout, LossWeights(), regularised=share) for share in (1.0, 0.25))
    _, whole = always([example])
    found = [seldom([replace(example, seed=seed)])[1]["scale_tv"] for seed in range(12)]
    computed = [float(value) for value in found if value]
    assert 0 < len(computed) < len(found)
    assert computed == pytest.approx([4.0 * float(whole["scale_tv"])] * len(computed), rel=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zoom = 0.5", "whole picture"),
        ("tint = 1.0", "less than 1"),
        ("turned = 1.0", "less than 1"),
        ("speed = 3", "unknown key speed"),
        (f"seed = {'9' * 4000}", "give a number"),
        ('size = "big"', "size in"),
        ("size = 32", "64 pixels"),
        ("micro_batch = 0", "at least 1"),
        ("not toml at all", "not a TOML"),
    ],
)
def test_a_wrong_configuration_is_named(tmp_path, text, message):
    path = tmp_path / "run.toml"
    path.write_text(f'out = "a"\nshards = ["b"]\n{text}\n')
    with pytest.raises((InputError, FormatError), match=message):
        read_training_config(path)


def test_the_papers_phases_are_the_presets(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('out = "a"\nshards = ["b"]\n[phase]\npreset = "multi_view"\n[phase.weights]\nl1 = 50\n')
    config = read_training_config(path)
    assert (config.phase.cross_camera, config.phase.weights.l1, config.phase.weights.residual) == (0.75, 50, 1e-2)


def test_the_shipped_configurations_can_be_read(repository):
    # The others, prior and speech, are of other networks.
    paths = [
        path for path in (repository / "configs").glob("*.toml") if "\nshards = " in path.read_text(encoding="utf-8")
    ]
    names = sorted(path.stem for path in paths)
    assert names == ["monocular", "multi_view", "open"]
    phases = {name: read_training_config(repository / "configs" / f"{name}.toml").phase for name in names}
    assert phases["monocular"] == Phase.monocular()
    assert phases["multi_view"] == Phase.multi_view()


def test_a_damaged_checkpoint_is_named(tmp_path, shards):
    path = write_config(tmp_path, shards, "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / CHECKPOINT).write_bytes(b"nothing")
    with pytest.raises(FormatError, match="remove it"):
        train(read_training_config(path))
