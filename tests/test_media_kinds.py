"""Videos of every depth, colour encoding, stream order and timing: the right frames at the right time."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import media as table
from spatialavatar.media import PictureSequence, VideoReader, VideoWriter, ffmpeg_program, inspect_media
from spatialavatar.media.probe import parse_facts

from .support.videos import make_video, remux

SKIN = (198, 144, 110)


def ffmpeg(*arguments: str | Path, data: bytes | None = None) -> None:
    command = [ffmpeg_program(), "-v", "error", "-y", *(str(argument) for argument in arguments)]
    subprocess.run(command, check=True, input=data)


def encode(path: Path, frames: np.ndarray, *options: str, rate: int = 10) -> Path:
    """Encode (T, H, W, 3 or 4) uint8 frames."""
    height, width, channels = frames.shape[1:]
    pixels = "rgb24" if channels == 3 else "rgba"
    source = ["-f", "rawvideo", "-pix_fmt", pixels, "-s", f"{width}x{height}", "-r", str(rate), "-i", "pipe:0"]
    ffmpeg(*source, *options, path, data=frames.tobytes())
    return path


def plain(colour: tuple[int, ...] = SKIN, height: int = 96, width: int = 128, count: int = 3) -> np.ndarray:
    return np.tile(np.asarray(colour, np.uint8), (count, height, width, 1))


def middle(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    return frame[height // 4 : -height // 4, width // 4 : -width // 4].reshape(-1, 3).astype(float).mean(0)


# --- depth, transfer, container, rate, rotation, offset of the sound ------------------------------------------------


@pytest.mark.parametrize(
    "clip", table.sample(17, seed=1), ids=lambda c: f"{c.container}-{c.codec}-{c.depth}-{c.transfer}"
)
def test_colour_duration_and_sound_are_right_in_every_container(tmp_path, clip):
    result = table.measure(clip, tmp_path)
    assert result.skin[0] < 1.5
    assert result.skin[1] < 4.0
    assert result.colour < 2.0
    extra = 1 if clip.container == "avi" else 0  # its muxer stores an empty first frame
    assert (result.frames, result.flash) == (extra, extra)
    assert abs(result.sync) < 0.6


# --- colour tags ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "matrix"), [(720, "bt709"), (360, "bt601")])
def test_a_stream_without_tags_has_the_matrix_of_its_size(tmp_path, height, matrix):
    frames = plain((200, 60, 60), height, height * 16 // 9, 1)
    convert = f"scale=out_color_matrix={matrix}:out_range=tv,format=yuv444p,setparams=colorspace=unknown"
    path = encode(tmp_path / "a.mkv", frames, "-vf", convert, "-c:v", "ffv1")
    assert np.abs(middle(next(iter(VideoReader(path)))) - (200, 60, 60)).max() < 2.0


@pytest.mark.parametrize("signal_range", ["tv", "pc"])
def test_the_range_follows_its_tag(tmp_path, signal_range):
    convert = f"scale=out_color_matrix=bt709:out_range={signal_range},format=yuv444p"
    path = encode(tmp_path / "a.mkv", plain(), "-vf", convert, "-c:v", "ffv1", "-color_range", signal_range)
    assert np.abs(middle(next(iter(VideoReader(path)))) - SKIN).max() < 2.5


def test_wide_primaries_become_those_of_srgb(tmp_path):
    """Display P3, as recordings of Apple's screens have it."""
    light = np.where(np.asarray(SKIN) <= 10, 0, ((np.asarray(SKIN) / 255 + 0.055) / 1.055) ** 2.4)
    wide = np.array([[0.8225, 0.1774, 0.0], [0.0332, 0.9669, 0.0], [0.0171, 0.0724, 0.9108]]) @ light
    p3 = tuple(np.round(255 * (1.055 * wide ** (1 / 2.4) - 0.055)).astype(int).tolist())
    convert = "scale=out_color_matrix=bt709:out_range=tv,format=yuv444p,"
    convert += "setparams=colorspace=bt709:color_primaries=smpte432:color_trc=iec61966-2-1"
    path = encode(tmp_path / "a.mkv", plain(p3), "-vf", convert, "-c:v", "ffv1")
    assert np.abs(middle(next(iter(VideoReader(path)))) - SKIN).max() < 3.0


