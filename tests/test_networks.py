"""The tracker's networks find what a person would point at."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest

from spatialavatar.errors import FormatError, InputError, MissingAssetError
from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.media import VideoReader, read_image
from spatialavatar.records import SEGMENT_CLASSES
from spatialavatar.tracking.detection import FaceDetector
from spatialavatar.tracking.identity import SAME_PERSON, align
from spatialavatar.tracking.landmarker import FaceLandmarker, FaceLandmarks, Roi
from spatialavatar.tracking.matting import fuse
from spatialavatar.tracking.networks import Networks

AROUND_HER = (99, 0, 1207, 853)  # x0, y0, x1, y1 in lake.jpg: head and shoulders

EYES_CLOSED, SMILE = ("eyeBlinkLeft", "eyeBlinkRight"), ("mouthSmileLeft", "mouthSmileRight")


@pytest.fixture(scope="module")
def networks() -> Networks:
    return Networks(threads=2)


@pytest.fixture(scope="module")
def lake(examples) -> np.ndarray:
    """A neutral face, about 300 pixels wide."""
    return read_image(examples / "portraits" / "lake.jpg")


@pytest.fixture(scope="module")
def lake_face(networks, lake) -> FaceLandmarks:
    face = networks.landmarker.locate(lake)
    assert face is not None
    return face


def eye_distance(face: FaceLandmarks) -> float:
    return float(np.linalg.norm(face.points[468, :2] - face.points[473, :2]))


def mean_error(points: np.ndarray, expected: np.ndarray, unit: float) -> float:
    """Mean distance in the picture, in percent of ``unit``."""
    return float(np.linalg.norm(points[:, :2] - expected[:, :2], axis=1).mean() / unit * 100)


def score(face: FaceLandmarks, names: tuple[str, ...]) -> float:
    return float(np.mean([face.blendshapes[ARKIT_52.index(name)] for name in names]))


@pytest.mark.parametrize(("photo", "size"), [("lake.jpg", 330), ("street.jpg", 230), ("astronaut.png", 95)])
def test_one_face_is_found_in_every_example(networks, examples, photo, size):
    faces = networks.landmarker.detect(read_image(examples / "portraits" / photo))
    assert len(faces) == 1
    assert faces[0].size == pytest.approx(size, rel=0.15)


def test_two_faces_come_largest_first(networks, examples, lake):
    other = read_image(examples / "portraits" / "street.jpg")[:853, 500:]
    faces = networks.landmarker.detect(np.hstack([lake, other]))
    assert len(faces) == 2
    assert faces[0].size > faces[1].size
    assert faces[0].keypoints[0, 0] < lake.shape[1]


def test_a_picture_without_a_face_has_none(networks):
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    assert networks.landmarker.locate(noise) is None


def test_a_small_face_in_a_large_picture_is_found(networks, lake, lake_face):
    wide = np.full((1200, 1600, 3), 127, dtype=np.uint8)
    small = cv2.resize(lake, None, fx=0.12, fy=0.12, interpolation=cv2.INTER_AREA)
    wide[300 : 300 + small.shape[0], 500 : 500 + small.shape[1]] = small
    face = networks.landmarker.locate(wide)
    assert face is not None  # 36 pixels wide
    assert mean_error(face.points, lake_face.points * 0.12 + [500, 300, 0], 0.12 * eye_distance(lake_face)) < 4.0


def test_the_detectors_agree_on_the_eyes(lake):
    detector = FaceDetector()
    (near,), (far,) = detector.short_range(lake), detector.yunet(lake)
    assert np.abs(near.keypoints[:3] - far.keypoints[:3]).max() < 0.05 * near.size


def test_landmarks_have_the_documented_form(lake_face):
    assert lake_face.points.shape == (478, 3)
    assert lake_face.points.dtype == np.float32
    assert lake_face.blendshapes.shape == (52,)
    assert lake_face.presence > 0.99
    assert lake_face.blendshapes[ARKIT_52.index("tongueOut")] == 0.0
    assert lake_face.points[33, 0] < lake_face.points[263, 0]  # the subject's right eye is on the left
    assert lake_face.points[1, 2] < lake_face.points[[33, 263], 2].min()  # the nose is nearest


def test_the_irises_lie_on_dark_pixels_between_the_eye_corners(lake, lake_face):
    grey = lake.mean(axis=2)
    cheek_x, cheek_y = lake_face.points[425, :2].astype(int)
    for iris, corners in ((468, (33, 133)), (473, (362, 263))):
        x, y = lake_face.points[iris, :2].astype(int)
        outer, inner = lake_face.points[list(corners), 0]
        assert outer < x < inner
        assert grey[y, x] < 0.5 * grey[cheek_y, cheek_x]


@pytest.mark.parametrize("degrees", [40, -90])
def test_landmarks_turn_with_the_picture(networks, lake, lake_face, degrees):
    size = (1100, 1100)
    centre = tuple(map(float, lake_face.points[:, :2].mean(axis=0)))
    turn = cv2.getRotationMatrix2D(centre, degrees, 1.0)
    turn[:, 2] += np.array(size) / 2 - centre
    face = networks.landmarker.locate(cv2.warpAffine(lake, turn, size, borderMode=cv2.BORDER_REPLICATE))
    assert face is not None
    expected = (lake_face.points[:, :2] - 0.5) @ turn[:, :2].T + turn[:, 2] + 0.5
    assert mean_error(face.points, expected, eye_distance(lake_face)) < 2.5


def test_the_scale_of_the_photo_does_not_matter(networks, lake, lake_face):
    large = cv2.resize(lake, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    face = networks.landmarker.locate(large)
    assert face is not None
    assert mean_error(face.points / 3, lake_face.points, eye_distance(lake_face)) < 0.5


def test_the_crop_samples_pixel_centres():
    """A ramp is reproduced exactly by a crop that is neither scaled nor turned, and averaged by one that is shrunk."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 256, axis=0).repeat(3, axis=2)
    np.testing.assert_array_equal(Roi(np.array([128.0, 128.0]), 256.0, 0.0).crop(ramp), ramp)
    wide = np.repeat(ramp, 4, axis=0).repeat(4, axis=1)
    np.testing.assert_array_equal(Roi(np.array([512.0, 512.0]), 1024.0, 0.0).crop(wide), ramp)


