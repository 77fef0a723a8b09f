"""The command that measures avatars: ``bench``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from spatialavatar.cli.commands import Commands, add_model, shard
from spatialavatar.cli.output import Outcome
from spatialavatar.errors import InputError
from spatialavatar.progress import Progress

_PROTOCOLS = ("self", "cross", "k-source", "refined", "multi-view")
_MERGE = "merge"


def declare(commands: Commands) -> None:
    """Add the command of this module."""
    command = commands.add(
        "Measure",
        "bench",
        _bench,
        "Measure avatars on a folder of test clips, under a protocol of the field's papers",
        "bench self clips/ --out results/",
    )
    command.add_argument("protocol", choices=(*_PROTOCOLS, _MERGE), metavar="PROTOCOL", help=", ".join(_PROTOCOLS))
    command.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="the clips; in place of a protocol the word merge joins the results of shards, which are then given here",
    )
    command.add_argument("--out", type=Path, default=Path("bench"), help="folder of the results; default: %(default)s")
    command.add_argument(
        "--only", default="*", help="measure only clips whose names match, such as 'london_*' or 'anna,bob'"
    )
    command.add_argument("--layout", help="of the folder, if it is not to be found out; docs/evaluation.md lists them")
    command.add_argument("--name", help="of the data set in the tables; default: the folder's")
    add_model(command)
    command.add_argument("--region", default="head", help="pixels that count: head or full; default: %(default)s")
    command.add_argument("--stride", type=int, default=1, help="measure every n-th target frame, default: %(default)s")
    command.add_argument(
        "--sources", type=int, default=1, help="self: source frames, multi-view: cameras; default: %(default)s"
    )
    command.add_argument("--iterations", type=int, default=10_000, help="refined: steps, default: %(default)s")
    command.add_argument(
        "--train-frames", type=int, default=300, help="refined: frames to learn from, default: %(default)s"
    )
    command.add_argument("--seed", type=int, default=0, help="of the refinement, default: %(default)s")
    command.add_argument("--jobs", type=int, default=1, help="clips at a time, default: %(default)s")
    command.add_argument("--shard", default="1/1", metavar="I/N", help="only every N-th clip, from the I-th on")


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
            iterations=options.iterations,
            train_frames=options.train_frames,
            seed=options.seed,
        )
        content = bench.run(
            options.folders[0],
            options.out,
            config,
            layout=options.layout,
            only=options.only,
            jobs=options.jobs,
            shard=shard(options.shard),
            name=options.name,
            model=options.model,
            revision=options.revision,
            base=options.base,
            progress=progress,
        )
    files = [options.out / name for name in (bench.RESULTS, "table.md", "table.tex", "report.html")]
    facts: dict[str, Any] = {"files": files, **{k: v for k, v in content.items() if k != "clips"}}
    return Outcome(files, facts, report.markdown(content), [f"{c}: {why}" for c, why in content["failed"].items()])
