"""The avatar in the browser: its exported web page as a part of this one, which sliders move without the server."""

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
"""JavaScript of an event: bring the avatar to the front of the stage."""

HOLD = f"""(...values) => {{
    window.spatialAvatarHeld = values;
    window.dispatchEvent(new Event("spatialavatar-held"));
    ({FRONT})();
}}"""
"""JavaScript of an event: the avatar as the sliders have it; the inputs are all of them, in the order of CONTROLS.

The values are the window's: gradio makes what is in a tab only when the tab is first opened.
"""


class LiveAvatar(gr.HTML):
    """Shows the file that ``spatialavatar.export.save_html`` wrote; takes and gives its path."""

    data_model = FileData

    def __init__(self, value: str | None = None, **options: Any) -> None:
        """Show ``value``; gradio makes the component again with ``options`` that it knows."""
        own = {
            "html_template": static_text("live.html"),
            "js_on_load": static_text("live.js"),
            "movements": movements(),
            "elem_classes": "sa-view",
        }
        super().__init__(value, **{**own, **options})

    def preprocess(self, payload: FileData | None) -> str | None:
        """The path of what is shown."""
        return None if payload is None else payload.path

    def postprocess(self, value: str | None) -> FileData | None:
        """The page at a path."""
        return None if value is None else FileData(path=value)

    def api_info(self) -> dict[str, Any]:
        """The schema of a file."""
        return FileData.model_json_schema()