@pytest.mark.parametrize("pixels", ["gray", "gray10le", "yuv420p12le", "yuv444p16le", "gbrp10le", "rgb48le"])
def test_every_pixel_format_becomes_8_bit_rgb(tmp_path, pixels):
    path = encode(tmp_path / "a.mkv", plain((90, 90, 90)), "-pix_fmt", pixels, "-c:v", "ffv1")
    frame = next(iter(VideoReader(path)))
    assert (frame.shape, frame.dtype) == ((96, 128, 3), np.uint8)
    assert np.abs(middle(frame) - 90).max() < 2.0


@pytest.mark.parametrize(
    ("name", "options"), [("a.webm", ("libvpx-vp9", "yuva420p")), ("a.mov", ("prores_ks", "yuva444p10le"))]
)
def test_transparency_of_a_video_is_laid_over_white(tmp_path, name, options):
    frames = np.concatenate([plain(), np.zeros((3, 96, 128, 1), np.uint8)], axis=-1)
    frames[:, :, 64:, 3] = 255
    path = encode(tmp_path / name, frames, "-c:v", options[0], "-pix_fmt", options[1])
    frame = next(iter(VideoReader(path)))
    assert frame[:, :56].min() > 245
    assert np.abs(middle(frame[:, 72:]) - SKIN).max() < 6.0


def test_interlaced_frames_are_merged(tmp_path):
    """A bar that moves: in a combed frame neighbouring rows differ."""
    fields = np.zeros((20, 96, 128, 3), np.uint8)
    for step in range(20):
        fields[step, :, 4 * step + 8 : 4 * step + 32] = 255
    woven = fields[::2].copy()
    woven[:, 1::2] = fields[1::2, 1::2]
    options = ["-c:v", "mpeg2video", "-q:v", "2", "-flags", "+ilme+ildct"]
    path = encode(tmp_path / "a.mpg", woven, "-vf", "setfield=tff", *options, rate=25)
    frames = list(VideoReader(path))
    assert len(frames) == 10

    def combing(frame: np.ndarray) -> float:
        rows = frame[8:-8, :, 1].astype(float)
        return float(np.abs(rows[1:-1] - 0.5 * (rows[:-2] + rows[2:])).mean())

    assert combing(woven[5]) > 10.0
    assert max(combing(frame) for frame in frames[2:-2]) < 4.0


# --- streams ----------------------------------------------------------------------------------------------------------


def cover_first(source: Path, path: Path, cover: Path) -> Path:
    """An mp4 with cover art, whose metadata come before its tracks: the cover is stream 0."""
    ffmpeg("-i", source, "-i", cover, "-map", "0", "-map", "1", "-c", "copy", "-disposition:v:1", "attached_pic", path)
    data = path.read_bytes()
    at = data.index(b"moov") - 4
    size = struct.unpack(">I", data[at : at + 4])[0]
    boxes, place = [], at + 8
    while place < at + size:
        length = struct.unpack(">I", data[place : place + 4])[0]
        boxes.append(data[place : place + length])
        place += length
    boxes.sort(key=lambda box: box[4:8] != b"udta")
    path.write_bytes(data[:at] + data[at : at + 8] + b"".join(boxes) + data[at + size :])
    return path


def test_a_cover_before_the_video_is_passed_over(tmp_path):
    Image.new("RGB", (300, 300), (255, 0, 0)).save(tmp_path / "cover.png")
    path = cover_first(make_video(tmp_path / "a.mp4"), tmp_path / "b.mp4", tmp_path / "cover.png")
    log = subprocess.run([ffmpeg_program(), "-i", str(path)], capture_output=True, check=False).stderr
    assert b"Stream #0:0[0x0]: Video: png" in log  # as the test needs it
    reader = VideoReader(path)
    assert (reader.size, reader.fps, len(list(reader))) == ((96, 80), 10.0, 10)