def test_a_crop_and_its_points_agree():
    roi = Roi(np.array([210.0, 160.0]), 120.0, 0.4)
    image = np.zeros((320, 400, 3), dtype=np.uint8)
    dot = roi.to_image(np.array([[200.0, 60.0]]))[0]
    cv2.circle(image, tuple(np.round((dot - 0.5) * 16).astype(int)), 3 * 16, (255, 255, 255), -1, cv2.LINE_AA, shift=4)
    crop = roi.crop(image)[..., 0].astype(float)
    y, x = (np.indices(crop.shape) + 0.5).reshape(2, -1)
    centre = np.average(np.stack([x, y], axis=1), axis=0, weights=crop.ravel())
    np.testing.assert_allclose(centre, [200.0, 60.0], atol=0.3)


def test_a_smile_scores_higher_than_a_neutral_face(networks, examples, lake_face):
    smiling = networks.landmarker.locate(read_image(examples / "portraits" / "astronaut.png"))
    assert smiling is not None
    assert score(smiling, SMILE) > 0.5 > 0.2 > score(lake_face, SMILE)


def test_left_and_right_are_the_subjects_own(networks, lake_face):
    points = lake_face.points.copy()
    points[[384, 385, 386, 387, 388], 1] = points[[381, 380, 374, 373, 390], 1]  # closes the eye on the picture's right
    left, right = networks.landmarker._blendshapes(points)[[ARKIT_52.index(name) for name in EYES_CLOSED]]
    assert left > 0.5 > 0.3 > right


def test_a_clip_is_tracked_from_frame_to_frame(networks, examples):
    face, found = None, 0
    for index, frame in enumerate(VideoReader(examples / "clips" / "moods.mp4")):
        if index % 8 == 0:  # a third of a second between frames: the head moves by a part of its size
            face = networks.landmarker.track(frame, face)
            found += face is not None
    assert found == 59


def test_a_lost_face_is_reported_and_found_again(networks, lake, lake_face):
    landmarker = networks.landmarker
    assert landmarker.track(np.full_like(lake, 128), lake_face) is None
    moved = landmarker.track(np.roll(lake, 400, axis=1), lake_face)
    assert moved is not None
    assert moved.points[:, 0].mean() == pytest.approx(lake_face.points[:, 0].mean() + 400, abs=5)


def test_the_matte_holds_the_person_and_nothing_else(networks, lake, lake_face):
    alpha = networks.matting(lake, AROUND_HER)
    assert alpha.shape == lake.shape[:2]
    assert alpha.dtype == np.float32
    assert 0.0 <= alpha.min() <= alpha.max() <= 1.0
    x, y = lake_face.points[:, :2].astype(int).T
    assert alpha[y, x].min() > 0.98
    assert alpha[:200, :300].max() < 0.02
    assert 0.02 < ((alpha > 0.1) & (alpha < 0.9)).mean() / (alpha > 0.5).mean() < 0.2  # soft edges, and only edges


def test_the_matte_of_a_large_photo_keeps_the_small_ones_area(networks, lake):
    large = cv2.resize(lake, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    doubled = networks.matting(large, tuple(2 * v for v in AROUND_HER), size=256)
    single = networks.matting(lake, AROUND_HER, size=256)
    assert np.abs(cv2.resize(doubled, single.shape[::-1], interpolation=cv2.INTER_AREA) - single).mean() < 0.01


def test_the_segmenter_tells_hair_from_skin_and_clothes(networks, lake, lake_face):
    probabilities = networks.segmenter(lake, AROUND_HER)
    assert probabilities.shape == (*lake.shape[:2], 6)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1.0, atol=1e-5)
    classes = probabilities.argmax(axis=-1)
    cheek = lake_face.points[425, :2].astype(int)
    chin, brow = lake_face.points[152, :2], lake_face.points[10, :2]
    size = float(np.linalg.norm(chin - brow))
    crown = (brow - np.array([0.0, 0.25 * size])).astype(int)
    neck = (chin + np.array([0.0, 0.2 * size])).astype(int)
    sleeve = (chin + np.array([0.8 * size, 0.66 * size])).astype(int)
    found = [SEGMENT_CLASSES[classes[y, x]] for x, y in (cheek, crown, neck, sleeve, (10, 10))]
    assert found == ["face_skin", "hair", "body_skin", "clothes", "background"]


