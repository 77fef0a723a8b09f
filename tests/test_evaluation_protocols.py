"""What each protocol makes from what and measures against what, on the example photos and clip."""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from spatialavatar.errors import InputError, NoFaceError
from spatialavatar.evaluation import cutting
from spatialavatar.evaluation.comparison import Comparison, ComparisonFiles, RenderedFrame, TargetFrame
from spatialavatar.evaluation.datasets import Clip, Recording, read_clips
from spatialavatar.evaluation.evaluator import Evaluator, head_region, without_beyond
from spatialavatar.evaluation.protocols import Bench, BenchConfig, chosen_frame, held_out_from, measure
from spatialavatar.evaluation.protocols.chosen_frame import FrameCandidates
from spatialavatar.evaluation.protocols.expressive import choose_expressive, neutral_distance
from spatialavatar.evaluation.protocols.turned import choose_turned
from spatialavatar.media import VideoReader, read_image
from spatialavatar.pipeline import default_model
from spatialavatar.progress import no_progress
from spatialavatar.records import Camera, Evidence, FrameQuality, HeadMotion, HeadParams, Track
from spatialavatar.tracking import framing, track_photo
from spatialavatar.tracking.framing import CROP_SIZE, Crop
from spatialavatar.tracking.networks import Networks

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture(scope="module")
def networks() -> Networks:
    return Networks(threads=2)


@pytest.fixture
def quick_mattes(monkeypatch):
    """Everything is person and face skin: the matting network takes longest."""
    whole = np.full((CROP_SIZE, CROP_SIZE), 255, np.uint8)
    monkeypatch.setattr(cutting, "separate", lambda *_: (whole, np.full_like(whole, 3)))


def bench(networks: Networks, folder: Path, protocol: str, **config: int) -> Bench:
    return Bench(BenchConfig(protocol, **config), default_model(), networks, folder)


def write_pictures(folder: Path, pictures: list[np.ndarray]) -> Clip:
    folder.mkdir(parents=True)
    paths = [folder / f"{index:03d}.png" for index in range(len(pictures))]
    for path, picture in zip(paths, pictures):
        Image.fromarray(picture).save(path)
    return Clip(folder.name, (Recording(tuple(paths)),))


def moods(examples: Path, count: int) -> list[np.ndarray]:
    frames = []
    for frame in VideoReader(examples / "clips" / "moods.mp4"):
        frames.append(frame)
        if len(frames) == count:
            break
    return frames


# -- what counts ------------------------------------------------------------------------------------------------------


def test_the_region_ends_a_fifth_of_the_face_below_the_chin_and_leaves_clothes_out():
    points, segments = np.zeros((478, 2)), np.full((200, 100), 3, np.uint8)
    points[10], points[152] = (50, 40), (50, 140)
    segments[100:, 60:] = 4
    region = head_region(segments, points)
    assert region[:95].all()
    assert region[159, :50].all()
    assert not region[160:].any()
    assert not region[110:, 58:].any()  # and a margin around the clothes


def test_nothing_counts_beyond_the_border_of_the_picture():
    crop = Crop(-64, 32, 512)
    marked = without_beyond(np.full((512, 512), 3, np.uint8), crop, (1000, 480))
    assert (marked[:, :64] == 255).all()
    assert (marked[448:] == 255).all()
    assert (marked[:448, 64:] == 3).all()


def test_both_pictures_are_white_where_nothing_counts(networks, examples):
    lake = read_image(examples / "portraits" / "lake.jpg")
    track = track_photo(lake, default_model().head, networks=networks)
    pixels = (track.pictures.images[0].numpy(), track.pictures.mattes[0].numpy(), track.pictures.segments[0].numpy())
    target = Evaluator(networks).target(*pixels, track.evidence.landmarks[0].numpy())
    outside = target.region == 0
    assert 0.1 < outside.float().mean() < 0.6
    assert (target.image[outside] == 1.0).all()
    assert (target.masked(torch.zeros_like(target.image))[outside] == 1.0).all()
    assert (target.image[5, 5] == 1.0).all()  # background
    assert target.face is not None


