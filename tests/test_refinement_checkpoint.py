"""Checkpoints of a refinement: which run they belong to, and what is checked when they are read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from spatialavatar.avatar import Avatar
from spatialavatar.errors import FormatError
from spatialavatar.records import Track
from spatialavatar.refinement import RateConfig, RefineConfig, refine
from spatialavatar.refinement.families import Family
from spatialavatar.residual import ExpressionResidual

from .support.filmed_ball import SIZE, filmed, in_grey, patterned_ball, turning

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = RefineConfig(iterations=3, size=SIZE, rates=RateConfig(color=2e-2))


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return in_grey(patterned_ball())


@pytest.fixture(scope="module")
def track() -> Track:
    truth = patterned_ball()
    track = filmed(truth, turning(truth.head, truth.shape))
    return track.replace(pictures=track.pictures.replace(segments=torch.zeros_like(track.pictures.mattes)))


@pytest.fixture(scope="module")
def finished(avatar: Avatar, track: Track, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a finished run of three steps."""
    path = tmp_path_factory.mktemp("run") / "run.safetensors"
    for _ in refine(avatar, track, CONFIG, checkpoint=path):
        pass
    return path


def in_gaussians(name: str) -> Callable[[Avatar], Avatar]:
    """Change one number of an attribute of the Gaussians."""
    return lambda avatar: dataclasses.replace(
        avatar, gaussians=avatar.gaussians.replace(**{name: nudged(getattr(avatar.gaussians, name))})
    )


def in_params(name: str) -> Callable[[Track], Track]:
    """Change one number of the head parameters."""
    return lambda track: track.with_motion(params=track.params.replace(**{name: nudged(getattr(track.params, name))}))


def in_pictures(name: str) -> Callable[[Track], Track]:
    """Change one pixel."""
    return lambda track: track.replace(pictures=track.pictures.replace(**{name: nudged(getattr(track.pictures, name))}))


