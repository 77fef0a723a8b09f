"""Strengths of the parts of a performance: pose, mouth, brows, lids and gaze, as text and as preset files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor

from spatialavatar.errors import FormatError, InputError, MissingAssetError
from spatialavatar.files import write_text
from spatialavatar.number_text import parse_float
from spatialavatar.strict_json import parse_json

MAX_STRENGTH: Final = 3.0
PRESET_FORMAT: Final = "spatialavatar.strengths"
PRESET_VERSION: Final = 1

Only = Literal["face", "pose"]
ONLY: Final[tuple[Only, ...]] = get_args(Only)

_MAX_PRESET_BYTES: Final = 1 << 16
_BROWS: Final = ("brow",)
_LIDS: Final = ("eyeBlink", "eyeSquint", "eyeWide", "cheekSquint")
_GAZE: Final = ("eyeLook",)


@dataclass(frozen=True)
class PartStrengths:
    """Scale of each part of a performance, 0 (still) to 3; 1 is as performed.

    Attributes:
        pose: turns and shifts of the head, relative to its resting pose.
        mouth: mouth, jaw, tongue, cheeks and nose.
        brows: brows.
        lids: blinks, squints and wide eyes.
        gaze: turns of the eyeballs.
    """

    pose: float = 1.0
    mouth: float = 1.0
    brows: float = 1.0
    lids: float = 1.0
    gaze: float = 1.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0.0 <= value <= MAX_STRENGTH:
                raise InputError(f"The strength of the {name} is {value}; give a number from 0 to {MAX_STRENGTH:g}.")

    def only(self, part: Only) -> PartStrengths:
        """The face without the pose, or the pose without the face (its gaze included)."""
        if part == "face":
            return replace(self, pose=0.0)
        return PartStrengths(pose=self.pose, mouth=0.0, brows=0.0, lids=0.0, gaze=0.0)

    def of_units(self, names: Sequence[str] | None, weights: Tensor) -> Tensor:
        """Scale expression weights (T, E) by the part of each unit.

        Args:
            names: the E names in ARKit's words; None where the coefficients are statistical.
            weights: T frames.

        Raises:
            InputError: the coefficients are statistical, and the strengths of mouth, brows and lids differ.
        """
        if self.mouth == self.brows == self.lids and (names is None or self.gaze == self.mouth):
            return weights if self.mouth == 1.0 else self.mouth * weights
        if names is None:
            raise InputError(
                "The expressions of this head model mix mouth, brows and lids; give the three one strength."
            )
        scale = torch.tensor([self._of_unit(name) for name in names], dtype=weights.dtype, device=weights.device)
        return scale * weights

    def _of_unit(self, name: str) -> float:
        """The strength of an ARKit unit."""
        kinds = ((_BROWS, self.brows), (_LIDS, self.lids), (_GAZE, self.gaze))
        return next((strength for prefixes, strength in kinds if name.startswith(prefixes)), self.mouth)


PARTS: Final = tuple(field.name for field in fields(PartStrengths))


@dataclass(frozen=True)
class StrengthPreset:
    """The strengths of a drive; a preset file contains one.

    Attributes:
        strength: scale of the whole expression, 0 to 3; it does not scale pose and gaze.
        parts: further scales of the parts.
    """

    strength: float = 1.0
    parts: PartStrengths = PartStrengths()

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= MAX_STRENGTH:
            raise InputError(f"The strength is {self.strength}; give a number from 0 to {MAX_STRENGTH:g}.")

    def updated(self, text: str) -> StrengthPreset:
        """The preset with the strengths that ``text`` states, such as ``1.2`` or ``mouth=1.2,pose=.5``.

        Raises:
            InputError: the text is malformed, or a strength is outside of its range.
        """
        given = read_strengths(text)
        overall = given.pop("", self.strength)
        return StrengthPreset(overall, replace(self.parts, **given))


def read_strengths(text: str) -> dict[str, float]:
    """Strengths by part that a text such as ``1.2`` or ``1.2,mouth=1.5,pose=.5`` states; "" is the whole expression.

    Raises:
        InputError: the text is malformed, or names a part twice.
    """
    found: dict[str, float] = {}
    for item in text.split(","):
        name, equals, number = (part.strip() for part in item.rpartition("="))
        if (equals and name not in PARTS) or not number:
            raise InputError(
                f"{_short(item.strip())} is not a strength; give a number, or parts such as mouth=1.2,pose=.5 from: "
                f"{', '.join(PARTS)}."
            )
        if name in found:
            raise InputError(f"The strength of {name or 'the expression'} is given twice; give it once.")
        try:
            found[name] = parse_float(number)
        except ValueError:
            raise InputError(
                f"The strength {_short(number)} is not a number; give one from 0 to {MAX_STRENGTH:g}."
            ) from None
    return found


def save_preset(preset: StrengthPreset, path: str | Path) -> None:
    """Write a preset file (JSON); it appears whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    content = {"format": PRESET_FORMAT, "version": PRESET_VERSION, "strength": preset.strength, **asdict(preset.parts)}
    write_text(Path(path), json.dumps(content, indent=2) + "\n")


def load_preset(path: str | Path) -> StrengthPreset:
    """Read a file that :func:`save_preset` wrote; parts that it does not name are 1.

    Raises:
        MissingAssetError: there is no such file.
        FormatError: it is not a preset, of an unsupported version, or a strength is not a number in its range.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingAssetError(f"There is no preset at {path}; write one with --save-preset.")
    try:
        if path.stat().st_size > _MAX_PRESET_BYTES:
            raise ValueError("it is too large")
        content = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise FormatError(f"{path.name} is not a preset of strengths or is damaged; write it again.") from error
    if not isinstance(content, dict) or content.pop("format", None) != PRESET_FORMAT:
        raise FormatError(f"{path.name} is not a preset of strengths; give a file that --save-preset wrote.")
    version = content.pop("version", None)
    if type(version) is not int or version != PRESET_VERSION:
        raise FormatError(
            f"{path.name} is a preset of version {str(version)[:20]}, this release reads version {PRESET_VERSION}; "
            "update the package or write it again."
        )
    return _from_content(content, path.name)


def _from_content(content: Mapping[str, Any], name: str) -> StrengthPreset:
    """The preset of a file's strengths.

    Raises:
        FormatError: a name is unknown, or a value is not a number in its range.
    """
    for key, value in content.items():
        if key not in (*PARTS, "strength"):
            raise FormatError(f"{name} has the unknown strength {_short(key)}; remove it.")
        if type(value) not in (int, float) or not 0.0 <= value <= MAX_STRENGTH:
            raise FormatError(f"{name} has a {key} that is not a number from 0 to {MAX_STRENGTH:g}; change it.")
    values = {key: float(value) for key, value in content.items()}
    return StrengthPreset(values.pop("strength", 1.0), PartStrengths(**values))


def _short(text: str) -> str:
    """The text in quotation marks, cut where it is long."""
    return repr(text if len(text) <= 24 else f"{text[:20]}...")
