"""Commands that train stage 1's network: ``shards``, ``train``."""

from __future__ import annotations

import argparse
from pathlib import Path

from spatialavatar.cli.commands import Commands, shard
from spatialavatar.cli.output import Outcome
from spatialavatar.progress import Progress

_GROUP = "Train"


def declare(commands: Commands) -> None:
    """Add the commands of this module."""
    command = commands.add(
        _GROUP,
        "shards",
        _shards,
        "Track the people of a data set, with pictures, into files to train on",
        "shards CelebV-HQ/videos --out shards/celebv",
    )
    command.add_argument("folder", type=Path, metavar="FOLDER", help="clips, rigs of cameras, or photos")
    command.add_argument("--out", type=Path, required=True, help="folder of the shards; a second run goes on there")
    command.add_argument("--photos", action="store_true", help="a person's pictures are photos, not frames of a video")
    command.add_argument("--layout", help="of the folder, if it is not to be found out; docs/evaluation.md lists them")
    command.add_argument("--only", default="*", help="only people whose names match, such as 'london_*'")
    command.add_argument("--head", type=Path, help="folder of another head model than the one that ships")
    command.add_argument("--frames", type=int, default=32, help="kept of each video, default: %(default)s")
    command.add_argument("--max-frames", type=int, default=1500, help="looked at, default: %(default)s")
    command.add_argument("--per-shard", type=int, default=32, help="people, default: %(default)s")
    command.add_argument("--shard", default="1/1", metavar="I/N", help="only every N-th shard, from the I-th on")

    command = commands.add(
        _GROUP,
        "train",
        _train,
        "Train the network that corrects the base, or go on with a run",
        "train configs/monocular.toml",
    )
    command.add_argument("config", type=Path, metavar="CONFIG", help="a TOML file; docs/training.md has its keys")


def _shards(options: argparse.Namespace, progress: Progress) -> Outcome:
    from spatialavatar.avatar import default_head
    from spatialavatar.head import load_head
    from spatialavatar.training.preparation import SKIPPED, ShardConfig, make_shards

    made = make_shards(
        options.folder,
        options.out,
        load_head(options.head) if options.head else default_head(),
        ShardConfig(options.photos, options.frames, options.max_frames, options.per_shard),
        layout=options.layout,
        only=options.only,
        shard=shard(options.shard),
        progress=progress,
    )
    notes = [f"{made.people} people in {len(made.paths)} shards, {len(made.skipped)} skipped."]
    if made.skipped:
        notes.append(f"{options.out / SKIPPED} says why.")
    if made.missing:
        notes.append(f"{made.missing} shards are still to be made by other machines.")
    facts = {"shards": made.paths, "people": made.people, "skipped": made.skipped, "missing": made.missing}
    return Outcome(made.paths, facts, notes=notes)


def _train(options: argparse.Namespace, progress: Progress) -> Outcome:
    from spatialavatar.training.config import read_training_config
    from spatialavatar.training.launcher import LEFT_OUT, REDRAWN, train

    config = read_training_config(options.config)
    result = train(config, progress)
    notes = [f"{result.steps} steps, on {result.people} people."]
    if result.left_out:
        notes.append(f"{len(result.left_out)} could not be used; {Path(config.out) / LEFT_OUT} says why.")
    if result.redrawn:
        notes.append(f"{result.redrawn} draws could not be used; {Path(config.out) / REDRAWN} says why.")
    return Outcome([result.model], vars(result), notes=notes)
