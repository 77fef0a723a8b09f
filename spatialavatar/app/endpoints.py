"""What the page and programs ask for: the same calls for both, each a stream of steps in a folder of its own.

:class:`Service` does the asking. :func:`add_endpoints` gives it to programs, as gradio endpoints and as MCP tools:
stateless, files in and files out, and checked before they queue.
"""

from __future__ import annotations

import importlib.util
import inspect
import tempfile
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import gradio as gr
from fastapi import Request
from fastapi.responses import JSONResponse

from spatialavatar import __version__
from spatialavatar.app import checks
from spatialavatar.app.backend import (
    EXPORTS,
    Backend,
    DriveRequest,
    ExportRequest,
    GenerateRequest,
    RefineRequest,
    TrackRequest,
)
from spatialavatar.app.parameters import FACTS, FILE, FILES, FLAG, NUMBER, WHOLE, Parameter, one_of
from spatialavatar.app.sessions import Sessions
from spatialavatar.app.steps import Step, Steps, complaint, for_people, plain
from spatialavatar.app.where import what_runs_where
from spatialavatar.errors import SpatialAvatarError
from spatialavatar.examples import MOTIONS, example_motion
from spatialavatar.motion import is_motion_file
from spatialavatar.pipeline import MAX_PHOTOS

_Request = TypeVar("_Request")

GPU_QUEUE = "gpu"
"""The ``concurrency_id`` of every event that works: one at a time, whoever asks."""


class Service:
    """The calls behind the page and the endpoints.

    Each call yields steps and raises gr.Error with a sentence where the input cannot be used. The files that a step
    names live until the next step is asked for or the stream is closed: keep a copy of what is to last.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def generate(self, photos: Sequence[str] | None) -> Steps:
        """One to four photos of a person to an ``avatar`` file and its ``preview``."""
        _refuse(checks.photos(photos))
        yield from _in_a_folder(self._backend.generate, lambda folder: GenerateRequest(tuple(photos or ()), folder))

    def refine(
        self,
        avatar: str | None,
        video: str | None,
        iterations: int = 300,
        size: int = 256,
        minutes: float | None = None,
        checkpoint: str | None = None,
    ) -> Steps:
        """An avatar and a video of the person to a better ``avatar`` and its ``preview``.

        Steps on the way have the facts ``iteration`` and ``losses``, and now and then a ``preview`` and the ``avatar``
        as it is then. A stopped call leaves ``checkpoint``, from which one with the same inputs goes on.
        """
        _refuse(
            checks.avatar(avatar),
            checks.video(video),
            checks.number(iterations, "number of steps", checks.MIN_ITERATIONS, checks.MAX_ITERATIONS, whole=True),
            checks.choice(size, "size", checks.REFINE_SIZES),
        )

        def request(folder: str) -> RefineRequest:
            # A step looks at one frame, so a short run needs few.
            frames = max(checks.MIN_REFINE_FRAMES, min(int(iterations), checks.MAX_REFINE_FRAMES))
            return RefineRequest(
                str(avatar), str(video), folder, int(iterations), int(size), frames, minutes, checkpoint
            )

        yield from _in_a_folder(self._backend.refine, request)

    def drive(
        self,
        avatar: str | None,
        motion: str | None,
        strength: float = 1.0,
        smoothing: float | None = None,
        relative: bool = True,
        size: int = 512,
    ) -> Steps:
        """An avatar file and a motion (a file, or the name of one of ``MOTIONS``) to a ``video``.

        ``smoothing`` is for videos; by default they are smoothed by 1 and motion files not at all.
        """
        own = motion not in MOTIONS
        _refuse(
            checks.avatar(avatar),
            checks.motion(motion) if own else None,
            checks.number(strength, "strength", 0.0, 3.0),
            None if smoothing is None else checks.number(smoothing, "smoothing", 0.0, 10.0),
            checks.choice(size, "size", checks.SIZES),
        )
        source = str(motion) if own else str(example_motion(str(motion)))
        smooth = 0.0 if is_motion_file(source) else 1.0 if smoothing is None else float(smoothing)

        def request(folder: str) -> DriveRequest:
            return DriveRequest(str(avatar), source, folder, float(strength), bool(relative), smooth, int(size))

        yield from _in_a_folder(self._backend.drive, request)

    def track(self, source: str | None, form: str = "json") -> Steps:
        """A photo or a video to its ``motion``, in one of ``checks.TRACK_FORMATS``."""
        _refuse(checks.picture_or_video(source), checks.choice(form, "format", checks.TRACK_FORMATS))
        yield from _in_a_folder(self._backend.track, lambda folder: TrackRequest(str(source), folder, form))

    def export(self, avatar: str | None, forms: Sequence[str] = ("ply",)) -> Steps:
        """An avatar to files in some of the forms of ``EXPORTS``, each under its form's name."""
        _refuse(checks.avatar(avatar), *(checks.choice(form, "format", tuple(EXPORTS)) for form in forms))
        yield from _in_a_folder(self._backend.export, lambda folder: ExportRequest(str(avatar), folder, tuple(forms)))

    def info(self, avatar: str | None = None) -> dict[str, Any]:
        """Facts about this app, or about an avatar file."""
        if avatar is not None:
            _refuse(checks.avatar(avatar))
            try:
                return self._backend.avatar_facts(avatar)
            except SpatialAvatarError as error:
                raise for_people(error) from error
        return {
            "version": __version__,
            "where": what_runs_where(),
            "photos": MAX_PHOTOS,
            "video_seconds": checks.MAX_VIDEO_SECONDS,
            "video_sizes": list(checks.SIZES),
            "refine_iterations": [checks.MIN_ITERATIONS, checks.MAX_ITERATIONS],
            "refine_sizes": list(checks.REFINE_SIZES),
            "example_motions": list(MOTIONS),
            "track_formats": list(checks.TRACK_FORMATS),
            "export_formats": list(EXPORTS),
        }


