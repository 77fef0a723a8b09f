"""The whole way on the command line, with the networks and the head that ship: a photo becomes a talking video."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from spatialavatar import cli
from spatialavatar.avatar import Avatar
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.media import VideoReader, read_image
from spatialavatar.motion import Motion, write_motion
from spatialavatar.threads import one_torch_thread
from spatialavatar.tracking import track_photo


@pytest.fixture(scope="module")
def avatar_path(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("avatar") / "astronaut.safetensors"
    photo = repository / "examples" / "portraits" / "astronaut.png"
    assert cli.main(["generate", str(photo), "-o", str(path), "-q"]) == 0
    return path


@pytest.fixture(scope="module")
def frames(avatar_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Rest, jaw open, eyes shut, and turned 30 degrees to either side."""
    names = ("rest", "jaw", "blink", "left", "right")
    weights, rotation = torch.zeros(5, 52), torch.zeros(5, 3)
    weights[names.index("jaw"), ARKIT_INDEX["jawOpen"]] = 0.7
    for unit in ("eyeBlinkLeft", "eyeBlinkRight"):
        weights[names.index("blink"), ARKIT_INDEX[unit]] = 1.0
    rotation[names.index("left"), 1], rotation[names.index("right"), 1] = math.radians(30), math.radians(-30)
    folder = tmp_path_factory.mktemp("drive")
    stills, video = folder / "stills.json", folder / "stills.mp4"
    write_motion(Motion(weights, rotation, torch.zeros(5, 3), 25.0), stills)
    assert cli.main(["drive", str(avatar_path), "--motion", str(stills), "-o", str(video), "-q"]) == 0
    return dict(zip(names, VideoReader(video), strict=True))


def test_the_avatar_looks_like_the_photo_from_where_it_was_taken(avatar_path: Path, repository: Path) -> None:
    avatar = Avatar.load(avatar_path)
    source = track_photo(read_image(repository / "examples" / "portraits" / "astronaut.png"), avatar.head)
    image, alpha = avatar.render()
    face = alpha.numpy() > 0.99
    error = (image.clamp(0, 1).numpy() - source.pictures.images[0].numpy() / 255.0)[face]
    assert face.mean() > 0.1
    assert -10.0 * np.log10(float((error**2).mean())) > 20.0


def test_every_asked_frame_shows_a_head_on_white(frames: dict[str, np.ndarray]) -> None:
    for name, frame in frames.items():
        assert frame.shape == (512, 512, 3), name
        assert frame[:20].min() > 240, name
        covered = float((frame.min(axis=2) < 200).mean())
        assert 0.1 < covered < 0.7, name


def test_jaw_and_lids_move_only_their_part_of_the_face(frames: dict[str, np.ndarray]) -> None:
    changes = {
        name: np.abs(frames[name].astype(float) - frames["rest"].astype(float)).mean(axis=(1, 2))
        for name in ("jaw", "blink")
    }
    rows = np.arange(512)
    middle = {name: float((rows * change).sum() / change.sum()) for name, change in changes.items()}
    assert changes["jaw"].max() > 3.0
    assert changes["blink"].max() > 1.5
    assert middle["jaw"] > middle["blink"] + 50.0


def test_the_head_turns_to_both_sides_and_is_still_a_face(frames: dict[str, np.ndarray], avatar_path: Path) -> None:
    head = Avatar.load(avatar_path).head
    tracks = {name: track_photo(frames[name], head) for name in ("rest", "left", "right")}
    yaw = {name: math.degrees(float(tracked.params.rotation[0, 1])) for name, tracked in tracks.items()}
    assert yaw["left"] - yaw["rest"] > 18.0
    assert yaw["rest"] - yaw["right"] > 18.0


def test_torch_gets_its_threads_back() -> None:
    before = torch.get_num_threads()
    with one_torch_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_what_was_seen_on_the_photos_is_shown_before_the_avatar_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from spatialavatar import pipeline, tracking

    happened: list[object] = []
    monkeypatch.setattr(tracking, "track_photos", lambda images, *_, **__: [f"track of {len(images)}"])
    model = SimpleNamespace(head=None, generate=lambda *_, **__: happened.append("made"))
    picture = np.zeros((8, 8, 3), np.uint8)
    pipeline.generate(picture, model=model, polish=0, tracked=happened.extend, scene=False)  # type: ignore[arg-type]
    assert happened == ["track of 1", "made"]


def test_avatars_are_polished_as_many_steps_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from spatialavatar import pipeline, tracking
    from spatialavatar.generator.model import SpatialAvatar
    from spatialavatar.refinement import polish

    iterations: list[int] = []
    monkeypatch.setattr(tracking, "track_photos", lambda *_, **__: ["track"])
    monkeypatch.setattr(polish, "polish", lambda avatar, tracks, config, **_: iterations.append(config.iterations))
    monkeypatch.setattr(SpatialAvatar, "_stage_one", lambda *_: ("avatar", None))
    model = object.__new__(SpatialAvatar)
    model.head = None  # type: ignore[assignment]
    for steps in (None, 0, 7):
        pipeline.generate(np.zeros((8, 8, 3), np.uint8), model=model, polish=steps, bust=False, scene=False)
    assert iterations == [polish.PolishConfig().iterations, 7]
