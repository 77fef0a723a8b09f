"""The face beside the lips: head, brows, lids and gaze in speech and between sentences."""

from __future__ import annotations

import numpy as np
import pytest

from spatialavatar.errors import InputError
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.speech import Conversation, Liveliness, Prosody, SpeechPerformer, idle_motion
from spatialavatar.speech.features import SAMPLE_RATE
from spatialavatar.speech.prosody import PROSODY_RATE

FPS = 25.0
MINUTES = 5
BLINK = ARKIT_INDEX["eyeBlinkLeft"]
MOUTH = [index for name, index in ARKIT_INDEX.items() if name.startswith(("mouth", "jaw"))]


def silence(seconds: float) -> np.ndarray:
    return np.zeros((round(seconds * FPS), 2), np.float32)


def conversation(seconds: float) -> np.ndarray:
    """Three seconds of speech, one of silence, with stressed syllables."""
    count = round(seconds * FPS)
    speech = (np.arange(count) // round(FPS) % 4 < 3).astype(np.float32)
    return np.stack([speech, speech * np.random.default_rng(1).normal(0.0, 0.8, count)], 1).astype(np.float32)


def blinks(weights: np.ndarray) -> int:
    closed = weights[:, BLINK] > 0.5
    return int((closed[1:] & ~closed[:-1]).sum())


def vowels(pitches: list[float], loudness: list[float], seconds: float = 0.2) -> np.ndarray:
    """Buzzing syllables of given pitch, Hz, and amplitude, with short gaps."""
    parts = []
    for pitch, level in zip(pitches, loudness):
        time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        buzz = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 12))
        parts += [level * buzz * np.hanning(len(time)), np.zeros(round(0.1 * SAMPLE_RATE))]
    return (0.2 * np.concatenate(parts)).astype(np.float32)


@pytest.mark.parametrize(("prosody", "low", "high"), [(silence, 10, 24), (conversation, 16, 34)])
def test_people_blink_that_often_and_longer_than_a_frame(prosody, low: int, high: int) -> None:
    weights, _ = Liveliness(FPS, 1.0, 3).frames(prosody(60.0 * MINUTES))
    count = blinks(weights)
    assert low <= count / MINUTES <= high
    assert 0.1 <= (weights[:, BLINK] > 0.3).sum() / count / FPS <= 0.35  # seconds
    assert weights[:, BLINK].max() > 0.95


def test_the_gaze_stays_on_the_viewer_while_the_head_turns() -> None:
    weights, rotation = Liveliness(FPS, 1.0, 0).frames(silence(120.0))
    yaw = np.degrees(rotation[:, 1])
    left = 35.0 * (weights[:, ARKIT_INDEX["eyeLookOutLeft"]] - weights[:, ARKIT_INDEX["eyeLookInLeft"]])
    assert np.abs(yaw).max() > 3.0
    seen = np.abs(left + yaw)  # degrees between the gaze and the viewer
    assert np.median(seen) < 0.7
    assert 0.05 < (seen > 3.0).mean() < 0.4  # people look away now and then


def test_a_stressed_syllable_raises_brows_and_nods() -> None:
    prosody = conversation(60.0)
    spoken, turned = Liveliness(FPS, 1.0, 5).frames(prosody)
    waiting, still = Liveliness(FPS, 1.0, 5).frames(silence(60.0))
    assert spoken[:, ARKIT_INDEX["browInnerUp"]].max() > 0.2
    assert waiting[:, ARKIT_INDEX["browInnerUp"]].max() == 0.0
    assert np.abs(np.diff(turned[:, 0])).mean() > 1.5 * np.abs(np.diff(still[:, 0])).mean()


def test_the_head_moves_smoothly_and_starts_at_rest() -> None:
    _, rotation = Liveliness(FPS, 1.0, 2).frames(conversation(120.0))
    degrees = np.degrees(rotation)
    assert np.abs(degrees[0]).max() < 0.5
    assert np.abs(np.diff(degrees, axis=0)).max() < 2.5  # a frame
    assert np.abs(degrees).max() < 14.0


def test_the_same_seed_gives_the_same_motion_however_it_is_asked_for() -> None:
    prosody = conversation(30.0)
    whole = Liveliness(FPS, 0.7, 9).frames(prosody)
    live = Liveliness(FPS, 0.7, 9)
    parts = [live.frames(prosody[start : start + 17]) for start in range(0, len(prosody), 17)]
    for index in (0, 1):
        assert np.array_equal(np.concatenate([part[index] for part in parts]), whole[index])
    assert not np.array_equal(Liveliness(FPS, 0.7, 10).frames(prosody)[1], whole[1])


