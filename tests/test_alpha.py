"""Videos with transparency: what ffmpeg and a browser read in them."""

from __future__ import annotations

import base64
import subprocess
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from spatialavatar.errors import InputError, OutputError
from spatialavatar.media import VideoReader, alpha_writer, ffmpeg_program, has_sound
from spatialavatar.provenance import STATEMENT, marked

from .support.chromium import PATIENCE, needs_chromium
from .support.videos import make_video

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SIZE = (64, 64)


def frames(count: int = 4) -> list[np.ndarray]:
    """A half-transparent orange block beside an opaque one, over nothing."""
    frame = np.zeros((SIZE[1], SIZE[0], 4), np.uint8)
    frame[..., :3] = (230, 120, 40)
    frame[8:40, 16:32, 3] = 255
    frame[8:40, 32:48, 3] = 128
    return [frame] * count


def written(path: Path, **options: object) -> Path:
    with alpha_writer(path, SIZE, 25.0, **options) as writer:  # type: ignore[arg-type]
        for frame in frames():
            writer.write(frame)
    return path


def decoded(path: Path) -> np.ndarray:
    """(T, H, W, 4) as ffmpeg reads the file."""
    decoder = ["-c:v", "libvpx-vp9"] if path.suffix == ".webm" else []
    command = [ffmpeg_program(), "-v", "error", *decoder, "-i", str(path), "-pix_fmt", "rgba", "-f", "rawvideo", "-"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, SIZE[1], SIZE[0], 4)


@pytest.mark.parametrize("name", ["out.webm", "out.mov"])
def test_ffmpeg_reads_the_alpha_and_the_colours(tmp_path: Path, name: str):
    read = decoded(written(tmp_path / name)).astype(int)
    assert len(read) == 4
    for frame in read:
        assert np.abs(frame[12:36, 20:28] - [230, 120, 40, 255]).max() <= 6
        assert np.abs(frame[12:36, 36:44] - [230, 120, 40, 128]).max() <= 6
        assert frame[:4, :, 3].max() <= 3


def test_the_formats_are_vp9_and_prores_4444(tmp_path: Path):
    for name, words in (("out.webm", ("vp9", "yuva420p")), ("out.mov", ("prores", "4444", "yuva444p"))):
        path = written(tmp_path / name)
        decoder = ["-c:v", "libvpx-vp9"] if path.suffix == ".webm" else []
        command = [ffmpeg_program(), "-hide_banner", *decoder, "-i", str(path), "-frames:v", "1", "-f", "null", "-"]
        log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        assert all(word in log for word in words)
        assert STATEMENT in log


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_pictures_are_exact_and_marked_as_synthetic(tmp_path: Path, name: str):
    path = written(tmp_path / name)
    if path.suffix:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "unzipped")
        path = tmp_path / "unzipped"
    files = sorted(path.iterdir())
    assert [file.name for file in files] == [f"frame_{number:05d}.png" for number in range(1, 5)]
    with Image.open(files[2]) as picture:
        assert np.array_equal(np.asarray(picture), frames()[2])
        assert picture.text["Comment"] == STATEMENT  # type: ignore[attr-defined]


def test_a_webm_keeps_the_sound(tmp_path: Path):
    source = make_video(tmp_path / "a.mp4", sound=True)
    assert has_sound(written(tmp_path / "out.webm", audio_from=source))
    assert len(list(VideoReader(tmp_path / "out.webm"))) == 4


def test_pictures_warn_that_they_have_no_sound(tmp_path: Path):
    with alpha_writer(tmp_path / "out.zip", SIZE, 25.0, make_video(tmp_path / "a.mp4", sound=True)) as writer:
        writer.write(frames()[0])
    assert "no sound" in writer.warnings[0]


@pytest.mark.parametrize("name", ["out.webm", "out.mov", "out.zip", "out"])
def test_a_failure_half_way_leaves_nothing(tmp_path: Path, name: str):
    def write() -> None:
        with alpha_writer(tmp_path / name, SIZE, 25.0) as writer:
            writer.write(frames()[0])
            writer.write(frames()[0][..., :3])

    with pytest.raises(InputError, match="A frame must be"):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.mp4", "out.gif"])
def test_a_format_without_alpha_is_refused(tmp_path: Path, name: str):
    with pytest.raises(OutputError, match=r"\.webm, \.mov or \.zip"):
        alpha_writer(tmp_path / name, SIZE, 25.0)


def test_a_folder_with_files_is_not_written_over(tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        alpha_writer(tmp_path / "out", SIZE, 25.0)


def test_nothing_is_written_of_no_frame(tmp_path: Path):
    with pytest.raises(OutputError, match="would be empty"), alpha_writer(tmp_path / "out.zip", SIZE, 25.0):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_visible_mark_is_opaque_enough_to_be_seen():
    frame = marked(np.zeros((128, 128, 4), np.uint8))
    assert frame[..., 3].max() == 255
    assert frame[:64, :64].max() == 0


@needs_chromium
def test_a_browser_shows_the_page_through_the_alpha(tmp_path: Path, browser: Browser):
    data = base64.b64encode(written(tmp_path / "out.webm").read_bytes()).decode()
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    pixels = page.evaluate(
        """async (address) => {
            const video = document.createElement("video");
            video.muted = true;
            video.src = address;
            const shown = new Promise((done) => video.requestVideoFrameCallback(done));
            await video.play();
            await shown;
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
            const context = canvas.getContext("2d");
            context.drawImage(video, 0, 0);
            return Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data);
        }""",
        f"data:video/webm;base64,{data}",
    )
    page.close()
    shown = np.array(pixels).reshape(SIZE[1], SIZE[0], 4)
    assert np.abs(shown[24, 24] - [230, 120, 40, 255]).max() <= 10
    assert abs(int(shown[24, 40, 3]) - 128) <= 10
    assert shown[2, 2, 3] <= 4