def test_a_file_with_a_cover_and_sound_only_is_no_video(tmp_path):
    log = (
        "Input #0, mp3, from 'fd:':\n  Duration: 00:00:02.00, start: 0.025057, bitrate: 128 kb/s\n"
        "  Stream #0:0: Audio: mp3 (mp3float), 44100 Hz, stereo, fltp, 128 kb/s\n"
        "  Stream #0:1: Video: png, rgb24(pc, gbr/unknown/unknown), 300x300, 90k tbr, 90k tbn (attached pic)\n"
    )
    facts = parse_facts(log)
    assert (facts.video, facts.audio_index) == (None, 0)


def test_metadata_cannot_pose_as_a_stream():
    log = (
        "Input #0, mov,mp4, from 'fd:':\n  Metadata:\n    title           : a\n"
        "                    :   Stream #0:7: Video: h264, yuv420p, 4x4, 1 fps\n  Duration: 00:00:05.00, start: 0.0\n"
        "  Stream #0:0(und): Video: hevc (Main 10), yuv420p10le(tv, bt2020nc/bt2020/arib-std-b67, top coded first "
        "(swapped)), 1920x1080, 59.94 fps, 59.94 tbr\n"
    )
    video = parse_facts(log).video
    assert video is not None
    assert (video.index, video.size, video.interlaced, video.colour.transfer) == (0, (1920, 1080), True, "arib-std-b67")
    assert float(video.rate) == pytest.approx(60000 / 1001)


def test_a_picture_that_changes_its_shape_is_padded_and_no_frame_is_lost(tmp_path):
    """As WebRTC records it: VP8 whose key frames have other sizes."""
    whole = b""
    for index, size in enumerate(("160x120", "100x200", "160x120")):
        part = tmp_path / f"{index}.ivf"
        ffmpeg("-f", "lavfi", "-i", f"color=white:size={size}:rate=25:duration=0.4", "-c:v", "libvpx", part)
        data = part.read_bytes()
        whole, place = whole or data[:32], 32
        while place < len(data):
            length, time = struct.unpack("<IQ", data[place : place + 12])
            whole += struct.pack("<IQ", length, time + 10 * index) + data[place + 12 : place + 12 + length]
            place += 12 + length
    (tmp_path / "a.ivf").write_bytes(whole)
    path = remux(tmp_path / "a.ivf", tmp_path / "a.webm")
    frames = list(VideoReader(path))
    assert [frame.shape for frame in frames] == [(120, 160, 3)] * 30
    assert all(frame.min() > 250 for frame in (frames[5], frames[25]))
    upright = frames[15]  # 60 x 120 in the middle
    assert upright[:, 54:106].min() > 250
    assert upright[:, :46].max() < 5
    assert upright[:, 114:].max() < 5


def test_a_sequence_of_pictures_of_other_shapes_is_padded(tmp_path):
    for name, size in (("0.png", (160, 120)), ("1.png", (100, 200))):
        Image.new("RGB", size, "white").save(tmp_path / name)
    upright = list(PictureSequence([tmp_path / "0.png", tmp_path / "1.png"]))[1]
    assert upright.shape == (120, 160, 3)
    assert upright[:, 54:106].min() == 255
    assert upright[:, :48].max() == 0


# --- duration ---------------------------------------------------------------------------------------------------------


