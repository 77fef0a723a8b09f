"""Numbers in text: options of the command line, cells of a table."""

from __future__ import annotations


def parse_integer(text: str) -> int:
    """The integer that ``text`` states, of any size.

    Raises:
        ValueError: it is not an integer, or has underscores, which Python permits between digits.
    """
    return int(_without_underscores(text))


def parse_float(text: str) -> float:
    """The number that ``text`` states; it can be infinite or NaN.

    Raises:
        ValueError: it is not a number, or has underscores, which Python permits between digits.
    """
    return float(_without_underscores(text))


def _without_underscores(text: str) -> str:
    if "_" in text:
        raise ValueError("a number has no underscores")
    return text
