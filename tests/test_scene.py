"""The photo's scene: filled holes, files, and driven heads that are put back into the photo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from spatialavatar.avatar import AVATAR_FILE, Avatar
from spatialavatar.driving import DriveConfig, drive, drive_frames, drive_still, picture_size, retarget
from spatialavatar.errors import FormatError, InputError, OutputError
from spatialavatar.head.rotations import axis_angle_to_matrix
from spatialavatar.head_in_photo import HeadInPhoto, neck_pixels
from spatialavatar.media import VideoReader
from spatialavatar.motion import Motion
from spatialavatar.photo_scene import MAX_SCENE_BYTES, PhotoScene
from spatialavatar.picture_fill import fill
from spatialavatar.records import Evidence, HeadMotion, Pictures, Track
from spatialavatar.render import render
from spatialavatar.scene_capture import _beside_the_person, _thin_lines, capture_scene
from spatialavatar.staging import photo_camera, read_background

from .support.scenes_of_photos import BOX, SIZE, avatar_with_scene, plate
from .support.tracks import make_track

PHOTO = DriveConfig(scene="photo", smoothing=0.0)


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    difference = (first.astype(float) - second.astype(float)) ** 2
    return 10.0 * float(np.log10(255.0**2 / max(difference.mean(), 1e-9)))


def at_rest(avatar: Avatar) -> Track:
    return Motion.held({}).to_track(avatar.head)


def first_frame(avatar: Avatar, config: DriveConfig = PHOTO) -> np.ndarray:
    return next(drive_frames(avatar, at_rest(avatar), config))


# -- filling ----------------------------------------------------------------------------------------------------------


def test_a_hole_continues_the_colours_around_it():
    picture = plate()
    known = np.ones(picture.shape[:2], bool)
    known[30:90, 50:110] = False
    holed = np.where(known[..., None], picture, 0).astype(np.uint8)
    filled = fill(holed, known)
    assert np.array_equal(filled[known], picture[known])
    assert np.abs(filled.astype(int) - picture)[~known].max() < 12


def test_a_hole_continues_a_horizon():
    picture = np.full((96, 128, 3), 200, np.uint8)
    picture[48:] = 60
    known = np.ones(picture.shape[:2], bool)
    known[20:, 40:88] = False
    filled = fill(np.where(known[..., None], picture, 0).astype(np.uint8), known).astype(int)
    assert np.abs(filled - picture)[30:42, 60:68].max() < 25
    assert np.abs(filled - picture)[54:, 60:68].max() < 25


def test_a_filled_hole_has_the_grain_around_it():
    noisy = np.clip(120 + 3.0 * np.random.default_rng(1).standard_normal((96, 96, 1)), 0, 255)
    noisy = np.repeat(noisy, 3, -1).astype(np.uint8)
    known = np.ones((96, 96), bool)
    known[24:72, 24:72] = False
    inside = fill(noisy, known)[36:60, 36:60].astype(float)
    assert 0.5 < inside.std() / noisy[known].std() < 1.5


def test_a_picture_without_a_known_pixel_is_returned_unchanged():
    assert np.array_equal(fill(plate(), np.zeros((SIZE[1], SIZE[0]), bool)), plate())


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_scene_is_read_as_it_was_written(tmp_path: Path):
    avatar = avatar_with_scene()
    loaded = Avatar.load(avatar.save(tmp_path / "me.safetensors"))
    assert loaded.scene is not None
    assert loaded.scene.size == SIZE
    assert all(torch.equal(value, loaded.scene.tensors()[name]) for name, value in avatar.scene.tensors().items())


def test_a_file_without_a_scene_has_the_version_that_it_had(tmp_path: Path):
    avatar_with_scene().without_scene().save(tmp_path / "me.safetensors")
    with safe_open(tmp_path / "me.safetensors", "pt") as file:
        assert '"version": 1' in file.metadata()["spatialavatar"]


def test_a_repository_does_not_contain_the_scene(tmp_path: Path):
    avatar_with_scene().save_pretrained(tmp_path / "repo")
    assert Avatar.load(tmp_path / "repo" / AVATAR_FILE).scene is None


def test_a_scene_of_noise_stays_within_its_budget():
    noise = np.random.default_rng(0).integers(0, 256, (1024, 1536, 3), np.uint8)
    scene = PhotoScene.of(noise, np.zeros((1024, 1536), np.uint8), torch.tensor(BOX), torch.zeros(3))
    assert len(scene.picture) + len(scene.body) <= MAX_SCENE_BYTES
    assert scene.faults() == []


def _changed(**tensors: torch.Tensor) -> dict[str, torch.Tensor]:
    return {f"scene.{name}": tensor for name, tensor in tensors.items()}


def _encoded(width: int) -> torch.Tensor:
    return PhotoScene.of(
        np.zeros((40, width, 3), np.uint8), np.zeros((40, width), np.uint8), torch.tensor(BOX), torch.zeros(3)
    ).picture


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: _changed(picture=torch.zeros(64, dtype=torch.uint8)), "damaged"),
        (lambda: _changed(picture=avatar_with_scene().scene.body), "damaged"),
        (lambda: _changed(picture=_encoded(60)), "sizes"),
        (lambda: _changed(box=torch.tensor([0.0, 0.0, 90.0, 10.0])), "square"),
        (lambda: _changed(tone=torch.full((3,), 2.0)), "tone"),
        (lambda: _changed(body=torch.zeros(MAX_SCENE_BYTES + 1, dtype=torch.uint8)), "scene"),
    ],
)
def test_a_damaged_scene_is_refused_in_one_sentence(tmp_path: Path, change: Any, words: str):
    path = avatar_with_scene(8).save(tmp_path / "me.safetensors")
    with safe_open(path, "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    save_file({**tensors, **change()}, path, metadata)
    with pytest.raises(FormatError, match=words):
        Avatar.load(path)


# -- driving ----------------------------------------------------------------------------------------------------------


def test_a_photo_drive_has_the_photos_size_and_its_pixels_beside_the_head():
    avatar = avatar_with_scene()
    frame = first_frame(avatar)
    camera = photo_camera(avatar)
    with torch.inference_mode():
        image, _ = render(HeadInPhoto(avatar).gaussians(avatar.reference), camera)
    beside = image[..., 3].numpy() < 1e-3
    assert frame.shape == (SIZE[1], SIZE[0], 3)
    assert 0.3 < beside.mean() < 0.95
    assert np.array_equal(frame[beside], avatar.scene.plate[beside])
    assert psnr(frame[beside], plate()[beside]) > 45.0


def test_a_resting_driver_leaves_the_head_as_it_was_photographed():
    avatar = avatar_with_scene()
    turned = avatar.reference.replace(rotation=torch.tensor([[0.1, 0.3, 0.05]]))
    avatar = replace(avatar, reference=turned)
    params, _ = retarget(at_rest(avatar), avatar, PHOTO)
    for name in ("rotation", "neck", "translation"):
        torch.testing.assert_close(getattr(params, name)[:1], getattr(turned, name), atol=1e-5, rtol=0)


def test_in_the_photo_the_neck_turns_and_the_torso_stays():
    avatar = avatar_with_scene()
    turn = torch.zeros(6, 3)
    turn[:, 1] = torch.linspace(-0.3, 0.3, 6)
    params, _ = retarget(make_track(avatar, rotation=turn), avatar, PHOTO)
    assert torch.equal(params.rotation, avatar.reference.rotation.expand(6, 3))
    torch.testing.assert_close(axis_angle_to_matrix(params.neck), axis_angle_to_matrix(turn), atol=1e-5, rtol=0)


def test_a_moving_head_leaves_the_lower_end_of_the_neck_where_it_is():
    avatar = avatar_with_scene()
    head = HeadInPhoto(avatar)
    moved = avatar.reference.replace(translation=avatar.reference.translation + torch.tensor([[0.02, 0.0, 0.0]]))
    before, after = head.gaussians(avatar.reference), head.gaussians(moved)
    rest = avatar.layout.surface(avatar.head, avatar.identity().vertices)[:, 1]
    shift = (after.means - before.means)[:, 0]
    assert float(shift[rest < rest.min() + 0.005].abs().max()) < 0.002
    assert float(shift[rest > 0.0].min()) == pytest.approx(0.02, abs=1e-5)


def test_the_rendered_neck_fades_out_above_its_lower_end():
    avatar = avatar_with_scene()
    rest = avatar.layout.surface(avatar.head, avatar.identity().vertices)[:, 1]
    keep = HeadInPhoto(avatar).gaussians(avatar.reference).colors[:, 3]
    assert float(keep[rest < rest.min() + 0.01].max()) == 0.0
    assert float(keep[rest > 0.0].min()) == 1.0


def test_the_rendered_neck_ends_at_the_outline_of_the_photos_neck():
    avatar = avatar_with_scene()
    camera = photo_camera(avatar)
    matte = np.ones((SIZE[1], SIZE[0]), np.float32)
    matte[:, : SIZE[0] // 2] = 0.0  # the person's neck is its right half
    wide, narrow = (
        HeadInPhoto(avatar, camera=camera, body=body).gaussians(avatar.reference).colors[:, 3] for body in (None, matte)
    )
    places = camera.project(avatar.pose(avatar.reference).means)[:, 0]
    neck = (wide > 0) & avatar.layout.mask(avatar.head, *avatar.head.available_parts("neck"))
    chin, end = neck_pixels(avatar, camera)
    low = neck & (camera.project(avatar.pose(avatar.reference).means)[:, 1] > chin[1])
    left, right = low & (places < SIZE[0] // 2 - 1), low & (places > SIZE[0] // 2 + 4)
    assert end[1] > chin[1]
    assert left.any()
    assert float(narrow[left].max()) < 0.1
    assert torch.equal(narrow[right], wide[right])
    assert torch.equal(narrow[~neck], wide[~neck])


def test_the_background_behind_a_person_has_no_colour_of_the_body():
    picture = np.full((64, 64, 3), 100, np.uint8)
    person, removed = np.zeros((64, 64), np.float32), np.zeros((64, 64), np.float32)
    person[16:, 16:48], removed[16:40, 16:48] = 1.0, 1.0
    picture[person > 0] = (200, 0, 0)
    filled = fill(picture, _beside_the_person(person, removed, 64.0))
    assert np.abs(filled[20:40, 16:48].astype(int) - 100).max() < 5


def test_the_face_takes_the_mean_colour_of_the_photos():
    avatar = avatar_with_scene()
    warm = replace(avatar.scene, tone=torch.tensor([0.6, 0.5, 0.45]))
    head = HeadInPhoto(avatar, warm.tone, photo_camera(avatar))
    colours = head.gaussians(avatar.reference).colors[:, :3].amax(0)
    torch.testing.assert_close(colours, warm.tone, atol=0.03, rtol=0)


@pytest.mark.parametrize(("size", "expected"), [(None, SIZE), (320, (320, 240)), (100, (100, 76))])
def test_the_size_is_the_photos_longer_side(size: int | None, expected: tuple[int, int]):
    avatar = avatar_with_scene()
    config = replace(PHOTO, size=size)
    assert picture_size(avatar, config) == expected
    assert first_frame(avatar, config).shape == (expected[1], expected[0], 3)


def test_another_background_keeps_the_body():
    avatar = avatar_with_scene()
    frame = first_frame(avatar, replace(PHOTO, background=(0.0, 0.0, 1.0)))
    assert np.array_equal(frame[4, 4], [0, 0, 255])
    assert np.abs(frame[112, 80].astype(int) - plate()[112, 80]).max() <= 3


def test_a_picture_and_a_blur_are_backgrounds(tmp_path: Path):
    Image.new("RGB", (300, 100), (10, 200, 30)).save(tmp_path / "green.png")
    avatar = avatar_with_scene()
    green = read_background(str(tmp_path / "green.png"))
    for config in (DriveConfig(size=64, background=green), replace(PHOTO, background=green)):
        assert np.abs(first_frame(avatar, config)[2, 2].astype(int) - [10, 200, 30]).max() <= 2
    blurred = first_frame(avatar, DriveConfig(size=64, background="blur"))
    assert np.abs(blurred[2, 2].astype(int) - plate()[2, 30]).max() < 25


@pytest.mark.parametrize(
    ("text", "background"),
    [("white", (1.0, 1.0, 1.0)), ("#ff0000", (1.0, 0.0, 0.0)), ("blur", "blur"), ("a.jpg", Path("a.jpg"))],
)
def test_a_text_names_a_background(text: str, background: object):
    assert read_background(text) == background


@pytest.mark.parametrize(
    "bad",
    [
        {"scene": "moon"},
        {"scene": "photo", "relative": False},
        {"scene": "photo", "head_pose": "as filmed"},
        {"scene": "transparent", "background": (1.0, 1.0, 1.0)},
        {"background": (1.0, 2.0, 1.0)},
        {"background": ""},
    ],
)
def test_settings_without_effect_are_refused(bad: dict):
    with pytest.raises(InputError):
        DriveConfig(**bad)


def test_an_avatar_without_a_scene_is_refused_before_any_work(tmp_path: Path):
    avatar = avatar_with_scene().without_scene()
    for config in (PHOTO, DriveConfig(background="blur")):
        with pytest.raises(InputError, match="does not keep"):
            drive(avatar, at_rest(avatar).with_motion(fps=25.0), tmp_path / "out.mp4", config)
    assert list(tmp_path.iterdir()) == []


def test_a_photo_drive_becomes_a_video_of_the_photos_aspect(tmp_path: Path):
    avatar = avatar_with_scene()
    drive(avatar, make_track(avatar), tmp_path / "out.mp4", PHOTO)
    frames = list(VideoReader(tmp_path / "out.mp4"))
    assert (len(frames), frames[0].shape) == (6, (SIZE[1], SIZE[0], 3))


def test_a_still_in_the_photo_is_the_first_frame():
    avatar = avatar_with_scene()
    assert np.array_equal(drive_still(avatar, at_rest(avatar), PHOTO), first_frame(avatar))


def test_a_transparent_drive_needs_a_name_that_can_hold_it(tmp_path: Path):
    avatar = avatar_with_scene()
    with pytest.raises(OutputError, match=r"\.webm"):
        drive(avatar, make_track(avatar), tmp_path / "out.mp4", DriveConfig(scene="transparent", size=64))


def test_a_transparent_frame_over_white_is_the_plain_one():
    avatar = avatar_with_scene()
    clear = first_frame(avatar, DriveConfig(scene="transparent", size=96)).astype(float)
    plain = first_frame(avatar, DriveConfig(size=96)).astype(float)
    alpha = clear[..., 3:] / 255.0
    assert np.abs(clear[..., :3] * alpha + 255.0 * (1.0 - alpha) - plain)[alpha[..., 0] > 0.1].max() <= 2.0


# -- capture ----------------------------------------------------------------------------------------------------------


class _Networks:
    """Sees the person where the picture is grey."""

    @staticmethod
    def matting(picture: np.ndarray) -> np.ndarray:
        return (np.ptp(picture.astype(int), axis=-1) < 8).astype(np.float32)

    @classmethod
    def segmenter(cls, picture: np.ndarray) -> np.ndarray:
        person = cls.matting(picture)
        return np.stack([1.0 - person, person, *[0.0 * person] * 4], -1)


def test_a_captured_scene_has_no_head_and_is_the_photo_where_the_person_is_not():
    avatar = avatar_with_scene().without_scene()
    camera = photo_camera(avatar_with_scene())
    with torch.inference_mode():
        image, alpha = render(avatar.pose(avatar.reference), camera)
    background = plate()
    photo = (255.0 * image + (1.0 - alpha[..., None]) * torch.from_numpy(background)).round().byte().numpy()
    person = alpha.numpy() > 0.01
    crop = torch.tensor([BOX])
    motion = HeadMotion(avatar.reference, 0.0, avatar.head.id, torch.ones(1))
    pictures = Pictures(torch.zeros(1, 96, 96, 3, dtype=torch.uint8), _cut(alpha))
    track = Track(motion, avatar.camera, crop, Evidence(None, torch.zeros(1, 52)), pictures)
    scene = capture_scene([photo], [track], avatar, _Networks())  # type: ignore[arg-type]
    assert psnr(scene.plate[~person], photo[~person]) > 40.0
    far = np.ones(person.shape, bool)
    far[2:118, 50:126] = False
    assert psnr(scene.plate[far], photo[far]) > 45.0
    face = (slice(40, 56), slice(78, 98))
    assert person[face].all()
    assert np.abs(scene.plate[face].astype(float) - background[face]).mean() < 20.0
    assert float((scene.tone - 0.5).abs().max()) < 0.02


def test_loose_strands_are_found_before_a_plain_background_only():
    picture = np.full((200, 200, 3), 210, np.uint8)
    head = np.zeros((200, 200), bool)
    head[60:140, 60:140] = True
    picture[head] = 90
    picture[80:120, 150:152] = 100
    strands = _thin_lines(picture, head.astype(np.float32), head, 200.0)
    assert strands[85:115, 150:152].all()
    assert strands.sum() < 400
    picture[:, 170:] = 40  # a background of two colours
    assert not _thin_lines(picture, head.astype(np.float32), head, 200.0).any()


def _cut(alpha: torch.Tensor) -> torch.Tensor:
    x0, y0, x1, y1 = (int(value) for value in BOX)
    return (255 * alpha[y0:y1, x0:x1]).round().byte()[None]
