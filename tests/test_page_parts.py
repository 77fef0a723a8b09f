"""The page's pieces that need no browser: what the sliders stand for, and the HTML that is made of visitors' words."""

from __future__ import annotations

import itertools
import math

import pytest

pytest.importorskip("gradio", reason="the page needs the extra 'app': pip install -e '.[app]'")

from spatialavatar.app import fragments
from spatialavatar.app.activity import _time_left
from spatialavatar.app.controls import CONTROLS, MOODS, mood_values, movements
from spatialavatar.app.drive import _scene
from spatialavatar.head.arkit import ARKIT_52


def movement_of(label: str) -> dict[str, dict[str, float]]:
    return next(moved for control, moved in zip(CONTROLS, movements(), strict=True) if control.label == label)


def test_every_slider_moves_known_units() -> None:
    for control in CONTROLS:
        assert set(control.up) | set(control.down) <= set(ARKIT_52), control.label
        assert bool(control.angle) != bool(control.up), control.label


def test_every_mood_is_within_the_limits_of_its_sliders() -> None:
    for mood, values in MOODS.items():
        assert set(values) <= {control.label for control in CONTROLS}, mood
        for control, value in zip(CONTROLS, mood_values(mood), strict=True):
            assert control.low <= value <= control.limit, (mood, control.label)


def test_the_two_ends_of_a_slider_are_two_expressions() -> None:
    moved = movement_of("Frown – smile")
    assert moved["up"]["mouthSmileLeft"] == moved["down"]["mouthFrownLeft"] == 1.0
    assert not set(moved["up"]) & set(moved["down"])


def test_the_right_end_of_nod_looks_up_and_of_turn_to_the_right_of_the_picture() -> None:
    assert movement_of("Nod") == {"up": {"pitch": -math.radians(1)}, "down": {"pitch": math.radians(1)}}
    assert movement_of("Turn the head") == {"up": {"yaw": math.radians(1)}, "down": {"yaw": -math.radians(1)}}


def test_texts_of_visitors_are_escaped() -> None:
    evil = "<img src=x onerror=alert(1)>"
    for html in (fragments.notice(evil), fragments.progress_bar(0.5, evil, evil), fragments.empty_stage(evil)):
        assert "<img" not in html
        assert "&lt;img" in html
    assert '"' not in fragments.film('/tmp/a"b.mp4').split('src="')[1].split('"')[0]


def test_the_curve_falls_from_the_upper_left_to_the_lower_right() -> None:
    html = fragments.curve([1.0 / step for step in range(1, 200)])
    points = [tuple(map(float, pair.split(","))) for pair in html.split('points="')[1].split('"')[0].split()]
    assert points[0] == (0.0, 6.0)
    assert points[-1] == (300.0, 74.0)
    assert all(earlier[1] <= later[1] for earlier, later in itertools.pairwise(points))


def test_a_curve_of_two_points_is_not_drawn() -> None:
    assert fragments.curve([1.0, 0.5]) == ""


@pytest.mark.parametrize(
    ("fraction", "elapsed", "text"),
    [
        (0.05, 60.0, ""),
        (0.5, 1.0, ""),
        (0.9, 9.0, "a few seconds left"),
        (0.5, 22.0, "about 20 seconds left"),
        (0.5, 62.0, "about 1 minute left"),
        (0.2, 60.0, "about 4 minutes left"),
    ],
)
def test_the_remaining_time_is_shown_once_it_can_be_estimated(fraction: float, elapsed: float, text: str) -> None:
    assert _time_left(fraction, elapsed) == text


@pytest.mark.parametrize(
    ("place", "behind", "colour", "expected"),
    [
        ("In the photo", "Default", "#336699", ("photo", {})),
        ("In the photo", "The photo's, out of focus", "#336699", ("photo", {"background": "blur"})),
        ("On its own", "A colour", "rgba(51.2, 102, 153, 1)", ("plain", {"background": "#336699"})),
        ("On its own", "A picture", "#336699", ("plain", {"picture": "beach.jpg"})),
        ("In the photo", "None (transparent)", "#336699", ("transparent", {})),
    ],
)
def test_the_background_of_the_page_is_a_scene_and_a_background(
    place: str, behind: str, colour: str, expected: tuple[str, dict[str, str]]
) -> None:
    assert _scene(place, behind, colour, "beach.jpg") == expected


def test_signing_in_is_offered_only_with_oauth(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("spaces", reason="the page needs the extra 'app': pip install -e '.[app]'")
    import gradio as gr

    from spatialavatar.app.page import build_demo

    from .support.fake_backend import FakeBackend

    offers: list[str] = []
    # gradio's login button requests an account from the Hub when it is created.
    monkeypatch.setattr(gr, "LoginButton", lambda: offers.append("sign in"))
    monkeypatch.delenv("OAUTH_CLIENT_ID", raising=False)
    build_demo(FakeBackend().backend())
    assert offers == []
    monkeypatch.setenv("OAUTH_CLIENT_ID", "an app of the Hub")
    build_demo(FakeBackend().backend())
    assert offers == ["sign in"]
