"""Step 3 of the page: the avatar follows an example or a video, speaks, or is moved by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import gradio as gr

from spatialavatar.app import fragments
from spatialavatar.app.activity import Activity, Updates
from spatialavatar.app.controls import CONTROLS, GROUPS, MOODS, mood_values
from spatialavatar.app.live import FRONT, HOLD
from spatialavatar.app.say import SpeechControls
from spatialavatar.app.stage import PLACES, Page
from spatialavatar.app.steps import Step
from spatialavatar.examples import MOTIONS
from spatialavatar.staging import BLUR, SceneKind

_INTRODUCTION = """
## Bring it to life
Play an example, follow a video of a face, let the avatar speak, or move it by hand. Use videos and voices of people who
agree to it.
"""
_IN_THE_BROWSER: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
_SIZES = {"Small": 256, "Medium": 512, "Large": 768}
_STRENGTHS = {
    "strength": "Whole face",
    "mouth": "Mouth",
    "brows": "Brows",
    "lids": "Eyelids",
    "gaze": "Gaze",
    "pose": "Head",
}
_BODIES = {"With shoulders": True, "Head only": False}
_BACKGROUNDS = ("Default", "A colour", "A picture", "The photo's, out of focus", "None (transparent)")
_HEAD_POSES = {"Into the camera": "centred", "Where the filmed head looks": "as filmed"}


def build(page: Page) -> None:
    """Build the step and connect its events."""
    gr.Markdown(_INTRODUCTION)
    way = gr.State("example")
    with gr.Tabs(elem_id="ways", overflow_behavior="wrap"):
        with gr.Tab("Example", id="example") as example:
            motion = gr.Radio(list(MOTIONS), value=next(iter(MOTIONS)), label="What should it do?", elem_id="motion")
        with gr.Tab("Your video", id="video") as video:
            clip = gr.Video(label="A video of a face", sources=["upload", "webcam"], height=280, elem_id="clip")
            with gr.Accordion("I have a motion file", open=False):
                file = gr.File(label="Motion file (.json or .csv)", file_types=[".json", ".csv"], height=120)
        with gr.Tab("Say something", id="say") as saying:
            say = SpeechControls()
        with gr.Tab("By hand", id="hand", elem_id="by-hand") as hand:
            sliders = _by_hand(page)
    with gr.Column(elem_id="filming"):  # page.css hides it under the tab By hand, without a request
        with gr.Accordion("Settings", open=False):
            with gr.Row(elem_classes="sa-strengths"):
                strengths = [
                    gr.Slider(0.0, 2.0, 1.0, step=0.05, label=label, min_width=80, buttons=[])
                    for label in _STRENGTHS.values()
                ]
            smoothing = gr.Slider(0.0, 5.0, 1.0, step=0.1, label="Smoothing of the video's motion", buttons=[])
            size = gr.Radio(list(_SIZES), value="Medium", label="Size of the video")
            head_pose = gr.Radio(list(_HEAD_POSES), value=next(iter(_HEAD_POSES)), label="Where should the head look?")
            body = gr.Radio(
                list(_BODIES),
                value=next(iter(_BODIES)),
                label="How much of the person? (In the photo: always all)",
                elem_id="body",
            )
            behind = gr.Radio(list(_BACKGROUNDS), value=_BACKGROUNDS[0], label="Background", elem_id="behind")
            colour = gr.ColorPicker("#ffffff", label="Colour of the background", visible=False, elem_id="colour")
            picture = gr.File(
                label="Picture of the background", file_types=["image"], height=120, visible=False, elem_id="backdrop"
            )
        settings = [smoothing, size, head_pose, body, behind, colour, picture]
        moving = Activity("Make the video", "Your video is ready.", warns=True)

    def move(
        request: gr.Request,
        avatar: str | None,
        way: str,
        motion: str,
        clip: str | None,
        file: str | None,
        *options: Any,
    ) -> Iterator[tuple[Step, Updates]]:
        spoken, options = options[: len(say.inputs)], options[len(say.inputs) :]
        place, smoothing, size, head_pose, body, behind, colour, picture, *strengths = options
        source: dict[str, Any] = {"example": motion}
        if way == "say":
            source = say.values(*spoken)
        elif way == "video":
            source = {"motion": clip or file}
            if not source["motion"]:
                raise gr.Error("Give a video of a face first, or choose an example.", print_exception=False)
        scene, background = _scene(place, behind, colour, picture)
        steps = page.service.steps(
            "drive",
            avatar=page.there(avatar),
            consent=True,
            **source,
            **dict(zip(_STRENGTHS, strengths)),
            smoothing=smoothing,
            size=_SIZES[size],
            head_pose="centred" if scene == "photo" else _HEAD_POSES[head_pose],
            scene=scene,
            **background,
            bust=_BODIES[body],
        )
        for step in steps:
            yield step, shown(request, step)

    def shown(request: gr.Request, step: Step) -> Updates:
        if "preview" in step.files:
            picture = fragments.portrait(step.files["preview"], "A frame of the video that is being made")
            return page.stage.show(picture)
        if "video" in step.files:
            return page.filmed(page.sessions.keep(request.session_hash, step.files["video"]))
        return {}

    moving.on(
        [moving.start.click],
        move,
        [page.avatar, way, motion, clip, file, *say.inputs, page.stage.place, *settings, *strengths],
        page.video_outputs,
    )
    behind.change(
        lambda one: (gr.ColorPicker(visible=one == _BACKGROUNDS[1]), gr.File(visible=one == _BACKGROUNDS[2])),
        behind,
        [colour, picture],
        **_IN_THE_BROWSER,
    )
    for tab in (example, video, saying):
        tab.select(lambda tab=tab: tab.id, None, way, **_IN_THE_BROWSER)
    hand.select(None, None, None, js=FRONT, **_IN_THE_BROWSER)
    page.note_uploads(clip, file, say.sound, picture)
    page.when_there_is_an_avatar(sliders, lambda _: dict.fromkeys(sliders, 0.0))


def _scene(place: str, behind: str, colour: str, picture: str | None) -> tuple[SceneKind, dict[str, Any]]:
    """Scene of a drive, and its values for the background, from one of ``PLACES`` and one of ``_BACKGROUNDS``.

    Raises:
        gr.Error: there is no picture yet.
    """
    own, plain, pictured, blurred, nothing = _BACKGROUNDS
    if behind == nothing:
        return "transparent", {}
    if behind == pictured and picture is None:
        raise gr.Error("Choose a picture for the background first, or another background.", print_exception=False)
    values = {
        own: {},
        plain: {"background": _as_hex(colour)},
        pictured: {"picture": picture},
        blurred: {"background": BLUR},
    }
    return PLACES[place], values[behind]


def _as_hex(colour: str) -> str:
    """A colour of gradio's picker, #336699 or rgba(51.2, 102, 153, 1), as #336699."""
    if colour.startswith("#"):
        return colour
    return "#" + "".join(f"{min(255, round(float(number))):02x}" for number in re.findall(r"[\d.]+", colour)[:3])


def _by_hand(page: Page) -> list[Any]:
    """Build buttons for expressions and a slider for each control; they move the avatar in the browser."""
    with gr.Row(elem_classes="sa-moods"):
        moods = {mood: gr.Button(mood, size="sm") for mood in MOODS}
    sliders = []
    for name, controls in GROUPS.items():
        with gr.Accordion(name, open=name == "Mouth", elem_classes="sa-face"):
            for control in controls:
                step = 1.0 if control.angle else 0.05
                slider = gr.Slider(control.low, control.limit, 0.0, step=step, label=control.label, buttons=[])
                sliders.append(slider)
    for slider in sliders:
        slider.input(None, sliders, None, js=HOLD, **_IN_THE_BROWSER)
    for mood, button in moods.items():
        values = json.dumps(mood_values(mood))
        button.click(None, None, sliders, js=f"() => {{ ({HOLD})(...{values}); return {values}; }}", **_IN_THE_BROWSER)
    assert len(sliders) == len(CONTROLS)
    return sliders
