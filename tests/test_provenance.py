"""Synthetic outputs are marked as synthetic where common tools look; other files are not."""

from __future__ import annotations

import json
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from spatialavatar import __version__, provenance
from spatialavatar.avatar import Avatar
from spatialavatar.driving import DriveConfig, drive
from spatialavatar.export import save_html, save_ply
from spatialavatar.media import VideoReader, VideoWriter, ffmpeg_program
from spatialavatar.motion import Motion

from .support.avatars import make_ball_avatar

STILL = Motion(torch.zeros(3, 52), torch.zeros(3, 3), torch.zeros(3, 3), 25.0)


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return make_ball_avatar()


@pytest.fixture(scope="module")
def video(avatar: Avatar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("drive") / "out.mp4"
    drive(avatar, STILL.to_track(avatar.head), out, DriveConfig(size=64, smoothing=0.0))
    return out


def tags_of(video: Path) -> str:
    """The metadata that ffmpeg reads out of a video, XMP included."""
    command = [ffmpeg_program(), "-v", "error", "-export_xmp", "1", "-i", str(video), "-f", "ffmetadata", "-"]
    if video.suffix == ".mkv":
        del command[3:5]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.replace("\\", "")


def test_a_driven_video_says_so_in_its_tags(video: Path) -> None:
    assert f"comment={provenance.STATEMENT}" in tags_of(video)
    assert __version__ in provenance.STATEMENT


def test_a_driven_video_carries_the_source_type_as_xmp(video: Path) -> None:
    (xmp,) = (line for line in tags_of(video).splitlines() if line.startswith("xmp="))
    assert f"<Iptc4xmpExt:DigitalSourceType>{provenance.SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>" in xmp


def test_a_tagged_video_is_still_read_whole(video: Path) -> None:
    assert len(list(VideoReader(video))) == 3


@pytest.mark.parametrize("name", ["out.mkv", "out.mov", "out.m4v"])
def test_every_container_says_so(tmp_path: Path, name: str) -> None:
    with VideoWriter(tmp_path / name, (32, 32), 25.0, synthetic=True) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
    assert provenance.STATEMENT in tags_of(tmp_path / name)


def test_the_tags_are_kept_beside_the_drivers_sound_and_its_tags_are_not(tmp_path: Path) -> None:
    sound = tmp_path / "sound.m4a"
    tone = ["-f", "lavfi", "-i", "sine=duration=0.2", "-c:a", "aac", "-metadata", "title=Ann's kitchen", str(sound)]
    subprocess.run([ffmpeg_program(), "-v", "error", *tone], check=True)
    with VideoWriter(tmp_path / "out.mp4", (32, 32), 25.0, audio_from=sound, synthetic=True) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
    tags = tags_of(tmp_path / "out.mp4")
    assert provenance.STATEMENT in tags
    assert provenance.SOURCE_TYPE in tags
    assert "kitchen" not in tags


def test_a_video_of_real_pictures_does_not_claim_to_be_synthetic(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "overlay.mp4", (32, 32), 25.0) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
    assert "synthetic" not in tags_of(tmp_path / "overlay.mp4")


def test_an_avatar_file_says_so_in_its_header(avatar: Avatar, tmp_path: Path) -> None:
    with safe_open(avatar.save(tmp_path / "a.safetensors"), "pt") as file:
        metadata = file.metadata()
    assert metadata["provenance"] == provenance.STATEMENT
    assert metadata["digital_source_type"] == provenance.SOURCE_TYPE


def test_an_avatars_preview_says_so(avatar: Avatar, tmp_path: Path) -> None:
    avatar.save_pretrained(tmp_path)
    with Image.open(tmp_path / "preview.png") as picture:
        assert picture.info["Comment"] == provenance.STATEMENT
        assert provenance.SOURCE_TYPE in picture.info["XML:com.adobe.xmp"]
        assert picture.size == (512, 512)


def test_a_ply_says_so_in_its_comments(avatar: Avatar, tmp_path: Path) -> None:
    header = save_ply(avatar, tmp_path / "a.ply").read_bytes().partition(b"end_header")[0].decode("ascii").splitlines()
    assert {f"comment {line}" for line in provenance.ply_comments()} <= set(header)


class _Records(HTMLParser):
    """The text of a page's scripts, by id."""

    def __init__(self) -> None:
        super().__init__()
        self.id: str | None = None
        self.texts: dict[str | None, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.id = dict(attrs).get("id") if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self.id = None

    def handle_data(self, data: str) -> None:
        self.texts[self.id] = data


def test_a_page_says_so_in_a_block_that_machines_read(avatar: Avatar, tmp_path: Path) -> None:
    parser = _Records()
    parser.feed(save_html(avatar, tmp_path / "a.html").read_text(encoding="utf-8"))
    record = json.loads(parser.texts["provenance"])
    assert record["description"] == provenance.STATEMENT
    assert provenance.SOURCE_TYPE in record["digitalSourceType"]


def test_the_xmp_packet_is_well_formed() -> None:
    import xml.etree.ElementTree as ElementTree

    root = ElementTree.fromstring(provenance._xmp())
    assert any(element.text == provenance.SOURCE_TYPE for element in root.iter())


def test_comments_for_a_ply_are_single_lines() -> None:
    lines = provenance.ply_comments()
    assert provenance.STATEMENT in lines
    assert all(line.isascii() and "\n" not in line for line in lines)


@pytest.mark.parametrize("grey", [0, 128, 255])
@pytest.mark.parametrize("size", [256, 512, 1024])
def test_the_mark_is_small_and_stands_out_from_any_background(size: int, grey: int) -> None:
    frame = np.full((size, size, 3), grey, np.uint8)
    out = provenance.marked(frame)
    corner = out[-size // 8 :, -size // 2 :].astype(int)
    changed = (out != frame).any(-1)
    assert changed.mean() < 0.025
    assert not changed[: -size // 8].any()
    assert corner.max() >= 250  # the letters
    backing = np.median(corner[(corner != grey).any(-1)]) if grey else 0
    assert backing < 140  # what they stand on
    assert (frame == grey).all()


def test_the_mark_fits_into_a_tiny_frame() -> None:
    assert provenance.marked(np.zeros((16, 24, 3), np.uint8)).shape == (16, 24, 3)


def test_a_video_is_marked_only_when_asked_to(avatar: Avatar, tmp_path: Path) -> None:
    track = STILL.to_track(avatar.head)
    for name, mark in (("plain.mp4", False), ("marked.mp4", True)):
        drive(avatar, track, tmp_path / name, DriveConfig(size=128, smoothing=0.0, mark=mark))
    plain, marked = (next(iter(VideoReader(tmp_path / name))) for name in ("plain.mp4", "marked.mp4"))
    assert plain[-16:, -20:].min() > 200  # white, where no head is
    assert marked[-16:, -20:].min() < 160