def test_a_perfect_render_is_perfect_and_another_persons_is_not(networks, examples, tmp_path):
    head = default_model().head
    pictures = {}
    for name in ("lake.jpg", "street.jpg"):
        pictures[name] = track_photo(read_image(examples / "portraits" / name), head, networks=networks)
    track = pictures["street.jpg"]
    target = Evaluator(networks).target(
        track.pictures.images[0].numpy(),
        track.pictures.mattes[0].numpy(),
        track.pictures.segments[0].numpy(),
        track.evidence.landmarks[0].numpy(),
    )
    swapped = pictures["lake.jpg"].pictures.images[0].float() / 255.0
    with Comparison(Evaluator(networks), head, ComparisonFiles(tmp_path, "street", 0.0)) as comparison:
        renders = {"same": RenderedFrame(target.image, target.person), "swapped": RenderedFrame(swapped)}
        focal = float(track.camera.intrinsics[0, 0])
        comparison.add(TargetFrame("street", target, track.params.shape, focal), renders)
        methods = comparison.finish()["methods"]
    same, other = methods["same"]["means"], methods["swapped"]["means"]
    assert (same["psnr"], same["lpips"], same["akd"]) == (pytest.approx(100.0), 0.0, 0.0)
    assert (same["ssim"], same["ms_ssim"], same["csim"]) == pytest.approx((1.0, 1.0, 1.0), abs=1e-4)
    assert (same["spill"], same["missing"]) == (0.0, 0.0)
    assert "spill" not in other  # the peer's alpha is unknown
    assert (same["aed"], same["apd"]) == (0.0, pytest.approx(0.0, abs=1e-3))
    assert other["csim"] < 0.45
    assert other["aed"] > 0.3  # one smiles, the other does not
    assert other["apd"] > 5.0  # one tilts her head
    assert other["psnr"] < 20.0
    assert (tmp_path / "street.png").is_file()


# -- protocols --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick_mattes")
def test_self_measures_the_frames_after_the_first_but_no_damaged_one(networks, examples, tmp_path):
    clip = write_pictures(tmp_path / "moods", moods(examples, 6))
    clip.pictures[3].write_bytes(b"damaged")
    result = measure(clip, bench(networks, tmp_path, "self", stride=2), [clip], no_progress)
    records = result["methods"]["K = 1"]["frames"]
    assert [record["frame"] for record in records] == [1, 5]
    means = result["methods"]["K = 1"]["means"]
    assert means["csim"] > 0.5
    assert means["akd"] < 6.0
    assert {"psnr", "ssim", "ms_ssim", "lpips", "aed", "apd", "jitter", "aspect", "avatar_seconds"} <= set(means)
    assert any("003.png is not a photo" in note for note in result["notes"])
    assert "1 of 3 target frames cannot be measured." in result["notes"]
    assert (result["frames"], result["source"]) == (6, "frame 0")
    video = VideoReader(tmp_path / "moods.mp4")
    assert (video.size, len(list(video))) == ((1024, 512), 2)
    json.dumps(result)


@pytest.mark.usefixtures("quick_mattes")
def test_self_takes_more_sources_evenly_from_the_clip(networks, examples, tmp_path):
    clip = write_pictures(tmp_path / "moods", moods(examples, 6))
    result = measure(clip, bench(networks, tmp_path, "self", sources=2, stride=2), [clip], no_progress)
    assert result["source"] == "frames 0, 3"
    assert [record["frame"] for record in result["methods"]["K = 2"]["frames"]] == [1, 4]
    blank = write_pictures(tmp_path / "blank", [*moods(examples, 2), *[np.zeros((64, 64, 3), np.uint8)] * 2])
    with pytest.raises(NoFaceError, match="no 2 frames with a face"):
        measure(blank, bench(networks, tmp_path, "self", sources=2), [blank], no_progress)


