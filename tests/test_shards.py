"""Shards: their contents; people with faults are skipped and reported."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spatialavatar import cli
from spatialavatar.errors import FormatError, InputError
from spatialavatar.evaluation.datasets import Calibration, Clip, Recording
from spatialavatar.media import VideoReader, VideoWriter
from spatialavatar.records import Camera, FrameQuality
from spatialavatar.training import preparation
from spatialavatar.training.preparation import SKIPPED, Selection, ShardConfig, make_shards
from spatialavatar.training.shards import People, Shard, View, write_person

from .support.shards import HEAD, ball_track, write_shard

SIZE = 512


def test_a_person_survives_a_shard(tmp_path):
    track = ball_track()
    shard = Shard(write_shard(tmp_path, ann=[ball_track(5)], bob=[track, track]))
    assert shard.keys() == ["ann", "bob"]
    facts, tracks = shard.tracks("bob")
    assert (facts["name"], facts["kind"], [len(t) for t in tracks]) == ("bob", "cameras", [3, 3])
    view = shard.view("bob", View(1, 2))
    assert torch.equal(view.params.expression, track.params.expression[2:])
    assert torch.equal(view.evidence.landmarks, track.evidence.landmarks[2:])
    assert torch.equal(view.pictures.mattes, track.pictures.mattes[2:])
    assert torch.equal(view.pictures.segments, track.pictures.segments[2:])
    assert (view.pictures.images.int() - track.pictures.images[2:].int()).abs().max() < 8  # a JPEG
    assert torch.equal(view.camera.intrinsics, track.camera.intrinsics)


def test_a_shard_is_what_webdataset_reads(tmp_path):
    with tarfile.open(write_shard(tmp_path, ann=[ball_track(2)])) as archive:
        names = archive.getnames()
    assert names[:2] == ["ann.json", "ann.0.track.safetensors"]
    assert {name.partition(".")[0] for name in names} == {"ann"}
    assert "ann.0.0001.image.jpg" in names


def test_a_name_with_dots_stays_one_sample(tmp_path):
    write_person(tmp_path / "a.tar", "M003.front/1", "video", [ball_track()])
    assert Shard(tmp_path / "a.tar").keys() == ["M003_front_1"]


@pytest.mark.parametrize(
    ("track", "reason"),
    [
        (ball_track(head_id="flame2020"), "head model"),
        (ball_track(1), "seen in only 1 picture"),
        (ball_track(confidence=torch.tensor([1.0, torch.nan, 1.0])), "not finite"),
        (ball_track(params=ball_track().params.replace(shape=torch.full((3,), torch.nan))), "not finite"),
    ],
    ids=["head", "one frame", "nan", "nan identity"],
)
def test_whom_training_cannot_use_is_left_out_with_a_reason(tmp_path, track, reason):
    write_shard(tmp_path, ann=[ball_track()], bob=[track])
    people = People([tmp_path], "ball")
    assert [person.name for person in people.people] == ["ann"]
    assert len(people.skipped) == 1
    (name,) = people.skipped
    assert name.endswith("shard-00000.tar: bob")
    assert reason in people.skipped[name]


def test_a_cut_shard_is_left_out_with_a_reason_and_a_cut_picture_is_refused(tmp_path):
    write_shard(tmp_path, 0, ann=[ball_track()])
    broken = write_shard(tmp_path, 1, bob=[ball_track()])
    broken.write_bytes(b"no tar file at all" * 40)
    assert list(People([tmp_path], "ball").skipped) == [str(broken)]
    whole = write_shard(tmp_path, 1, bob=[ball_track()])
    people = People([tmp_path], "ball")
    whole.write_bytes(whole.read_bytes()[:-11_000])
    with pytest.raises(FormatError, match=r"cut off|damaged"):
        people.view(people.people[1], View(0, 2))


def test_nobody_to_train_on_is_an_error_that_says_why(tmp_path):
    with pytest.raises(InputError, match="spatialavatar shards"):
        People([tmp_path], "ball")
    write_shard(tmp_path, ann=[ball_track(1)])
    with pytest.raises(InputError, match="only 1 picture"):
        People([tmp_path], "ball")


# -- the stage --------------------------------------------------------------------------------------------------------


@pytest.fixture
def tracked(monkeypatch) -> list[str]:
    """A tracker without networks: a frame shows a face if its picture is bright. Lists what it was given."""
    seen: list[str] = []

    def track_video(reader, head, *, shape=None, max_frames=None, networks=None, progress=None):
        seen.append(reader.path.name)
        bright = torch.tensor([float(frame.mean() > 80) for frame in reader])
        if not bright.any():
            raise InputError(f"No face was found in {reader.path.name}.")
        count = len(bright)
        zero = torch.zeros(count)
        track = ball_track(count).with_motion(confidence=bright).without_pictures()
        quality = FrameQuality(zero.byte(), zero, bright, zero, zero, zero.int(), torch.zeros(2))
        return track.replace(
            crop=torch.tensor([[0.0, 0.0, 64.0, 64.0]]).expand(count, 4),
            evidence=track.evidence.replace(quality=quality),
        )

    whole = np.full((SIZE, SIZE), 255, np.uint8)
    monkeypatch.setattr(preparation, "track_video", track_video)
    monkeypatch.setattr("spatialavatar.evaluation.cutting.separate", lambda *_: (whole, np.full_like(whole, 3)))
    return seen


def write_clip(path: Path, brightness: list[int]) -> None:
    with VideoWriter(path, (64, 64), 25.0) as writer:
        for value in brightness:
            writer.write(np.full((64, 64, 3), value, np.uint8))


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two good clips, an unreadable one, one without a face, one with a face in one frame only."""
    folder = tmp_path / "clips"
    folder.mkdir()
    write_clip(folder / "a.mp4", [200] * 6)
    (folder / "b.mp4").write_bytes(b"not a video")
    write_clip(folder / "c.mp4", [0] * 5)
    write_clip(folder / "d.mp4", [0, 0, 200, 0])
    write_clip(folder / "e.mp4", [0, 150, 160, 0, 170])
    return folder