def _in_a_folder(work: Callable[[_Request], Steps], request: Callable[[str], _Request]) -> Steps:
    """The steps of ``work`` on a request for a temporary folder, which goes with the stream."""
    with tempfile.TemporaryDirectory(prefix="spatialavatar-", ignore_cleanup_errors=True) as folder:
        try:
            for step in work(request(folder)):
                yield _plain(step)
        except Exception as error:
            raise for_people(error) from error


def _refuse(*complaints: str | None) -> None:
    """Raise the first complaint that there is."""
    for sentence in complaints:
        if sentence is not None:
            raise complaint(sentence)


def _plain(step: Step) -> Step:
    """The step with nothing in its texts that a page could take for markup."""
    facts = dict(step.facts)
    if "warnings" in facts:
        facts["warnings"] = [plain(str(warning)) for warning in facts["warnings"]]
    return Step(step.fraction, plain(step.message), step.files, facts)


# -- for programs -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Endpoint:
    """One endpoint.

    Attributes:
        function: what it does; its signature and docstring are what programs read.
        inputs: the parameters in the signature's order.
        outputs: what is given.
        check: a sentence or None for each input.
        queue: whether it waits for the GPU.
    """

    function: Callable[..., Any]
    inputs: Sequence[Parameter]
    outputs: Sequence[Parameter]
    check: Callable[..., Sequence[str | None]]
    queue: bool = True


def add_endpoints(service: Service, sessions: Sessions) -> None:
    """Add the endpoints to the Blocks that is being built; ``sessions`` keeps what they give."""
    for endpoint in _endpoints(service, _Keeper(sessions)):
        gr.on(
            [],
            endpoint.function,
            list(endpoint.inputs),
            list(endpoint.outputs),
            api_name=endpoint.function.__name__,
            validator=_validator(endpoint),
            queue=endpoint.queue,
            show_progress="hidden",
            concurrency_id=GPU_QUEUE if endpoint.queue else None,
            concurrency_limit=1 if endpoint.queue else None,
        )


def _validator(endpoint: _Endpoint) -> Callable[..., Any]:
    def validate(*values: Any) -> Any:
        answers = [gr.validate(sentence is None, sentence or "") for sentence in endpoint.check(*values)]
        return answers if len(answers) > 1 else answers[0]

    # gradio reads the names of the parameters from here, for its messages.
    validate.__signature__ = inspect.signature(endpoint.check)  # type: ignore[attr-defined]
    return validate


_Results = Generator[tuple[Any, ...], None, None]


