"""The avatar in 3D: its exported web page in a frame of this one, which the sliders move in the browser."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.data_classes import FileData

from spatialavatar.app.controls import movements
from spatialavatar.app.fragments import static_text

FRONT = """() => {
    const tab = document.querySelectorAll("#views [role=tab]")[1];
    if (tab.getAttribute("aria-selected") !== "true") tab.click();
}"""
"""JavaScript of an event: show the avatar in 3D on the stage."""

HOLD = f"""(...values) => {{
    window.spatialAvatarHeld = values;
    window.dispatchEvent(new Event("spatialavatar-held"));
    ({FRONT})();
}}"""
"""JavaScript of an event: move the avatar by all sliders, whose values are the inputs in the order of CONTROLS.

The window stores the values: gradio creates the contents of a tab only when the tab is first opened.
"""


class LiveAvatar(gr.HTML):
    """Shows a file that ``spatialavatar.export.save_html`` wrote; its value is the path."""

    data_model = FileData

    def __init__(self, value: str | None = None, **options: Any) -> None:
        """Show ``value``; gradio re-creates the component with its own ``options``."""
        own = {
            "html_template": static_text("live.html"),
            "js_on_load": static_text("live.js"),
            "movements": movements(),
            "elem_classes": "sa-view",
        }
        super().__init__(value, **{**own, **options})

    def preprocess(self, payload: FileData | None) -> str | None:
        """The path of the shown file."""
        return None if payload is None else payload.path

    def postprocess(self, value: str | None) -> FileData | None:
        """The file at a path."""
        return None if value is None else FileData(path=value)

    def api_info(self) -> dict[str, Any]:
        """The schema of a file."""
        return FileData.model_json_schema()