def test_bad_clips_are_skipped_with_a_count_and_a_reason_file(clips, tracked, tmp_path):
    made = make_shards(clips, tmp_path / "out", HEAD, ShardConfig(frames=3, per_shard=2))
    assert (made.people, made.missing) == (2, 0)
    reasons = json.loads((tmp_path / "out" / SKIPPED).read_text())
    assert reasons == made.skipped
    assert list(reasons) == ["b", "c", "d"]
    assert "b.mp4" in reasons["b"]
    assert "No face" in reasons["c"]
    assert "1 of 4 frames" in reasons["d"]
    people = People([tmp_path / "out"], "ball")
    assert [(p.name, p.frames) for p in people.people] == [("a", (3,)), ("e", (3,))]
    dark = people.view(people.people[1], View(0, 0)).pictures.images.float().mean()
    assert float(dark) == pytest.approx(150, abs=4)  # frames without a face are not kept


def test_an_interrupted_run_goes_on_where_it_was(clips, tracked, tmp_path, monkeypatch):
    write = preparation.write_person

    def until_e(path, name, *rest):
        if name == "e":
            raise KeyboardInterrupt
        write(path, name, *rest)

    monkeypatch.setattr(preparation, "write_person", until_e)
    with pytest.raises(KeyboardInterrupt):
        make_shards(clips, tmp_path / "out", HEAD)
    assert tracked == ["a.mp4", "c.mp4", "d.mp4", "e.mp4"]
    assert not list((tmp_path / "out").glob("*.tar"))
    monkeypatch.setattr(preparation, "write_person", write)
    made = make_shards(clips, tmp_path / "out", HEAD)
    assert tracked[4:] == ["e.mp4"]
    assert (made.people, sorted(made.skipped)) == (2, ["b", "c", "d"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "shard-00000.json",
        "shard-00000.tar",
        "shards.json",
        "skipped.json",
    ]
    make_shards(clips, tmp_path / "out", HEAD)
    assert tracked[5:] == []


def test_machines_share_the_work_and_the_last_one_sums_up(clips, tracked, tmp_path):
    config = ShardConfig(per_shard=2)
    first = make_shards(clips, tmp_path / "out", HEAD, config, Selection(part=(1, 2)))
    assert (first.people, first.missing, tracked) == (2, 1, ["a.mp4", "e.mp4"])
    second = make_shards(clips, tmp_path / "out", HEAD, config, Selection(part=(2, 2)))
    assert (second.people, second.missing, tracked[2:]) == (2, 0, ["c.mp4", "d.mp4"])
    assert list(second.skipped) == ["b", "c", "d"]


def test_a_folder_of_shards_is_not_gone_on_with_in_another_way(clips, tracked, tmp_path):
    make_shards(clips, tmp_path / "out", HEAD)
    with pytest.raises(InputError, match="choose another folder"):
        make_shards(clips, tmp_path / "out", HEAD, ShardConfig(frames=5))
    with pytest.raises(InputError, match="no part 3 of 2"):
        make_shards(clips, tmp_path / "out", HEAD, selection=Selection(part=(3, 2)))


def test_the_command_says_how_many_were_skipped(clips, tracked, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("spatialavatar.avatar.default_head", lambda: HEAD)
    assert cli.main(["shards", str(clips), "--out", str(tmp_path / "out"), "--json"]) == 0
    output = capsys.readouterr()
    assert "2 people in 1 shards, 3 skipped." in output.err
    assert json.loads(output.out)["people"] == 2


def test_photos_of_a_person_share_a_shape_and_single_ones_are_people_too(tmp_path, examples, monkeypatch):
    whole = np.full((SIZE, SIZE), 255, np.uint8)
    monkeypatch.setattr("spatialavatar.tracking.photos.separate", lambda *_: (whole, np.full_like(whole, 3)))
    folder = tmp_path / "photos"
    folder.mkdir()
    frames = list(VideoReader(examples / "clips" / "moods.mp4", max_side=512))
    shown = {"ann_calm": frames[0], "ann_smile": frames[40], "ann_wall": frames[0] * 0, "bob": frames[9]}
    for name, frame in shown.items():
        Image.fromarray(frame).save(folder / f"{name}.jpg")
    from spatialavatar.avatar import default_head

    made = make_shards(folder, tmp_path / "out", default_head(), ShardConfig(photos=True))
    assert (made.people, made.skipped) == (2, {})
    people = People([tmp_path / "out"], default_head().id, least=1).people
    assert [(p.name, p.kind, p.frames) for p in people] == [("ann", "photos", (1, 1)), ("bob", "photos", (1,))]
    _, tracks = Shard(made.paths[0]).tracks("ann")
    assert torch.equal(tracks[0].params.shape, tracks[1].params.shape)
    assert any("ann_wall" in warning for warning in tracks[0].warnings)


def test_cameras_of_a_rig_see_one_head_from_where_they_stand(tmp_path, tracked, monkeypatch):
    """Three cameras around a ball; the third one's file ends too early and is left out with a sentence."""
    recordings = []
    for number, (degrees, count) in enumerate(((0, 4), (40, 4), (-30, 2))):
        write_clip(tmp_path / f"cam_{number}.mp4", [200] * count)
        turn = np.deg2rad(degrees)
        pose = np.eye(4)  # world to camera: the world is the first camera's, the head 0.7 m before it
        pose[:3, :3] = [[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]]
        pose[:3, 3] = np.array([0, 0, 0.7]) - pose[:3, :3] @ np.array([0, 0, 0.7])
        calibration = Calibration(np.array([[70.0, 0, 32], [0, 70, 32], [0, 0, 1]]), pose)
        recordings.append(Recording(tmp_path / f"cam_{number}.mp4", str(number), calibration=calibration))

    def posed(recording, shape, head, networks, progress, max_frames):
        track = preparation.track_video(recording.open(), head)
        return track, track.params

    points = HEAD.template[::4].unsqueeze(0)
    monkeypatch.setattr(preparation, "posed_by_calibration", posed)
    monkeypatch.setattr(preparation, "metric_scale", lambda *_: 1.0)
    monkeypatch.setattr(
        preparation,
        "landmarks_in",
        lambda calibration, world, head, params: (
            Camera(torch.from_numpy(calibration.intrinsics).float(), world, 1, 1)
            .project(points + params.translation[:, None])
            .numpy()
        ),
    )
    kind, tracks = preparation.tracks_of(Clip("rig", tuple(recordings)), HEAD, ShardConfig(frames=3), None)
    assert (kind, len(tracks)) == ("cameras", 2)
    assert "Camera 2 ends after" in tracks[0].warnings[-1]
    write_person(tmp_path / "shard-00000.tar", "rig", kind, tracks)
    (person,) = People([tmp_path], "ball").people
    assert person.frames == (3, 3)
    cosine = float(person.directions[0] @ person.directions[3])
    assert cosine == pytest.approx(np.cos(np.deg2rad(40)), abs=1e-4)
    for track in tracks:  # the ball lies in the middle of each crop
        centre = track.camera.project(track.params.translation)
        assert (centre - SIZE / 2).abs().max() < 0.15 * SIZE
