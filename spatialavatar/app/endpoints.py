"""The endpoints, each described once: its values, their checks and help, what it returns, the request that it makes.

Everything else is made from :data:`ENDPOINTS`: the functions and components that gradio serves, the tools of the MCP
server, the checks before and inside the queue, and the tables of docs/reference/endpoints.md
(``scripts/write_reference.py`` writes them).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from spatialavatar.app import checks
from spatialavatar.app.requests import (
    EXPORTS,
    DriveRequest,
    ExportRequest,
    GenerateRequest,
    RefineRequest,
    Speech,
    TrackRequest,
)
from spatialavatar.app.schemas import FACTS, FILE, FILES, FLAG, NUMBER, TEXT, WHOLE, one_of
from spatialavatar.driving import HEAD_POSES
from spatialavatar.examples import MOTIONS, example_motion
from spatialavatar.motion import is_motion_file
from spatialavatar.part_strengths import MAX_STRENGTH, PARTS, PartStrengths
from spatialavatar.staging import SCENES

Check = Callable[[Any], "str | None"]
"""Returns a sentence about an invalid value, or None if it is valid."""

REQUIRED: Final = object()
"""The default of a value that must be given."""


@dataclass(frozen=True)
class Value:
    """A value that an endpoint takes or returns.

    Attributes:
        name: of the parameter; empty for a returned value.
        schema: its JSON schema, one of ``spatialavatar.app.schemas``.
        label: what it is, in a few words.
        help: what it is and which values are allowed, one or more clauses with a full stop.
        check: of the value as the work receives it, files as local paths.
        default: used where it is left out; :data:`REQUIRED` for none.
        early: check of the value as it was sent, before any address in it is fetched; by default ``check``, and none
            for files.
        max_bytes: size of the largest file.
    """

    name: str
    schema: Mapping[str, Any]
    label: str
    help: str = ""
    check: Check = lambda _: None
    default: Any = REQUIRED
    early: Check | None = None
    max_bytes: int = 0

    @property
    def is_file(self) -> bool:
        """Whether it is a file or a list of files."""
        return self.schema in (FILE, FILES)

    def complaint(self, value: Any) -> str | None:
        """A sentence about an invalid value, or None if it is valid; an optional file may be None."""
        if value is None and self.default is None:
            return None
        return self.check(value)

    def early_complaint(self, value: Any) -> str | None:
        """As :meth:`complaint`, of a value as it was sent."""
        if self.is_file:
            return None if self.early is None else self.early(value)
        return self.complaint(value)


@dataclass(frozen=True)
class Endpoint:
    """One endpoint.

    Attributes:
        name: of the endpoint, and of the work of ``Backend`` that it starts.
        summary: one sentence in the imperative.
        values: what it takes, in the order of its parameters.
        returns: what it returns, in order.
        facts: which facts the last returned value contains.
        roles: names by which the work returns the files; ``{name}`` stands for a value.
        request: from the checked values and the path of a folder to the request of the work; None answers at once.
        conflict: from the values, as sent or received, to the name of one that excludes another, and a sentence; or
            to None.
    """

    name: str
    summary: str
    values: tuple[Value, ...]
    returns: tuple[Value, ...]
    facts: str
    roles: tuple[str, ...] = ()
    request: Callable[[Mapping[str, Any], str], Any] | None = None
    conflict: Callable[[Mapping[str, Any]], tuple[str, str] | None] = lambda _: None

    def complaints(self, given: Mapping[str, Any], early: bool = False) -> dict[str, str]:
        """Sentences about invalid values, by the name of the value.

        Args:
            given: every value.
            early: whether the values are as they were sent, before files at addresses in them are fetched.
        """
        found = {}
        for value in self.values:
            one = given[value.name]
            if (sentence := value.early_complaint(one) if early else value.complaint(one)) is not None:
                found[value.name] = sentence
        if not found and (clash := self.conflict(given)) is not None:
            found[clash[0]] = clash[1]
        return found

    @property
    def help(self) -> str:
        """A docstring: summary, parameters, results."""
        lines = [self.summary, "", "Args:"]
        lines += [f"    {value.name}: {value.help}" for value in self.values]
        names = [value.label for value in self.returns[:-1]]
        return "\n".join([*lines, "", "Returns:", f"    {', '.join([*names, 'facts'])} ({self.facts})."])

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The given values with the defaults of the others.

        Raises:
            TypeError: a value is missing, or there is none of that name.
        """
        known = {value.name: value for value in self.values}
        missing = [name for name, value in known.items() if value.default is REQUIRED and name not in given]
        unknown = [name for name in given if name not in known]
        if missing or unknown:
            raise TypeError(f"/{self.name}: missing {missing}, unknown {unknown}")
        return {name: given.get(name, value.default) for name, value in known.items()}


