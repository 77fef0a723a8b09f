"""The web page: the avatar's stage and four steps.

Each step has its own module: ``create``, ``sharpen``, ``drive``, ``save``; they share ``stage``.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from spatialavatar.app import create, drive, save, sharpen
from spatialavatar.app.admission import bound_queue
from spatialavatar.app.api import add_endpoints, launch_arguments
from spatialavatar.app.assistants import add_assistants
from spatialavatar.app.backend import Backend, default_backend
from spatialavatar.app.fragments import STATIC, static_text
from spatialavatar.app.sessions import MAX_AGE, Sessions
from spatialavatar.app.stage import STEPS, Page, Stage
from spatialavatar.app.where import what_runs_where

# Texts of gradio's own components.
_WORDS = {
    "upload_text.drop_gallery": "Drop photos here",
    "upload_text.drop_video": "Drop a video here",
    "upload_text.drop_audio": "Drop a sound file here",
    "upload_text.drop_file": "Drop the file here",
    "upload_text.click_to_upload": "choose from this device",
    "common.webcam": "Use the camera",
}
_BUILDERS = {"create": create.build, "sharpen": sharpen.build, "drive": drive.build, "save": save.build}


def build_demo(backend: Backend | None = None, sessions: Sessions | None = None) -> gr.Blocks:
    """Build the page and the endpoints for programs.

    Args:
        backend: does the work; by default this package.
        sessions: keeps the visitors' files; by default new ones.
    """
    sessions = sessions or Sessions()
    with gr.Blocks(title="SpatialAvatar", analytics_enabled=False, delete_cache=(600, int(MAX_AGE))) as demo:
        sessions.uploads = demo.upload_file_set
        page = Page(backend or default_backend(), sessions)
        gr.HTML(static_text("header.html"), js_on_load=static_text("theme.js"), elem_id="sa-header")
        with gr.Row(elem_id="bench"):
            with gr.Column(scale=5, min_width=300, elem_id="stage"):
                page.stage = Stage()
            with gr.Column(scale=6, min_width=300, elem_id="panel"), gr.Tabs(elem_id="steps") as page.steps:
                for name, label in STEPS.items():
                    page.tabs[name] = gr.Tab(label, id=name, interactive=name == "create", render_children=True)
                # The last step first: its components are outputs of the others' events.
                for name in reversed(STEPS):
                    with page.tabs[name]:
                        _BUILDERS[name](page)
        # A separate event: gradio 6.31 loses a value for a closed tab while the same event, a generator, continues.
        page.avatar.change(
            page.live, page.avatar, page.stage.space, show_progress="hidden", api_visibility="private", queue=False
        )
        page.stage.place.input(
            lambda avatar, place: page.still(avatar, place) if avatar else {},
            [page.avatar, page.stage.place],
            page.stage.front,
            show_progress="hidden",
            api_visibility="private",
            queue=False,
        )
        gr.HTML(static_text("footer.html").replace("{where}", what_runs_where()), elem_id="sa-footer")
        add_endpoints(page.service, page.sessions)
        add_assistants()
        demo.unload(page.leave)
    bound_queue(demo)
    return demo


def launch_options() -> dict[str, Any]:
    """Arguments of ``launch`` that the page needs, and those that safety and privacy require."""
    return {
        **launch_arguments(),
        "theme": _theme(),
        "css_paths": [STATIC / "page.css"],
        "footer_links": [],
        "i18n": gr.I18n(en=_WORDS),
        "favicon_path": str(STATIC / "favicon.svg"),
    }


def _theme() -> gr.themes.Base:
    """Quiet colours, round corners, and fonts that gradio serves itself: nothing is fetched from elsewhere."""
    font = (
        gr.themes.LocalFont("Source Sans Pro"),
        gr.themes.LocalFont("Quicksand", weights=(700,)),
        "system-ui",
        "sans-serif",
    )
    theme = gr.themes.Base(primary_hue="teal", neutral_hue="slate", radius_size="lg", text_size="md", font=font)
    return theme.set(
        body_background_fill="#f6f8f9",
        body_background_fill_dark="#0f151b",
        block_background_fill_dark="#18212a",
        block_radius="18px",
        block_border_color="#dfe5ea",
        block_border_color_dark="#2b3742",
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_hover="#115e59",
        button_primary_background_fill_dark="#5eead4",
        button_primary_background_fill_hover_dark="#99f6e4",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#0b2a27",
        slider_color="#0f766e",
        slider_color_dark="#5eead4",
        checkbox_background_color_selected="#0f766e",
        checkbox_background_color_selected_dark="#0f766e",
        color_accent="#0f766e",
        body_text_color_subdued="#55636f",
        body_text_color_subdued_dark="#a9b7c2",
        block_info_text_color="#55636f",
        block_info_text_color_dark="#a9b7c2",
    )
