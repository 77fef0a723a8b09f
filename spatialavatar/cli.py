"""The command line: ``spatialavatar generate | refine | drive | track | info | demo``.

Results (paths, or JSON with ``--json``) go to stdout, progress and notes to stderr. A failure is one sentence on stderr
and exit status 1; ``--debug`` shows the traceback instead.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spatialavatar import __version__
from spatialavatar.errors import InputError, SpatialAvatarError

if TYPE_CHECKING:
    from spatialavatar.records import Track

# torch and the networks are imported inside the commands: --help and a typing mistake must not wait for them.

_MOTION_SUFFIXES = (".json", ".csv")
_REFINE_FRAMES = 1200  # refinement keeps every picture: about 1.6 MB a frame


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command line without the program's name; ``sys.argv`` by default.

    Returns:
        The exit status: 0, 1 after an error, 130 after an interrupt; argparse itself exits with 2 on a wrong line.
    """
    options = _parser().parse_args(arguments)
    if options.debug:
        options.run(options)
        return 0
    if arguments is None:
        _mute_native_libraries()
    try:
        options.run(options)
    except SpatialAvatarError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        print("spatialavatar: interrupted", file=sys.stderr)
        return 130
    except MemoryError:
        return _fail("There is not enough memory; use smaller pictures, a smaller --size, or a machine with more.")
    except Exception as error:
        kind = type(error).__name__
        return _fail(
            f"Something went wrong that should not have ({kind}: {error}); run again with --debug and report it."
        )
    return 0


def _mute_native_libraries() -> None:
    """Keep Python's stderr, and send nowhere what the networks' runtimes print to the process's own from C++."""
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _fail(sentence: str) -> int:
    print(f"spatialavatar: {' '.join(sentence.split())}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spatialavatar", description="One to four photos in, an animatable 3D Gaussian head out."
    )
    parser.add_argument("--version", action="version", version=f"spatialavatar {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    common.add_argument("-q", "--quiet", action="store_true", help="no progress and no notes")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], None], summary: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, parents=[common], help=summary, description=f"{summary}.")
        command.set_defaults(run=run)
        return command

    command = add("generate", _generate, "Make an avatar from one to four photos of one person")
    command.add_argument("photos", nargs="+", type=Path, metavar="PHOTO")
    command.add_argument("-o", "--output", type=Path, default=Path("avatar.safetensors"), help="default: %(default)s")
    command.add_argument("--model", metavar="REPO_OR_FOLDER", help="another generator than the one that ships")

    command = add("refine", _refine, "Make an avatar more like its person, from a video of ten seconds or more")
    command.add_argument("avatar", type=Path, metavar="AVATAR", help="what 'generate' wrote")
    command.add_argument("video", type=Path, metavar="VIDEO", help="a video of the person, or its track with pictures")
    command.add_argument("-o", "--output", type=Path, default=Path("refined.safetensors"), help="default: %(default)s")
    command.add_argument("--iterations", type=int, default=10_000, help="default: %(default)s")
    command.add_argument("--minutes", type=float, help="stop after this time, if the iterations take longer")
    command.add_argument("--size", type=int, default=512, help="of the pictures compared, default: %(default)s")
    command.add_argument("--resume", action="store_true", help="go on with a run that was interrupted")
    command.add_argument(
        "--holdout", type=float, default=0.2, help="share of the video, at its end, to judge by, default: %(default)s"
    )
    command.add_argument("--report", type=Path, metavar="DIR", help="write previews, pictures and figures here")

    command = add("drive", _drive, "Make an avatar move like a video, a motion file or a track")
    command.add_argument("avatar", type=Path, metavar="AVATAR", help="what 'generate' wrote")
    command.add_argument("--motion", type=Path, required=True, help="a video, a .json or .csv motion, or a saved track")
    command.add_argument("-o", "--output", type=Path, default=Path("driven.mp4"), help="default: %(default)s")
    command.add_argument(
        "--strength", type=float, default=1.0, help="of the expression; 0 freezes the face, default: 1"
    )
    command.add_argument("--absolute", action="store_true", help="take pose and expression as they are, not relative")
    command.add_argument(
        "--smoothing", type=float, help="0 is none, larger is smoother; default: 1 for videos, 0 for motion files"
    )
    command.add_argument("--size", type=int, default=512, help="width and height in pixels, default: %(default)s")
    command.add_argument("--background", default="white", help="a colour: white, #336699, ...; default: %(default)s")
    command.add_argument("--audio", type=Path, help="a file whose sound replaces the driver's own")

    command = add("track", _track, "Track the head in a photo or a video")
    command.add_argument("input", type=Path, metavar="INPUT", help="a photo or a video")
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("track.safetensors"),
        help="a track (.safetensors), or of a video only the motion (.json, .csv); default: %(default)s",
    )

    command = add("info", _info, "Say what an avatar is, or what this installation uses")
    command.add_argument("avatar", type=Path, nargs="?", metavar="AVATAR")
    command.add_argument("--licences", action="store_true", help="the licence and source of every file that ships")
    command.add_argument("--json", action="store_true", help="as one JSON object")

    command = add("demo", _demo, "Make an avatar of an example photo and show it talk, look around and make faces")
    command.add_argument("-o", "--output", type=Path, default=Path("outputs"), help="folder; default: %(default)s")
    command.add_argument(
        "--photo", type=Path, action="append", help="your own photo instead (repeat it for up to four)"
    )
    command.add_argument("--size", type=int, default=512, help="width and height in pixels, default: %(default)s")
    return parser