# -- values that several endpoints take -------------------------------------------------------------------------------

_AVATAR: Final = Value(
    "avatar",
    FILE,
    "avatar file",
    "An avatar file that /generate or /refine returned.",
    checks.avatar,
    max_bytes=checks.MAX_AVATAR_BYTES,
)
_CONSENT: Final = Value(
    "consent",
    FLAG,
    "consent",
    "Must be true: every person shown has agreed to this use, or is the caller.",
    checks.consent,
)
_FACTS: Final = Value("", FACTS, "facts")
_NEW_AVATAR: Final = (Value("", FILE, "avatar file"), Value("", FILE, "picture"), _FACTS)


def _video(name: str, label: str, help_text: str, check: Check, default: Any = REQUIRED) -> Value:
    return Value(name, FILE, label, help_text, check, default, max_bytes=checks.MAX_VIDEO_BYTES)


def _one_of(name: str, label: str, help_text: str, options: Sequence[Any], default: Any) -> Value:
    return Value(name, one_of(options), label, help_text, lambda value: checks.choice(value, name, options), default)


def _flag(name: str, label: str, help_text: str) -> Value:
    return Value(name, FLAG, label, help_text, lambda value: checks.flag(value, name), True)


def _number(name: str, label: str, help_text: str, limits: tuple[float, float], default: float) -> Value:
    schema = WHOLE if isinstance(default, int) else NUMBER
    return Value(
        name,
        schema,
        label,
        help_text,
        lambda value: checks.number(value, label if schema is WHOLE else name, *limits, whole=schema is WHOLE),
        default,
    )


_PARTS: Final = {
    "pose": "Factor of the head's turns and shifts, 0 to 3; 0 keeps the head still.",
    "mouth": "Factor of mouth, jaw, cheeks and nose beside strength, 0 to 3.",
    "brows": "Factor of the brows beside strength, 0 to 3.",
    "lids": "Factor of blinks, squints and wide eyes beside strength, 0 to 3.",
    "gaze": "Factor of the turns of the eyeballs, 0 to 3.",
}


# -- their requests ---------------------------------------------------------------------------------------------------


def _refine_request(values: Mapping[str, Any], folder: str) -> RefineRequest:
    iterations = int(values["iterations"])
    # Each step compares one frame, so a short run needs few.
    frames = max(checks.MIN_REFINE_FRAMES, min(iterations, checks.MAX_REFINE_FRAMES))
    return RefineRequest(
        values["avatar"],
        values["video"],
        folder,
        iterations,
        int(values["size"]),
        frames,
        checks.MAX_REFINE_MINUTES,
    )


def _conflicting_sources(values: Mapping[str, Any]) -> tuple[str, str] | None:
    given = [name for name in ("motion", "audio", "text") if values[name]]
    if len(given) > 1:
        return given[1], f"The values {' and '.join(given)} each move the avatar; give one of them."
    if values["voice"] and not values["text"]:
        return "voice", "The voice reads the text; give a text, or leave the voice out."
    return None


def _speech(values: Mapping[str, Any]) -> Speech | None:
    if not values["audio"] and not values["text"]:
        return None
    return Speech(values["audio"], values["text"], values["voice"] or None, float(values["liveliness"]))