@dataclass(frozen=True)
class _Keeper:
    """Gives endpoints' results to their callers."""

    sessions: Sessions

    def results(
        self,
        steps: Steps,
        progress: gr.Progress,
        request: gr.Request | None,
        inputs: Sequence[str | None],
        *roles: str,
    ) -> _Results:
        """The files by role and the facts of the last step; nothing while there are none."""
        session = None if request is None else request.session_hash
        self.sessions.note(session, [path for path in inputs if path is not None])
        nothing = (None,) * (len(roles) + 1)
        last = None
        for step in steps:
            progress(step.fraction, desc=step.message)
            if step.fraction >= 1.0 and all(role in step.files for role in roles):
                last = *(self.sessions.keep(session, step.files[role]) for role in roles), dict(step.facts)
            yield last or nothing


def _endpoints(service: Service, keeper: _Keeper) -> list[_Endpoint]:
    def generate(
        photos: list[str], progress: gr.Progress = gr.Progress(), request: gr.Request | None = None
    ) -> _Results:
        """Make a 3D head avatar from one to four photos of one person who agrees to it.

        Args:
            photos: one to four photos of one person, in any order; a face should look roughly at the camera.

        Returns:
            The avatar file (.safetensors), a picture of it (.png), and facts: warnings about the photos.
        """
        yield from keeper.results(service.generate(photos), progress, request, photos, "avatar", "preview")

    def refine(
        avatar: str,
        video: str,
        iterations: int = 300,
        size: int = 256,
        progress: gr.Progress = gr.Progress(),
        request: gr.Request | None = None,
    ) -> _Results:
        """Make an avatar more like its person, from a video of the same person.

        Args:
            avatar: an avatar file that was made here.
            video: ten seconds or more of the same person, the head turning and the face moving; at most a minute.
            iterations: how many steps to take; more is better and slower. After ten minutes it ends in any case.
            size: width and height of the pictures that are compared: 256 or 512.

        Returns:
            The better avatar file, a picture of it, and facts: iterations, frames, warnings.
        """
        steps = service.refine(avatar, video, iterations, size, checks.MAX_REFINE_MINUTES)
        yield from keeper.results(steps, progress, request, [avatar, video], "avatar", "preview")

    def drive(
        avatar: str,
        motion: str | None = None,
        example: str = "Talk",
        strength: float = 1.0,
        smoothing: float = 1.0,
        relative: bool = True,
        size: int = 512,
        progress: gr.Progress = gr.Progress(),
        request: gr.Request | None = None,
    ) -> _Results:
        """Make an avatar move like a video, a motion file or one of the example motions.

        Args:
            avatar: an avatar file that was made here.
            motion: a video of at most a minute, a motion file (.json or .csv) or a saved track (.safetensors).
            example: the example motion that is used where no motion is given: Talk, Look around or Make faces.
            strength: of the expression; 0 freezes the face, 1 is as performed, at most 3.
            smoothing: of a video's motion; 0 is none, at most 10.
            relative: whether to move relative to the driver's neutral face and pose.
            size: width and height of the video in pixels: 256, 512 or 768.

        Returns:
            The video (.mp4), and facts: frames, frames per second, frames held, warnings.
        """
        steps = service.drive(avatar, motion or example, strength, smoothing, relative, size)
        yield from keeper.results(steps, progress, request, [avatar, motion], "video")

    def track(
        source: str, form: str = "json", progress: gr.Progress = gr.Progress(), request: gr.Request | None = None
    ) -> _Results:
        """Read the motion of the head and the face off a video, or track a photo.

        Args:
            source: a video of at most a minute, or a photo.
            form: json or csv for a motion file, safetensors for the whole track; a photo has only a track.

        Returns:
            The file, and facts: frames, frames per second, frames held, warnings.
        """
        yield from keeper.results(service.track(source, form), progress, request, [source], "motion")

    def export(
        avatar: str, form: str = "ply", progress: gr.Progress = gr.Progress(), request: gr.Request | None = None
    ) -> _Results:
        """Save an avatar for other programs.

        Args:
            avatar: an avatar file that was made here.
            form: ply, splat or spz for splat viewers and editors, in metres; glb for a textured mesh with ARKit morph
                targets; html for a web page that shows and moves it; view for a PLY that fits gradio's Model3D; png
                for a picture; card for the text that goes with it; avatar for the avatar file itself, written anew.

        Returns:
            The file, and facts: how many Gaussians.
        """
        yield from keeper.results(service.export(avatar, [form]), progress, request, [avatar], form)

    def info(avatar: str | None = None) -> dict[str, Any]:
        """Say what this app takes and where it runs, or what an avatar file holds.

        Args:
            avatar: an avatar file; without one the facts are about the app.

        Returns:
            Facts by name.
        """
        return service.info(avatar)

    def avatar_file() -> Parameter:
        return Parameter(FILE, "avatar file", most_bytes=checks.MAX_AVATAR_BYTES)

    def video(label: str) -> Parameter:
        return Parameter(FILE, label, most_bytes=checks.MAX_VIDEO_BYTES)

    facts = Parameter(FACTS, "facts")
    picture = Parameter(FILE, "picture")
    return [
        _Endpoint(
            generate,
            [Parameter(FILES, "photos", most_bytes=checks.MAX_PHOTO_BYTES)],
            [Parameter(FILE, "avatar file"), picture, facts],
            lambda photos: [checks.photos(photos)],
        ),
        _Endpoint(
            refine,
            [
                avatar_file(),
                video("video of the person"),
                Parameter(WHOLE, "steps", 300),
                Parameter(one_of(checks.REFINE_SIZES), "size of the pictures compared", 256),
            ],
            [Parameter(FILE, "avatar file"), picture, facts],
            lambda avatar, video, iterations, size: [
                checks.avatar(avatar),
                checks.video(video),
                checks.number(iterations, "number of steps", checks.MIN_ITERATIONS, checks.MAX_ITERATIONS, whole=True),
                checks.choice(size, "size", checks.REFINE_SIZES),
            ],
        ),
        _Endpoint(
            drive,
            [
                avatar_file(),
                video("video or motion file"),
                Parameter(one_of(list(MOTIONS)), "example motion", "Talk"),
                Parameter(NUMBER, "strength of the expression", 1.0),
                Parameter(NUMBER, "smoothing of a video's motion", 1.0),
                Parameter(FLAG, "relative to the driver's neutral face and pose", True),
                Parameter(one_of(checks.SIZES), "size of the video", 512),
            ],
            [Parameter(FILE, "video"), facts],
            lambda avatar, motion, example, strength, smoothing, relative, size: [
                checks.avatar(avatar),
                None if motion is None else checks.motion(motion),
                checks.choice(example, "example", list(MOTIONS)),
                checks.number(strength, "strength", 0.0, 3.0),
                checks.number(smoothing, "smoothing", 0.0, 10.0),
                checks.flag(relative, "relative"),
                checks.choice(size, "size", checks.SIZES),
            ],
        ),
        _Endpoint(
            track,
            [video("video or photo"), Parameter(one_of(checks.TRACK_FORMATS), "format", "json")],
            [Parameter(FILE, "motion file"), facts],
            lambda source, form: [
                checks.picture_or_video(source),
                checks.choice(form, "form", checks.TRACK_FORMATS),
            ],
        ),
        _Endpoint(
            export,
            [avatar_file(), Parameter(one_of(list(EXPORTS)), "format", "ply")],
            [Parameter(FILE, "exported file"), facts],
            lambda avatar, form: [checks.avatar(avatar), checks.choice(form, "form", list(EXPORTS))],
        ),
        _Endpoint(
            info,
            [avatar_file()],
            [facts],
            lambda avatar: [None if avatar is None else checks.avatar(avatar)],
            queue=False,
        ),
    ]


def _wrong_name(request: Request, error: Exception) -> JSONResponse:
    """The answer to a call whose endpoint or parameter there is not; gradio itself has a bare 500 for that.

    Raises:
        Exception: the error itself, where it is about something else.
    """
    if "/call/v2/" not in request.url.path:
        raise error
    if isinstance(error, KeyError):
        return JSONResponse({"detail": f"There is no endpoint {plain(str(error))}; /gradio_api/info lists them."}, 404)
    if "argument" in str(error):
        return JSONResponse({"detail": plain(str(error)).partition(" Please click")[0]}, 422)
    raise error


def launch_arguments() -> dict[str, Any]:
    """Arguments of ``launch`` that safety and privacy ask for; new ones for every launch, since gradio changes them."""
    return {
        # It would keep visitors' faces in their browser.
        "run_history": False,
        "max_file_size": checks.MAX_VIDEO_BYTES,
        "mcp_server": importlib.util.find_spec("mcp") is not None,
        "show_error": False,
        "app_kwargs": {"exception_handlers": {KeyError: _wrong_name, TypeError: _wrong_name}},
    }