def _generate(options: argparse.Namespace) -> None:
    from spatialavatar.media import check_writable
    from spatialavatar.pipeline import generate

    check_writable(options.output)
    model = None
    if options.model:
        from spatialavatar.generator import SpatialAvatar

        model = SpatialAvatar.from_pretrained(options.model)
    with _ProgressBar(options.quiet) as progress:
        avatar = generate(options.photos, model=model, progress=progress)
    avatar.save(options.output)
    _note(options, *avatar.info.get("warnings", ()))
    print(options.output)


def _refine(options: argparse.Namespace) -> None:
    from contextlib import closing

    from spatialavatar.avatar import Avatar
    from spatialavatar.media import check_writable
    from spatialavatar.refinement import RefineConfig, refine, write_report
    from spatialavatar.refinement.report import write_preview

    config = RefineConfig(iterations=options.iterations, size=options.size, holdout=options.holdout)
    check_writable(options.output)
    checkpoint = options.output.with_name(f"{options.output.stem}.checkpoint.safetensors")
    if not options.resume:
        checkpoint.unlink(missing_ok=True)
    elif not checkpoint.exists():
        raise InputError(f"There is no interrupted run at {checkpoint}; leave --resume out to start one.")
    avatar = Avatar.load(options.avatar)
    curve = []
    with _ProgressBar(options.quiet) as progress:
        track = _pictures(options.video, lambda fraction, message: progress(0.3 * fraction, message))
        steps = refine(avatar, track, config, checkpoint=checkpoint, minutes=options.minutes)
        with closing(steps):
            for step in steps:
                progress(0.3 + 0.7 * step.fraction, f"Refining, step {step.iteration} of {config.iterations}")
                if step.iteration % 10 == 0:
                    curve.append((step.iteration, step.losses))
                if options.report and step.preview is not None:
                    write_preview(options.report, step)
        refined = step.avatar
    refined.save(options.output)
    checkpoint.unlink(missing_ok=True)
    print(options.output)
    if options.report:
        report = write_report(options.report, avatar, refined, track, config, curve)
        kind = "held-out" if report.held_out else "training"
        _note(
            options,
            f"On {kind} frames: PSNR {report.before.psnr:.2f} dB before, {report.after.psnr:.2f} after; "
            f"SSIM {report.before.ssim:.3f} before, {report.after.ssim:.3f} after.",
        )
        for path in report.files:
            print(path)


def _pictures(path: Path, progress: Callable[[float, str], None]) -> Track:
    """A video, or a saved track of one, with the pictures that refinement compares with."""
    from spatialavatar.avatar import default_head
    from spatialavatar.tracking import load_track, track_video

    if path.suffix.lower() == ".safetensors":
        return load_track(path)
    return track_video(path, default_head(), with_images=True, max_frames=_REFINE_FRAMES, progress=progress)


