"""The command that makes sets of synthetic heads: ``synth``."""

from __future__ import annotations

import argparse
from pathlib import Path

from spatialavatar.cli.commands import Commands
from spatialavatar.cli.options import Limits, add_number
from spatialavatar.cli.output import Outcome
from spatialavatar.progress import Progress


def declare(commands: Commands) -> None:
    """Add the command of this module."""
    command = commands.add(
        "Train",
        "synth",
        _synth,
        "Make synthetic whole heads with exact cameras, hair and truth, for bench multi-view and shards",
        "synth --count 100 --out heads/",
    )
    add_number(command, "--count", Limits(1, 1_000_000), "number of heads, default: %(default)s", 10)
    add_number(command, "--seed", Limits(0, 2**31), "seed of the first head, default: %(default)s", 0)
    command.add_argument("--out", type=Path, required=True, help="folder of the set; a second run continues there")
    add_number(command, "--views", Limits(2, 64), "cameras around each head, default: %(default)s", 8)
    add_number(command, "--size", Limits(64, 4096), "pixels a side, default: %(default)s", 512)
    command.add_argument(
        "--faces", type=Path, metavar="DIR", help="photos whose skin is used, default: the example portraits"
    )


def _synth(options: argparse.Namespace, progress: Progress) -> Outcome:
    from spatialavatar.synthetic.sets import LICENCE, SetConfig, make_set

    config = SetConfig(options.count, options.seed, options.views, options.size)
    made = make_set(options.out, config, options.faces, progress)
    notes = [f"{made.made} heads made, {len(made.folders) - made.made} were there; see {options.out / LICENCE}."]
    facts = {"heads": made.folders, "made": made.made, "people": made.people}
    return Outcome(made.folders, facts, notes=notes)
