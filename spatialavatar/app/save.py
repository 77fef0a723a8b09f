"""Step 4 of the page: files to save."""

from __future__ import annotations

import os
from typing import Any

import gradio as gr

from spatialavatar.app import fragments
from spatialavatar.app.activity import Updates
from spatialavatar.app.stage import Page

_INTRODUCTION = """
## Save your files
Nothing is kept here after you leave, so save what you want to keep.
"""
_THINGS = {  # title, what is on the button, what it is
    "video": ("Video", "video", "An MP4 file that plays everywhere; without a background, a WebM file."),
    "avatar": ("Avatar", "avatar", "Open it here again, or use it in a program."),
    "html": ("Web page", "web page", "One file that shows and moves it in any browser."),
    "speaking_html": (
        "Speaking page",
        "speaking page",
        "The web page, which also speaks from a microphone or a sound.",
    ),
    "ply": ("3D file", "3D file", "The neutral head for splat viewers (.ply)."),
    "card": ("Description", "description", "What it is, how to use it, and what is allowed."),
}
_LATER = ("speaking_html", "ply", "card")  # files that are made when this step is opened
_SIGN_IN = """
### Upload to your account
Sign in with Hugging Face to upload the avatar to a private repository of yours.
"""


def build(page: Page) -> None:
    """Build the step and connect its events."""
    gr.Markdown(_INTRODUCTION)
    buttons: dict[str, gr.DownloadButton] = {}
    with gr.Column(elem_classes="sa-things"):
        for name, (title, _, what) in _THINGS.items():
            with gr.Row(elem_classes="sa-thing", equal_height=True):
                gr.HTML(f"<strong>{title}</strong><p>{what}</p>")
                buttons[name] = gr.DownloadButton("Save", interactive=False, elem_id=f"save-{name}", size="md")
    play = gr.Button("Play the video again", visible=False)
    trouble = gr.HTML("")
    gr.HTML('<p class="sa-hint">The metadata of every file states that it was made with SpatialAvatar.</p>')

    def saved(name: str, path: str) -> Updates:
        return {buttons[name]: gr.DownloadButton(f"Save the {_THINGS[name][1]}", value=path, interactive=True)}

    page.when_there_is_an_avatar(
        [buttons[name] for name in ("avatar", "html", *_LATER)],
        lambda avatar: {
            **saved("avatar", avatar),
            **saved("html", page.exported(avatar, "html")["html"]),
            **{buttons[name]: gr.DownloadButton("Save", value=None, interactive=False) for name in _LATER},
        },
    )
    page.when_there_is_a_video(
        [buttons["video"], play], lambda video: {**saved("video", video), play: gr.Button(visible=True)}
    )

    def prepare(avatar: str | None) -> Updates:
        try:
            made = page.exported(page.there(avatar), *_LATER)
        except gr.Error as error:
            return {trouble: fragments.notice(error.message, "problem")}
        return {trouble: "", **{key: value for name in _LATER for key, value in saved(name, made[name]).items()}}

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    play.click(lambda video: page.stage.show(fragments.film(video)), page.video, page.stage.front, **quiet)
    page.tabs["save"].select(prepare, page.avatar, [*(buttons[name] for name in _LATER), trouble], **quiet)
    if "OAUTH_CLIENT_ID" in os.environ:
        _own_account(page)


def _own_account(page: Page) -> None:
    """Build the sign-in and the upload; only a Space with OAuth has them."""
    gr.Markdown(_SIGN_IN)
    gr.LoginButton()
    name = gr.Textbox(label="Repository name", value="my-avatar", max_lines=1)
    push = gr.Button("Upload")
    answer = gr.HTML("")

    def pushed(avatar: str | None, name: str, profile: gr.OAuthProfile | None, token: gr.OAuthToken | None) -> str:
        if profile is None or token is None:
            return fragments.notice("Sign in first.", "problem")
        from spatialavatar import Avatar

        try:
            address = Avatar.load(page.there(avatar)).push_to_hub(
                f"{profile.username}/{name.strip()}", token=token.token
            )
        except gr.Error as error:
            return fragments.notice(error.message, "problem")
        except Exception as error:
            return fragments.notice(f"The upload failed: {error}", "problem")
        return fragments.notice(f"Uploaded to {address}")

    push.click(pushed, [page.avatar, name], answer, api_visibility="private")