def test_sure_classes_correct_the_matte_and_leave_its_edges():
    person = np.zeros((100, 100), dtype=np.float32)
    person[30:90, 30:70] = 1.0
    probabilities = np.zeros((100, 100, 6), dtype=np.float32)
    probabilities[..., 0], probabilities[..., 1] = 1.0 - person, person
    alpha = person.copy()
    alpha[50, 50] = 0.0  # a hole in the person
    alpha[5:10, 5:10] = 1.0  # a clock on the wall
    alpha[60, 28] = 0.5  # a hair
    fused = fuse(alpha, probabilities)
    assert (fused[50, 50], fused[7, 7], fused[60, 28]) == (1.0, 0.0, 0.5)


def test_the_aligned_face_has_its_pupils_at_the_identity_network_s_positions(networks, lake, lake_face):
    crop = align(lake, lake_face.points)
    assert crop.shape == (112, 112, 3)
    face = networks.landmarker.locate(cv2.resize(crop, (448, 448)))
    assert face is not None
    pupils = face.points[[468, 473], :2] / 4
    np.testing.assert_allclose(pupils, [[38.8, 52.2], [74.0, 52.0]], atol=3.0)


def test_a_face_is_told_from_another_whatever_its_size_and_turn_in_the_picture(networks, examples, lake, lake_face):
    def identity(image: np.ndarray) -> np.ndarray:
        face = networks.landmarker.locate(image)
        assert face is not None
        return networks.identity.embed(image, face.points)

    here = networks.identity.embed(lake, lake_face.points)
    assert here.shape == (128,)
    assert here.dtype == np.float32
    assert np.linalg.norm(here) == pytest.approx(1.0, abs=1e-5)
    turned = cv2.warpAffine(lake, cv2.getRotationMatrix2D((640.0, 426.0), 25, 0.5), (1280, 853))
    assert here @ identity(turned) > 0.9
    assert here @ identity(np.ascontiguousarray(lake[:, ::-1])) > 0.8
    for other in ("street.jpg", "astronaut.png"):
        assert here @ identity(read_image(examples / "portraits" / other)) < SAME_PERSON


def test_the_identity_network_needs_the_dense_landmarks(networks, lake, lake_face):
    with pytest.raises(InputError, match="478 landmarks"):
        networks.identity.embed(lake, lake_face.points[:68])


def test_a_wrong_picture_type_is_refused(networks):
    with pytest.raises(InputError, match=r"must be \(H, W, 3\) uint8"):
        networks.landmarker.detect(np.zeros((64, 64, 3), dtype=np.float32))


def test_missing_and_damaged_network_files_are_named(tmp_path, lake):
    with pytest.raises(MissingAssetError, match=r"face_landmarker\.task is missing"):
        FaceLandmarker(tmp_path).detect(lake)
    (tmp_path / "networks").mkdir()
    (tmp_path / "networks" / "face_landmarker.task").write_bytes(b"no zip")
    with pytest.raises(FormatError, match=r"face_landmarker\.task is damaged"):
        FaceLandmarker(tmp_path).detect(lake)
    (tmp_path / "networks" / "modnet.onnx").write_bytes(b"no graph")
    with pytest.raises(FormatError, match=r"modnet\.onnx is damaged"):
        Networks(tmp_path).matting(lake)


def test_the_other_landmark_backend_is_optional_and_says_so(monkeypatch, lake):
    with pytest.raises(InputError, match="no landmark backend 'dlib'"):
        FaceLandmarker(landmarks_backend="dlib")
    monkeypatch.setitem(sys.modules, "face_alignment", None)  # as if it were not installed
    with pytest.raises(MissingAssetError, match="pip install face-alignment"):
        FaceLandmarker(landmarks_backend="face-alignment").locate(lake)


def test_nearly_all_studio_photos_are_tracked(networks, shared_data):
    photos = sorted((shared_data / "photos").glob("london_*.jpg"))[::6]
    found = [networks.landmarker.locate(read_image(photo)) for photo in photos]
    assert sum(face is not None for face in found) >= 0.98 * len(photos)


def test_studio_portraits_of_one_person_are_alike_and_of_two_are_not(networks, shared_data):
    def identities(kind: str) -> np.ndarray:
        vectors = []
        for photo in sorted((shared_data / "photos").glob(f"london_*_{kind}.jpg"))[::9]:
            image = read_image(photo)
            vectors.append(networks.identity.embed(image, networks.landmarker.locate(image).points))
        return np.stack(vectors)

    cosines = identities("neutral") @ identities("smiling").T
    assert np.diag(cosines).min() > 0.8
    assert cosines[~np.eye(len(cosines), dtype=bool)].max() < 0.5
