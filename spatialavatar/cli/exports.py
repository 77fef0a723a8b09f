"""The command that turns avatars into files of other programs: ``export``."""

from __future__ import annotations

import argparse
from pathlib import Path

from spatialavatar.cli.commands import Commands
from spatialavatar.cli.output import Outcome
from spatialavatar.errors import InputError
from spatialavatar.progress import Progress

_FORMATS = ("html", "ply")


def declare(commands: Commands) -> None:
    """Add the commands of this module."""
    command = commands.add(
        "Make an avatar",
        "export",
        _export,
        "Write an avatar as a web page that moves it without a server, or as a PLY",
        "export me.safetensors --format html --motion talk.json",
    )
    command.add_argument("avatar", type=Path, metavar="AVATAR", help="what 'generate' wrote, or you/name on the Hub")
    command.add_argument("--format", choices=_FORMATS, required=True)
    command.add_argument("-o", "--output", type=Path, help="default: the avatar's name with the format's suffix")
    command.add_argument("--motion", metavar="MOTION", help="html: a motion file, track or video that the page plays")


def _export(options: argparse.Namespace, progress: Progress) -> Outcome:
    if options.motion and options.format != "html":
        raise InputError(f"A {options.format} file does not move; leave --motion out or choose --format html.")

    from spatialavatar.avatar import Avatar
    from spatialavatar.driving import motion_track
    from spatialavatar.export import save_html, save_ply
    from spatialavatar.media import check_writable

    output = options.output or Path(f"{options.avatar.stem}.{options.format}")
    check_writable(output)
    avatar = Avatar.from_pretrained(options.avatar)
    if options.format == "html":
        motion = motion_track(options.motion, avatar.head, progress) if options.motion else None
        save_html(avatar, output, motion)
    else:
        save_ply(avatar, output)
    return Outcome([output], {"output": output, "format": options.format, "bytes": output.stat().st_size})
