"""The quality report: figures, verdicts and JSON from a track's record, without any video."""

from __future__ import annotations

import json
import math

import pytest
import torch

from spatialavatar.errors import InputError
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.records import FRAME_STATES
from spatialavatar.tracking import load_track, save_track
from spatialavatar.tracking.frame_quality import frame_warnings
from spatialavatar.tracking.quality import as_json, clip_quality, jitter_of

from .support.tracks import FPS, FRAMES, a_track


def test_a_good_clip_has_one_verdict():
    quality = clip_quality(a_track())
    assert quality.verdicts == (
        "50 of 50 frames tracked, landmark error 1.0 % of the eye distance (95 % of frames below 1.0 %), 0 blinks.",
    )
    assert quality.median_error == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("profile", "face turned past about 60 degrees"),
        ("held", "does not fit"),
        ("lost", "no face, motion held"),
        ("dark", "too dark"),
        ("other_person", "another person"),
    ],
)
def test_a_bad_stretch_is_told_in_words_with_its_frames(state, words):
    verdict = clip_quality(a_track({state: slice(20, 31)})).verdicts[1]
    assert verdict.startswith("Frames 20-30: ")
    assert words in verdict


def test_stretches_with_a_short_gap_are_told_as_one():
    state = torch.zeros(FRAMES, dtype=torch.uint8)
    state[10:20] = state[22:30] = FRAME_STATES.index("profile")
    assert [v.split(":")[0] for v in clip_quality(a_track(state=state)).verdicts[1:]] == ["Frames 10-29"]


def test_cuts_are_counted_from_the_shots():
    quality = clip_quality(a_track(shot=(torch.arange(FRAMES) >= 30).int()))
    assert quality.cuts == (30,)
    assert "Frame 30: cut to another shot." in quality.verdicts


def test_a_jump_of_the_light_is_told_but_not_at_a_cut():
    luma = torch.where(torch.arange(FRAMES) >= 30, 0.8, 0.4)
    assert clip_quality(a_track(luma=luma)).exposure_jumps == (30,)
    assert clip_quality(a_track(luma=luma, shot=(torch.arange(FRAMES) >= 30).int())).exposure_jumps == ()


def test_a_blink_is_short():
    scores = torch.zeros(FRAMES, 52)
    for stretch in (slice(5, 9), slice(20, 45)):  # a blink, and a second of shut eyes
        scores[stretch, ARKIT_INDEX["eyeBlinkLeft"]] = scores[stretch, ARKIT_INDEX["eyeBlinkRight"]] = 0.8
    assert clip_quality(a_track(blendshapes=scores)).blinks == ((5, 9),)


def test_the_json_holds_every_frame_and_no_nan():
    report = as_json(a_track({"lost": slice(0, 5)}))
    assert json.loads(json.dumps(report, allow_nan=False)) == json.loads(json.dumps(report))
    assert report["per_frame"]["state"][:6] == ["lost"] * 5 + ["ok"]
    assert report["per_frame"]["error"][0] is None
    assert {len(values) for values in report["per_frame"].values()} == {FRAMES}


def test_a_clip_without_any_face_still_has_a_report():
    report = as_json(a_track({"lost": slice(0, FRAMES)}))
    assert report["clip"]["median_error"] is None
    assert report["clip"]["states"]["lost"] == FRAMES


def test_the_record_survives_the_tracks_file(tmp_path):
    track = a_track({"lost": slice(0, 5)})
    save_track(track, tmp_path / "a.safetensors")
    assert as_json(load_track(tmp_path / "a.safetensors")) == as_json(track)


def test_a_track_without_a_record_is_refused():
    track = a_track()
    with pytest.raises(InputError, match="no quality record"):
        clip_quality(track.replace(evidence=track.evidence.replace(quality=None)))


def test_jitter_is_what_trembles_not_what_moves():
    generator = torch.Generator().manual_seed(0)
    path = (5 * torch.sin(torch.linspace(0, 6.3, 200)))[:, None, None].expand(200, 8, 2)
    noise = torch.randn(200, 8, 2, generator=generator)
    fitted, detected = jitter_of(path, path + noise, torch.tensor(100.0))
    assert fitted < 0.1 * detected
    assert detected == pytest.approx(2**0.5 / 100, rel=0.2)


def test_jitter_of_a_few_frames_is_unknown():
    assert math.isnan(jitter_of(torch.zeros(3, 8, 2), torch.zeros(3, 8, 2), torch.tensor(1.0))[0])


def test_lost_frames_of_a_clip_without_a_rate_are_named_by_number():
    track = a_track({"lost": slice(10, 14)})
    timed, untimed = (
        " ".join(frame_warnings("clip.mp4", track.with_motion(fps=fps).motion, track.require_quality()))
        for fps in (FPS, 0.0)
    )
    assert "from 0.4 to 0.6 seconds" in timed
    assert "from frame 10 to 13" in untimed
