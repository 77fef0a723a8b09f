"""Commands that train stage 1's networks: ``shards``, ``train``, ``prior-samples``, ``train-prior``."""

from __future__ import annotations

import argparse
from pathlib import Path

from spatialavatar.cli.commands import Commands
from spatialavatar.cli.options import Limits, add_number, shard
from spatialavatar.cli.output import Outcome
from spatialavatar.progress import Progress

_GROUP = "Train"


def declare(commands: Commands) -> None:
    """Add the commands of this module."""
    command = commands.add(
        _GROUP,
        "shards",
        _shards,
        "Track the people of a data set and write training files with their pictures",
        "shards CelebV-HQ/videos --out shards/celebv",
    )
    command.add_argument("folder", type=Path, metavar="FOLDER", help="clips, rigs of cameras, or photos")
    command.add_argument("--out", type=Path, required=True, help="folder of the shards; a second run continues there")
    command.add_argument(
        "--photos", action="store_true", help="the pictures of a person are photos, not frames of a video"
    )
    command.add_argument(
        "--layout", help="layout of the folder, listed in docs/reference/evaluation.md; default: detected"
    )
    command.add_argument("--only", default="*", help="use only people whose names match, such as 'london_*'")
    command.add_argument("--head", type=Path, help="folder of another head model than the one that ships")
    add_number(command, "--frames", Limits(1, 100_000), "frames kept of each video, default: %(default)s", 32)
    add_number(command, "--max-frames", Limits(1, 1_000_000), "frames read of each video, default: %(default)s", 1500)
    add_number(command, "--per-shard", Limits(1, 100_000), "people in a shard, default: %(default)s", 32)
    command.add_argument("--shard", default="1/1", metavar="I/N", help="make every N-th shard, from the I-th on")

    command = commands.add(
        _GROUP,
        "train",
        _train,
        "Train the network that corrects the base, or continue a run",
        "train configs/monocular.toml",
    )
    command.add_argument("config", type=Path, metavar="CONFIG", help="a TOML file; docs/guide/train.md lists its keys")

    command = commands.add(
        _GROUP,
        "prior-samples",
        _prior_samples,
        "Make synthetic heads and masked photos to train the prior of whole heads on",
        "prior-samples --people photos --heads 1000 --out samples",
    )
    command.add_argument("--out", type=Path, required=True, help="folder of the samples; a second run continues there")
    command.add_argument(
        "--people", type=Path, help="photos under an open licence, one a person; default: the example portraits"
    )
    add_number(command, "--heads", Limits(1, 10_000_000), "synthetic heads, default: %(default)s", 1000)
    add_number(command, "--first", Limits(0, 1_000_000_000), "seed of the first of them, default: %(default)s", 0)
    command.add_argument("--shard", default="1/1", metavar="I/N", help="make every N-th head, from the I-th on")

    command = commands.add(
        _GROUP,
        "train-prior",
        _train_prior,
        "Train the prior of whole heads, or continue a run",
        "train-prior configs/prior.toml",
    )
    command.add_argument("config", type=Path, metavar="CONFIG", help="a TOML file such as configs/prior.toml")


def _shards(options: argparse.Namespace, progress: Progress) -> Outcome:
    from spatialavatar.avatar import default_head
    from spatialavatar.head import load_head
    from spatialavatar.training.preparation import SKIPPED, Selection, ShardConfig, make_shards

    made = make_shards(
        options.folder,
        options.out,
        load_head(options.head) if options.head else default_head(),
        ShardConfig(options.photos, options.frames, options.max_frames, options.per_shard),
        Selection(options.layout, options.only, shard(options.shard)),
        progress,
    )
    notes = [f"{made.people} people in {len(made.paths)} shards, {len(made.skipped)} skipped."]
    if made.skipped:
        notes.append(f"The reasons are in {options.out / SKIPPED}.")
    if made.missing:
        notes.append(f"{made.missing} shards are still to be made by other machines.")
    facts = {"shards": made.paths, "people": made.people, "skipped": made.skipped, "missing": made.missing}
    return Outcome(made.paths, facts, notes=notes)


def _prior_samples(options: argparse.Namespace, progress: Progress) -> Outcome:
    from spatialavatar.training.prior.making import SampleConfig, make_samples

    result = make_samples(
        SampleConfig(options.out, options.people, options.heads, options.first, shard=shard(options.shard)), progress
    )
    notes = [f"{result.made} new samples."]
    notes += [f"{name} could not be used: {reason}" for name, reason in list(result.left_out.items())[:5]]
    return Outcome([options.out], vars(result), notes=notes)


def _train_prior(options: argparse.Namespace, progress: Progress) -> Outcome:
    from spatialavatar.pipeline import default_model
    from spatialavatar.training.prior.config import read_prior_config
    from spatialavatar.training.prior.loop import train_prior

    result = train_prior(read_prior_config(options.config), default_model(), progress)
    scores = ", ".join(f"{name} {value}" for name, value in result.verdict.items())
    notes = [f"{result.steps} steps, on {result.samples} samples of heads.", f"Held-out heads: {scores}."]
    return Outcome([result.model], vars(result), notes=notes)


def _train(options: argparse.Namespace, progress: Progress) -> Outcome:
    from spatialavatar.training.config import read_training_config
    from spatialavatar.training.launcher import LEFT_OUT, REDRAWN, train

    config = read_training_config(options.config)
    result = train(config, progress)
    notes = [f"{result.steps} steps, on {result.people} people."]
    if result.left_out:
        notes.append(
            f"{len(result.left_out)} people could not be used; the reasons are in {Path(config.out) / LEFT_OUT}."
        )
    if result.redrawn:
        notes.append(f"{result.redrawn} draws could not be used; the reasons are in {Path(config.out) / REDRAWN}.")
    return Outcome([result.model], vars(result), notes=notes)
