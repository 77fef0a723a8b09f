"""The command that evaluates avatars: ``bench``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from spatialavatar.cli.commands import Commands
from spatialavatar.cli.options import Limits, add_model, add_number, shard
from spatialavatar.cli.output import Outcome
from spatialavatar.errors import InputError
from spatialavatar.progress import Progress

_PROTOCOLS = ("self", "cross", "k-source", "refined", "multi-view", "turned", "expressive")
_MERGE = "merge"


def declare(commands: Commands) -> None:
    """Add the command of this module."""
    command = commands.add(
        "Measure",
        "bench",
        _bench,
        "Evaluate avatars on a folder of test clips, under a protocol of the literature",
        "bench self clips/ --out results/",
    )
    command.add_argument("protocol", choices=(*_PROTOCOLS, _MERGE), metavar="PROTOCOL", help=", ".join(_PROTOCOLS))
    command.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="the clips; with the word merge in place of a protocol, the result folders of the shards to join",
    )
    command.add_argument("--out", type=Path, default=Path("bench"), help="folder of the results, default: %(default)s")
    command.add_argument(
        "--only", default="*", help="evaluate only clips whose names match, such as 'london_*' or 'anna,bob'"
    )
    command.add_argument(
        "--layout", help="layout of the folder, listed in docs/reference/evaluation.md; default: detected"
    )
    command.add_argument("--name", help="name of the data set in the tables, default: the folder's")
    add_model(command)
    command.add_argument(
        "--region", default="head", help="pixels that are compared, head or full, default: %(default)s"
    )
    add_number(command, "--stride", Limits(1, 1_000_000), "evaluate every n-th target frame, default: %(default)s", 1)
    add_number(
        command, "--sources", Limits(1, 4), "self: source frames, multi-view: source cameras, default: %(default)s", 1
    )
    add_number(
        command,
        "--polish",
        Limits(0, 100_000, unit="STEPS"),
        "steps of the polish of each avatar, default: %(default)s (stage 1 alone)",
        0,
    )
    add_number(command, "--iterations", Limits(1, 10_000_000), "refined: steps, default: %(default)s", 10_000)
    add_number(command, "--train-frames", Limits(8, 100_000), "refined: training frames, default: %(default)s", 300)
    add_number(command, "--seed", Limits(0, 2**63 - 1), "random seed of the refinement, default: %(default)s", 0)
    add_number(command, "--jobs", Limits(1, 1024), "clips that are evaluated in parallel, default: %(default)s", 1)
    command.add_argument("--shard", default="1/1", metavar="I/N", help="evaluate every N-th clip, from the I-th on")


def _bench(options: argparse.Namespace, progress: Progress) -> Outcome:
    from spatialavatar.evaluation import bench, report
    from spatialavatar.evaluation.protocols import BenchConfig

    if options.protocol == _MERGE:
        content = bench.merge(options.folders, options.out)
    else:
        if len(options.folders) > 1:
            raise InputError("A protocol runs over one folder of clips; give one.")
        config = BenchConfig(
            protocol=options.protocol,
            region=options.region,
            stride=options.stride,
            sources=options.sources,
            polish=options.polish,
            iterations=options.iterations,
            train_frames=options.train_frames,
            seed=options.seed,
        )
        choice = bench.RunOptions(
            layout=options.layout,
            only=options.only,
            name=options.name,
            shard=shard(options.shard),
            jobs=options.jobs,
            model=options.model,
            revision=options.revision,
            base=options.base,
        )
        content = bench.run(options.folders[0], options.out, config, choice, progress)
    files = [options.out / name for name in (bench.RESULTS, "table.md", "table.tex", "report.html")]
    facts: dict[str, Any] = {"files": files, **{k: v for k, v in content.items() if k != "clips"}}
    return Outcome(files, facts, report.markdown(content), [f"{c}: {why}" for c, why in content["failed"].items()])
