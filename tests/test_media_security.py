"""Media files of strangers: nothing but the file is opened, and no more is allocated than the limits allow."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from spatialavatar.errors import InputError
from spatialavatar.media import VideoReader, VideoWriter, ffmpeg_program, inspect_media, read_image
from spatialavatar.media import reader as reader_module
from spatialavatar.media.ffmpeg import run_ffmpeg

from .support.videos import make_video, one_sentence, remux


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a video of somebody else, in the forms that lists refer to."""
    folder = tmp_path_factory.mktemp("private")
    make_video(folder / "x.mp4", sound=True)
    remux(folder / "x.mp4", folder / "x.ts")
    Image.new("RGB", (96, 80)).save(folder / "x001.png")
    return folder


def dash(folder: Path) -> str:
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
        f'bandwidth="1"><BaseURL>file://{folder}/x.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>'
    )


LISTS: dict[str, Callable[[Path], str]] = {
    "DASH manifest": dash,
    "HLS playlist": lambda folder: (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{folder}/x.ts\n#EXT-X-ENDLIST\n"
    ),
    "concat script": lambda folder: f"ffconcat version 1.0\nfile '{folder}/x.mp4'\n",
    "session description": lambda folder: (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 1 RTP/AVP 96\n"
    ),
    "subtitles": lambda folder: "WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n",
    "subtitles with numbers": lambda folder: "1\n00:00:00,000 --> 00:00:01,000\nhello\n",
    "picture list": lambda folder: f"#EXTM3U\nfile://{folder}/x%03d.png\n",
}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("suffix", ["mp4", "txt", "mkv"])
def test_a_list_of_other_files_is_no_video(tmp_path, private, kind, suffix):
    path = tmp_path / f"clip.{suffix}"
    path.write_text(LISTS[kind](private))
    for use in (VideoReader, inspect_media):
        with pytest.raises(InputError, match=r"clip\.\w+ is not a video that can be read") as error:
            use(path)
        assert one_sentence(error)


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_of_other_files_gives_no_sound(tmp_path, private, kind):
    path = tmp_path / "sound.mp4"
    path.write_text(LISTS[kind](private))
    with pytest.raises(InputError, match="is not a video that can be read") as error:
        VideoWriter(tmp_path / "out.mp4", (96, 80), 10, audio_from=path)
    assert one_sentence(error)
    assert [file.name for file in tmp_path.iterdir()] == ["sound.mp4"]


def test_a_name_with_a_number_pattern_opens_only_the_file_of_that_name(tmp_path, private):
    path = tmp_path / "x%03d.png"
    path.write_bytes((private / "x.mp4").read_bytes())
    Image.new("RGB", (64, 64)).save(tmp_path / "x001.png")
    assert VideoReader(path).size == (96, 80)


def test_a_small_file_with_enormous_frames_is_refused_from_its_header(tmp_path):
    path = tmp_path / "a.mkv"
    source = [
        "-f",
        "lavfi",
        "-i",
        "color=size=7000x7000:rate=10:duration=0.1",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
    ]
    subprocess.run([ffmpeg_program(), "-v", "error", *source, str(path)], check=True)
    for use in (inspect_media, VideoReader):
        with pytest.raises(InputError, match="7000 x 7000 pixels, too large") as error:
            use(path)
        assert one_sentence(error)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_a_large_jpeg_decodes_at_a_fraction_whatever_its_mode(tmp_path, monkeypatch, mode):
    Image.new(mode, (8400, 4300), 90 if mode == "L" else None).save(tmp_path / "a.jpg", quality=20)
    decoded = []
    load = JpegImagePlugin.JpegImageFile.load
    monkeypatch.setattr(
        JpegImagePlugin.JpegImageFile, "load", lambda photo: (decoded.append(photo.size), load(photo))[1]
    )
    assert read_image(tmp_path / "a.jpg", max_side=1024).shape == (524, 1024, 3)
    assert decoded[0] == (2100, 1075)


def test_a_long_strip_that_cannot_decode_at_a_fraction_of_its_width_is_drafted_by_its_length(tmp_path, monkeypatch):
    monkeypatch.setattr("spatialavatar.media.photos.MAX_PIXELS", 1_000_000)
    Image.new("L", (20_000, 400), 90).save(tmp_path / "a.jpg", quality=20)
    assert read_image(tmp_path / "a.jpg").shape == (82, 4096, 3)


def test_inspection_decodes_no_frame(tmp_path, monkeypatch):
    """The commands that inspection runs copy packets or read headers."""
    commands: list[list[str]] = []
    popen = subprocess.Popen

    def spy(command, *args, **kwargs):
        commands.append(list(command))
        return popen(command, *args, **kwargs)

    path = make_video(tmp_path / "a.mp4", seconds=1.5, sound=True)
    monkeypatch.setattr(subprocess, "Popen", spy)
    info = inspect_media(path)
    assert (info.kind, info.size, info.frames, info.has_audio) == ("video", (96, 80), 15, True)
    assert info.seconds == pytest.approx(1.5, abs=0.01)
    assert len(commands) == 2
    assert commands[0][-1] == "fd:"  # no output: the header only
    assert commands[1][commands[1].index("-c") + 1] == "copy"
    for command in commands:
        assert command[command.index("-protocol_whitelist") + 1] == "fd"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for ffmpeg")
def test_an_ffmpeg_that_hangs_is_stopped(tmp_path, monkeypatch):
    path = make_video(tmp_path / "a.mp4")
    reader = VideoReader(path)
    with pytest.raises(InputError, match="longer than 0 seconds to open") as error:
        run_ffmpeg(["/bin/sh", "-c", "exec sleep 30"], path, seconds=0.2)
    assert one_sentence(error)
    frame = "P6\\n96 80\\n255\\n"
    script = f"printf '{frame}'; head -c {96 * 80 * 3} /dev/zero; exec sleep 30"
    monkeypatch.setattr(reader, "_command", lambda: ["/bin/sh", "-c", script])
    monkeypatch.setattr(reader_module, "FRAME_SECONDS", 0.5)
    frames = list(reader)
    assert len(frames) == 1
    assert "damaged" in reader.warnings[0]


def test_sound_that_cannot_be_decoded_costs_the_sound_and_not_the_video(tmp_path):
    source = make_video(tmp_path / "a.mp4", sound=True)
    with VideoWriter(tmp_path / "b.mp4", (96, 80), 10, audio_from=source) as writer:
        writer.write(np.zeros((80, 96, 3), np.uint8))
        source.write_bytes(b"")  # between the start and the end
    assert len(writer.warnings) == 1
    assert "the video is silent" in writer.warnings[0]
    assert not VideoReader(tmp_path / "b.mp4").has_audio
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]
