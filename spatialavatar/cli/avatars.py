"""Commands that make avatars: ``generate``, ``refine``, ``demo``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from spatialavatar.cli.commands import Commands
from spatialavatar.cli.options import Limits, add_model, add_number, load_model
from spatialavatar.cli.output import Outcome
from spatialavatar.errors import InputError
from spatialavatar.files import check_not_an_input
from spatialavatar.progress import Progress, part

if TYPE_CHECKING:
    from spatialavatar.records import Track

_GROUP = "Make an avatar"
_REFINE_FRAMES = 1200  # refinement keeps every picture: about 1.6 MB a frame


def declare(commands: Commands) -> None:
    """Add the commands of this module."""
    command = commands.add(
        _GROUP,
        "generate",
        _generate,
        "Make an avatar from one to four photos of one person",
        "generate front.jpg side.jpg -o me.safetensors",
    )
    command.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="one to four photos of one person")
    command.add_argument(
        "-o", "--output", type=Path, default=Path("avatar.safetensors"), help="the avatar's file, default: %(default)s"
    )
    add_model(command)
    add_number(
        command,
        "--polish",
        Limits(0, 100_000, unit="STEPS"),
        "steps of optimisation on the photos, 0 for none, default: 24",
    )
    command.add_argument("--no-bust", action="store_true", help="leave the torso out; the avatar ends below the neck")
    command.add_argument(
        "--no-scene",
        action="store_true",
        help="do not keep the photo's background and body in the avatar's file, which 'drive --scene photo' needs",
    )

    command = commands.add(
        _GROUP,
        "refine",
        _refine,
        "Sharpen an avatar on a video of its person, of ten seconds or more",
        "refine me.safetensors me.mp4 -o better.safetensors",
    )
    command.add_argument(
        "avatar", type=Path, metavar="AVATAR", help="a file that 'generate' wrote, or you/name on the Hub"
    )
    command.add_argument("video", type=Path, metavar="VIDEO", help="a video of the person, or its track with pictures")
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("refined.safetensors"),
        help="the new avatar's file, default: %(default)s",
    )
    add_number(command, "--iterations", Limits(1, 10_000_000), "optimisation steps, default: %(default)s", 10_000)
    add_number(command, "--minutes", Limits(0.01, 1e5, whole=False), "stop after this time, finished or not")
    add_number(
        command, "--size", Limits(64, 2048), "side of the compared pictures in pixels, default: %(default)s", 512
    )
    command.add_argument("--resume", action="store_true", help="continue an interrupted run")
    add_number(
        command,
        "--holdout",
        Limits(0.0, 0.99, whole=False),
        "share of the video, at its end, that is kept out of training for the report, default: %(default)s",
        0.2,
    )
    command.add_argument(
        "--report", type=Path, metavar="DIR", help="write previews, pictures and metrics to this folder"
    )
    command.add_argument(
        "--photometric",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="first align the tracked heads with the pictures, default: yes",
    )

    command = commands.add(
        _GROUP,
        "demo",
        _demo,
        "Make an avatar of an example photo, and a video of it talking and looking around",
        "demo",
    )
    command.add_argument(
        "-o", "--output", type=Path, default=Path("outputs"), help="folder of the results, default: %(default)s"
    )
    command.add_argument("--photo", type=Path, action="append", help="use your own photo; repeat it for up to four")
    add_number(command, "--size", Limits(64, 2048), "width and height in pixels, default: %(default)s", 512)


def _generate(options: argparse.Namespace, progress: Progress) -> Outcome:
    from spatialavatar.diagnostics import with_info
    from spatialavatar.media import check_writable
    from spatialavatar.pipeline import generate

    check_not_an_input(options.output, *options.photos)
    check_writable(options.output)
    model = load_model(options)
    avatar = generate(
        options.photos,
        model=model,
        polish=options.polish,
        bust=not options.no_bust,
        scene=not options.no_scene,
        progress=progress,
    )
    avatar.save(options.output)
    facts = {"avatar": options.output, "gaussians": len(avatar.gaussians), "head": avatar.head.id}
    return Outcome([options.output], with_info(facts, avatar), notes=avatar.info.get("warnings", ()))


def _refine(options: argparse.Namespace, progress: Progress) -> Outcome:
    from contextlib import closing

    from spatialavatar.avatar import Avatar
    from spatialavatar.media import check_writable
    from spatialavatar.refinement import (
        RefineConfig,
        WarmUp,
        aligned_heads,
        aligned_heads_path,
        refine,
        write_report,
    )
    from spatialavatar.refinement.report import write_preview

    config = RefineConfig(iterations=options.iterations, size=options.size, holdout=options.holdout)
    checkpoint = options.output.with_name(f"{options.output.stem}.checkpoint.safetensors")
    heads = aligned_heads_path(checkpoint)
    for written in (options.output, checkpoint, heads):
        check_not_an_input(written, options.avatar, options.video)
    check_writable(options.output)
    if options.resume and not checkpoint.exists():
        raise InputError(f"There is no interrupted run at {checkpoint}; leave --resume out to start one.")
    avatar = Avatar.from_pretrained(options.avatar)
    curve, notes = [], []
    track = _pictures(options.video, part(progress, 0.0, 0.2 if options.photometric else 0.3))
    if not options.resume:  # only now: inputs that cannot be read must not cost an interrupted run
        checkpoint.unlink(missing_ok=True)
        heads.unlink(missing_ok=True)
    if options.photometric:
        track, notes = aligned_heads(
            avatar,
            track,
            heads,
            warm_up=WarmUp.before(config.iterations, config.holdout),
            progress=part(progress, 0.2, 0.3),
        )
    with closing(refine(avatar, track, config, checkpoint=checkpoint, minutes=options.minutes)) as steps:
        for step in steps:
            progress(0.3 + 0.7 * step.fraction, f"Refining, step {step.iteration} of {config.iterations}")
            if step.iteration % 10 == 0:
                curve.append((step.iteration, step.losses))
            if options.report and step.preview is not None:
                write_preview(options.report, step)
    step.avatar.save(options.output)
    checkpoint.unlink(missing_ok=True)
    heads.unlink(missing_ok=True)
    facts = {"avatar": options.output, "iterations": step.iteration}
    if not options.report:
        return Outcome([options.output], facts, notes=notes)
    report = write_report(options.report, avatar, step.avatar, track, config, curve)
    kind = "held-out" if report.held_out else "training"
    sentence = (
        f"On {kind} frames: PSNR {report.before.psnr:.2f} dB before, {report.after.psnr:.2f} after; "
        f"SSIM {report.before.ssim:.3f} before, {report.after.ssim:.3f} after; "
        f"LPIPS {report.before.lpips:.3f} before, {report.after.lpips:.3f} after."
    )
    facts |= {
        "held_out": report.held_out,
        "before": vars(report.before),
        "after": vars(report.after),
        "report": report.files,
    }
    return Outcome([options.output, *report.files], facts, notes=[*notes, sentence])


def _pictures(path: Path, progress: Progress) -> Track:
    """A video, or a saved track of one, with the pictures that refinement compares with."""
    from spatialavatar.avatar import default_head
    from spatialavatar.tracking import load_track, track_video

    if path.suffix.lower() == ".safetensors":
        return load_track(path)
    return track_video(path, default_head(), with_images=True, max_frames=_REFINE_FRAMES, progress=progress)


def _demo(options: argparse.Namespace, progress: Progress) -> Outcome:
    from spatialavatar.demo import run_demo

    paths = run_demo(options.output, photos=options.photo, size=options.size, progress=progress)
    return Outcome(paths, dict(zip(("video", "sheet", "avatar"), paths)))