@pytest.mark.usefixtures("quick_mattes")
def test_cross_keeps_the_sources_identity_and_compares_no_pictures(networks, examples, tmp_path):
    names = ("lake", "street")
    clips = [
        write_pictures(tmp_path / name, [read_image(examples / "portraits" / f"{name}.jpg")] * 2) for name in names
    ]
    result = measure(clips[0], bench(networks, tmp_path, "cross"), clips, no_progress)
    means = result["methods"]["K = 1"]["means"]
    assert result["notes"][0] == "Driven by street."
    assert means["csim"] > 0.5
    assert not {"psnr", "lpips", "akd"} & set(means)
    assert result["methods"]["relative"]["means"]["csim"] > 0.5
    assert not {"aed", "apd", "spill"} & set(result["methods"]["relative"]["means"])  # the camera is the portrait's
    with pytest.raises(InputError, match="needs two clips"):
        measure(clips[0], bench(networks, tmp_path, "cross"), clips[:1], no_progress)


def test_k_source_holds_every_photo_out_once(networks, examples, tmp_path, monkeypatch):
    generate = mock.Mock(side_effect=default_model().generate)
    monkeypatch.setattr(default_model(), "generate", generate)
    lake = read_image(examples / "portraits" / "lake.jpg")
    warm = np.clip(lake * [1.0, 0.9, 0.8], 0, 255).astype(np.uint8)
    clip = write_pictures(tmp_path / "lake", [lake, warm])
    result = measure(clip, bench(networks, tmp_path, "k-source", polish=1), [clip], no_progress)
    assert [call.kwargs["polish"] for call in generate.call_args_list] == [1, 1]
    records = result["methods"]["K = 1"]["frames"]
    assert [record["frame"] for record in records] == ["000.png", "001.png"]
    assert min(record["psnr"] for record in records) > 16.5  # the light's colour is matched
    assert list(result["methods"]) == ["K = 1"]
    with pytest.raises(InputError, match="not a set of 2 to 12 photos"):
        measure(Clip("clip", (Recording(tmp_path / "a.mp4"),)), bench(networks, tmp_path, "k-source"), [], no_progress)


@pytest.mark.usefixtures("quick_mattes")
def test_cross_measures_each_way_of_driving_by_its_expression_transfer(networks, examples, tmp_path):
    frames = moods(examples, 320)
    clips = [
        write_pictures(tmp_path / "astronaut", [read_image(examples / "portraits" / "astronaut.png")]),
        write_pictures(tmp_path / "moods", frames[200:320:15]),  # from calm to a smile
    ]
    result = measure(clips[0], bench(networks, tmp_path, "cross"), clips, no_progress)
    for method in ("K = 1", "relative"):
        smile = result["methods"][method]["transfer"]["smile"]
        assert smile["r"] > 0.8
        assert smile["frames"] == 8
        assert {"transfer_r", "transfer_amplitude", "transfer_mae"} <= set(result["methods"][method]["means"])
    json.dumps(result)


@pytest.mark.usefixtures("quick_mattes")
def test_turned_takes_the_most_turned_frame_and_measures_frames_that_look_elsewhere(networks, examples, tmp_path):
    frames = moods(examples, 400)
    clip = write_pictures(tmp_path / "moods", [*frames[396:400], *frames[14:30:2]])  # 14 and -12 degrees
    result = measure(clip, bench(networks, tmp_path, "turned", stride=100), [clip], no_progress)
    source = int(result["source"].split()[1])
    measured = [record["frame"] for record in result["methods"]["K = 1"]["frames"]]
    assert source < 4
    assert 5 <= len(measured) <= 8  # five at least, at any stride
    assert min(measured) > 3
    assert {"lpips", "csim", "spill", "missing", "jitter"} <= set(result["methods"]["K = 1"]["means"])
    assert result["notes"][0].startswith(f"The source, frame {source}, has a yaw of 1")


def choice_track(yaw: list[float], jaw: list[float] | None = None) -> Track:
    """A track of frames with these turns (degrees) and jaw angles (radians), 25 a second, that rests at zero."""
    count = len(yaw)
    head = default_model().head
    params = HeadParams.neutral(head.shape_count, head.expression_count, count)
    if jaw is not None:
        params.jaw[:, 0] = torch.tensor(jaw)
    zeros = torch.zeros(count)
    quality = FrameQuality(
        state=zeros.byte(),
        error=zeros,
        presence=zeros + 1,
        yaw=torch.tensor(yaw),
        luma=zeros,
        shot=zeros.int(),
        jitter=torch.zeros(2),
    )
    motion = HeadMotion(params, 25.0, head.id, zeros + 1)
    return Track(motion, Camera.frontal(), evidence=Evidence(None, torch.zeros(count, 52), quality))


