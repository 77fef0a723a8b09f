"""Photo formats and colour encodings as people have them."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from spatialavatar.errors import InputError
from spatialavatar.media import inspect_media, is_animation, is_image, photos, read_image

from .support.videos import one_sentence

FORMATS = ("ppm", "pgm", "jp2", "avif", "png", "gif", "tif", "bmp", "webp", "jpg")


def grey_profile(gamma: float) -> bytes:
    """A monochrome ICC profile (version 2) whose values are light to the power of 1 / gamma."""
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"grey\0" + b"\0" * 78,
        b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">iii", 63190, 65536, 54061),
        b"kTRC": b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)),
    }
    offset, table, data = 128 + 4 + 12 * len(tags), b"", b""
    for name, value in tags.items():
        value += b"\0" * (-len(value) % 4)
        table += name + struct.pack(">II", offset + len(data), len(value))
        data += value
    body = struct.pack(">I", len(tags)) + table + data
    head = struct.pack(">I4sI4s4s4s", 128 + len(body), b"\0" * 4, 0x02100000, b"mntr", b"GRAY", b"XYZ ")
    return head + b"\0" * 12 + b"acsp" + b"\0" * 28 + struct.pack(">iii", 63190, 65536, 54061) + b"\0" * 48 + body


def srgb_of_light(light: np.ndarray) -> np.ndarray:
    return 255.0 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.fixture
def grey() -> np.ndarray:
    """(80, 96) uint8: grows to the right."""
    return np.tile(np.arange(96, dtype=np.uint8) * 2 + 40, (80, 1))


def test_heic_is_read(tmp_path, gradient):
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra 'heic'")
    pillow_heif.from_pillow(Image.fromarray(gradient)).save(tmp_path / "a.heic", quality=95)
    assert np.abs(read_image(tmp_path / "a.heic").astype(int) - gradient).mean() < 4.0
    assert inspect_media(tmp_path / "a.heic").size == (96, 80)


def test_heic_without_its_package_is_refused_with_the_command_that_installs_it(tmp_path, monkeypatch):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 64)
    monkeypatch.setattr(photos, "_register_heif", lambda: None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    with pytest.raises(InputError, match=r"pip install -e '\.\[heic\]'") as error:
        read_image(tmp_path / "a.heic")
    assert one_sentence(error)


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_a_grey_profile_is_converted_to_srgb(tmp_path, grey, mode):
    picture = Image.fromarray(grey)
    if mode == "LA":
        picture = Image.merge("LA", (picture, Image.new("L", picture.size, 255)))
    elif mode == "I;16":
        picture = Image.fromarray(grey.astype(np.uint16) * 257)
    picture.save(tmp_path / "a.png", icc_profile=grey_profile(1.0))
    expected = srgb_of_light(grey / 255.0)
    assert np.abs(read_image(tmp_path / "a.png")[..., 1] - expected).max() < 2.5


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_float_grey_is_scaled_by_its_range(tmp_path, grey, top):
    values = grey.astype(np.float32) / 255.0 * np.float32(top)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert np.abs(read_image(tmp_path / "a.tif")[..., 0].astype(int) - grey).max() <= 1


@pytest.mark.parametrize("gamma", [1.0, 1 / 1.8, 1 / 2.2])
def test_the_gamma_of_a_png_is_applied(tmp_path, gradient, gamma):
    path = tmp_path / "a.png"
    Image.fromarray(gradient).save(path)
    data, chunk = path.read_bytes(), b"gAMA" + struct.pack(">I", round(gamma * 100_000))
    path.write_bytes(data[:33] + struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:])
    expected = gradient if gamma == 1 / 2.2 else srgb_of_light((gradient / 255.0) ** (1 / gamma))
    assert np.abs(read_image(path) - np.asarray(expected, float)).max() < 0.51


def test_a_png_whose_profile_unpacks_to_megabytes_is_refused_in_a_sentence(tmp_path, gradient):
    Image.fromarray(gradient).save(tmp_path / "a.png", icc_profile=bytes(3_000_000))
    with pytest.raises(InputError) as error:
        read_image(tmp_path / "a.png")
    assert one_sentence(error)


@pytest.mark.parametrize("form", FORMATS)
def test_mutated_photos_are_read_or_refused_in_a_sentence(tmp_path, gradient, form):
    path = tmp_path / f"a.{form}"
    source = Image.fromarray(gradient)
    (source.convert("L") if form == "pgm" else source).save(path)
    whole = path.read_bytes()
    rng, sentences = random.Random(form), set()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # damage warns nobody
        for _ in range(60):
            data = bytearray(whole)
            for _ in range(rng.choice([1, 2, 8])):
                data[rng.randrange(min(len(data), rng.choice([20, 200, len(data)])))] = rng.randrange(256)
            path.write_bytes(data)
            try:
                read_image(path)
            except InputError as error:
                sentences.add(str(error))
            is_image(path)
            is_animation(path)
    assert all(sentence.endswith(".") and "\n" not in sentence for sentence in sentences)


@pytest.mark.parametrize(("form", "animated"), [("gif", True), ("webp", True), ("png", True), ("tif", False)])
def test_an_animation_counts_as_a_video_where_videos_are_accepted(tmp_path, gradient, form, animated):
    frames = [Image.fromarray(np.roll(gradient, 8 * step, axis=1)) for step in range(5)]
    path = tmp_path / f"a.{form}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=200)
    assert (is_image(path), is_animation(path)) == (True, animated)
    info = inspect_media(path)
    assert info.kind == ("video" if animated else "photo")
    assert info.frames == (5 if animated else 1)
    assert inspect_media(path, ["photo"]).kind == "photo"
    if animated:
        assert info.seconds == pytest.approx(1.0, abs=0.02)


def test_a_photo_is_no_video(tmp_path, gradient):
    Image.fromarray(gradient).save(tmp_path / "a.mp4", format="PNG")
    with pytest.raises(InputError, match="is a photo, not a video") as error:
        inspect_media(tmp_path / "a.mp4", ["video"])
    assert one_sentence(error)


PEAK = """
import sys
from spatialavatar.media import read_image
def peak():  # getrusage starts from the peak of the process that started this one
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
before = peak()
assert max(read_image(sys.argv[1]).shape) == 4096
print((peak() - before) // 1024)
"""


def test_a_small_file_of_many_pixels_is_read_with_one_copy_of_them(tmp_path):
    Image.new("RGBA", (6500, 6400), (9, 9, 9, 100)).save(tmp_path / "a.png")  # 166 MB decoded
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path / "a.png")], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 350


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "F"])
def test_a_picture_read_in_bands_equals_one_read_whole(tmp_path, monkeypatch, orientation, mode):
    values = np.random.default_rng(1).integers(0, 256, (150, 210, 4), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(values if mode == "RGBA" else values[..., :3]).convert(mode)
    path = tmp_path / ("a.tif" if mode == "F" else "a.png")
    picture.save(path, exif=exif)
    whole = read_image(path, max_side=100)
    monkeypatch.setattr("spatialavatar.media.photos._WHOLE_PIXELS", 0)
    monkeypatch.setattr("spatialavatar.media.photos._BAND_PIXELS", 4000)
    banded = read_image(path, max_side=100)
    assert banded.shape == whole.shape
    assert np.abs(banded.astype(int) - whole).max() <= 1


def test_a_strip_that_is_too_narrow_once_scaled_is_refused(tmp_path):
    Image.new("L", (64, 8300)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"64 x 8300 pixels, too narrow[^\n]+crop it to the face\.$"):
        read_image(tmp_path / "a.png")


def test_a_format_whose_decoder_copies_has_a_smaller_limit_of_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr("spatialavatar.media.photos.MAX_COPIED_PIXELS", 6000)
    for name in ("a.webp", "a.png"):
        Image.new("RGB", (80, 80)).save(tmp_path / name)
    assert read_image(tmp_path / "a.png").shape == (80, 80, 3)
    with pytest.raises(InputError, match="80 x 80 pixels, too large to be read; scale it down"):
        read_image(tmp_path / "a.webp")
