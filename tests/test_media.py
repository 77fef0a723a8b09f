"""Photos and videos of every odd kind are read right, or refused in one sentence."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageCms

from spatialavatar.errors import InputError, OutputError
from spatialavatar.media import PictureSequence, VideoReader, VideoWriter, check_writable, is_image, read_image

from .support.videos import make_video, one_sentence, remux

# --- photos ---------------------------------------------------------------------------------------------------------


def test_a_photo_comes_back_as_it_was_saved(tmp_path, gradient):
    Image.fromarray(gradient).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), gradient)


def test_exif_rotation_is_applied(tmp_path, gradient):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the picture must be turned by 90 degrees clockwise
    Image.fromarray(gradient).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(gradient, -1))


def test_16_bit_grey_is_scaled_not_clipped(tmp_path, gradient):
    grey = gradient[..., 0].astype(np.uint16) * 257
    Image.fromarray(grey).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.repeat(gradient[..., :1], 3, axis=2))


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA"])
def test_grey_and_palette_pictures_become_rgb(tmp_path, gradient, mode):
    source = Image.fromarray(gradient).convert(mode)
    source.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.asarray(source.convert("RGB")))


def test_transparency_is_laid_over_white(tmp_path, gradient):
    alpha = np.zeros(gradient.shape[:2], dtype=np.uint8)
    alpha[:, 48:] = 255
    Image.fromarray(np.dstack([gradient, alpha])).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert (image[:, :48] == 255).all()
    np.testing.assert_array_equal(image[:, 48:], gradient[:, 48:])


def test_cmyk_keeps_its_colours(tmp_path, gradient):
    Image.fromarray(gradient).convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - gradient).mean() < 3.0


def test_an_embedded_profile_is_converted_to_srgb(tmp_path, gradient):
    profile = _swapped_red_and_blue_profile()
    Image.fromarray(gradient).save(tmp_path / "a.png", icc_profile=profile)
    swapped = read_image(tmp_path / "a.png").astype(int)
    assert np.abs(swapped - gradient[..., ::-1]).mean() < 3.0


def test_a_damaged_profile_is_ignored(tmp_path, gradient):
    Image.fromarray(gradient).save(tmp_path / "a.png", icc_profile=b"no profile at all")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), gradient)


def test_a_huge_jpeg_is_read_scaled_down(tmp_path):
    Image.new("L", (20_100, 9_000), 200).save(tmp_path / "a.jpg", quality=30)  # beyond Pillow's bomb limit
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == (1834, 4096, 3)
    assert np.abs(image[900, 2000].astype(int) - 200).max() < 3


def test_a_huge_png_is_refused_before_it_is_decoded(tmp_path):
    Image.new("1", (21_000, 20_000)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"too many pixels|too large") as error:
        read_image(tmp_path / "a.png")
    assert one_sentence(error)


@pytest.mark.parametrize("content", [b"dear diary", b"", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_photo_is_refused(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.jpg is not a photo") as error:
        read_image(tmp_path / "a.jpg")
    assert one_sentence(error)
    assert not is_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_cut_photo_is_refused(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (120, 120, 3), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="damaged or cut short") as error:
        read_image(path)
    assert one_sentence(error)


def test_a_tiny_photo_is_refused(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="only 40 x 40 pixels"):
        read_image(tmp_path / "a.png")


def test_a_missing_photo_and_a_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="There is no photo"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)


# --- videos ---------------------------------------------------------------------------------------------------------


def test_a_video_is_a_stream_of_its_frames(tmp_path):
    reader = VideoReader(make_video(tmp_path / "a.mp4", seconds=1.5, sound=True))
    frames = list(reader)
    assert (reader.fps, reader.size, reader.has_audio, reader.frame_count_estimate) == (10.0, (96, 80), True, 15)
    assert len(frames) == 15
    assert frames[0].shape == (80, 96, 3)
    assert frames[0].dtype == np.uint8
    assert not np.array_equal(frames[0], frames[-1])
    assert reader.warnings == []


def test_a_video_can_be_read_twice(tmp_path):
    reader = VideoReader(make_video(tmp_path / "a.mp4"))
    np.testing.assert_array_equal(next(iter(reader)), next(iter(reader)))


def test_rotation_metadata_turns_the_frames(tmp_path):
    plain = make_video(tmp_path / "a.mp4")
    turned = VideoReader(remux(plain, tmp_path / "b.mp4", before=["-display_rotation", "90"]))
    assert turned.size == (80, 96)
    upright, rotated = next(iter(VideoReader(plain))), next(iter(turned))
    assert np.abs(np.rot90(upright, 1).astype(int) - rotated).mean() < 3.0


def test_non_square_pixels_are_stretched(tmp_path):
    reader = VideoReader(make_video(tmp_path / "a.mp4", extra=["-vf", "setsar=2"]))
    assert reader.size == (192, 80)
    assert next(iter(reader)).shape == (80, 192, 3)


def test_a_variable_rate_becomes_a_constant_one(tmp_path):
    extra = ["-vf", "setpts='if(lt(N,10),N,10+(N-10)*3)/10/TB'", "-fps_mode", "vfr"]
    reader = VideoReader(make_video(tmp_path / "a.mkv", seconds=2.0, extra=extra))
    count = sum(1 for _ in reader)
    assert count == pytest.approx(reader.duration * reader.fps, abs=3)


def test_fast_and_large_videos_are_thinned_and_scaled(tmp_path):
    reader = VideoReader(make_video(tmp_path / "a.mp4", rate=100, size="192x160"), max_side=96, max_fps=25)
    frames = list(reader)
    assert (reader.fps, reader.size) == (25.0, (96, 80))
    assert len(frames) == pytest.approx(25, abs=1)


def test_rates_of_television_are_exact(tmp_path):
    reader = VideoReader(make_video(tmp_path / "a.mp4", rate="30000/1001"))
    assert reader.fps == pytest.approx(30000 / 1001, abs=1e-9)


def test_a_video_cut_in_the_middle_keeps_what_decodes_and_says_so(tmp_path):
    whole = make_video(tmp_path / "a.mp4", seconds=4.0, extra=["-movflags", "+faststart"])
    cut = tmp_path / "b.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    reader = VideoReader(cut)
    count = sum(1 for _ in reader)
    assert 5 <= count < 36
    assert len(reader.warnings) == 1
    assert "damaged" in reader.warnings[0]


def test_a_video_without_its_index_is_refused(tmp_path):
    whole = make_video(tmp_path / "a.mp4")  # the index is at the end
    cut = tmp_path / "b.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(InputError, match=r"b\.mp4 is not a video that can be read") as error:
        VideoReader(cut)
    assert one_sentence(error)


def test_a_video_without_frames_is_refused(tmp_path):
    empty = remux(make_video(tmp_path / "a.mp4"), tmp_path / "b.mp4", after=["-frames:v", "0"])
    with pytest.raises(InputError, match=r"b\.mp4") as error:
        VideoReader(empty)
    assert one_sentence(error)


@pytest.mark.parametrize("content", [b"dear diary", b""])
def test_a_file_that_is_no_video_is_refused(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(InputError, match="is not a video") as error:
        VideoReader(tmp_path / "a.mp4")
    assert one_sentence(error)


def test_leaving_a_video_early_ends_its_decoder(tmp_path):
    frames = iter(VideoReader(make_video(tmp_path / "a.mp4", seconds=30.0, size="320x240")))
    next(frames)
    frames.close()  # would hang or leave the process if the decoder were not stopped
    with pytest.raises(StopIteration):
        next(frames)


# --- writing --------------------------------------------------------------------------------------------------------


def test_written_frames_are_read_back(tmp_path, gradient):
    with VideoWriter(tmp_path / "a.mp4", (96, 80), fps=25) as writer:
        for shift in range(10):
            writer.write(np.roll(gradient, shift * 8, axis=1))
    reader = VideoReader(tmp_path / "a.mp4")
    frames = list(reader)
    assert (reader.fps, reader.size, len(frames)) == (25.0, (96, 80), 10)
    for shift, frame in enumerate(frames):  # colours survive the trip through YUV
        assert np.abs(frame.astype(int) - np.roll(gradient, shift * 8, axis=1)).mean() < 4.0


def test_an_odd_size_is_padded_not_refused(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", (97, 81), fps=5) as writer:
        writer.write(np.zeros((81, 97, 3), dtype=np.uint8))
    assert VideoReader(tmp_path / "a.mp4").size == (98, 82)


@pytest.mark.parametrize("sound_seconds", [0.5, 3.0])
def test_the_sound_is_kept_and_never_changes_the_length(tmp_path, sound_seconds):
    source = make_video(tmp_path / "a.mp4", seconds=sound_seconds, sound=True)
    with VideoWriter(tmp_path / "b.mp4", (96, 80), fps=10, audio_from=source) as writer:
        for _ in range(15):
            writer.write(np.zeros((80, 96, 3), dtype=np.uint8))
    reader = VideoReader(tmp_path / "b.mp4")
    assert reader.has_audio
    assert reader.duration == pytest.approx(1.5, abs=0.06)
    assert sum(1 for _ in reader) == 15


def test_a_silent_sound_source_is_no_error(tmp_path):
    source = make_video(tmp_path / "a.mp4")
    with VideoWriter(tmp_path / "b.mp4", (96, 80), fps=10, audio_from=source) as writer:
        writer.write(np.zeros((80, 96, 3), dtype=np.uint8))
    assert not VideoReader(tmp_path / "b.mp4").has_audio


def test_a_failed_video_leaves_nothing_and_keeps_the_old_one(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"the old one")

    def render() -> None:
        with VideoWriter(tmp_path / "a.mp4", (96, 80), fps=10) as writer:
            writer.write(np.zeros((80, 96, 3), dtype=np.uint8))
            raise RuntimeError("rendering broke")

    with pytest.raises(RuntimeError, match="rendering broke"):
        render()
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"the old one"


def test_an_empty_video_is_an_error(tmp_path):
    with pytest.raises(OutputError, match="would be empty"), VideoWriter(tmp_path / "a.mp4", (96, 80), fps=10):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_frame_of_another_size_is_refused(tmp_path):
    with pytest.raises(InputError, match="A frame must be"), VideoWriter(tmp_path / "a.mp4", (96, 80), 10) as writer:
        writer.write(np.zeros((96, 80, 3), dtype=np.uint8))


def test_unwritable_outputs_are_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none" / "a.mp4", tmp_path / "file" / "a.mp4", tmp_path):
        with pytest.raises(OutputError) as error:
            check_writable(path)
        assert one_sentence(error)
    with pytest.raises(OutputError, match=r"ends in \.mp4"):
        VideoWriter(tmp_path / "a.txt", (96, 80), fps=10)


def _swapped_red_and_blue_profile() -> bytes:
    """The sRGB profile with the red and the blue primary exchanged."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = data.index(b"rXYZ"), data.index(b"bXYZ")
    data[red : red + 4], data[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(data)


def test_a_sequence_of_pictures_repeats_the_last_good_one_for_a_damaged_one(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(4)]
    for index, path in enumerate(paths):
        Image.new("RGB", (80 + 16 * index, 64), (60 * index, 0, 0)).save(path)
    paths[0].write_bytes(b"")
    paths[2].unlink()
    sequence = PictureSequence(paths, fps=30.0)
    frames = list(sequence)
    assert {frame.shape for frame in frames} == {(64, 96, 3)}
    assert [int(frame[32, 40, 0]) for frame in frames] == [60, 60, 60, 180]
    assert sequence.damaged == {0, 2}
    assert len(list(sequence)) == 4
    assert len(sequence.warnings) == 2


def test_pictures_none_of_which_can_be_read_are_refused(tmp_path):
    (tmp_path / "0.png").write_bytes(b"")
    with pytest.raises(InputError, match="None of the 1 pictures"):
        PictureSequence([tmp_path / "0.png"])
    with pytest.raises(InputError, match="no pictures"):
        PictureSequence([])