def _drive(options: argparse.Namespace) -> None:
    from spatialavatar.avatar import Avatar
    from spatialavatar.driving import DriveConfig, drive

    smoothing = options.smoothing
    if smoothing is None:
        smoothing = 0.0 if options.motion.suffix.lower() in _MOTION_SUFFIXES else 1.0
    config = DriveConfig(
        strength=options.strength,
        relative=not options.absolute,
        smoothing=smoothing,
        size=options.size,
        background=_colour(options.background),
    )
    avatar = Avatar.load(options.avatar)
    with _ProgressBar(options.quiet) as progress:
        report = drive(avatar, options.motion, options.output, config, audio=options.audio, progress=progress)
    _note(options, *report.warnings, f"{report.frames} frames, {report.held} held, {report.fps:g} frames per second.")
    print(report.path)


def _track(options: argparse.Namespace) -> None:
    from spatialavatar.media import check_writable
    from spatialavatar.motion import write_motion
    from spatialavatar.tracking import save_track, track

    suffix = options.output.suffix.lower()
    if suffix not in (".safetensors", *_MOTION_SUFFIXES):
        raise InputError(
            f"{options.output.name} names no format; use .safetensors for a track, .json or .csv for a motion."
        )
    check_writable(options.output)
    with _ProgressBar(options.quiet) as progress:
        tracked = track(options.input, progress=progress)
    if suffix == ".safetensors":
        save_track(tracked, options.output)
    else:
        write_motion(tracked, options.output)
    held = int((tracked.confidence <= 0).sum())
    _note(options, *tracked.warnings, f"{len(tracked)} frames, {held} of them without a face.")
    print(options.output)


def _info(options: argparse.Namespace) -> None:
    from spatialavatar import diagnostics

    facts = diagnostics.avatar_facts(options.avatar) if options.avatar else diagnostics.installation_facts()
    if options.licences:
        from spatialavatar.hub import licences

        facts["licences"] = licences()
    if options.json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    listed = facts.pop("licences", [])
    _print_table(facts)
    for entry in listed:
        print(f"\n{entry['path']}: {entry['what']}\n  {entry['licence']}; {entry['source']}")


def _demo(options: argparse.Namespace) -> None:
    from spatialavatar.demo import run_demo

    with _ProgressBar(options.quiet) as progress:
        results = run_demo(options.output, photos=options.photo, size=options.size, progress=progress)
    for path in results:
        print(path)


def _print_table(facts: dict[str, Any], indent: str = "") -> None:
    width = max((len(key) for key in facts), default=0)
    for key, value in facts.items():
        if isinstance(value, dict):
            print(f"{indent}{key}:")
            _print_table(value, indent + "  ")
            continue
        text = ", ".join(str(part) for part in value) if isinstance(value, (list, tuple)) else value
        print(f"{indent}{key:<{width}}  {text}")


def _colour(text: str) -> tuple[float, float, float]:
    """A colour's name or hex value as sRGB in [0, 1]."""
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise InputError(f"{text!r} is no colour; give a name such as white, or a value such as #336699.") from None
    return red / 255, green / 255, blue / 255


def _note(options: argparse.Namespace, *sentences: str) -> None:
    if not options.quiet:
        for sentence in sentences:
            print(sentence, file=sys.stderr)


class _ProgressBar:
    """Shows (fraction, message) on stderr where that is a terminal; elsewhere only each new stage, one line each."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._stage = ""
        self._bar: Any = None

    def __enter__(self) -> Callable[[float, str], None]:
        if self._terminal and not self._quiet:
            from tqdm import tqdm

            layout = "{desc:<36.36}{percentage:4.0f}%|{bar}| {elapsed}"
            self._bar = tqdm(total=1.0, bar_format=layout, leave=False, file=sys.stderr)
        return self._show

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def _show(self, fraction: float, message: str) -> None:
        if self._bar is not None:
            self._bar.set_description_str(message, refresh=False)
            self._bar.update(max(0.0, min(fraction, 1.0) - self._bar.n))
        elif not self._quiet:
            stage = message.rstrip("0123456789 %/.").removesuffix(" of").rstrip("0123456789 ")
            if stage != self._stage:
                self._stage = stage
                print(message, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
