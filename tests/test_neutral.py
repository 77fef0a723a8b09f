"""The neutral of a clip: where each unit, the jaw and the gaze rest."""

from __future__ import annotations

import torch

from spatialavatar.head.arkit import ARKIT_52, ARKIT_INDEX
from spatialavatar.records import HeadParams
from spatialavatar.tracking.neutral import neutral_of, resting_units

FRAMES = 100


def clip(jaw: torch.Tensor | float = 0.0, gaze: float = 0.0, **units: torch.Tensor | float) -> torch.Tensor:
    """The neutral of a clip of a head with the 52 units, jaw in radians; (61,)."""
    expression, angles, eyes = torch.zeros(FRAMES, 52), torch.zeros(FRAMES, 3), torch.zeros(FRAMES, 6)
    for name, value in units.items():
        expression[:, ARKIT_INDEX[name]] = value
    angles[:, 0] = jaw
    eyes[:, [1, 4]] = gaze
    zero = torch.zeros(FRAMES, 3)
    params = HeadParams(torch.zeros(4), expression, zero, zero, zero, angles, eyes)
    return neutral_of(params, torch.ones(FRAMES), ARKIT_52)


def wave(low: float, high: float) -> torch.Tensor:
    return low + (high - low) * (0.5 - 0.5 * torch.cos(torch.linspace(0, 20, FRAMES)))


def test_the_neutral_of_a_talker_whose_mouth_is_mostly_open_has_a_closed_mouth():
    jaw = torch.full((FRAMES,), 0.2)
    jaw[:15] = 0.0
    assert float(clip(jaw=jaw)[52]) < 0.01


def test_a_mouth_that_never_closes_still_opens_on_the_avatar():
    assert float(clip(jaw=wave(0.15, 0.25))[52]) < 0.06


def test_raised_brows_at_rest_are_partly_neutral():
    rest = float(clip(browInnerUp=wave(0.6, 0.9))[ARKIT_INDEX["browInnerUp"]])
    assert 0.3 < rest < 0.4


def test_a_lasting_smile_is_neutral():
    assert float(clip(mouthSmileLeft=0.5)[ARKIT_INDEX["mouthSmileLeft"]]) > 0.49


def test_lids_are_absolute():
    rest = clip(eyeBlinkLeft=0.3, eyeBlinkRight=wave(0.2, 1.0))
    assert float(rest[ARKIT_INDEX["eyeBlinkLeft"]]) == 0.0
    assert float(rest[ARKIT_INDEX["eyeBlinkRight"]]) == 0.0


def test_a_wink_keeps_both_lids_as_they_are():
    wink = torch.zeros(FRAMES)
    wink[40:90] = 1.0  # longer than half the clip
    assert float(clip(eyeBlinkLeft=wink)[ARKIT_INDEX["eyeBlinkLeft"]]) == 0.0


def test_a_driver_who_looks_aside_throughout_looks_aside_on_the_avatar():
    assert abs(float(clip(gaze=0.4)[57])) <= 0.1


def test_units_that_are_active_now_and_then_rest_at_zero():
    weights = torch.zeros(FRAMES, 52)
    weights[::2] = 0.6
    assert float(resting_units(weights, ARKIT_52).max()) == 0.0
