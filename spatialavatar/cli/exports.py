"""The command that writes avatars as files for other programs: ``export``."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from spatialavatar.cli.commands import Commands
from spatialavatar.cli.options import Limits, add_number
from spatialavatar.cli.output import Outcome
from spatialavatar.errors import InputError
from spatialavatar.files import check_not_an_input
from spatialavatar.number_text import parse_float
from spatialavatar.progress import Progress

_SPLATS = ("ply", "splat", "spz")
_FORMATS = ("html", *_SPLATS, "glb", "lam-zip")


def declare(commands: Commands) -> None:
    """Add the commands of this module."""
    command = commands.add(
        "Make an avatar",
        "export",
        _export,
        "Write an avatar as an animated web page, as splats, or as a mesh with morph targets",
        "export me.safetensors --format html --motion talk.json",
    )
    command.add_argument(
        "avatar", type=Path, metavar="AVATAR", help="a file that 'generate' wrote, or you/name on the Hub"
    )
    command.add_argument(
        "--format", choices=_FORMATS, required=True, help="of the file, described in docs/guide/export.md"
    )
    command.add_argument(
        "-o", "--output", type=Path, help="the file, default: the avatar's name with the format's suffix"
    )
    command.add_argument("--motion", metavar="MOTION", help="html: a motion file, track or video that the page plays")
    command.add_argument(
        "--mediapipe",
        metavar="URL",
        help="html: address of your own copy of the face tracker (docs/guide/web-avatar.md)",
    )
    command.add_argument(
        "--speech",
        action="store_true",
        help="html: embed the speech network (1.2 MB), so that the page speaks from a microphone or a sound file",
    )
    splats = "/".join(_SPLATS)
    command.add_argument(
        "--expression", metavar="UNIT=WEIGHT,...", help=f"{splats}: ARKit units with weights, such as jawOpen=0.6"
    )
    for angle, positive in (("yaw", "to the subject's left"), ("pitch", "down"), ("roll", "to the subject's right")):
        add_number(
            command, f"--{angle}", Limits(-180.0, 180.0, whole=False, unit="DEGREES"), f"{splats}: positive {positive}"
        )
    command.add_argument(
        "--sh-degree", type=int, choices=(0, 3), help="ply: 3 writes all 62 columns of the original format, default: 0"
    )
    command.add_argument(
        "--spz-version", type=int, choices=(2, 3), help="spz: 2 for readers older than July 2025, default: 3"
    )


def _export(options: argparse.Namespace, progress: Progress) -> Outcome:
    _check_format_options(options)
    units = _units(options.expression)

    from spatialavatar.avatar import Avatar
    from spatialavatar.driving import motion_track
    from spatialavatar.export import held_pose, save_glb, save_html, save_lam_zip, save_ply, save_splat, save_spz
    from spatialavatar.media import check_writable

    output = options.output or Path(f"{options.avatar.stem}.{options.format.removeprefix('lam-')}")
    check_not_an_input(output, options.avatar)
    check_writable(output)
    avatar = Avatar.from_pretrained(options.avatar)
    if options.format == "html":
        motion = motion_track(options.motion, avatar.head, progress) if options.motion else None
        save_html(avatar, output, motion, options.mediapipe, speech=options.speech)
    elif options.format == "glb":
        save_glb(avatar, output)
    elif options.format == "lam-zip":
        save_lam_zip(avatar, output)
    else:
        params = held_pose(avatar, units, options.yaw or 0.0, options.pitch or 0.0, options.roll or 0.0)
        if options.format == "ply":
            save_ply(avatar, output, params, sh_degree=options.sh_degree or 0)
        elif options.format == "spz":
            save_spz(avatar, output, params, version=options.spz_version or 3)
        else:
            save_splat(avatar, output, params)
    return Outcome([output], {"output": output, "format": options.format, "bytes": output.stat().st_size})


def _check_format_options(options: argparse.Namespace) -> None:
    """Raise :class:`InputError` for an option that does not apply to the chosen format."""
    for name in ("motion", "mediapipe", "speech"):
        if getattr(options, name) and options.format != "html":
            raise InputError(f"--{name} applies only to --format html; leave it out or choose that format.")
    for name in ("expression", "yaw", "pitch", "roll"):
        if getattr(options, name) is not None and options.format not in _SPLATS:
            raise InputError(
                f"--{name} applies only to splat files; leave it out, or choose --format ply, splat or spz."
            )
    if options.sh_degree is not None and options.format != "ply":
        raise InputError("--sh-degree applies only to --format ply; leave it out or choose that format.")
    if options.spz_version is not None and options.format != "spz":
        raise InputError("--spz-version applies only to --format spz; leave it out or choose that format.")


def _units(text: str | None) -> dict[str, float]:
    """ARKit weights by unit, parsed from text such as "jawOpen=0.6,cheekPuff=1"."""
    units = {}
    for part in filter(None, (text or "").split(",")):
        name, _, weight = part.partition("=")
        try:
            units[name.strip()] = value = parse_float(weight)
            if not math.isfinite(value):
                raise ValueError
        except ValueError:
            raise InputError(f"{part!r} is not an expression; give units with weights, as jawOpen=0.6.") from None
    return units
