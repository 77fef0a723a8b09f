"""Speech to motion: visemes of phonemes, the coarticulation model, the stream, and sounds of every kind."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from scripts.speech_data.augment import music
from spatialavatar.errors import FormatError, InputError
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.media import SoundReader
from spatialavatar.speech import (
    LATENCY,
    SAMPLE_RATE,
    VISEMES,
    LipListener,
    Phoneme,
    SpeechDriver,
    phoneme_motion,
    speech_motion,
)
from spatialavatar.speech.coarticulation import ARTICULATORS, CLOSE, JAW, REACH, articulate, drop_uncertain_closures
from spatialavatar.speech.network import load_weights
from spatialavatar.speech.resampling import Resampler
from spatialavatar.speech.visemes import viseme_frames, viseme_spans

from .support.sounds import silence, vowel, write_wav

JAW_OPEN = ARKIT_INDEX["jawOpen"]


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """Vowels between silences, 2.2 seconds."""
    return np.concatenate([silence(0.5), vowel(0.5), silence(0.3), vowel(0.4, 200.0), silence(0.5)])


def test_each_phoneme_has_the_viseme_of_its_lips():
    names = {ipa: [VISEMES[span.viseme] for span in viseme_spans([Phoneme(ipa, 0.0, 1.0)])] for ipa in _EXPECTED}
    assert names == _EXPECTED


_EXPECTED = {
    "p": ["PP"], "m": ["PP"], "v": ["FF"], "θ": ["TH"], "tʃ": ["CH"], "ts": ["SS"], "ʃ": ["CH"], "ɑː": ["aa"],
    "uː": ["U"], "aʊ": ["aa", "U"], "œ̃": ["O"], "": ["sil"], "ˈ": ["sil"],
}  # fmt: skip


def test_shares_of_frames_follow_the_times_of_phonemes():
    shares, voiced = viseme_frames([Phoneme("s", 0.0, 0.03), Phoneme("a", 0.03, 0.06)], 4)
    place = {name: VISEMES.index(name) for name in ("SS", "aa", "sil")}
    np.testing.assert_allclose(shares[:, place["SS"]], [1, 0.5, 0, 0], atol=1e-6)
    np.testing.assert_allclose(shares[:, place["aa"]], [0, 0.5, 1, 0], atol=1e-6)
    np.testing.assert_allclose(shares[:, place["sil"]], [0, 0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(voiced, [0, 0.5, 1, 0], atol=1e-6)


@pytest.mark.parametrize("sound", ["p", "b", "m"])
@pytest.mark.parametrize("vowel", ["ɑ", "i", "u", "o"])
def test_lips_close_completely_on_p_b_m_between_vowels(sound, vowel):
    phonemes = [Phoneme(vowel, 0.0, 0.2), Phoneme(sound, 0.2, 0.26), Phoneme(vowel, 0.26, 0.5)]
    positions = _positions(phonemes, 0.5)
    during = positions[10:13]
    assert during[:, CLOSE].max() > 0.95
    assert during[:, JAW].min() < 0.05


def test_vowels_round_the_consonants_beside_them():
    pucker = ARTICULATORS.index("pucker")
    rounded = _positions([Phoneme("s", 0.0, 0.1), Phoneme("u", 0.1, 0.3)], 0.3)
    spread = _positions([Phoneme("s", 0.0, 0.1), Phoneme("i", 0.1, 0.3)], 0.3)
    assert rounded[4, pucker] > 0.3 > 0.05 > spread[4, pucker]


@pytest.mark.parametrize(("heard", "closed"), [(0.15, False), (0.9, True)])
def test_only_a_probable_closure_closes_the_lips(heard, closed):
    probabilities = np.zeros((7, len(VISEMES)), np.float32)
    probabilities[:, VISEMES.index("aa")] = 1.0
    probabilities[3] = 0.0
    probabilities[3, [VISEMES.index("PP"), VISEMES.index("aa")]] = heard, 1.0 - heard
    shares = drop_uncertain_closures(probabilities)
    np.testing.assert_allclose(shares.sum(1), 1.0, atol=1e-6)
    assert (articulate(shares, np.ones(7, np.float32))[1, CLOSE] > 0.7) == closed


def test_louder_speech_opens_the_jaw_wider():
    phonemes = [Phoneme("ɑ", 0.0, 0.4)]
    quiet, loud = (phoneme_motion(phonemes, 0.4, loudness=np.full(20, level, np.float32)) for level in (0.2, 1.0))
    assert loud.weights[5, JAW_OPEN] > 1.3 * quiet.weights[5, JAW_OPEN]


def test_the_model_gives_the_same_for_arrays_and_tensors():
    torch = pytest.importorskip("torch")
    from spatialavatar.speech.coarticulation import TABLES, Tables

    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(15), 20).astype(np.float32)
    loudness = rng.random(20).astype(np.float32)
    tables = Tables(torch.from_numpy(TABLES.targets), torch.from_numpy(TABLES.dominances))
    tensors = articulate(torch.from_numpy(shares), torch.from_numpy(loudness), tables)
    np.testing.assert_allclose(tensors.numpy(), articulate(shares, loudness), atol=1e-5)


@pytest.mark.parametrize("fps", [24.0, 25.0, 30.0, 60.0, 120.0])
def test_the_motion_is_as_long_as_the_sound(sound, fps):
    driver = SpeechDriver(fps)
    count = len(driver.feed(sound)) + len(driver.finish())
    assert count == int(np.ceil(len(sound) / SAMPLE_RATE * fps - 1e-9))


@pytest.mark.parametrize("size", [160, 333, 4800])
def test_the_streamed_motion_equals_that_of_the_whole_file(sound, size, tmp_path):
    path = write_wav(tmp_path / "a.wav", sound)
    whole = speech_motion(path, 30.0).weights.numpy()
    sent = np.concatenate(list(SoundReader(path, SAMPLE_RATE).blocks(4000)))
    driver = SpeechDriver(30.0)
    parts = [driver.feed(sent[start : start + size]) for start in range(0, len(sent), size)]
    np.testing.assert_allclose(np.concatenate([*parts, driver.finish()]), whole, atol=1e-5)


def test_a_frame_is_complete_within_150_milliseconds(sound):
    assert LATENCY <= 0.15
    driver, fed = SpeechDriver(25.0), 0
    for start in range(0, len(sound) - 160, 160):
        driver.feed(sound[start : start + 160])
        fed = start + 160
    complete = driver._emitted  # frames so far
    assert fed / SAMPLE_RATE - (complete + 0.5) / 25.0 <= LATENCY + 0.01


def test_later_sound_does_not_change_frames_before_it(sound):
    other = sound.copy()
    other[SAMPLE_RATE:] = vowel(len(sound) / SAMPLE_RATE)[: len(sound) - SAMPLE_RATE]
    first, second = SpeechDriver(25.0).feed(sound), SpeechDriver(25.0).feed(other)
    before = int((1.0 - LATENCY) * 25)
    np.testing.assert_allclose(first[:before], second[:before], atol=1e-6)
    assert np.abs(first - second).max() > 0.05


def test_an_interruption_returns_to_rest_within_200_milliseconds(sound):
    driver = SpeechDriver(25.0)
    driver.feed(sound[: SAMPLE_RATE * 9 // 10])
    assert driver._curve[-1, JAW_OPEN] > 0.05  # in the middle of a vowel
    frames = driver.interrupt()
    assert len(frames) / 25.0 <= 0.2
    np.testing.assert_array_equal(frames[-1], 0.0)
    assert (np.diff(frames[:, JAW_OPEN]) <= 0).all()


def test_after_an_interruption_the_next_sound_starts_anew(sound):
    driver = SpeechDriver(25.0)
    driver.feed(sound[:9000])
    driver.interrupt()
    again = np.concatenate([driver.feed(sound), driver.finish()])
    fresh = SpeechDriver(25.0)
    np.testing.assert_allclose(again, np.concatenate([fresh.feed(sound), fresh.finish()]), atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 24_000, 48_000])
def test_sound_of_another_rate_is_resampled_however_it_is_cut(sound, rate):
    there = np.interp(np.arange(0, len(sound), SAMPLE_RATE / rate), np.arange(len(sound)), sound).astype(np.float32)
    whole, parts, plain = SpeechDriver(25.0, rate=rate), SpeechDriver(25.0, rate=rate), SpeechDriver(25.0)
    frames = np.concatenate([whole.feed(there), whole.finish()])
    cut = [parts.feed(there[start : start + 441]) for start in range(0, len(there), 441)]
    np.testing.assert_allclose(np.concatenate([*cut, parts.finish()]), frames, atol=1e-5)
    wanted = np.concatenate([plain.feed(sound), plain.finish()])[:, JAW_OPEN]
    assert len(frames) == len(wanted)
    assert np.corrcoef(frames[:, JAW_OPEN], wanted)[0, 1] > 0.8


def test_a_tone_keeps_its_place_and_height_when_resampled():
    times = np.arange(24_000) / 24_000
    tone = np.sin(2 * np.pi * 440 * times).astype(np.float32)
    found = Resampler(24_000).push(tone)
    expected = np.sin(2 * np.pi * 440 * np.arange(len(found)) / SAMPLE_RATE)
    np.testing.assert_allclose(found[40:], expected[40:], atol=2e-3)


def test_a_tone_above_8_khz_does_not_fold_down():
    tone = np.sin(2 * np.pi * 11_000 * np.arange(48_000) / 48_000).astype(np.float32)
    assert np.abs(Resampler(48_000).push(tone)[100:]).max() < 0.01


def test_a_sample_rate_out_of_range_is_refused():
    with pytest.raises(InputError, match="sample rate is 100"):
        SpeechDriver(rate=100)


def test_silence_keeps_the_mouth_closed():
    frames = SpeechDriver(25.0).feed(silence(3.0))
    assert frames[:, JAW_OPEN].max() < 0.02


def test_music_hardly_moves_the_jaw():
    sound = 0.18 * music(8 * SAMPLE_RATE, np.random.default_rng(0))
    frames = SpeechDriver(25.0).feed(sound.astype(np.float32).clip(-1.0, 1.0))
    assert frames[:, JAW_OPEN].mean() < 0.08  # 0.18 in speech


def test_the_mouth_closes_after_speech():
    frames = SpeechDriver(25.0).feed(np.concatenate([vowel(1.0), silence(1.5)]))
    assert frames[5:20, JAW_OPEN].max() > 0.15
    assert frames[-10:, JAW_OPEN].max() < 0.02


@pytest.mark.parametrize(
    ("name", "rate", "channels"), [("stereo", 96_000, 2), ("telephone", 8_000, 1), ("surround", 48_000, 6)]
)
def test_any_rate_and_any_channels_give_the_motion_of_the_speech(sound, name, rate, channels, tmp_path):
    there = np.interp(np.arange(0, len(sound), SAMPLE_RATE / rate), np.arange(len(sound)), sound)
    path = write_wav(tmp_path / f"{name}.wav", np.repeat(there[:, None], channels, 1), rate)
    wanted = speech_motion(write_wav(tmp_path / "plain.wav", sound)).weights[:, JAW_OPEN].numpy()
    jaw = speech_motion(path).weights[:, JAW_OPEN].numpy()
    count = min(len(jaw), len(wanted))
    assert abs(len(jaw) - len(wanted)) <= 1
    assert np.corrcoef(jaw[:count], wanted[:count])[0, 1] > 0.8


def test_clipped_sound_is_heard(sound):
    frames = SpeechDriver(25.0).feed((sound * 8.0).clip(-1.0, 1.0))
    assert frames[15:25, JAW_OPEN].max() > 0.1
    assert np.isfinite(frames).all()


def test_samples_that_are_not_finite_count_as_silence_with_a_warning(sound, tmp_path):
    broken = sound.copy()
    broken[8000:8200] = np.nan
    broken[9000] = np.inf
    motion = speech_motion(write_wav(tmp_path / "nan.wav", broken, floats=True))
    assert np.isfinite(motion.weights.numpy()).all()
    assert motion.warnings == ("The file nan.wav has samples that are not finite numbers; they are played as silence.",)


def test_a_file_without_samples_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"no sound|can be opened|container"):
        speech_motion(write_wav(tmp_path / "empty.wav", np.zeros(0, np.float32)))


def test_a_video_without_sound_is_refused_in_one_sentence(tmp_path):
    from .support.videos import make_video

    with pytest.raises(InputError, match=r"has no sound track; give a WAV"):
        speech_motion(make_video(tmp_path / "mute.mp4"))


@pytest.mark.parametrize(
    ("bad", "words"),
    [(np.zeros((10, 2), np.float32), "mono"), (np.zeros(10, np.int32), "floats"), (np.zeros(10, bool), "floats")],
)
def test_arrays_that_are_no_mono_sound_are_refused(bad, words):
    with pytest.raises(InputError, match=words):
        SpeechDriver().feed(bad)


@pytest.mark.parametrize("fps", [0.0, 1000.0, float("nan")])
def test_a_frame_rate_out_of_range_is_refused(fps):
    with pytest.raises(InputError, match="frame rate"):
        SpeechDriver(fps)


def test_no_samples_give_no_frames():
    driver = SpeechDriver()
    assert driver.feed(np.zeros(0, np.float32)).shape == (0, 52)
    assert driver.finish().shape == (0, 52)


def test_memory_does_not_grow_with_the_length_of_the_sound():
    driver, block = SpeechDriver(25.0), np.zeros(4 * SAMPLE_RATE, np.float32)
    peaks = []
    tracemalloc.start()
    for _ in range(2):
        tracemalloc.reset_peak()
        for _ in range(15):
            driver.feed(block)
        peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert peaks[1] < 1.05 * peaks[0]


def test_the_reader_gives_the_samples_of_the_file(sound, tmp_path):
    reader = SoundReader(write_wav(tmp_path / "a.wav", sound), SAMPLE_RATE)
    blocks = list(reader.blocks(5000))
    assert {len(block) for block in blocks[:-1]} == {5000}
    np.testing.assert_allclose(np.concatenate(blocks), sound, atol=1e-4)


def test_a_damaged_network_is_refused_in_one_sentence(tmp_path):
    path = tmp_path / "network.safetensors"
    path.write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(FormatError, match="damaged"):
        load_weights(path)


def test_the_network_is_small():
    from spatialavatar.hub.weights import asset
    from spatialavatar.speech.network import WEIGHTS_NAME

    assert asset(WEIGHTS_NAME).stat().st_size <= 1_500_000


def test_a_listener_starts_anew_after_its_end(sound):
    listener = LipListener()
    first = np.concatenate([listener.push(sound), listener.finish()])
    second = np.concatenate([listener.push(sound), listener.finish()])
    np.testing.assert_allclose(first, second, atol=1e-6)
    assert len(first) == -(-len(sound) // 320)


def _positions(phonemes: list[Phoneme], seconds: float) -> np.ndarray:
    count = round(seconds * 50)
    shares, _ = viseme_frames(phonemes, count)
    shares = np.pad(shares, ((REACH, REACH), (0, 0)), mode="edge")
    return articulate(shares, np.full(len(shares), 0.8, np.float32))
