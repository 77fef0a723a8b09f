"""Controls of step 3 for an avatar that speaks a text, a recording or a sound file."""

from __future__ import annotations

from typing import Any

import gradio as gr

from spatialavatar.app import checks, fragments
from spatialavatar.speech.synthesis import VOICES, missing_synthesiser

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
_TYPED, _RECORDED = "typed", "recorded"


class SpeechControls:
    """The controls, created at their place on the page.

    Attributes:
        inputs: components whose values :meth:`values` takes.
        sound: the recording or the sound file.
    """

    def __init__(self) -> None:
        missing = missing_synthesiser()
        how = gr.State(_RECORDED if missing else _TYPED)
        with gr.Tabs(elem_id="says", selected=_RECORDED if missing else _TYPED, overflow_behavior="wrap"):
            with gr.Tab("Type a text", id=_TYPED) as typed:
                text = gr.Textbox(
                    label="What should it say?",
                    lines=3,
                    max_length=checks.MAX_SPEECH_LETTERS,
                    visible=missing is None,
                    elem_id="say-text",
                )
                voice = gr.Dropdown(
                    list(VOICES), value=next(iter(VOICES)), label="Voice", visible=missing is None, elem_id="say-voice"
                )
                if missing is not None:
                    gr.HTML(fragments.notice(missing, "stopped"))
            with gr.Tab("Record or choose a sound", id=_RECORDED) as recorded:
                self.sound = gr.Audio(
                    label="Speech", sources=["microphone", "upload"], type="filepath", buttons=[], elem_id="say-sound"
                )
        liveliness = gr.Slider(
            0.0, 1.0, 1.0, step=0.05, label="Motion of head, brows and eyes", buttons=[], elem_id="say-liveliness"
        )
        for tab in (typed, recorded):
            tab.select(lambda tab=tab: tab.id, None, how, **_QUIET)
        self.inputs = [how, text, voice, self.sound, liveliness]

    @staticmethod
    def values(how: str, text: str | None, voice: str, sound: str | None, liveliness: float) -> dict[str, Any]:
        """The values of /drive that the controls set.

        Raises:
            gr.Error: nothing is there to say.
        """
        if how == _TYPED:
            if not text:
                raise gr.Error("Type what the avatar should say first.", print_exception=False)
            default = voice == next(iter(VOICES))  # sent empty: espeak-ng may replace it
            return {"text": text, "voice": "" if default else VOICES[voice], "liveliness": liveliness}
        if not sound:
            raise gr.Error("Record something first, or choose a sound file.", print_exception=False)
        return {"audio": sound, "liveliness": liveliness}
