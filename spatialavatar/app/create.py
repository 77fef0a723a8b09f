"""Step 1 of the page: photos to an avatar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from spatialavatar.app import fragments
from spatialavatar.app.activity import Activity, Updates
from spatialavatar.app.stage import Page
from spatialavatar.app.steps import Step
from spatialavatar.examples import portraits

_INTRODUCTION = """
## Start with a photo
One clear photo of a face is enough. Two to four photos from different sides improve the likeness.
"""
_TIPS = """
* Look at the camera; slightly to the side is fine.
* Use even light. No sunglasses, and no hand in front of the face.
* The face should be large in the picture: a selfie works better than a group photo.
* Use photos of one person with the same hairstyle.
"""
_SCENE = "Keep the photo's background, to show the avatar in it. The avatar file then contains it."
_BUST = "Include the shoulders; without them the avatar ends below the neck."
_CONSENT = "This is me, or the person has agreed to this."

Photos = list[tuple[str, str | None]] | None


def build(page: Page) -> None:
    """Build the step and connect its events."""
    gr.Markdown(_INTRODUCTION)
    photos = gr.Gallery(
        label="Photos of one person",
        type="filepath",
        file_types=["image"],
        sources=["upload", "webcam", "clipboard"],
        columns=4,
        height=200,
        fit_columns=False,
        object_fit="cover",
        interactive=True,
        buttons=[],
        elem_id="photos",
    )
    more = gr.UploadButton("Add photos", file_types=["image"], file_count="multiple", size="sm", elem_id="more-photos")
    paths = {label: str(path) for label, path in portraits().items()}
    # Served in place: a copy in gradio's cache would be deleted with a visitor who uploads the same picture.
    gr.set_static_paths(list(paths.values()))
    gr.HTML('<p class="sa-label">Or try one of these</p>')
    with gr.Row(elem_id="portraits"):
        examples = {label: gr.Button(label, icon=path, size="sm", min_width=80) for label, path in paths.items()}
    consent = gr.Checkbox(label=_CONSENT, elem_id="consent")
    scene = gr.Checkbox(True, label=_SCENE, elem_id="keep-scene")
    bust = gr.Checkbox(True, label=_BUST, elem_id="keep-bust")
    making = Activity("Make the avatar", "Your avatar is ready.")
    seen = gr.HTML("", elem_id="seen")
    with gr.Row(visible=False, elem_classes="sa-next") as onward:
        to_drive = gr.Button("Next: make it move", variant="primary")
        to_sharpen = gr.Button("Improve the likeness first")
    with gr.Accordion("What makes a good photo?", open=False):
        gr.Markdown(_TIPS)
    with gr.Accordion("I have an avatar file from an earlier visit", open=False):
        file = gr.File(label="Avatar file", file_types=[".safetensors"], height=130, elem_id="avatar-file")
        opening = gr.HTML("")

    def make(
        request: gr.Request, taken: Photos, agreed: bool, scene: bool, bust: bool
    ) -> Iterator[tuple[Step, Updates]]:
        if not taken:
            raise gr.Error("Give a photo first: your own, or one of the examples.", print_exception=False)
        if not agreed:
            raise gr.Error("Please tick the box above first: it confirms consent.", print_exception=False)
        paths = [path for path, _ in taken]
        for step in page.service.steps("generate", photos=paths, consent=agreed, scene=scene, bust=bust):
            yield step, shown(request, step)

    def shown(request: gr.Request, step: Step) -> Updates:
        updates: Updates = {}
        pictures = [path for name, path in step.files.items() if name.startswith("seen_")]
        if pictures:
            updates[seen] = fragments.seen_photos(pictures, step.facts["photos"])
            updates |= page.stage.show(
                fragments.contact(pictures, "The face that was found in photo", "Found the face")
            )
        if "avatar" in step.files:
            updates |= page.opened(page.sessions.keep(request.session_hash, step.files["avatar"]))
            updates[onward] = gr.Row(visible=True)
        return updates

    making.on([making.start.click], make, [photos, consent, scene, bust], [*page.avatar_outputs, seen, onward])

    def choose(label: str) -> Callable[..., tuple[Any, bool]]:
        def chosen(request: gr.Request) -> tuple[Any, bool]:
            return [page.sessions.keep(request.session_hash, paths[label])], True

        return chosen

    def add(taken: Photos, new: list[str]) -> list[str]:
        return [*(path for path, _ in taken or ()), *new]

    def changed(taken: Photos, request: gr.Request) -> None:
        page.sessions.note(request.session_hash, [path for path, _ in taken or ()])

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
    for label, example in examples.items():
        example.click(choose(label), None, [photos, consent], **quiet)
    more.upload(add, [photos, more], photos, **quiet)
    # In the browser: the server's answer could arrive after the visitor's next tick, and untick it.
    gr.on([photos.upload, more.upload], None, None, consent, js="() => false", **quiet)
    photos.change(changed, photos, None, **quiet)

    def open_file(path: str | None, request: gr.Request) -> Updates:
        if path is None:
            return {opening: ""}
        page.sessions.note(request.session_hash, [path])
        try:
            updates = page.opened(page.sessions.keep(request.session_hash, path))
        except gr.Error as error:
            return {opening: fragments.notice(error.message, "problem")}
        return {**updates, opening: fragments.notice(f"Opened {Path(path).name}."), onward: gr.Row(visible=True)}

    file.change(open_file, file, [*page.avatar_outputs, opening, onward], **quiet)
    for button, step in ((to_drive, "drive"), (to_sharpen, "sharpen")):
        button.click(lambda step=step: gr.Tabs(selected=step), None, page.steps, **quiet)
