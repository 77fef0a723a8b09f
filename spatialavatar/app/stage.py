"""The stage, which shows the avatar next to every step of the page, and the state shared by the steps."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from spatialavatar.app import fragments
from spatialavatar.app.activity import Updates
from spatialavatar.app.backend import Backend
from spatialavatar.app.live import LiveAvatar
from spatialavatar.app.requests import EXPORTS
from spatialavatar.app.service import Service
from spatialavatar.app.sessions import Sessions
from spatialavatar.app.still import StillRequest, keeps_photo
from spatialavatar.staging import SceneKind

ALONE = "On its own"
PLACES: dict[str, SceneKind] = {"In the photo": "photo", ALONE: "plain"}
"""Where the avatar is shown, and the scene of a drive."""

STEPS = {"create": "Create", "sharpen": "Sharpen", "drive": "Drive", "save": "Save"}
Follow = Callable[[str], Updates]
"""From the path of a new file to the updates that it causes."""


class Stage:
    """The avatar as a picture or a video, and in 3D; created at its place on the page.

    A video is not a gr.Video in its own tab: gradio 6.31 loses a value that arrives while the tab opens.
    """

    def __init__(self) -> None:
        with gr.Tabs(elem_id="views", selected="picture") as self.views:
            with gr.Tab("Avatar", id="picture"):
                self.picture = gr.HTML(fragments.empty_stage("Your avatar appears here"), elem_classes="sa-view")
                self.place = gr.Radio(
                    list(PLACES), value=ALONE, show_label=False, container=False, visible=False, elem_id="place"
                )
            with gr.Tab("3D", id="space", interactive=False) as self.space_tab:
                self.space = LiveAvatar()
                gr.HTML('<p class="sa-hint">Drag to rotate; scroll or pinch to zoom.</p>')

    @property
    def front(self) -> list[Any]:
        """The components that :meth:`show` changes."""
        return [self.views, self.picture, self.place]

    def show(self, picture: str) -> Updates:
        """Updates that show this HTML at the front."""
        return {self.picture: picture, self.views: gr.Tabs(selected="picture")}


class Page:
    """The state that the four steps share: service, files, avatar, video, stage, and the row of steps."""

    def __init__(self, backend: Backend, sessions: Sessions) -> None:
        self.backend, self.service, self.sessions = backend, Service(backend), sessions
        self.avatar, self.video = gr.State(None), gr.State(None)
        self.stage: Stage
        self.steps: gr.Tabs
        self.tabs: dict[str, gr.Tab] = {}
        self._followers: dict[str, list[tuple[list[Any], Follow]]] = {"avatar": [], "video": []}

    def when_there_is_an_avatar(self, outputs: list[Any], updates: Follow) -> None:
        """Apply ``updates(avatar)`` to ``outputs`` after an avatar is made, sharpened or opened."""
        self._followers["avatar"].append((outputs, updates))

    def when_there_is_a_video(self, outputs: list[Any], updates: Follow) -> None:
        """As :meth:`when_there_is_an_avatar`, for a video."""
        self._followers["video"].append((outputs, updates))

    def note_uploads(self, *components: Any) -> None:
        """Delete this component's uploads when the visitor leaves."""

        def note(path: str | None, request: gr.Request) -> None:
            self.sessions.note(request.session_hash, [path] if path else [])

        for component in components:
            component.change(note, component, None, show_progress="hidden", api_visibility="private", queue=False)

    def leave(self, request: gr.Request) -> None:
        """Delete the visitor's files."""
        self.sessions.close(request.session_hash)

    @property
    def avatar_outputs(self) -> list[Any]:
        """The components that change with the avatar."""
        later = [tab for name, tab in self.tabs.items() if name != "create"]
        return self._with_followers("avatar", [self.avatar, *self.stage.front, self.stage.space_tab, *later])

    @property
    def video_outputs(self) -> list[Any]:
        """The components that change with the video."""
        return self._with_followers("video", [self.video, *self.stage.front])

    def _with_followers(self, what: str, outputs: list[Any]) -> list[Any]:
        return list(dict.fromkeys([*outputs, *(one for more, _ in self._followers[what] for one in more)]))

    def opened(self, avatar: str) -> Updates:
        """The updates that show an avatar file on the stage and enable the later steps.

        Raises:
            gr.Error: it is not an avatar.
        """
        place = next(iter(PLACES)) if keeps_photo(self.there(avatar)) else ALONE
        updates: Updates = {self.avatar: avatar, self.stage.space_tab: gr.Tab(interactive=True)}
        updates |= {tab: gr.Tab(interactive=True) for name, tab in self.tabs.items() if name != "create"}
        updates |= self.still(avatar, place)
        updates[self.stage.place] = gr.Radio(value=place, visible=place != ALONE)
        for _, follow in self._followers["avatar"]:
            updates |= follow(avatar)
        return updates

    def still(self, avatar: str, place: str) -> Updates:
        """The updates that show the avatar with a neutral face, at one of ``PLACES``.

        Raises:
            gr.Error: it is not an avatar.
        """
        size = 512 if place == ALONE else 1024
        picture = self.backend.still(StillRequest(self.there(avatar), size, PLACES[place]))
        words = "seen from the front" if place == ALONE else "in the photo that it was made from"
        return self.stage.show(fragments.portrait(picture, f"Your avatar with a neutral face, {words}"))

    def filmed(self, video: str) -> Updates:
        """The updates that play a video on the stage."""
        updates: Updates = {self.video: video, **self.stage.show(fragments.film(video))}
        for _, follow in self._followers["video"]:
            updates |= follow(video)
        return updates

    def live(self, avatar: str | None) -> str | None:
        """The path of the avatar's web page, which the stage shows in 3D."""
        return self.exported(avatar, "html")["html"] if avatar else None

    def exported(self, avatar: str, *forms: str) -> dict[str, str]:
        """Paths of exported files by format, in the avatar's folder; each is written at its first request."""
        paths = {form: Path(avatar).with_name(EXPORTS[form]) for form in forms}
        if not all(path.is_file() for path in paths.values()):
            for step in self.service.steps("export", {"forms": tuple(paths)}, avatar=avatar):
                for form, made in step.files.items():
                    shutil.copyfile(made, paths[form])
        return {form: str(path) for form, path in paths.items()}

    @staticmethod
    def there(avatar: str | None) -> str:
        """The avatar's path.

        Raises:
            gr.Error: there is none, or it was deleted.
        """
        if not avatar:
            raise gr.Error("Make an avatar first: it takes one photo and a few seconds.", print_exception=False)
        if not Path(avatar).is_file():
            raise gr.Error("Your avatar was deleted after two hours. Make it again.", print_exception=False)
        return avatar
