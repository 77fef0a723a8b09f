"""The examples: each file listed, unchanged, and with its licence beside it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from spatialavatar.media import VideoReader, read_image


def rows(repository: Path) -> list[dict[str, object]]:
    return json.loads((repository / "examples" / "MANIFEST.json").read_text(encoding="utf-8"))["files"]


def test_every_photo_and_clip_is_listed(repository: Path, examples: Path) -> None:
    media = {path for kind in ("portraits", "clips") for path in (examples / kind).iterdir() if path.suffix != ".txt"}
    assert {repository / str(row["path"]) for row in rows(repository)} == media


def test_every_listed_file_is_as_it_was_fetched_and_has_its_licence(repository: Path) -> None:
    for row in rows(repository):
        data = (repository / str(row["path"])).read_bytes()
        assert len(data) == row["bytes"], row["path"]
        assert hashlib.sha256(data).hexdigest() == row["sha256"], row["path"]
        assert len((repository / str(row["licence_text"])).read_text(encoding="utf-8")) > 100, row["path"]
        assert row["licence"]
        assert (repository / str(row["script"])).is_file()


@pytest.mark.parametrize("name", ["astronaut.png", "lake.jpg", "street.jpg"])
def test_the_portraits_can_be_read(examples: Path, name: str) -> None:
    assert min(read_image(examples / "portraits" / name).shape[:2]) >= 512


def test_the_clip_has_sound_and_the_frames_it_claims(examples: Path) -> None:
    reader = VideoReader(examples / "clips" / "moods.mp4")
    assert reader.has_audio
    assert reader.size == (640, 360)
    assert abs(reader.frame_count_estimate - 472) <= 2