def all_of(count: int) -> FrameCandidates:
    """All frames of a clip."""
    return FrameCandidates(*[torch.ones(count, dtype=torch.bool)] * 2)


def test_where_a_source_is_refused_the_next_best_frame_away_from_it_is_taken(networks, tmp_path, monkeypatch):
    track = choice_track([44.0, 43.0, 42.0, 41.0, 40.0, 39.0, 38.0, 37.0, *[0.0] * 8])
    tried = []

    def avatar_at(clip, prepared, frame):
        tried.append(frame)
        if frame < refused_below:
            raise NoFaceError(f"Frame {frame} is covered.")
        return SimpleNamespace(avatar=SimpleNamespace(shape=None))

    monkeypatch.setattr(chosen_frame, "track_video", lambda *_, **__: track)
    monkeypatch.setattr(chosen_frame, "avatar_at", avatar_at)
    monkeypatch.setattr(chosen_frame, "compare", lambda clip, prepared, targets, *_: {"frames": targets.frames})
    clip = Clip("clip", (SimpleNamespace(open=lambda: None),))
    refused_below = 1
    result = measure(clip, bench(networks, tmp_path, "turned"), [clip], no_progress)
    assert tried == [0, 6]  # 0.2 seconds are 5 frames
    assert result["frames"] == list(range(8, 16))
    refused_below = 99
    with pytest.raises(NoFaceError, match="Frame 0 is covered"):  # the reason of the best one
        measure(clip, bench(networks, tmp_path, "turned"), [clip], no_progress)


def test_the_turned_source_is_at_most_45_degrees_and_reliable():
    track = choice_track([-60.0, 44.0, 40.0, 10.0, 21.0, 19.0, -5.0, 0.0, 5.0, 10.0])
    reliable = torch.ones(10, dtype=torch.bool)
    reliable[1] = False
    choice = choose_turned("clip", track, FrameCandidates(reliable, reliable))
    assert (choice.source, choice.targets) == (2, [0, 3, 5, 6, 7, 8, 9])


@pytest.mark.parametrize("yaw", [[40.0, 25.0, 22.0, 0.0, 0.0, 0.0, 0.0], [60.0] * 8])
def test_a_clip_that_hardly_turns_is_refused_in_one_sentence(yaw):
    with pytest.raises(InputError, match=r"In clip, \d frames are turned 20 degrees away .* needs 5\.$"):
        choose_turned("clip", choice_track(yaw), all_of(len(yaw)))


def test_the_expressive_source_is_farthest_from_neutral_and_its_targets_are_calmer_and_not_beside_it():
    jaw = [0.0] * 30
    jaw[3], jaw[12], jaw[20] = 0.9, 1.0, 0.69  # the first is turned away
    track = choice_track([60.0 if index == 3 else 0.0 for index in range(30)], jaw)
    choice = choose_expressive("clip", track, all_of(30), default_model().head)
    assert choice.source == 12
    assert choice.targets == [0, 1, 2, 4, *range(20, 30)]


def test_a_blink_is_no_expression():
    head = default_model().head
    track = choice_track([0.0] * 3)
    lids = [head.expressions.index(name) for name in ("eyeBlinkLeft", "eyeBlinkRight")]
    track.params.expression[1, lids] = 1.0
    track.params.expression[2, head.expressions.index("mouthFunnel")] = 0.5
    assert neutral_distance(track, head).tolist() == pytest.approx([0.0, 0.0, 0.5])


@pytest.mark.parametrize(("jaw", "reason"), [(0.3, "1.8 units from neutral"), (1.0, "3 frames are calmer")])
def test_a_clip_without_a_strong_expression_or_calm_frames_is_refused_in_one_sentence(jaw, reason):
    track = choice_track([0.0] * 11, [0.0] * 3 + [0.9 * jaw] * 7 + [jaw])
    with pytest.raises(InputError, match=f"{reason}.*needs [45]"):
        choose_expressive("clip", track, all_of(11), default_model().head)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_mattes")