def test_no_liveliness_is_stillness_and_half_of_it_is_half_the_turn() -> None:
    prosody = conversation(30.0)
    weights, rotation = Liveliness(FPS, 0.0, 1).frames(prosody)
    assert not weights.any()
    assert not rotation.any()
    whole, half = (Liveliness(FPS, amount, 1).frames(prosody)[1] for amount in (1.0, 0.5))
    np.testing.assert_allclose(half, 0.5 * whole, atol=1e-6)


@pytest.mark.parametrize("given", [{"fps": 0.0}, {"amount": 1.5}, {"amount": float("nan")}])
def test_numbers_out_of_range_are_one_sentence(given: dict[str, float]) -> None:
    with pytest.raises(InputError, match="give a number from"):
        Liveliness(**given)


def test_prosody_finds_the_loud_high_syllable() -> None:
    pitches, levels = [110.0] * 12, [0.5] * 12
    pitches[8], levels[8] = 150.0, 1.0
    heard = Prosody().push(vowels(pitches, levels))
    stress = heard[:, 1]
    second = int(stress.argmax()) / PROSODY_RATE
    assert 8 * 0.3 <= second <= 8 * 0.3 + 0.25
    assert stress.max() > 1.0
    assert heard[:, 0].mean() > 0.4


def test_prosody_hears_no_speech_in_silence_and_faint_noise() -> None:
    noise = 1e-4 * np.random.default_rng(0).normal(size=3 * SAMPLE_RATE)
    assert not Prosody().push(noise.astype(np.float32)).any()


def test_a_performer_gives_the_same_frames_however_the_sound_is_cut() -> None:
    sound = vowels([110.0, 130.0, 120.0] * 4, [0.5, 0.9, 0.6] * 4)

    def frames(size: int) -> tuple[np.ndarray, np.ndarray]:
        performer = SpeechPerformer(FPS, seed=4)
        parts = [performer.feed(sound[start : start + size]) for start in range(0, len(sound), size)]
        parts.append(performer.finish())
        return tuple(np.concatenate([part[index] for part in parts]) for index in (0, 1))

    whole, cut = frames(len(sound)), frames(777)
    np.testing.assert_allclose(cut[0], whole[0], atol=1e-6)
    np.testing.assert_allclose(cut[1], whole[1], atol=1e-6)
    assert len(whole[0]) == np.ceil(len(sound) / SAMPLE_RATE * FPS)
    assert whole[1].any()


def test_an_interrupted_performer_rests_its_mouth_within_200_ms_and_lives_on() -> None:
    performer = SpeechPerformer(FPS, seed=4)
    performer.feed(vowels([120.0] * 8, [0.9] * 8))
    ended = performer.interrupt()
    assert len(ended.weights) <= 0.2 * FPS
    assert not ended.weights[-1, MOUTH].any()
    after = performer.idle(250)
    assert not after.weights[:, MOUTH].any()
    assert blinks(after.weights) >= 1
    step = np.abs(after.rotation[0] - ended.rotation[-1]).max()
    assert np.degrees(step) < 2.0  # the head goes on from where it was


def test_an_idle_motion_lives_and_says_nothing() -> None:
    motion = idle_motion(20.0, 30.0, seed=1)
    assert (len(motion), motion.fps) == (600, 30.0)
    assert motion.rotation.abs().max() > 0.02
    assert not motion.weights[:, MOUTH].any()


def shown(conversation: Conversation, frames: int) -> tuple[np.ndarray, np.ndarray]:
    parts = [conversation.next_frame() for _ in range(frames)]
    return tuple(np.concatenate([part[index] for part in parts]) for index in (0, 1))


def test_a_conversation_speaks_at_the_pace_of_the_screen_and_lives_on() -> None:
    sound = vowels([120.0] * 10, [0.9] * 10)  # 3 seconds, which arrive at once
    conversation = Conversation(FPS, liveliness=0.0)
    idle, _ = shown(conversation, 10)
    assert not idle.any()
    conversation.feed(sound)
    conversation.end()
    assert conversation.waiting == pytest.approx(3.0)
    spoken, _ = shown(conversation, 75)
    performer = SpeechPerformer(FPS, liveliness=0.0)
    wanted = np.concatenate([performer.feed(sound).weights, performer.finish().weights])
    np.testing.assert_allclose(spoken, wanted, atol=1e-6)
    assert not shown(conversation, 5)[0].any()


def test_an_interrupted_conversation_rests_within_200_ms_though_speech_waits() -> None:
    conversation = Conversation(FPS, seed=2)
    conversation.feed(vowels([120.0] * 20, [0.9] * 20))  # 6 seconds
    before, turned = shown(conversation, 12)
    assert conversation.waiting > 4.0
    conversation.interrupt()
    after, turning = shown(conversation, 50)
    assert before[-1, MOUTH].any()
    assert not after[round(0.2 * FPS) :, MOUTH].any()
    assert np.degrees(np.abs(turning[0] - turned[-1]).max()) < 2.0  # no jump of the head
