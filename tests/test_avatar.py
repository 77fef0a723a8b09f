"""The avatar file: round trip, and refusals that say what to do."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from spatialavatar.avatar import Avatar
from spatialavatar.errors import FormatError, InputError, MissingAssetError, OutputError

from .support.avatars import make_ball_avatar
from .support.ball_head import make_ball_head


@pytest.fixture(scope="module")
def avatar():
    return make_ball_avatar()


def test_a_saved_avatar_renders_the_same_picture(avatar, tmp_path):
    again = Avatar.load(avatar.save(tmp_path / "a.safetensors"), avatar.head)
    image, alpha = avatar.render()
    image_again, alpha_again = again.render()
    assert torch.equal(image, image_again)
    assert torch.equal(alpha, alpha_again)
    assert alpha.max() > 0.9
    assert again.info == {"sources": 2}


def test_save_pretrained_is_what_from_pretrained_reads(avatar, tmp_path):
    again = Avatar.from_pretrained(avatar.save_pretrained(tmp_path / "repo"), head=avatar.head)
    torch.testing.assert_close(again.gaussians.means, avatar.gaussians.means)
    torch.testing.assert_close(again.vertex_offsets, avatar.vertex_offsets)


def test_the_names_of_the_photos_stay_out_of_a_repository(avatar, tmp_path):
    named = replace(avatar, info={"photos": 1, "warnings": ["passport of ann.jpg is dark; give a lighter photo."]})
    named.save_pretrained(tmp_path)
    assert not [path for path in tmp_path.iterdir() if b"passport" in path.read_bytes()]
    assert Avatar.load(tmp_path / "avatar.safetensors", avatar.head).info == {"photos": 1}


def test_the_background_fills_where_alpha_is_nothing(avatar):
    green = torch.tensor([0.0, 1.0, 0.0])
    image, alpha = avatar.render(background=green)
    corner = image[0, 0]
    assert alpha[0, 0] == 0
    torch.testing.assert_close(corner, green)


def test_an_avatar_of_another_head_is_refused(avatar, tmp_path):
    path = avatar.save(tmp_path / "a.safetensors")
    with pytest.raises(FormatError, match="made with the head model 'ball', not 'cube'"):
        Avatar.load(path, make_ball_head(head_id="cube"))


def test_an_avatar_of_another_layout_is_refused(avatar, tmp_path):
    path = avatar.save(tmp_path / "a.safetensors")
    with pytest.raises(FormatError, match="another UV layout"):
        Avatar.load(path, make_ball_head(segments=15))


def test_a_pickle_is_refused_without_being_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "boom"), "w"))

    (tmp_path / "a.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(FormatError, match="not an avatar file"):
        Avatar.load(tmp_path / "a.safetensors", make_ball_head())
    assert not (tmp_path / "boom").exists()


def test_other_safetensors_are_refused(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(FormatError, match="not an avatar"):
        Avatar.load(tmp_path / "a.safetensors", make_ball_head())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingAssetError, match="no avatar at"):
        Avatar.load(tmp_path / "none.safetensors", make_ball_head())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("quats"), "lacks quats"),
        (lambda t: t.update(extra=torch.zeros(1)), "has the unknown extra"),
        (lambda t: t.update(shape=torch.zeros(7)), r"has shape of shape \(7,\)"),
        (
            lambda t: t.update({"camera.intrinsics": torch.full((3, 3), torch.nan)}),
            "camera.intrinsics that are not finite",
        ),
    ],
)
def test_a_tensor_too_few_too_many_or_of_another_kind_is_an_error(avatar, tmp_path, change, words):
    path = avatar.save(tmp_path / "a.safetensors")
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    change(tensors)
    save_file(tensors, path, metadata)
    with pytest.raises(FormatError, match=words):
        Avatar.load(path, avatar.head)


@pytest.mark.parametrize(
    "change", [{"resolution": 10**9}, {"resolution": "x"}, {"camera_size": [0, 96]}, {"camera_size": None}, {"info": 3}]
)
def test_a_header_that_cannot_be_is_refused(avatar, tmp_path, change):
    path = avatar.save(tmp_path / "a.safetensors")
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    metadata["spatialavatar"] = json.dumps(json.loads(metadata["spatialavatar"]) | change)
    save_file(tensors, path, metadata)
    with pytest.raises(FormatError, match="header"):
        Avatar.load(path, avatar.head)


def test_nan_in_a_file_is_refused(avatar, tmp_path):
    colors = avatar.gaussians.colors.clone()
    colors[7, 1] = torch.nan
    path = Avatar(**{**vars(avatar), "gaussians": avatar.gaussians.replace(colors=colors)}).save(
        tmp_path / "a.safetensors"
    )
    with pytest.raises(InputError, match="colors hold values that are not finite"):
        Avatar.load(path, avatar.head)


def test_a_save_that_fails_leaves_nothing_behind(avatar, tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        avatar.save(tmp_path / "taken")
    assert list(tmp_path.iterdir()) == [tmp_path / "taken"]


def test_a_truncated_file_is_refused(avatar, tmp_path):
    path = avatar.save(tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FormatError, match="damaged"):
        Avatar.load(path, avatar.head)


def test_a_repository_that_cannot_be_fetched_is_named(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingAssetError, match="nobody/nothing is neither a folder nor whole in the cache"):
        Avatar.from_pretrained("nobody/nothing")


@pytest.mark.parametrize("channels", [1, 5])
def test_colours_of_other_than_three_channels_are_refused(avatar, tmp_path, channels):
    gaussians = avatar.gaussians.replace(colors=torch.rand(len(avatar.gaussians), channels))
    path = replace(avatar, gaussians=gaussians).save(tmp_path / "a.safetensors")
    with pytest.raises(FormatError, match=r"has colors of shape \(\d+, \d\) instead of \(\d+, 3\); [^\n]+\.$"):
        Avatar.load(path, avatar.head)
