"""Photos and videos to Tracks, with the shipped head and networks, on the example photos and clip."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from spatialavatar import hub
from spatialavatar.errors import FormatError, InputError, NoFaceError, OutputError
from spatialavatar.head import HeadModel, load_head
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.media import PictureSequence, VideoReader, VideoWriter, read_image
from spatialavatar.records import Camera, Track
from spatialavatar.tracking import load_track, save_track, track, track_photo, track_photos, track_video
from spatialavatar.tracking.framing import CROP_SIZE, Crop, crop_around_all, cut
from spatialavatar.tracking.landmark_sets import IRIS_LEFT, IRIS_RIGHT, LOWER_LIP_INNER, UPPER_LIP_INNER
from spatialavatar.tracking.photos import face_yaw

CLIP_FRAMES = 24
SENTENCE = re.compile(r"^[A-Z].*[.]$")


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head(hub.weights_dir() / "head")


@pytest.fixture(scope="module")
def lake(examples) -> np.ndarray:
    return read_image(examples / "portraits" / "lake.jpg")


@pytest.fixture(scope="module")
def lake_track(lake, head) -> Track:
    return track_photo(lake, head)


@pytest.fixture(scope="module")
def clip(examples) -> list[np.ndarray]:
    frames = []
    for frame in VideoReader(examples / "clips" / "moods.mp4", max_side=640):
        frames.append(frame)
        if len(frames) == CLIP_FRAMES:
            return frames
    return frames


def write_video(path: Path, frames: list[np.ndarray], fps: float = 25.0) -> Path:
    with VideoWriter(path, (frames[0].shape[1], frames[0].shape[0]), fps) as writer:
        for frame in frames:
            writer.write(frame)
    return path


@pytest.fixture(scope="module")
def clip_track(clip, head, tmp_path_factory) -> Track:
    return track_video(write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", clip), head)


@pytest.fixture
def no_mattes(monkeypatch):
    """Leave out what takes longest about a photo, for tests that look at the fit alone."""
    import spatialavatar.tracking.photos as photos

    empty = np.zeros((CROP_SIZE, CROP_SIZE), dtype=np.uint8)
    monkeypatch.setattr(photos, "separate", lambda *_: (empty, empty))


def landmark_error(tracked: Track, head: HeadModel) -> torch.Tensor:
    """(T,) mean distance of the head's landmarks to the detected ones, part of the outer eye corners' distance."""
    fitted = tracked.camera.project(head.landmarks(head.vertices(tracked.params)))
    eyes = (tracked.evidence.landmarks[:, 33] - tracked.evidence.landmarks[:, 263]).norm(dim=-1)
    return (fitted - tracked.evidence.landmarks).norm(dim=-1).mean(-1) / eyes


# -- photos -----------------------------------------------------------------------------------------------------------


def test_a_photo_is_a_track_of_one_frame_with_everything_in_it(lake_track, head):
    assert len(lake_track) == 1
    assert lake_track.fps == 0
    assert lake_track.head_id == head.id
    assert lake_track.pictures.images.shape == (1, CROP_SIZE, CROP_SIZE, 3)
    assert lake_track.pictures.mattes.shape == lake_track.pictures.segments.shape == (1, CROP_SIZE, CROP_SIZE)
    assert lake_track.evidence.landmarks.shape == (1, 478, 2)
    assert lake_track.evidence.blendshapes.shape == (1, 52)
    assert lake_track.confidence[0] > 0.9
    assert lake_track.warnings == ()


def test_the_head_lies_on_the_photo(lake_track, head):
    assert landmark_error(lake_track, head).max() < 0.02


def test_left_is_the_subjects_left(lake_track, head):
    """The subject's left iris is on the right of the picture, on the head's +x side."""
    on_picture = lake_track.evidence.landmarks[0]
    assert on_picture[IRIS_LEFT[0], 0] > on_picture[IRIS_RIGHT[0], 0]
    on_head = head.landmarks(head.vertices(lake_track.params))[0]
    assert on_head[IRIS_LEFT[0], 0] > on_head[IRIS_RIGHT[0], 0]


def test_matte_covers_the_face_and_not_the_corners(lake_track):
    matte = lake_track.pictures.mattes[0]
    nose = lake_track.evidence.landmarks[0, 4].long()
    assert matte[nose[1], nose[0]] > 250
    assert matte[:20, :20].max() < 20
    assert lake_track.pictures.segments[0][nose[1], nose[0]] == 3


@pytest.mark.usefixtures("no_mattes")
def test_a_photo_without_what_lies_around_its_crop_is_tracked_alike(lake, head):
    (alone,), (whole,) = (track_photos([lake], head, around=around) for around in (False, True))
    assert alone.surroundings is None
    assert whole.surroundings is not None
    assert torch.equal(alone.params.rotation, whole.params.rotation)
    assert torch.equal(alone.require_pictures().mattes, whole.require_pictures().mattes)


@pytest.mark.usefixtures("no_mattes")
def test_photos_of_one_person_share_their_shape_in_any_order(lake, head):
    mirrored = np.ascontiguousarray(lake[:, ::-1])
    first = track_photos([lake, mirrored], head)
    second = track_photos([mirrored, lake], head)
    torch.testing.assert_close(first[0].params.shape, first[1].params.shape, atol=0, rtol=0)
    torch.testing.assert_close(first[0].params.shape, second[0].params.shape, atol=0, rtol=0)
    torch.testing.assert_close(first[0].params.expression, second[1].params.expression, atol=0, rtol=0)


@pytest.mark.usefixtures("no_mattes")
def test_photos_of_two_people_are_taken_with_a_warning_on_both(lake, examples, head):
    street = read_image(examples / "portraits" / "street.jpg")
    mirrored = np.ascontiguousarray(lake[:, ::-1])
    tracks = track_photos([lake, mirrored, street], head, names=["lake.jpg", "mirror.jpg", "street.jpg"])
    (sentence,) = tracks[2].warnings
    assert "street.jpg look like two different people's" in sentence
    assert SENTENCE.match(sentence)
    assert sum(sentence in tracked.warnings for tracked in tracks) == 2


@pytest.mark.usefixtures("no_mattes")
def test_photos_of_one_person_carry_no_such_warning(lake, head):
    mirrored = np.ascontiguousarray(lake[:, ::-1])
    assert not any(tracked.warnings for tracked in track_photos([lake, mirrored], head))


@pytest.mark.usefixtures("no_mattes")
def test_the_mirrored_photo_turns_the_other_way(examples, head):
    street = read_image(examples / "portraits" / "street.jpg")
    straight, mirrored = (track_photo(image, head) for image in (street, np.ascontiguousarray(street[:, ::-1])))
    yaw, mirrored_yaw = float(face_yaw(straight.params.rotation)), float(face_yaw(mirrored.params.rotation))
    assert abs(yaw) > 8
    assert abs(yaw + mirrored_yaw) < 3


@pytest.mark.usefixtures("no_mattes")
def test_the_same_face_in_a_larger_picture_is_the_same(lake, lake_track, head):
    padded = cv2.copyMakeBorder(lake, 200, 100, 300, 50, cv2.BORDER_REPLICATE)
    other = track_photo(padded, head)
    shift = torch.tensor([300.0, 200.0, 300.0, 200.0])
    assert (other.crop - shift - lake_track.crop).abs().max() < 12
    assert (other.params.rotation - lake_track.params.rotation).abs().max() < 0.03


def test_a_picture_without_a_face_is_refused(head):
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    with pytest.raises(NoFaceError, match="No face was found in wall"):
        track_photo(noise, head, name="wall.jpg")


def test_a_tiny_face_is_refused_with_the_size_that_is_needed(lake, head):
    canvas = np.full((400, 400, 3), 200, dtype=np.uint8)
    small = cv2.resize(lake, None, fx=130 / lake.shape[0], fy=130 / lake.shape[0], interpolation=cv2.INTER_AREA)
    canvas[100 : 100 + small.shape[0], 100 : 100 + small.shape[1]] = small
    with pytest.raises(InputError, match="at least 64 pixels, better 128") as caught:
        track_photo(canvas, head)
    assert SENTENCE.match(str(caught.value))


@pytest.mark.usefixtures("no_mattes")
def test_of_two_faces_the_largest_is_taken_and_it_says_so(lake, lake_track, head):
    half = cv2.resize(lake, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    both = np.full((lake.shape[0], lake.shape[1] + half.shape[1], 3), 220, dtype=np.uint8)
    both[:, half.shape[1] :] = lake
    both[: half.shape[0], : half.shape[1]] = half
    tracked = track_photo(both, head, name="both.jpg")
    assert tracked.warnings == ("There are 2 faces in both.jpg; the largest one is used.",)
    assert tracked.crop[0, 0] == pytest.approx(float(lake_track.crop[0, 0]) + half.shape[1], abs=16)


def test_a_face_turned_far_away_is_refused(lake, head, monkeypatch):
    """No example shows a profile, so the test sets the pose of a profile."""
    import spatialavatar.tracking.photos as photos

    monkeypatch.setattr(photos, "face_yaw", lambda rotation: torch.tensor([80.0]))
    with pytest.raises(InputError, match="turned 80 degrees") as caught:
        track_photo(lake, head)
    assert SENTENCE.match(str(caught.value))


def test_no_photos_are_refused(head):
    with pytest.raises(InputError, match="at least one"):
        track_photos([], head)


# -- crops ------------------------------------------------------------------------------------------------------------


def test_crop_pixels_and_points_agree():
    image = np.zeros((300, 300, 3), dtype=np.uint8)
    image[140:144, 170:174] = 255
    crop = Crop.around(np.array([150.0, 150.0]), 200.0)
    mark = crop.to_crop(np.array([172.0, 142.0]))
    rows, columns = np.nonzero(cut(image, crop)[..., 0] > 127)
    assert abs(rows.mean() + 0.5 - mark[1]) < 0.6
    assert abs(columns.mean() + 0.5 - mark[0]) < 0.6


def test_crop_beyond_the_picture_repeats_its_border():
    image = np.full((100, 100, 3), 7, dtype=np.uint8)
    assert (cut(image, Crop.around(np.array([0.0, 0.0]), 160.0)) == 7).all()


def test_wide_and_narrow_cuts_lie_on_one_grid():
    image = np.random.default_rng(0).integers(0, 255, (600, 600, 3), dtype=np.uint8)
    crop = Crop.around(np.array([300.0, 310.0]), 1024.0)
    wide = cut(image, crop, 64)
    assert (wide[64:-64, 64:-64] == cut(image, crop)).all()


def test_the_crop_of_a_wandering_head_grows_and_sees_a_wider_field():
    face = np.random.default_rng(0).uniform(-50, 50, (478, 2))
    still = np.stack([face + 500.0] * 20)
    path = np.array([[400.0 + 20.0 * step, 500.0] for step in range(20)])
    wandering = face + path[:, None]
    (near, near_tight), (far, far_tight) = crop_around_all(still), crop_around_all(wandering)
    assert far.side > 1.5 * near.side
    focal_in_source = [
        float(crop.camera(tight).intrinsics[0, 0]) * crop.side / CROP_SIZE
        for crop, tight in ((near, near_tight), (far, far_tight))
    ]
    assert focal_in_source[0] == pytest.approx(focal_in_source[1], rel=0.02)


# -- videos -----------------------------------------------------------------------------------------------------------


def test_every_frame_of_the_clip_is_tracked(clip_track, head):
    assert len(clip_track) == CLIP_FRAMES
    assert clip_track.fps == 25.0
    assert (clip_track.confidence > 0.5).all()
    assert landmark_error(clip_track, head).mean() < 0.025


def test_one_crop_and_one_camera_for_the_clip(clip_track):
    assert (clip_track.crop == clip_track.crop[0]).all()
    assert isinstance(clip_track.camera, Camera)


def test_the_clip_has_a_neutral_of_its_own(clip_track, head):
    neutral = clip_track.neutral.expression
    assert neutral.shape == (head.expression_count + 9,)
    assert torch.isfinite(neutral).all()


def test_a_still_head_does_not_jitter_more_than_its_landmarks(clip, head, tmp_path):
    generator = np.random.default_rng(0)
    still = [
        np.clip(clip[0].astype(int) + generator.integers(-12, 13, clip[0].shape), 0, 255).astype(np.uint8)
        for _ in range(16)
    ]
    tracked = track_video(write_video(tmp_path / "still.mp4", still), head)
    fitted = tracked.camera.project(head.landmarks(head.vertices(tracked.params)))

    def jitter(points: torch.Tensor) -> torch.Tensor:
        return (points[2:] - 2 * points[1:-1] + points[:-2]).norm(dim=-1).mean()

    assert jitter(fitted) < 0.5 * jitter(tracked.evidence.landmarks)


def test_frames_without_a_face_are_held_and_reported(clip, head, tmp_path):
    blank = np.full_like(clip[0], 128)
    frames = [*clip[:8], *[blank] * 8, *clip[8:16]]
    tracked = track_video(write_video(tmp_path / "gap.mp4", frames), head)
    assert len(tracked) == 24
    assert (tracked.confidence[8:16] == 0).all()
    assert (tracked.confidence[:8] > 0).all()
    assert (tracked.confidence[16:] > 0).all()
    torch.testing.assert_close(tracked.params.rotation[8:16], tracked.params.rotation[7:8].expand(8, 3))
    assert any("8 of the 24 frames" in warning and "held" in warning for warning in tracked.warnings)


def test_images_come_where_they_are_asked_for(clip, clip_track, head, tmp_path):
    assert clip_track.pictures is None
    path = write_video(tmp_path / "short.mp4", clip[:3])
    tracked = track(path, head, with_images=True)
    assert tracked.pictures.images.shape == (3, CROP_SIZE, CROP_SIZE, 3)
    assert tracked.pictures.mattes.shape == (3, CROP_SIZE, CROP_SIZE)


def test_pictures_are_tracked_as_the_video_they_make_up(clip, clip_track, head, tmp_path):
    paths = [tmp_path / f"{index:03d}.png" for index in range(8)]
    for path, frame in zip(paths, clip):
        cv2.imwrite(str(path), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    paths[3].write_bytes(b"no picture")
    pictures = PictureSequence(paths, fps=25.0)
    tracked = track_video(pictures, head, shape=clip_track.params.shape)
    assert (len(tracked), tracked.fps, pictures.damaged) == (8, 25.0, {3})
    torch.testing.assert_close(tracked.params.shape, clip_track.params.shape, atol=0, rtol=0)
    assert any("003.png is not a photo" in warning for warning in tracked.warnings)


def test_a_video_without_a_face_is_refused(head, tmp_path):
    path = write_video(tmp_path / "wall.mp4", [np.full((128, 128, 3), 90, dtype=np.uint8)] * 5)
    with pytest.raises(NoFaceError, match=r"wall\.mp4"):
        track(path, head)


def test_max_frames_stops_early(clip, head, tmp_path):
    assert len(track_video(write_video(tmp_path / "clip.mp4", clip[:6]), head, max_frames=4)) == 4


def test_track_tells_photos_from_videos_by_content(examples, head, tmp_path):
    disguised = tmp_path / "photo.mp4"
    disguised.write_bytes((examples / "portraits" / "lake.jpg").read_bytes())
    assert track(disguised, head).fps == 0


def test_a_text_file_called_jpg_is_refused_as_a_photo(head, tmp_path):
    path = tmp_path / "me.jpg"
    path.write_text("not a picture")
    with pytest.raises(InputError, match="not a photo"):
        track(path, head)


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_track_survives_its_file(lake_track, tmp_path):
    path = tmp_path / "lake.safetensors"
    save_track(lake_track.replace(warnings=("Ein Satz mit Umlauten: äöü.",)), path)
    loaded = load_track(path)
    for name in ("shape", "expression", "rotation", "translation", "neck", "jaw", "eyes"):
        torch.testing.assert_close(getattr(loaded.params, name), getattr(lake_track.params, name), atol=0, rtol=0)
    assert (loaded.pictures.images == lake_track.pictures.images).all()
    assert loaded.camera.width == lake_track.camera.width
    assert loaded.warnings == ("Ein Satz mit Umlauten: äöü.",)
    assert loaded.neutral.expression is None


def test_saving_leaves_nothing_half_written(lake_track, tmp_path):
    save_track(lake_track, tmp_path / "a.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    with pytest.raises(OutputError):
        save_track(lake_track, tmp_path / "a.safetensors" / "b.safetensors")


@pytest.mark.parametrize("damage", [b"not a track at all", b""])
def test_a_file_that_is_no_track_is_refused(damage, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(damage)
    with pytest.raises(FormatError) as caught:
        load_track(path)
    assert SENTENCE.match(str(caught.value)) or str(path) in str(caught.value)


def test_a_cut_track_is_refused(lake_track, tmp_path):
    path = tmp_path / "x.safetensors"
    save_track(lake_track, path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(FormatError, match="damaged"):
        load_track(path)


def test_other_safetensors_are_not_tracks(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(FormatError, match="not a saved track"):
        load_track(path)


def test_a_missing_track_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no track"):
        load_track(tmp_path / "nothing.safetensors")


# -- the landmarks of the shipped head --------------------------------------------------------------------------------


def test_landmarks_of_the_shipped_head_are_symmetric(head):
    points = head.landmarks(head.template)
    distance = torch.cdist(points * torch.tensor([-1.0, 1.0, 1.0]), points).min(1).values
    assert distance.max() < 2e-4


def test_irises_lie_on_the_eyeballs(head):
    faces, _ = head.landmark_embeddings[478]
    assert head.part_faces("eye_left")[faces[list(IRIS_LEFT)]].all()
    assert head.part_faces("eye_right")[faces[list(IRIS_RIGHT)]].all()


def test_inner_lips_touch_at_rest_and_part_with_the_jaw(head):
    def gap(weight: float) -> torch.Tensor:
        scores = torch.zeros(1, 52)
        scores[0, ARKIT_INDEX["jawOpen"]] = weight
        expression, jaw, eyes = head.from_arkit(scores)
        points = head.landmarks(head.vertices(head.neutral().replace(expression=expression, jaw=jaw, eyes=eyes)))[0]
        return (points[list(UPPER_LIP_INNER[1:-1])] - points[list(LOWER_LIP_INNER[1:-1])]).norm(dim=-1)

    assert gap(0.0).max() < 0.004
    assert gap(1.0)[3:6].min() > 0.012


@pytest.mark.slow
def test_landmarks_are_found_again_on_the_shipped_head(head, repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "scripts"))
    from open_head.landmarks import embed_landmarks

    from spatialavatar.tracking.landmarker import FaceLandmarker

    found = HeadModel(head.tensors() | embed_landmarks(head, FaceLandmarker()), head.info)
    distance = (found.landmarks(head.template) - head.landmarks(head.template)).norm(dim=-1)
    assert distance.median() < 5e-4
    assert distance.max() < 6e-3


# -- the test faces that cannot be shipped ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("no_mattes")
def test_studio_portraits_fit_within_two_percent(shared_data, head):
    photos = sorted((shared_data / "photos").glob("london_*.jpg"))[::41]
    errors = [float(landmark_error(track_photo(read_image(path), head), head)) for path in photos]
    assert np.mean(errors) < 0.02
