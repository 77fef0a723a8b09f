"""Step 2 of the page: a video of the person improves the likeness."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from spatialavatar.app import fragments
from spatialavatar.app.activity import Activity, Updates
from spatialavatar.app.stage import Page
from spatialavatar.app.steps import Step

_INTRODUCTION = """
## Improve the likeness
Optional. A video of ten seconds or more shows skin, hair and teeth from all sides. Turn your head slowly, smile and
talk.
"""


@dataclass(frozen=True)
class Quality:
    """How long to sharpen: until the steps or the minutes are used up, whichever is first."""

    steps: int
    size: int
    minutes: float
    hint: str


QUALITIES = {
    "Quick": Quality(300, 256, 1.5, "1 to 2 minutes"),
    "Better": Quality(1500, 256, 5.0, "up to 5 minutes"),
    "Best": Quality(4000, 512, 20.0, "up to 20 minutes"),
}


@dataclass(frozen=True)
class Run:
    """State to continue a stopped run; ``avatar`` is its initial avatar."""

    avatar: str
    clip: str
    quality: str
    checkpoint: str


def build(page: Page) -> None:
    """Build the step and connect its events."""
    gr.Markdown(_INTRODUCTION)
    clip = gr.Video(
        label="A video of the same person", sources=["upload", "webcam"], height=280, elem_id="sharpen-clip"
    )
    choices = [(f"{name}: {quality.hint}", name) for name, quality in QUALITIES.items()]
    quality = gr.Radio(choices, value="Quick", label="Quality", info="The time after the video has been tracked.")
    sharpening = Activity(
        "Sharpen",
        "Done. The avatar should look more like the person now.",
        "Stopped. The progress so far is kept.",
    )
    go_on = gr.Button("Continue where it stopped", visible=False)
    curve = gr.HTML("")
    run_state, points = gr.State(None), gr.State([])

    def begin(
        request: gr.Request, avatar: str | None, clip: str | None, quality: str
    ) -> Iterator[tuple[Step, Updates]]:
        if not clip:
            raise gr.Error("Give a short video of the person first.", print_exception=False)
        checkpoint = page.sessions.folder(request.session_hash) / f"{secrets.token_hex(4)}.safetensors"
        run = Run(page.there(avatar), clip, quality, str(checkpoint))
        yield Step(0.0, "Starting"), {run_state: run, points: [], curve: "", go_on: gr.Button(visible=False)}
        yield from sharpen(request, run, [])

    def resume(request: gr.Request, run: Run, learned: list[float]) -> Iterator[tuple[Step, Updates]]:
        if not (run and Path(run.clip).is_file()):
            raise gr.Error("The video was deleted; upload it again.", print_exception=False)
        yield Step(0.0, "Continuing"), {go_on: gr.Button(visible=False)}
        yield from sharpen(request, run, list(learned))

    def sharpen(request: gr.Request, run: Run, learned: list[float]) -> Iterator[tuple[Step, Updates]]:
        chosen = QUALITIES[run.quality]
        steps = page.service.steps(
            "refine",
            {"minutes": chosen.minutes, "checkpoint": run.checkpoint},
            avatar=page.there(run.avatar),
            video=run.clip,
            consent=True,
            iterations=chosen.steps,
            size=chosen.size,
        )
        for step in steps:
            updates: Updates = {}
            if losses := step.facts.get("losses"):
                learned.append(losses["l1"])
                updates |= {curve: fragments.curve(learned), points: list(learned)}
            if "preview" in step.files:
                picture = fragments.portrait(step.files["preview"], "Your avatar during sharpening", "Sharpening")
                updates |= page.stage.show(picture)
            if "avatar" in step.files:
                updates[page.avatar] = page.sessions.keep(request.session_hash, step.files["avatar"])
                if step.fraction >= 1.0:
                    updates |= page.opened(updates[page.avatar])
            yield step, updates

    outputs = [*page.avatar_outputs, run_state, points, curve, go_on]

    def stopped(avatar: str | None, run: Run | None) -> Updates:
        return {**page.opened(page.there(avatar)), go_on: gr.Button(visible=run is not None)}

    stop: dict[str, Any] = {"stopped": stopped, "stopped_inputs": [page.avatar, run_state]}
    sharpening.on([sharpening.start.click], begin, [page.avatar, clip, quality], outputs, **stop)
    sharpening.on([go_on.click], resume, [run_state, points], outputs, **stop)
    page.note_uploads(clip)