def test_expressive_takes_the_strongest_expression_and_measures_calm_frames(networks, examples, tmp_path):
    frames = moods(examples, 320)
    clip = write_pictures(tmp_path / "moods", [*frames[200:230:2], *frames[305:320:3]])  # calm, then a smile
    result = measure(clip, bench(networks, tmp_path, "expressive", stride=100), [clip], no_progress)
    source = int(result["source"].split()[1])
    measured = [record["frame"] for record in result["methods"]["K = 1"]["frames"]]
    assert source >= 15
    assert len(measured) >= 5
    assert max(measured) < 15


@pytest.mark.parametrize(("count", "own", "expected"), [(2000, None, 1650), (500, None, 400), (2000, 100, 100)])
def test_what_is_held_out(count, own, expected):
    assert held_out_from(Clip("clip", (), held_out_from=own), count) == expected


@pytest.mark.slow
@pytest.mark.usefixtures("quick_mattes")
def test_refined_learns_from_the_first_part_and_is_measured_on_the_rest(networks, examples, tmp_path):
    clip = write_pictures(tmp_path / "moods", moods(examples, 12))
    config = {"iterations": 60, "stride": 2, "train_frames": 8}
    result = measure(clip, bench(networks, tmp_path, "refined", **config), [clip], no_progress)
    assert list(result["methods"]) == ["K = 1", "refined"]
    for method in result["methods"].values():
        assert [record["frame"] for record in method["frames"]] == [10]
    before, after = (result["methods"][name]["means"] for name in ("K = 1", "refined"))
    assert after["psnr"] > before["psnr"]
    assert after["avatar_seconds"] > before["avatar_seconds"]
    assert result["notes"][-1] == "Held out: frames 10 to 11; refined on 8 of the 10 before them, 60 steps."


@pytest.mark.slow
def test_multi_view_finds_the_head_by_calibration_in_cameras_it_has_not_seen(networks, examples, tmp_path):
    """Pictures rendered by known cameras, whose distances are written down a quarter too large."""
    lake = track_photo(read_image(examples / "portraits" / "lake.jpg"), default_model().head, networks=networks)
    avatar = default_model().generate(lake, polish=0)
    centre = lake.params.translation[0].numpy()
    frames = []
    for index, yaw in enumerate((0.0, 18.0, -14.0)):
        turn, _ = cv2.Rodrigues(np.array([0.0, math.radians(yaw), 0.0]))
        pose = np.eye(4)  # camera to world, looking along -z, turned about the head
        pose[:3, :3] = turn
        pose[:3, 3] = centre + turn @ -centre
        world_to_camera = np.diag([1.0, -1.0, -1.0, 1.0]) @ np.linalg.inv(pose)
        intrinsics = np.array([[1000.0, 0.0, 300.0], [0.0, 1000.0, 280.0], [0.0, 0.0, 1.0]])
        camera = Camera(torch.from_numpy(intrinsics).float(), torch.from_numpy(world_to_camera).float(), 600, 560)
        image, _ = avatar.render(lake.params, camera, torch.tensor([0.5, 0.6, 0.5]))
        pose[:3, 3] *= 1.25
        for step in range(2):
            name = f"images/{step:05d}_{index:02d}.png"
            (tmp_path / "set" / "306" / "images").mkdir(parents=True, exist_ok=True)
            Image.fromarray((image.clamp(0, 1) * 255).byte().numpy()).save(tmp_path / "set" / "306" / name)
            focal = {"fl_x": 1000.0, "fl_y": 1000.0, "cx": 300.0, "cy": 280.0}
            place = {
                "file_path": name,
                "timestep_index": step,
                "camera_index": index,
                "transform_matrix": pose.tolist(),
            }
            frames.append(place | focal)
    for part, chosen in (("train", [f for f in frames if f["camera_index"] == 0]), ("val", frames)):
        (tmp_path / "set" / "306" / f"transforms_{part}.json").write_text(json.dumps({"frames": chosen}))
    (clip,) = read_clips(tmp_path / "set")
    result = measure(clip, bench(networks, tmp_path, "multi-view", stride=2), [clip], no_progress)
    assert [record["frame"] for record in result["methods"]["K = 1"]["frames"]] == ["1/0", "2/0"]
    note = result["notes"][-1]
    assert "Source: 0; targets: 1, 2." in note
    scale = float(note.split("multiplied by ")[1].split(",")[0])
    assert scale == pytest.approx(0.8, rel=0.1)
    means = result["methods"]["K = 1"]["means"]
    assert means["akd"] < 6.0
    assert means["apd"] < 5.0


