"""Time codes of a capture: seconds of every row, their frame rate, and the frame that every row belongs to.

Two spellings are read: ``HH:MM:SS:FF.sss`` (a frame number with decimals; a semicolon before it marks drop-frame
time code) and seconds (``1.25``, ``00:00:01.25``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from spatialavatar.errors import FormatError
from spatialavatar.motion.schema import MAX_RATE, check_rate, check_size

DEFAULT_RATE: Final = 60.0
"""Frames per second of face-capture apps, where a file does not state another rate."""

_DAY: Final = 86_400.0
_FRAMES = re.compile(r"(\d{1,4}):(\d{1,2}):(\d{1,2})([:;])(\d{1,4})(?:[.,](\d{1,9}))?")
_CLOCK = re.compile(r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,9}))?")
_SECONDS = re.compile(r"(\d{1,9})(?:[.,](\d{1,18}))?")
_FIELD_RATES: Final = (24, 25, 30, 48, 50, 60, 90, 100, 120, 240, 1000)  # numbers a second; 1000 is milliseconds
_GAP: Final = 1.6  # steps of more than this share of the typical step are gaps in the capture
_REGULAR: Final = 0.9  # share of equal steps from which the others are gaps
_FINE: Final = 2e-3  # seconds; time codes that are written more finely than this have decimals that are rounded
_SLOW: Final = 8.0  # frames per second; some converters advance the time code by a second a row
_BACK: Final = 1.0  # seconds that a clock may step back, when a device corrects it


@dataclass(frozen=True)
class Timeline:
    """When the rows of a capture were taken.

    Attributes:
        fps: frames per second.
        frames: (rows,) int64, increasing from 0: the frame of every row. Frames in between have no row.
        warnings: plain sentences about assumptions.
    """

    fps: float
    frames: np.ndarray
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Stamps:
    """Seconds of rows, and how finely they are written."""

    seconds: np.ndarray
    resolution: float
    sure: bool = True


def evenly_timed(count: int, fps: float, warnings: tuple[str, ...] = ()) -> Timeline:
    """One frame a row."""
    return Timeline(fps, np.arange(count), warnings)


def read_timeline(stamps: Sequence[str], count: int, owner: str) -> Timeline:
    """The timeline of rows with these time codes.

    Args:
        stamps: one time code a row; an empty sequence where the file has none.
        count: the number of rows.
        owner: what messages call the file.

    Raises:
        FormatError: the time codes run backwards.
        InputError: the rate is not plausible, or the gaps are too long.
    """
    assumed = f"is read at {DEFAULT_RATE:g} frames per second; give its rate with --fps if that is wrong."
    parsed = _parsed(stamps)
    if parsed is None:
        reason = "has no time codes" if not stamps else "has time codes that cannot be read"
        return evenly_timed(count, DEFAULT_RATE, (f"{owner} {reason}: it {assumed}",))
    if count < 2:
        return evenly_timed(count, DEFAULT_RATE)
    seconds = _spread(_increasing(parsed.seconds, owner))
    warnings = () if parsed.sure else (f"{owner} is too short for its time codes to state a rate: it {assumed}",)
    timeline = _placed(seconds, parsed.resolution, owner, warnings)
    if timeline.fps < _SLOW:
        slow = f"The time codes of {owner} give {timeline.fps:g} frames per second; give --fps if that is too slow."
        return replace(timeline, warnings=(*timeline.warnings, slow))
    return timeline


def time_code(seconds: float) -> str:
    """``HH:MM:SS:FF.sss`` with 60 frames a second, as face-capture apps write it.

    The rate of the rows may be any other one: the frame number has decimals.
    """
    ticks = round(seconds * DEFAULT_RATE * 1000)
    whole, rest = divmod(ticks, round(DEFAULT_RATE * 1000))
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"


def _parsed(stamps: Sequence[str]) -> _Stamps | None:
    """Seconds of all rows; None where a time code is in no known spelling."""
    if not stamps:
        return None
    for pattern in (_FRAMES, _CLOCK, _SECONDS):
        found = [pattern.fullmatch(stamp.strip()) for stamp in stamps]
        matches = [match for match in found if match is not None]
        if len(matches) < len(stamps):
            continue
        groups = [match.groups() for match in matches]
        if pattern is _FRAMES:
            return _frame_stamps(groups)
        decimals = max(len(group[-1] or "") for group in groups)
        if pattern is _SECONDS and decimals == 0:
            return None  # a bare frame number, which states no rate
        parts = [[float(part or 0) for part in group[:-1]] for group in groups]
        fractions = np.array([float(f"0.{group[-1] or 0}") for group in groups])
        weights = (3600.0, 60.0, 1.0)[-len(parts[0]) :]
        return _Stamps(np.array(parts) @ np.array(weights) + fractions, 10.0**-decimals)
    return None


def _frame_stamps(groups: Sequence[tuple[str | None, ...]]) -> _Stamps:
    """Seconds of ``HH:MM:SS:FF`` stamps; how many frames make a second is read off where the second changes."""
    hours, minutes, rest = (np.array([int(group[i] or 0) for group in groups]) for i in (0, 1, 2))
    whole = 3600 * hours + 60 * minutes + rest
    frame = np.array([float(f"{group[4]}.{group[5] or 0}") for group in groups])
    decimals = max(len(group[5] or "") for group in groups)
    rate = _frames_a_second(whole, frame)
    # The largest frame number gives a rate other than 60; a take below a second may not reach it.
    sure = rate is not None or decimals > 0
    rate = max(DEFAULT_RATE, float(np.floor(frame.max()) + 1)) if rate is None else rate
    if any(group[3] == ";" for group in groups) and rate % 30 == 0:
        # Drop-frame: numbers are left out at the start of each minute but every tenth, so that 30000 / 1001 frames per
        # second stay in step with the clock (SMPTE ST 12-1).
        total_minutes = 60 * hours + minutes
        number = rate * whole + frame - rate / 15 * (total_minutes - total_minutes // 10)
        return _Stamps(number * 1.001 / rate, 1.001 / rate * 10.0**-decimals, sure)
    return _Stamps(whole + frame / rate, 10.0**-decimals / rate, sure)


def _frames_a_second(whole: np.ndarray, frame: np.ndarray) -> float | None:
    """Frames that make a second in the frame field; None where no second changes without a gap."""
    steps, ticks = np.diff(frame), np.diff(whole)
    inside = steps[(ticks == 0) & (steps > 0)]
    if not len(inside):
        return None
    across = frame[:-1] - frame[1:] + float(np.median(inside))
    across = across[(ticks == 1) & (steps < 0)]
    if not len(across):
        return None
    lowest = np.floor(frame.max()) + 1
    # Rows of another rate than the field need not show its last number.
    usual = [rate for rate in _FIELD_RATES if lowest <= rate <= lowest + np.ceil(np.median(inside))]
    return float(usual[0] if usual else max(round(float(np.median(across))), lowest))


def _increasing(seconds: np.ndarray, owner: str) -> np.ndarray:
    """Seconds from 0 that never decrease, across midnight and small corrections of the clock.

    Raises:
        FormatError: they run backwards.
    """
    seconds = seconds + _DAY * np.concatenate([[0.0], np.cumsum(np.diff(seconds) < -0.5 * _DAY)])
    highest = np.maximum.accumulate(seconds)
    if float((highest - seconds).max()) > _BACK:
        row = int(np.argmax(highest - seconds > _BACK))
        raise FormatError(
            f"The time codes of {owner} run backwards at row {row + 1}; sort its rows, or give their rate with --fps."
        )
    return highest - highest[0]


def _spread(seconds: np.ndarray) -> np.ndarray:
    """Rows that share a time code, spread evenly over the time to the next code."""
    starts = np.flatnonzero(np.concatenate([[True], np.diff(seconds) > 0]))
    if len(starts) == len(seconds) or len(starts) < 2:
        return seconds
    sizes = np.diff(np.append(starts, len(seconds)))
    values = seconds[starts]
    step = float(np.median(np.diff(values)))
    typical = float(np.median(sizes[1:-1])) if len(sizes) > 2 else float(sizes.max())
    spread = seconds.copy()
    for group, (start, size) in enumerate(zip(starts, sizes)):
        share = max(typical, float(size))
        # The capture begins within its first time code, so the rows of that one lie at the end of it.
        first = share - size if group == 0 else 0.0
        spread[start : start + size] = values[group] + step * (first + np.arange(size)) / share
    return spread - spread[0]


def _placed(seconds: np.ndarray, resolution: float, owner: str, warnings: tuple[str, ...]) -> Timeline:
    """Rows on a grid of the capture's rate: rows of an even take one by one, others at their times."""
    count, length = len(seconds), float(seconds[-1])
    if length <= 0:
        same = f"All time codes of {owner} are the same: it is read at {DEFAULT_RATE:g} frames per second."
        return evenly_timed(count, DEFAULT_RATE, (same,))
    steps = np.diff(seconds)
    typical = float(np.median(steps[steps > 0]))
    rounding = resolution if resolution < _FINE else 0.0  # frame numbers without decimals are exact
    index = np.arange(count)
    slope, start = np.polyfit(index, seconds, 1)
    error = float(np.ptp(seconds - (slope * index + start)))
    # Rows of another rate than the time codes fall off their grid by at most one number, and in uneven steps; a take
    # with one step, of which a row is missing here and there, has gaps.
    regular = float((np.abs(steps - typical) < 0.01 * typical).mean())
    if error <= 1e-3 * typical or (error <= 1.1 * resolution and regular < _REGULAR):
        rate = float(1 / slope)
        fps = check_rate(_simplest(rate, rate * (1.5 * error + rounding + 1e-9) / length), owner)
        return evenly_timed(count, fps, warnings)
    near = (steps > 0) & (steps <= _GAP * typical)
    runs = 1 + int(np.count_nonzero(np.diff(near.astype(int)) == 1))
    rate = float(near.sum() / steps[near].sum())
    if rate > MAX_RATE:
        check_rate(rate, owner)
    noise = max(rounding, float(np.median(np.abs(steps[near] - typical)))) + 1e-9
    fps = check_rate(_simplest(rate, rate * noise * runs / float(steps[near].sum())), owner)
    check_size(int(min(length * fps, 1e15)), 0, owner)
    wanted = np.round(seconds * fps).astype(np.int64)
    # Two rows never share a frame: the later one moves on until a gap takes up the delay.
    frames = np.maximum.accumulate(wanted - index) + index
    return Timeline(fps, frames - frames[0], warnings)


def _simplest(rate: float, tolerance: float) -> float:
    """The number with the fewest decimals, or the television rate, within ``tolerance`` of ``rate``."""
    for digits in (0, 1, 2):
        rounded = round(rate, digits)
        if abs(rounded - rate) <= tolerance:
            return float(rounded)
    television = round(rate * 1.001) / 1.001  # 29.97 is 30000 / 1001
    if abs(television - rate) <= tolerance:
        return television
    return float(round(rate, 3)) if abs(round(rate, 3) - rate) <= max(tolerance, 5e-4) else rate
