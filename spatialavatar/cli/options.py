"""Options that several commands share, and options that are numbers within limits."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spatialavatar.errors import InputError, SpatialAvatarError
from spatialavatar.number_text import parse_float, parse_integer

if TYPE_CHECKING:
    from spatialavatar.generator import SpatialAvatar


class OptionError(SpatialAvatarError):
    """The number given for an option is outside its limits.

    Not an :class:`InputError`: argparse turns every ValueError into its own text.
    """


@dataclass(frozen=True)
class Limits:
    """What an option accepts.

    Attributes:
        low: smallest value.
        high: largest value.
        whole: whether only whole numbers are accepted.
        unit: what the help shows for the value.
    """

    low: float
    high: float
    whole: bool = True
    unit: str = "N"

    def reader(self, name: str) -> Callable[[str], int | float]:
        """The ``type`` of option ``name`` for argparse."""
        kind = "a whole number" if self.whole else "a number"

        def read(text: str) -> int | float:
            try:
                value = parse_integer(text) if self.whole else parse_float(text)
            except ValueError:
                raise argparse.ArgumentTypeError(f"{_short(text)} is not {kind}") from None
            if not self.low <= value <= self.high:  # also NaN and integers too large for a float
                raise OptionError(f"{name} is {_short(text)}; give {kind} from {self.low:g} to {self.high:.10g}.")
            return value

        return read


def add_number(
    command: argparse.ArgumentParser, name: str, limits: Limits, text: str, default: float | None = None
) -> None:
    """Declare the option ``name`` of a command.

    Args:
        command: its parser.
        name: with its dashes.
        limits: of the value.
        text: its help.
        default: where the option is not given.
    """
    command.add_argument(name, type=limits.reader(name), default=default, metavar=limits.unit, help=text)


def shard(text: str) -> tuple[int, int]:
    """The two numbers of ``--shard I/N``.

    Raises:
        InputError: it is not of that form, or I is not from 1 to N.
    """
    number, _, count = text.partition("/")
    if not all(part.isascii() and part.isdigit() and len(part) <= 6 for part in (number, count)):
        raise InputError(f"The shard {_short(text)} is not of the form i/n, for instance 1/4.")
    if not 1 <= int(number) <= int(count):
        raise InputError(f"There is no shard {number} of {count}; give i/n with i from 1 to n.")
    return int(number), int(count)


def add_model(command: argparse.ArgumentParser) -> None:
    """Declare the options that :func:`load_model` reads."""
    command.add_argument("--model", metavar="REPO_OR_FOLDER", help="use another generator than the one that ships")
    command.add_argument("--revision", help="branch, tag or, better, commit of the model on the Hub")
    command.add_argument("--base", action="store_true", help="use the model without its trained network")
    command.add_argument(
        "--no-prior", action="store_true", help="complete hair, sides and back by rules, without the learned prior"
    )


def load_model(options: argparse.Namespace) -> SpatialAvatar | None:
    """The model that the options name; None for the one that ships, as it is."""
    if not (options.model or options.base or options.no_prior):
        return None
    from spatialavatar import pipeline

    return pipeline.load_model(
        options.model or None, revision=options.revision, base=options.base, prior=not options.no_prior
    )


def _short(text: str) -> str:
    """The text in quotation marks, its middle left out where it is long."""
    return repr(text if len(text) <= 24 else f"{text[:12]}...{text[-6:]}")