def test_a_clip_of_which_nothing_is_readable_says_why(networks, tmp_path):
    prepared = bench(networks, tmp_path, "self")
    with pytest.raises(InputError, match="laid out in no known way"):
        measure(Clip("x", (), notes=("The folder x is laid out in no known way.",)), prepared, [], no_progress)
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(InputError, match=r"broken\.mp4 is not a video"):
        measure(Clip("broken", (Recording(path),)), prepared, [], no_progress)


def test_a_clip_without_a_face_is_refused(networks, tmp_path):
    clip = write_pictures(tmp_path / "grey", [np.full((96, 96, 3), 128, np.uint8)] * 3)
    with pytest.raises(NoFaceError, match="show no usable face"):
        measure(clip, bench(networks, tmp_path, "self"), [clip], no_progress)


def test_peers_renders_are_paired_by_name_and_measured_alike(examples, tmp_path, capsys):
    """A perfect peer, and one that lags a frame behind and lacks one picture."""
    spec = importlib.util.spec_from_file_location("peer_compare", SCRIPTS / "peer_compare.py")
    peer_compare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer_compare)
    frames = moods(examples, 4)
    write_pictures(tmp_path / "truth", frames)
    write_pictures(tmp_path / "perfect", frames)
    late = write_pictures(tmp_path / "late", [cv2.resize(frame, None, fx=0.5, fy=0.5) for frame in frames])
    late.pictures[3].unlink()
    line = [str(tmp_path / "truth"), f"perfect={tmp_path / 'perfect'}", f"late={tmp_path / 'late'}"]
    options = ["--out", str(tmp_path / "out"), "--stride", "2", "--cut-out"]
    assert peer_compare.main([*line, *options]) == 0
    results = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert "1 pictures are not in every folder" in results["notes"][0]
    perfect, late_means = (results["methods"][name]["means"] for name in ("perfect", "late"))
    assert perfect["psnr"] > 60.0 > late_means["psnr"]
    assert perfect["csim"] > late_means["csim"]
    assert "| perfect |" in capsys.readouterr().out
    assert peer_compare.main([str(tmp_path / "none"), "a=b"]) == 1


def test_where_mattes_are_published_the_matting_network_is_not_asked(tmp_path):
    """A segmenter that calls the left half background and the right half face skin."""

    class Segmenter:
        def __call__(self, wide: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
            probabilities = np.zeros((*wide.shape[:2], 6), np.float32)
            probabilities[:, : wide.shape[1] // 2, 0] = probabilities[:, wide.shape[1] // 2 :, 3] = 1.0
            return probabilities

    networks = SimpleNamespace(segmenter=Segmenter(), matting=lambda *_: pytest.fail("the matte was at hand"))
    picture = np.full((64, 64, 3), 90, np.uint8)
    recording = write_pictures(tmp_path / "clip", [picture] * 2).recordings[0]
    mattes = write_pictures(tmp_path / "mattes", [np.full((64, 64), 200, np.uint8)] * 2).pictures
    crop = Crop(0, 0, 64)
    for _, _, matte, classes in cutting.cut_frames(
        replace(recording, mattes=mattes), [0, 1], lambda _: crop, networks, no_progress
    ):
        assert (matte == 200).all()
        assert (classes[:, : CROP_SIZE // 2] == 0).all()
        assert (classes[:, CROP_SIZE // 2 :] == 3).all()
    both = SimpleNamespace(segmenter=Segmenter(), matting=lambda wide, _: np.ones(wide.shape[:2], np.float32))
    assert (framing.separate(picture, crop, both)[1] == framing.classes_of(picture, crop, networks)).all()