def nudged(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor with another last number."""
    changed = tensor.clone()
    flat = changed.view(-1)
    flat[-1] = 1 - flat[-1] if tensor.dtype == torch.uint8 else flat[-1] + 1e-3
    return changed


def with_residual(avatar: Avatar) -> Avatar:
    """The avatar with a residual that changes nothing."""
    count, expressions = len(avatar.gaussians), avatar.head.expression_count
    shapes = ExpressionResidual.shapes(count, expressions, features=2, hidden=4)
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    return dataclasses.replace(avatar, residual=ExpressionResidual(**tensors))


AVATARS = {
    **{name: in_gaussians(name) for name in ("means", "quats", "scales", "opacities", "colors")},
    "shape": lambda avatar: dataclasses.replace(avatar, shape=nudged(avatar.shape)),
    "vertex_offsets": lambda avatar: dataclasses.replace(
        avatar, vertex_offsets=torch.full_like(avatar.head.template, 1e-5)
    ),
    "residual": with_residual,
}
TRACKS = {
    **{name: in_params(name) for name in ("shape", "expression", "rotation", "translation", "neck", "jaw", "eyes")},
    **{name: in_pictures(name) for name in ("images", "mattes", "segments")},
    "crop": lambda track: track.replace(crop=nudged(track.crop)),
    "confidence": lambda track: track.with_motion(confidence=nudged(track.confidence)),
    "camera intrinsics": lambda track: track.replace(
        camera=track.camera.replace(intrinsics=nudged(track.camera.intrinsics))
    ),
    "camera pose": lambda track: track.replace(
        camera=track.camera.replace(world_to_camera=nudged(track.camera.world_to_camera))
    ),
    "fewer frames": lambda track: track[slice(1, None)],
}
SETTINGS = {
    "iterations": 4,
    "holdout": 0.1,
    "loss.l1_weight": 0.7,
    "rates.color": 1e-2,
    "anti_spike.max_spread": 2.0,
    "colors.gate": None,
    "turned_views.every": 3,
}


@pytest.mark.parametrize("name", AVATARS)
def test_a_checkpoint_of_another_avatar_is_refused(name, avatar, track, finished):
    with pytest.raises(FormatError, match="belongs to another avatar, video or setting"):
        refine(AVATARS[name](avatar), track, CONFIG, checkpoint=finished)


@pytest.mark.parametrize("name", TRACKS)
def test_a_checkpoint_of_another_track_is_refused(name, avatar, track, finished):
    with pytest.raises(FormatError, match="belongs to another avatar, video or setting"):
        refine(avatar, TRACKS[name](track), CONFIG, checkpoint=finished)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_checkpoint_of_other_settings_is_refused(name, avatar, track, finished):
    with pytest.raises(FormatError, match="belongs to another avatar, video or setting"):
        refine(avatar, track, CONFIG.changed({name: SETTINGS[name]}), checkpoint=finished)


@pytest.mark.parametrize("options", [{"seed": 1}, {"minutes": 5.0}], ids=str)
def test_a_checkpoint_of_another_seed_or_time_budget_is_refused(options, avatar, track, finished):
    with pytest.raises(FormatError, match="belongs to another avatar, video or setting"):
        refine(avatar, track, CONFIG, checkpoint=finished, **options)


def test_equal_inputs_continue_a_run_whatever_objects_hold_them(avatar, track, finished):
    colors, images = avatar.gaussians.colors.clone(), track.pictures.images.clone()
    copied = dataclasses.replace(avatar, gaussians=avatar.gaussians.replace(colors=colors))
    same = track.replace(pictures=track.pictures.replace(images=images))
    (step,) = refine(copied, same, CONFIG, checkpoint=finished)
    assert step.iteration == 3


# -- damaged files ----------------------------------------------------------------------------------------------------

Tensors = dict[str, torch.Tensor]
COLOR = "color.color"


def change_dtype(tensors: Tensors, header: dict) -> None:
    tensors[f"{COLOR}.value"] = tensors[f"{COLOR}.value"].half()


def change_shape(tensors: Tensors, header: dict) -> None:
    tensors[f"{COLOR}.exp_avg"] = tensors[f"{COLOR}.exp_avg"][:-1].clone()


def add_infinity(tensors: Tensors, header: dict) -> None:
    tensors[f"{COLOR}.exp_avg_sq"][0, 0] = torch.inf


def lose_values(tensors: Tensors, header: dict) -> None:
    del tensors[f"{COLOR}.value"]


def lose_generator(tensors: Tensors, header: dict) -> None:
    del tensors["generator"]


def add_tensor(tensors: Tensors, header: dict) -> None:
    tensors["color.more.value"] = torch.zeros(3)


def shorten_generator(tensors: Tensors, header: dict) -> None:
    tensors["generator"] = tensors["generator"][:100].clone()


def name_no_iteration(tensors: Tensors, header: dict) -> None:
    header["iteration"] = "three"


def count_backwards(tensors: Tensors, header: dict) -> None:
    header["iteration"] = -1


def take_for_ever(tensors: Tensors, header: dict) -> None:
    header["seconds"] = float("inf")


@pytest.mark.parametrize(
    "damage",
    [
        change_dtype,
        change_shape,
        add_infinity,
        lose_values,
        lose_generator,
        add_tensor,
        shorten_generator,
        name_no_iteration,
        count_backwards,
        take_for_ever,
    ],
)
def test_a_damaged_checkpoint_is_refused_in_one_sentence(damage, avatar, track, finished, tmp_path):
    with safe_open(finished, framework="pt") as file:
        header = json.loads(file.metadata()["spatialavatar"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    damage(tensors, header)
    path = tmp_path / "run.safetensors"
    save_file(tensors, path, {"spatialavatar": json.dumps(header)})
    with pytest.raises(FormatError, match=r"checkpoint run\.safetensors is damaged; delete it") as caught:
        refine(avatar, track, CONFIG, checkpoint=path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("length", [0, 5, 200, 5000])
def test_a_truncated_checkpoint_is_refused_in_one_sentence(length, avatar, track, finished, tmp_path):
    path = tmp_path / "run.safetensors"
    path.write_bytes(finished.read_bytes()[:length])
    with pytest.raises(FormatError, match=r"checkpoint run\.safetensors is damaged; delete it"):
        refine(avatar, track, CONFIG, checkpoint=path)


def test_a_checkpoint_of_another_release_is_refused(avatar, track, finished, tmp_path):
    with safe_open(finished, framework="pt") as file:
        header = json.loads(file.metadata()["spatialavatar"])
    path = tmp_path / "run.safetensors"
    save_file({}, path, {"spatialavatar": json.dumps({**header, "version": 2})})
    with pytest.raises(FormatError, match="not a checkpoint of this release"):
        refine(avatar, track, CONFIG, checkpoint=path)


# -- families ---------------------------------------------------------------------------------------------------------


def make_family() -> Family:
    """One tensor that is pulled to 1, and frozen for two steps."""
    tensor = torch.zeros(4, 2, requires_grad=True)
    return Family("new", {"tensor": tensor}, 0.1, torch.optim.Adam([tensor]), frozen_until=2)


def steps(family: Family, iterations: range) -> torch.Tensor:
    (tensor,) = family.tensors.values()
    for iteration in iterations:
        family.zero_grad()
        (tensor - 1.0).square().sum().backward()
        family.step(iteration, factor=0.5)
    return tensor.detach().clone()


def test_a_family_does_not_move_while_it_is_frozen():
    family = make_family()
    assert not steps(family, range(2)).any()
    assert steps(family, range(2, 3)).all()


def test_a_restored_family_moves_like_an_unbroken_one():
    whole, first, second = make_family(), make_family(), make_family()
    expected = steps(whole, range(9))
    steps(first, range(5))
    second.load_state(first.state())
    assert torch.equal(steps(second, range(5, 9)), expected)


def test_the_expected_state_of_a_family_describes_its_state():
    family = make_family()
    steps(family, range(4))
    values, moments = family.expected_state()
    state = family.state()
    assert state.keys() == {**values, **moments}.keys()
    for name, expected in {**values, **moments}.items():
        assert (state[name].dtype, state[name].shape) == (expected.dtype, expected.shape)