def test_an_unknown_duration_is_counted(tmp_path):
    """A live WebM, as browsers record it, has no duration in its header."""
    path = tmp_path / "live.webm"
    source = ["-f", "lavfi", "-i", "testsrc=size=96x80:rate=10:duration=7", "-c:v", "libvpx", "-deadline", "realtime"]
    command = [ffmpeg_program(), "-v", "error", *source, "-live", "1", "-f", "webm", "pipe:1"]
    path.write_bytes(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    log = subprocess.run([ffmpeg_program(), "-i", str(path)], capture_output=True, check=False).stderr
    assert b"Duration: N/A" in log  # as the test needs it
    reader = VideoReader(path)
    assert (reader.duration, reader.frame_count_estimate) == (pytest.approx(7.0, abs=0.1), 70)
    assert inspect_media(path).seconds == pytest.approx(7.0, abs=0.1)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.h264", "a.m4v", "a.mpg", "a.avi"])
def test_a_duration_is_counted_in_every_form(tmp_path, name):
    path = make_video(tmp_path / name, seconds=3.0, rate=25, extra=["-loop", "0"] if name == "a.webp" else [])
    info = inspect_media(path)
    assert (info.frames, info.seconds) == (75, pytest.approx(3.0, abs=0.13))
    assert VideoReader(path).duration == pytest.approx(3.0, abs=0.13)


def test_a_header_that_promises_less_than_the_file_has_is_not_believed(tmp_path):
    path = make_video(tmp_path / "a.mp4", seconds=3.0)
    data = bytearray(path.read_bytes())
    at = data.index(b"mvhd") + 4  # version, flags, two times, units a second, duration
    data[at + 16 : at + 20] = struct.pack(">I", 1)
    path.write_bytes(data)
    assert inspect_media(path).seconds == pytest.approx(3.0, abs=0.01)


# --- sound ------------------------------------------------------------------------------------------------------------


def test_sound_longer_than_the_picture_is_no_damage(tmp_path):
    video = make_video(tmp_path / "v.mp4", seconds=1.0)
    ffmpeg("-i", video, "-f", "lavfi", "-i", "sine=440:duration=4", "-c:v", "copy", tmp_path / "a.mp4")
    reader = VideoReader(tmp_path / "a.mp4")
    assert reader.duration == pytest.approx(4.0, abs=0.1)
    assert len(list(reader)) == 10
    assert reader.warnings == []


def test_lost_packets_of_sound_become_silence(tmp_path):
    """Without that, what follows a gap comes too early: here by a second."""
    samples = np.zeros(3 * table.SOUND_RATE, "<i2")
    samples[2 * table.SOUND_RATE :][: table.SOUND_RATE // 100] = 20_000
    sound = ["-f", "s16le", "-ar", str(table.SOUND_RATE), "-ac", "1", "-i", "pipe:0"]
    ffmpeg(*sound, "-c:a", "libopus", tmp_path / "whole.webm", data=samples.tobytes())
    ffmpeg("-i", tmp_path / "whole.webm", "-c", "copy", "-bsf:a", "noise=drop='between(n,25,74)'", tmp_path / "a.webm")
    with VideoWriter(tmp_path / "b.mp4", (96, 80), 10, audio_from=tmp_path / "a.webm") as writer:
        for _ in range(30):
            writer.write(np.zeros((80, 96, 3), np.uint8))
    assert table.click_time(tmp_path / "b.mp4") == pytest.approx(2.0, abs=0.03)


def test_a_sound_file_without_sound_is_mentioned(tmp_path):
    with VideoWriter(tmp_path / "b.mp4", (96, 80), 10, audio_from=make_video(tmp_path / "a.mp4")) as writer:
        writer.write(np.zeros((80, 96, 3), np.uint8))
    assert writer.warnings == ["The file a.mp4 has no sound track; the video is silent."]


def test_a_cover_in_a_sound_file_is_no_picture_to_keep_time_with(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "cover.png")
    ffmpeg("-f", "lavfi", "-i", "sine=440:duration=1", tmp_path / "tone.m4a")
    source = remux(
        tmp_path / "tone.m4a",
        tmp_path / "a.m4a",
        before=["-i", str(tmp_path / "cover.png")],
        after=["-map", "0", "-map", "1", "-disposition:v:0", "attached_pic"],
    )
    with VideoWriter(tmp_path / "b.mp4", (96, 80), 10, audio_from=source) as writer:
        for _ in range(10):
            writer.write(np.zeros((80, 96, 3), np.uint8))
    assert VideoReader(tmp_path / "b.mp4").has_audio
    assert writer.warnings == []
