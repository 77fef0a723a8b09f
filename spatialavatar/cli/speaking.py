"""Options of ``drive`` for an avatar that speaks or idles, without a driving motion."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from spatialavatar.cli.options import Limits, add_number
from spatialavatar.errors import InputError

if TYPE_CHECKING:
    from spatialavatar.avatar import Avatar
    from spatialavatar.driving import DriveConfig, DriveReport
    from spatialavatar.progress import Progress
    from spatialavatar.speaking import SpeechConfig

IDLE = "idle"
"""In place of a motion file: idle motion."""

_DEFAULT_FPS = 25.0
_DEFAULT_SECONDS = 20.0
_MAX_TEXT_BYTES = 1 << 20


def add_speaking_options(command: argparse.ArgumentParser) -> None:
    """Add the options to the parser of ``drive``."""
    command.add_argument(
        "--audio",
        type=Path,
        help="speech for the avatar to speak (docs/guide/speech.md); with --motion only the sound of the video, which "
        "replaces the driver's",
    )
    command.add_argument(
        "--say", metavar="TEXT", help="a text for the avatar to say, or @FILE with one (docs/guide/speech.md)"
    )
    command.add_argument(
        "--voice",
        metavar="NAME",
        help="of --say: one of Kokoro's, such as af_heart or bm_george, or espeak:de and other languages of espeak-ng; "
        "default: af_heart",
    )
    add_number(
        command,
        "--liveliness",
        Limits(0.0, 1.0, whole=False),
        "of an avatar that speaks or waits: how much head, brows, lids and eyes move, from 0 (only the lips) to 1, "
        "default: 1",
    )
    add_number(command, "--seed", Limits(0, 2**31 - 1), "of that motion, default: 0")
    command.add_argument(
        "--speech-model",
        type=Path,
        metavar="PATH",
        help="another network for a speaking avatar: LAM-A2E (.onnx), or a folder of NVIDIA Audio2Face-3D",
    )


def performs(options: argparse.Namespace) -> bool:
    """Whether the avatar speaks or waits, and no motion is given."""
    return options.motion is None or str(options.motion) == IDLE


def check_performance(options: argparse.Namespace) -> None:
    """Refuse a line that does not name one performance, and options that have no effect on it.

    Raises:
        InputError: there is one.
    """
    waits = options.motion is not None
    if options.audio is not None and options.say is not None:
        raise InputError("--audio and --say cannot be combined; give one of them.")
    if waits and (options.audio is not None or options.say is not None):
        raise InputError("--motion idle is motion without speech; leave it out to speak.")
    if not waits and options.audio is None and options.say is None:
        raise InputError("Nothing moves the avatar; give --motion FILE, --audio FILE with speech, or --say TEXT.")
    for name, given in (
        ("--absolute", options.absolute),
        ("--head-pose", options.head_pose != "centred"),
        ("--smoothing", options.smoothing is not None),
        ("--to", options.to is not None),
    ):
        if given:
            raise InputError(f"{name} has no effect on an avatar that speaks or waits; leave it out, or give --motion.")
    if options.seconds is not None and not waits:
        raise InputError("--seconds has no effect on an avatar that speaks; leave it out.")
    if options.speech_model is not None and options.audio is None:
        raise InputError("--speech-model hears the speech of --audio; leave one of them out.")
    if options.voice is not None and options.say is None:
        raise InputError("--voice applies to --say only; leave it out.")


def check_no_performance(options: argparse.Namespace) -> None:
    """Refuse options of speech where the avatar follows a motion.

    Raises:
        InputError: there is one.
    """
    for name in ("say", "voice", "liveliness", "seed", "speech_model"):
        if getattr(options, name) is not None:
            raise InputError(
                f"--{name.replace('_', '-')} is for an avatar that speaks or waits, and --motion moves this one; "
                "leave one of them out."
            )


def perform(
    options: argparse.Namespace, avatar: Avatar, config: DriveConfig, out: Path, progress: Progress
) -> DriveReport:
    """Write the video of the performance."""
    from spatialavatar.speaking import idle, say, speak

    speech = _speech_config(options)
    if options.audio is not None:
        return speak(avatar, options.audio, out, config, speech, progress=progress)
    if options.say is not None:
        return say(avatar, _text(options.say), out, config, speech, progress=progress)
    seconds = _DEFAULT_SECONDS if options.seconds is None else options.seconds
    return idle(avatar, seconds, out, config, speech, progress=progress)


def _speech_config(options: argparse.Namespace) -> SpeechConfig:
    from spatialavatar.speaking import SpeechConfig
    from spatialavatar.speech import load_listener

    return SpeechConfig(
        fps=_DEFAULT_FPS if options.fps is None else options.fps,
        liveliness=1.0 if options.liveliness is None else options.liveliness,
        seed=options.seed or 0,
        listener=None if options.speech_model is None else load_listener(options.speech_model),
        voice=options.voice,
    )


def _text(given: str) -> str:
    """The text itself, or that of ``@FILE``."""
    if not given.startswith("@"):
        return given
    path = Path(given[1:])
    try:
        if path.stat().st_size > _MAX_TEXT_BYTES:
            raise InputError(f"{path.name} is too long to say; give a text of a few pages.")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"The text {path} cannot be read; give an existing file after @.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not text in UTF-8; save it as plain text.") from error