def _drive_request(values: Mapping[str, Any], folder: str) -> DriveRequest:
    speech = _speech(values)
    motion = "" if speech else values["motion"] or str(example_motion(values["example"]))
    smoothing = 0.0 if speech or is_motion_file(motion) else float(values["smoothing"])
    strength, size = float(values["strength"]), int(values["size"])
    return DriveRequest(
        values["avatar"],
        motion,
        folder,
        strength,
        values["relative"] or speech is not None,  # speech is relative to the resting face
        smoothing,
        size,
        "centred" if speech else values["head_pose"],
        PartStrengths(**{name: float(values[name]) for name in PARTS}),
        values["scene"],
        values["picture"] or values["background"],
        speech,
        values["bust"],
    )


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        "generate",
        "Make a 3D head avatar from one to four photos of one person.",
        (
            Value(
                "photos",
                FILES,
                "photos",
                "One to four photos of one person, in any order; the face should look roughly at the camera.",
                checks.photos,
                early=checks.photo_count,
                max_bytes=checks.MAX_PHOTO_BYTES,
            ),
            _CONSENT,
            _flag(
                "scene",
                "keep the photo's background",
                "Whether the avatar file keeps the photo's background and body, which scene=photo of /drive needs.",
            ),
            _flag("bust", "with shoulders", "Whether to add the torso; without it the avatar ends below the neck."),
        ),
        _NEW_AVATAR,
        "warnings about the photos",
        ("avatar", "preview"),
        lambda values, folder: GenerateRequest(tuple(values["photos"]), folder, values["scene"], values["bust"]),
    ),
    Endpoint(
        "refine",
        "Make an avatar resemble its person more closely, from a video of the same person.",
        (
            _AVATAR,
            _video(
                "video",
                "video of the person",
                "10 to 60 seconds of the same person, with the head turning and the face moving.",
                checks.video,
            ),
            _CONSENT,
            _number(
                "iterations",
                "number of steps",
                f"{checks.MIN_REFINE_ITERATIONS} to {checks.MAX_REFINE_ITERATIONS}; more steps are slower and better. "
                f"The run ends after {checks.MAX_REFINE_MINUTES:.0f} minutes in any case.",
                (checks.MIN_REFINE_ITERATIONS, checks.MAX_REFINE_ITERATIONS),
                300,
            ),
            _one_of(
                "size",
                "size of the compared pictures",
                "Width and height of the compared pictures in pixels: 256 or 512.",
                checks.REFINE_SIZES,
                256,
            ),
        ),
        _NEW_AVATAR,
        "iterations, frames, warnings",
        ("avatar", "preview"),
        _refine_request,
    ),
    Endpoint(
        "drive",
        "Make a video of an avatar that follows a video, a motion file or an example motion, or that speaks.",
        (
            _AVATAR,
            _CONSENT,
            _video(
                "motion",
                "video or motion file",
                "A video of at most 60 seconds, a motion file (.json or .csv) or a saved track (.safetensors).",
                checks.motion,
                None,
            ),
            _one_of(
                "example",
                "example motion",
                "The example motion to use where no motion, audio or text is given: Talk, Look around or Make faces.",
                tuple(MOTIONS),
                "Talk",
            ),
            _number(
                "strength",
                "strength of the expression",
                "Factor of the expression, 0 to 3; 0 freezes the face.",
                (0.0, 3.0),
                1.0,
            ),
            _number(
                "smoothing",
                "smoothing of the video's motion",
                "Smoothing of a video's motion, 0 (none) to 10; motion files are not smoothed.",
                (0.0, 10.0),
                1.0,
            ),
            _flag(
                "relative",
                "relative to the driver's neutral face and pose",
                "Whether to transfer the change from the driver's neutral face and pose.",
            ),
            _one_of(
                "size",
                "size of the video",
                "Width and height of the video in pixels: 256, 512 or 768.",
                checks.SIZES,
                512,
            ),
            _one_of(
                "head_pose",
                "direction of the head",
                "Where the resting head looks: centred (into the camera), or as filmed (mostly where the driver's head "
                "does).",
                HEAD_POSES,
                "centred",
            ),
            *(
                _number(name, f"strength of the {name}", text, (0.0, MAX_STRENGTH), 1.0)
                for name, text in _PARTS.items()
            ),
            _one_of(
                "scene",
                "scene",
                "plain shows the avatar on its own; photo its head in the photo that it was made from, whose shorter "
                "side is size; transparent a WebM with alpha.",
                SCENES,
                "plain",
            ),
            Value(
                "background",
                TEXT,
                "background",
                "A colour such as white or #336699, or blur for the photo's own background; empty for white, and in "
                "the photo for its own.",
                checks.background,
                "",
            ),
            Value(
                "audio",
                FILE,
                "speech",
                "A sound file, or a video with sound, of at most 60 seconds, which the avatar speaks; in place of "
                "motion and text.",
                checks.sound,
                None,
                max_bytes=checks.MAX_SOUND_BYTES,
            ),
            Value(
                "text",
                TEXT,
                "text to say",
                f"A text of at most {checks.MAX_SPEECH_LETTERS} characters, which the avatar says; in place of motion "
                "and audio.",
                checks.speech_text,
                "",
            ),
            Value(
                "voice",
                TEXT,
                "voice of the text",
                "One of Kokoro's voices, such as af_heart or bm_george, or espeak:de and other languages of espeak-ng; "
                "empty for af_heart, and for espeak:en-us where Kokoro cannot be fetched.",
                checks.voice,
                "",
            ),
            _number(
                "liveliness",
                "liveliness",
                "With audio or text: how much head, brows, lids and eyes move, 0 (only the lips) to 1.",
                (0.0, 1.0),
                1.0,
            ),
            _flag("bust", "with shoulders", "Whether to show the torso; scene=photo always shows the photo's own."),
            Value(
                "picture",
                FILE,
                "background picture",
                "A picture behind the avatar, cropped to fill; in place of background.",
                checks.picture,
                None,
                max_bytes=checks.MAX_PHOTO_BYTES,
            ),
        ),
        (Value("", FILE, "video"), _FACTS),
        "frames, frames per second, held frames, warnings",
        ("video",),
        _drive_request,
        _conflicting_sources,
    ),
    Endpoint(
        "track",
        "Read the motion of the head and the face from a video, or track a photo.",
        (
            _video("source", "video or photo", "A video of at most 60 seconds, or a photo.", checks.picture_or_video),
            _CONSENT,
            _one_of(
                "form",
                "format",
                "json or csv for a motion file, safetensors for the whole track; a photo has only a track.",
                checks.TRACK_FORMATS,
                "json",
            ),
        ),
        (Value("", FILE, "motion file"), _FACTS),
        "frames, frames per second, held frames, warnings",
        ("motion",),
        lambda values, folder: TrackRequest(values["source"], folder, values["form"]),
    ),
    Endpoint(
        "export",
        "Convert an avatar for other programs.",
        (
            _AVATAR,
            _one_of(
                "form",
                "format",
                "ply, splat or spz for splat viewers and editors, in metres; glb for a textured mesh with ARKit morph "
                "targets; html for a web page that shows and moves the avatar, speaking_html for one that also speaks "
                "from a microphone or a sound file; view for a PLY that fits gradio's Model3D; png for a picture; card "
                "for the text that goes with it; avatar for the avatar file itself.",
                tuple(EXPORTS),
                "ply",
            ),
        ),
        (Value("", FILE, "exported file"), _FACTS),
        "number of Gaussians",
        ("{form}",),
        lambda values, folder: ExportRequest(values["avatar"], folder, (values["form"],)),
    ),
    Endpoint(
        "info",
        "Describe the limits of this app and where it runs, or the contents of an avatar file.",
        (
            Value(
                "avatar",
                FILE,
                "avatar file",
                "An avatar file; without one, the facts are about the app.",
                checks.avatar,
                None,
                max_bytes=checks.MAX_AVATAR_BYTES,
            ),
        ),
        (_FACTS,),
        "by name",
    ),
)
"""All endpoints, in the order of the documentation."""


def endpoint(name: str) -> Endpoint:
    """The endpoint of that name."""
    return next(one for one in ENDPOINTS if one.name == name)


def documentation() -> str:
    """The tables of docs/reference/endpoints.md, as Markdown."""
    parts = []
    for one in ENDPOINTS:
        rows = [f"| `{value.name}` | {_default(value)} | {value.help} |" for value in one.values]
        returned = ", ".join(value.label for value in one.returns)
        parts.append(
            f"### `/{one.name}`\n\n{one.summary} Returns: {returned} ({one.facts}).\n\n"
            + "\n".join(["| value | default | meaning |", "|---|---|---|", *rows])
        )
    return "\n\n".join(parts)


def _default(value: Value) -> str:
    if value.default is REQUIRED:
        return "required"
    return "none" if value.default is None else f"`{value.default}`"
