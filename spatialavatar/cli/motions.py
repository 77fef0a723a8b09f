"""Commands about motion: ``drive``, ``track``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from spatialavatar.cli.commands import Commands
from spatialavatar.cli.live_drives import drive_by_camera, drive_by_stream, live_output, send_camera
from spatialavatar.cli.options import Limits, OptionError, add_number
from spatialavatar.cli.output import Outcome
from spatialavatar.cli.speaking import (
    add_speaking_options,
    check_no_performance,
    check_performance,
    perform,
    performs,
)
from spatialavatar.errors import InputError
from spatialavatar.files import check_not_an_input
from spatialavatar.progress import Progress, part

if TYPE_CHECKING:
    from spatialavatar.avatar import Avatar
    from spatialavatar.driving import DriveConfig, DriveReport
    from spatialavatar.head import HeadModel
    from spatialavatar.part_strengths import StrengthPreset
    from spatialavatar.records import Track

_GROUP = "Make it move"
_TRACK = "track.safetensors"
_PHOTOMETRIC_FRAMES = 1800  # the pass keeps all pictures in memory: about 1.3 MB a frame


def declare(commands: Commands) -> None:
    """Add the commands of this module."""
    command = commands.add(
        _GROUP,
        "drive",
        _drive,
        "Make an avatar move like a video, a motion file or a track, or speak",
        "drive me.safetensors --motion clip.mp4 -o out.mp4",
    )
    command.add_argument("avatar", type=Path, metavar="AVATAR", help="an avatar's file, or you/name on the Hub")
    command.add_argument(
        "--motion",
        help="a video, a motion file (docs/reference/motion.md), a saved track, webcam (webcam:1: second camera), or a "
        "live stream: osc://:39539, livelink://:11111, ifacialmocap://:49983 (docs/guide/live.md), or idle for "
        "motion of an avatar that rests; without it the avatar speaks --audio or --say",
    )
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        help="the video, default: driven.mp4 (transparent: driven.webm); with a webcam or a stream the default is a "
        "window",
    )
    command.add_argument(
        "--to",
        type=Path,
        metavar="DEVICE",
        help="webcam and streams: show the avatar in this virtual camera, such as /dev/video9 (Linux)",
    )
    add_number(
        command,
        "--seconds",
        Limits(0.1, 86_400, whole=False),
        "how long to follow the webcam or the stream, default: until Ctrl-C or Esc; or to wait with idle, default: 20",
    )
    command.add_argument(
        "--strength",
        type=_strength_text,
        metavar="X,PART=X",
        help="scale of the expression from 0 (a still face) to 3, and of its parts: 1.2, or mouth=1.2,pose=.5; parts: "
        "pose, mouth, brows, lids, gaze; default: 1",
    )
    command.add_argument(
        "--only", choices=("face", "pose"), help="move only the face and not the head, or only the head"
    )
    command.add_argument("--preset", type=Path, metavar="FILE", help="take the strengths from a file")
    command.add_argument("--save-preset", type=Path, metavar="FILE", help="write the strengths of this call to a file")
    command.add_argument(
        "--absolute", action="store_true", help="use pose and expression unchanged, not relative to neutral"
    )
    command.add_argument(
        "--head-pose",
        choices=("centred", "as-filmed"),
        default="centred",
        help="where the resting head looks: into the camera, or mostly where the driver's head does; "
        "default: %(default)s",
    )
    add_number(
        command,
        "--smoothing",
        Limits(0.0, 10.0, whole=False),
        "strength of the smoothing over time, default: 1 for videos, 0 for motion files",
    )
    command.add_argument(
        "--scene",
        choices=("plain", "photo", "transparent"),
        default="plain",
        help="show the avatar on its own, its head in the photo that it was made from, or the avatar on a transparent "
        "background in a .webm, .mov or .zip; default: %(default)s",
    )
    add_number(
        command,
        "--size",
        Limits(64, 2048),
        "width and height in pixels, in the photo its longer side; default: 512, in the photo its own",
    )
    command.add_argument(
        "--background",
        help="a colour (white, #336699, ...), a picture, or blur for the photo's own background; default: white, in "
        "the photo its own",
    )
    add_speaking_options(command)
    command.add_argument("--mark", action="store_true", help="write 'AI-generated' into a corner of the picture")
    command.add_argument(
        "--no-bust", action="store_true", help="show the head without its torso; no effect with --scene photo"
    )
    add_number(
        command,
        "--fps",
        Limits(1.0, 500.0, whole=False),
        "frame rate of a motion file, every row of which is one frame, default: the rate or time codes of the file, "
        "else 25 for FLAME parameters and 60 for CSV; or of a speaking avatar, up to 240, default: 25",
    )
    _add_head(command)

    command = commands.add(
        _GROUP,
        "track",
        _track,
        "Track the head in a photo or a video, and write its motion",
        "track clip.mp4 -o take.json",
    )
    command.add_argument(
        "input",
        type=Path,
        metavar="INPUT",
        help="a photo, a video, a saved track to write in another format, or, with --send, webcam",
    )
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        help="a track (.safetensors), or only the motion of a video: .json, .csv, bsData.json (LAM), and with a FLAME "
        f"head .npz (VHAP), .npy (ARTalk); default: {_TRACK}",
    )
    command.add_argument(
        "--send",
        metavar="ADDRESS",
        help="webcam: send the motion to another program, osc://HOST:PORT for VMC, livelink://HOST:PORT or "
        "ifacialmocap://HOST:PORT (docs/guide/live.md)",
    )
    add_number(
        command,
        "--seconds",
        Limits(0.1, 86_400, whole=False),
        "how long to follow the webcam with --send, default: until Ctrl-C",
    )
    command.add_argument(
        "--photometric",
        metavar="AVATAR",
        help="align the heads with the pictures, using this avatar of the person",
    )
    command.add_argument(
        "--report", type=Path, metavar="DIR", help="write a page about the tracking quality to this folder"
    )
    _add_head(command)


def _add_head(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--head", type=Path, metavar="FOLDER", help="another head model, such as FLAME (docs/guide/flame.md)"
    )


def _head(options: argparse.Namespace) -> HeadModel:
    from spatialavatar.avatar import default_head
    from spatialavatar.head import load_head

    return load_head(options.head) if options.head else default_head()


def _drive(options: argparse.Namespace, progress: Progress) -> Outcome:
    from spatialavatar.driving import drive
    from spatialavatar.motion import is_motion_file, read_motion
    from spatialavatar.part_strengths import save_preset
    from spatialavatar.streams import StreamAddress, is_stream
    from spatialavatar.webcam import camera_number

    if performs(options):
        return _perform(options, progress)
    check_no_performance(options)
    camera = camera_number(options.motion)
    stream = StreamAddress.parse(options.motion) if is_stream(options.motion) else None
    is_file = stream is None and is_motion_file(options.motion)
    _check_drive_options(options, is_file, camera is not None or stream is not None)
    smoothing = options.smoothing
    if smoothing is None:
        smoothing = 0.0 if is_file else 1.0
    out = live_output(options.output, options.to)
    preset = _strengths(options)
    config = _drive_config(options, preset, smoothing)
    if options.output is not None:
        picture = config.background if isinstance(config.background, Path) else None
        check_not_an_input(options.output, picture, options.avatar, Path(options.motion), options.audio, options.preset)
    if options.save_preset is not None:
        check_not_an_input(options.save_preset, options.avatar, Path(options.motion), options.audio)
        save_preset(preset, options.save_preset)
    avatar = _shown(options)
    if camera is not None:
        return drive_by_camera(avatar, camera, out, config, options.seconds, progress)
    if stream is not None:
        return drive_by_stream(avatar, stream, out, config, options.seconds, progress)
    motion = Path(options.motion)
    if is_file and options.fps is not None:
        motion = read_motion(motion, avatar.head, options.fps)
    report = drive(avatar, motion, _video_path(options), config, audio=options.audio, progress=progress)
    return _driven(report)


def _video_path(options: argparse.Namespace) -> Path:
    """The video to write."""
    return options.output or Path("driven.webm" if options.scene == "transparent" else "driven.mp4")


def _drive_config(options: argparse.Namespace, preset: StrengthPreset, smoothing: float) -> DriveConfig:
    from spatialavatar.driving import DriveConfig
    from spatialavatar.staging import read_background

    background = options.background or ("white" if options.scene == "plain" else None)
    return DriveConfig(
        strength=preset.strength,
        parts=preset.parts,
        relative=not options.absolute,
        smoothing=smoothing,
        size=options.size or (None if options.scene == "photo" else 512),
        scene=options.scene,
        background=None if background is None else read_background(background),
        mark=options.mark,
        head_pose="as filmed" if options.head_pose == "as-filmed" else "centred",
    )


def _driven(report: DriveReport) -> Outcome:
    """The outcome of a command that wrote a driven video."""
    facts = {
        "video": report.path,
        "frames": report.frames,
        "held": report.held,
        "fps": report.fps,
        "warnings": report.warnings,
    }
    sentence = f"{report.frames} frames, {report.held} held, {report.fps:g} frames per second."
    return Outcome([report.path], facts, notes=[*report.warnings, sentence])


def _strength_text(text: str) -> str:
    """The value of ``--strength``, checked.

    Raises:
        OptionError: it is malformed, or a strength is out of range.
    """
    from spatialavatar.part_strengths import StrengthPreset

    try:
        StrengthPreset().updated(text)
    except InputError as error:
        raise OptionError(f"--strength: {error}") from None
    return text


def _strengths(options: argparse.Namespace) -> StrengthPreset:
    """The strengths of ``--preset``, then of ``--strength``, then of ``--only``.

    Raises:
        InputError: a strength is malformed or out of range, or ``--only`` stills a part that is given.
        MissingAssetError, FormatError: as :func:`load_preset`.
    """
    from spatialavatar.part_strengths import StrengthPreset, load_preset, read_strengths

    preset = StrengthPreset() if options.preset is None else load_preset(options.preset)
    if options.strength is not None:
        preset = preset.updated(options.strength)
    if options.only is None:
        return preset
    parts = preset.parts.only(options.only)
    for name in read_strengths(options.strength) if options.strength is not None else ():
        if name and getattr(parts, name) != getattr(preset.parts, name):
            raise InputError(
                f"--only {options.only} sets the {name} to 0, and --strength gives it a value; give one of them."
            )
    return StrengthPreset(preset.strength, parts)


def _perform(options: argparse.Namespace, progress: Progress) -> Outcome:
    """Drive without a motion: the avatar speaks or waits."""
    from spatialavatar.part_strengths import save_preset

    check_performance(options)
    preset = _strengths(options)
    config = _drive_config(options, preset, 0.0)
    out = _video_path(options)
    check_not_an_input(out, options.avatar, options.audio, options.preset)
    if options.save_preset is not None:
        check_not_an_input(options.save_preset, options.avatar, options.audio)
        save_preset(preset, options.save_preset)
    return _driven(perform(options, _shown(options), config, out, progress))


def _shown(options: argparse.Namespace) -> Avatar:
    """The avatar, with its torso unless the options leave it out."""
    from spatialavatar.avatar import Avatar

    avatar = Avatar.from_pretrained(options.avatar, head=_head(options))
    return avatar.without_bust() if options.no_bust and options.scene != "photo" else avatar


def _check_drive_options(options: argparse.Namespace, is_file: bool, is_live: bool) -> None:
    """Refuse options that have no effect on this motion.

    Raises:
        InputError: there is one.
    """
    if options.fps is not None and not is_file:
        raise InputError(
            f"--fps applies to motion files only, and {options.motion} is not one: a video, a saved track and a camera "
            "have their own rate; leave --fps out."
        )
    if options.seconds is not None and not is_live:
        raise InputError("--seconds applies to a webcam or a stream only; leave it out, or give --motion webcam.")
    if options.to is not None and not is_live:
        raise InputError("--to applies to a webcam or a stream only; write a video with -o, or give --motion webcam.")
    for name in ("audio", "smoothing"):
        if getattr(options, name) is not None and is_live:
            raise InputError(f"--{name} has no effect on a drive by webcam or stream; leave it out.")


def _track(options: argparse.Namespace, progress: Progress) -> Outcome:
    if options.send is not None:
        return send_camera(options, _head(options), progress)
    if options.seconds is not None:
        raise InputError(
            "--seconds applies to --send only; leave it out, or send the motion of the webcam with --send."
        )

    from spatialavatar.media import check_writable
    from spatialavatar.motion import check_flame, write_motion
    from spatialavatar.tracking import load_track, save_track, track
    from spatialavatar.tracking.report import write_track_report

    options.output = options.output or Path(_TRACK)
    suffix = options.output.suffix.lower()
    if suffix not in (".safetensors", ".json", ".csv", ".npz", ".npy"):
        raise InputError(
            f"{options.output.name} has no known suffix; use .safetensors for a track, .json, .csv, .npz or .npy for a "
            "motion."
        )
    check_not_an_input(options.output, options.input)
    check_writable(options.output)
    head = _head(options)
    if suffix in (".npz", ".npy"):
        check_flame(head.id, head.is_flame, options.output)
    if suffix != ".safetensors" and options.input.suffix.lower() != ".safetensors" and options.input.is_file():
        _check_motion_source(options.input)
    notes = []
    if options.photometric:
        tracked, sentence = _aligned(options.input, options.photometric, head, progress)
        notes.append(sentence)
    elif options.input.suffix.lower() == ".safetensors":
        tracked = load_track(options.input)
    else:
        tracked = track(options.input, head, progress=progress)
    if suffix == ".safetensors":
        save_track(tracked, options.output)
    else:
        write_motion(tracked, options.output, head)
    pages = ()
    if options.report:
        video = None if options.input.suffix.lower() == ".safetensors" else options.input
        pages = write_track_report(options.report, tracked, head, video, progress)[:2]
    held = int((tracked.confidence <= 0).sum())
    facts = {
        "track": options.output,
        "frames": len(tracked),
        "held": held,
        "fps": tracked.fps,
        "warnings": tracked.warnings,
        "report": pages or None,
    }
    sentence = f"{len(tracked)} frames, {held} of them without a face."
    return Outcome([options.output, *pages], facts, notes=[*tracked.warnings, sentence, *notes])


def _check_motion_source(path: Path) -> None:
    """Refuse, before the long work, a photo or a video whose motion no file can hold.

    Raises:
        InputError: it is one, or the video cannot be read.
    """
    from spatialavatar.media import VideoReader, is_animation, is_image
    from spatialavatar.motion import check_size

    if is_image(path) and not is_animation(path):
        raise InputError(f"{path.name} is a photo, which has no motion; write a track: -o track.safetensors.")
    check_size(VideoReader(path).frame_count_estimate, 0, path.name)


def _aligned(path: Path, avatar: str, head: HeadModel, progress: Progress) -> tuple[Track, str]:
    """The track of a video, or a saved one with pictures, after the photometric pass, and a sentence about the pass."""
    from spatialavatar.avatar import Avatar
    from spatialavatar.media import VideoReader
    from spatialavatar.refinement import photometric_pass
    from spatialavatar.tracking import load_track, track_video

    person = Avatar.from_pretrained(avatar, head=head)
    if path.suffix.lower() == ".safetensors":
        alignment = photometric_pass(person, load_track(path), progress=progress)
        return alignment.track, str(alignment)
    count = VideoReader(path).frame_count_estimate
    if count > _PHOTOMETRIC_FRAMES:
        raise InputError(
            f"{path.name} has about {count} frames, and --photometric keeps the pictures of at most "
            f"{_PHOTOMETRIC_FRAMES}; cut the video, or leave --photometric out."
        )
    tracked = track_video(path, head, with_images=True, progress=part(progress, 0.0, 0.5))
    alignment = photometric_pass(person, tracked, progress=part(progress, 0.5, 1.0))
    return alignment.track.without_pictures(), str(alignment)
