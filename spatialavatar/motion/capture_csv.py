"""CSV files of ARKit-52 weights: takes of face-capture apps and frames of Audio2Face (docs/reference/motion.md).

Columns are found by their names. Copies that a spreadsheet has saved are read too: other separators, decimal commas,
padded rows, UTF-16.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from spatialavatar.errors import FormatError, InputError
from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.motion.record import Motion, axis_angle_to_yaw_pitch_roll, yaw_pitch_roll_to_axis_angle
from spatialavatar.motion.schema import HEAD_ANGLES, MAX_FRAMES, WEIGHTS, check_rate, check_size
from spatialavatar.motion.time_codes import Timeline, evenly_timed, read_timeline, time_code
from spatialavatar.motion.units import unit_index
from spatialavatar.number_text import parse_float

_ANGLES: Final = ("HeadYaw", "HeadPitch", "HeadRoll")
_EYES: Final = tuple(f"{side}Eye{axis}" for side in ("Left", "Right") for axis in ("Yaw", "Pitch", "Roll"))
_TIME: Final = "timecode"
_SEPARATORS: Final = ",;\t"


@dataclass(frozen=True)
class _Columns:
    """Which column of a table holds what.

    Attributes:
        names: all columns.
        units: (column, index into ``ARKIT_52``) of every unit.
        angles: columns of yaw, pitch and roll; empty where one is missing.
        time: the column of time codes, or None.
    """

    names: list[str]
    units: list[tuple[int, int]]
    angles: list[int]
    time: int | None


@dataclass(frozen=True)
class _Rows:
    """The rows of a table, T of them; of a row without a face, the values are those of the row before.

    Attributes:
        weights: (T, 52) float64.
        angles: (T, 3) float64 yaw, pitch, roll, radians.
        seen: (T,) bool, False where the app saw no face.
        stamps: T time codes, or none.
    """

    weights: np.ndarray
    angles: np.ndarray
    seen: np.ndarray
    stamps: list[str]


def read_csv(text: str, name: str, stem: str, fps: float | None = None) -> Motion:
    """A motion from the text of a CSV file.

    Rows are placed by their time codes; gaps hold the frame before them.

    Args:
        text: the file's content.
        name: the file's name, for messages.
        stem: the title.
        fps: frames per second; every row is then one frame; time codes are ignored.

    Raises:
        FormatError: the text is not a table of ARKit units.
        InputError: a value is not plausible, or no row has a face.
    """
    try:
        table = _table(text)
        columns = _columns(next(table, (1, []))[1], name)
        rows = _rows(table, columns, name)
    except csv.Error as error:
        raise FormatError(f"{name} cannot be read as a table ({error}); export the motion again.") from None
    count = len(rows.seen)
    if count == 0:
        raise InputError(f"{name} has column names but no frames; export the motion again.")
    if not rows.seen.any():
        raise FormatError(f"{name} holds no frame in which a face was captured.")
    weights = WEIGHTS.read(rows.weights, name)
    HEAD_ANGLES.check(rows.angles, name)
    timeline = read_timeline(rows.stamps, count, name) if fps is None else evenly_timed(count, check_rate(fps, name))
    source, valid = _held(timeline, rows.seen, name)
    return Motion(
        weights=torch.from_numpy(weights[source]),
        rotation=yaw_pitch_roll_to_axis_angle(torch.from_numpy(rows.angles[source])).float(),
        translation=torch.zeros(len(source), 3),
        fps=timeline.fps,
        title=stem,
        valid=None if valid.all() else torch.from_numpy(valid),
        warnings=timeline.warnings,
    )


def _held(timeline: Timeline, seen: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """For every frame the row it shows, and whether that row is its own and has a face."""
    length = int(timeline.frames[-1]) + 1
    check_size(length, length * len(ARKIT_52), name)
    source = np.zeros(length, np.int64)
    source[timeline.frames] = np.arange(len(seen))
    own = np.zeros(length, bool)
    own[timeline.frames] = True
    source = np.maximum.accumulate(source)
    return source, own & seen[source]


def _table(text: str) -> Iterator[tuple[int, list[str]]]:
    """Line numbers, from 1, and cells of all lines that are not empty."""
    lines = text.splitlines()
    first = 0
    separator = ""
    if lines and lines[0].lower().startswith("sep=") and len(lines[0]) == 5:  # of spreadsheets, for spreadsheets
        first, separator = 1, lines[0][4]
    header = lines[first] if len(lines) > first else ""
    separator = separator or max(_SEPARATORS, key=header.count)
    reader = csv.reader(lines[first:], delimiter=separator)
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield reader.line_num + first, cells


def _columns(header: list[str], name: str) -> _Columns:
    """The columns that a first line names."""
    names = [cell.strip() for cell in header]
    if not names:
        raise FormatError(f"{name} is empty.")
    units = [(column, index) for column, cell in enumerate(names) if (index := unit_index(cell)) is not None]
    indices = [index for _, index in units]
    if unit_index("jawOpen") not in indices:
        raise FormatError(f"{name} is not a face-capture CSV: its first line does not name the 52 ARKit units.")
    if len(set(indices)) != len(indices):
        raise FormatError(f"{name} has two columns of one ARKit unit; export the motion again.")
    place = {cell.lower(): column for column, cell in enumerate(names)}
    angles = [place[angle.lower()] for angle in _ANGLES if angle.lower() in place]
    return _Columns(names, units, angles if len(angles) == 3 else [], place.get(_TIME))


def _rows(table: Iterator[tuple[int, list[str]]], columns: _Columns, name: str) -> _Rows:
    """All rows after the first line."""
    last = max(column for column, _ in columns.units)
    weights, angles, seen, stamps = [], [], [], []
    row_weights, row_angles = np.zeros(len(ARKIT_52)), np.zeros(3)
    indices = [index for _, index in columns.units]
    for line, cells in table:
        if len(seen) == MAX_FRAMES:
            raise InputError(f"{name} has more than {MAX_FRAMES} frames; split the motion.")
        values = [cells[column].strip() for column, _ in columns.units if column < len(cells)]
        # A row in which the app saw no face ends after the count; a spreadsheet pads it with empty cells.
        face = len(cells) > last and any(values)
        if face:
            _check_width(cells, columns, line, name)
            row_weights = np.zeros(len(ARKIT_52))
            row_weights[indices] = [_number(cells, column, columns, line, name) for column, _ in columns.units]
            if columns.angles and len(cells) > max(columns.angles):
                row_angles = np.array([_number(cells, column, columns, line, name) for column in columns.angles])
        weights.append(row_weights)
        angles.append(row_angles)
        seen.append(face)
        if columns.time is not None:
            stamps.append(cells[columns.time] if columns.time < len(cells) else "")
    return _Rows(
        np.array(weights).reshape(-1, len(ARKIT_52)), np.array(angles).reshape(-1, 3), np.array(seen, bool), stamps
    )


def _check_width(cells: list[str], columns: _Columns, line: int, name: str) -> None:
    """Refuse a row with more cells than columns, which decimal commas without quotes make."""
    if len(cells) > len(columns.names) and any(cell.strip() for cell in cells[len(columns.names) :]):
        raise FormatError(
            f"Line {line} of {name} has {len(cells)} values for {len(columns.names)} columns: a spreadsheet saved "
            "decimal commas between commas; save it with decimal points, or with semicolons between the values."
        )


def _number(cells: list[str], column: int, columns: _Columns, line: int, name: str) -> float:
    """The number in a cell, with a decimal point or a decimal comma."""
    text = cells[column].strip()
    try:
        return parse_float(text.replace(",", "."))
    except ValueError:
        found = f"holds {text[:20]!r}, which is not a number," if text else "is empty"
        raise FormatError(
            f"Line {line} of {name} {found} in the column {columns.names[column][:40]}; export the motion again."
        ) from None


def format_csv(motion: Motion) -> str:
    """The CSV of a face-capture app, relative to the motion's neutral, for which the format has no place."""
    motion = motion.rested()
    header = ["Timecode", "BlendShapeCount", *(name[:1].upper() + name[1:] for name in ARKIT_52), *_ANGLES, *_EYES]
    angles = axis_angle_to_yaw_pitch_roll(motion.rotation.double())
    lines = [",".join(header)]
    for index, (weights, head) in enumerate(zip(motion.weights.tolist(), angles.tolist())):
        # Gaze is in the eyeLook units; the eye angles repeat it in the apps, and stay 0 here.
        values = [*weights, *head, *([0.0] * len(_EYES))]
        stamp = time_code(index / motion.fps)
        lines.append(f"{stamp},{len(ARKIT_52) + 9}," + ",".join(f"{value:.6f}" for value in values))
    return "\n".join(lines) + "\n"
