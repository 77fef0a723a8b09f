"""The example portraits and motions, in a checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from spatialavatar.errors import MissingAssetError

PORTRAITS: Final = {"Astronaut": "astronaut.png", "By the lake": "lake.jpg", "In the street": "street.jpg"}
"""File names of the example portraits, by the name that people see. A wheel carries those in the public domain only."""
MOTIONS: Final = {"Talk": "talk.json", "Look around": "look_around.json", "Make faces": "expressions.json"}
"""File names of the example motions, by the name that people see."""

_PACKAGE: Final = Path(__file__).resolve().parent


def example(name: str) -> Path:
    """The path of one example file.

    Args:
        name: path inside the folder of examples, with forward slashes, for instance ``motions/talk.json``.

    Raises:
        MissingAssetError: it is not installed.
    """
    for folder in (_PACKAGE.parent / "examples", _PACKAGE / "_examples"):  # a checkout, an installed wheel
        if (path := folder / name).is_file():
            return path
    raise MissingAssetError(f"The example {name} is not in this installation; clone the repository to have it.")


def portraits() -> dict[str, Path]:
    """The paths of the example portraits of this installation, by the name that people see."""
    found = {}
    for label, name in PORTRAITS.items():
        try:
            found[label] = example(f"portraits/{name}")
        except MissingAssetError:
            continue
    return found


def example_motion(label: str) -> Path:
    """The path of one of :data:`MOTIONS`, by the name that people see.

    Raises:
        MissingAssetError: it is not installed.
    """
    return example(f"motions/{MOTIONS[label]}")
